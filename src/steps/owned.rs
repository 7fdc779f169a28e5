//! What the gates ask: what of ours still runs or is mounted.

use crate::residue::Residue;
use crate::residue::finding::Finding;
use crate::scope::Scope;
use crate::steps::{containers, mounts, services, shims};
use crate::view::View;

/// Everything of ours that runs: services, containers, shims.
pub fn processes(view: &View, scope: &Scope) -> Finding {
    let mut all = services::find(view, scope);
    let more = containers_and_shims(view, scope);
    all.residues.extend(more.residues);
    all.blind.extend(more.blind);
    all
}

/// Containers and shims that still run.
pub fn containers_and_shims(view: &View, scope: &Scope) -> Finding {
    let mut all = containers::proven(view, scope);
    let shims = shims::find(view, scope);
    all.residues.extend(shims.residues);
    all.blind.extend(shims.blind);
    all
}

/// True if no process of a service is seen, nor a place where one could hide.
pub fn service_is_stopped(view: &View, scope: &Scope, service: &str) -> bool {
    let finding = services::find(view, scope);
    let runs = |r: &Residue| matches!(r, Residue::Service(it) if it.name == service);
    finding.blind.is_empty() && !finding.residues.iter().any(runs)
}

/// Every mount of ours, wherever it can be seen. No loop device: to delete the file behind one harms nobody, as
/// little as to delete any other open file.
pub fn mounts(view: &View, scope: &Scope) -> Finding {
    mounts::mounts(view, scope)
}
