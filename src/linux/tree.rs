//! Deletes a directory and what it holds, and nothing else.
//!
//! Never through a symlink, in any part of the path; never across a mount: mount IDs are compared, since a
//! bind mount of the same file system has the same device number. Names are looked up relative to open
//! directories, so nobody can lead us elsewhere by swapping a directory for a symlink meanwhile.

use std::cell::RefCell;
use std::ffi::{CStr, OsStr, OsString};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path};
use std::rc::Rc;

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, RawDir, SeekFrom, openat, seek};
use rustix::io::Errno;

use crate::linux::deep_tree;
pub use crate::linux::deleted::Deleted;
use crate::linux::deleted::{mount_id, open_child};

/// As many levels hold a descriptor and a listing each; below them `deep_tree` goes on, which is slower and takes neither.
const DEEPEST: usize = 64;
/// A listing is read in pieces of so many bytes.
const LISTING: usize = 8 << 10;

/// The directory that was opened last, and those that lead to it, from the root on. What is removed one after the other
/// mostly lies in the same one or near it, and to open a directory part by part takes as long as to delete what is in
/// it. Nothing that does not lead to the last one is kept open: it would keep the mount busy that it is on.
#[derive(Default)]
pub struct Parent(RefCell<Vec<(OsString, Rc<OwnedFd>)>>);

impl Parent {
    /// The directory, opened part by part: no part may be a symlink.
    pub fn open(&self, path: &Path) -> Result<Rc<OwnedFd>, Errno> {
        let mut open = self.0.borrow_mut();
        let mut directory: Option<Rc<OwnedFd>> = None;
        for (depth, part) in path.components().enumerate() {
            if !matches!((depth, part), (0, Component::RootDir) | (1.., Component::Normal(_))) {
                return Err(Errno::INVAL);
            }
            let name = part.as_os_str();
            if open.get(depth).is_some_and(|(known, _)| known != name) {
                open.truncate(depth);
            }
            if open.len() == depth {
                let next = open_part(directory.as_deref(), name)?;
                open.push((name.to_owned(), Rc::new(next)));
            }
            directory = open.get(depth).map(|(_, directory)| directory.clone());
        }
        open.truncate(path.components().count());
        directory.ok_or(Errno::INVAL)
    }
}

fn open_part(above: Option<&OwnedFd>, name: &OsStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match above {
        None => openat(CWD, name, flags, Mode::empty()),
        Some(above) => openat(above, name, flags, Mode::empty()),
    }
}

/// Deletes what is at this path. If that is a mount point it stays, and only what lies in it goes.
pub fn delete_in(parent: &Parent, path: &Path) -> Deleted {
    let mut deleted = Deleted::default();
    if let Err(errno) = delete_at(parent, path, &mut deleted) {
        deleted.fail(path, errno);
    }
    deleted
}

/// The same, as long as there are no more entries than this: the rest stays, and `cut` says so.
pub fn delete_some_in(parent: &Parent, path: &Path, most: u64) -> Deleted {
    let mut deleted = Deleted::at_most(most);
    if let Err(errno) = delete_at(parent, path, &mut deleted) {
        deleted.fail(path, errno);
    }
    deleted
}

/// Unlinks what is at this path; never a directory.
pub fn unlink_in(parent: &Parent, path: &Path) -> Deleted {
    take_name(parent, path, AtFlags::empty())
}

/// Removes a directory that is empty. One that is not is somebody's again, and stays without a word: the last look says so.
pub fn rmdir_in(parent: &Parent, path: &Path) -> Deleted {
    take_name(parent, path, AtFlags::REMOVEDIR)
}

fn take_name(parent: &Parent, path: &Path, flags: AtFlags) -> Deleted {
    let mut deleted = Deleted::default();
    let unlinked = match (path.parent().map(|p| parent.open(p)), path.file_name()) {
        (Some(Err(Errno::NOENT)), _) => Ok(()),
        (Some(Ok(parent)), Some(name)) => match deleted.unlink(&parent, name, flags) {
            Err(Errno::NOTEMPTY) => Ok(()),
            other => other,
        },
        (Some(Err(errno)), _) => Err(errno),
        _ => Err(Errno::INVAL),
    };
    if let Err(errno) = unlinked {
        deleted.fail(path, errno);
    }
    deleted
}

