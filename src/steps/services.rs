//! Services of the snap that still run, and strays that they left in their groups.
//!
//! snapd has stopped the services before it runs the hook; but a unit with `stop-mode: sigterm` loses only its
//! main process, and a hook that runs outside of a removal may meet all of them.

use std::collections::{BTreeMap, HashSet};

use crate::error::Blind;
use crate::linux::cgroup;
use crate::linux::proc::ProcessId;
use crate::residue::finding::Finding;
use crate::residue::{Residue, Service};
use crate::scope::Scope;
use crate::snap::units;
use crate::steps::apps;
use crate::text::show;
use crate::view::View;

/// Those, and apps of the snap that somebody may still use.
pub fn all(view: &View, scope: &Scope) -> Finding {
    let (mut finding, used) = look(view, scope);
    finding.blind.extend(used);
    finding
}

/// Services with processes that are neither shims nor containers, and what apps have left behind; never our own group.
pub fn find(view: &View, scope: &Scope) -> Finding {
    look(view, scope).0
}

fn look(view: &View, scope: &Scope) -> (Finding, Vec<Blind>) {
    let mut finding = Finding::default();
    let (processes, tree) = match (view.processes(), view.cgroups()) {
        (Ok(processes), Ok(tree)) => (processes, tree),
        (Err(e), _) | (_, Err(e)) => {
            finding.blind.push(Blind::new("services", e));
            return (finding, Vec::new());
        }
    };
    let shims: HashSet<ProcessId> = scope.shims.iter().map(|s| s.process).collect();
    // A guest of this machine may run the same snap: its units have our units' names, below the guest's group.
    let own_depth = view.pid_namespace_depth(None);
    let in_a_guest = |pid: i32| own_depth.is_some() && view.pid_namespace_depth(Some(pid)) > own_depth;
    let mut by_service: BTreeMap<&str, Vec<ProcessId>> = BTreeMap::new();
    for (hierarchy, group) in tree.each() {
        let Some(service) = units::service_of(group, &scope.snap.instance) else { continue };
        let pids = match view.group_pids(hierarchy, group) {
            Ok(pids) => pids,
            Err(why) => {
                let directory = cgroup::full(&hierarchy.point, group);
                finding.blind.push(Blind::new(show(&directory), why));
                continue;
            }
        };
        let own = std::process::id();
        let strangers =
            pids.iter().filter(|pid| pid.unsigned_abs() != own).filter_map(|pid| processes.get(*pid));
        let unit = by_service.entry(service).or_default();
        for process in
            strangers.filter(|p| p.alive() && !shims.contains(&p.id) && !processes.is_shim(p.id.pid))
        {
            if !unit.contains(&process.id) && !in_a_guest(process.id.pid) {
                unit.push(process.id);
            }
        }
    }
    let running = by_service.into_iter().filter(|(_, processes)| !processes.is_empty());
    let apps = apps::find(view, scope, processes, tree);
    finding.residues = running
        .map(|(name, processes)| Residue::Service(Service { name: name.to_owned(), processes }.into()))
        .chain(apps.left)
        .collect();
    (finding, apps.used)
}
