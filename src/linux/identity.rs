//! What a thing is by the kernel's own numbers, not by its name.

use std::cmp::Ordering;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, StatxFlags, statx};

use crate::linux::host::Host;

/// The effective user of a process: that of its directory in /proc, whatever else the process hides (proc(5)).
pub fn owner_of_process(host: &Host, pid: i32) -> io::Result<u32> {
    let directory = host.path(&PathBuf::from(format!("/proc/{pid}")));
    let found = statx(CWD, &directory, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::UID)?;
    Ok(found.stx_uid)
}

/// The order in which two were made: `Less` if the first is older; none where a file system does not tell.
pub fn by_age(host: &Host, one: &Path, other: &Path) -> Option<Ordering> {
    let born = |path: &Path| {
        let found = statx(CWD, host.path(path), AtFlags::SYMLINK_NOFOLLOW, StatxFlags::BTIME).ok()?;
        let known = found.stx_mask & StatxFlags::BTIME.bits() != 0;
        known.then_some((found.stx_btime.tv_sec, found.stx_btime.tv_nsec))
    };
    Some(born(one)?.cmp(&born(other)?))
}

/// True if both lead to the same file or directory. What is served is not asked: what the kernel remembers is enough.
pub fn is_same_file(host: &Host, one: &Path, other: &Path) -> bool {
    if host.reach(other).is_err() {
        return false;
    }
    let number = |path: &Path| {
        let found = statx(CWD, host.path(path), AtFlags::STATX_DONT_SYNC, StatxFlags::INO | StatxFlags::TYPE);
        found.ok().map(|s| (s.stx_dev_major, s.stx_dev_minor, s.stx_ino))
    };
    number(one).is_some_and(|own| Some(own) == number(other))
}

/// A namespace of a process ("user:[4026531837]"); none where that may not be known.
pub fn namespace_of(host: &Host, pid: &str, kind: &str) -> Option<PathBuf> {
    std::fs::read_link(host.path(Path::new(&format!("/proc/{pid}/ns/{kind}")))).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_the_same_by_whatever_way() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two, link) = (dir.path().join("one"), dir.path().join("two"), dir.path().join("link"));
        std::fs::create_dir(&one).unwrap();
        std::fs::create_dir(&two).unwrap();
        std::os::unix::fs::symlink(&one, &link).unwrap();
        let host = Host::live();
        assert!(is_same_file(&host, &link, &one) && !is_same_file(&host, &one, &two));
        assert!(!is_same_file(&host, &dir.path().join("none"), &dir.path().join("none")));
    }

    #[test]
    fn we_own_ourselves() {
        let host = Host::live();
        let own = owner_of_process(&host, std::process::id() as i32).unwrap();
        assert_eq!(own, nix::unistd::geteuid().as_raw());
        assert_eq!(
            namespace_of(&host, "self", "user"),
            namespace_of(&host, &std::process::id().to_string(), "user")
        );
    }
}
