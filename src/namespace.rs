//! The snap's mount namespace, when we run outside of it: its mounts are in no table that we see ourselves.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sched::{CloneFlags, setns};
use rustix::fs::{Mode, OFlags, openat};

use crate::error::{Context, Result};
use crate::host::Host;
use crate::mountinfo::{self, MountTable};
use crate::network::is_nsfs;
use crate::scope::pid_namespace_depth;
use crate::snap::Snap;
use crate::sys::{ChildEnd, in_child};
use crate::view::View;

/// Where snapd keeps the namespaces of snaps, also of those of which nothing runs.
const KEPT: &str = "/run/snapd/ns";

/// A table is read in milliseconds.
const PATIENCE: Duration = Duration::from_secs(10);

/// How to reach the snap's mount namespace from outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SnapNamespace {
    /// As snapd keeps it: its mounts outlive the snap's last process.
    Kept(PathBuf),
    /// By a process that is in it; with the last of them it goes.
    OfProcess(i32),
}

impl SnapNamespace {
    /// The snap's, if we are outside of it and there is one.
    pub fn find(view: &View, snap: &Snap) -> Option<SnapNamespace> {
        if !view.in_first_namespace() {
            return None;
        }
        let kept = Path::new(KEPT).join(format!("{}.mnt", snap.instance));
        if view.host.is_live() && is_nsfs(&kept) {
            return Some(SnapNamespace::Kept(kept));
        }
        of_process(view, snap).map(SnapNamespace::OfProcess)
    }

    /// The namespace itself.
    pub fn file(&self) -> PathBuf {
        match self {
            SnapNamespace::Kept(file) => file.clone(),
            SnapNamespace::OfProcess(pid) => PathBuf::from(format!("/proc/{pid}/ns/mnt")),
        }
    }

    /// Its mount table; none if it has gone meanwhile.
    pub fn mounts(&self, host: &Host) -> Result<Option<MountTable>> {
        let bytes = match self {
            SnapNamespace::Kept(file) if !is_nsfs(file) => return Ok(None),
            SnapNamespace::Kept(file) => read_inside(file).context("read the mount table of", file),
            SnapNamespace::OfProcess(pid) => host.read(Path::new(&format!("/proc/{pid}/mountinfo"))),
        };
        match bytes {
            // Of a process that waits for its parent, the kernel says EINVAL.
            Err(e) if e.is_gone() || e.errno() == Some(nix::libc::EINVAL) => Ok(None),
            other => other.map(|bytes| Some(mountinfo::parse(&bytes))),
        }
    }
}

/// A process that is in the snap's namespace and not in ours.
fn of_process(view: &View, snap: &Snap) -> Option<i32> {
    let processes = view.processes().as_ref().ok()?;
    let own = view.mount_namespace("self")?;
    // A guest on this host that has the same snap has units of the same name; its namespace is not ours to enter.
    let depth = |pid: &str| pid_namespace_depth(view, pid);
    let of_unit = |pid: &i32| view.unit_of(*pid) == Some(snap.instance.as_str());
    let mut candidates: Vec<i32> = processes.iter().map(|p| p.id.pid).filter(of_unit).collect();
    candidates.sort_unstable();
    let elsewhere = |pid: &str| view.mount_namespace(pid).is_some_and(|its| its != own);
    candidates.into_iter().find(|pid| {
        let pid = pid.to_string();
        elsewhere(&pid) && depth(&pid) == depth("self")
    })
}

/// Nobody may be in the namespace who could be asked for its table, so a child of ours goes there. Its first byte is
/// an errno.
fn read_inside(namespace: &Path) -> io::Result<Vec<u8>> {
    let end = in_child(Instant::now() + PATIENCE, |out| {
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
