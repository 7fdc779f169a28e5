//! What is the snap's, of fixture trees.

mod lost;

use std::path::Path;

use super::*;
use crate::fixture::{microk8s, scope_of};
use crate::linux::host::Host;
use crate::runtime::bundle::TASKS;
use crate::scope::decide::{gather, gather_after};
use crate::view::View;

#[test]
fn what_an_earlier_run_could_not_remove_is_still_known_and_what_runs_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let write = |path: &str, text: &str| {
        let file = dir.path().join(path);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, text).unwrap();
    };
    write("proc/self/mountinfo", "1 0 0:1 / /sys/fs/cgroup rw - cgroup2 c rw\n");
    write("sys/fs/cgroup/kubepods/podA/dead/cgroup.procs", "");
    write("sys/fs/cgroup/kubepods/podB/runs/cgroup.procs", "77\n");
    write("run/netns/cni-dead", "");
    let mut earlier = scope_of(&["dead", "runs", "../etc"]);
    for (container, pod) in earlier.containers.iter_mut().zip(["podA", "podB", "podC"]) {
        container.cgroups = vec![Path::new("/kubepods").join(pod).join(&container.id.id)];
        container.netns = Some(format!("/run/netns/cni-{}", container.id.id).into());
        container.init = Some(ProcessId { pid: 77, start: 1 });
    }
    earlier.containers[2].netns = Some("/etc/passwd".into());
    let host = Host::at(dir.path());
    let (snap, profile) = microk8s();
    let view = View::new(&host, None);
    let scope = gather_after(&view, &snap, &profile, Some(&earlier)).unwrap();
    let known: Vec<_> =
        scope.containers.iter().map(|c| (c.id.id.as_str(), c.cgroups.len(), c.init)).collect();
    assert_eq!(known, [("dead", 1, None), ("runs", 0, None)]);
    let netns: Vec<_> = scope.network.namespaces.iter().map(|n| n.paths.clone()).collect();
    assert_eq!(
        netns,
        [["/run/netns/cni-dead"], ["/run/netns/cni-runs"]].map(|p| p.map(PathBuf::from).to_vec())
    );
}

pub(super) fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let file = dir.path().join(path);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, text).unwrap();
    }
    dir
}

pub(super) fn gathered(dir: &tempfile::TempDir) -> Scope {
    let (snap, profile) = microk8s();
    gather(&View::new(&Host::at(dir.path()), None), &snap, &profile).unwrap()
}

pub(super) const CGROUPS: (&str, &str) =
    ("proc/self/mountinfo", "1 0 0:1 / /sys/fs/cgroup rw - cgroup2 c rw\n");
pub(super) const STAT: &str = "(x) S 1 1 1 0 -1 4194560 0 0 0 0 0 0 0 0 20 0 1 0 100 0 0 184 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n";

#[test]
fn a_shim_in_our_service_with_another_address_is_not_passed_over() {
    let stat = format!("50 {STAT}");
    for (unit, depth, blind) in [
        ("snap.microk8s.daemon-containerd.service", "50", 1),
        ("snap.microk8s.ctr-1.scope", "50", 0),
        ("snap.microk8s_two.daemon-containerd.service", "50", 0),
        ("snap.microk8s.daemon-containerd.service", "50\t7", 0),
    ] {
        let (group, status) = (format!("/system.slice/{unit}"), format!("NSpid:\t{depth}\n"));
        let dir = tree(&[
            CGROUPS,
            ("proc/self/status", "NSpid:\t9\n"),
            (&format!("sys/fs/cgroup{group}/cgroup.procs"), "50\n"),
            ("proc/50/stat", &stat),
            ("proc/50/cmdline", "shim\0-namespace\0k8s.io\0-id\0a\0-address\0/run/other.sock\0"),
            ("proc/50/status", &status),
            ("proc/50/cgroup", &format!("0::{group}\n")),
        ]);
        let scope = gathered(&dir);
        assert_eq!(scope.blind.len(), blind, "{unit} {depth}: {:?}", scope.blind);
        assert!(scope.shims.is_empty(), "{unit}");
    }
}

