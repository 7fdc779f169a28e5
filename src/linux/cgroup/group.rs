//! One control group: its processes, its state, the groups directly below it.

use std::ffi::{OsStr, OsString};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, RawDir, openat, statat};

use super::{Hierarchy, Version};
use crate::error::{Context, Error, Result, gone};
use crate::linux::host::Host;
use crate::order;

/// The PIDs in a group, and in the groups below it, however deep. Zero is a process outside our PID namespace: not ours.
pub fn pids(host: &Host, directory: &Path) -> Result<Vec<i32>> {
    let mut pids = Vec::new();
    let mut rest = vec![directory.to_path_buf()];
    let mut seen = 0;
    while let Some(directory) = rest.pop() {
        pids.extend(own_pids(host, &directory)?);
        let path = host.path(&directory);
        if has_none_below(CWD, &path) {
            continue;
        }
        match open_group(CWD, path).and_then(|directory| children(&directory, false)) {
            Ok(below) => rest.extend(below.into_iter().map(|name| directory.join(name))),
            Err(e) if e.raw_os_error().is_some_and(gone) => {}
            Err(e) => return Err(e).context("list", &directory),
        }
        seen += 1;
        if seen > MAX_BELOW {
            let reason = "far too many groups below it".into();
            return Err(Error::Malformed { path: directory, reason });
        }
    }
    Ok(pids)
}

/// A container may make groups below its own, and a node in a container a few hundred with others in them. More were made to
/// exhaust us.
const MAX_BELOW: usize = 4000;

