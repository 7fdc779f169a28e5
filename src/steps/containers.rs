//! Containers that have a process, whatever became of their shims.

use crate::scope::Scope;
use crate::step::{Blind, Finding};
use crate::view::View;

/// Every container of ours with a living process, applications before their sandboxes.
pub fn find(view: &View, scope: &Scope) -> Finding {
    let (running, mut blind) = super::running(view, scope);
    blind.extend(scope.blind.iter().cloned());
    if let Ok(tree) = view.cgroups() {
        blind.extend(tree.unreadable.iter().map(|(path, why)| Blind::new(crate::text::show(path), why)));
    }
    Finding { residues: running.into_iter().map(|r| r.residue(scope)).collect(), blind }
}
