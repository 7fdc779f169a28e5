//! One control group.

use std::path::Path;

use nix::errno::Errno;

use crate::live::{Ability, Live};
use crate::report::{Done, Rung};

/// Removes an empty group. One that is not empty is not ours to empty here.
pub fn remove(live: &Live, path: &Path) -> Done {
    let result = std::fs::remove_dir(path).map_err(|e| Errno::from_raw(e.raw_os_error().unwrap_or(0)));
    live.tried(Ability::WriteCgroups, result.map_err(|e| e as i32));
    match result {
        Ok(()) | Err(Errno::ENOENT | Errno::ENODEV) => Done::Gone,
        Err(e) if crate::live::is_refusal(e as i32) => Done::refused(Rung::Remove, e as i32),
        Err(e) => Done::failed("remove", path, e as i32),
    }
}
