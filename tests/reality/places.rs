//! Roots that are, or are reached through, symlinks and bind mounts (27).
//!
//! RIGHT: a root is a place, not a spelling: what is mounted below it goes under both spellings, the applications get
//! their SIGTERM, the user's files stay whole. What lies at the other place and was made by our containers may go, the
//! rest is named. A link that a user made, or could have made, is not followed: that is blind, and never clean.

use std::fs;
use std::path::Path;

use crate::stage::{COMMON, DATA, Right, Stage, USERS, demand, sh};
use support::Result;
use support::picture::{Kind, Thing};
use support::runtime::mount_volumes;
use support::scenes::Scene;

pub const ALL: &[Scene] = &[
    ("kubelets_root_a_symlink", || kubelet(link("var/lib/kubelet"))),
    ("kubelets_root_reached_through_a_symlink", || kubelet(link("var/lib"))),
    ("kubelets_root_behind_two_symlinks_in_a_row", || kubelet(two_links("var/lib/kubelet"))),
    ("kubelets_root_behind_a_relative_symlink", || kubelet(&|| relative_link("var/lib/kubelet"))),
    ("kubelets_root_a_bind_mount", || kubelet(bound("var/lib/kubelet"))),
    ("kubelets_root_moved_by_its_arguments", kubelet_by_arguments),
    ("kubelets_root_moved_by_arguments_that_are_a_link", kubelet_by_linked_arguments),
    ("kubelets_root_that_nothing_tells_is_told", kubelet_untold),
    ("kubelets_arguments_that_cannot_be_read_are_told", unread_arguments),
    ("kubelets_root_behind_a_users_symlink_is_blind", users_link),
    ("state_directory_a_symlink", || runtime("1.7", link("run/containerd"))),
    ("state_directory_a_symlink_1_6", || runtime("1.6", link("run/containerd"))),
    ("state_directory_a_symlink_2_1", || runtime("2.1", link("run/containerd"))),
    ("state_directory_a_symlink_hybrid", || runtime("1.7", link("run/containerd"))),
    ("state_directory_behind_two_symlinks_in_a_row", || runtime("1.7", two_links("run/containerd"))),
    ("state_directory_a_bind_mount", || runtime("1.7", bound("run/containerd"))),
    ("state_directory_a_symlink_and_shims_killed", || dead("run/containerd")),
    ("containerds_root_a_symlink", || runtime("1.7", link("var/lib/containerd"))),
    ("containerds_root_a_symlink_2_1", || runtime("2.1", link("var/lib/containerd"))),
    ("containerds_root_a_bind_mount", || runtime("1.7", bound("var/lib/containerd"))),
    ("both_roots_symlinks", both),
    ("the_snaps_data_a_bind_mount", || before(bind_data)),
    ("all_snaps_data_behind_a_symlink", || before(link_all)),
];

type Place = dyn Fn() -> Result<()>;

