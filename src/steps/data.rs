//! The directories of the profile's `data`: images, snapshots and the runtime's state, which can be had again.

use crate::error::Blind;
use crate::residue::finding::Finding;
use crate::residue::{self, PathKind, Residue};
use crate::scope::Scope;
use crate::view::View;

/// Those that exist. One that is itself a mount point counts as there while it holds anything: the mount is
/// somebody else's, only what lies in it is ours.
pub fn find(view: &View, scope: &Scope) -> Finding {
    let mut finding = Finding::default();
    for path in &scope.roots.data {
        let mounted = view.own_mounts().as_ref().is_ok_and(|t| t.mounts.iter().any(|m| m.point == *path));
        let there = match mounted {
            true => view.host.list(path).map(|names| !names.is_empty()),
            false => view.host.exists(path),
        };
        match there {
            Ok(true) => finding
                .residues
                .push(Residue::Path(residue::Path { path: path.clone(), what: PathKind::Data })),
            Ok(false) => {}
            Err(e) => finding.blind.push(Blind::new(crate::text::show(path), e)),
        }
    }
    finding
}
