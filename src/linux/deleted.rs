//! Deleting one entry of an open directory, and what came of it.

use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags, StatxFlags, openat, openat2, statx, unlinkat};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::error::gone;
use crate::linux::sys::make_subvolume_writable;
use crate::text;

/// As many failures as a reader can use.
const MAX_FAILURES: usize = 10;

/// How much was deleted, and what was not.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Deleted {
    /// Files, directories and other entries that are gone.
    pub entries: u64,
    /// How many could not be deleted.
    pub failed: u64,
    /// The first few of them.
    pub failures: Vec<Failure>,
    /// True if there was more than was to be deleted at once.
    pub cut: bool,
    /// As many entries are deleted, and no more.
    #[serde(skip)]
    most: Option<u64>,
}

/// One entry that could not be deleted.
#[derive(Debug, Serialize, Deserialize)]
pub struct Failure {
    #[serde(with = "text")]
    pub path: PathBuf,
    /// Why.
    pub errno: i32,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let reason = std::io::Error::from_raw_os_error(self.errno);
        write!(f, "cannot delete '{}': {reason}", text::show(&self.path))
    }
}

impl Deleted {
    /// As many entries are deleted, and no more.
    pub(super) fn at_most(most: u64) -> Deleted {
        Deleted { most: Some(most), ..Deleted::default() }
    }

    pub(super) fn unlink<P: rustix::path::Arg + Copy>(
        &mut self,
        parent: &OwnedFd,
        name: P,
        flags: AtFlags,
    ) -> Result<(), Errno> {
        if self.most.is_some_and(|most| self.entries >= most) {
            self.cut = true;
            return Err(Errno::AGAIN);
        }
        let unlinked = match unlinkat(parent, name, flags) {
            // In a read-only snapshot of btrfs, as those of images' layers are, nothing can be deleted. The first to refuse is
            // its topmost directory, and there the snapshot can be made writable.
            Err(Errno::ROFS) if make_subvolume_writable(parent.as_fd()).is_ok() => {
                unlinkat(parent, name, flags)
            }
            other => other,
        };
        match unlinked {
            Ok(()) => self.entries += 1,
            Err(e) if gone(e.raw_os_error()) => {}
            Err(e) => return Err(e),
        }
        Ok(())
    }

    pub(super) fn fail(&mut self, path: &Path, errno: Errno) {
        self.failed += 1;
        if self.failures.len() < MAX_FAILURES {
            self.failures.push(Failure { path: path.to_path_buf(), errno: errno.raw_os_error() });
        }
    }
}

const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Opens a directory part by part, so that no part may be a symlink.
pub(super) fn open_child(parent: &OwnedFd, name: &OsStr) -> Result<OwnedFd, Errno> {
    openat(parent, name, DIRECTORY, Mode::empty())
}

/// The same, if it is on the mount that its parent is on, which is this one; else EXDEV. The kernel checks this itself, where
/// there is openat2(2) and seccomp allows it.
pub(super) fn open_child_on(mount: u64, parent: &OwnedFd, name: &OsStr) -> Result<OwnedFd, Errno> {
    static REFUSED: AtomicBool = AtomicBool::new(false);
    if !REFUSED.load(Ordering::Relaxed) {
        match openat2(parent, name, DIRECTORY, Mode::empty(), ResolveFlags::NO_XDEV) {
            Err(Errno::NOSYS | Errno::PERM) => REFUSED.store(true, Ordering::Relaxed),
            other => return other,
        }
    }
    open_and_ask(mount, parent, name)
}

fn open_and_ask(mount: u64, parent: &OwnedFd, name: &OsStr) -> Result<OwnedFd, Errno> {
    let child = open_child(parent, name)?;
    if mount_id(&child)? == mount { Ok(child) } else { Err(Errno::XDEV) }
}

/// A kernel without mount IDs (before 5.8) cannot be asked safely, and so nothing is deleted on it.
pub(super) fn mount_id(directory: &impl AsFd) -> Result<u64, Errno> {
    let found = statx(directory, c"", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID)?;
    if found.stx_mask & StatxFlags::MNT_ID.bits() == 0 {
        return Err(Errno::NOSYS);
    }
    Ok(found.stx_mnt_id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::CWD;

    #[test]
    fn a_directory_on_another_mount_is_not_opened() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("own")).unwrap();
        std::os::unix::fs::symlink("own", dir.path().join("link")).unwrap();
        let [below, root] =
            [dir.path(), Path::new("/")].map(|path| openat(CWD, path, DIRECTORY, Mode::empty()).unwrap());
        let opened = |parent: &OwnedFd, name: &str| {
            let (mount, name) = (mount_id(parent).unwrap(), OsStr::new(name));
            let [asked, told] = [open_and_ask, open_child_on].map(|open| open(mount, parent, name).map(drop));
            assert_eq!(asked, told, "{name:?}");
            told
        };
        assert_eq!(opened(&below, "own"), Ok(()));
        assert_eq!(opened(&root, "proc"), Err(Errno::XDEV));
        assert_eq!(opened(&below, "none"), Err(Errno::NOENT));
        assert!(matches!(opened(&below, "link"), Err(Errno::NOTDIR | Errno::LOOP)));
    }
}
