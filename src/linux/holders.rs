//! Who keeps a mount busy: processes with a file, a directory or a program on it.
//!
//! Told by mount ID, which is exact: device numbers cannot tell a bind mount from what it shows. Looking may
//! touch the mounted file system, so it is done in a child that may hang.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Instant;

use rustix::fs::{AtFlags, CWD, StatxFlags, statx};
use serde::{Deserialize, Serialize};

use crate::linux::child::{ChildEnd, in_child};
use crate::linux::proc::{Directory, ProcessId, identity};
use crate::order;
use crate::text::{escape, write_json};

/// A process that keeps a residue busy. Never its command line or environment: those hold secrets.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Holder {
    pub process: ProcessId,
    /// Its name.
    pub comm: String,
    /// Its user.
    pub uid: u32,
}

impl Holder {
    /// True unless it has ended; another process may have its PID by now.
    pub fn is_alive(&self) -> bool {
        identity(self.process.pid) == Some(self.process)
    }
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} (uid {})", self.process.pid, escape(self.comm.as_bytes()), self.uid)
    }
}

/// The holders of a mount, as far as they could be seen.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Holders {
    /// Those that were found, at most `MAX_FOUND`.
    pub found: Vec<Holder>,
    /// True if there are others that could not be looked at.
    pub unknown: bool,
}

/// More names than this help nobody.
const MAX_FOUND: usize = 20;

/// Looks through all processes for users of these mounts: an answer for each, in the same order.
pub fn of_mounts(ids: &[u64], until: Instant) -> Vec<Holders> {
    let blind = || vec![Holders { found: Vec::new(), unknown: true }; ids.len()];
    let end = in_child(until, |out| {
        let _ = write_json(out, &search(ids));
    });
    match end {
        Ok(ChildEnd::Finished(json)) => crate::json::parse(&json).unwrap_or_else(|_| blind()),
        _ => blind(),
    }
}

fn search(ids: &[u64]) -> Vec<Holders> {
    let mut holders = vec![Holders::default(); ids.len()];
    let unknown = |holders: &mut Vec<Holders>| holders.iter_mut().for_each(|h| h.unknown = true);
    let Ok(entries) = fs::read_dir("/proc") else {
        unknown(&mut holders);
        return holders;
    };
    for entry in entries.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse::<i32>().ok()) else { continue };
        let Ok(held) = holds(&entry.path()) else {
            if identity(pid).is_some() {
                unknown(&mut holders);
            }
            continue;
        };
        let of =
            ids.iter().zip(&mut holders).filter(|(id, h)| held.contains(id) && h.found.len() < MAX_FOUND);
        of.for_each(|(_, h)| h.found.extend(describe(pid).ok()));
    }
    holders
}

/// The mounts that a process uses.
fn holds(process: &Path) -> std::io::Result<BTreeSet<u64>> {
    let mut held = BTreeSet::new();
    for link in ["cwd", "root", "exe"] {
        match statx(CWD, process.join(link), AtFlags::STATX_DONT_SYNC, StatxFlags::MNT_ID) {
            Ok(found) => drop(held.insert(found.stx_mnt_id)),
            // A kernel thread has no program.
            Err(rustix::io::Errno::NOENT) => {}
            Err(e) => return Err(e.into()),
        }
    }
    for entry in fs::read_dir(process.join("fdinfo"))? {
        let Ok(text) = fs::read_to_string(entry?.path()) else { continue };
        let of = text.lines().find_map(|l| l.strip_prefix("mnt_id:"));
        held.extend(of.and_then(|n| n.trim().parse::<u64>().ok()));
    }
    Ok(held)
}

/// A process as the holder of something; an error if it has ended.
pub fn describe(pid: i32) -> io::Result<Holder> {
    let proc = Directory::open(Path::new("/proc"))?;
    let uid = proc.owner(pid)?;
    let process = proc.read(pid)?.proc;
    Ok(Holder { process: process.id, comm: process.comm, uid })
}

/// True if a mount that was detached under these holders may still be in use.
pub fn remain(holders: &[Holder], unknown: bool) -> bool {
    unknown || holders.iter().any(Holder::is_alive)
}

/// Users of network namespaces by inode: nothing of ours runs any more, so whoever is in one of ours, or has it
/// open, is somebody else. Looked up once for all namespaces.
pub type Users = HashMap<u64, NetnsUsers>;

/// Who uses one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NetnsUsers {
    pub inside: Vec<String>,
    /// Those that have it open.
    pub open: Vec<String>,
}

/// Looks it up.
pub fn users_of_netns() -> Users {
    let mut users = Users::new();
    let Ok(entries) = fs::read_dir("/proc") else { return users };
    for entry in entries.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse::<i32>().ok()) else { continue };
        let inside = netns_inode(&entry.path().join("ns/net"));
        let open = fs::read_dir(entry.path().join("fd")).into_iter().flatten().flatten().map(|e| e.path());
        let mut inodes: Vec<u64> =
            open.filter_map(|link| netns_inode(&link)).filter(|inode| Some(*inode) != inside).collect();
        order::sort(&mut inodes);
        inodes.dedup();
        let comm = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
        let who = || format!("process {pid} ({})", escape(comm.trim_end().as_bytes()));
        inodes.iter().for_each(|inode| users.entry(*inode).or_default().open.push(who()));
        inside.into_iter().for_each(|inode| users.entry(inode).or_default().inside.push(who()));
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
    if !target.file_name()?.to_str()?.starts_with("cni-") {
        return None;
    }
    // Whatever else is called so may lie on a server that does not answer, and to look through the link could be to wait
    // for it (NFS). What is known of the descriptor itself tells the inode since Linux 5.14.
    let info = link.parent()?.with_file_name("fdinfo").join(link.file_name()?);
    let text = fs::read_to_string(info).ok()?;
    text.lines().find_map(|line| line.strip_prefix("ino:"))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linux::proc::ProcessId;

    #[test]
    fn we_are_users_of_our_own_namespace() {
        let own = netns_inode(Path::new("/proc/self/ns/net")).unwrap();
        let pid = format!("process {} ", std::process::id());
        assert!(users_of_netns()[&own].inside.iter().any(|who| who.starts_with(&pid)));
    }

    #[test]
    fn one_that_has_a_namespace_open_by_its_path_is_told_by_its_descriptor() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cni-1");
        fs::write(&path, "").unwrap();
        let file = fs::File::open(&path).unwrap();
        let link = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file));
        let inode = std::os::unix::fs::MetadataExt::ino(&file.metadata().unwrap());
        assert_eq!(netns_inode(Path::new(&link)), Some(inode));
    }

    #[test]
    fn a_holder_that_lives_keeps_a_detached_mount_in_use() {
        let pid = std::process::id() as i32;
        let process = identity(pid).unwrap();
        let alive = Holder { process, comm: "x".into(), uid: 0 };
        let dead = Holder { process: ProcessId { start: process.start + 1, ..process }, ..alive.clone() };
        assert!(remain(std::slice::from_ref(&alive), false));
        assert!(!remain(std::slice::from_ref(&dead), false));
        assert!(remain(&[dead], true));
    }

    #[test]
    fn our_own_working_directory_is_found() {
        let own = statx(CWD, ".", AtFlags::empty(), StatxFlags::MNT_ID).unwrap().stx_mnt_id;
        assert!(holds(Path::new("/proc/self")).unwrap().contains(&own));
    }
}
