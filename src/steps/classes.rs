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
mod tests {
    use super::*;
    use crate::fixture::scope_of;

    fn told(scope: &Scope, all: &[&str], going: &[&str]) -> [Vec<String>; 2] {
        let dir = tempfile::tempdir().unwrap();
        if let Some(root) = &scope.roots.kubelet {
            let root = dir.path().join(root.strip_prefix("/").unwrap());
            std::fs::create_dir_all(&root).unwrap();
            std::fs::write(root.join(STATE), "").unwrap();
        }
        let all: Vec<PathBuf> = all.iter().map(PathBuf::from).collect();
        let going = going.iter().map(Path::new).collect();
        let Empty { ours, unknown } = empty(&Host::at(dir.path()), scope, &all, &going);
        [ours, unknown].map(|groups| groups.iter().map(|group| group.display().to_string()).collect())
    }

    fn scope(leaf: &str) -> Scope {
        let mut scope = scope_of(&["a"]);
        scope.containers[0].cgroups = vec![leaf.into()];
        scope.roots.kubelet = Some("/var/snap/microk8s/common/var/lib/kubelet".into());
        scope
    }

    const OWN: [&str; 3] =
        ["/kubepods/besteffort/pod1/a", "/kubepods/besteffort/pod1", "/kubepods/besteffort"];

    #[test]
    fn a_class_in_which_no_pod_was_goes_with_the_last_pod() {
        let mut all = vec![
            "/kubepods",
            "/kubepods/besteffort",
            "/kubepods/besteffort/pod1",
            "/kubepods/besteffort/pod1/a",
        ];
        assert_eq!(told(&scope(OWN[0]), &all, &OWN), [vec!["/kubepods"], vec![]]);
        all.push("/kubepods/burstable");
        assert_eq!(told(&scope(OWN[0]), &all, &OWN), [vec!["/kubepods/burstable", "/kubepods"], vec![]]);
        let slices = ["/kubepods.slice", "/kubepods.slice/kubepods-burstable.slice"];
        let leaf =
            "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod1.slice/cri-containerd-a.scope";
        assert_eq!(told(&scope(leaf), &slices, &[]), [vec![slices[1], slices[0]], vec![]]);
    }

    #[test]
    fn a_pods_group_that_never_held_a_container_is_ours_by_kubelets_directory() {
        let dir = tempfile::tempdir().unwrap();
        let mut scope = scope_of(&[]);
        (scope.idle, scope.roots.kubelet) = (true, Some("/var/snap/microk8s/common/var/lib/kubelet".into()));
        let root = dir.path().join("var/snap/microk8s/common/var/lib/kubelet");
        std::fs::create_dir_all(root.join("pods/1-2")).unwrap();
        std::fs::write(root.join(STATE), "").unwrap();
        for [class, pod] in [
            ["/kubepods/burstable", "/kubepods/burstable/pod1-2"],
            [
                "/kubepods.slice/kubepods-burstable.slice",
                "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1_2.slice",
            ],
        ] {
            let top = Path::new(class).parent().unwrap().to_str().unwrap();
            let all = [top, class, pod].map(PathBuf::from);
            let found = empty(&Host::at(dir.path()), &scope, &all, &HashSet::new());
            assert_eq!(found, Empty { ours: [pod, class, top].map(Path::new).into(), unknown: vec![] });
        }
    }

    #[test]
    fn beside_pods_of_others_it_is_told_and_a_kubelet_that_lives_has_made_it() {
        let all = [
            "/kubepods",
            "/kubepods/besteffort",
            "/kubepods/burstable",
            "/kubepods/pod2",
            "/kubepods/pod2/b",
        ];
        let mut scope = scope(OWN[0]);
        assert_eq!(told(&scope, &all, &OWN), [vec![], vec!["/kubepods/burstable"]]);
        let rival = ("k3s-server".to_owned(), "another k3s-server is alive: process 7".to_owned());
        scope.network.rivals.insert(rival.0, rival.1);
        assert_eq!(told(&scope, &all[..3], &OWN), [vec![], Vec::<&str>::new()]);
    }

    #[test]
    fn where_nothing_ran_what_a_kubelet_of_ours_made_goes_and_others_pods_are_no_doubt() {
        let all = ["/kubepods", "/kubepods/besteffort", "/kubepods/burstable", "/x", "/x/kubepods"];
        let mut scope = scope_of(&[]);
        scope.idle = true;
        scope.roots.kubelet = Some("/var/snap/microk8s/common/var/lib/kubelet".into());
        assert_eq!(told(&scope, &all, &[]), [vec![all[1], all[2], all[0]], vec![]]);
        let beside = [all[0], all[1], "/kubepods/burstable", "/kubepods/burstable/pod2"];
        assert_eq!(
            told(&scope, &beside, &[]),
            [vec![], vec![beside[3]]],
            "an empty pod's group is told; the step leaves out those that somebody is in"
        );
        let beside = [all[0], beside[2], beside[3], "/kubepods/burstable/pod2/b"];
        assert_eq!(told(&scope, &beside, &[]), [vec![], Vec::<&str>::new()]);
        scope.roots.kubelet = None;
        assert_eq!(told(&scope, &all, &[]), [vec![], Vec::<&str>::new()], "a snap without a kubelet");
    }
}
