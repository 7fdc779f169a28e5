//! One mount.
//!
//! Told by its directory and its mount ID. A path would not do: whoever can write to a directory on the way may put a
//! symlink in its place between our look and the unmount, and lead us to a mount of the same name that is not ours.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::mount::{MntFlags, umount2};
use nix::sched::{CloneFlags, setns};
use rustix::fs::{AtFlags, StatxFlags, statx};

use crate::engine::done::Done;
use crate::engine::step::Effort;
use crate::error::errno_of;
use crate::linux::child::{ChildEnd, in_child};
use crate::linux::fstab;
use crate::linux::holders::{self, Holders};
use crate::linux::mount_namespace::MountNamespace;
use crate::linux::tree;
use crate::remove::ability::Ability;
use crate::remove::live::Live;
use crate::residue::{Detached, Mount, Residue, TableOf};
use crate::text::show;

/// How long a file server that does not answer gets.
const SERVER_TIMEOUT: Duration = Duration::from_secs(5);

/// As many mounts below one that is detached are asked after; nobody reads more.
const MAX_BELOW: usize = 64;

/// Unmounts; as the last effort takes the mount out of the table while it is in use, and says so.
pub fn remove(live: &Live, parent: &tree::Parent, mount: &Mount, effort: Effort, deadline: Instant) -> Done {
    let Mount { id, point, fstype, table, may_hang } = mount;
    let namespace = match table {
        TableOf::Own => None,
        TableOf::Snap => live.snap_namespace.as_ref().map(MountNamespace::file),
        TableOf::Host => return Done::NotPossible { why: "only the host can unmount it".into() },
    };
    if *table == TableOf::Own
        && let Some(server) = point.parent().and_then(|above| live.host.servers().known_silent(above))
    {
        // It goes with the server's own mount, or stays with it.
        let (point, server) = (show(point), show(&server));
        let error = format!("cannot unmount '{point}': the file server of '{server}' does not answer");
        return Done::Failed { error, errno: Some(Errno::ETIMEDOUT) };
    }
    if let Some(place) = moved_from(live, mount) {
        let why = format!(
            "/etc/fstab mounts it at '{}'; somebody has moved the directory that it is on",
            show(&place)
        );
        return Done::NotPossible { why };
    }
    let unmount = Unmount { live, id: *id, parent, point, fstype, namespace, may_hang: *may_hang, deadline };
    let plain = unmount.unmount(MntFlags::empty());
    live.tried(Ability::Unmount, plain);
    if plain == Err(Errno::ETIMEDOUT) && *table == TableOf::Own {
        live.host.servers().fell_silent(point);
    }
    match plain {
        Ok(()) => Done::Gone,
        // EINVAL: no longer a mount point.
        Err(Errno::ENOENT | Errno::EINVAL) => Done::Gone,
        // Only what is in use goes out of the table as it is: a directory that was elsewhere (ELOOP, ESTALE) says nothing of that.
        Err(e) if effort != Effort::Last || !matches!(e, Errno::EBUSY | Errno::ETIMEDOUT | Errno::EIO) => {
            Done::of_path("unmount", point, Err(e))
        }
        Err(_) => detach(&unmount),
    }
}

/// Where the administrator mounts what a container has moved here. Most mounts are of no disk and no server, and need not
/// be looked up.
fn moved_from(live: &Live, mount: &Mount) -> Option<PathBuf> {
    let of_nobody = ["tmpfs", "overlay", "proc", "sysfs", "nsfs", "mqueue", "cgroup", "cgroup2", "devpts"];
    if mount.table != TableOf::Own || of_nobody.contains(&mount.fstype.as_str()) {
        return None;
    }
    let table = live.host.own_mounts().ok()?;
    let there = table.mounts.iter().find(|m| m.id == mount.id)?;
    fstab::moved_from(&live.host, &table, there)
}

/// The last resort. Whoever uses the mount goes on using it, so it is remembered as a residue of its own.
fn detach(unmount: &Unmount) -> Done {
    // What is mounted below goes out of the table with it.
    let table = if unmount.namespace.is_none() { unmount.live.host.own_mounts().ok() } else { None };
    let below: Vec<_> = table.iter().flat_map(|t| t.below(unmount.point)).take(MAX_BELOW).collect();
    let ids: Vec<u64> = std::iter::once(unmount.id).chain(below.iter().map(|m| m.id)).collect();
    let mut held = holders::of_mounts(&ids, unmount.until()).into_iter();
    let mut own = held.next().unwrap_or_default();
    // Something keeps it busy; if it is neither a process that we saw nor a mount below, nobody knows what.
    own.unknown |= own.found.is_empty() && below.is_empty();
    // Whoever it was may have let go while we looked: then nothing stays behind.
    if own.found.is_empty() && !unmount.may_hang && unmount.unmount(MntFlags::empty()) == Ok(()) {
        return Done::Gone;
    }
    match unmount.unmount(MntFlags::MNT_DETACH) {
        Ok(()) => {
            remember(unmount.live, unmount.point, unmount.fstype, own.clone());
            for (mount, held) in below.iter().zip(held).filter(|(_, h)| h.unknown || !h.found.is_empty()) {
                remember(unmount.live, mount.point(), mount.fstype(), held);
            }
            Done::Detached { holders: own.found }
        }
        Err(Errno::ENOENT | Errno::EINVAL) => Done::Gone,
        Err(e) => Done::of_path("unmount", unmount.point, Err(e)),
    }
}

