//! One file, socket or directory that the runtime left.

use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;

use crate::engine::done::{Done, Rung};
use crate::error::{errno_of, is_refusal};
use crate::linux::child::{Child, ChildEnd};
use crate::linux::tree;
use crate::remove::ability::Ability;
use crate::remove::live::Live;
use crate::residue::{self, PathKind};
use crate::text::{show, write_json};

/// How long it may take where a file system that may not answer is near.
const SERVER_TIMEOUT: Duration = Duration::from_secs(5);

/// As much is deleted in some tenths of a second; a bundle has a dozen entries.
const AT_ONCE: u64 = 10_000;

/// How a kind of thing is deleted.
type Delete = fn(&tree::Parent, &Path) -> tree::Deleted;

/// Deletes it, with what it holds if it is a directory; in a child, so that neither millions of files nor a
/// file system that does not answer can keep us.
pub fn remove(live: &Live, parent: &tree::Parent, it: &residue::Path, deadline: Instant) -> Done {
    let residue::Path { path, what } = it;
    let whole = match what {
        PathKind::Data
        | PathKind::Bundle
        | PathKind::RuncState
        | PathKind::RuntimeState
        | PathKind::Fifo
        | PathKind::PodLogs => true,
        PathKind::Moved => {
            return Done::NotPossible {
                why: "it lies outside of the snap's own directories, where nothing is deleted because of its place".into(),
            };
        }
        // Of these only the name goes: a directory that has taken its place since the look is somebody else's.
        PathKind::ShimSocket
        | PathKind::RuntimeSocket
        | PathKind::CniResult
        | PathKind::CniLease
        | PathKind::PluginSocket
        | PathKind::PodLogLink
        | PathKind::HostSymlink
        | PathKind::EmptyDirectory
        | PathKind::CniNetwork => false,
    };
    let delete: Delete = match what {
        PathKind::CniNetwork | PathKind::EmptyDirectory => tree::rmdir_in,
        _ if whole => tree::delete_in,
        _ => tree::unlink_in,
    };
    let done = match what {
        PathKind::Data => in_bounded_child(path, delete, deadline),
        _ if live.host.servers().near(path) => {
            in_bounded_child(path, delete, deadline.min(Instant::now() + SERVER_TIMEOUT))
        }
        _ => {
            let deleted = match whole {
                true => tree::delete_some_in(parent, path, AT_ONCE),
                false => delete(parent, path),
            };
            // Millions of entries take minutes, and we have a deadline to keep.
            if deleted.cut { in_bounded_child(path, delete, deadline) } else { done(path, deleted) }
        }
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
pub fn begin_data(path: &Path) -> PendingDelete<'_> {
    begin(path, tree::delete_in)
}

fn begin(path: &Path, delete: Delete) -> PendingDelete<'_> {
    let child = Child::start(|out| {
        let _ = write_json(out, &delete(&tree::Parent::default(), path));
        let _ = out.flush();
    });
    PendingDelete { path, child }
}

/// A child that deletes something.
pub struct PendingDelete<'a> {
    path: &'a Path,
    child: std::io::Result<Child>,
}

impl PendingDelete<'_> {
    /// What became of it, at the deadline at the latest.
    pub fn finish(self, deadline: Instant) -> Done {
        let PendingDelete { path, child } = self;
        match child.map(|child| child.attend(deadline)) {
            Ok(ChildEnd::Finished(json)) => match crate::json::parse(&json) {
                Ok(deleted) => done(path, deleted),
                Err(e) => Done::Failed { error: format!("cannot delete '{}': {e}", show(path)), errno: None },
            },
            Ok(ChildEnd::Killed) => Done::Failed {
                error: "the time was not enough to delete it".into(),
                errno: Some(Errno::ETIMEDOUT),
            },
            Ok(ChildEnd::Abandoned(pid)) => Done::Failed {
                error: format!("deleting hangs in the kernel; process {pid} was abandoned"),
                errno: Some(Errno::ETIMEDOUT),
            },
            Err(e) => Done::Failed { error: e.to_string(), errno: Some(errno_of(&e)) },
        }
    }
}

fn done(path: &Path, deleted: tree::Deleted) -> Done {
    match deleted.failures.first() {
        None => Done::Gone,
        Some(failure) if is_refusal(Errno::from_raw(failure.errno)) && failure.path == path => {
            Done::Refused { rung: Rung::Remove, errno: Errno::from_raw(failure.errno) }
        }
        Some(failure) => Done::Failed {
            error: match deleted.failed {
                1 => failure.to_string(),
                n => format!("{failure} (and {} more)", n - 1),
            },
            errno: Some(Errno::from_raw(failure.errno)),
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
        let begun: Vec<PendingDelete> = (0..4).map(|_| begin(Path::new("/data"), slow)).collect();
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
        assert!(matches!(hung.finish(until), Done::Failed { errno: Some(Errno::ETIMEDOUT), .. }));
        assert_eq!(whole.finish(until), Done::Gone);
    }

    #[test]
    fn a_directory_in_the_place_of_a_link_or_a_socket_stays_with_all_it_holds() {
        let live = crate::fixture::live();
        let dir = tempfile::tempdir().unwrap();
        // As where a symlink into the snap was seen, and another kubelet has made its own directory meanwhile.
        let path = dir.path().canonicalize().unwrap().join("kubelet");
        fs::create_dir(&path).unwrap();
        fs::write(path.join("data"), "theirs").unwrap();
        let parent = tree::Parent::default();
        let until = Instant::now() + std::time::Duration::from_secs(5);
        for what in [PathKind::HostSymlink, PathKind::ShimSocket, PathKind::PluginSocket, PathKind::CniLease]
        {
            let done = remove(&live, &parent, &residue::Path { path: (*path).into(), what }, until);
            assert!(matches!(done, Done::Failed { .. }), "{what:?}: {done:?}");
            assert_eq!(fs::read_to_string(path.join("data")).unwrap(), "theirs", "{what:?}");
        }
        assert_eq!(
            remove(&live, &parent, &residue::Path { path: (*path).into(), what: PathKind::Bundle }, until),
            Done::Gone
        );
        let link = path.with_file_name("link");
        std::os::unix::fs::symlink("/etc", &link).unwrap();
        assert_eq!(
            remove(
                &live,
                &parent,
                &residue::Path { path: (*link).into(), what: PathKind::HostSymlink },
                until
            ),
            Done::Gone
        );
        assert!(!path.exists() && fs::symlink_metadata(link).is_err());
    }
}
