//! The plan: every step, in the one order that works. Nowhere else is order written.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::time::Duration;

use crate::cgroup::full;
use crate::residue::{ProcessId, Residue};
use crate::scope::{Container, Scope, Shim};
use crate::step::{Blind, Effort, Finding, Gate, Step};
use crate::view::{Processes, View};

pub mod cgroups;
mod containers;
mod data;
mod drain;
mod files;
pub mod loops;
mod mounts;
pub mod network;
mod services;
mod shims;
mod state;

/// How long a killed process may take to end before it counts as stuck.
const DEATH: Duration = Duration::from_secs(10);

/// How long a busy mount or group is tried again.
const BUSY: Duration = Duration::from_secs(2);

/// The plan for a profile's patience.
pub fn plan(drain: Duration) -> Vec<Step> {
    use Effort::{Ask, Force};
    // Without patience nobody is asked: a request that is not waited for gives no time to save anything.
    let politely: &[Effort] = if drain.is_zero() { &[] } else { &[Ask] };
    vec![
        // While shims and containerd's files are whole, so that what needs time to save its work can have it.
        Step { name: "drain", find: drain::find, efforts: politely, grace: drain, gates: &[] },
        // Before containers are killed: a runtime or supervisor that still runs would start them again.
        Step { name: "services", find: services::find, efforts: &[Ask, Force], grace: DEATH, gates: &[] },
        // Before the shims: a container whose shim is gone has lost the one who may signal it.
        Step { name: "containers", find: containers::find, efforts: &[Force], grace: DEATH, gates: &[] },
        // Once its containers are dead a shim has nothing to keep; it holds mounts and the network namespace.
        Step { name: "shims", find: shims::find, efforts: &[Force], grace: DEATH, gates: &[] },
        // Once nothing of ours runs that could use or renew them. Before the mounts and the state, whose CNI
        // results and bundles are what a rerun knows them by.
        Step {
            name: "network",
            find: network::find,
            efforts: &[Force],
            grace: Duration::ZERO,
            gates: &[Gate::NoOwnedProcess],
        },
        // Once nothing runs in them: a mount that is busy is one that somebody uses.
        Step { name: "mounts", find: mounts::find, efforts: &[Force], grace: BUSY, gates: &[] },
        // Once they are empty. Before the state, which knows their names.
        Step { name: "cgroups", find: cgroups::find, efforts: &[Force], grace: BUSY, gates: &[] },
        // Once nothing of ours runs that could need it: it is what a rerun knows us by.
        Step {
            name: "state",
            find: state::find,
            efforts: &[Force],
            grace: Duration::ZERO,
            gates: &[Gate::NoOwnedProcess, Gate::EvidenceUnneeded],
        },
        // Last: the only step that cannot be made good, so nothing may run and nothing may be mounted.
        Step {
            name: "data",
            find: data::find,
            efforts: &[Force],
            grace: Duration::ZERO,
            gates: &[Gate::NoOwnedProcess, Gate::MountTableClear],
        },
    ]
}

/// A container of ours with its living processes and existing groups.
struct Running<'a> {
    container: &'a Container,
    processes: Vec<ProcessId>,
    groups: Vec<std::path::PathBuf>,
    paused: bool,
}

impl Running<'_> {
    fn residue(self, scope: &Scope) -> Residue {
        Residue::Task {
            socket: Some(scope.socket_of(self.container)),
            container: self.container.id.clone(),
            pod: self.container.pod.as_ref().map(ToString::to_string),
            sandbox: self.container.sandbox,
            processes: self.processes,
            paused: self.paused,
            groups: self.groups,
        }
    }
}

