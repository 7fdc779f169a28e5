//! Our shims, each held back while any of its own containers has a process.

use std::collections::HashSet;

use crate::residue::{ContainerId, Residue};
use crate::scope::Scope;
use crate::step::{Blind, Finding};
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
    let (running, blind) = super::running(view, scope);
    let running: HashSet<&ContainerId> = running.iter().map(|r| &r.container.id).collect();
    let by_group = scope.by_group();
    let shim = |shim: &&crate::scope::Shim| {
        let served = scope.served_by(shim, &by_group);
        Residue::Shim {
            process: shim.process,
            namespace: shim.namespace.clone(),
            id: shim.id.clone(),
            socket: shim.socket.clone(),
            held_by: served.iter().filter(|c| running.contains(&c.id)).map(|c| c.id.id.clone()).collect(),
            containers: served.iter().map(|c| c.id.id.clone()).collect(),
        }
    };
    Finding { residues: alive.iter().map(shim).collect(), blind }
}