#[test]
fn a_process_that_ends_while_it_is_looked_at_does_not_hide_an_orphan() {
    let id = "a".repeat(64);
    let root =
        "/var/snap/microk8s/common/var/lib/containerd/io.containerd.snapshotter.v1.overlayfs/snapshots/1/fs";
    let dir = tree(&[
        CGROUPS,
        ("proc/self/status", "NSpid:\t9\n"),
        (&format!("sys/fs/cgroup/kubepods/podA/{id}/cgroup.procs"), "60\n61\n"),
        // The first has no mount table any more.
        ("proc/60/stat", &format!("60 {STAT}")),
        ("proc/60/cmdline", ""),
        ("proc/61/stat", &format!("61 {STAT}")),
        ("proc/61/cmdline", ""),
        ("proc/61/status", "NSpid:\t61\t1\n"),
        (
            "proc/61/mountinfo",
            &format!("1 0 0:1 / / rw - overlay overlay rw,lowerdir=/l,upperdir={root},workdir=/w\n"),
        ),
    ]);
    let scope = gathered(&dir);
    assert_eq!(scope.containers.iter().map(|c| c.id.id.as_str()).collect::<Vec<_>>(), [id.as_str()]);
}

/// A pod's process in the process namespace of another's first process: the pod has it from its host (`hostPID`).
fn in_the_namespace_of(root: &str, processes: &[(i32, i32)]) -> Scope {
    let (id, ours) = ("a".repeat(64), root_on(1));
    let mut files = vec![
        (CGROUPS.0.into(), CGROUPS.1.to_owned()),
        ("proc/self/status".into(), "NSpid:\t9\n".into()),
        (format!("sys/fs/cgroup/lxc.payload.g/kubepods/podA/{id}/cgroup.procs"), "61\n".into()),
        ("proc/61/mountinfo".into(), ours),
        ("proc/72/mountinfo".into(), root.to_owned()),
        ("proc/70/mountinfo".into(), "1 0 0:9 / / rw - ext4 /dev/x rw\n".into()),
    ];
    for (pid, parent) in processes {
        let depth = if *pid == 70 { "70" } else { "61\t9" };
        files.extend([
            (format!("proc/{pid}/stat"), format!("{pid} {STAT}").replace("S 1", &format!("S {parent}"))),
            (format!("proc/{pid}/cmdline"), String::new()),
            (format!("proc/{pid}/status"), format!("NSpid:\t{depth}\n")),
        ]);
    }
    let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (&**path, &**text)).collect();
    gathered(&tree(&files))
}

pub(super) fn root_on(snapshot: u32) -> String {
    let snapshots =
        "/var/snap/microk8s/common/var/lib/containerd/io.containerd.snapshotter.v1.overlayfs/snapshots";
    format!("1 0 0:1 / / rw - overlay overlay rw,lowerdir=/l,upperdir={snapshots}/{snapshot}/fs,workdir=/w\n")
}

#[test]
fn what_is_in_a_guests_own_process_namespace_is_the_guests() {
    let told = |scope: Scope| (scope.containers.len(), scope.blind.len(), scope.doubts.len());
    let guests = "1 0 0:8 / / rw - zfs pool/guest rw\n";
    // Its shim, the guest's first process, and the monitor that is on the machine itself.
    let below = [(61, 71), (71, 72), (72, 70), (70, 1)];
    assert_eq!(told(in_the_namespace_of(guests, &below)), (0, 0, 0));
    assert_eq!(told(in_the_namespace_of(guests, &[(61, 72), (72, 1)])), (0, 0, 0));
    // A container of ours has processes below its first one, and first ones on the machine itself.
    assert_eq!(told(in_the_namespace_of(&root_on(2), &below)), (1, 0, 0));
    assert_eq!(told(in_the_namespace_of(guests, &[(61, 70), (70, 1)])), (1, 0, 0));
    assert_eq!(told(in_the_namespace_of(guests, &[(61, 1)])), (1, 0, 0));
    // What cannot be looked up, or leads in a circle, is told.
    assert_eq!(told(in_the_namespace_of(guests, &[(61, 71)])), (0, 1, 0));
    assert_eq!(told(in_the_namespace_of(guests, &[(61, 71), (71, 72), (72, 71)])), (0, 1, 0));
}

