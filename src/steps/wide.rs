//! The wide last look: what is tied to the snap's directories and stands in none of the plan's lists. It is somebody's, and
//! nothing says whose; so it is told, and not touched.

use crate::error::Blind;
use crate::linux::mountinfo::Mount;
use crate::residue::finding::Finding;
use crate::scope::Scope;
use crate::scope::held::Held;
use crate::text::show;
use crate::view::View;

/// Adds what it sees.
pub fn find(view: &View, scope: &Scope, finding: &mut Finding) {
    finding.blind.extend(mounts_of_others(view, scope).iter().map(|mount| {
        let what = format!("{} mounted at {}", mount.fstype, show(&mount.point));
        Blind::new(what, "it lies in the snap's directories and below no root of the profile, so that nothing says whose it is; snapd cannot remove the snap while it is there")
    }));
}

/// Mounts below the snap's directories that nothing proves ours. Those of the host's table, where that is another one, are
/// residues in any case.
pub fn mounts_of_others(view: &View, scope: &Scope) -> Vec<Mount> {
    let Ok(table) = view.own_mounts() else { return Vec::new() };
    if !view.in_init_namespace() {
        return Vec::new();
    }
    let devices = super::loops::numbers(view, scope);
    let held = Held::of(table, &scope.roots, &scope.snap, scope, &devices);
    table.mounts.iter().filter(|m| held.is_in_snap(m) && !held.is_ours(m)).cloned().collect()
}
