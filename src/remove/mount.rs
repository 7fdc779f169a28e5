//! One mount.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::mount::{MntFlags, umount2};
use nix::sched::{CloneFlags, setns};

use crate::holders;
use crate::live::{Ability, Live};
use crate::report::{Done, Rung};
use crate::residue::{Residue, TableOf};
use crate::step::Effort;
use crate::sys::{ChildEnd, in_child};

/// How long a file server that does not answer gets.
const SERVER: Duration = Duration::from_secs(5);

/// Unmounts; as the last effort takes the mount out of the table while it is in use, and says so.
pub fn remove(live: &Live, residue: &Residue, effort: Effort, deadline: Instant) -> Done {
    let Residue::Mount { id, point, fstype, table, may_hang } = residue else {
        return Done::NotPossible { why: "not a mount".into() };
    };
    let namespace = match table {
        TableOf::Own => None,
        TableOf::Snap => live.snap_namespace.as_ref().map(|n| n.file.clone()),
        TableOf::Host => return Done::NotPossible { why: "only the host can unmount it".into() },
    };
    let way = Way { namespace, may_hang: *may_hang, until: deadline.min(Instant::now() + SERVER) };
    let plain = way.unmount(point, MntFlags::UMOUNT_NOFOLLOW);
    live.tried(Ability::Unmount, plain.map_err(|e| e as i32));
    match plain {
        Ok(()) => Done::Gone,
        // EINVAL: no longer a mount point.
        Err(Errno::ENOENT | Errno::EINVAL) => Done::Gone,
        Err(e) if effort != Effort::Last => fail(point, e),
        Err(_) => detach(live, &way, *id, point, fstype),
    }
}

/// The last resort. Whoever uses the mount goes on using it, so it is remembered as a residue of its own.
fn detach(live: &Live, way: &Way, id: u64, point: &Path, fstype: &str) -> Done {
    let held = holders::of_mount(id, way.until);
    match way.unmount(point, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
        Ok(()) => {
            live.remember(Residue::Detached {
                point: point.to_path_buf(),
                fstype: fstype.to_owned(),
                holders: held.found.clone(),
                holders_unknown: held.unknown,
            });
            Done::Detached { holders: held.found }
        }
        Err(Errno::ENOENT | Errno::EINVAL) => Done::Gone,
        Err(e) => fail(point, e),
    }
}

fn fail(point: &Path, errno: Errno) -> Done {
    if crate::live::is_refusal(errno as i32) {
        return Done::refused(Rung::Remove, errno as i32);
    }
    Done::failed("unmount", point, errno as i32)
}

/// How to reach a mount.
struct Way {
    namespace: Option<PathBuf>,
    may_hang: bool,
    until: Instant,
}

impl Way {
    fn unmount(&self, point: &Path, flags: MntFlags) -> Result<(), Errno> {
        if !self.may_hang && self.namespace.is_none() {
            return umount2(point, flags);
        }
        let end = in_child(self.until, |out| {
            let result = self.enter().and_then(|()| umount2(point, flags));
            let _ = out.write_all(&[result.map_or_else(|e| e as i32 as u8, |()| 0)]);
        });
        match end {
            Ok(ChildEnd::Finished(byte)) if byte.len() == 1 => match byte[0] {
                0 => Ok(()),
                errno => Err(Errno::from_raw(i32::from(errno))),
            },
            Ok(ChildEnd::Finished(_)) => Err(Errno::EIO),
            Ok(ChildEnd::Killed | ChildEnd::Abandoned(_)) => Err(Errno::ETIMEDOUT),
            Err(e) => Err(Errno::from_raw(e.raw_os_error().unwrap_or(0))),
        }
    }

    /// Enters the snap's mount namespace; only ever in a child.
    fn enter(&self) -> Result<(), Errno> {
        let Some(file) = &self.namespace else { return Ok(()) };
        let file = File::open(file).map_err(|e| Errno::from_raw(e.raw_os_error().unwrap_or(0)))?;
        setns(file, CloneFlags::CLONE_NEWNS)
    }
}