fn delete_at(last: &Parent, path: &Path, deleted: &mut Deleted) -> Result<(), Errno> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Err(Errno::INVAL) };
    let parent = match last.open(parent) {
        Err(Errno::NOENT) => return Ok(()),
        other => other?,
    };
    let directory = match open_child(&parent, name) {
        Ok(directory) => directory,
        Err(Errno::NOENT) => return Ok(()),
        // Not a directory, or a symlink: the name itself goes, not what it leads to.
        Err(Errno::NOTDIR | Errno::LOOP) => return deleted.unlink(&parent, name, AtFlags::empty()),
        Err(e) => return Err(e),
    };
    let mount = mount_id(&directory)?;
    let level = Level { mount, path, depth: 0 };
    if mount != mount_id(&parent)? {
        return empty(&directory, &level, deleted);
    }
    remove_directory(&parent, name, &directory, &level, deleted)
}

/// Where in the tree a directory is.
struct Level<'a> {
    /// The mount that must not be left.
    mount: u64,
    /// Its path, for messages.
    path: &'a Path,
    depth: usize,
}

/// Deletes what is in a directory, then the directory. Some file systems skip entries when others vanish under a
/// listing: then the directory is not empty yet, and is listed again as long as that brings anything.
fn remove_directory<P: rustix::path::Arg + Copy>(
    parent: &OwnedFd,
    name: P,
    directory: &OwnedFd,
    level: &Level,
    deleted: &mut Deleted,
) -> Result<(), Errno> {
    loop {
        let before = (deleted.entries, deleted.failed);
        delete_listed(directory, level, deleted)?;
        if deleted.failed > before.1 {
            return Ok(());
        }
        match deleted.unlink(parent, name, AtFlags::REMOVEDIR) {
            Err(Errno::NOTEMPTY) if deleted.entries > before.0 => {}
            other => return other,
        }
        seek(directory, SeekFrom::Start(0))?;
    }
}

/// Deletes what is in a directory that stays, until a listing brings nothing more.
fn empty(directory: &OwnedFd, level: &Level, deleted: &mut Deleted) -> Result<(), Errno> {
    loop {
        let before = (deleted.entries, deleted.failed);
        delete_listed(directory, level, deleted)?;
        if deleted.failed > before.1 || deleted.entries == before.0 {
            return Ok(());
        }
        seek(directory, SeekFrom::Start(0))?;
    }
}

/// Deletes what a listing of the directory names, from where it was last read to.
fn delete_listed(directory: &OwnedFd, level: &Level, deleted: &mut Deleted) -> Result<(), Errno> {
    let mut buffer = Vec::with_capacity(LISTING);
    let mut entries = RawDir::new(directory, buffer.spare_capacity_mut());
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        if deleted.cut {
            return Ok(());
        }
        let result = match entry.file_type() {
            FileType::Directory | FileType::Unknown => delete_child(directory, name, level, deleted),
            _ => deleted.unlink(directory, name, AtFlags::empty()),
        };
        if let Err(errno) = result {
            deleted.fail(&level.path.join(OsStr::from_bytes(name.to_bytes())), errno);
        }
    }
    Ok(())
}

