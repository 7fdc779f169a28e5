//! Directories that the snap shares with every other runtime of the host (29), and what is left of them (31).
//!
//! RIGHT: mounts, bundles and states of owned IDs are ended and gone; those of another namespace, of another runtime and of
//! unknown IDs stay. Directories that are empty by that go, deepest first, if nobody else uses them, so that the next snap
//! finds no /run/containerd.

use std::path::Path;

use serde_json::json;

use crate::idle::KUBELET;
use crate::stage::{Right, Stage, USERS, demand, sh};
use support::Result;
use support::picture::{Kind, Thing};
use support::runtime::{Layout, mount_volumes};
use support::scenes::Scene;

pub const ALL: &[Scene] = &[
    ("shared_directories", || shared("1.7", Beside::Nobody)),
    ("shared_directories_1_6", || shared("1.6", Beside::Nobody)),
    ("shared_directories_2_1", || shared("2.1", Beside::Nobody)),
    ("what_containerd_2_2_adds_to_a_shared_state_directory_goes", || two_two(Added::Ours)),
    ("why_a_shared_state_directory_stays_is_told", || two_two(Added::Others)),
    ("an_image_that_is_a_volume_in_a_shared_place", image_volume),
    ("shared_directories_hybrid", || shared("1.7", Beside::Nobody)),
    ("shared_directories_beside_another_namespace", || shared("1.7", Beside::Namespace)),
    ("shared_directories_beside_unknown_ids", || shared("1.7", Beside::Unknown)),
    ("shared_directories_beside_another_kubelets_volumes", || shared("1.7", Beside::Kubelet)),
    ("volumes_that_are_staged_in_a_shared_place_go_with_the_pods_that_have_them", || staged(Whose::Ours)),
    ("volumes_that_are_staged_for_another_pod_as_well_are_told", || staged(Whose::Both)),
    ("volumes_that_no_pod_has_any_more_are_told", || staged(Whose::Nobodys)),
    ("sockets_of_kubelet_in_a_shared_place", sockets),
    ("no_skeleton_is_left_of_a_plain_layout", || plain("1.7")),
    ("no_skeleton_is_left_of_a_plain_layout_1_6", || plain("1.6")),
    ("no_skeleton_is_left_of_a_plain_layout_2_1", || plain("2.1")),
    ("no_skeleton_is_left_of_a_plain_layout_hybrid", || plain("1.7")),
    ("a_skeleton_that_others_use_stays", used),
    ("classes_of_kubelet_in_which_no_pod_was_go", || classes(Beside::Nobody)),
    ("classes_of_kubelet_in_which_no_pod_was_go_hybrid", || classes(Beside::Nobody)),
    ("classes_of_kubelet_beside_pods_of_others_are_told", || classes(Beside::Namespace)),
    ("a_skeleton_with_a_users_file_stays", users_file),
];

#[derive(Clone, Copy, PartialEq)]
enum Beside {
    Nobody,
    /// What another runtime's containers left: state, bundle and mounts, of namespace `moby`.
    Namespace,
    /// The same in our namespace, for an ID that nobody knows.
    Unknown,
    /// Volumes of a pod that is not ours, mounted by somebody else's kubelet.
    Kubelet,
}

const SOMEBODY: &str = "99999999-2222-4333-8444-555555555555";

fn beside(who: Beside) -> Result<()> {
    let bundle = |namespace: &str| {
        let id = "9".repeat(64);
        let at = format!("/run/containerd/io.containerd.runtime.v2.task/{namespace}/{id}");
        sh(&format!(
            "mkdir -p {at}/rootfs /run/containerd/io.containerd.grpc.v1.cri/sandboxes/{id}/shm /run/containerd/runc/{namespace}/{id}
             mount -t tmpfs -o size=64k overlay {at}/rootfs
             mount -t tmpfs -o size=64k shm /run/containerd/io.containerd.grpc.v1.cri/sandboxes/{id}/shm
             echo precious > {at}/rootfs/file; echo '{{}}' > /run/containerd/runc/{namespace}/{id}/state.json
             mkdir -p /run/containerd/s; : > /run/containerd/s/0123"
        ))
        .map(drop)
    };
    match who {
        Beside::Nobody => Ok(()),
        Beside::Namespace => bundle("moby"),
        Beside::Unknown => bundle("k8s.io"),
        Beside::Kubelet => mount_volumes(Path::new("/var/lib/kubelet"), SOMEBODY, Path::new(USERS)),
    }
}

