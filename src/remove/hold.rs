//! Shims that are kept still while their containers are killed.
//!
//! A shim that sees a container die works for two milliseconds: it reads the bundle, and tells a containerd that has ended.
//! Nobody reads what it tells, and it is killed next. For a hundred pods at once, that is as much work as ours, and it keeps the
//! kernel, which takes containers apart, from both processors. A stopped shim does none of it, and SIGKILL ends it as it is.
//!
//! Shims go on as soon as a process takes long to end: it may be waiting for one of them. The first process of a PID namespace
//! ends when all others in it are reaped, and the shim is the parent of processes started by exec, and of all containers in a
//! shared PID namespace. A shim that is not killed goes on, too: where its container lives after all, where it is asked for
//! something, and at the end of the run. A run that SIGKILL or a crash ends meanwhile leaves shims stopped; the next one lets
//! them go on before it asks anybody to end.

use std::collections::HashSet;
use std::time::Duration;

use nix::libc::{SIGCONT, SIGSTOP};

use crate::linux::proc::ProcessId;
use crate::linux::process::{open_process, signal, signal_opened};
use crate::remove::ability::Ability;
use crate::remove::live::Live;
use crate::remove::process;
use crate::residue::Residue;
use crate::runtime::ContainerId;
use crate::scope::{OwnedShim, Scope};
use crate::view::View;

/// So many stay open until they are killed; the descriptors of a process may be few.
const MAX_OPEN: usize = 256;

/// How long a killed process may take to end before shims go on. The first of many takes longest, and mostly less.
pub const PATIENCE: Duration = Duration::from_millis(200);

/// Stops the shims of those containers among these that are about to be killed: only where containers can be killed without
/// a shim's help.
pub fn hold(live: &Live, scope: &Scope, residues: &[Residue]) {
    let mut dying: HashSet<&ContainerId> = HashSet::new();
    for residue in residues {
        if let Residue::Task(task) = residue {
            dying.insert(&task.container);
        }
    }
    if dying.is_empty() || !live.granted(Ability::WriteCgroups) {
        return;
    }
    let by_shim = scope.by_shim();
    let serves = |shim: &&OwnedShim| scope.served_by(shim, &by_shim).iter().any(|c| dying.contains(&c.id));
    for shim in scope.shims.iter().filter(serves) {
        if process::is_untouchable(shim.process) || !stop(live, shim.process) {
            return;
        }
    }
}

/// False if it may not be stopped. If we may stop a shim but not resume it, we must not stop any; so SIGCONT is tried first.
fn stop(live: &Live, shim: ProcessId) -> bool {
    let opened = match open_process(shim) {
        Ok(None) => return true,
        other => other.ok().flatten(),
    };
    for number in [SIGCONT, SIGSTOP] {
        match signal_opened(shim, opened.as_ref(), number) {
            Ok(true) => {}
            Ok(false) => return true,
            Err(_) => return false,
        }
    }
    live.note_held(shim, opened, MAX_OPEN);
    true
}

/// Lets shims go on that an earlier run has left stopped.
pub fn resume_stopped(scope: &Scope, view: &View) {
    let Ok(processes) = view.processes() else { return };
    let is_stopped = |shim: &&OwnedShim| processes.alive(shim.process).is_some_and(|p| p.state == 'T');
    for shim in scope.shims.iter().filter(is_stopped) {
        if let Err(e) = signal(shim.process, SIGCONT) {
            log::warn!("cannot resume the stopped shim {}: {e}", shim.process.pid);
        }
    }
}

/// Lets a shim go on, if it was stopped.
pub fn release(live: &Live, shim: ProcessId) {
    if !live.forget_held(shim) {
        return;
    }
    if let Err(e) = process::send(live, shim, SIGCONT) {
        log::warn!("cannot resume the stopped shim {}: {e}", shim.pid);
        live.note_held(shim, None, MAX_OPEN);
    }
}

/// Lets all go on that were stopped.
pub fn release_all(live: &Live) {
    live.held().into_iter().for_each(|shim| release(live, shim));
}

impl Drop for Live {
    /// However the run ends, if not by SIGKILL or a crash: no shim stays stopped.
    fn drop(&mut self) {
        release_all(self);
    }
}

#[cfg(test)]
mod tests;
