//! Containers that have a process, whatever became of their shims.

use std::path::Path;

use crate::error::Blind;
use crate::residue::finding::Finding;
use crate::runtime::groups;
use crate::scope::Scope;
use crate::snap::units;
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
        let hiding =
            tree.unreadable.iter().filter(|group| !group.too_deep || may_be_ours(&group.group, scope));
        blind.extend(hiding.map(|group| Blind::new(show(&group.directory), &group.why)));
    }
    Finding { residues: running.into_iter().map(|r| r.residue(scope)).collect(), blind }
}

/// True for a group in which something of ours could be, by its name: root's containers nest groups, too, and what they hide in
/// them is another runtime's. So the owner, which tells of groups that cannot be read (`scope/orphans.rs`), says less here. Anybody may nest groups without end below one of his own, and hides
/// there nothing but what is his.
fn may_be_ours(group: &Path, scope: &Scope) -> bool {
    groups::is_containers_place(group)
        || units::service_of(group, &scope.snap.instance).is_some()
        || group
            .ancestors()
            .any(|above| scope.containers.iter().any(|c| c.cgroups.iter().any(|g| g == above)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_without_end_hide_only_what_could_be_ours() {
        let mut scope = crate::fixture::scope_of(&["c1"]);
        scope.containers[0].cgroups = vec!["/other/c1".into()];
        for (group, may) in [
            ("/user.slice/user-1000.slice/user@1000.service/kubepods/1/2", false),
            ("/user.slice/snap.microk8s.d.service/1", false),
            ("/other/c2/1", false),
            ("/other/c1/1/2", true),
            ("/kubepods/burstable/1", true),
            ("/kubepods.slice/1", true),
            ("/k8s.io/x/1", true),
            ("/system.slice/snap.microk8s.daemon-containerd.service/1", true),
        ] {
            assert_eq!(may_be_ours(Path::new(group), &scope), may, "{group}");
        }
    }
}
