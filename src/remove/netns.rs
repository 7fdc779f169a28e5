//! One network namespace that was bound to a path.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::mount::{MntFlags, umount2};

use crate::engine::done::Done;
use crate::error::errno_of;
use crate::linux::{holders, netns};
use crate::remove::ability::Ability;
use crate::remove::live::Live;
use crate::residue::Netns;
use crate::snap::hostfs::{HOSTFS, copies, is_for_namespaces};

/// How long the kernel may take to end a network namespace that nobody uses any more, with the links into it. It
/// ends many at a time, which is far quicker than deleting their links one by one.
const LINKS_TIMEOUT: Duration = Duration::from_millis(500);

/// Nobody stacks more mounts on one file.
const MAX_STACKED: usize = 64;

/// Unmounts every copy and unlinks the file, unless somebody is in the namespace: nothing of ours runs any more. It goes when
/// nobody has it open; who keeps it alive is noted.
pub fn remove(live: &Live, Netns { path, inode: known, .. }: &Netns) -> Done {
    if let Err(e) = live.host.reach(path) {
        return Done::Failed { error: e.to_string(), errno: Some(Errno::ETIMEDOUT) };
    }
    let inode = netns::at(path).ok().filter(|_| known.is_some());
    // Bound anew since the look, and another one then.
    if *known != inode && inode.is_some() {
        return Done::Gone;
    }
    let users = inode.map(|inode| live.users_of_netns(inode, holders::users_of_netns)).unwrap_or_default();
    if !users.inside.is_empty() {
        return Done::HeldBack { by: users.inside };
    }
    let mut failed = None;
    for copy in copies(path) {
        if let Err(errno) = unmount(&copy) {
            failed.get_or_insert((copy, errno));
        }
    }
    live.tried(Ability::Unmount, failed.as_ref().map_or(Ok(()), |(_, errno)| Err(*errno)));
    // A file that is a mount point in another mount namespace can be unlinked all the same, and is
    // unmounted there by that.
    let unlinked = match is_for_namespaces(path, &live.roots.netns, live.snap.owns(path)) {
        true => fs::remove_file(path),
        false => Ok(()),
    };
    match unlinked.map_err(|e| errno_of(&e)) {
        Ok(()) | Err(Errno::ENOENT) => {}
        Err(errno) => drop(failed.get_or_insert((path.to_path_buf(), errno))),
    }
    match users.open.is_empty() {
        true => live.links_settle_by(Instant::now() + LINKS_TIMEOUT),
        false => live.note_users_of_netns(path, users.open),
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