/// Our containers that have a living process, applications before their sandboxes: by their groups, and by the first process
/// that runc recorded. Also says where one could hide.
fn running<'a>(view: &View, scope: &'a Scope) -> (Vec<Running<'a>>, Vec<Blind>) {
    let mut found = Vec::new();
    let mut blind = Vec::new();
    let (processes, tree) = match (view.processes(), view.cgroups()) {
        (Ok(processes), Ok(tree)) => (processes, tree),
        (Err(e), _) | (_, Err(e)) => return (found, vec![Blind::new("processes of containers", e)]),
    };
    if scope.containers.is_empty() {
        return (found, blind);
    }
    let existing = tree.index();
    let own = std::process::id();
    for container in &scope.containers {
        let mut running = Running { container, processes: Vec::new(), groups: Vec::new(), paused: false };
        running.processes.extend(container.init.filter(|init| processes.alive(*init).is_some()));
        let hierarchies_of = |group: &Path| existing.get(group.as_os_str()).into_iter().flatten().copied();
        let places = container.groups.iter().flat_map(|g| hierarchies_of(g).map(move |h| (h, g)));
        let places: Vec<_> = places.collect();
        for (hierarchy, group) in &places {
            match view.group_pids(hierarchy, group) {
                Ok(pids) => {
                    // We may have been started in one of them, and are nothing to end.
                    let others = pids.iter().filter(|pid| pid.unsigned_abs() != own);
                    let alive = others.filter_map(|pid| processes.get(*pid)).filter(|p| p.alive());
                    running.processes.extend(alive.map(|p| p.id));
                }
                Err(why) => blind.push(Blind::new(crate::text::show(&full(&hierarchy.point, group)), why)),
            }
        }
        dedup_in_order(&mut running.processes);
        if container.init.is_none() {
            first_process_first(&mut running.processes, processes);
        }
        if !running.processes.is_empty() {
            running.groups = places.iter().map(|(hierarchy, group)| full(&hierarchy.point, group)).collect();
            let mut places = places.iter().zip(&running.groups);
            running.paused = places.any(|((hierarchy, _), directory)| view.frozen(hierarchy, directory));
            found.push(running);
        }
    }
    strays(scope, processes, &mut found);
    // Pod by pod, applications before their sandbox: a shim that sees both end at once does its work for it once.
    found.sort_by_key(|r| (&r.container.group, r.container.sandbox));
    (found, blind)
}

/// Children of our shims that are in no group of a container: one that could not be told, or a process that has left its
/// groups and lost its parent. They are the shim's first container's, and to be signalled one by one.
fn strays<'a>(scope: &'a Scope, processes: &Processes, found: &mut Vec<Running<'a>>) {
    let shims: HashMap<i32, &Shim> = scope.shims.iter().map(|s| (s.process.pid, s)).collect();
    let known: HashSet<ProcessId> = found.iter().flat_map(|r| r.processes.iter().copied()).collect();
    let children = processes.iter().filter(|p| p.shim.is_none() && !known.contains(&p.id));
    for child in children {
        let Some(shim) = shims.get(&child.parent).filter(|s| processes.alive(s.process).is_some()) else {
            continue;
        };
        let of_shim = |c: &Container| c.id.namespace == shim.namespace && Some(&c.id.id) == shim.id.as_ref();
        let Some(container) = scope.containers.iter().find(|c| of_shim(c)) else { continue };
        match found.iter_mut().find(|r| r.container.id == container.id) {
            Some(running) => {
                running.groups.clear();
                running.processes.push(child.id);
            }
            None => {
                let (processes, groups) = (vec![child.id], Vec::new());
                found.push(Running { container, processes, groups, paused: false });
            }
        }
    }
}

/// Where runc's state is out of reach, a container's first process is the one whose parent is outside of it.
fn first_process_first(own: &mut [ProcessId], all: &Processes) {
    let pids: HashSet<i32> = own.iter().map(|p| p.pid).collect();
    own.sort_by_key(|p| (all.get(p.pid).is_some_and(|p| pids.contains(&p.parent)), p.start));
}

fn dedup_in_order(processes: &mut Vec<ProcessId>) {
    let mut seen = HashSet::new();
    processes.retain(|p| seen.insert(*p));
}

/// Everything of ours that runs: services, containers, shims.
pub fn owned_processes(view: &View, scope: &Scope) -> Finding {
    let mut all = services::find(view, scope);
    let more = in_need_of_evidence(view, scope);
    all.residues.extend(more.residues);
    all.blind.extend(more.blind);
    all
}

/// What can be ended only with the help of bundles and sockets: containers and shims.
pub fn in_need_of_evidence(view: &View, scope: &Scope) -> Finding {
    let mut all = containers::find(view, scope);
    let shims = shims::find(view, scope);
    all.residues.extend(shims.residues);
    all.blind.extend(shims.blind);
    all
}

/// True if no process of a service is seen, nor a place where one could hide.
pub fn service_is_stopped(view: &View, scope: &Scope, service: &str) -> bool {
    let finding = services::find(view, scope);
    let runs = |r: &Residue| matches!(r, Residue::Service { name, .. } if name == service);
    finding.blind.is_empty() && !finding.residues.iter().any(runs)
}

/// Every mount of ours, wherever it can be seen. No loop device: to delete the file behind one harms nobody, as
/// little as to delete any other open file.
pub fn owned_mounts(view: &View, scope: &Scope) -> Finding {
    mounts::mounts(view, scope)
}
