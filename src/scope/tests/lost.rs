//! Containers of which nothing but their processes is left.

use super::*;

/// Two pods whose files are all gone, in one group that has no container's name.
fn forgotten(more: &[(&str, &str)]) -> Scope {
    let mut files: Vec<(String, String)> = vec![
        (CGROUPS.0.into(), CGROUPS.1.to_owned() + "2 1 0:4 net:[71] /run/netns/cni-a rw - nsfs nsfs rw\n"),
        ("proc/self/status".into(), "NSpid:\t9\n".into()),
        ("sys/fs/cgroup/odd/cgroup.procs".into(), "60\n61\n".into()),
    ];
    let root =
        "/var/snap/microk8s/common/var/lib/containerd/io.containerd.snapshotter.v1.overlayfs/snapshots/1/fs";
    for pid in [60, 61] {
        let at = |name: &str| format!("proc/{pid}/{name}");
        files.extend([
            (at("stat"), format!("{pid} {STAT}")),
            (at("cmdline"), String::new()),
            (at("cgroup"), "0::/odd\n".into()),
            (at("status"), format!("NSpid:\t{pid}\t1\n")),
            (
                at("mountinfo"),
                format!("1 0 0:1 / / rw - overlay overlay rw,lowerdir=/l,upperdir={root},workdir=/w\n"),
            ),
        ]);
    }
    files.extend(more.iter().map(|(path, text)| (path.to_string(), text.to_string())));
    let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (&**path, &**text)).collect();
    let dir = tree(&files);
    let namespace = |pid: &str, kind: &str, number: u32| {
        let ns = dir.path().join("proc").join(pid).join("ns");
        std::fs::create_dir_all(&ns).unwrap();
        std::os::unix::fs::symlink(format!("{kind}:[{number}]"), ns.join(kind)).unwrap();
    };
    for (pid, mount, net) in [("self", 1, 7), ("60", 2, 71), ("61", 3, 72), ("77", 4, 71)] {
        if dir.path().join("proc").join(pid).exists() {
            namespace(pid, "mnt", mount);
            namespace(pid, "net", net);
        }
    }
    gathered(&dir)
}

const RESULT: &str = r#"{"containerId":"ID","networkName":"pods","ifName":"eth0",
    "result":{"interfaces":[{"name":"eth0","sandbox":"/var/run/netns/cni-a"}],"ips":[{"address":"10.1.0.2/16"}]}}"#;

#[test]
fn each_process_that_has_lost_all_else_is_asked_by_itself() {
    let scope = forgotten(&[]);
    let found: Vec<_> = scope.containers.iter().map(|c| (c.id.id.as_str(), c.strays.len())).collect();
    assert_eq!(found, [("process-60", 1), ("process-61", 1)]);
    // The group is no container's to be killed as one; empty, it was theirs.
    assert!(
        scope.containers.iter().all(|c| c.proven_cgroups.is_empty() && c.cgroups == [PathBuf::from("/odd")])
    );
}

#[test]
fn a_lost_process_in_a_managers_group_is_asked_alone() {
    let (slice, session) = ("/user.slice", "/user.slice/user-0.slice/session-7.scope");
    let in_group = |group: &str, pid: i32| {
        let procs = format!("sys/fs/cgroup{group}/cgroup.procs");
        [(procs, format!("{pid}\n")), (format!("proc/{pid}/cgroup"), format!("0::{group}\n"))]
    };
    let files = [in_group(slice, 60), in_group(session, 61)].concat();
    let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (&**path, &**text)).collect();
    let scope = forgotten(&[&files[..], &[("sys/fs/cgroup/odd/cgroup.procs", "")]].concat());
    let found: Vec<_> =
        scope.containers.iter().map(|c| (c.id.id.as_str(), c.strays.len(), c.cgroups.clone())).collect();
    // Whoever logs in is put into the slice; nobody comes into a session later.
    assert_eq!(found, [("process-60", 1, vec![]), ("session-7", 1, vec![PathBuf::from(session)])]);
    assert!(scope.containers.iter().all(|c| c.proven_cgroups.is_empty()));
}

#[test]
fn a_sandbox_is_known_by_the_network_namespace_that_cni_made_for_it() {
    let (a, b) = ("a".repeat(64), "b".repeat(64));
    let result = |id: &str| (format!("var/lib/cni/results/pods-{id}-eth0"), RESULT.replace("ID", id));
    let (of_a, of_b) = (result(&a), result(&b));
    let scope = forgotten(&[(&of_a.0, &of_a.1)]);
    let sandbox = scope.containers.iter().find(|c| c.id.id == a).unwrap();
    assert_eq!(sandbox.witnesses, [Witness::NetworkNamespace].into());
    assert_eq!(scope.network.results, [PathBuf::from("/").join(&of_a.0)]);
    let inodes: Vec<_> = scope.network.namespaces.iter().filter_map(|n| n.inode).collect();
    assert_eq!(inodes, [71, 72]);
    // Of two that both name it neither is believed, and both are told.
    let scope = forgotten(&[(&of_a.0, &of_a.1), (&of_b.0, &of_b.1)]);
    assert!(scope.proven_ids().iter().all(|id| id.starts_with("process-")), "{:?}", scope.proven_ids());
    assert_eq!(scope.blind.len(), 1, "{:?}", scope.blind);
    // Nor is anything where somebody else is in it, too, or of an ID that runc's state gives to another.
    let stat = format!("77 {STAT}");
    let user = [("proc/77/stat", &*stat), ("proc/77/cmdline", "sh"), ("proc/77/cgroup", "0::/user.slice\n")];
    let scope = forgotten(&[&user[..], &[(&of_a.0, &of_a.1)]].concat());
    assert!(!scope.proven_ids().contains(&*a));
    let state = format!(r#"{{"config":{{"labels":["bundle=/run/containerd/{TASKS}/k8s.io/{a}"]}}}}"#);
    let file = format!("run/containerd/runc/k8s.io/{a}/state.json");
    let scope = forgotten(&[(&of_a.0, &of_a.1), (&file, &state)]);
    assert!(!scope.proven_ids().contains(&*a));
}

#[test]
fn a_sandbox_is_nobodys_by_a_namespace_whose_others_are_hidden_or_by_an_id_that_is_in_doubt() {
    let a = "a".repeat(64);
    let (path, text) = (format!("var/lib/cni/results/pods-{a}-eth0"), RESULT.replace("ID", &a));
    let result = (&*path, &*text);
    let proven = |more: &[(&str, &str)]| {
        let scope = forgotten(&[&[result], more].concat());
        (scope.proven_ids().contains(&*a), scope.blind.len())
    };
    assert_eq!(proven(&[]), (true, 0));
    // A namespace that does not read like one, as any other that may not be read.
    let stat = format!("78 {STAT}");
    let user = [("proc/78/stat", &*stat), ("proc/78/cmdline", "sh"), ("proc/78/cgroup", "0::/user.slice\n")];
    let hidden = [&user[..], &[("proc/78/ns/net", "")]].concat();
    assert_eq!(proven(&hidden), (false, 1));
    // Only a bundle of ours names it, and somebody's group carries it, too.
    let bundle = format!("var/snap/microk8s/common/run/containerd/{TASKS}/k8s.io/{a}/config.json");
    let group = format!("sys/fs/cgroup/kubepods.slice/crio-{a}.scope/cgroup.procs");
    let claimed = [&user[..], &[(&*bundle, "{}"), (&*group, "78\n")]].concat();
    assert!(!proven(&claimed).0);
}
