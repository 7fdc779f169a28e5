//! Roots that lead to where others have theirs, too: to another containerd's directories, or to the top of a disk.
//!
//! RIGHT: of others nothing is unmounted or deleted. What is another's beyond doubt is told as a place that stays (status 0); where
//! nothing says whose it is, it is named, and the status is 3. Of a root at the top of a disk only what its program makes there is
//! ours.

use std::fs;
use std::path::Path;

use serde_json::json;

use crate::places::on_the_disk;
use crate::stage::{COMMON, Right, Stage, demand, sh};
use support::Result;
use support::picture::{Kind, Thing};
use support::runtime::{Layout, Runtime, mount_volumes};
use support::scenes::Scene;

pub const ALL: &[Scene] = &[
    ("containerds_root_led_to_the_hosts_containerd", || anothers("/var/lib/containerd", false, link, &[0])),
    ("containerds_root_led_to_where_another_works_by_now", || {
        anothers("/mnt/big/containerd", false, link, &[0])
    }),
    ("containerds_root_led_to_another_that_is_stopped", || anothers("/mnt/big/containerd", true, link, &[3])),
    ("containerds_root_bound_to_where_another_works_by_now", || {
        anothers("/mnt/big/containerd", false, bind, &[3])
    }),
    ("containerds_state_led_to_the_hosts_containerd", hosts_state),
    ("containerds_root_led_to_the_top_of_a_disk", || top(link)),
    ("containerds_root_bound_to_the_top_of_a_disk", || top(bind)),
    ("dockers_data_led_to_the_top_of_a_disk", top_for_docker),
    ("kubelets_root_led_to_the_top_of_a_disk", top_for_kubelet),
];

type Lead = fn(&str, &str) -> Result<()>;

fn link(what: &str, place: &str) -> Result<()> {
    sh(&format!("cd {COMMON}; mkdir -p $(dirname {what}); rm -rf {what}; ln -s {place} {what}")).map(drop)
}

fn bind(what: &str, place: &str) -> Result<()> {
    sh(&format!("cd {COMMON}; mkdir -p {what}; mount --bind {place} {what}")).map(drop)
}

/// What is mounted at a root of ours, by the administrator.
fn at_a_root(thing: &Thing) -> bool {
    thing.kind == Kind::Mount && thing.path.starts_with(COMMON)
}

/// Another containerd works there, with a pod; ours never did.
fn anothers(place: &str, stopped: bool, lead: Lead, statuses: &'static [i32]) -> Result<()> {
    let mut stage = Stage::beside_pod_of(Layout { root: place.into(), ..Layout::of_host() }, stopped)?;
    lead("var/lib/containerd", place)?;
    let report = stage.judge(&Right::Told(at_a_root, statuses), 0)?;
    let told = report["notes"].to_string() + &report["steps"].to_string();
    demand(told.contains(place), format!("the place is not told: {report}"))
}

fn hosts_state() -> Result<()> {
    let mut stage = Stage::beside_pod_of(Layout::of_host(), false)?;
    link("run/containerd", "/run/containerd")?;
    stage.judge(&Right::Told(|_| false, &[0, 3]), 0)?;
    Ok(())
}

/// A disk with a user's things: a disk below it, a directory of it shown elsewhere, another docker's layers, a virtual machine's
/// image.
fn disk() -> Result<Vec<Runtime>> {
    sh(
        "mkdir -p /mnt/big /srv/films /mnt/vm; mount -t tmpfs -o size=900m big /mnt/big; cd /mnt/big; mkdir photos films docker
        mount -t tmpfs -o size=64k photos photos; echo photo > photos/photo; echo film > films/film; echo text > text
        mount --bind films /srv/films; mkdir -p docker/overlay2/l/diff docker/overlay2/l/work docker/overlay2/l/merged docker/overlay2/b
        mount -t overlay -o lowerdir=/mnt/big/docker/overlay2/b,upperdir=/mnt/big/docker/overlay2/l/diff,workdir=/mnt/big/docker/overlay2/l/work \
            overlay docker/overlay2/l/merged
        truncate -s 8M vm.img; mkfs.ext4 -q vm.img; mount -o loop vm.img /mnt/vm",
    )
    .map(|_| Vec::new())
}

/// What judges compares is all that was there; this says why.
fn is_whole() -> Result<()> {
    let mounts = sh("mount")?;
    for at in ["/mnt/big", "/mnt/big/photos", "/srv/films", "/mnt/vm", "/mnt/big/docker/overlay2/l/merged"] {
        demand(mounts.contains(&format!(" on {at} ")), format!("{at} is not mounted any more"))?;
    }
    demand(Path::new("/mnt/big/text").exists() && Path::new("/srv/films/film").exists(), "files are gone")
}

/// As in other scenes; and what is mounted at a root of ours.
fn left(thing: &Thing) -> bool {
    on_the_disk(thing) || at_a_root(thing)
}

fn top(lead: Lead) -> Result<()> {
    let mut stage = Stage::beside("1.7", disk)?;
    lead("var/lib/containerd", "/mnt/big")?;
    stage.start_usual()?;
    pods(stage)
}

fn pods(mut stage: Stage) -> Result<()> {
    stage.polite_pods("polite", 2)?;
    stage.stop()?;
    stage.must_show(&[(Kind::Process, 6), (Kind::Mount, 8), (Kind::Cgroup, 4)])?;
    let judged = stage.judge(&Right::Told(left, &[0, 1, 3]), 2);
    is_whole()?;
    judged.map(drop)
}

fn top_for_docker() -> Result<()> {
    let mut stage = Stage::beside("1.7", disk)?;
    stage.profile(|profile| {
        profile["containerd"]["root"] = json!("$SNAP_COMMON/var-lib-docker/containerd/daemon");
        profile["mounts"] = json!(["$SNAP_COMMON/var-lib-docker"]);
        profile["data"] = json!([]);
    })?;
    link("var-lib-docker", "/mnt/big")?;
    // docker's own layers, of a container of ours.
    sh("cd /mnt/big; mkdir -p overlay2/o/diff overlay2/o/work overlay2/o/merged overlay2/b
        mount -t overlay -o lowerdir=/mnt/big/overlay2/b,upperdir=/mnt/big/overlay2/o/diff,workdir=/mnt/big/overlay2/o/work \
            overlay overlay2/o/merged")?;
    stage.start_at(
        &format!("{COMMON}/var-lib-docker/containerd/daemon"),
        &format!("{COMMON}/run/containerd"),
    )?;
    pods(stage)?;
    demand(!sh("mount")?.contains(" on /mnt/big/overlay2/o/merged "), "a mount of ours is left")
}

fn top_for_kubelet() -> Result<()> {
    let mut stage = Stage::beside("1.7", disk)?;
    link("var/lib/kubelet", "/mnt/big")?;
    let root = format!("{COMMON}/var/lib/kubelet");
    fs::create_dir_all(format!("{root}/pods"))?;
    mount_volumes(Path::new(&root), "11111111-2222-4333-8444-555555555555", Path::new(crate::stage::USERS))?;
    stage.must_show(&[(Kind::Mount, 2)])?;
    let judged = stage.judge(&Right::Told(left, &[0, 1, 3]), 0);
    is_whole()?;
    judged.map(drop)
}
