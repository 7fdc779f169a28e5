//! Our shims, each held back while any of its own containers has a process, or may have one.

use std::collections::HashSet;

use crate::error::Blind;
use crate::residue::finding::Finding;
use crate::residue::{self, Residue};
use crate::runtime::ContainerId;
use crate::scope::{OwnedShim, Scope};
use crate::steps::running::running;
use crate::view::View;

/// Every living shim of ours.
pub fn find(view: &View, scope: &Scope) -> Finding {
    let processes = match view.processes() {
        Ok(processes) => processes,
        Err(e) => return Finding { residues: vec![], blind: vec![Blind::new("shims", e)] },
    };
    let alive: Vec<_> = scope.shims.iter().filter(|s| processes.alive(s.process).is_some()).collect();
    if alive.is_empty() {
        return Finding::default();
    }
    let (running, blind) = running(view, scope);
    // Where containers could not be looked at, each may have a process, and killing its shim would orphan that.
    let unseen = !blind.is_empty();
    let running: HashSet<&ContainerId> = running.iter().map(|r| &r.container.id).collect();
    let by_shim = scope.by_shim();
    let parents: HashSet<i32> = processes.iter().map(|p| p.parent).collect();
    let shim = |shim: &&OwnedShim| {
        let served = scope.served_by(shim, &by_shim);
        let holds = |c: &ContainerId| unseen || running.contains(c);
        let mut held_by: Vec<_> = served.iter().filter(|c| holds(&c.id)).map(|c| c.id.id.clone()).collect();
        // A living child is a container's first process, also where nothing tells which container's.
        if (unseen || parents.contains(&shim.process.pid)) && held_by.is_empty() {
            held_by.push(shim.id.clone().unwrap_or_default());
        }
        Residue::Shim(Box::new(residue::Shim {
            process: shim.process,
            namespace: shim.namespace.clone(),
            id: shim.id.clone(),
            socket: shim.socket.clone(),
            held_by,
            containers: served.iter().map(|c| c.id.id.clone()).collect(),
            witnesses: [shim.witness].into(),
        }))
    };
    Finding { residues: alive.iter().map(shim).collect(), blind }
}
