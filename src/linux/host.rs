//! The machine that is looked at: a root to read from.
//!
//! Everything that reads takes a [`Host`], which may be a fixture tree; everything that acts takes a `Live`,
//! which exists for "/" only. So a test can read any tree, and none can ever be acted upon.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use nix::errno::Errno;
use nix::libc::{O_CLOEXEC, O_NOFOLLOW, O_NONBLOCK, O_PATH};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::buffer::spare_capacity;

use crate::error::{Context, Error, Result};
use crate::linux::mountinfo::{self, MountTable};
use crate::linux::proc::ProcessId;
use crate::linux::servers::Servers;
use crate::linux::sync::locked;

/// What the kernel writes has no bound but this one: a mount table of tens of thousands of lines.
const LARGEST: u64 = 32 << 20;

/// What anybody else writes has no reason to be larger; what is was not written by whom we think.
const LARGEST_ON_DISK: u64 = 4 << 20;

/// Of the smallest pages that there are.
const HALF_A_PAGE: usize = 2 << 10;

const MOUNTS: &str = "/proc/self/mountinfo";

/// A root to read from.
#[derive(Debug, Clone)]
pub struct Host {
    root: PathBuf,
    servers: Arc<Servers>,
    mounts: Arc<Mutex<Option<Watched>>>,
    stalled: Arc<Mutex<Vec<ProcessId>>>,
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
        Host { root: root.into(), servers: Arc::default(), mounts: Arc::default(), stalled: Arc::default() }
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
        let mut most = (&file).take(LARGEST);
        let table = mountinfo::read(&mut most).context("read", path)?;
        if most.limit() == 0 {
            return Err(too_large(path, LARGEST));
        }
        let table = Arc::new(table);
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

    /// The processes whose memory could only be waited for. They are not waited for again: each time costs its patience.
    pub fn stalled(&self) -> Vec<ProcessId> {
        locked(&self.stalled).clone()
    }

    pub fn note_stalled(&self, process: ProcessId) {
        locked(&self.stalled).push(process);
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
        let most = if self.is_kernels(absolute) { LARGEST } else { LARGEST_ON_DISK };
        self.read_at_most(absolute, most)
    }

    /// The same; an error if it has more bytes than that, of which then none are read.
    pub fn read_at_most(&self, absolute: &Path, most: u64) -> Result<Vec<u8>> {
        let (file, length) = self.open_file(absolute)?;
        if length > most {
            return Err(too_large(absolute, most));
        }
        // What is read of a file of the kernel, which does not say how long it is, mostly fits into this. Others are read in
        // one call that would bring more if there were more by now, and no second one asks whether that was all.
        match length {
            0 => read_all(&file, 8 << 10, most, absolute, End::Unknown),
            length => read_all(&file, length, length, absolute, End::At(length)),
        }
    }

    /// The same of a file that the kernel writes in one piece (`single_open`, as `status` and `cgroup` of a process) or in lines
    /// of a few bytes (`cgroup.procs`): as long as half a page is free after a read, there was no more. A mount table is none of
    /// them: it ends a read where the next line does not fit, and lines are as long as they like.
    pub fn read_piece(&self, absolute: &Path) -> Result<Vec<u8>> {
        if !self.is_kernels(absolute) {
            return self.read(absolute);
        }
        let (file, _) = self.open_file(absolute)?;
        read_all(&file, 8 << 10, LARGEST, absolute, End::OfPiece)
    }

    /// True for files that the kernel itself makes, where nobody can put anything else.
    fn is_kernels(&self, absolute: &Path) -> bool {
        self.is_live() && (absolute.starts_with("/proc") || absolute.starts_with("/sys"))
    }

