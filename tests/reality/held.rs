//! Ours is also what ours holds: mounts elsewhere whose source is ours, loop devices over our files, network namespaces
//! under other names.
//!
//! RIGHT: ended wherever they are, the directories that they were mounted at stay; a bystander's mounts, namespaces and
//! loops stay; nothing below a mount of ours elsewhere is deleted before that is gone.

use std::path::Path;

use crate::app::MOUNTER;
use crate::shapes::until;
use crate::stage::{COMMON, Right, Stage, demand, sh};
use crate::traces::lives;
use support::Result;
use support::picture::{Kind, Thing};
use support::scenes::Scene;

pub const ALL: &[Scene] = &[
    ("an_overlay_of_our_snapshots_elsewhere", || elsewhere(overlay)),
    ("a_bind_of_our_images_elsewhere", || elsewhere(bind_images)),
    ("a_bind_of_a_volume_elsewhere", || elsewhere(bind_volume)),
    ("a_loop_over_our_file_mounted_elsewhere", || elsewhere(loop_elsewhere)),
    ("a_loop_over_our_file_in_another_mount_namespace", in_another_namespace),
    ("a_snapshots_bind_in_another_mount_namespace", bind_in_another_namespace),
    ("a_tmpfs_of_ours_bound_elsewhere", || elsewhere(bind_tmpfs)),
    ("a_deleted_file_behind_a_loop", || elsewhere(deleted_file)),
    ("the_snaps_own_image_stays", own_image),
    ("a_file_system_that_a_pod_passed_on_to_the_host_is_told", || passed_on("/srv/jfs", &[])),
    ("a_file_system_that_a_pod_passed_on_is_told_beside_a_kubelet", || passed_on("/srv/jfs", &["kubelet"])),
    ("a_file_system_in_a_directory_that_everybody_mounts_in_is_nobodys", || passed_on("/srv", &[])),
    ("network_namespaces_under_other_names", namespaces),
    ("network_namespaces_under_other_names_hybrid", namespaces),
    ("a_network_namespace_in_use_by_a_user", used_namespace),
    ("a_network_namespace_that_a_container_has_joined_stays", || joined(Known::All)),
    ("a_network_namespace_that_a_container_has_joined_stays_and_no_shim", || joined(Known::Bundle)),
    ("a_network_namespace_that_a_container_has_joined_is_told_without_records", || joined(Known::Nothing)),
    ("a_network_namespace_held_by_an_unnamed_bind_alone", || unnamed(false)),
    ("a_network_namespace_whose_processes_are_dead", || unnamed(true)),
];

const SNAPSHOTS: &str =
    "/var/snap/microk8s/common/var/lib/containerd/io.containerd.snapshotter.v1.overlayfs/snapshots";

/// The directories are there before; only the mounts are made by us, or by whoever looked at what is ours.
fn elsewhere(make: fn() -> Result<()>) -> Result<()> {
    let mut stage = Stage::beside("1.7", bystanders)?;
    stage.start_usual()?;
    stage.polite_pods("polite", 1)?;
    make()?;
    stage.stop()?;
    stage.must_show(&[(Kind::Process, 3), (Kind::Mount, 6)])?;
    let mounted = sh("mount")?;
    demand(mounted.contains(" on /mnt/x "), format!("nothing is mounted at /mnt/x: {mounted}"))?;
    stage.judge(&Right::Clean, 1)?;
    Ok(())
}

/// Somebody else's overlay, bind, loop and namespaces.
fn bystanders() -> Result<Vec<support::runtime::Runtime>> {
    sh(
        "mkdir -p /mnt/x /mnt/others /srv/lower /srv/upper /srv/work; echo x > /srv/lower/x
         mount -t overlay -o lowerdir=/srv/lower,upperdir=/srv/upper,workdir=/srv/work overlay /mnt/others
         mkdir -p /mnt/bound; mount --bind /srv/lower /mnt/bound
         truncate -s 8M /srv/disk; mkfs.ext4 -q /srv/disk; mkdir -p /mnt/disk; mount -o loop /srv/disk /mnt/disk
         ip netns add blue; ip netns add cni-00000000-1111-2222-3333-444444444444",
    )
    .map(|_| Vec::new())
}

