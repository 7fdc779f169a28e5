use crate::runtime::bundle::TASKS;
use crate::scope::tests::{CGROUPS, STAT, gathered, tree};

#[test]
fn a_container_called_like_a_group_of_kubelets_has_its_group_by_its_shims_child() {
    let common = "/var/snap/microk8s/common";
    let unit = "/system.slice/snap.microk8s.daemon-containerd.service";
    for (group, claimed) in [
        ("/kubepods/podA/podinfo", Some("/kubepods/podA/podinfo")),
        ("/kubepods/podA/podinfo/init.scope/k8s.io/podinfo", Some("/kubepods/podA/podinfo")),
        ("/k8s.io/podinfo", Some("/k8s.io/podinfo")),
        ("/user.slice/podinfo", None),
        ("/kubepods/podinfo", None),
    ] {
        let bundle = format!("{}/run/containerd/{TASKS}/k8s.io/podinfo/config.json", &common[1..]);
        let spec = format!(
            r#"{{"linux":{{"cgroupsPath":"{}"}},"annotations":{{"io.kubernetes.cri.sandbox-id":"s"}}}}"#,
            claimed.unwrap_or(group)
        );
        let line = format!("shim\0-namespace\0k8s.io\0-id\0s\0-address\0{common}/run/containerd.sock\0");
        let dir = tree(&[
            CGROUPS,
            ("proc/self/status", "NSpid:\t9\n"),
            (&bundle, &spec),
            (&format!("sys/fs/cgroup{unit}/cgroup.procs"), "50\n"),
            (&format!("sys/fs/cgroup{group}/cgroup.procs"), "61\n"),
            ("proc/50/stat", &format!("50 {STAT}")),
            ("proc/50/cmdline", &line),
            ("proc/50/status", "NSpid:\t50\n"),
            ("proc/50/cgroup", &format!("0::{unit}\n")),
            ("proc/61/stat", &format!("61 {STAT}").replace("S 1", "S 50")),
            ("proc/61/cmdline", ""),
            ("proc/61/status", "NSpid:\t61\n"),
            ("proc/61/cgroup", &format!("0::{group}\n")),
        ]);
        let scope = gathered(&dir);
        let own = scope.containers.iter().find(|c| c.id.id == "podinfo").unwrap();
        let groups: Vec<_> = own.cgroups.iter().map(|g| g.display().to_string()).collect();
        assert_eq!(groups, claimed.into_iter().collect::<Vec<_>>(), "{group}: {:?}", scope.doubts);
    }
}

#[test]
fn a_container_with_an_init_system_has_its_group_if_nobody_else_is_in_it() {
    let id = "0123456789abcdef".repeat(4);
    let address = "/var/snap/microk8s/common/run/containerd.sock";
    let line = format!("shim\0-namespace\0k8s.io\0-id\0s\0-address\0{address}\0");
    let unit = "/system.slice/snap.microk8s.daemon-containerd.service";
    let group = format!("/kubepods/podA/{id}");
    let process = |pid: u32, parent: u32| format!("{pid} {STAT}").replace("S 1", &format!("S {parent}"));
    for (stranger, groups) in [("61\n62\n", vec![group.clone()]), ("61\n62\n63\n", vec![])] {
        let dir = tree(&[
            CGROUPS,
            ("proc/self/status", "NSpid:\t9\n"),
            (&format!("sys/fs/cgroup{unit}/cgroup.procs"), "50\n"),
            (&format!("sys/fs/cgroup{group}/cgroup.procs"), ""),
            (&format!("sys/fs/cgroup{group}/init.scope/cgroup.procs"), stranger),
            ("proc/50/stat", &process(50, 1)),
            ("proc/50/cmdline", &line),
            ("proc/50/status", "NSpid:\t50\n"),
            ("proc/50/cgroup", &format!("0::{unit}\n")),
            ("proc/61/stat", &process(61, 50)),
            ("proc/61/cgroup", &format!("0::{group}/init.scope\n")),
            ("proc/62/stat", &process(62, 61)),
            ("proc/63/stat", &process(63, 1)),
        ]);
        let scope = gathered(&dir);
        let of_id = scope.containers.iter().filter(|c| c.id.id == id);
        let found: Vec<_> = of_id.flat_map(|c| &c.cgroups).map(|g| g.display().to_string()).collect();
        assert_eq!(found, groups, "{stranger:?}: {:?}", scope.doubts);
    }
}
