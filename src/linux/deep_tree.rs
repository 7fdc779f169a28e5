//! Empties a directory however deep it is, with two descriptors and no recursion.
//!
//! Down by names, up by "..": what that leads to is checked by inode and mount ID, since whoever moves a directory away
//! while we are in it has its ".." lead elsewhere. Each directory is listed again after each one below it, which is why
//! this is for those only that lie too deep to be kept open.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{AtFlags, FileType, RawDir, SeekFrom, StatxFlags, seek, statx};
use rustix::io::Errno;

use crate::linux::deleted::{Deleted, mount_id, open_child};

/// As many things that cannot be deleted are passed by; who has more than those is left alone.
const MAX_KEPT: usize = 10_000;

/// Deletes what is in a directory and on this mount. The path is for messages; the names far below it would not fit.
pub fn empty(top: &OwnedFd, mount: u64, path: &Path, deleted: &mut Deleted) -> Result<(), Errno> {
    let mut walk = Walk { mount, path, kept: HashSet::new(), deleted };
    let mut here = open_child(top, OsStr::new("."))?;
    // The inodes of the directories that lead here.
    let mut way = Vec::new();
    loop {
        if let Some(child) = walk.next_below(&here)? {
            way.push(inode(&here)?);
            here = child;
            continue;
        }
        let Some(above) = way.pop() else { return Ok(()) };
        if walk.deleted.failed > 0 {
            walk.keep(inode(&here)?)?;
        }
        let next = open_child(&here, OsStr::new(".."))?;
        if inode(&next)? != above || mount_id(&next)? != mount {
            return Err(Errno::STALE);
        }
        here = next;
    }
}

struct Walk<'a> {
    mount: u64,
    path: &'a Path,
    /// The inodes of what cannot be deleted: it is met again with each listing.
    kept: HashSet<u64>,
    deleted: &'a mut Deleted,
}

impl Walk<'_> {
    /// Deletes what is in this directory and needs no descent; returns the first directory that does. Some file systems skip
    /// entries when others vanish under a listing, so that it is listed until nothing more goes.
    fn next_below(&mut self, here: &OwnedFd) -> Result<Option<OwnedFd>, Errno> {
        loop {
            let before = self.deleted.entries;
            if let Some(child) = self.listed(here)? {
                return Ok(Some(child));
            }
            if self.deleted.entries == before || self.deleted.cut {
                return Ok(None);
            }
            seek(here, SeekFrom::Start(0))?;
        }
    }

    fn listed(&mut self, here: &OwnedFd) -> Result<Option<OwnedFd>, Errno> {
        let mut buffer = Vec::with_capacity(8 << 10);
        let mut entries = RawDir::new(here, buffer.spare_capacity_mut());
        while let Some(entry) = entries.next() {
            let entry = entry?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") || self.kept.contains(&entry.ino()) {
                continue;
            }
            if self.deleted.cut {
                return Ok(None);
            }
            let found = match entry.file_type() {
                FileType::Directory | FileType::Unknown => {
                    self.child(here, OsStr::from_bytes(name.to_bytes()))
                }
                _ => self.deleted.unlink(here, name, AtFlags::empty()).map(|()| None),
            };
            match found {
                Ok(None) => {}
                Ok(child) => return Ok(child),
                Err(errno) => {
                    self.deleted.fail(&self.path.join("…").join(OsStr::from_bytes(name.to_bytes())), errno);
                    self.keep(entry.ino())?;
                }
            }
        }
        Ok(None)
    }

    /// Removes a directory if it is empty; opens it if it is not, and can be emptied.
    fn child(&mut self, here: &OwnedFd, name: &OsStr) -> Result<Option<OwnedFd>, Errno> {
        if self.deleted.unlink(here, name, AtFlags::REMOVEDIR).is_ok() {
            return Ok(None);
        }
        let child = match open_child(here, name) {
            Err(Errno::NOTDIR | Errno::LOOP) => {
                return self.deleted.unlink(here, name, AtFlags::empty()).map(|()| None);
            }
            Err(Errno::NOENT) => return Ok(None),
            other => other?,
        };
        if mount_id(&child)? != self.mount {
            return Err(Errno::XDEV);
        }
        Ok(if self.kept.contains(&inode(&child)?) { None } else { Some(child) })
    }

    fn keep(&mut self, inode: u64) -> Result<(), Errno> {
        self.kept.insert(inode);
        if self.kept.len() > MAX_KEPT { Err(Errno::TOOBIG) } else { Ok(()) }
    }
}

fn inode(directory: &impl AsFd) -> Result<u64, Errno> {
    Ok(statx(directory, c"", AtFlags::EMPTY_PATH, StatxFlags::INO)?.stx_ino)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{CWD, Mode, OFlags, openat};
    use std::fs;
    use std::path::PathBuf;

    fn doomed() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let doomed = dir.path().canonicalize().unwrap().join("doomed");
        fs::create_dir(&doomed).unwrap();
        (dir, doomed)
    }

    #[test]
    fn what_was_moved_away_does_not_lead_elsewhere() {
        let (dir, doomed) = doomed();
        let precious = dir.path().join("precious");
        fs::create_dir_all(precious.join("sub")).unwrap();
        fs::write(precious.join("file"), "").unwrap();
        let top = openat(CWD, &doomed, OFlags::DIRECTORY, Mode::empty()).unwrap();
        fs::create_dir_all(doomed.join("a/b/c")).unwrap();
        let mount = mount_id(&top).unwrap();
        let mut deleted = Deleted::default();
        let mut walk = Walk { mount, path: &doomed, kept: HashSet::new(), deleted: &mut deleted };
        let a = walk.next_below(&top).unwrap().unwrap();
        fs::rename(doomed.join("a"), precious.join("sub/a")).unwrap();
        // From in there everything goes, as it would have; and nothing above it.
        assert!(walk.next_below(&a).unwrap().is_some());
        assert_eq!(
            inode(&open_child(&a, OsStr::new("..")).unwrap()).unwrap(),
            inode(&open_child(&top, OsStr::new("../precious/sub")).unwrap()).unwrap()
        );
        assert!(precious.join("file").exists());
    }
}