fn overlay() -> Result<()> {
    sh(&format!(
        "layers=$(ls -d {SNAPSHOTS}/*/fs | head -n 2 | paste -sd:); mkdir -p {COMMON}/up/u {COMMON}/up/w
         mount -t overlay -o lowerdir=$layers,upperdir={COMMON}/up/u,workdir={COMMON}/up/w overlay /mnt/x"
    ))
    .map(drop)
}

fn bind_images() -> Result<()> {
    sh(&format!("mount --bind {COMMON}/var/lib/containerd /mnt/x")).map(drop)
}

fn bind_volume() -> Result<()> {
    sh(&format!("v={COMMON}/var/lib/kubelet/pods/u/volumes/v; mkdir -p $v; mount --bind $v /mnt/x")).map(drop)
}

/// A tmpfs has no path: it is ours as its other mount is below our roots.
fn bind_tmpfs() -> Result<()> {
    sh(&format!(
        "v={COMMON}/var/lib/kubelet/pods/u/volumes/kubernetes.io~secret/s; mkdir -p $v; mount -t tmpfs -o size=64k s $v
         echo secret > $v/key; mount --bind $v /mnt/x"
    ))
    .map(drop)
}

fn loop_elsewhere() -> Result<()> {
    sh(&format!(
        "f={COMMON}/var/lib/kubelet/plugins/hostpath.csi/disk; mkdir -p $(dirname $f); truncate -s 8M $f; mkfs.ext4 -q $f
         mount -o loop $f /mnt/x"
    ))
    .map(drop)
}

fn deleted_file() -> Result<()> {
    loop_elsewhere()?;
    sh(&format!("rm {COMMON}/var/lib/kubelet/plugins/hostpath.csi/disk")).map(drop)
}

