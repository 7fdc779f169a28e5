//! Deletes a directory and what it holds, and nothing else.
//!
//! Never through a symlink, in any part of the path; never across a mount: mount IDs are compared, since a
//! bind mount of the same file system has the same device number. Names are looked up relative to open
//! directories, so nobody can lead us elsewhere by swapping a directory for a symlink meanwhile.

use std::cell::{Cell, RefCell};
use std::ffi::{CStr, OsStr, OsString};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path};
use std::rc::Rc;

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, RawDir, SeekFrom, openat, seek};
use rustix::io::Errno;

use crate::linux::deep_tree;
pub use crate::linux::deleted::Deleted;
use crate::linux::deleted::{mount_id, open_child, open_child_on};

/// As many levels hold a descriptor and a listing each; below them `deep_tree` goes on, which is slower and takes neither.
const DEEPEST: usize = 64;
/// A listing is read in pieces of so many bytes.
const LISTING: usize = 8 << 10;

/// The directory that was opened last, and those that lead to it, from the root on. What is removed one after the other
/// mostly lies in the same one or near it, and to open a directory part by part takes as long as to delete what is in
/// it. Nothing that does not lead to the last one is kept open: it would keep the mount busy that it is on.
#[derive(Default)]
pub struct Parent {
    open: RefCell<Vec<(OsString, Rc<OwnedFd>)>>,
    /// The mount that the last one is on, once somebody has asked. Whatever is mounted or moved meanwhile, what is open stays
    /// on its mount, and keeps that mount's number from being given again.
    mount: Cell<Option<u64>>,
    shapes: Shapes,
}

impl Parent {
    /// The directory, opened part by part: no part may be a symlink.
    pub fn open(&self, path: &Path) -> Result<Rc<OwnedFd>, Errno> {
        let mut open = self.open.borrow_mut();
        let mut directory: Option<Rc<OwnedFd>> = None;
        for (depth, part) in path.components().enumerate() {
            if !matches!((depth, part), (0, Component::RootDir) | (1.., Component::Normal(_))) {
                return Err(Errno::INVAL);
            }
            let name = part.as_os_str();
            if open.get(depth).is_some_and(|(known, _)| known != name) {
                self.cut(&mut open, depth);
            }
            if open.len() == depth {
                self.mount.set(None);
                let next = open_part(directory.as_deref(), name)?;
                open.push((name.to_owned(), Rc::new(next)));
            }
            directory = open.get(depth).map(|(_, directory)| directory.clone());
        }
        self.cut(&mut open, path.components().count());
        directory.ok_or(Errno::INVAL)
    }

    /// Closes what does not lead to the directory that is so deep.
    fn cut(&self, open: &mut Vec<(OsString, Rc<OwnedFd>)>, depth: usize) {
        if open.len() > depth {
            open.truncate(depth);
            self.mount.set(None);
        }
    }

    /// The mount that the directory is on which was opened last.
    fn mount_of(&self, last: &OwnedFd) -> Result<u64, Errno> {
        if let Some(known) = self.mount.get() {
            return Ok(known);
        }
        let mount = mount_id(last)?;
        self.mount.set(Some(mount));
        Ok(mount)
    }
}

/// Which directories were not empty when they were met, by how deep they lay and how long their names were: what a runtime
/// makes for each container looks the same. It only says what is tried first, and a wrong guess costs a few system calls.
#[derive(Default)]
struct Shapes([Cell<u64>; 16]);

impl Shapes {
    fn full(&self, (depth, length): (usize, usize)) -> bool {
        self.0[depth % 16].get() & (1 << (length % 64)) != 0
    }

