//! The last rung of the ladder: the runtime itself, started once more to end what only its label may end.
//!
//! A service that a hook leaves running survives the whole removal of the snap, so what is started here is
//! stopped again, whatever the start said, and is looked for until it is seen to be gone.

use std::ffi::OsStr;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;

use crate::engine::done::{Done, Rung};
use crate::linux::child::{self, ProgramEnd};
use crate::linux::interrupts;
use crate::remove::live::Live;
use crate::remove::service::snapctl;
use crate::residue::{Residue, RuntimeLeftRunning, Task};

/// What starting, stopping and a margin for all that comes after may take; with less left, it is not begun.
const TIME_NEEDED: Duration = Duration::from_secs(150);
/// How long one container may take to be killed.
const KILL_TIMEOUT: Duration = Duration::from_secs(15);
/// How long the service may take to be seen stopped.
const STOP_TIMEOUT: Duration = Duration::from_secs(60);

/// Kills through a freshly started runtime what refused every other way. Does nothing, and changes no answer,
/// where that is not called for. `is_stopped` looks whether no process of a service is left.
pub fn resort(
    live: &Live,
    residues: &[Residue],
    done: &mut [Done],
    deadline: Instant,
    is_stopped: &dyn Fn(&str) -> bool,
) {
    let Some(service) = &live.services.runtime else { return };
    let Some(ctr) = live.roots.ctr.as_ref().filter(|p| p.exists()) else { return };
    let mut refused: Vec<(&Task, &mut Done)> =
        residues.iter().zip(done).filter_map(|(residue, done)| needs_runtime(residue, done)).collect();
    let time = Instant::now() + TIME_NEEDED <= deadline;
    if refused.is_empty() || !time || !super::service::can_snapctl() {
        return;
    }
    log::warn!("starting {service} to end {} containers that refuse every other way", refused.len());
    let until = deadline - STOP_TIMEOUT;
    snapctl(live, "start", service, until);
    for (task, done) in &mut refused {
        if kill(live, ctr, task, until.min(Instant::now() + KILL_TIMEOUT)) {
            **done = Done::Asked { rung: Rung::Runtime };
        }
    }
    stop(live, service, deadline, is_stopped);
}

/// The container, if it is still there because confinement refused every way to its processes.
fn needs_runtime<'a>(residue: &'a Residue, done: &'a mut Done) -> Option<(&'a Task, &'a mut Done)> {
    let refused = matches!(done, Done::Failed { errno: Some(Errno::EACCES | Errno::EPERM), .. });
    match residue {
        Residue::Task(task) if refused => Some((task, done)),
        _ => None,
    }
}

/// Has the snap's own `ctr` kill a container.
fn kill(live: &Live, ctr: &Path, task: &Task, until: Instant) -> bool {
    let Task { container, .. } = task;
    let address = live.roots.address.as_os_str();
    let arguments =
        ["--address".as_ref(), address, "--namespace".as_ref(), container.namespace.as_str().as_ref()];
    let verb = ["tasks", "kill", "--all", "--signal", "SIGKILL", &container.id].map(OsStr::new);
    let end = child::run(ctr, &[&arguments[..], &verb[..]].concat(), &[], false, until);
    matches!(&end, Ok((ProgramEnd::Exited(status), _)) if status.success())
}

/// Stops the runtime and looks until no process of it is seen; snapd may be busy with another change for a while.
fn stop(live: &Live, service: &str, deadline: Instant, is_stopped: &dyn Fn(&str) -> bool) {
    let until = deadline.min(Instant::now() + STOP_TIMEOUT);
    loop {
        snapctl(live, "stop", service, until);
        if is_stopped(service) {
            return;
        }
        if Instant::now() >= until {
            let left = RuntimeLeftRunning { name: service.to_owned() };
            return live.remember(Residue::RuntimeLeftRunning(left));
        }
        interrupts::pause(&live.interrupts, Duration::from_secs(1));
    }
}
