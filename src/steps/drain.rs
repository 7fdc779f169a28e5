//! Applications that still run, to be asked to end.
//!
//! Sandboxes are not asked: they hold a pod's namespaces and have nothing to save, and as long as they live
//! the applications keep their network.

use crate::residue::Residue;
use crate::residue::finding::Finding;
use crate::scope::Scope;
use crate::steps::running::running;
use crate::steps::services;
use crate::view::View;

/// Supervisors that still run (they would start again what ends), then applications.
pub fn find(view: &View, scope: &Scope) -> Finding {
    let mut finding = services::find(view, scope);
    let supervises =
        |r: &Residue| matches!(r, Residue::Service(it) if scope.services.supervisors.contains(&it.name));
    finding.residues.retain(supervises);
    let (running, blind) = running(view, scope);
    finding.residues.extend(running.into_iter().filter(|r| !r.container.sandbox).map(|r| r.residue(scope)));
    finding.blind.extend(blind);
    finding
}