/// A pod has a directory outside of the snap's, and mounts a file system of its own below it, as JuiceFS does. The mount
/// outlives the pod, and nothing says who made it. Whoever has a directory of the whole system bound is not the only one who
/// mounts there: nobody could ever remove the snap without being asked.
fn passed_on(bind: &'static str, beside: &'static [&'static str]) -> Result<()> {
    let place = "/srv/jfs/volume";
    let mut stage = Stage::beside("1.7", || {
        beside.iter().try_for_each(|program| lives(program))?;
        sh(&format!("mkdir -p {place}; mount --bind {bind} {bind}; mount --make-rshared {bind}"))?;
        Ok(Vec::new())
    })?;
    stage.start_usual()?;
    let program = format!("{}:/mounter", std::env::current_exe()?.display());
    let options = ["--privileged", "--mount", &program, "--mount", &format!("{bind}:/served:rshared")];
    let at = place.replacen(bind, "/served", 1);
    stage.runtime()?.make_pods("mounter", &options, &["/mounter", MOUNTER, &at])?;
    until("the pod's file system is passed on", || {
        sh(&format!("grep -c ' {place} .*tmpfs volume' /proc/self/mountinfo || true"))
            .is_ok_and(|n| n.trim() != "0")
    })?;
    stage.stop()?;
    let is_it: fn(&Thing) -> bool = |thing| thing.path.starts_with("/srv/jfs/volume");
    if bind == "/srv" {
        stage.shared(is_it)?;
        stage.judge(&Right::Clean, 0)?;
        return Ok(());
    }
    let report = stage.judge(&Right::Told(is_it, &[3]), 0)?;
    let text = report.to_string();
    demand(text.contains("'umount /srv/jfs/volume'"), format!("no command is told: {text}"))?;
    demand(text.contains("another kubelet is alive") != beside.is_empty(), text)
}

/// The mount that runs the snap is a loop over the snap's file, which is snapd's.
fn own_image() -> Result<()> {
    let mut stage = Stage::beside("1.7", || {
        sh("mkdir -p /var/lib/snapd/snaps /snap/core22/1 /mnt/x; truncate -s 8M /var/lib/snapd/snaps/microk8s_1.snap
            mkfs.ext4 -q /var/lib/snapd/snaps/microk8s_1.snap
            mount -o loop,ro /var/lib/snapd/snaps/microk8s_1.snap /snap/core22/1")?;
        Ok(Vec::new())
    })?;
    stage.start_usual()?;
    stage.polite_pods("polite", 1)?;
    // The snap's own directory, shown where its namespace has it: the snap is removed by snapd.
    stage.also(|_| sh("mount -o loop,ro /var/lib/snapd/snaps/microk8s_1.snap /mnt/x"))?;
    stage.stop()?;
    stage.judge(&Right::Told(|thing| thing.path.starts_with("/snap/microk8s"), &[0, 1]), 1)?;
    demand(sh("mount")?.contains(" on /snap/core22/1 "), "another snap was unmounted")
}

/// A process of a user's that has a mount namespace of its own, in which only it sees the mount. It stays; the mount is
/// ended, or told; and the images below it are not deleted under it before that.
fn other_namespace(line: &str) -> Result<()> {
    let mut stage = Stage::beside("1.7", bystanders)?;
    let ready = "/run/lock/ready";
    let script = format!(": > {ready}; exec sleep 1000");
    let user = stage.also(|_| {
        let mut command = std::process::Command::new("unshare");
        let child =
            command.args(["--mount", "--propagation", "private", "/bin/sh", "-ec", &script]).spawn()?;
        let name = format!("/proc/{}/comm", child.id());
        crate::shapes::until("the user's process is there", || {
            Path::new(ready).exists()
                && std::fs::read_to_string(&name).is_ok_and(|name| name.trim() == "sleep")
        })?;
        sh(&format!("rm {ready}"))?;
        Ok(child)
    })?;
    stage.start_usual()?;
    stage.polite_pods("polite", 1)?;
    // After our own: as who looks into what is there.
    sh(&format!(
        "{}; nsenter --mount=/proc/{}/ns/mnt sh -ec '{line}'",
        "mkdir -p /var/snap/microk8s/common/var/lib",
        user.id()
    ))?;
    stage.stop()?;
    stage.must_show(&[(Kind::Process, 3), (Kind::Mount, 6)])?;
    let id = user.id();
    stage.children.push(user);
    let of_his: fn(&Thing) -> bool = |thing| match thing.kind {
        Kind::Mount => thing.path.as_path() == Path::new("/mnt/x"),
        Kind::Device => true,
        _ => false,
    };
    stage.judge(&Right::Told(of_his, &[0, 1, 3]), 1)?;
    demand(Path::new(&format!("/proc/{id}")).exists(), "the user's process was ended")
}

fn in_another_namespace() -> Result<()> {
    other_namespace(
        "f=/var/snap/microk8s/common/disk; truncate -s 8M $f; mkfs.ext4 -q $f; mount -o loop $f /mnt/x",
    )
}

fn bind_in_another_namespace() -> Result<()> {
    other_namespace("mount --bind /var/snap/microk8s/common/var/lib/containerd /mnt/x")
}

/// Pods' namespaces bound once more, under `ip netns`' kind of name and under none of the usual places.
fn namespaces() -> Result<()> {
    let mut stage = Stage::beside("1.7", bystanders)?;
    stage.start_usual()?;
    let pods = stage.polite_pods("polite", 2)?;
    sh(&format!(
        "ip netns attach mypod {}; mkdir -p {COMMON}/run/docker/netns; : > {COMMON}/run/docker/netns/0123456789ab
         mount --bind /proc/{1}/ns/net {COMMON}/run/docker/netns/0123456789ab
         : > /mnt/namespace; mount --bind /proc/{1}/ns/net /mnt/namespace",
        pods[0].pid, pods[1].pid
    ))?;
    stage.stop()?;
    stage.must_show(&[(Kind::Process, 6), (Kind::Mount, 10), (Kind::Link, 3)])?;
    // The empty files that the binds were made at are nobody's to delete, outside of where namespaces are bound.
    let files: fn(&Thing) -> bool =
        |thing| thing.kind == Kind::File && thing.path.as_path() == Path::new("/mnt/namespace");
    stage.judge(&Right::Told(files, &[0, 1]), 2)?;
    Ok(())
}

/// The user's shell is in the pod's namespace: it stays, and the namespace is told with who holds it.
fn used_namespace() -> Result<()> {
    let mut stage = Stage::beside("1.7", bystanders)?;
    stage.start_usual()?;
    let pods = stage.polite_pods("polite", 1)?;
    let pid = pods[0].pid;
    let mut command = std::process::Command::new("nsenter");
    command.args([&format!("--net=/proc/{pid}/ns/net"), "sleep", "1000"]);
    let shell = stage.also(|_| {
        let child = command.spawn()?;
        crate::shapes::until("it is inside", || {
            std::fs::read_to_string(format!("/proc/{}/comm", child.id()))
                .is_ok_and(|name| name.trim() == "sleep")
        })?;
        Ok(child)
    })?;
    stage.stop()?;
    stage.must_show(&[(Kind::Process, 3), (Kind::Link, 2)])?;
    let id = shell.id();
    stage.children.push(shell);
    // With the namespace stay its name, its link and the bridge that this is in: he is not cut off.
    let his: fn(&Thing) -> bool = |thing| match thing.kind {
        Kind::Mount | Kind::File => thing.path.starts_with("/run/netns"),
        kind => matches!(kind, Kind::Link | Kind::Address | Kind::Route),
    };
    let report = stage.judge(&Right::Told(his, &[1, 3]), 1)?;
    let told = format!("{}{}", report["notes"], report["steps"]);
    demand(told.contains(&format!("process {id} (sleep)")), format!("he is not named: {told}"))?;
    demand(Path::new(&format!("/proc/{id}")).exists(), "the user's process was ended")
}

/// containerd's own name is gone; the namespace is bound at a place of its own, with a process in it or with none.
fn unnamed(dead: bool) -> Result<()> {
    let mut stage = Stage::beside("1.7", bystanders)?;
    stage.start_usual()?;
    let pods = stage.polite_pods("polite", 1)?;
    sh(&format!(
        "name=$(ls -d /run/netns/cni-* | grep -v 00000000-1111); ip netns attach renamed {}; umount $name; rm $name",
        pods[0].pid
    ))?;
    stage.stop()?;
    if dead {
        crate::moved::kill_shims(&stage)?;
        sh(&format!(
            "kill -KILL {} {}; while [ -e /proc/{0} ]; do :; done",
            pods[0].containers[0].pid, pods[0].pid
        ))?;
    }
    stage.must_show(&[(Kind::Link, 2), (Kind::Mount, 1)])?;
    // The spec of its sandbox names it no more: where no process is in it either, nobody can know, but CNI's result can.
    let renamed: fn(&Thing) -> bool = |thing| thing.path.as_path() == Path::new("/run/netns/renamed");
    let (right, polite) = if dead { (Right::Told(renamed, &[0, 1, 3]), 0) } else { (Right::Clean, 1) };
    stage.judge(&right, polite)?;
    Ok(())
}

/// What is left of the container besides its process.
#[derive(PartialEq)]
enum Known {
    All,
    Bundle,
    Nothing,
}

/// An administrator's namespace, with a way into it, that nobody is in but a container of ours. It was there before, so it stays.
fn joined(known: Known) -> Result<()> {
    let mut stage = Stage::beside("1.7", || {
        sh("ip netns add users; ip link add users0 type veth peer name users1; ip link set users1 netns users
            ip addr add 10.99.0.1/24 dev users0; ip link set users0 up")?;
        Ok(Vec::new())
    })?;
    stage.start_usual()?;
    let runtime = stage.runtime()?;
    let archive = runtime.image().display().to_string();
    runtime.ctr(&["-n", "k8s.io", "images", "import", &archive])?;
    let namespace = ["--with-ns", "network:/run/netns/users"];
    let words =
        [&["-n", "k8s.io", "run", "-d"][..], &namespace, &["docker.io/library/app:1", "web"]].concat();
    runtime.ctr(&[&words[..], &["/app", "obedient"]].concat())?;
    stage.stop()?;
    if known != Known::All {
        crate::moved::kill_shims(&stage)?;
    }
    if known == Known::Nothing {
        crate::shapes::forget_all()?;
    }
    stage.must_show(&[(Kind::Process, if known == Known::All { 2 } else { 1 }), (Kind::Cgroup, 1)])?;
    if known != Known::Nothing {
        return stage.judge(&Right::Clean, 0).map(drop);
    }
    let report = stage.judge(&Right::Told(|_| false, &[3]), 0)?;
    demand(report["steps"].to_string().contains("/run/netns/users"), "it is not told")
}
