//! The last rung of the ladder: the runtime itself, started once more to end what only its label may end.
//!
//! A service that a hook leaves running survives the whole removal of the snap, so what is started here is
//! stopped again, whatever the start said, and is looked for until it is seen to be gone.

use std::ffi::OsStr;
use std::time::{Duration, Instant};

use nix::libc::{EACCES, EPERM};

use super::service::snapctl;
use crate::live::Live;
use crate::report::{Done, Rung};
use crate::residue::Residue;
use crate::scope::Scope;
use crate::steps;
use crate::sys::{self, ProgramEnd};
use crate::view::View;

/// What starting, stopping and a margin for all that comes after may take; with less left, it is not begun.
const NEEDED: Duration = Duration::from_secs(150);
/// How long one container may take to be killed.
const KILL: Duration = Duration::from_secs(15);
/// How long the service may take to be seen stopped.
const STOP: Duration = Duration::from_secs(60);

/// Kills through a freshly started runtime what refused every other way. Does nothing, and changes no answer,
/// where that is not called for.
pub fn resort(live: &Live, scope: &Scope, residues: &[Residue], done: &mut [Done], deadline: Instant) {
    let Some(service) = &scope.services.runtime else { return };
    let Some(ctr) = scope.roots.ctr.as_ref().filter(|p| p.exists()) else { return };
    let out_of_reach: Vec<usize> =
        (0..residues.len()).filter(|i| needs_runtime(&residues[*i], &done[*i])).collect();
    let time = Instant::now() + NEEDED <= deadline;
    if out_of_reach.is_empty() || !time || !super::service::can_snapctl() {
        return;
    }
    log::warn!("starting {service} to end {} containers that refuse every other way", out_of_reach.len());
    snapctl(live, scope, "start", service, deadline - STOP);
    for i in out_of_reach {
        let Residue::Task { container, .. } = &residues[i] else { continue };
        let address = scope.roots.address.as_os_str();
        let arguments = ["--address".as_ref(), address, "--namespace".as_ref(), container.namespace.as_ref()];
        let verb = ["tasks", "kill", "--all", "--signal", "SIGKILL", &container.id].map(OsStr::new);
        let until = (deadline - STOP).min(Instant::now() + KILL);
        let end = sys::run(ctr, &[&arguments[..], &verb[..]].concat(), &[], false, until);
        if matches!(&end, Ok((ProgramEnd::Exited(status), _)) if status.success()) {
            done[i] = Done::Asked { rung: Rung::Runtime };
        }
    }
    stop(live, scope, service, deadline);
}

/// True for a container that is still there because confinement refused every way to its processes.
fn needs_runtime(residue: &Residue, done: &Done) -> bool {
    let refused = matches!(done, Done::Failed { errno, .. } if matches!(*errno, EACCES | EPERM));
    refused && matches!(residue, Residue::Task { .. })
}

/// Stops the runtime and looks until no process of it is seen; snapd may be busy with another change for a while.
fn stop(live: &Live, scope: &Scope, service: &str, deadline: Instant) {
    let until = deadline.min(Instant::now() + STOP);
    loop {
        snapctl(live, scope, "stop", service, until);
        let view = View::new(&live.host, None);
        if steps::service_is_stopped(&view, scope, service) {
            return;
        }
        if Instant::now() >= until {
            return live.remember(Residue::RuntimeLeftRunning { name: service.to_owned() });
        }
        sys::pause(&live.interrupts, Duration::from_secs(1));
    }
}