/// The PIDs in a group itself.
pub fn own_pids(host: &Host, directory: &Path) -> Result<Vec<i32>> {
    match host.read_piece(&directory.join("cgroup.procs")) {
        Ok(bytes) => Ok(parse_pids(&bytes).collect()),
        Err(e) if e.is_gone() => Ok(Vec::new()),
        // The group is threaded: the kernel lists its processes above, and here their threads, of which each process
        // has one with its own number.
        Err(e) if e.errno() == Some(nix::libc::EOPNOTSUPP) => {
            match host.read_piece(&directory.join("cgroup.threads")) {
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
    hierarchy.version == Version::V2 && host.read_piece(&directory.join("cgroup.events")).is_ok_and(says_so)
}

/// True if there is a process in a group or below it, seen or not: one of another PID namespace counts, and one that the
/// kernel calls a zombie while its threads go on. Also where it cannot be told. What is occupied is never "empty".
pub fn is_occupied(host: &Host, hierarchy: &Hierarchy, directory: &Path) -> bool {
    if hierarchy.version == Version::V2
        && let Ok(events) = host.read_piece(&directory.join("cgroup.events"))
    {
        return !events.split(|b| *b == b'\n').any(|line| line == b"populated 0");
    }
    let procs = |directory: &Path| match host.read_piece(&directory.join("cgroup.procs")) {
        Ok(bytes) => !bytes.is_empty(),
        Err(e) => !e.is_gone(),
    };
    let mut rest = vec![directory.to_path_buf()];
    while let Some(directory) = rest.pop() {
        if procs(&directory) || rest.len() > MAX_BELOW {
            return true;
        }
        let below = open_group(CWD, host.path(&directory)).and_then(|open| children(&open, false));
        rest.extend(below.unwrap_or_default().into_iter().map(|name| directory.join(name)));
    }
    false
}

/// True if a group is frozen, by either version's file.
pub fn frozen(host: &Host, hierarchy: &Hierarchy, directory: &Path) -> bool {
    let (file, yes) = match hierarchy.version {
        Version::V2 => ("cgroup.freeze", "1"),
        Version::V1 if hierarchy.freezer => ("freezer.self_freezing", "1"),
        Version::V1 => return false,
    };
    host.read_piece(&directory.join(file)).is_ok_and(|state| state.trim_ascii_end() == yes.as_bytes())
}

/// The kernel's number of a group, its inode: the later a group was made, the higher. None for a fixture, whose files are not
/// numbered so.
pub fn serial_number(host: &Host, directory: &Path) -> Option<u64> {
    let found = statat(CWD, host.path(directory), AtFlags::SYMLINK_NOFOLLOW).ok()?;
    host.is_live().then_some(found.st_ino)
}

/// The group paths in `/proc/PID/cgroup`, one for each hierarchy the process is in.
pub fn parse_membership(bytes: &[u8]) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = bytes
        .split(|b| *b == b'\n')
        .filter_map(|line| line.splitn(3, |b| *b == b':').nth(2))
        .map(|path| PathBuf::from(OsStr::from_bytes(path.strip_suffix(b" (deleted)").unwrap_or(path))))
        .filter(|path| path.is_absolute() && path.as_os_str() != "/")
        .collect();
    order::sort(&mut paths);
    paths.dedup();
    paths
}

/// Groups nest; a container may make its own. A tree deeper than this was made to exhaust us.
pub const MAX_DEPTH: usize = 64;

pub fn open_group(at: impl AsFd, name: impl rustix::path::Arg) -> io::Result<OwnedFd> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(openat(at, name, flags, Mode::empty())?)
}

/// A listing is read in pieces of so many bytes.
const PIECE: usize = 8 << 10;
/// One more entry takes no more of it: its head, and a name.
const LARGEST_ENTRY: usize = 24 + 256;

/// The names of the groups directly in a directory. At a glance the listing ends where a piece had room for more, without
/// another call that says so. That is nearly always right, but a signal may cut a piece short: who glances must count.
pub fn children(directory: &OwnedFd, glance: bool) -> io::Result<Vec<OsString>> {
    let mut buffer = [MaybeUninit::uninit(); PIECE];
    let mut entries = RawDir::new(directory, &mut buffer);
    let mut children = Vec::new();
    let mut taken = 0;
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let name = entry.file_name();
        // As the kernel lays it out (getdents(2)).
        taken += (19 + name.to_bytes().len() + 1).next_multiple_of(8);
        if entry.file_type() == FileType::Directory && name != c"." && name != c".." {
            children.push(OsStr::from_bytes(name.to_bytes()).to_owned());
        }
        if entries.is_buffer_empty() {
            if glance && taken + LARGEST_ENTRY <= PIECE {
                break;
            }
            taken = 0;
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
    fn a_glance_sees_all_of_many_groups() {
        let dir = tempfile::tempdir().unwrap();
        for count in [0, 1, 90, 100, 110, 120, 1000] {
            let top = dir.path().join(count.to_string());
            (0..count).for_each(|n| std::fs::create_dir_all(top.join(format!("pod{n:0>60}"))).unwrap());
            std::fs::create_dir_all(&top).unwrap();
            let open = open_group(CWD, &top).unwrap();
            assert_eq!(children(&open, true).unwrap().len(), count);
            assert_eq!(children(&open_group(CWD, &top).unwrap(), false).unwrap().len(), count);
        }
    }

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

    #[test]
    fn a_group_is_occupied_by_whoever_the_kernel_counts() {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::at(dir.path());
        let deep: PathBuf = (0..MAX_DEPTH + 9).map(|n| n.to_string()).collect();
        let below = dir.path().join("g").join(&deep);
        std::fs::create_dir_all(&below).unwrap();
        let occupied = |version| {
            let hierarchy = Hierarchy { version, point: "/".into(), read_only: true, freezer: false };
            is_occupied(&host, &hierarchy, Path::new("/g"))
        };
        assert!(!occupied(Version::V1));
        // A process of another PID namespace is seen as a zero.
        std::fs::write(below.join("cgroup.procs"), "0\n").unwrap();
        assert!(occupied(Version::V1) && occupied(Version::V2));
        std::fs::write(below.join("cgroup.procs"), "7\n").unwrap();
        assert_eq!(pids(&host, Path::new("/g")).unwrap(), [7], "however deep");
        std::fs::write(below.join("cgroup.procs"), "").unwrap();
        std::fs::write(dir.path().join("g/cgroup.events"), "populated 1\nfrozen 0\n").unwrap();
        assert!(occupied(Version::V2) && !occupied(Version::V1));
        std::fs::write(dir.path().join("g/cgroup.events"), "populated 0\nfrozen 0\n").unwrap();
        assert!(!occupied(Version::V2));
    }
}