fn shared(version: &'static str, who: Beside) -> Result<()> {
    let (mut stage, _) = pods(version)?;
    // Only now: a containerd that starts removes what it does not know.
    stage.also(|_| beside(who))?;
    stage.must_show(&[(Kind::Process, 6), (Kind::Mount, 12), (Kind::Cgroup, 4)])?;
    // Whose a bundle in a shared place is that nobody knows is a doubt; another namespace is another's.
    let statuses: &[i32] =
        if matches!(who, Beside::Unknown | Beside::Kubelet) { &[0, 1, 3] } else { &[0, 1] };
    stage.judge(&Right::Told(may_stay, statuses), 2)?;
    Ok(())
}

/// Images, and the directories of the pods' volumes, are in a place that is not the snap's alone: they may stay, named. So do
/// directories that our containerd has made and in which others have things by now.
pub fn may_stay(thing: &Thing) -> bool {
    let has_others = || std::fs::read_dir(&thing.path).is_ok_and(|mut entries| entries.next().is_some());
    thing.kind == Kind::File
        && (thing.path.starts_with("/var/lib/containerd")
            || thing.path.starts_with("/var/lib/kubelet")
            || thing.path.starts_with("/run/containerd") && thing.looks.starts_with('4') && has_others())
}

/// As the k8s snap in classic confinement has it.
pub fn started(version: &'static str) -> Result<Stage> {
    let mut stage = Stage::new(version)?;
    stage.profile(|profile| {
        profile["containerd"] = json!({
            "address": "/run/containerd/containerd.sock", "state": "/run/containerd", "root": "/var/lib/containerd"
        });
        profile["kubelet"] = json!({"root": "/var/lib/kubelet"});
        profile["data"] = json!([]);
    })?;
    let layout = Layout {
        root: "/var/lib/containerd".into(),
        state: "/run/containerd".into(),
        socket: "/run/containerd/containerd.sock".into(),
        ..Stage::layout()
    };
    stage.start(layout, &["--root", "/var/lib/containerd", "--state", "/run/containerd"], Ok)?;
    Ok(stage)
}

/// Two pods, and their IDs. Their containerd has ended.
fn pods(version: &'static str) -> Result<(Stage, Vec<String>)> {
    let mut stage = started(version)?;
    let pods = stage.polite_pods("polite", 2)?;
    for pod in &pods {
        mount_volumes(Path::new("/var/lib/kubelet"), &pod.uid, Path::new(USERS))?;
    }
    stage.stop()?;
    Ok((stage, pods.into_iter().map(|pod| pod.id).collect()))
}

/// containerd mounts the image in a directory that is called after the sandbox, and binds it into the container.
fn image_volume() -> Result<()> {
    let mut stage = started("2.1")?;
    stage.runtime()?.make_pods("reader", &["--image-volume", "/image"], &["/app", "obedient"])?;
    stage.stop()?;
    demand(sh("mount")?.contains("/image-volumes/"), sh("mount")?)?;
    stage.must_show(&[(Kind::Process, 2), (Kind::Mount, 5)])?;
    stage.judge(&Right::Told(may_stay, &[0]), 0)?;
    Ok(())
}

#[derive(Clone, Copy, PartialEq)]
enum Added {
    Ours,
    /// The same, and a mount that nothing proves anybody's.
    Others,
}

