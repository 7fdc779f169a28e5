//! Containers that have a process, whatever became of their shims.

use crate::error::Blind;
use crate::residue::finding::Finding;
use crate::scope::Scope;
use crate::steps::running::running;
use crate::text::show;
use crate::view::View;

/// Every container of ours with a living process, applications before their sandboxes; and what claims to be one.
pub fn find(view: &View, scope: &Scope) -> Finding {
    let mut finding = proven(view, scope);
    finding.blind.extend(scope.doubts.iter().cloned());
    finding
}

/// The same without the doubts: what evidence says is another's must not keep us from removing what is ours.
pub fn proven(view: &View, scope: &Scope) -> Finding {
    let (running, mut blind) = running(view, scope);
    blind.extend(scope.blind.iter().cloned());
    if let Ok(tree) = view.cgroups() {
        blind.extend(tree.unreadable.iter().map(|(path, why)| Blind::new(show(path), why)));
    }
    Finding { residues: running.into_iter().map(|r| r.residue(scope)).collect(), blind }
}
