use super::*;

const HEX: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

#[test]
fn a_pods_groups_are_kubelets_and_not_those_that_a_container_makes() {
    let of = |path: &str| is_of_pod(Path::new(&path.replace("ID", HEX)), "1-2");
    for path in [
        "/kubepods/besteffort/pod1-2/ID",
        "/kubepods/pod1-2/kata_ID",
        "/kubepods.slice/kubepods-pod1_2.slice/cri-containerd-ID.scope",
        "/kubepods-burstable-pod1_2.slice:cri-containerd:ID",
    ] {
        assert!(of(path), "{path}");
    }
    for path in [
        "/kubepods/pod1-3/ID",
        "/kubepods/pod1-23/ID",
        "/kubepods/pod1-2/x/ID",
        "/kubepods/pod9/ID/pod1-2/ID",
        "/kubepods.slice/kubepods-pod9.slice/cri-containerd-ID.scope/pod1-2/ID",
        "/pod1-2",
    ] {
        assert!(!of(path), "{path}");
    }
    assert!(!is_of_pod(Path::new("/kubepods/pod/a"), ""));
}

#[test]
fn which_groups_are_pods() {
    let is = |path: &str| is_a_pods(Path::new(&path.replace("ID", HEX)));
    for path in ["/kubepods/pod1-2", "/kubepods/besteffort/pod1", "/kubepods.slice/kubepods-pod1_2.slice"] {
        assert!(is(path), "{path}");
    }
    for path in
        ["/kubepods", "/kubepods/podinfo/../x", "/kubepods/pod", "/pods/pod1", "/kubepods/pod1/ID/pod2"]
    {
        assert!(!is(path), "{path}");
    }
}

#[test]
fn spec_paths_of_both_drivers() {
    let one = |p: &str| vec![PathBuf::from(p)];
    assert_eq!(of_spec("/kubepods/burstable/pod1/abc"), one("/kubepods/burstable/pod1/abc"));
    assert_eq!(
        of_spec("kubepods-burstable-pod1_2.slice:cri-containerd:abc"),
        vec![
            PathBuf::from(
                "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1_2.slice/cri-containerd-abc.scope"
            ),
            PathBuf::from("/kubepods-burstable-pod1_2.slice:cri-containerd:abc"),
        ]
    );
    assert_eq!(of_spec("/k8s.io//q1/"), one("/k8s.io/q1"));
    assert!(of_spec("").is_empty());
    assert!(of_spec("/kubepods/../system.slice").is_empty());
}

#[test]
fn leaf_names() {
    for name in
        [HEX.to_string(), format!("cri-containerd-{HEX}.scope"), format!("a.slice:cri-containerd:{HEX}")]
    {
        assert_eq!(container_of(&name), Some(HEX), "{name}");
    }
    for name in ["", "kubepods", &HEX[1..], &HEX.to_uppercase(), &format!("libpod-{HEX}.scope")] {
        assert_eq!(container_of(name), None, "{name}");
    }
}

#[test]
fn whom_a_managers_groups_are_for() {
    for (group, open) in [
        ("/user.slice", true),
        ("/init.scope", true),
        ("/user.slice/user-1000.slice", true),
        ("/user.slice/user-1000.slice/user@1000.service", true),
        ("/user.slice/user-1000.slice/session-7.scope", false),
        ("/system.slice/web", false),
        ("/odd.slice", false),
        ("/odd", false),
    ] {
        assert_eq!(is_open_to_others(Path::new(group)), open, "{group}");
    }
}

#[test]
fn no_id_makes_a_unit_or_a_group_of_kubelets_a_containers() {
    for (group, id) in [
        ("/system.slice/ssh.service", "ssh.service"),
        ("/user.slice/user-0.slice", "user-0.slice"),
        ("/system.slice/snap.microk8s.hook.remove-1.scope", "snap.microk8s.hook.remove-1.scope"),
        ("/kubepods/burstable", "burstable"),
        ("/kubepods/besteffort/pod1", "pod1"),
        ("/kubepods.slice/kubepods-besteffort.slice", "besteffort.slice"),
        ("/lxc/kubepods", "kubepods"),
    ] {
        assert!(!is_group_of(Path::new(group), id), "{group}");
    }
    assert!(is_group_of(Path::new("/kubepods/burstable/pod1/abc"), "abc"));
    assert!(is_group_of(Path::new("/k8s.io/q1"), "q1"));
    for group in [
        "/k8s.io/podinfo-1",
        "/kubepods/pod1/podinfo-1",
        "/kubepods-pod1.slice/cri-containerd-podinfo-1.scope",
    ] {
        assert!(is_group_of(Path::new(group), "podinfo-1"), "{group}");
    }
    let of_pod = "pod11111111-2222-4333-8444-555555555555";
    assert!(!is_group_of(Path::new("/k8s.io").join(of_pod).as_path(), of_pod));
    for id in ["q1", "podinfo"] {
        let group = format!("/kubepods-pod1.slice:cri-containerd:{id}");
        assert!(is_group_of(Path::new(&group), id), "{group}");
    }
    assert!(!is_group_of(Path::new("/q1"), "q1"));
}
