//! The names in a directory.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, RawDir, statat};

use crate::error::{Context, Result};
use crate::linux::host::{Host, malformed};

/// Nobody has so many names in a directory that we read; who has wants us to run out of memory.
const MAX_NAMES: usize = 65_536;

impl Host {
    /// The names in a directory. A directory that does not exist has none; a symlink in its place is refused.
    pub fn list(&self, absolute: &Path) -> Result<Vec<OsString>> {
        self.reach(absolute)?;
        let path = self.path(absolute);
        match fs::symlink_metadata(&path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(e).context("stat", absolute),
            Ok(m) if !m.is_dir() => return Err(malformed(absolute, "not a directory")),
            Ok(_) => {}
        }
        let entries = match fs::read_dir(&path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.context("list", absolute)?,
        };
        let mut names = Vec::new();
        for entry in entries {
            if names.len() == MAX_NAMES {
                return Err(malformed(absolute, "far too many names"));
            }
            names.push(entry.context("list", absolute)?.file_name());
        }
        Ok(names)
    }

    /// Tells each name in a directory with its type, one by one: there may be any number. Nothing if there is no such
    /// directory; what has taken its place, a symlink above all, is told as the error that it is (`ENOTDIR`).
    pub fn each_name(&self, absolute: &Path, mut tell: impl FnMut(&OsStr, FileType)) -> Result<()> {
        self.reach(absolute)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let directory = match rustix::fs::openat(CWD, self.path(absolute), flags, Mode::empty()) {
            Err(rustix::io::Errno::NOENT) => return Ok(()),
            other => other.context("list", absolute)?,
        };
        let mut buffer = Vec::with_capacity(8 << 10);
        let mut entries = RawDir::new(&directory, buffer.spare_capacity_mut());
        while let Some(entry) = entries.next() {
            let entry = entry.context("list", absolute)?;
            let name = entry.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            let kind = match entry.file_type() {
                // Some file systems do not tell.
                FileType::Unknown => statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW)
                    .map_or(FileType::Unknown, |stat| FileType::from_raw_mode(stat.st_mode)),
                known => known,
            };
            tell(OsStr::from_bytes(name.to_bytes()), kind);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_directory_is_empty_and_a_symlink_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::at(dir.path());
        std::os::unix::fs::symlink("/etc", dir.path().join("link")).unwrap();
        assert!(host.list(Path::new("/none")).unwrap().is_empty());
        assert!(host.list(Path::new("/link")).is_err());
        assert_eq!(host.list(Path::new("/")).unwrap(), ["link"]);
    }

    #[test]
    fn names_come_with_their_types_and_never_through_a_symlink() {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::at(dir.path());
        fs::create_dir(dir.path().join("d")).unwrap();
        fs::write(dir.path().join("d/f"), "").unwrap();
        fs::create_dir(dir.path().join("d/sub")).unwrap();
        std::os::unix::fs::symlink("d", dir.path().join("link")).unwrap();
        let mut seen = Vec::new();
        host.each_name(Path::new("/d"), |name, kind| seen.push((name.to_owned(), kind))).unwrap();
        seen.sort_by(|a, b| a.0.cmp(&b.0));
        assert_eq!(seen, [("f".into(), FileType::RegularFile), ("sub".into(), FileType::Directory)]);
        for other in ["/link", "/d/f"] {
            let error = host.each_name(Path::new(other), |_, _| panic!()).unwrap_err();
            assert_eq!(error.errno(), Some(nix::libc::ENOTDIR), "{other}");
        }
        host.each_name(Path::new("/none"), |_, _| panic!()).unwrap();
    }
}
