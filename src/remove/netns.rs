//! One network namespace that was bound to a path.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::mount::{MntFlags, umount2};
use rustix::fs::{AtFlags, CWD, StatxFlags, statx};

use crate::live::{Ability, Live, is_refusal, lock};
use crate::notes::{Note, NoteKind};
use crate::report::{Done, Rung};
use crate::steps::network::{HOSTFS, copies};

/// How long the kernel may take to end a network namespace that nobody uses any more, with the links into it. It
/// ends many at a time, which is far quicker than deleting their links one by one.
const ENDING: Duration = Duration::from_millis(500);

/// Nobody stacks more mounts on one file.
const DEEPEST: usize = 64;

/// Unmounts every copy and unlinks the file. The namespace goes when nobody is in it and nobody has it open;
/// who keeps it alive is noted.
pub fn remove(live: &Live, path: &Path) -> Done {
    if let Err(e) = live.host.reach(path) {
        return Done::Failed { error: e.to_string(), errno: Errno::ETIMEDOUT as i32 };
    }
    let inode = fs::metadata(path).ok().map(|m| m.ino());
    let mut failed = None;
    for copy in copies(path) {
        if let Err(errno) = unmount(&copy) {
            failed.get_or_insert((copy, errno));
        }
    }
    live.tried(Ability::Unmount, failed.as_ref().map_or(Ok(()), |(_, e)| Err(*e as i32)));
    // A file that is a mount point in another mount namespace can be unlinked all the same, and is
    // unmounted there by that.
    match fs::remove_file(path).map_err(|e| Errno::from_raw(e.raw_os_error().unwrap_or(0))) {
        Ok(()) | Err(Errno::ENOENT) => {}
        Err(errno) => drop(failed.get_or_insert((path.to_path_buf(), errno))),
    }
    if let Some(inode) = inode {
        note_holders(live, path, inode);
    }
    match failed {
        None => Done::Gone,
        Some((_, errno)) if is_refusal(errno as i32) => Done::refused(Rung::Remove, errno as i32),
        Some((copy, errno)) => Done::failed("remove", &copy, errno as i32),
    }
}

/// A bound namespace is busy only while somebody has just this file open; whoever has, keeps the namespace and
/// not the mount, so that taking the mount out of the table is all there is to do.
fn unmount(path: &Path) -> Result<(), Errno> {
    for _ in 0..DEEPEST {
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

/// Users of network namespaces by inode: nothing of ours runs any more, so whoever is in one of ours, or has it
/// open, is somebody else. Looked up once for all namespaces.
pub type Users = HashMap<u64, Vec<String>>;

fn note_holders(live: &Live, path: &Path, inode: u64) {
    let mut users = lock(&live.netns_users);
    let users = users.get_or_insert_with(search);
    if let Some(found) = users.get(&inode) {
        let text = format!(
            "{} was unmounted and unlinked, and stays alive as long as they do",
            crate::text::show(path)
        );
        live.note(Note { kind: NoteKind::NetnsHeld, text, items: found.clone() });
    } else {
        *lock(&live.links_settled) = Some(Instant::now() + ENDING);
    }
}

fn search() -> Users {
    let mut users = Users::new();
    let Ok(entries) = fs::read_dir("/proc") else { return users };
    for entry in entries.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse::<i32>().ok()) else { continue };
        let open = fs::read_dir(entry.path().join("fd")).into_iter().flatten().flatten().map(|e| e.path());
        let mut inodes: Vec<u64> =
            open.chain([entry.path().join("ns/net")]).filter_map(|link| netns_inode(&link)).collect();
        inodes.sort_unstable();
        inodes.dedup();
        let comm = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
        for inode in inodes {
            let who = format!("process {pid} ({})", crate::text::escape(comm.trim_end().as_bytes()));
            users.entry(inode).or_default().push(who);
        }
    }
    users
}

/// The inode in a link such as `net:[4026531840]`; one that was opened by its path shows the path instead.
fn netns_inode(link: &Path) -> Option<u64> {
    let target: PathBuf = fs::read_link(link).ok()?;
    let text = target.to_str()?;
    if let Some(inode) = text.strip_prefix("net:[").and_then(|t| t.strip_suffix(']')) {
        return inode.parse().ok();
    }
    // Whatever else is called so may lie on a server that does not answer: what the kernel remembers is enough.
    let named = target.file_name()?.to_str()?.starts_with("cni-");
    let known =
        || statx(CWD, link, AtFlags::STATX_DONT_SYNC, StatxFlags::INO).ok().map(|found| found.stx_ino);
    named.then(known)?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn we_are_users_of_our_own_namespace() {
        let own = netns_inode(Path::new("/proc/self/ns/net")).unwrap();
        let pid = format!("process {} ", std::process::id());
        assert!(search()[&own].iter().any(|who| who.starts_with(&pid)));
    }

    #[test]
    fn what_is_not_mounted_is_already_gone() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(unmount(&dir.path().join("none")), Ok(()));
    }
}