/// `$SNAP_COMMON/WHAT` is a symlink to the bigger disk.
fn link(what: &'static str) -> &'static Place {
    Box::leak(Box::new(move || {
        let place = format!("{COMMON}/{what}");
        sh(&format!("mkdir -p $(dirname {place}) /mnt/big/{what}; ln -s /mnt/big/{what} {place}")).map(drop)
    }))
}

fn two_links(what: &'static str) -> &'static Place {
    Box::leak(Box::new(move || {
        let place = format!("{COMMON}/{what}");
        sh(&format!(
            "mkdir -p $(dirname {place}) /mnt/big/{what}; ln -s /mnt/big /mnt/disk; ln -s /mnt/disk/{what} {COMMON}/second
             ln -s {COMMON}/second {place}"
        ))
        .map(drop)
    }))
}

fn relative_link(what: &str) -> Result<()> {
    let place = format!("{COMMON}/{what}");
    let up = "../".repeat(Path::new(&place).components().count() - 2);
    sh(&format!("mkdir -p $(dirname {place}) /mnt/big/{what}; ln -s {up}mnt/big/{what} {place}")).map(drop)
}

fn bound(what: &'static str) -> &'static Place {
    Box::leak(Box::new(move || {
        let place = format!("{COMMON}/{what}");
        sh(&format!("mkdir -p {place} /mnt/big/{what}; mount --bind /mnt/big/{what} {place}")).map(drop)
    }))
}

/// All of the snap's data is a bind mount, as where /var/snap is on a disk of its own.
fn bind_data() -> Result<()> {
    sh("mkdir -p /mnt/big/snap /var/snap/microk8s; mount --bind /mnt/big/snap /var/snap/microk8s").map(drop)
}

/// /var/snap itself is a symlink to a bigger disk.
fn link_all() -> Result<()> {
    sh("mkdir -p /mnt/big/snap; rmdir /var/snap; ln -s /mnt/big/snap /var/snap").map(drop)
}

/// What the administrator made himself, and what lies there: named, not deleted. Nothing that runs, and no mount but his.
pub fn on_the_disk(thing: &Thing) -> bool {
    let path = &thing.path;
    let file = thing.kind == Kind::File && (path.starts_with("/mnt/big") || path.starts_with("/mnt/disk"));
    file || thing.kind == Kind::Mount && administrators(thing)
}

/// The administrator's own bind mount, at a root of the profile or at the snap's data.
fn administrators(thing: &Thing) -> bool {
    let places = ["common/var/lib/kubelet", "common/run/containerd", "common/var/lib/containerd", ""];
    places.iter().any(|place| thing.path == Path::new("/var/snap/microk8s").join(place))
}

/// Volumes as a kubelet has them, and a bind of what is precious.
fn kubelet(place: &Place) -> Result<()> {
    let mut stage = Stage::new("1.7")?;
    place()?;
    let root = format!("{COMMON}/var/lib/kubelet");
    volumes(&root)?;
    stage.must_show(&[(Kind::Mount, 5)])?;
    stage.judge(&Right::Told(on_the_disk, &[0, 1, 3]), 0)?;
    demand(fs::read_to_string(format!("{USERS}/precious"))?.trim() == "not ours", "the user's file is gone")
}

/// Four volumes and a file system of its own, below kubelet's root.
fn volumes(root: &str) -> Result<()> {
    for uid in ["11111111-2222-4333-8444-555555555555", "a5555555-2222-4333-8444-555555555555"] {
        mount_volumes(Path::new(root), uid, Path::new(USERS))?;
    }
    let plugin = format!("{root}/plugins/kubernetes.io/csi/pv/one/globalmount");
    sh(&format!("mkdir -p {plugin}; mount -t tmpfs -o size=64k csi {plugin}; echo data > {plugin}/x"))
        .map(drop)
}

/// args/kubelet names another place, as MicroK8s' documentation has it.
fn kubelet_by_arguments() -> Result<()> {
    let mut stage = Stage::new("1.7")?;
    sh(&format!(
        "mkdir -p {DATA}/args /mnt/big/kubelet; echo '--root-dir=/mnt/big/kubelet' > {DATA}/args/kubelet"
    ))?;
    volumes("/mnt/big/kubelet")?;
    stage.must_show(&[(Kind::Mount, 5)])?;
    stage.judge(&Right::Told(on_the_disk, &[0, 1, 3]), 0)?;
    Ok(())
}

/// The administrator keeps them with the rest of his configuration, and in his own words.
fn kubelet_by_linked_arguments() -> Result<()> {
    let mut stage = Stage::beside("1.7", || {
        sh("mkdir -p /mnt/big/kubelet; printf '# gr\\374\\337e\\n--root-dir=/mnt/big/kubelet\\n' > /srv/mk8s-kubelet")
            .map(|_| Vec::new())
    })?;
    sh(&format!("mkdir -p {DATA}/args; ln -s /srv/mk8s-kubelet {DATA}/args/kubelet"))?;
    volumes("/mnt/big/kubelet")?;
    stage.must_show(&[(Kind::Mount, 5)])?;
    stage.judge(&Right::Told(on_the_disk, &[0, 1, 3]), 0)?;
    Ok(())
}

/// Nobody knows where kubelet's volumes are.
fn unread_arguments() -> Result<()> {
    let mut stage = Stage::new("1.7")?;
    sh(&format!("mkdir -p {DATA}/args /mnt/big/kubelet; ln -s kubelet {DATA}/args/kubelet"))?;
    volumes("/mnt/big/kubelet")?;
    stage.must_show(&[(Kind::Mount, 5)])?;
    let report = stage.judge(&Right::Doubt(|_| false), 0)?;
    demand(report["steps"].to_string().contains("args/kubelet"), format!("they are not named: {report}"))
}

/// The link below the snap's data belongs to a user, who may lead it anywhere: for one, to a bystander's mounts.
fn users_link() -> Result<()> {
    let mut stage = Stage::beside("1.7", || {
        sh(
            "mkdir -p /home/mallory/kubelet/pods /home/victim; mount -t tmpfs -o size=64k victim /home/victim
            mkdir -p /home/victim/pods/u/volumes/v; mount -t tmpfs -o size=64k v /home/victim/pods/u/volumes/v
            echo precious > /home/victim/pods/u/volumes/v/file; chown -R 1000 /home/mallory",
        )?;
        Ok(Vec::new())
    })?;
    let place = format!("{COMMON}/var/lib/kubelet");
    sh(&format!("mkdir -p $(dirname {place}); ln -s /home/victim {place}; chown -h 1000 {place}"))?;
    let report = stage.judge(&Right::Told(|_| false, &[3]), 0)?;
    demand(report["steps"].to_string().contains(&place), format!("the link is not named: {report}"))
}

/// Where the administrator has put the snap's data before he installed it.
fn before(place: fn() -> Result<()>) -> Result<()> {
    pods(Stage::beside("1.7", || place().map(|()| Vec::new()))?)
}

fn runtime(version: &'static str, place: &Place) -> Result<()> {
    let stage = Stage::new(version)?;
    place()?;
    pods(stage)
}

fn pods(mut stage: Stage) -> Result<()> {
    stage.start_usual()?;
    stage.polite_pods("polite", 2)?;
    stage.stop()?;
    stage.must_show(&[(Kind::Process, 6), (Kind::Mount, 8), (Kind::Cgroup, 4)])?;
    stage.judge(&Right::Told(on_the_disk, &[0, 1, 3]), 2)?;
    Ok(())
}

fn both() -> Result<()> {
    runtime("1.7", &|| {
        link("run/containerd")()?;
        link("var/lib/containerd")()
    })
}

fn dead(what: &'static str) -> Result<()> {
    let mut stage = Stage::new("1.7")?;
    link(what)()?;
    stage.start_usual()?;
    stage.polite_pods("polite", 2)?;
    stage.stop()?;
    crate::moved::kill_shims(&stage)?;
    stage.must_show(&[(Kind::Process, 4), (Kind::Mount, 8), (Kind::Cgroup, 4)])?;
    stage.judge(&Right::Told(on_the_disk, &[0, 1, 3]), 2)?;
    Ok(())
}

/// kubelet has the root that it takes where it is told none. Another cluster's pod has a volume there, too.
fn kubelet_untold() -> Result<()> {
    let volume = |uid: &str| {
        let at = format!("/var/lib/kubelet/pods/{uid}/volumes/kubernetes.io~secret/token");
        sh(&format!("mkdir -p {at}; mount -t tmpfs -o size=64k secret {at}"))
    };
    let mut stage = Stage::beside("1.7", || volume("another").map(|_| Vec::new()))?;
    stage.start_usual()?;
    let pods = stage.polite_pods("polite", 1)?;
    let uid = pods[0].uid.clone();
    volume(&uid)?;
    stage.stop()?;
    stage.must_show(&[(Kind::Process, 3), (Kind::Mount, 5)])?;
    let volumes: fn(&Thing) -> bool = |thing| thing.path.starts_with("/var/lib/kubelet/pods");
    let report = stage.judge(&Right::Told(volumes, &[3]), 1)?;
    let told = report["steps"].to_string();
    demand(told.contains(&uid) && !told.contains("another"), format!("it is not so told: {told}"))
}