/// Most directories that a runtime leaves are empty by now, and go without being opened. The kernel removes neither a
/// full one in that way nor a mount point (EBUSY).
fn delete_child(parent: &OwnedFd, name: &CStr, level: &Level, deleted: &mut Deleted) -> Result<(), Errno> {
    if deleted.unlink(parent, name, AtFlags::REMOVEDIR).is_ok() {
        return Ok(());
    }
    let os_name = OsStr::from_bytes(name.to_bytes());
    let child = match open_child(parent, os_name) {
        Ok(child) => child,
        Err(Errno::NOTDIR | Errno::LOOP) => return deleted.unlink(parent, name, AtFlags::empty()),
        Err(Errno::NOENT) => return Ok(()),
        Err(e) => return Err(e),
    };
    if mount_id(&child)? != level.mount {
        return Err(Errno::XDEV);
    }
    if level.depth >= DEEPEST {
        let before = deleted.failed;
        deep_tree::empty(&child, level.mount, &level.path.join(os_name), deleted)?;
        let whole = deleted.failed == before && !deleted.cut;
        return if whole { deleted.unlink(parent, name, AtFlags::REMOVEDIR) } else { Ok(()) };
    }
    let level = Level { path: &level.path.join(os_name), depth: level.depth + 1, ..*level };
    remove_directory(parent, name, &child, &level, deleted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::mkdirat;
    use std::fs;
    use std::os::unix::fs::symlink;

    fn delete(path: &Path) -> Deleted {
        delete_in(&Parent::default(), path)
    }

    #[test]
    fn deletes_all_and_follows_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().canonicalize().unwrap();
        let (doomed, kept) = (dir.join("doomed"), dir.join("kept"));
        fs::create_dir_all(doomed.join("a/b/c")).unwrap();
        fs::create_dir(&kept).unwrap();
        fs::write(kept.join("f"), "x").unwrap();
        fs::write(doomed.join("a/f"), "x").unwrap();
        symlink(&kept, doomed.join("a/link")).unwrap();
        let deleted = delete(&doomed);
        assert!(deleted.failures.is_empty(), "{deleted:?}");
        assert_eq!(deleted.entries, 6);
        assert!(!doomed.exists() && kept.join("f").exists());
        assert!(delete(&doomed).failures.is_empty(), "already gone is done");
    }

    #[test]
    fn a_symlink_on_the_way_is_refused_and_one_at_the_end_is_only_unlinked() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().canonicalize().unwrap();
        fs::create_dir_all(dir.join("kept/x")).unwrap();
        symlink("kept", dir.join("link")).unwrap();
        assert!(!delete(&dir.join("link/x")).failures.is_empty());
        assert!(delete(&dir.join("link")).failures.is_empty());
        assert!(dir.join("kept/x").exists() && !dir.join("link").exists());
    }

    #[test]
    fn many_entries() {
        let dir = tempfile::tempdir().unwrap();
        let doomed = dir.path().canonicalize().unwrap().join("d");
        fs::create_dir(&doomed).unwrap();
        (0..3000).for_each(|n| fs::write(doomed.join(n.to_string()), "").unwrap());
        assert_eq!(delete(&doomed).entries, 3001);
    }

    #[test]
    fn no_more_than_was_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let doomed = dir.path().canonicalize().unwrap().join("d");
        fs::create_dir_all(doomed.join("a/b")).unwrap();
        (0..300).for_each(|n| fs::write(doomed.join("a").join(n.to_string()), "").unwrap());
        let some = delete_some_in(&Parent::default(), &doomed, 100);
        assert!(some.cut && some.entries == 100 && doomed.exists(), "{some:?}");
        let rest = delete_some_in(&Parent::default(), &doomed, 203);
        assert!(!rest.cut && rest.failed == 0 && !doomed.exists(), "{rest:?}");
    }

    /// Makes so many directories one in another, with a file and two more in each hundredth.
    fn nest(top: &Path, depth: usize) {
        let open = |at: &OwnedFd, name: &str| openat(at, name, OFlags::DIRECTORY, Mode::empty()).unwrap();
        let mut here = openat(CWD, top, OFlags::DIRECTORY, Mode::empty()).unwrap();
        for n in 0..depth {
            let names = if n % 100 == 99 { &["side", "side/full", "deep"][..] } else { &["deep"] };
            names.iter().for_each(|name| mkdirat(&here, *name, Mode::RWXU).unwrap());
            if n % 100 == 99 {
                drop(openat(&here, "file", OFlags::CREATE | OFlags::WRONLY, Mode::RUSR).unwrap());
            }
            here = open(&here, "deep");
        }
    }

    #[test]
    fn however_deep() {
        for depth in [63, 64, 65, 66, 600, 100_000] {
            let dir = tempfile::tempdir_in("/dev/shm").unwrap();
            let doomed = dir.path().canonicalize().unwrap().join("doomed");
            fs::create_dir(&doomed).unwrap();
            nest(&doomed, depth);
            let deleted = delete(&doomed);
            assert!(deleted.failed == 0 && !doomed.exists(), "{depth}: {deleted:?}");
            assert_eq!(deleted.entries, (1 + depth + 3 * (depth / 100)) as u64);
        }
    }
}
