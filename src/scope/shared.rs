//! Mounts in directories that runtimes and kubelets share, where the place alone does not say that one is ours.

use std::collections::{BTreeSet, HashSet};
use std::path::{Path, PathBuf};

use crate::linux::mountinfo::Mount;
use crate::order;
use crate::scope::Scope;
use crate::scope::held::Held;
use crate::scope::owner::{Owner, owner};
use crate::view::View;

/// Where volumes are staged for pods of ours: a driver mounts one for the node, below kubelet's `plugins`, and from there into
/// each pod that has it. They are looked up while pods have them, for the pods' own mounts go first; one that another pod has, too,
/// is not ours.
pub(super) fn staged(view: &View, scope: &Scope) -> BTreeSet<PathBuf> {
    let kubelet = scope.roots.kubelet.as_ref().filter(|root| scope.roots.shared.contains(root));
    let (Some(kubelet), Ok(table)) = (kubelet, view.own_mounts()) else { return BTreeSet::new() };
    let held = Held::of(table, &scope.roots, &scope.snap, scope, &HashSet::new());
    let of_pods = |m: &&Mount| matches!(owner(kubelet, m.point()), Some(Owner::Pod(_)));
    let (of_pods, others): (Vec<&Mount>, Vec<&Mount>) = table.mounts.iter().partition(of_pods);
    let plugins = kubelet.join("plugins");
    let is_ours = |staged: &&Mount| {
        let shows_part = |m: &&&Mount| m.device() == staged.device() && m.root().starts_with(staged.root());
        let mut users = of_pods.iter().filter(shows_part).peekable();
        users.peek().is_some() && users.all(|m| held.is_placed(m))
    };
    let staged = others.into_iter().filter(|m| m.point().starts_with(&plugins)).filter(is_ours);
    order::set(staged.map(|m| m.point().to_path_buf()))
}

/// True for a path in a shared directory that is a pod's of ours by its place.
pub fn is_of_our_pod(scope: &Scope, path: &Path) -> bool {
    let mut owners = scope.roots.shared.iter().filter_map(|root| owner(root, path));
    owners.any(|owner| matches!(owner, Owner::Pod(uid) if scope.pod_uids().any(|own| own == uid)))
}

/// True for what is below a shared directory.
pub(super) fn is_below(scope: &Scope, point: &Path) -> bool {
    scope.roots.shared.iter().any(|root| owner(root, point).is_some())
}

/// True for a mount in a shared directory of which nothing says whose it is, where something of ours has run.
pub fn is_nobodys(scope: &Scope, mount: &Mount) -> bool {
    let is_others = |id: &str| scope.containers.iter().any(|c| c.id.id == *id && !scope.counts_as_ours(c));
    let is_known = |(root, owner)| match owner {
        Owner::Task(namespace, _) => !scope.counts_in(namespace),
        Owner::Container(id) => is_others(id),
        // Where another kubelet lives, its directory is its own.
        Owner::Pod(_) | Owner::Unknown => {
            scope.roots.kubelet.as_ref() == Some(root) && scope.network.other_kubelet().is_some()
        }
    };
    let mut owners = scope.roots.shared.iter().filter_map(|root| Some((root, owner(root, mount.point())?)));
    scope.has_run() && owners.next().is_some_and(|owner| !is_known(owner))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linux::mountinfo::parse;
    use crate::runtime::bundle::TASKS;

    #[test]
    fn what_another_is_known_to_have_is_not_nobodys() {
        let mut scope = crate::fixture::scope_of(&["a"]);
        scope.roots.shared = ["/run/containerd", "/var/lib/kubelet"].map(PathBuf::from).into();
        scope.roots.kubelet = Some("/var/lib/kubelet".into());
        let namespace = scope.containers[0].id.namespace.clone();
        let points = [
            format!("/run/containerd/{TASKS}/{namespace}/b/rootfs"),
            format!("/run/containerd/{TASKS}/moby/b/rootfs"),
            "/run/containerd/t/1".into(),
            "/run/containerd".into(),
            "/run/other".into(),
            "/var/lib/kubelet/plugins/x".into(),
            "/var/lib/kubelet/pods/u/volumes/v".into(),
        ];
        let line = |point: &String| format!("1 0 0:1 / {point} rw - tmpfs t rw\n");
        let told = |scope: &Scope| -> Vec<bool> {
            points.iter().map(|p| is_nobodys(scope, &parse(line(p).as_bytes()).mounts[0])).collect()
        };
        assert_eq!(told(&scope), [true, false, true, false, false, true, true]);
        scope.network.rivals.insert("kubelet".into(), "another kubelet is alive".into());
        assert_eq!(told(&scope), [true, false, true, false, false, false, false]);
        scope.containers[0].witnesses = Default::default();
        assert_eq!(told(&scope), [false; 7], "nothing of ours has run, as far as is known");
    }
}
