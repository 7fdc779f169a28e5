use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::*;
use crate::runtime::bolt::tests::Dice;
use crate::runtime::bolt::writer::{Order, Tree, Writer, put};

mod damage;
pub(crate) mod traces;

fn id(n: usize) -> String {
    format!("{n:064x}")
}

fn cri(kind: &str, metadata: Value) -> Vec<u8> {
    let json = json!({"Version": "v1", "Metadata": metadata}).to_string();
    any::write(&format!("github.com/containerd/cri/pkg/store/{kind}/Metadata"), json.as_bytes())
}

fn spec(id: &str, words: &[&str]) -> Vec<u8> {
    let process = json!({"args": words, "cwd": "/"});
    let linux = json!({"cgroupsPath": format!("/kubepods/pod1/{id}")});
    let json = json!({"ociVersion": "1.1.0", "process": process, "linux": linux}).to_string();
    any::write("types.containerd.io/opencontainers/runtime-spec/1/Spec", json.as_bytes())
}

/// What containerd writes of any container.
fn put_container(tree: &mut Tree, namespace: &str, id: &str, extension: Option<(&str, Vec<u8>)>) {
    let mut at = |path: &[&str], value: &[u8]| {
        let path: Vec<&str> = ["v1", namespace, "containers", id].iter().chain(path).copied().collect();
        put(tree, &path, value);
    };
    at(&["createdat"], b"\x01\0\0\0\x0e");
    at(&["image"], b"docker.io/library/app:1");
    at(&["snapshotter"], b"overlayfs");
    at(&["snapshotKey"], id.as_bytes());
    at(&["runtime", "name"], RUNC.as_bytes());
    at(&["labels", "io.cri-containerd.kind"], b"container");
    at(&["spec"], &spec(id, &["/app", id]));
    if let Some((key, value)) = extension {
        at(&["extensions", key], &value);
    }
}

fn put_sandbox(tree: &mut Tree, id: &str, metadata: Value) {
    let extension = ("io.cri-containerd.sandbox.metadata", cri("sandbox", metadata));
    put_container(tree, "k8s.io", id, Some(extension));
}

fn put_app(tree: &mut Tree, id: &str, metadata: Value) {
    let extension = ("io.cri-containerd.container.metadata", cri("container", metadata));
    put_container(tree, "k8s.io", id, Some(extension));
}

fn sandbox(id: &str, n: usize) -> Value {
    json!({
        "ID": id, "Name": "web_default_uid_0", "NetNSPath": format!("/var/run/netns/cni-{n}"), "IP": format!("10.1.0.{n}"),
        "AdditionalIPs": ["fd00::2"], "RuntimeHandler": "", "ProcessLabel": "",
        "Config": {
            "metadata": {"name": format!("web{n}"), "uid": format!("uid{n}"), "namespace": "default"},
            "log_directory": format!("/var/log/pods/{n}"),
            "linux": {"cgroup_parent": format!("/kubepods/pod{n}"), "security_context": {"namespace_options": {"pid": 1}}}
        },
        "CNIResult": {"Interfaces": {
            "cni0": {"IPConfigs": null, "Mac": "aa:aa:aa:aa:aa:aa", "Sandbox": ""},
            "eth0": {"IPConfigs": [{"IP": "10.1.0.2", "Gateway": "10.1.0.1"}], "Mac": "cc:cc:cc:cc:cc:cc", "Sandbox": "/x"},
            "veth12345678": {"IPConfigs": null, "Mac": "bb:bb:bb:bb:bb:bb", "Sandbox": ""},
            "a/b": {"Mac": "", "Sandbox": ""}, "much-too-long-a-name": {"Mac": "", "Sandbox": ""}
        }, "DNS": null, "Routes": null}
    })
}

