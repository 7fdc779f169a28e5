//! Containers of ours that have a living process.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;

use crate::error::Blind;
use crate::linux::cgroup::full;
use crate::linux::proc::ProcessId;
use crate::order;
use crate::residue::witness::Proven;
use crate::residue::{Residue, Task};
use crate::runtime::processes::Processes;
use crate::scope::{Container, OwnedShim, Scope};
use crate::text::show;
use crate::view::View;

/// A container of ours with its living processes and existing groups.
pub struct Running<'a> {
    pub container: &'a Container,
    processes: Vec<ProcessId>,
    groups: Vec<PathBuf>,
    paused: bool,
}

impl Running<'_> {
    /// The container as a residue.
    pub fn residue(self, scope: &Scope) -> Residue {
        Residue::Task(Box::new(Task {
            socket: Some(scope.socket_of(self.container)),
            container: self.container.id.clone(),
            pod: self.container.pod.as_ref().map(ToString::to_string),
            sandbox: self.container.sandbox,
            processes: self.processes.into_boxed_slice().into(),
            paused: self.paused,
            groups: self.groups,
            witnesses: self.container.witnesses,
        }))
    }
}

/// Our containers that have a living process, applications before their sandboxes: by their groups, and by the first process
/// that runc recorded. Also says where one could hide.
pub fn running<'a>(view: &View, scope: &'a Scope) -> (Vec<Running<'a>>, Vec<Blind>) {
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
        let places = container
            .proven_cgroups
            .iter()
            .map(Proven::get)
            .flat_map(|g| existing.hierarchies_of(g).map(move |h| (h, g)));
        let places: Vec<_> = places.collect();
        for (hierarchy, group) in &places {
            match view.group_pids(hierarchy, group) {
                Ok(pids) => {
                    // We may have been started in one of them, and are nothing to end.
                    let others = pids.iter().filter(|pid| pid.unsigned_abs() != own);
                    let alive = others.filter_map(|pid| processes.get(*pid)).filter(|p| p.alive());
                    running.processes.extend(alive.map(|p| p.id));
                }
                Err(why) => blind.push(Blind::new(show(&full(&hierarchy.point, group)), why)),
            }
        }
        dedup_in_order(&mut running.processes);
        first_process_first(&mut running.processes, container.init, processes);
        let strays = container.strays.iter().map(|stray| *stray.get());
        let strays: Vec<ProcessId> = strays.filter(|p| processes.alive(*p).is_some()).collect();
        let has_strays = !strays.is_empty();
        running.processes.extend(strays);
        // What is in no group of its own is signalled one by one.
        if has_strays {
            found.push(running);
        } else if !running.processes.is_empty() {
            running.groups = places.iter().map(|(hierarchy, group)| full(&hierarchy.point, group)).collect();
            let mut places = places.iter().zip(&running.groups);
            running.paused = places.any(|((hierarchy, _), directory)| view.frozen(hierarchy, directory));
            found.push(running);
        }
    }
    strays(scope, processes, &mut found);
    // Pod by pod, applications before their sandbox: a shim that sees both end at once does its work for it once.
    order::sort_by_key(&mut found, |r| (&r.container.shim_id, r.container.sandbox));
    (found, blind)
}

/// Children of our shims that are in no group of a container: one that could not be told, or a process that has left its
/// groups and lost its parent. They are the shim's first container's, and to be signalled one by one.
fn strays<'a>(scope: &'a Scope, processes: &Processes, found: &mut Vec<Running<'a>>) {
    let shims: HashMap<i32, &OwnedShim> = scope.shims.iter().map(|s| (s.process.pid, s)).collect();
    let known: HashSet<ProcessId> = found.iter().flat_map(|r| r.processes.iter().copied()).collect();
    let children = processes.iter().filter(|p| !shims.contains_key(&p.id.pid) && !known.contains(&p.id));
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

/// The first process is the one that runc recorded; where its state is out of reach, the one whose parent is outside.
fn first_process_first(own: &mut [ProcessId], init: Option<ProcessId>, all: &Processes) {
    let pids: HashSet<i32> = own.iter().map(|p| p.pid).collect();
    let inside = |pid| all.get(pid).is_some_and(|p| pids.contains(&p.parent));
    order::sort_by_key(own, |p| (init != Some(*p), inside(p.pid), p.start));
}

fn dedup_in_order(processes: &mut Vec<ProcessId>) {
    let mut seen = HashSet::new();
    processes.retain(|p| seen.insert(*p));
}
