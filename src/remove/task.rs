//! One container's processes: the ladder of ways to end them under confinement.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::engine::done::{Done, Rung};
use crate::engine::step::Effort;
use crate::error::{errno_of, is_refusal};
use crate::linux::cgroup::group;
use crate::linux::proc::{identity, is_leaderless};
use crate::remove::ability::Ability;
use crate::remove::live::Live;
use crate::remove::process::{self, signal_of};
use crate::residue::Task;
use crate::runtime::ttrpc;
use crate::text::show;

/// How long a shim's answer is waited for; what it was asked for is waited for longer, with all else that was asked.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// Asks or kills without the shim, if that is allowed.
pub fn remove(live: &Live, task: &Task, effort: Effort) -> Done {
    let ability = if task.sandbox { Ability::SignalSandbox } else { Ability::SignalApplication };
    match effort {
        Effort::Ask => ask(live, task, signal_of(effort)),
        Effort::Force => force(live, task, ability),
        Effort::Last => last(live, task, ability),
    }
}

/// As CRI does: the first process is told, and passes it on as it sees fit.
pub fn ask(live: &Live, task: &Task, signal: i32) -> Done {
    let ability = if task.sandbox { Ability::SignalSandbox } else { Ability::SignalApplication };
    let Some(init) = task.processes.first() else { return Done::Gone };
    shim_if_refused(process::signal_by_number(live, *init, signal, ability))
}

fn force(live: &Live, task: &Task, ability: Ability) -> Done {
    let groups = &task.groups;
    // One write ends whole groups, however fast they fork, and asks no security module.
    let killed = groups.iter().filter(|g| kill_group(live, g)).count();
    if killed > 0 && killed == groups.len() {
        // Of a process whose first thread has ended, the kernel kills that one again, and passes over the others.
        let passed_over: Vec<_> = task.processes.iter().copied().filter(|p| is_leaderless(*p)).collect();
        return match process::signal_all(live, &passed_over, Effort::Force, ability) {
            Done::Gone => Done::Asked { rung: Rung::CgroupKill },
            signalled => shim_if_refused(signalled),
        };
    }
    let done = process::signal_all(live, &task.processes, Effort::Force, ability);
    if matches!(done, Done::Asked { .. }) {
        groups.iter().for_each(|g| thaw(live, g));
    }
    shim_if_refused(done)
}

/// For what survives a plain SIGKILL of all its processes because it forks faster than we look: freeze, kill,
/// thaw. Only where a signal gets through, or frozen processes would stay frozen.
fn last(live: &Live, task: &Task, ability: Ability) -> Done {
    let done = force(live, task, ability);
    if done != (Done::Asked { rung: Rung::Signal }) {
        return done;
    }
    for group in task.groups.iter().filter(|group| !live.is_inside(group)) {
        if write_file(&group.join("cgroup.freeze"), "1").is_err()
            && write_file(&group.join("freezer.state"), "FROZEN").is_err()
        {
            continue;
        }
        for pid in group::pids(&live.host, group).unwrap_or_default() {
            if let Some(id) = identity(pid) {
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
pub fn remove_by_shim(live: &Live, task: &Task, effort: Effort, deadline: Instant, refused: &Done) -> Done {
    let Task { container, socket: Some(socket), .. } = task else {
        return refused.clone().without_shim("it has no shim that could be asked");
    };
    let until = deadline.min(Instant::now() + ANSWER_TIMEOUT);
    let (signal, all) = (signal_of(effort), effort != Effort::Ask);
    let answered = match ttrpc::kill(socket, container, signal, all, until, deadline) {
        Ok(answered) => answered,
        Err(e) => {
            live.tried(Ability::AskShim, Err(e.errno_or_unknown()));
            return refused.clone().without_shim(&e.to_string());
        }
    };
    if answered {
        live.tried(Ability::AskShim, Ok(()));
    } else {
        log::debug!("the shim at '{}' has not answered yet", show(socket));
    }
    Done::Asked { rung: Rung::Shim }
}

/// Ends everything in a group and below it. Only ever a container's own group: the ones above are shared with
/// every other kubelet of the host.
fn kill_group(live: &Live, group: &Path) -> bool {
    if live.is_inside(group) {
        return false;
    }
    let result = write_file(&group.join("cgroup.kill"), "1");
    live.tried(Ability::WriteCgroups, result.as_ref().map(drop).map_err(errno_of));
    result.is_ok()
}

/// Lets a group go on that was frozen.
pub fn thaw(live: &Live, group: &Path) {
    let result = write_file(&group.join("cgroup.freeze"), "0")
        .or_else(|_| write_file(&group.join("freezer.state"), "THAWED"));
    if let Err(e) = result
        && is_refusal(errno_of(&e))
    {
        live.tried(Ability::WriteCgroups, Err(errno_of(&e)));
    }
}

fn write_file(path: &Path, text: &str) -> std::io::Result<()> {
    OpenOptions::new().write(true).open(path)?.write_all(text.as_bytes())
}
