//! What must not be touched, and must not be called clean: other instances, users' own mounts.

use std::path::Path;

use crate::stage::{COMMON, Right, Stage, USERS, demand, sh};
use support::picture::{Kind, Thing};
use support::runtime::Layout;
use support::scenes::Scene;
use support::{Result, built};

pub const ALL: &[Scene] = &[
    ("an_instance_that_does_not_exist_ends_nobody", || instance(true)),
    ("an_instance_that_does_not_exist_ends_nobody_outside_of_units", || instance(false)),
    ("another_snaps_name_ends_nobody", || other_name("microk8s2")),
    ("a_users_own_mount_below_the_snaps_data_is_told", users_mount),
    ("our_own_mount_below_no_root_is_residue", our_mount),
    ("a_mount_at_the_snaps_common_directory_stays", at_common),
];

/// RIGHT: nothing of the machine changes, and the status is not 0.
fn instance(unit: bool) -> Result<()> {
    let mut stage = Stage::new("1.7")?;
    let mut layout = Stage::layout();
    if !unit {
        layout.service = "user.slice/session-1.scope".into();
    }
    let (root, state) = (layout.root.display().to_string(), layout.state.display().to_string());
    stage.start(layout, &["--root", &root, "--state", &state], Ok)?;
    stage.runtime()?.pods("app", 2, &["/app", "obedient"])?;
    stage.stop()?;
    stage.must_show(&[(Kind::Process, 6)])?;
    unharmed(&stage, "microk8s_a")
}

fn other_name(name: &str) -> Result<()> {
    let mut stage = Stage::new("1.7")?;
    stage.start_usual()?;
    stage.runtime()?.pods("app", 2, &["/app", "obedient"])?;
    stage.stop()?;
    unharmed(&stage, name)
}

fn unharmed(stage: &Stage, instance: &str) -> Result<()> {
    let full = stage.picture()?;
    let program = match std::env::var_os(support::hook::OTHER_HOOK) {
        Some(other) => other.into(),
        None => built("snap-teardown")?,
    };
    let mut command = std::process::Command::new(program);
    let output = command
        .args(["remove", "--yes", "--snap", instance])
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin")
        .output()?;
    let said = String::from_utf8_lossy(&output.stdout).lines().next().unwrap_or_default().to_owned();
    let report: fn(&Thing) -> bool = |thing| !thing.path.starts_with("/run/snap.");
    let changed = stage.picture()?.since(&full).only(|thing| report(thing) && thing.kind != Kind::Conntrack);
    demand(changed.is_empty(), format!("status {:?}, {said}; changed:\n{changed:.6}", output.status.code()))?;
    demand(output.status.code() != Some(0), format!("status 0 for a snap that is not there: {said}"))
}

/// RIGHT: told, not touched; and the status says that snapd will stumble over it.
fn users_mount() -> Result<()> {
    let mut stage = Stage::new("1.7")?;
    stage.start_usual()?;
    stage.polite_pods("polite", 1)?;
    sh(&format!(
        "mkdir -p {COMMON}/backup {COMMON}/scratch; mount --bind {USERS} {COMMON}/backup; mount -t tmpfs mine {COMMON}/scratch; echo x > {COMMON}/scratch/precious"
    ))?;
    stage.stop()?;
    stage.must_show(&[(Kind::Process, 3), (Kind::Mount, 6)])?;
    let his: fn(&Thing) -> bool = |thing| {
        [format!("{COMMON}/backup"), format!("{COMMON}/scratch")].iter().any(|at| thing.path.starts_with(at))
            || ["/var/snap/microk8s", COMMON].iter().any(|at| thing.path.as_path() == Path::new(at))
    };
    stage.judge(&Right::Told(his, &[1, 3]), 1)?;
    demand(Path::new(&format!("{COMMON}/scratch/precious")).exists(), "the user's file is gone")?;
    demand(sh("mount")?.contains(&format!("{COMMON}/backup")), "the user's mount is gone")
}

/// An overlay of our snapshots, and a bind mount of what is ours, below the snap's data and below no root that the
/// profile names. RIGHT: ended, as what is ours by its source.
fn our_mount() -> Result<()> {
    let mut stage = Stage::new("1.7")?;
    stage.start_usual()?;
    stage.polite_pods("polite", 1)?;
    let snapshots = format!("{COMMON}/var/lib/containerd/io.containerd.snapshotter.v1.overlayfs/snapshots");
    sh(&format!(
        "mkdir -p {COMMON}/debug/root {COMMON}/debug/bound
         layers=$(ls -d {snapshots}/*/fs | head -n 2 | paste -sd:); mount -t overlay -o ro,lowerdir=$layers overlay {COMMON}/debug/root
         mount --bind {COMMON}/var/lib/containerd {COMMON}/debug/bound"
    ))?;
    stage.stop()?;
    stage.must_show(&[(Kind::Process, 3), (Kind::Mount, 6)])?;
    stage.judge(&Right::Clean, 1)?;
    Ok(())
}

/// The administrator's disk is mounted at $SNAP_COMMON: what is in it goes, it does not.
fn at_common() -> Result<()> {
    let mut stage = Stage::beside("1.7", || {
        sh(&format!("mkdir -p {COMMON}; mount -t tmpfs disk {COMMON}")).map(|_| Vec::new())
    })?;
    stage.start_usual()?;
    stage.polite_pods("polite", 1)?;
    stage.stop()?;
    stage.must_show(&[(Kind::Process, 3), (Kind::Mount, 6)])?;
    let below: fn(&Thing) -> bool =
        |thing| thing.kind == Kind::File && thing.path.starts_with("/var/snap/microk8s");
    let result = stage.judge(&Right::Told(below, &[0, 1]), 1);
    let layout: Layout = Stage::layout();
    demand(sh("mount")?.contains(&format!("disk on {COMMON} ")), "the administrator's mount is gone")?;
    demand(!layout.root.exists(), "the images are still there")?;
    result.map(drop)
}