fn remember(live: &Live, point: &Path, fstype: &str, held: Holders) {
    live.remember(Residue::Detached(Box::new(Detached {
        point: point.to_path_buf(),
        fstype: fstype.to_owned(),
        holders: held.found,
        holders_unknown: held.unknown,
    })));
}

/// A mount, and how to reach it.
struct Unmount<'a> {
    live: &'a Live,
    id: u64,
    parent: &'a tree::Parent,
    point: &'a Path,
    fstype: &'a str,
    namespace: Option<PathBuf>,
    may_hang: bool,
    deadline: Instant,
}

impl Unmount<'_> {
    /// Each attempt has its own time: one that hangs must not take it from the next, which may not.
    fn until(&self) -> Instant {
        self.deadline.min(Instant::now() + SERVER_TIMEOUT)
    }

    fn unmount(&self, flags: MntFlags) -> Result<(), Errno> {
        if !self.may_hang && self.namespace.is_none() {
            return unmount_from(self.parent, self.point, self.id, flags);
        }
        let end = in_child(self.until(), |out| {
            // A directory that is open here would keep its own mount busy if this child hangs.
            let own = tree::Parent::default();
            let result = self.enter().and_then(|()| unmount_from(&own, self.point, self.id, flags));
            let _ = out.write_all(&[result.map_or_else(|e| e as i32 as u8, |()| 0)]);
        });
        match end {
            Ok(ChildEnd::Finished(byte)) if byte.len() == 1 => match byte[0] {
                0 => Ok(()),
                errno => Err(Errno::from_raw(i32::from(errno))),
            },
            Ok(ChildEnd::Finished(_)) => Err(Errno::EIO),
            Ok(ChildEnd::Killed) => Err(Errno::ETIMEDOUT),
            Ok(ChildEnd::Abandoned(pid)) => {
                self.remember_child(pid);
                Err(Errno::ETIMEDOUT)
            }
            Err(e) => Err(errno_of(&e)),
        }
    }

    /// A child that hangs in the kernel has mostly taken the mount out of the table already, and writes the last of
    /// it. No later look can see it; as long as the child is there, so is the file system.
    fn remember_child(&self, pid: i32) {
        let holder = holders::describe(pid);
        let held = Holders { unknown: holder.is_err(), found: holder.into_iter().collect() };
        remember(self.live, self.point, self.fstype, held);
    }

    /// Enters the snap's mount namespace; only ever in a child.
    fn enter(&self) -> Result<(), Errno> {
        let Some(file) = &self.namespace else { return Ok(()) };
        let file = File::open(file).map_err(|e| errno_of(&e))?;
        setns(file, CloneFlags::CLONE_NEWNS)
    }
}

/// Unmounts the mount with this ID at this point, or nothing.
fn unmount_from(parent: &tree::Parent, point: &Path, id: u64, flags: MntFlags) -> Result<(), Errno> {
    let (Some(above), Some(name)) = (point.parent(), point.file_name()) else { return Err(Errno::EINVAL) };
    let above = parent.open(above).map_err(of_rustix)?;
    match id_at(&above, name)? {
        None => {}
        Some(there) if there == id => {}
        // No mount is there any more, or somebody has put another one over ours.
        Some(there) if Some(there) == id_at(&above, "")? => return Err(Errno::EINVAL),
        Some(_) => return Err(Errno::ESTALE),
    }
    // Who has not got the mount in his own mount namespace may rename its directory even now, and put one there that
    // something else is mounted on: it would be unmounted in its place. A descriptor of the mount itself would rule that out,
    // and keep it busy. What he moves in that way he could as well have removed (rmdir takes a mount off that is not in his
    // namespace); nothing on it is touched.
    let path = Path::new("/proc/self/fd").join(above.as_raw_fd().to_string()).join(name);
    umount2(&path, flags | MntFlags::UMOUNT_NOFOLLOW)
}

/// The ID of the mount that a name leads to; none on kernels that cannot tell (before 5.8). Asks no file server.
fn id_at(directory: &OwnedFd, name: impl rustix::path::Arg) -> Result<Option<u64>, Errno> {
    let flags =
        AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT | AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
    let found = statx(directory, name, flags, StatxFlags::MNT_ID).map_err(of_rustix)?;
    Ok((found.stx_mask & StatxFlags::MNT_ID.bits() != 0).then_some(found.stx_mnt_id))
}

fn of_rustix(errno: rustix::io::Errno) -> Errno {
    Errno::from_raw(errno.raw_os_error())
}
