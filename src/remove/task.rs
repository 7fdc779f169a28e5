//! One container's processes: the ladder of ways to end them under confinement.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::{ourselves, process, ttrpc};
use crate::live::{Ability, Live};
use crate::report::{Done, Rung};
use crate::residue::{ProcessId, Residue};
use crate::step::Effort;

/// How long a shim's answer is waited for; what it was asked for is waited for longer, with all else that was asked.
const CALL: Duration = Duration::from_secs(5);

/// Asks or kills without the shim, if that is allowed.
pub fn remove(live: &Live, residue: &Residue, effort: Effort) -> Done {
    let Residue::Task { processes, paused, groups, sandbox, .. } = residue else {
        return Done::NotPossible { why: "not a task".into() };
    };
    let ability = if *sandbox { Ability::SignalSandbox } else { Ability::SignalApplication };
    match effort {
        Effort::Ask => {
            if *paused {
                groups.iter().for_each(|g| thaw(live, g));
            }
            // As CRI does: the first process is told, and passes it on as it sees fit.
            let Some(init) = processes.first() else { return Done::Gone };
            shim_if_refused(process::signal(live, *init, effort, ability))
        }
        Effort::Force => force(live, processes, groups, ability),
        Effort::Last => last(live, processes, groups, ability),
    }
}

fn force(live: &Live, processes: &[ProcessId], groups: &[std::path::PathBuf], ability: Ability) -> Done {
    // One write ends whole groups, however fast they fork, and asks no security module.
    let killed = groups.iter().filter(|g| kill_group(live, g)).count();
    if killed > 0 && killed == groups.len() {
        return Done::Asked { rung: Rung::CgroupKill };
    }
    let mut worst = Done::Gone;
    for process in processes {
        let done = process::signal(live, *process, Effort::Force, ability);
        if matches!(done, Done::Refused { .. }) || worst == Done::Gone {
            worst = done;
        }
    }
    if matches!(worst, Done::Asked { .. }) {
        groups.iter().for_each(|g| thaw(live, g));
    }
    shim_if_refused(worst)
}

/// For what survives a plain SIGKILL of all its processes because it forks faster than we look: freeze, kill,
/// thaw. Only where a signal gets through, or frozen processes would stay frozen.
fn last(live: &Live, processes: &[ProcessId], groups: &[std::path::PathBuf], ability: Ability) -> Done {
    let done = force(live, processes, groups, ability);
    if done != (Done::Asked { rung: Rung::Signal }) {
        return done;
    }
    for group in groups.iter().filter(|group| !ourselves::inside(live, group)) {
        if write_file(&group.join("cgroup.freeze"), "1").is_err()
            && write_file(&group.join("freezer.state"), "FROZEN").is_err()
        {
            continue;
        }
        for pid in crate::cgroup::pids(&live.host, group).unwrap_or_default() {
            if let Some(id) = crate::proc::identity(pid) {
                process::signal(live, id, Effort::Force, ability);
            }
        }
        thaw(live, group);
    }
    Done::Asked { rung: Rung::Freezer }
}

fn shim_if_refused(done: Done) -> Done {
    match done {
        Done::Refused { errno, .. } => Done::NeedsShim { errno },
        other => other,
    }
}

/// Asks the shim to signal: it does so under the label that pods accept signals from.
pub fn remove_by_shim(
    live: &Live,
    residue: &Residue,
    effort: Effort,
    deadline: Instant,
    refused: &Done,
) -> Done {
    let Residue::Task { container, socket: Some(socket), .. } = residue else {
        return refused.clone().without_shim("it has no shim that could be asked");
    };
    let until = deadline.min(Instant::now() + CALL);
    let (signal, all) = match effort {
        Effort::Ask => (Signal::SIGTERM, false),
        Effort::Force | Effort::Last => (Signal::SIGKILL, true),
    };
    let answered = match ttrpc::kill(socket, container, signal, all, until, deadline) {
        Ok(answered) => answered,
        Err(e) => {
            live.tried(Ability::AskShim, Err(e.errno().unwrap_or(0)));
            return refused.clone().without_shim(&e.to_string());
        }
    };
    if answered {
        live.tried(Ability::AskShim, Ok(()));
    } else {
        log::debug!("the shim at '{}' has not answered yet", crate::text::show(socket));
    }
    Done::Asked { rung: Rung::Shim }
}

/// Ends everything in a group and below it. Only ever a container's own group: the ones above are shared with
/// every other kubelet of the host.
fn kill_group(live: &Live, group: &Path) -> bool {
    if ourselves::inside(live, group) {
        return false;
    }
    let result = write_file(&group.join("cgroup.kill"), "1");
    live.tried(Ability::WriteCgroups, result.as_ref().map(drop).map_err(|e| e.raw_os_error().unwrap_or(0)));
    result.is_ok()
}

fn thaw(live: &Live, group: &Path) {
    let result = write_file(&group.join("cgroup.freeze"), "0")
        .or_else(|_| write_file(&group.join("freezer.state"), "THAWED"));
    if let Err(e) = result
        && e.raw_os_error().is_some_and(crate::live::is_refusal)
    {
        live.tried(Ability::WriteCgroups, Err(e.raw_os_error().unwrap_or(0)));
    }
}

fn write_file(path: &Path, text: &str) -> std::io::Result<()> {
    OpenOptions::new().write(true).open(path)?.write_all(text.as_bytes())
}
