//! One network namespace that was bound to a path.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::mount::{MntFlags, umount2};

use crate::engine::done::Done;
use crate::error::errno_of;
use crate::linux::holders;
use crate::remove::ability::Ability;
use crate::remove::live::Live;
use crate::residue::Netns;
use crate::snap::hostfs::{HOSTFS, copies};

/// How long the kernel may take to end a network namespace that nobody uses any more, with the links into it. It
/// ends many at a time, which is far quicker than deleting their links one by one.
const LINKS_TIMEOUT: Duration = Duration::from_millis(500);

/// Nobody stacks more mounts on one file.
const MAX_STACKED: usize = 64;

/// Unmounts every copy and unlinks the file. The namespace goes when nobody is in it and nobody has it open;
/// who keeps it alive is noted.
pub fn remove(live: &Live, Netns { path, .. }: &Netns) -> Done {
    if let Err(e) = live.host.reach(path) {
        return Done::Failed { error: e.to_string(), errno: Some(Errno::ETIMEDOUT) };
    }
    let inode = fs::metadata(path).ok().map(|m| m.ino());
    let mut failed = None;
    for copy in copies(path) {
        if let Err(errno) = unmount(&copy) {
            failed.get_or_insert((copy, errno));
        }
    }
    live.tried(Ability::Unmount, failed.as_ref().map_or(Ok(()), |(_, errno)| Err(*errno)));
    // A file that is a mount point in another mount namespace can be unlinked all the same, and is
    // unmounted there by that.
    match fs::remove_file(path).map_err(|e| errno_of(&e)) {
        Ok(()) | Err(Errno::ENOENT) => {}
        Err(errno) => drop(failed.get_or_insert((path.to_path_buf(), errno))),
    }
    if let Some(inode) = inode
        && !live.note_users_of_netns(path, inode, holders::users_of_netns)
    {
        live.links_settle_by(Instant::now() + LINKS_TIMEOUT);
    }
    match failed {
        None => Done::Gone,
        Some((copy, errno)) => Done::of_path("remove", &copy, Err(errno)),
    }
}

/// A bound namespace is busy only while somebody has just this file open; whoever has, keeps the namespace and
/// not the mount, so that taking the mount out of the table is all there is to do.
fn unmount(path: &Path) -> Result<(), Errno> {
    for _ in 0..MAX_STACKED {
        match umount2(path, MntFlags::UMOUNT_NOFOLLOW | MntFlags::MNT_DETACH) {
            Ok(()) => {}
            Err(Errno::EINVAL | Errno::ENOENT | Errno::ENOTDIR) => return Ok(()),
            // Copies outside of what confinement lets us see go with the original.
            Err(Errno::EACCES | Errno::EPERM) if path.starts_with(HOSTFS) => return Ok(()),
            Err(e) => return Err(e),
        }
    }
    Err(Errno::EBUSY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_mounted_is_already_gone() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(unmount(&dir.path().join("none")), Ok(()));
    }
}
