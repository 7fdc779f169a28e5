use crate::linux::host::Host;
use crate::runtime::bundle::TASKS;
use crate::scope::decide::gather;
use crate::scope::tests::{CGROUPS, STAT, tree};
use crate::scope::{BystanderKind, Scope};
use crate::snap::Snap;
use crate::snap::profile::Profile;
use crate::view::View;

const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// A container of docker's, with two processes, in the directories that the k8s snap shares with docker.
fn of_docker(files: &[(&str, &str)]) -> Scope {
    let process = |pid: u32, parent: u32| format!("{pid} {STAT}").replace("S 1", &format!("S {parent}"));
    let line = format!("shim\0-namespace\0moby\0-id\0{ID}\0-address\0/run/containerd/containerd.sock\0");
    let (shim, first, second, stranger) = (process(50, 1), process(61, 50), process(62, 61), process(63, 1));
    let (group, bundle) = (format!("sys/fs/cgroup/docker/{ID}"), format!("run/containerd/{TASKS}/moby/{ID}"));
    let (config, procs) = (format!("{bundle}/config.json"), format!("{group}/cgroup.procs"));
    let spec = format!(r#"{{"linux":{{"cgroupsPath":"/docker/{ID}"}}}}"#);
    let common = [
        CGROUPS,
        ("proc/self/status", "NSpid:\t9\n"),
        (&config, &spec),
        (&procs, "61\n62\n"),
        ("proc/50/stat", &shim),
        ("proc/50/cmdline", &line),
        ("proc/50/status", "NSpid:\t50\n"),
        ("proc/50/cgroup", "0::/system.slice/containerd.service\n"),
        ("proc/61/stat", &first),
        ("proc/62/stat", &second),
        ("proc/63/stat", &stranger),
    ];
    let files: Vec<_> = files.iter().map(|(path, text)| (path.replace("PROCS", &procs), *text)).collect();
    let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (&**path, *text)).collect();
    let dir = tree(&[&common[..], &files].concat());
    let profile = Profile::built_in("k8s").unwrap().unwrap();
    gather(&View::new(&Host::at(dir.path()), None), &Snap::stand_in("k8s"), &profile).unwrap()
}

#[test]
fn a_living_shim_in_anothers_unit_tells_whose_a_container_is() {
    let scope = of_docker(&[]);
    let of_containers = scope.bystanders.iter().filter(|b| b.kind == BystanderKind::Container);
    let why: Vec<&str> = of_containers.map(|bystander| &*bystander.why).collect();
    assert_eq!(why, ["the shim 50 is above it, of which: it runs in /system.slice/containerd.service"]);
    assert_eq!((&scope.doubts, &scope.blind), (&vec![], &vec![]));
    assert!(scope.containers.is_empty() && !scope.idle, "it is none of ours, and ours has not run by that");
}

#[test]
fn what_no_shim_in_a_unit_vouches_for_is_a_doubt_as_before() {
    for (file, text, why) in [
        ("PROCS", "61\n62\n63\n", "somebody is in the group whom init has inherited"),
        ("PROCS", "50\n61\n62\n", "what reads like a shim is in the container itself"),
        ("proc/50/cgroup", "0::/system.slice/x-web.scope\n", "a runtime may have asked for that scope"),
        ("proc/50/cgroup", "0::/user.slice/session-1.scope\n", "a user's"),
        ("proc/50/cgroup", "0::/system.slice/a.service/kubepods/pod1\n", "a container's"),
        ("proc/50/status", "NSpid:\t50\t7\n", "a guest's"),
    ] {
        let scope = of_docker(&[(file, text)]);
        let told = |what: &str| scope.doubts.iter().any(|doubt| doubt.what.starts_with(what));
        assert!(told("container 0123"), "{why}: {:?}", scope.doubts);
        assert_eq!(scope.containers.len(), 1, "{why}");
    }
}
