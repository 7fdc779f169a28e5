//! What processes of ours have made in the machine's own IPC namespace, as pods may that have it (`hostIPC`). It stays when they end.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use crate::error::Blind;
use crate::linux::ipc::{self, Object};
use crate::linux::proc::ProcessId;
use crate::reason::Reason;
use crate::residue::witness::Proven;
use crate::runtime::Name;
use crate::scope::Scope;
use crate::view::View;

/// Who has the host's namespace may make tens of thousands.
const MOST_KEPT: usize = 1024;

/// How the scope calls an object that this process of ours made or used: table, number, PID, start time.
fn name(object: &Object, process: ProcessId) -> Name {
    format!("{} {} {} {}", object.table, object.id, process.pid, process.start).into()
}

/// The processes by the table and the number of what they made.
pub fn processes_of(names: &BTreeSet<Name>) -> HashMap<(&str, i32), ProcessId> {
    names.iter().filter_map(|name| process_of(name.as_str())).collect()
}

fn process_of(name: &str) -> Option<((&str, i32), ProcessId)> {
    let mut words = name.split(' ');
    let object = (words.next()?, words.next()?.parse().ok()?);
    Some((object, ProcessId { pid: words.next()?.parse().ok()?, start: words.next()?.parse().ok()? }))
}

/// Those that only processes of ours are named with which live, and are where we are.
pub(super) fn gather(view: &View, scope: &mut Scope) -> BTreeSet<Name> {
    let mut found = BTreeSet::new();
    match ipc::list(view.host) {
        Ok(objects) if objects.is_empty() => {}
        Ok(objects) => {
            let ours = processes(view, scope);
            let is_ours = |object: &&Object| object.pids.iter().all(|pid| ours.contains_key(pid));
            let named = |object: &Object| Some(name(object, *ours.get(object.pids.first()?)?));
            let mut named = objects.iter().filter(is_ours).filter_map(named);
            found.extend(named.by_ref().take(MOST_KEPT));
            let more = named.count();
            if more > 0 {
                scope.doubts.push(Blind::new(WHAT, (Reason::TooMany, format!("{more} more"))));
            }
        }
        // A pod's containers join its sandbox's namespace, of which only the sandbox's bundle says whose it is.
        Err(e) if scope.containers.iter().any(|c| c.host_ipc && c.is_proven()) => {
            scope.doubts.push(Blind::new(WHAT, e));
        }
        Err(_) => {}
    }
    found
}

/// What a look is blind to where the kernel's tables cannot be read.
pub const WHAT: &str = "what pods of ours have made in the host's IPC namespace";

/// Proven processes that are in our own IPC namespace; where the namespaces are hidden, those of whom a bundle says so.
fn processes(view: &View, scope: &Scope) -> HashMap<i32, ProcessId> {
    let (Ok(all), Ok(tree)) = (view.processes(), view.cgroups()) else { return HashMap::new() };
    let existing = tree.index();
    let own = namespace(view, "self");
    let mut found = HashMap::new();
    for container in &scope.containers {
        let groups = container.proven_cgroups.iter().map(Proven::get);
        let strays = container.strays.iter().map(|stray| stray.get().pid);
        let pids = groups.flat_map(|group| view.pids_in(&existing, group)).chain(strays);
        for process in pids.filter_map(|pid| all.get(pid)) {
            let its = namespace(view, &process.id.pid.to_string());
            if its.as_ref().map_or(container.host_ipc, |its| Some(its) == own.as_ref()) {
                found.insert(process.id.pid, process.id);
            }
        }
    }
    found
}

fn namespace(view: &View, pid: &str) -> Option<PathBuf> {
    view.host.link(&Path::new("/proc").join(pid).join("ns/ipc")).ok()
}

#[cfg(test)]
mod tests;
