//! Containers that have a process, whatever became of their shims.

use crate::error::Blind;
use crate::residue::finding::Finding;
use crate::scope::Scope;
use crate::steps::running::running;
use crate::text::show;
use crate::view::View;

/// Every container of ours with a living process, applications before their sandboxes.
pub fn find(view: &View, scope: &Scope) -> Finding {
    let (running, mut blind) = running(view, scope);
    blind.extend(scope.blind.iter().cloned());
    if let Ok(tree) = view.cgroups() {
        blind.extend(tree.unreadable.iter().map(|group| Blind::new(show(&group.directory), &group.why)));
    }
    Finding { residues: running.into_iter().map(|r| r.residue(scope)).collect(), blind }
}
