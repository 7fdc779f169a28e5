//! A command in a container, run by its shim: what `kubectl exec` does, with containerd dead.
//!
//! [`start`] has it started and hangs up: it goes on. Its end is an event of its process, which the caller waits for together
//! with all others; [`finish`] then asks for the status, and lets the shim forget it. It lives in the container's own
//! control group, and ends with the container at the latest.
//!
//! Each one makes three events that nobody collects while containerd is dead. A shim keeps 128 of them, and hangs
//! at the next one (containerd `pkg/shim`, the publisher's queue): [`MOST_PER_SHIM`].

use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use super::ContainerId;
use super::ttrpc::ShimClient;
use super::wire::{Message, first_number};
use crate::error::{Error, Result};

/// So many commands are run by one shim at most.
pub const MOST_PER_SHIM: usize = 25;

/// The type of a `process` in a spec, as containerd registers it.
const PROCESS: &str = "types.containerd.io/opencontainers/runtime-spec/1/Process";

/// Where both outputs go. None at all would be opened for reading only, so that the first word that a command prints is an
/// error to it; and one without the other ends the shim (go-runc `io_unix.go`, `NullIO`; seen with 1.6, 1.7 and 2.1).
const NOWHERE: &str = "file:///dev/null";

/// A command that was started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Started {
    /// The name by which the shim knows it.
    pub id: String,
    /// Its process, in our own pid namespace.
    pub pid: i32,
}

/// Has the shim that listens there start a command; `process` is a spec's, in JSON. Returns when it runs: a tenth of a second,
/// more on a busy machine. What has not been started by then is not started at all.
pub fn start(path: &Path, container: &ContainerId, process: &str, until: Instant) -> Result<Started> {
    let id = new_id();
    let shim = ShimClient::connect(path, &container.namespace, until)?;
    let spec = Message::default().text(1, PROCESS).text(2, process);
    let exec = of(container, &id).text(5, NOWHERE).text(6, NOWHERE).message(7, &spec);
    shim.ask("Exec", &exec)?;
    match shim.ask("Start", &of(container, &id)).and_then(|answer| number(path, &answer)) {
        Ok(pid) => Ok(Started { id, pid: pid.cast_signed() }),
        Err(error) => {
            // A program that does not exist, for one: the shim keeps what was not started until it is told to forget it.
            let _ = forget(&shim, container, &id);
            Err(error)
        }
    }
}

/// The status of a command whose process has ended; the shim forgets it. Ended by a signal, it is 128 and the signal.
///
/// The shim hears of the end a moment after us, and refuses to forget what it takes to be running ("cannot delete a running
/// process"; seen with 1.7 and 2.1). So it is asked to wait first. It would do so for as long as the process runs, whatever
/// time-out it is given.
pub fn finish(path: &Path, container: &ContainerId, started: &Started, until: Instant) -> Result<u32> {
    let shim = ShimClient::connect(path, &container.namespace, until)?;
    let status = number(path, &shim.ask("Wait", &of(container, &started.id))?)?;
    // That the container may have ended meanwhile, and the command with it, does not change how it ended.
    let _ = forget(&shim, container, &started.id);
    Ok(status)
}

/// A name that no earlier command has: an earlier run, cut short, may have left one.
fn new_id() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    format!("teardown-{now:x}-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

fn forget(shim: &ShimClient, container: &ContainerId, exec_id: &str) -> Result<()> {
    shim.ask("Delete", &of(container, exec_id)).map(drop)
}

/// What every message about a command begins with.
fn of(container: &ContainerId, exec_id: &str) -> Message {
    Message::of(&container.id).text(2, exec_id)
}

fn number(path: &Path, answer: &[u8]) -> Result<u32> {
    let malformed =
        || Error::Malformed { path: path.into(), reason: "the shim's answer is no message".into() };
    first_number(answer).ok_or_else(malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_have_the_same_name() {
        let mut names: Vec<_> = (0..1000).map(|_| new_id()).collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), 1000);
        // containerd's rule for identifiers (pkg/identifiers).
        assert!(
            names
                .iter()
                .all(|name| name.len() <= 76 && crate::runtime::shim::name(name.as_bytes()).is_some())
        );
    }

    #[test]
    fn a_shim_that_is_not_there_is_no_shim() {
        let dir = tempfile::tempdir().unwrap();
        let container = ContainerId { namespace: "k8s.io".into(), id: "a".into() };
        let error = start(&dir.path().join("s"), &container, "{}", Instant::now()).unwrap_err();
        assert_eq!(error.errno(), Some(nix::libc::ENOENT));
    }
}