/// containerd 2.2 has a manager of mounts, with a database in the state directory, and keeps a bundle of each sandbox that a shim
/// makes alone. No Debian has it yet: the files are made as it makes them. Any database of bolt's that names no mount serves.
fn two_two(added: Added) -> Result<()> {
    let (mut stage, ids) = pods("2.1")?;
    sh("cd /run/containerd; at=io.containerd.mount-manager.v1.bolt
        [ -e $at/mounts.db ] || { mkdir -m 700 -p $at/t
            cp /var/lib/containerd/io.containerd.metadata.v1.bolt/meta.db $at/mounts.db; }")?;
    let id = ids.first().ok_or("no pod")?;
    for place in ["/run/containerd", "/var/lib/containerd"] {
        let bundle = format!("{place}/io.containerd.sandbox.controller.v1.shim/k8s.io/{id}");
        sh(&format!("mkdir -p {bundle}/rootfs; echo '{{}}' > {bundle}/config.json"))?;
    }
    stage.must_show(&[(Kind::Process, 6), (Kind::Mount, 12), (Kind::File, 20)])?;
    if added == Added::Ours {
        stage.judge(&Right::Told(may_stay, &[0]), 2)?;
        return demand(
            !Path::new("/run/containerd").exists(),
            "the next snap refuses to start: there is /run/containerd",
        );
    }
    stage.also(|_| {
        sh("mkdir /run/containerd/io.containerd.mount-manager.v1.bolt/t/7; echo own > /run/containerd/own")
    })?;
    let named: fn(&Thing) -> bool = |thing| thing.path.ends_with("mounts.db");
    let report = stage.judge(&Right::Doubt(named), 2)?;
    let said = report["steps"].to_string();
    demand(said.contains("bolt/t/7") && said.contains("/run/containerd/own"), "what stays is not named")
}

/// Who has the volumes that a driver has staged for the node.
#[derive(Clone, Copy, PartialEq)]
enum Whose {
    Ours,
    /// A pod of ours, and one that nobody knows.
    Both,
    Nobodys,
}

/// Somebody's disk, of which a pod has the blocks.
const DISK: &str = "/run/lock/disk";

/// What a CSI driver mounts for the node, and a volume of raw blocks, over which kubelet has a loop; what containerd mounts for a
/// moment was left, too. Loops are the whole machine's: of the scenes that run side by side only one has this disk.
fn staged(whose: Whose) -> Result<()> {
    let mut stage = started("1.7")?;
    let pod = stage.polite_pods("polite", 1)?.remove(0);
    let uid = &pod.uid;
    let alone = whose == Whose::Ours;
    let (mut disk, mut attach) = ("/dev/null".to_owned(), ":");
    if alone {
        disk = stage
            .also(|_| sh(&format!("truncate -s 1M {DISK}; losetup -f --show {DISK}")))?
            .trim()
            .to_owned();
        attach = "losetup -f";
    }
    sh(&format!(
        "mkdir -p /var/lib/kubelet; cd /var/lib/kubelet; csi=plugins/kubernetes.io/csi
         mkdir -p $csi/driver/0123/globalmount $csi/volumeDevices/publish/pv; mount -t tmpfs -o size=64k csi $csi/driver/0123/globalmount
         mkdir $csi/driver/0123/globalmount/volume; : > $csi/volumeDevices/publish/pv/{uid}
         mount --bind {disk} $csi/volumeDevices/publish/pv/{uid}; {attach} $csi/volumeDevices/publish/pv/{uid}"
    ))?;
    let of_pods = match whose {
        Whose::Ours => vec![uid.as_str()],
        Whose::Both => vec![uid, SOMEBODY],
        Whose::Nobodys => vec![],
    };
    for uid in of_pods {
        sh(&format!(
            "cd /var/lib/kubelet; at=pods/{uid}/volumes/kubernetes.io~csi/pv/mount
             mkdir -p $at; mount --bind plugins/kubernetes.io/csi/driver/0123/globalmount/volume $at"
        ))?;
    }
    if whose == Whose::Nobodys {
        let at = "/var/lib/containerd/tmpmounts/containerd-mount1";
        sh(&format!("mkdir -p {at}; mount -t tmpfs -o size=64k tmp {at}"))?;
    }
    stage.stop()?;
    stage.must_show(&[(Kind::Process, 3), (Kind::Mount, 5)])?;
    let mounts: fn(&Thing) -> bool = |thing| {
        let path = &thing.path;
        let theirs = path.ends_with("globalmount") || path.ends_with("containerd-mount1");
        may_stay(thing) || thing.kind == Kind::Mount && (theirs || path.to_string_lossy().contains(SOMEBODY))
    };
    let result = stage.judge(&if alone { Right::Told(may_stay, &[0]) } else { Right::Told(mounts, &[3]) }, 1);
    if alone {
        let left = "losetup -a | sed -n 's,^\\(/dev/loop[0-9]*\\):.*volumeDevices.*,\\1,p'";
        sh(&format!("for d in $({left}) {disk}; do losetup -d $d; done"))?;
    }
    result.map(drop)
}

/// Pods of ours were in one of kubelet's classes alone.
fn classes(who: Beside) -> Result<()> {
    let mut stage = Stage::new("1.7")?;
    stage.start_usual()?;
    stage.polite_pods("polite", 1)?;
    stage.stop()?;
    sh(KUBELET)?;
    let alone = who == Beside::Nobody;
    if !alone {
        stage.also(|_| sh("mkdir -p /sys/fs/cgroup/kubepods/podother"))?;
    }
    stage.must_show(&[(Kind::Cgroup, 4)])?;
    // Nobody can say who has made a class beside pods of others; the group above it is theirs by now.
    let may: fn(&Thing) -> bool = |thing| thing.path.ends_with("kubepods/burstable");
    if !alone {
        stage.shared(|thing| thing.kind == Kind::Cgroup && thing.path.ends_with("kubepods"))?;
    }
    stage.judge(&if alone { Right::Clean } else { Right::Told(may, &[3]) }, 1)?;
    Ok(())
}

/// kubelet's own sockets, wherever it has bound them; one that is bound by somebody who lives stays.
fn sockets() -> Result<()> {
    let mut stage = Stage::new("1.7")?;
    let alive = stage.also(|_| {
        sh("mkdir -p /var/lib/kubelet/device-plugins")?;
        Ok(std::os::unix::net::UnixListener::bind("/var/lib/kubelet/device-plugins/others.sock")?)
    })?;
    stage.profile(|profile| {
        profile["kubelet"] = json!({"root": "/var/lib/kubelet"});
    })?;
    stage.start_usual()?;
    stage.polite_pods("polite", 1)?;
    for place in [
        "pod-resources/kubelet.sock",
        "device-plugins/kubelet.sock",
        "plugins_registry/csi.sock",
        "plugins/csi/csi.sock",
    ] {
        let path = Path::new("/var/lib/kubelet").join(place);
        sh(&format!("mkdir -p {}", path.parent().unwrap_or(Path::new("/")).display()))?;
        // Dropped at once: whoever bound it has ended.
        std::os::unix::net::UnixListener::bind(path)?;
    }
    stage.stop()?;
    stage.must_show(&[(Kind::Process, 3), (Kind::File, 20)])?;
    let directories: fn(&Thing) -> bool = |thing| {
        let directory = thing.looks.starts_with('4') && thing.path.starts_with("/var/lib/kubelet");
        thing.kind == Kind::File && directory
    };
    let result = stage.judge(&Right::Told(directories, &[0, 1, 3]), 1);
    drop(alive);
    result.map(drop)
}

fn plain(version: &'static str) -> Result<()> {
    let mut stage = Stage::new(version)?;
    stage.start_usual()?;
    for pod in stage.polite_pods("polite", 2)? {
        mount_volumes(&Path::new(crate::stage::COMMON).join("var/lib/kubelet"), &pod.uid, Path::new(USERS))?;
    }
    stage.stop()?;
    stage.must_show(&[
        (Kind::Process, 6),
        (Kind::Mount, 12),
        (Kind::Cgroup, 4),
        (Kind::Link, 3),
        (Kind::Rule, 4),
    ])?;
    stage.judge(&Right::Clean, 2)?;
    demand(!Path::new("/run/containerd").exists(), "the next snap refuses to start: there is /run/containerd")
}

fn used() -> Result<()> {
    let mut stage = Stage::beside_pod_of(Layout::of_host(), false)?;
    stage.start_usual()?;
    stage.polite_pods("polite", 2)?;
    stage.stop()?;
    stage.must_show(&[(Kind::Process, 6)])?;
    stage.judge(&Right::Clean, 2)?;
    demand(Path::new("/run/containerd/s").exists(), "somebody else's directory was removed")
}

fn users_file() -> Result<()> {
    let mut stage = Stage::beside("1.7", || {
        sh(
            "mkdir -p /run/containerd/fifo /var/lib/cni/networks/mine; echo x > /run/containerd/own; echo x > /var/lib/cni/networks/mine/10.9.9.9",
        )?;
        Ok(Vec::new())
    })?;
    stage.start_usual()?;
    stage.polite_pods("polite", 1)?;
    stage.stop()?;
    stage.must_show(&[(Kind::Process, 3)])?;
    stage.judge(&Right::Clean, 1)?;
    Ok(())
}