    fn learn(&self, (depth, length): (usize, usize), full: bool) {
        let (row, bit) = (&self.0[depth % 16], 1 << (length % 64));
        row.set(if full { row.get() | bit } else { row.get() & !bit });
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
    let (Some(above), Some(name)) = (path.parent(), path.file_name()) else { return Err(Errno::INVAL) };
    let parent = match last.open(above) {
        Err(Errno::NOENT) => return Ok(()),
        other => other?,
    };
    // By its place, and not by its name, which is mostly an ID.
    let shape = (usize::MAX, above.as_os_str().len());
    let Some(directory) = open_full(&parent, name, shape, &last.shapes, deleted, open_child)? else {
        return Ok(());
    };
    let mount = mount_id(&directory)?;
    let level = Level { mount, path, depth: 0, shape, shapes: &last.shapes };
    if mount != last.mount_of(&parent)? {
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
    shape: (usize, usize),
    shapes: &'a Shapes,
}

/// Opens a directory to empty it; none if it is gone by then. Most that a runtime leaves are empty by now, and go without
/// being opened: the kernel removes neither a full one in that way nor a mount point (EBUSY), nor what is no directory.
fn open_full(
    parent: &OwnedFd,
    name: &OsStr,
    shape: (usize, usize),
    shapes: &Shapes,
    deleted: &mut Deleted,
    open: impl FnOnce(&OwnedFd, &OsStr) -> Result<OwnedFd, Errno>,
) -> Result<Option<OwnedFd>, Errno> {
    if !shapes.full(shape) {
        match deleted.unlink(parent, name, AtFlags::REMOVEDIR) {
            Ok(()) => return Ok(None),
            Err(Errno::NOTEMPTY) => shapes.learn(shape, true),
            Err(_) => {}
        }
    }
    match open(parent, name) {
        Ok(directory) => Ok(Some(directory)),
        Err(Errno::NOENT) => Ok(None),
        // Not a directory, or a symlink: the name itself goes, not what it leads to.
        Err(Errno::NOTDIR | Errno::LOOP) => deleted.unlink(parent, name, AtFlags::empty()).map(|()| None),
        Err(e) => Err(e),
    }
}

/// Deletes what is in a directory, then the directory. Some file systems skip entries when others vanish under a
/// listing: then the directory is not empty yet, and is listed again as long as that brings anything.
fn remove_directory(
    parent: &OwnedFd,
    name: &OsStr,
    directory: &OwnedFd,
    level: &Level,
    deleted: &mut Deleted,
) -> Result<(), Errno> {
    let first = deleted.entries;
    loop {
        let before = (deleted.entries, deleted.failed);
        if delete_listed(directory, Some((parent, name)), level, deleted)? {
            // It counts itself.
            level.shapes.learn(level.shape, deleted.entries > first + 1);
            return Ok(());
        }
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
        delete_listed(directory, None, level, deleted)?;
        if deleted.failed > before.1 || deleted.entries == before.0 {
            return Ok(());
        }
        seek(directory, SeekFrom::Start(0))?;
    }
}

/// Deletes what a listing of the directory names, from where it was last read to. True if the directory itself, by its
/// parent and name, has gone, too: to read on would mostly say no more than that the listing has ended, and whether the
/// directory is empty the kernel knows better. It removes no other one, and no mount point.
fn delete_listed(
    directory: &OwnedFd,
    itself: Option<(&OwnedFd, &OsStr)>,
    level: &Level,
    deleted: &mut Deleted,
) -> Result<bool, Errno> {
    let failed = deleted.failed;
    let mut buffer = Vec::with_capacity(LISTING);
    let mut entries = RawDir::new(directory, buffer.spare_capacity_mut());
    while let Some(entry) = entries.next() {
        let entry = entry?;
        if deleted.cut {
            return Ok(false);
        }
        let name = entry.file_name();
        let result = match entry.file_type() {
            _ if matches!(name.to_bytes(), b"." | b"..") => Ok(()),
            FileType::Directory | FileType::Unknown => delete_child(directory, name, level, deleted),
            _ => deleted.unlink(directory, name, AtFlags::empty()),
        };
        if let Err(errno) = result {
            deleted.fail(&level.path.join(OsStr::from_bytes(name.to_bytes())), errno);
        }
        if let Some((parent, name)) = itself
            && entries.is_buffer_empty()
            && deleted.failed == failed
            && deleted.unlink(parent, name, AtFlags::REMOVEDIR).is_ok()
        {
            return Ok(true);
        }
    }
    Ok(false)
}

fn delete_child(parent: &OwnedFd, name: &CStr, level: &Level, deleted: &mut Deleted) -> Result<(), Errno> {
    let name = OsStr::from_bytes(name.to_bytes());
    let shape = (level.depth, name.len());
    let open = |parent: &OwnedFd, name: &OsStr| open_child_on(level.mount, parent, name);
    let Some(child) = open_full(parent, name, shape, level.shapes, deleted, open)? else { return Ok(()) };
    if level.depth >= DEEPEST {
        let before = deleted.failed;
        deep_tree::empty(&child, level.mount, &level.path.join(name), deleted)?;
        let whole = deleted.failed == before && !deleted.cut;
        return if whole { deleted.unlink(parent, name, AtFlags::REMOVEDIR) } else { Ok(()) };
    }
    let level = Level { path: &level.path.join(name), depth: level.depth + 1, shape, ..*level };
    remove_directory(parent, name, &child, &level, deleted)
}

#[cfg(test)]
mod tests;
