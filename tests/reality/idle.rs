//! A snap whose containerd and kubelet have run, and that has no pod when it is removed.
//!
//! RIGHT: what they have made for all pods goes as it does with the last pod: directories in /run, the groups of kubelet. Status
//! 0. Where pods had a network, the bridge and CNI's notes may be another's, for nothing is left that they led to: they are
//! named, and the status is 3.

use std::process::Command;

use serde_json::json;

use crate::network::{a_bridge, start};
use crate::stage::{Right, Stage, demand, sh};
use support::picture::{Kind, Thing};
use support::scenes::Scene;
use support::{Result, built};

pub const ALL: &[Scene] = &[
    ("nothing_is_left_where_no_pod_ever_was", || never("1.7")),
    ("nothing_is_left_where_no_pod_ever_was_1_6", || never("1.6")),
    ("nothing_is_left_where_no_pod_ever_was_2_1", || never("2.1")),
    ("networks_of_pods_that_were_removed_before_are_told", || removed("1.7")),
    ("networks_of_pods_that_were_removed_before_are_told_1_6", || removed("1.6")),
    ("networks_of_pods_that_were_removed_before_are_told_2_1", || removed("2.1")),
    ("networks_of_pods_that_were_removed_before_are_told_hybrid", || removed("1.7")),
];

/// kubelet makes a group for each QoS class when it starts, in each hierarchy.
pub const CLASSES: &str = "for d in $(find /sys/fs/cgroup -maxdepth 2 -name kubepods); do mkdir -p $d/burstable $d/besteffort; done";

fn never(version: &'static str) -> Result<()> {
    let mut stage = Stage::new(version)?;
    stage.start_usual()?;
    stage.stop()?;
    sh("mkdir /sys/fs/cgroup/kubepods")?;
    sh(CLASSES)?;
    stage.must_show(&[(Kind::Cgroup, 3), (Kind::File, 2)])?;
    stage.judge(&Right::Clean, 0)?;
    Ok(())
}

fn removed(version: &'static str) -> Result<()> {
    let mut stage = Stage::new(version)?;
    let portmap = json!({"type": "portmap", "capabilities": {"portMappings": true}});
    start(&mut stage, &json!([a_bridge("cni0"), portmap]))?;
    stage.runtime()?.make_pods("served", &["--host-port", "18081:80"], &["/app", "obedient"])?;
    stage.runtime()?.podmaker(&["stop"])?;
    sh("find /sys/fs/cgroup -depth -type d -path '*kubepods*/pod*' -exec rmdir {} +")?;
    sh(CLASSES)?;
    stage.stop()?;
    stage.must_show(&[(Kind::Cgroup, 3), (Kind::File, 2), (Kind::Link, 1)])?;
    let named: fn(&Thing) -> bool =
        |thing| thing.kind == Kind::Link || thing.path.starts_with("/var/lib/cni/networks/pods");
    stage.judge(&Right::Doubt(named), 0)?;
    // Nor does a later look forget it, when the snap's directories are gone and with them what told of its containerd.
    let looked =
        Command::new(built("snap-teardown")?).args(["verify", "--snap", "microk8s"]).env_clear().output()?;
    let said = String::from_utf8_lossy(&looked.stdout);
    demand(
        looked.status.code() == Some(3) && said.contains("cni0"),
        format!("verify: {:?}: {said}", looked.status),
    )
}
