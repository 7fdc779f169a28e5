//! kubelet's groups that hold no pod. It makes one for each QoS class when it starts, whether a pod of that class comes or not.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use crate::linux::host::Host;
use crate::runtime::groups;
use crate::scope::Scope;

/// What a kubelet writes into its directory when it starts.
const STATE: &str = "cpu_manager_state";

/// Groups that hold nothing but what goes, none of which was above a container of ours.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Empty<'a> {
    /// Ours to remove, children before parents.
    pub ours: Vec<&'a Path>,
    /// Those that may be somebody else's.
    pub unknown: Vec<&'a Path>,
}

/// The empty groups of QoS classes beside those that held pods of ours, and the one above them all if it is empty by that. Where
/// no pod is left, those at the top. They are ours if a kubelet of ours has run, no other one lives, and no pod of others is beside
/// them: a kubelet that does not run makes them anew.
pub fn empty<'a>(host: &Host, scope: &Scope, all: &'a [PathBuf], going: &HashSet<&Path>) -> Empty<'a> {
    let mut empty = Empty::default();
    // A kubelet that lives has made them for itself.
    if scope.network.other_kubelet().is_some() {
        return empty;
    }
    let held =
        |top: &Path| scope.containers.iter().any(|c| c.cgroups.iter().any(|leaf| leaf.starts_with(top)));
    let (roots, snap) = (&scope.roots, &scope.snap);
    let has_run =
        || roots.kubelet.as_ref().is_some_and(|root| roots.may_have_made(host, snap, &root.join(STATE)));
    let is_ours = |top: &Path| held(top) || scope.idle && top.components().count() == 2 && has_run();
    let parents: HashSet<&Path> = all.iter().filter_map(|group| group.parent()).collect();
    // Groups of pods without a container.
    let has_none =
        |group: &&Path| groups::is_a_pods(group) && !parents.contains(group) && !going.contains(group);
    let without: Vec<&Path> = all.iter().map(PathBuf::as_path).filter(has_none).collect();
    // kubelet makes a pod's group, and then waits for its volumes.
    let root = roots.kubelet.as_ref().filter(|root| !without.is_empty() && roots.is_own(snap, root));
    let pods = root.and_then(|root| host.list(&root.join("pods")).ok()).unwrap_or_default();
    let is_kubelets =
        |group: &Path| pods.iter().any(|pod| groups::is_the_pods(group, &pod.to_string_lossy()));
    for top in all.iter().filter(|group| groups::is_of_all_pods(group) && is_ours(group)) {
        let (made, lost): (Vec<&Path>, Vec<&Path>) =
            without.iter().filter(|group| group.starts_with(top)).partition(|group| is_kubelets(group));
        let goes = |group: &Path| going.contains(group) || made.contains(&group);
        let below =
            |parent: &Path| all.iter().filter(|group| group.parent() == Some(parent)).collect::<Vec<_>>();
        let stay = below(top).into_iter().filter(|group| !goes(group));
        let (classes, others): (Vec<_>, Vec<_>) = stay.partition(|group| {
            groups::is_of_class(group, top)
                && below(group).into_iter().all(|below| made.contains(&below.as_path()))
        });
        let classes = classes.into_iter().map(PathBuf::as_path);
        empty.ours.extend(&made);
        if others.is_empty() && has_run() {
            empty.ours.extend(classes);
            empty.ours.extend((!going.contains(top.as_path())).then_some(top.as_path()));
        } else if !scope.idle {
            empty.unknown.extend(classes);
        }
        // No kubelet is alive that could still need them.
        empty.unknown.extend(lost);
    }
    empty
}

#[cfg(test)]
mod tests;