    /// To open a device is to use it (a watchdog starts), so what is there is looked at before it is opened: the
    /// descriptor of a place leads to what was looked at, whatever has taken its name since.
    fn open_file(&self, absolute: &Path) -> Result<(File, u64)> {
        self.reach(absolute)?;
        let flags = O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK;
        let open = |path: &Path, flags| OpenOptions::new().read(true).custom_flags(flags).open(path);
        // There the kernel has made what can be opened: a link is refused, and a directory when it is read.
        if self.is_kernels(absolute) {
            return Ok((open(absolute, flags).context("open", absolute)?, 0));
        }
        let place = open(&self.path(absolute), flags | O_PATH).context("open", absolute)?;
        let length = regular(&place, absolute)?;
        let way = format!("/proc/self/fd/{}", place.as_raw_fd());
        match open(Path::new(&way), O_CLOEXEC | O_NONBLOCK) {
            Ok(file) => Ok((file, length)),
            // The file is there: it is /proc that is not.
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                Err(malformed(absolute, "without /proc no file can be opened safely"))
            }
            Err(e) => Err(e).context("open", absolute),
        }
    }

    /// Reads a file of text, without its last newline.
    pub fn read_text(&self, absolute: &Path) -> Result<String> {
        let bytes = self.read(absolute)?;
        let text = String::from_utf8(bytes)
            .map_err(|_| Error::Malformed { path: absolute.to_path_buf(), reason: "not UTF-8".into() })?;
        Ok(text.trim_end_matches('\n').to_owned())
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

/// How standard input is called where an error names a file.
pub const STANDARD_INPUT: &str = "standard input";

/// What comes from standard input; an error if that is more than so many bytes.
pub fn read_input(most: u64) -> Result<Vec<u8>> {
    let name = Path::new(STANDARD_INPUT);
    let input = io::stdin().as_fd().try_clone_to_owned().context("read", name)?;
    read_all(&input.into(), 8 << 10, most, name, End::Unknown)
}

/// The length of a regular file; an error if it is something else.
fn regular(file: &File, path: &Path) -> Result<u64> {
    let metadata = file.metadata().context("stat", path)?;
    if metadata.is_symlink() {
        return Err(io::Error::from(Errno::ELOOP)).context("open", path);
    }
    if metadata.is_file() { Ok(metadata.len()) } else { Err(malformed(path, "not a regular file")) }
}

fn too_large(path: &Path, most: u64) -> Error {
    malformed(path, &format!("far too large: more than {} KiB", most >> 10))
}

pub(super) fn malformed(path: &Path, reason: &str) -> Error {
    Error::Malformed { path: path.to_path_buf(), reason: reason.into() }
}

/// What tells that a file has been read to its end, besides a read that brings nothing.
enum End {
    Unknown,
    /// So many bytes, if a read could have brought more.
    At(u64),
    /// A read that brings little, of the kernel's files that come in one piece.
    OfPiece,
}

/// Reads all of it; an error if that is more than this.
fn read_all(file: &File, expected: u64, most: u64, path: &Path, end: End) -> Result<Vec<u8>> {
    // One more than there should be: what has grown meanwhile shows.
    let mut bytes = Vec::with_capacity(usize::try_from(expected.min(most)).unwrap_or(0) + 1);
    loop {
        if bytes.len() == bytes.capacity() {
            bytes.reserve(bytes.len());
        }
        let room = bytes.capacity() - bytes.len();
        let now = match rustix::io::read(file, spare_capacity(&mut bytes)) {
            Err(rustix::io::Errno::INTR) => continue,
            other => other.context("read", path)?,
        };
        if bytes.len() as u64 > most {
            return Err(too_large(path, most));
        }
        let over = match end {
            End::Unknown => false,
            End::At(length) => bytes.len() as u64 == length,
            End::OfPiece => now < room && now < HALF_A_PAGE,
        };
        if now == 0 || over {
            return Ok(bytes);
        }
    }
}

impl Watched {
    /// True if something was mounted or unmounted since the file was opened or asked last; asking again needs a new read.
    fn has_changed(&self) -> bool {
        let mut fds = [PollFd::new(self.file.as_fd(), PollFlags::POLLPRI)];
        poll(&mut fds, PollTimeout::ZERO) != Ok(0)
    }
}

#[cfg(test)]
mod tests;