#[test]
fn beside_another_instance_that_runs_a_comment_that_names_the_snap_proves_nothing() {
    let group = "sys/fs/cgroup/system.slice/snap.microk8s_two.daemon-kubelite.service/cgroup.procs";
    let depth = ("proc/self/status", "NSpid:\t9\n");
    let rules = |files: &[(&str, &str)]| {
        let scope = gathered(&tree(files));
        (scope.rule_comments.len(), scope.bystanders.len())
    };
    let runs = [CGROUPS, depth, (group, "77\n"), ("proc/77/status", "NSpid:\t77\n")];
    assert_eq!(rules(&runs), (0, 1));
    let in_a_guest = [CGROUPS, depth, (group, "77\n"), ("proc/77/status", "NSpid:\t77\t1\n")];
    assert_eq!(rules(&in_a_guest), (1, 0));
    assert_eq!(rules(&[CGROUPS, depth, (group, "")]), (1, 0), "anybody can make an empty group");
    assert_eq!(rules(&[CGROUPS, depth]), (1, 0));
}

#[test]
fn a_container_whose_bundle_is_the_neighbours_is_not_ours_whatever_its_state_says() {
    let bundle = "/var/snap/microk8s/common/run/containerd/io.containerd.runtime.v2.task/k8s.io/a";
    let state = format!(r#"{{"config":{{"labels":["bundle={bundle}"]}}}}"#);
    let own = ("run/containerd/runc/k8s.io/a/state.json", state.as_str());
    let theirs = ("run/containerd/io.containerd.runtime.v2.task/k8s.io/a/config.json", "");
    let ids = |files: &[(&str, &str)]| gathered(&tree(files)).containers.len();
    assert_eq!((ids(&[CGROUPS, own]), ids(&[CGROUPS, own, theirs])), (1, 0));
    // The namespace is part of the name.
    let elsewhere = ("run/containerd/io.containerd.runtime.v2.task/moby/a/config.json", "");
    assert_eq!(ids(&[CGROUPS, own, elsewhere]), 1);
    // What lies in our own directories decides before anything of theirs.
    assert_eq!(ids(&[CGROUPS, own, theirs, (&format!("{}/x", &bundle[1..]), "")]), 1);
}

#[test]
fn a_living_group_that_carries_the_id_in_any_shape_contradicts_a_bundle() {
    let id = "a".repeat(64);
    let bundle =
        format!("var/snap/microk8s/common/run/containerd/io.containerd.runtime.v2.task/k8s.io/{id}/x");
    let contradicted = |name: &str, pids: &str| {
        let group = format!("sys/fs/cgroup/kubepods/podA/{name}/cgroup.procs");
        let scope = gathered(&tree(&[CGROUPS, (&bundle, ""), (&group, pids)]));
        (scope.containers[0].contradicted, scope.doubts.len())
    };
    for before in ["", "cri-containerd-", "kata_", "kata_overhead:", "kubepods-podA.slice:kata:"] {
        assert_eq!(contradicted(&format!("{before}{id}"), "77\n"), (true, 1), "{before}");
        assert_eq!(contradicted(&format!("{before}{id}"), ""), (false, 0), "{before}");
    }
    assert_eq!(contradicted("kata_b", "77\n"), (false, 0));
}

#[test]
fn a_pod_is_a_containers_by_its_group_and_not_by_what_its_bundle_says() {
    let bundle = "var/snap/microk8s/common/run/containerd/io.containerd.runtime.v2.task/k8s.io/a";
    let spec = r#"{"annotations":{"io.kubernetes.cri.sandbox-name":"p","io.kubernetes.cri.sandbox-uid":"1-2"},"linux":{"cgroupsPath":"GROUP"}}"#;
    let state = format!(r#"{{"config":{{"labels":["bundle=/{bundle}"]}}}}"#);
    let proven = |group: &str, recorded: bool, there: bool| {
        let config = (format!("{bundle}/config.json"), spec.replace("GROUP", group));
        let procs = format!("sys/fs/cgroup{group}/cgroup.procs");
        let mut files = vec![CGROUPS, (&*config.0, &*config.1)];
        files.extend(recorded.then_some(("run/containerd/runc/k8s.io/a/state.json", state.as_str())));
        files.extend(there.then_some((&*procs, "")));
        gathered(&tree(&files)).containers[0].pod_proven
    };
    assert!(proven("/kubepods/pod1-2/a", true, true));
    assert!(!proven("/kubepods/pod1-2/a", true, false), "a bundle claims what is not there");
    assert!(!proven("/kubepods/pod1-2/a", false, true), "nothing proves the container");
    assert!(!proven("/kubepods/pod3/a", true, true), "its group is another pod's");
}

#[test]
fn living_shims_tell_where_their_containerd_works() {
    let stat = format!("50 {STAT}");
    let group = "/system.slice/snap.microk8s.daemon-containerd.service";
    let address = "/var/snap/microk8s/common/run/containerd.sock";
    let line = format!("shim\0-namespace\0k8s.io\0-id\0a\0-address\0{address}\0");
    for (unit, followed) in [(group, true), ("/user.slice/session-1.scope", false)] {
        let procs = format!("sys/fs/cgroup{unit}/cgroup.procs");
        let membership = format!("0::{unit}\n");
        let dir = tree(&[
            CGROUPS,
            ("proc/self/status", "NSpid:\t9\n"),
            (&procs, "50\n"),
            ("proc/50/stat", &stat),
            ("proc/50/cmdline", &line),
            ("proc/50/status", "NSpid:\t50\n"),
            ("proc/50/cgroup", &membership),
            ("mnt/big/run/io.containerd.runtime.v2.task/k8s.io/a/config.json", "{}"),
        ]);
        let bundle = "/mnt/big/run/io.containerd.runtime.v2.task/k8s.io/a";
        std::os::unix::fs::symlink(bundle, dir.path().join("proc/50/cwd")).unwrap();
        std::os::unix::fs::symlink(
            "/mnt/big/lib/io.containerd.runtime.v2.task/k8s.io/a",
            dir.path().join(&bundle[1..]).join("work"),
        )
        .unwrap();
        let scope = gathered(&dir);
        assert_eq!(scope.roots.state == Path::new("/mnt/big/run"), followed, "{unit}");
        assert_eq!(scope.roots.root == Path::new("/mnt/big/lib"), followed, "{unit}");
        assert_eq!(scope.doubts.is_empty(), followed, "{unit}: {:?}", scope.doubts);
        assert_eq!(scope.roots.data, crate::fixture::roots().data, "nothing outside becomes data");
        // A later run has only the result of this one to know it by, as far as that is read back.
        std::fs::remove_dir_all(dir.path().join("proc/50")).unwrap();
        let known: Scope = serde_json::from_str(&serde_json::to_string(&scope).unwrap()).unwrap();
        let (snap, profile) = microk8s();
        let host = Host::at(dir.path());
        let later = gather_after(&View::new(&host, None), &snap, &profile, Some(&known)).unwrap();
        assert_eq!(later.roots, scope.roots, "{unit}");
    }
}

#[test]
fn a_bundle_is_asked_for_its_socket_where_there_may_be_two() {
    let (sandbox, app) = ("a".repeat(64), "b".repeat(64));
    let bundle = format!("var/snap/microk8s/common/run/containerd/{TASKS}/k8s.io/{app}");
    let socket = |id: &str| {
        let roots = crate::fixture::roots();
        crate::runtime::shim::socket(&roots.shim_sockets, &roots.address, "k8s.io", id)
    };
    let spec = format!(r#"{{"annotations":{{"io.kubernetes.cri.sandbox-id":"{sandbox}"}}}}"#);
    let address = format!("unix://{}", socket(&app).display());
    let (config, file) = (format!("{bundle}/config.json"), format!("{bundle}/address"));
    let told = |sockets: &[&str]| {
        let dir = tree(&[CGROUPS, (&config, &spec), (&file, &address)]);
        for id in sockets {
            let at = dir.path().join(socket(id).strip_prefix("/").unwrap());
            std::fs::create_dir_all(at.parent().unwrap()).unwrap();
            std::fs::write(at, "").unwrap();
        }
        gathered(&dir).containers.into_iter().find(|c| c.id.id == app).unwrap().socket.unwrap().to_path_buf()
    };
    assert_eq!(told(&[]), socket(&app), "of which nothing is known but this");
    assert_eq!(told(&[&sandbox]), socket(&sandbox), "the only one that is there");
    assert_eq!(told(&[&sandbox, &app]), socket(&app));
    assert_eq!(told(&[&app]), socket(&app));
}
