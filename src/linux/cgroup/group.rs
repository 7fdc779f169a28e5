//! One control group: its processes, its state, the groups directly below it.

use std::ffi::{OsStr, OsString};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, RawDir, openat, statat};

use super::{Hierarchy, Version};
use crate::error::Result;
use crate::linux::host::Host;

/// The PIDs in a group, and in the groups below it. Zero is a process outside our PID namespace: not ours.
pub fn pids(host: &Host, directory: &Path) -> Result<Vec<i32>> {
    let mut pids = Vec::new();
    pids_below(host, directory, 0, &mut pids)?;
    Ok(pids)
}

fn pids_below(host: &Host, directory: &Path, depth: usize, pids: &mut Vec<i32>) -> Result<()> {
    pids.extend(own_pids(host, directory)?);
    let path = host.path(directory);
    if depth < MAX_DEPTH && !has_none_below(CWD, &path) {
        let below = open_group(CWD, path).and_then(|directory| children(&directory));
        for name in below.unwrap_or_default() {
            pids_below(host, &directory.join(name), depth + 1, pids)?;
        }
    }
    Ok(())
}

/// The PIDs in a group itself.
pub fn own_pids(host: &Host, directory: &Path) -> Result<Vec<i32>> {
    match host.read(&directory.join("cgroup.procs")) {
        Ok(bytes) => Ok(parse_pids(&bytes).collect()),
        Err(e) if e.is_gone() => Ok(Vec::new()),
        // The group is threaded: the kernel lists its processes above, and here their threads, of which each process
        // has one with its own number.
        Err(e) if e.errno() == Some(nix::libc::EOPNOTSUPP) => {
            match host.read(&directory.join("cgroup.threads")) {
                Ok(bytes) => Ok(parse_pids(&bytes).collect()),
                Err(e) if e.is_gone() => Ok(Vec::new()),
                Err(e) => Err(e),
            }
        }
        Err(e) => Err(e),
    }
}

/// Parses `cgroup.procs`.
pub fn parse_pids(bytes: &[u8]) -> impl Iterator<Item = i32> {
    bytes
        .split(|b| *b == b'\n')
        .filter_map(|l| std::str::from_utf8(l).ok()?.parse().ok())
        .filter(|pid| *pid > 0)
}

/// True if the kernel says that there is no process in a group or below it (Documentation/admin-guide/cgroup-v2.rst,
/// "Un-populated Notification"); false also where it does not say.
pub fn is_unpopulated(host: &Host, hierarchy: &Hierarchy, directory: &Path) -> bool {
    let says_so = |bytes: Vec<u8>| bytes.split(|b| *b == b'\n').any(|line| line == b"populated 0");
    hierarchy.version == Version::V2 && host.read(&directory.join("cgroup.events")).is_ok_and(says_so)
}

/// True if a group is frozen, by either version's file.
pub fn frozen(host: &Host, hierarchy: &Hierarchy, directory: &Path) -> bool {
    let (file, yes) = match hierarchy.version {
        Version::V2 => ("cgroup.freeze", "1"),
        Version::V1 if hierarchy.freezer => ("freezer.self_freezing", "1"),
        Version::V1 => return false,
    };
    host.read_text(&directory.join(file)).is_ok_and(|state| state == yes)
}

/// The group paths in `/proc/PID/cgroup`, one for each hierarchy the process is in.
pub fn parse_membership(bytes: &[u8]) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = bytes
        .split(|b| *b == b'\n')
        .filter_map(|line| line.splitn(3, |b| *b == b':').nth(2))
        .map(|path| PathBuf::from(OsStr::from_bytes(path.strip_suffix(b" (deleted)").unwrap_or(path))))
        .filter(|path| path.is_absolute() && path.as_os_str() != "/")
        .collect();
    paths.sort();
    paths.dedup();
    paths
}

/// Groups nest; a container may make its own. A tree deeper than this was made to exhaust us.
pub const MAX_DEPTH: usize = 64;

pub fn open_group(at: impl AsFd, name: impl rustix::path::Arg) -> io::Result<OwnedFd> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(openat(at, name, flags, Mode::empty())?)
}

/// The names of the groups directly in a directory.
pub fn children(directory: &OwnedFd) -> io::Result<Vec<OsString>> {
    let mut buffer = [MaybeUninit::uninit(); 8 << 10];
    let mut entries = RawDir::new(directory, &mut buffer);
    let mut children = Vec::new();
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let name = entry.file_name();
        if entry.file_type() == FileType::Directory && name != c"." && name != c".." {
            children.push(OsStr::from_bytes(name.to_bytes()).to_owned());
        }
    }
    Ok(children)
}

/// A directory's link count says how many are in it, on cgroupfs as elsewhere: two means none, and spares a listing of
/// dozens of interface files.
pub fn has_none_below(at: impl AsFd, name: impl rustix::path::Arg) -> bool {
    statat(at, name, AtFlags::SYMLINK_NOFOLLOW).is_ok_and(|stat| stat.st_nlink == 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn membership_of_hybrid() {
        let text = b"12:pids:/kubepods/a\n1:name=systemd:/kubepods/a\n0::/system.slice/x.service\n3:cpu:/\ngarbage\n";
        assert_eq!(
            parse_membership(text),
            [PathBuf::from("/kubepods/a"), PathBuf::from("/system.slice/x.service")]
        );
    }

    #[test]
    fn pids_of_garbage() {
        assert_eq!(parse_pids(b"1\n0\n-4\nx\n\n99999999999\n7").collect::<Vec<_>>(), [1, 7]);
    }
}
