//! The machine that is looked at: a root to read from.
//!
//! Everything that reads takes a [`Host`], which may be a fixture tree; everything that acts takes a `Live`,
//! which exists for "/" only. So a test can read any tree, and none can ever be acted upon.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use nix::libc::{O_CLOEXEC, O_NOFOLLOW, O_NONBLOCK};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::error::{Context, Error, Result};
use crate::linux::mountinfo::{self, MountTable};
use crate::linux::servers::Servers;
use crate::linux::sync::locked;

/// No file that we read has a reason to be larger; one that is was not written by whom we think.
const LARGEST: u64 = 32 << 20;

const MOUNTS: &str = "/proc/self/mountinfo";

/// A root to read from.
#[derive(Debug, Clone)]
pub struct Host {
    root: PathBuf,
    servers: Arc<Servers>,
    mounts: Arc<Mutex<Option<Watched>>>,
}

/// Our own mount table as it was read last, and the file that tells when that is no longer so.
#[derive(Debug)]
struct Watched {
    /// Who reads: a child of ours has not got the file, and may have gone to another mount namespace.
    reader: u32,
    file: File,
    table: Arc<MountTable>,
}

impl Host {
    /// A tree to read from, such as a fixture.
    pub fn at(root: impl Into<PathBuf>) -> Host {
        Host { root: root.into(), servers: Arc::default(), mounts: Arc::default() }
    }

    /// This machine.
    pub fn live() -> Host {
        Host::at("/")
    }

    /// True if this is the machine itself.
    pub fn is_live(&self) -> bool {
        self.root == Path::new("/")
    }

    /// Where an absolute path lies in this tree.
    pub fn path(&self, absolute: &Path) -> PathBuf {
        if self.is_live() {
            return absolute.to_path_buf();
        }
        self.root.join(absolute.strip_prefix("/").unwrap_or(absolute))
    }

    /// Our own mount table. It is read anew if anything was mounted or unmounted since, which the kernel tells who polls
    /// the file (proc_pid_mountinfo(5)); of a directory that was renamed above a mount it tells nothing.
    pub fn own_mounts(&self) -> Result<Arc<MountTable>> {
        let path = Path::new(MOUNTS);
        if !self.is_live() {
            return self.read(path).map(|bytes| Arc::new(mountinfo::parse(&bytes)));
        }
        let mut last = locked(&self.mounts);
        let reader = std::process::id();
        let file = match last.take().filter(|known| known.reader == reader) {
            Some(known) if !known.has_changed() => {
                let table = known.table.clone();
                *last = Some(known);
                return Ok(table);
            }
            Some(known) => known.file,
            None => self.open_file(path)?.0,
        };
        (&file).seek(SeekFrom::Start(0)).context("read", path)?;
        // A table of a few hundred mounts, in one go.
        let bytes = read_all(&file, 64 << 10, LARGEST + 1, path)?;
        let table = Arc::new(mountinfo::parse(&bytes));
        *last = Some(Watched { reader, file, table: table.clone() });
        Ok(table)
    }

    /// The mount table is read anew when it is asked for next, whatever the kernel tells.
    pub fn forget_mounts(&self) {
        *locked(&self.mounts) = None;
    }

    /// Takes over what is mounted now, so that nothing waits for a server that does not answer. A fixture has no mounts.
    pub fn learn_mounts(&self) {
        if self.is_live()
            && let Ok(table) = self.own_mounts()
        {
            self.servers.update(&table);
        }
    }

    /// What is known of the servers on the way to what is looked at.
    pub fn servers(&self) -> &Servers {
        &self.servers
    }

    /// An error if what lies at this path could only be waited for.
    pub fn reach(&self, absolute: &Path) -> Result<()> {
        match self.servers.silent(absolute) {
            None => Ok(()),
            Some(mount) => Err(Error::Silent { path: absolute.to_path_buf(), mount }),
        }
    }

    /// What is at this path, whatever its type, without following it.
    pub fn stat(&self, absolute: &Path) -> Result<fs::Metadata> {
        self.reach(absolute)?;
        fs::symlink_metadata(self.path(absolute)).context("stat", absolute)
    }

    /// Where a symlink leads.
    pub fn link(&self, absolute: &Path) -> Result<PathBuf> {
        self.reach(absolute)?;
        fs::read_link(self.path(absolute)).context("read", absolute)
    }

