//! Another mount namespace than our own: its mounts are in no table that we see ourselves.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sched::{CloneFlags, setns};
use rustix::fs::{Mode, OFlags, openat};

use crate::error::{Context, Result};
use crate::linux::child::{ChildEnd, in_child};
use crate::linux::host::Host;
use crate::linux::mountinfo::{self, MountTable};

/// A table is read in milliseconds.
const READ_TIMEOUT: Duration = Duration::from_secs(10);

/// The name of a process's mount namespace, if we may know it.
pub fn name(host: &Host, pid: &str) -> Option<PathBuf> {
    std::fs::read_link(host.path(Path::new(&format!("/proc/{pid}/ns/mnt")))).ok()
}

/// How to reach a mount namespace from outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MountNamespace {
    /// By a file that it is bound to: its mounts outlive its last process.
    Kept(PathBuf),
    /// By a process that is in it; with the last of them it goes.
    OfProcess(i32),
}

impl MountNamespace {
    /// The namespace itself.
    pub fn file(&self) -> PathBuf {
        match self {
            MountNamespace::Kept(file) => file.clone(),
            MountNamespace::OfProcess(pid) => PathBuf::from(format!("/proc/{pid}/ns/mnt")),
        }
    }

    /// Its mount table; none if it has gone meanwhile.
    pub fn mounts(&self, host: &Host) -> Result<Option<MountTable>> {
        let bytes = match self {
            MountNamespace::Kept(file) if !is_nsfs(file) => return Ok(None),
            MountNamespace::Kept(file) => read_inside(file).context("read the mount table of", file),
            MountNamespace::OfProcess(pid) => host.read(Path::new(&format!("/proc/{pid}/mountinfo"))),
        };
        match bytes {
            // Of a process that waits for its parent, the kernel says EINVAL.
            Err(e) if e.is_gone() || e.errno() == Some(nix::libc::EINVAL) => Ok(None),
            other => other.map(|bytes| Some(mountinfo::parse(&bytes))),
        }
    }
}

/// Nobody may be in the namespace who could be asked for its table, so a child of ours goes there. Its first byte is
/// an errno.
fn read_inside(namespace: &Path) -> io::Result<Vec<u8>> {
    let end = in_child(Instant::now() + READ_TIMEOUT, |out| {
        let _ = match enter_and_read(namespace) {
            Ok(bytes) => out.write_all(&[0]).and_then(|()| out.write_all(&bytes)),
            Err(e) => out.write_all(&[e.raw_os_error().unwrap_or(Errno::EIO as i32) as u8]),
        };
    })?;
    let ChildEnd::Finished(mut said) = end else { return Err(io::Error::from(Errno::ETIMEDOUT)) };
    match said.first() {
        Some(0) => {
            said.remove(0);
            Ok(said)
        }
        Some(errno) => Err(io::Error::from_raw_os_error(i32::from(*errno))),
        None => Err(io::Error::from(Errno::EIO)),
    }
}

fn enter_and_read(namespace: &Path) -> io::Result<Vec<u8>> {
    // There may be no /proc in it, or another one.
    let proc = File::open("/proc")?;
    setns(File::open(namespace)?, CloneFlags::CLONE_NEWNS)?;
    let mut table =
        File::from(openat(&proc, "self/mountinfo", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?);
    let mut bytes = Vec::new();
    table.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// True if a namespace is bound here: the file below the mount is an ordinary one.
pub(crate) fn is_nsfs(path: &Path) -> bool {
    const NSFS: nix::sys::statfs::FsType = nix::sys::statfs::FsType(0x6e73_6673);
    nix::sys::statfs::statfs(path).is_ok_and(|s| s.filesystem_type() == NSFS)
}
