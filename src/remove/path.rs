//! One file, socket or directory that the runtime left.

use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use super::tree;
use crate::live::{Ability, Live, is_refusal};
use crate::report::{Done, Rung};
use crate::residue::PathKind;
use crate::sys::{Child, ChildEnd};

/// How long it may take where a file system that may not answer is near.
const SERVER: Duration = Duration::from_secs(5);

/// How a kind of thing is deleted.
type Delete = fn(&tree::Parent, &Path) -> tree::Deleted;

/// Deletes it, with what it holds if it is a directory; in a child, so that neither millions of files nor a
/// file system that does not answer can keep us.
pub fn remove(live: &Live, parent: &tree::Parent, path: &Path, what: PathKind, deadline: Instant) -> Done {
    let delete: Delete = match what {
        PathKind::Data | PathKind::Bundle | PathKind::RuncState | PathKind::Fifo => tree::delete_in,
        // Of these only the name goes: a directory that has taken its place since the look is somebody else's.
        PathKind::ShimSocket
        | PathKind::RuntimeSocket
        | PathKind::CniResult
        | PathKind::CniLease
        | PathKind::PluginSocket
        | PathKind::HostSymlink => tree::unlink_in,
    };
    let done = match what {
        PathKind::Data => in_bounded_child(path, delete, deadline),
        _ if live.host.servers().near(path) => {
            in_bounded_child(path, delete, deadline.min(Instant::now() + SERVER))
        }
        _ => done(path, delete(parent, path)),
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

fn in_bounded_child(path: &Path, delete: Delete, deadline: Instant) -> Done {
    begin(path, delete).finish(deadline)
}

/// Begins to delete a directory of data. All are begun before the first is waited for: so one whose file system does not
/// answer takes none of the others' time.
pub fn begin_data(path: &Path) -> Begun<'_> {
    begin(path, tree::delete_in)
}

fn begin(path: &Path, delete: Delete) -> Begun<'_> {
    let child = Child::start(|out| {
        let _ = serde_json::to_writer(&mut *out, &delete(&tree::Parent::default(), path));
        let _ = out.flush();
    });
    Begun { path, child }
}

/// A child that deletes something.
pub struct Begun<'a> {
    path: &'a Path,
    child: std::io::Result<Child>,
}

impl Begun<'_> {
    /// What became of it, at the deadline at the latest.
    pub fn finish(self, deadline: Instant) -> Done {
        let Begun { path, child } = self;
        match child.map(|child| child.attend(deadline)) {
            Ok(ChildEnd::Finished(json)) => match serde_json::from_slice(&json) {
                Ok(deleted) => done(path, deleted),
                Err(e) => Done::Failed {
                    error: format!("cannot delete '{}': {e}", crate::text::show(path)),
                    errno: 0,
                },
            },
            Ok(ChildEnd::Killed) => Done::Failed {
                error: "the time was not enough to delete it".into(),
                errno: nix::libc::ETIMEDOUT,
            },
            Ok(ChildEnd::Abandoned(pid)) => Done::Failed {
                error: format!("deleting hangs in the kernel; process {pid} was abandoned"),
                errno: nix::libc::ETIMEDOUT,
            },
            Err(e) => Done::Failed { error: e.to_string(), errno: e.raw_os_error().unwrap_or(0) },
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn directories_that_were_begun_are_deleted_side_by_side() {
        fn slow(_: &tree::Parent, _: &Path) -> tree::Deleted {
            std::thread::sleep(Duration::from_millis(500));
            tree::Deleted::default()
        }
        let started = Instant::now();
        let begun: Vec<Begun> = (0..4).map(|_| begin(Path::new("/data"), slow)).collect();
        let until = started + Duration::from_secs(60);
        assert!(begun.into_iter().all(|begun| begun.finish(until) == Done::Gone));
        assert!(started.elapsed() < Duration::from_millis(4 * 500));
        // One that takes too long leaves the others what they have done.
        let until = Instant::now() + Duration::from_millis(50);
        let hung = begin(Path::new("/hung"), |_, _| {
            loop {
                std::thread::park();
            }
        });
        let whole = begin(Path::new("/whole"), |_, _| tree::Deleted::default());
        assert!(matches!(hung.finish(until), Done::Failed { errno: nix::libc::ETIMEDOUT, .. }));
        assert_eq!(whole.finish(until), Done::Gone);
    }

    #[test]
    fn a_directory_in_the_place_of_a_link_or_a_socket_stays_with_all_it_holds() {
        let live = Live::new(crate::sys::Interrupts::take().unwrap()).unwrap();
        let dir = tempfile::tempdir().unwrap();
        // As where a symlink into the snap was seen, and another kubelet has made its own directory meanwhile.
        let path = dir.path().canonicalize().unwrap().join("kubelet");
        fs::create_dir(&path).unwrap();
        fs::write(path.join("data"), "theirs").unwrap();
        let parent = tree::Parent::default();
        let until = Instant::now() + std::time::Duration::from_secs(5);
        for what in [PathKind::HostSymlink, PathKind::ShimSocket, PathKind::PluginSocket, PathKind::CniLease]
        {
            let done = remove(&live, &parent, &path, what, until);
            assert!(matches!(done, Done::Failed { .. }), "{what:?}: {done:?}");
            assert_eq!(fs::read_to_string(path.join("data")).unwrap(), "theirs", "{what:?}");
        }
        assert_eq!(remove(&live, &parent, &path, PathKind::Bundle, until), Done::Gone);
        let link = path.with_file_name("link");
        std::os::unix::fs::symlink("/etc", &link).unwrap();
        assert_eq!(remove(&live, &parent, &link, PathKind::HostSymlink, until), Done::Gone);
        assert!(!path.exists() && fs::symlink_metadata(link).is_err());
    }
}