    /// Reads a whole file: a regular one (or one of proc's), never through a symlink at its end, never a
    /// FIFO or device that a hostile neighbour has put in its place.
    pub fn read(&self, absolute: &Path) -> Result<Vec<u8>> {
        let (file, length) = self.open_file(absolute)?;
        // Files of proc and cgroup say that they are empty; most fit into this. Others are read in one call, and no
        // second one asks whether that was all.
        match length {
            0 => read_all(&file, 8 << 10, LARGEST + 1, absolute),
            length => read_all(&file, length, length.min(LARGEST + 1), absolute),
        }
    }

    fn open_file(&self, absolute: &Path) -> Result<(File, u64)> {
        self.reach(absolute)?;
        let mut options = OpenOptions::new();
        options.read(true).custom_flags(O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
        let file = options.open(self.path(absolute)).context("open", absolute)?;
        let metadata = file.metadata().context("stat", absolute)?;
        if !metadata.is_file() {
            return Err(Error::Malformed {
                path: absolute.to_path_buf(),
                reason: "not a regular file".into(),
            });
        }
        Ok((file, metadata.len()))
    }

    /// Reads a file of text, without its last newline.
    pub fn read_text(&self, absolute: &Path) -> Result<String> {
        let bytes = self.read(absolute)?;
        let text = String::from_utf8(bytes)
            .map_err(|_| Error::Malformed { path: absolute.to_path_buf(), reason: "not UTF-8".into() })?;
        Ok(text.trim_end_matches('\n').to_owned())
    }

    /// The names in a directory. A directory that does not exist has none; a symlink in its place is refused.
    pub fn list(&self, absolute: &Path) -> Result<Vec<OsString>> {
        self.reach(absolute)?;
        let path = self.path(absolute);
        match fs::symlink_metadata(&path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(e).context("stat", absolute),
            Ok(m) if !m.is_dir() => {
                return Err(Error::Malformed {
                    path: absolute.to_path_buf(),
                    reason: "not a directory".into(),
                });
            }
            Ok(_) => {}
        }
        let entries = match fs::read_dir(&path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.context("list", absolute)?,
        };
        entries.map(|e| e.map(|e| e.file_name()).context("list", absolute)).collect()
    }

    /// True if there is something by this name, of whatever type; an error if that cannot be told.
    pub fn exists(&self, absolute: &Path) -> Result<bool> {
        self.reach(absolute)?;
        match fs::symlink_metadata(self.path(absolute)) {
            Ok(_) => Ok(true),
            Err(e) if matches!(e.raw_os_error(), Some(nix::libc::ENOENT | nix::libc::ENOTDIR)) => Ok(false),
            Err(e) => Err(e).context("stat", absolute),
        }
    }
}

/// Reads at most so much; an error if that is more than any file should have.
fn read_all(file: &File, expected: u64, most: u64, path: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(usize::try_from(expected.min(most)).unwrap_or(0));
    file.take(most).read_to_end(&mut bytes).context("read", path)?;
    if bytes.len() as u64 > LARGEST {
        return Err(Error::Malformed { path: path.to_path_buf(), reason: "far too large".into() });
    }
    Ok(bytes)
}

impl Watched {
    /// True if something was mounted or unmounted since the file was opened or asked last; asking again needs a new read.
    fn has_changed(&self) -> bool {
        let mut fds = [PollFd::new(self.file.as_fd(), PollFlags::POLLPRI)];
        poll(&mut fds, PollTimeout::ZERO) != Ok(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_only_regular_files() {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::at(dir.path());
        fs::write(dir.path().join("f"), "text\n").unwrap();
        std::os::unix::fs::symlink("f", dir.path().join("link")).unwrap();
        nix::unistd::mkfifo(&dir.path().join("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert_eq!(host.read_text(Path::new("/f")).unwrap(), "text");
        assert_eq!(host.read(Path::new("/link")).unwrap_err().errno(), Some(nix::libc::ELOOP));
        assert!(host.read(Path::new("/fifo")).is_err());
        assert!(host.read(Path::new("/none")).unwrap_err().is_gone());
    }

    #[test]
    fn a_missing_directory_is_empty_and_a_symlink_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::at(dir.path());
        std::os::unix::fs::symlink("/etc", dir.path().join("link")).unwrap();
        assert!(host.list(Path::new("/none")).unwrap().is_empty());
        assert!(host.list(Path::new("/link")).is_err());
        assert_eq!(host.list(Path::new("/")).unwrap(), ["link"]);
    }
}
