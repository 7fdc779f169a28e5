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

const OWN: [&str; 3] = ["/kubepods/besteffort/pod1/a", "/kubepods/besteffort/pod1", "/kubepods/besteffort"];

#[test]
fn a_class_in_which_no_pod_was_goes_with_the_last_pod() {
    let mut all =
        vec!["/kubepods", "/kubepods/besteffort", "/kubepods/besteffort/pod1", "/kubepods/besteffort/pod1/a"];
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
    let all =
        ["/kubepods", "/kubepods/besteffort", "/kubepods/burstable", "/kubepods/pod2", "/kubepods/pod2/b"];
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
