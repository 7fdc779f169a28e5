//! One file, socket or directory that the runtime left.

use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use super::tree;
use crate::live::{Ability, Live, is_refusal};
use crate::report::{Done, Rung};
use crate::residue::PathKind;
use crate::sys::{ChildEnd, in_child};

/// How long it may take where a file system that may not answer is near.
const SERVER: Duration = Duration::from_secs(5);

/// Deletes it, with what it holds if it is a directory; in a child, so that neither millions of files nor a
/// file system that does not answer can keep us.
pub fn remove(live: &Live, parent: &tree::Parent, path: &Path, what: PathKind, deadline: Instant) -> Done {
    let done = match what {
        PathKind::Data => in_bounded_child(path, deadline),
        _ if live.host.servers().near(path) => in_bounded_child(path, deadline.min(Instant::now() + SERVER)),
        _ => done(path, tree::delete_in(parent, path)),
    };
    if matches!(what, PathKind::RuncState | PathKind::ShimSocket | PathKind::Fifo) {
        match &done {
            Done::Gone => live.tried(Ability::RuntimeState, Ok(())),
            Done::Refused { errno, .. } => live.tried(Ability::RuntimeState, Err(*errno)),
            _ => {}
        }
    }
    done
}

fn in_bounded_child(path: &Path, deadline: Instant) -> Done {
    let end = in_child(deadline, |out| {
        let _ = serde_json::to_writer(&mut *out, &tree::delete(path));
        let _ = out.flush();
    });
    match end {
        Ok(ChildEnd::Finished(json)) => match serde_json::from_slice(&json) {
            Ok(deleted) => done(path, deleted),
            Err(e) => {
                Done::Failed { error: format!("cannot delete '{}': {e}", crate::text::show(path)), errno: 0 }
            }
        },
        Ok(ChildEnd::Killed) => {
            Done::Failed { error: "the time was not enough to delete it".into(), errno: nix::libc::ETIMEDOUT }
        }
        Ok(ChildEnd::Abandoned(pid)) => Done::Failed {
            error: format!("deleting hangs in the kernel; process {pid} was abandoned"),
            errno: nix::libc::ETIMEDOUT,
        },
        Err(e) => Done::Failed { error: e.to_string(), errno: e.raw_os_error().unwrap_or(0) },
    }
}

fn done(path: &Path, deleted: tree::Deleted) -> Done {
    match deleted.failures.first() {
        None => Done::Gone,
        Some(failure) if is_refusal(failure.errno) && failure.path == path => {
            Done::refused(Rung::Remove, failure.errno)
        }
        Some(failure) => Done::Failed {
            error: match deleted.failed {
                1 => failure.to_string(),
                n => format!("{failure} (and {} more)", n - 1),
            },
            errno: failure.errno,
        },
    }
}
