//! One control group.

use std::io;
use std::path::Path;
use std::time::Instant;

use nix::libc::{EBUSY, ENOTEMPTY};
use rustix::fs::CWD;

use crate::engine::done::Done;
use crate::error::{errno_of, gone};
use crate::linux::cgroup::group;
use crate::remove::ability::Ability;
use crate::remove::live::Live;
use crate::residue::Cgroup;

/// Removes a group; the kernel refuses unless it is empty. What a container has made below its own goes with that.
pub fn remove(live: &Live, Cgroup { path, container }: &Cgroup, deadline: Instant) -> Done {
    let mut result = std::fs::remove_dir(path);
    let is_above = |e: &io::Error| matches!(e.raw_os_error(), Some(EBUSY | ENOTEMPTY));
    if container.is_some() && result.as_ref().is_err_and(is_above) {
        result = remove_with_all_below(path, &|| live.interrupts.seen() || Instant::now() >= deadline);
    }
    let result = result.map_err(|e| errno_of(&e));
    live.tried(Ability::WriteCgroups, result);
    Done::of_path("remove", path, result)
}

/// The deepest first. Only as many names are kept as there are beside the way down. Each takes the kernel about a millisecond,
/// and somebody may go on making them.
fn remove_with_all_below(group: &Path, is_over: &dyn Fn() -> bool) -> io::Result<()> {
    let mut rest = vec![group.to_path_buf()];
    while let Some(next) = rest.last() {
        if is_over() {
            return Err(io::Error::from_raw_os_error(EBUSY));
        }
        match std::fs::remove_dir(next) {
            Ok(()) => drop(rest.pop()),
            Err(e) if e.raw_os_error().is_some_and(gone) => drop(rest.pop()),
            Err(e) => {
                let below = group::children(&group::open_group(CWD, next)?, false)?;
                if below.is_empty() {
                    return Err(e);
                }
                let below: Vec<_> = below.iter().map(|name| next.join(name)).collect();
                rest.extend(below);
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_group_goes_with_all_below_it_and_with_nothing_that_is_in_use() {
        let dir = tempfile::tempdir().unwrap();
        let own = dir.path().join("own");
        for path in ["a/b/c", "a/d", "e"] {
            fs::create_dir_all(own.join(path)).unwrap();
        }
        // What runs in a group is, to rmdir(2), as this file is.
        fs::write(own.join("a/d/busy"), "").unwrap();
        let never = || false;
        assert!(remove_with_all_below(&own, &|| true).is_err() && own.join("e").exists(), "time is over");
        assert!(remove_with_all_below(&own, &never).is_err());
        assert!(own.join("a/d/busy").exists());
        fs::remove_file(own.join("a/d/busy")).unwrap();
        remove_with_all_below(&own, &never).unwrap();
        assert!(!own.exists() && dir.path().exists());
        remove_with_all_below(&own, &never).unwrap();
    }
}
