//! One control group.

use crate::engine::done::Done;
use crate::error::errno_of;
use crate::remove::ability::Ability;
use crate::remove::live::Live;
use crate::residue::Cgroup;

/// Removes a group; the kernel refuses unless it is empty.
pub fn remove(live: &Live, Cgroup { path, .. }: &Cgroup) -> Done {
    let result = std::fs::remove_dir(path).map_err(|e| errno_of(&e));
    live.tried(Ability::WriteCgroups, result);
    Done::of_path("remove", path, result)
}