fn app(id: &str, sandbox: &str, n: usize) -> Value {
    json!({
        "ID": id, "Name": "app", "SandboxID": sandbox, "StopSignal": "SIGQUIT", "ImageRef": "sha256:0", "LogPath": "",
        "Config": {
            "metadata": {"name": "app"}, "image": {"image": "sha256:0"},
            "labels": {"io.kubernetes.pod.name": format!("web{n}"), "io.kubernetes.pod.namespace": "default",
                "io.kubernetes.pod.uid": format!("uid{n}"), "io.kubernetes.container.name": format!("app{n}")},
            "annotations": {
                "io.kubernetes.pod.terminationGracePeriod": n.to_string(),
                "io.kubernetes.container.preStopHandler": format!(r#"{{"exec":{{"command":["/stop","{id}"]}}}}"#),
                "io.kubernetes.container.ports": r#"[{"name":"web","containerPort":80,"protocol":"TCP"}]"#
            }
        }
    })
}

/// So many pods of a sandbox and a container, and a container that CRI knows nothing of.
fn pods(count: usize) -> Tree {
    let mut tree = Tree::new();
    put(&mut tree, &["v1", "version"], b"\x06");
    put(&mut tree, &["v1", "k8s.io", "images", "docker.io/library/app:1", "createdat"], b"x");
    for n in 1..=count {
        let (pause, own) = (id(n), id(1000 + n));
        put_sandbox(&mut tree, &pause, sandbox(&pause, n));
        put_app(&mut tree, &own, app(&own, &pause, n));
    }
    put_container(&mut tree, "default", "by-hand", None);
    let label =
        ["v1", "default", "containers", "by-hand", "labels", "io.containerd.image.config.stop-signal"];
    put(&mut tree, &label, "SIGRTMIN+3");
    tree
}

fn file(tree: &Tree, order: Order) -> Vec<u8> {
    let mut writer = Writer::new(order, 4096);
    writer.commit(tree);
    writer.bytes
}

fn read_tree(tree: &Tree) -> Records {
    read(&file(tree, Order::Little).as_slice()).unwrap()
}

fn named(namespace: &str, id: &str) -> ContainerId {
    ContainerId { namespace: namespace.into(), id: id.into() }
}

#[test]
fn everything_of_a_pod_is_read_in_either_byte_order() {
    let tree = pods(3);
    for order in [Order::Little, Order::Big] {
        let records = read(&file(&tree, order).as_slice()).unwrap();
        assert_eq!(records.remarks, Remarks::default());
        assert_eq!(records.containers.len(), 7);
        let own = &records.containers[&named("k8s.io", &id(1002))];
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        assert_eq!(text(&own.image), "docker.io/library/app:1");
        assert_eq!((text(&own.snapshotter), text(&own.snapshot)), ("overlayfs".into(), id(1002)));
        assert_eq!((text(&own.runtime), text(&own.sandbox_id)), (RUNC.into(), id(2)));
        let pod = Pod { namespace: "default".into(), name: "web2".into(), uid: "uid2".into() };
        assert_eq!((own.pod.as_ref(), text(&own.name)), (Some(&pod), "app2".into()));
        assert_eq!((own.deletion_grace, own.termination_grace, own.stop_signal), (None, Some(2), Some(3)));
        assert_eq!(own.pre_stop, Some(PreStop::Exec(vec!["/stop".into(), id(1002)])));
        assert_eq!((own.ports.len(), own.ports[0].container_port), (1, 80));
        let process: Value = serde_json::from_str(own.process.as_deref().unwrap()).unwrap();
        assert_eq!(process, json!({"args": ["/app", id(1002)], "cwd": "/"}));
        assert!(own.sandbox.is_none());

        let sandbox = records.sandbox_of(&named("k8s.io", &id(1002))).unwrap();
        assert_eq!(sandbox.netns.as_deref(), Some(std::path::Path::new("/var/run/netns/cni-2")));
        let addresses: Vec<String> = sandbox.addresses.iter().map(ToString::to_string).collect();
        assert_eq!(addresses, ["10.1.0.2", "fd00::2"]);
        let links: Vec<&str> = sandbox.links.iter().map(|link| link.name.as_str()).collect();
        assert_eq!((links, sandbox.host_network), (vec!["cni0", "veth12345678"], false));
        assert_eq!(sandbox.cgroup_parent.as_deref(), Some("/kubepods/pod2"));
        let pause = &records.containers[&named("k8s.io", &id(2))];
        assert_eq!((pause.pod.as_ref(), pause.process.is_some()), (Some(&pod), false));

        let by_hand = &records.containers[&named("default", "by-hand")];
        assert_eq!((by_hand.stop_signal, by_hand.pod.as_ref()), (Some(37), None));
    }
}

#[test]
fn a_pod_in_the_hosts_network_has_no_network_of_its_own() {
    let mut tree = Tree::new();
    let mut it = sandbox(&id(1), 1);
    it["NetNSPath"] = "".into();
    it["IP"] = "".into();
    it["AdditionalIPs"] = Value::Null;
    it["CNIResult"] = Value::Null;
    it["Config"]["linux"]["security_context"]["namespace_options"]["network"] = 2.into();
    put_sandbox(&mut tree, &id(1), it);
    // As podmaker and others make them, without kubelet's labels.
    let mut bare = app(&id(2), &id(1), 1);
    bare["Config"] = json!({"metadata": {"name": "bare"}});
    bare["StopSignal"] = "".into();
    put_app(&mut tree, &id(2), bare);
    // Only CRI says what CRI's containers get.
    let label = ["v1", "k8s.io", "containers", &id(2), "labels", "io.containerd.image.config.stop-signal"];
    put(&mut tree, &label, "SIGKILL");
    let records = read_tree(&tree);
    let own = records.containers[&named("k8s.io", &id(1))].sandbox.as_ref().unwrap();
    assert!(own.host_network && own.netns.is_none() && own.addresses.is_empty() && own.links.is_empty());
    let bare = &records.containers[&named("k8s.io", &id(2))];
    assert_eq!((bare.name.as_deref(), bare.stop_signal, bare.pre_stop.as_ref()), (Some("bare"), None, None));
    assert_eq!(bare.pod.as_ref().unwrap().name, "web1");
    assert_eq!(records.remarks.count, 0);
}

#[test]
fn a_sandbox_that_is_no_container_yet() {
    let mut tree = pods(1);
    for (n, namespace) in [(1, "k8s.io"), (2, "k8s.io"), (3, "moby")] {
        let at = id(n);
        let path = ["v1", namespace, "sandboxes", &at, "extensions", "metadata"];
        put(&mut tree, &path, cri("sandbox", sandbox(&at, n + 10)));
    }
    let records = read_tree(&tree);
    let netns = |n| records.containers.get(&named("k8s.io", &id(n)))?.sandbox.as_ref()?.netns.clone();
    assert_eq!(netns(1).unwrap(), Path::new("/var/run/netns/cni-1"), "its container's word counts");
    assert_eq!(netns(2).unwrap(), Path::new("/var/run/netns/cni-12"));
    assert!(!records.containers.contains_key(&named("moby", &id(3))));
    assert_eq!(records.remarks.count, 0);
}

#[test]
fn what_makes_no_sense_is_remarked_upon_and_harms_no_other() {
    let broken = |break_it: &dyn Fn(&mut Tree)| {
        let mut tree = pods(2);
        break_it(&mut tree);
        let records = read_tree(&tree);
        let other = &records.containers[&named("k8s.io", &id(1001))];
        assert_eq!((other.termination_grace, other.stop_signal), (Some(1), Some(3)));
        assert!(other.process.is_some());
        let own = records.containers.get(&named("k8s.io", &id(1002))).cloned();
        (own, records.remarks)
    };
    let extension = "io.cri-containerd.container.metadata";
    let own = id(1002);
    let change = |value: Vec<u8>| {
        let own = own.clone();
        move |tree: &mut Tree| {
            put(tree, &["v1", "k8s.io", "containers", &own, "extensions", extension], value.clone());
        }
    };
    let good = app(&id(1002), &id(2), 2);
    let json = json!({"Version": "v2", "Metadata": good}).to_string();
    let frame = |json: &str| any::write("x/store/container/Metadata", json.as_bytes());
    let whole = cri("container", good.clone());
    for (value, remark) in [
        (frame(&json), "of a version that nobody knows"),
        (cri("container", app(&id(1001), &id(1), 1)), "what CRI says is about another"),
        (cri("sandbox", good.clone()), "of another kind"),
        (whole[..whole.len() - 9].to_vec(), "in no frame"),
        (frame("{\"Version\":\"v1\",\"Metadata\":{\"ID\""), "EOF"),
        (frame(&"[".repeat(100_000)), "expected"),
        (frame(&format!("\"{}\"", "x".repeat(LONGEST_JSON))), "too long"),
        (frame("{\"Version\":\"v1\",\"Metadata\":{\"ID\":7}}"), "invalid type"),
    ] {
        let (record, remarks) = broken(&change(value));
        let record = record.unwrap();
        assert_eq!(remarks.count, 1, "{remarks:?}");
        assert!(remarks.texts[0].contains(remark) && remarks.texts[0].starts_with(&id(1002)), "{remarks:?}");
        // containerd's own part is as good as ever.
        assert_eq!(record.snapshot, Some(id(1002)));
        let taken = (record.stop_signal, record.pre_stop, record.process, record.termination_grace);
        assert_eq!(taken, (None, None, None, None));
    }
    // One annotation that makes no sense leaves the others.
    for (key, value) in [
        ("io.kubernetes.pod.terminationGracePeriod", "-1"),
        ("io.kubernetes.pod.deletionGracePeriod", "soon"),
        ("io.kubernetes.container.preStopHandler", "{"),
        ("io.kubernetes.container.ports", "{}"),
    ] {
        let mut odd = good.clone();
        odd["Config"]["annotations"][key] = value.into();
        let (record, remarks) = broken(&change(cri("container", odd)));
        assert_eq!((remarks.count, record.unwrap().stop_signal), (1, Some(3)), "{remarks:?}");
    }
    let mut odd = good.clone();
    odd["StopSignal"] = "SIGNOTHING".into();
    let (record, remarks) = broken(&change(cri("container", odd)));
    assert_eq!((remarks.count, record.unwrap().termination_grace), (1, Some(2)));

    let (_, remarks) = broken(&|tree| put_container(tree, "k8s.io", "../../etc", None));
    assert_eq!(remarks.count, 1);
    let (_, remarks) = broken(&|tree| put_container(tree, "..", "x", None));
    assert_eq!(remarks.count, 1);
    let (record, remarks) = broken(&|tree| put(tree, &["v1", "k8s.io", "containers", &own], "x"));
    assert_eq!((remarks.count, record), (1, None));
    for value in [b"x".to_vec(), spec(&id(1001), &["/app"]), spec(&format!("x{own}"), &["/app"])] {
        let put_spec =
            |tree: &mut Tree| put(tree, &["v1", "k8s.io", "containers", &own, "spec"], value.clone());
        let (record, remarks) = broken(&put_spec);
        assert_eq!((remarks.count, record.unwrap().process), (1, None));
    }
}

#[test]
fn a_file_of_somebody_else_says_so() {
    let mut tree = Tree::new();
    assert_eq!(read_tree(&tree).remarks.count, 1);
    put(&mut tree, &["v2", "x"], "y");
    assert_eq!(read_tree(&tree).remarks.count, 1);
    put(&mut tree, &["v1"], "y");
    assert_eq!(read_tree(&tree).containers.len(), 0);
    assert!(read(&&b"nothing"[..]).is_err());
}

#[test]
fn only_a_plain_file_is_opened() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("meta.db");
    assert!(read_file(&path).unwrap().is_none());
    assert!(read_file(&path.join("below")).unwrap().is_none());
    std::fs::write(&path, file(&pods(1), Order::Little)).unwrap();
    assert_eq!(read_file(&path).unwrap().unwrap().containers.len(), 3);
    assert!(matches!(read_file(&path.join("below")), Err(BoltError::Io(_))), "not a directory");
    assert!(matches!(read_file(dir.path()), Err(BoltError::NoMeta)));
    let other = dir.path().join("other");
    std::os::unix::fs::symlink(&path, &other).unwrap();
    assert!(matches!(read_file(&other), Err(BoltError::Io(_))));
    std::fs::remove_file(&other).unwrap();
    nix::unistd::mkfifo(&other, nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert!(matches!(read_file(&other), Err(BoltError::NoMeta)));
}

#[test]
fn remarks_and_processes_are_bounded() {
    let mut tree = Tree::new();
    for n in 0..40 {
        let pause = id(0);
        put_app(&mut tree, &id(n), app(&id(n), &pause, n));
        let spec = spec(&id(n), &["/app", &"x".repeat(1 << 20)]);
        put(&mut tree, &["v1", "k8s.io", "containers", &id(n), "spec"], spec);
        let path = ["v1", "k8s.io", "containers", &format!("{}\u{7f}", "x".repeat(n + 1)), "image"];
        put(&mut tree, &path, "x");
    }
    let records = read_tree(&tree);
    let kept: Vec<usize> =
        records.containers.values().filter_map(|record| record.process.as_ref().map(|p| p.len())).collect();
    assert_eq!(kept.len(), 15);
    assert!(kept.iter().sum::<usize>() <= MOST_PROCESSES);
    assert_eq!((records.remarks.texts.len(), records.remarks.count), (MOST_REMARKS, 40 + 25));
    assert!(records.remarks.texts.iter().all(|text| text.len() <= 200));
}
