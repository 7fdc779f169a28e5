//! Kata's shape (28): the machine's monitor in /kata_overhead/ID, the pod's group kata_ID, the shared directories.
//!
//! RIGHT: monitor, groups, mounts, and the entries of that ID below /run/kata-containers and /run/vc are gone. Where no
//! shim lives that proves the monitor, it is at the very least named: left or blind, and never status 0.

use crate::app::a_shim;
use crate::shapes::{UID, UNIT, bundle, until};
use crate::stage::{COMMON, Right, Stage, demand, sh};
use support::picture::{Kind, Thing};
use support::scenes::Scene;
use support::{Result, built};

pub const ALL: &[Scene] = &[
    ("katas_monitor_outlives_its_shim", || without_a_shim()),
    ("katas_monitor_is_its_shims_child", || with_a_shim("app")),
    ("katas_monitor_is_a_daemon_beside_its_shim", || with_a_shim("daemon")),
    ("a_guests_kata_of_the_same_id_stays", guest),
];

fn sandbox() -> String {
    "c".repeat(64)
}

fn furnish(id: &str) -> Result<()> {
    let shared = format!("/run/kata-containers/shared/sandboxes/{id}");
    sh(&format!(
        "mkdir -p {shared}/mounts {shared}/shared /run/vc/sbs/{id} /run/vc/vm/{id}
         mount -t tmpfs -o size=64k kataShared {shared}/mounts; mount --bind {shared}/mounts {shared}/shared
         echo '{{}}' > /run/vc/sbs/{id}/persist.json; : > /run/vc/vm/{id}/qmp.sock
         mkdir -p /sys/fs/cgroup/kata_overhead/{id} /sys/fs/cgroup/kubepods/besteffort/pod{UID}/kata_{id}"
    ))
    .map(drop)
}

/// Those who may stay, if they are named: all that bears the sandbox's ID.
fn of_the_sandbox(thing: &Thing) -> bool {
    let text = format!("{} {}", thing, thing.path.display());
    text.contains(&sandbox()) || text.contains("kata") || text.contains("/run/vc")
}

fn without_a_shim() -> Result<()> {
    let mut stage = Stage::new("1.7")?;
    let id = sandbox();
    bundle(&id, &id, UID)?;
    furnish(&id)?;
    daemon(&id)?;
    stage.must_show(&[(Kind::Process, 1), (Kind::Mount, 2), (Kind::Cgroup, 4)])?;
    stage.judge(&Right::Told(of_the_sandbox, &[0, 1, 3]), 0)?;
    Ok(())
}

/// A process that nobody waits for, its root the host's, in the sandbox's group of overhead.
fn daemon(id: &str) -> Result<()> {
    let program = built("app")?;
    sh(&format!(
        "sh -c 'echo 0 > /sys/fs/cgroup/kata_overhead/{id}/cgroup.procs; exec setsid --fork {} obedient' </dev/null >/dev/null 2>&1",
        program.display()
    ))?;
    until("the monitor runs", || {
        sh(&format!("cat /sys/fs/cgroup/kata_overhead/{id}/cgroup.procs"))
            .is_ok_and(|t| t.lines().count() == 1)
    })
}

fn with_a_shim(manner: &str) -> Result<()> {
    let mut stage = Stage::new("1.7")?;
    let id = sandbox();
    let at = bundle(&id, &id, UID)?;
    furnish(&id)?;
    let address = format!("{COMMON}/run/containerd.sock");
    let words = ["-namespace", "k8s.io", "-address", &address, "-publish-binary", "containerd", "-id", &id];
    let program = built("app")?.display().to_string();
    let overhead = format!("kata_overhead/{id}");
    let child: &[&str] = if manner == "daemon" { &["sleep", "1000"] } else { &[&program, "obedient"] };
    // The shim itself is in the group of overhead, too; it was started from the unit.
    let unit = if manner == "daemon" { overhead.as_str() } else { UNIT };
    stage.keep(a_shim(&words, &at, unit, &overhead, child)?)?;
    if manner == "daemon" {
        until("the shim is there", || {
            sh(&format!("cat /sys/fs/cgroup/{overhead}/cgroup.procs")).is_ok_and(|t| t.lines().count() >= 2)
        })?;
        sh(&format!(
            "sh -c 'echo 0 > /sys/fs/cgroup/{overhead}/cgroup.procs; exec setsid --fork {program} obedient' </dev/null >/dev/null 2>&1"
        ))?;
    }
    let least = if manner == "daemon" { 3 } else { 2 };
    until("the monitor runs", || stage.now().is_ok_and(|now| now.count(Kind::Process) >= least))?;
    stage.must_show(&[(Kind::Process, least), (Kind::Mount, 2), (Kind::Cgroup, 4)])?;
    let right = if manner == "daemon" { Right::Told(of_the_sandbox, &[0, 1, 3]) } else { Right::Clean };
    stage.judge(&right, 0)?;
    Ok(())
}

/// A guest's own Kata: a process in a process namespace of its own, in a group that bears the ID of one of ours.
fn guest() -> Result<()> {
    let mut stage = Stage::new("1.7")?;
    let id = sandbox();
    bundle(&id, &id, UID)?;
    let group = format!("/sys/fs/cgroup/lxc.payload.guest/kata_overhead/{id}");
    stage.also(|_| {
        sh(&format!(
            "mkdir -p {group}; sh -c 'echo 0 > {group}/cgroup.procs; exec setsid --fork unshare --pid --fork sleep 1000' </dev/null >/dev/null 2>&1"
        ))?;
        until("the guest runs", || sh(&format!("cat {group}/cgroup.procs")).is_ok_and(|t| t.lines().count() == 2))
    })?;
    stage.judge(&Right::Told(|_| false, &[0, 3]), 0)?;
    demand(sh(&format!("cat {group}/cgroup.procs"))?.lines().count() == 2, "the guest's process was ended")
}
