//! Places that containerd's and kubelet's own files tell, besides the roots: control groups, sockets, logs.
//!
//! RIGHT: a group that containerd was told to go into, or to put its shims into, may be a user's: empty, it is told (status 3); with
//! somebody in it, it is his and stays silently.

use std::process::Command;

use crate::stage::{COMMON, Right, Stage, demand, sh};
use crate::top::{Way, start};
use support::Result;
use support::picture::{Kind, Thing};
use support::scenes::Scene;

pub const ALL: &[Scene] = &[
    ("the_group_that_containerd_goes_into_is_told", || group("1.7", true, CGROUP)),
    ("the_group_that_containerd_goes_into_is_told_2_1", || group("2.1", true, CGROUP)),
    ("the_group_that_containerd_goes_into_is_told_hybrid", || group("1.7", false, CGROUP)),
    ("the_group_that_shims_go_into_is_told", || group("1.7", true, SHIMS)),
    ("the_group_that_shims_go_into_is_told_2_1", || group("2.1", true, SHIMS)),
    ("the_group_that_shims_go_into_is_told_hybrid", || group("1.7", true, SHIMS)),
    ("a_group_of_shims_that_somebody_else_is_in_stays", || somebodys(SHIMS)),
    ("a_group_of_containerds_that_somebody_else_is_in_stays", || somebodys(CGROUP)),
];

const CGROUP: &str = "[cgroup]\npath = \"/deep/er\"\n";
const SHIMS: &str = "[plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.runc]\nruntime_type = \"io.containerd.runc.v2\"\n\
                     [plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.runc.options]\nShimCgroup = \"/deep/er\"\n";

/// Starts our containerd with this in its configuration.
fn told(stage: &mut Stage, lines: &str) -> Result<()> {
    let (root, state) = (format!("{COMMON}/var/lib/containerd"), format!("{COMMON}/run/containerd"));
    let layout = support::runtime::Layout { root: root.into(), state: state.into(), ..Stage::layout() };
    start(stage, layout, Way::Config, &[lines, ""])
}

/// Makes the group in every hierarchy.
fn make() -> Result<String> {
    sh(
        "cd /sys/fs/cgroup; if [ -e cgroup.procs ]; then mkdir -p deep/er; else for h in *; do mkdir -p $h/deep/er; done; fi",
    )
}

/// The group, that somebody has made before (as he must with cgroup2) or containerd makes.
fn group(version: &'static str, made: bool, lines: &str) -> Result<()> {
    let mut stage = Stage::new(version)?;
    if made {
        make()?;
    }
    told(&mut stage, lines)?;
    stage.polite_pods("polite", 1)?;
    stage.stop()?;
    // Shims are in it, too.
    sh("cat $(find /sys/fs/cgroup -path '*/deep/er/cgroup.procs') | grep -q .")?;
    stage.must_show(&[(Kind::Process, 3), (Kind::Mount, 4), (Kind::Cgroup, 4)])?;
    let is_it: fn(&Thing) -> bool = |thing| {
        thing.kind == Kind::Cgroup && (thing.path.ends_with("deep") || thing.path.ends_with("deep/er"))
    };
    let report = stage.judge(&Right::Told(is_it, &[3]), 1)?;
    demand(report["steps"].to_string().contains("/deep/er"), "the group is not named")
}

/// A user keeps a program of his in the group that he has told containerd to use.
fn somebodys(lines: &str) -> Result<()> {
    let mut stage = Stage::new("1.7")?;
    stage.also(|_| make())?;
    let mut sleeper = Command::new("/bin/sh");
    sleeper.args(["-ec", "echo $$ > /sys/fs/cgroup/deep/er/cgroup.procs; exec sleep 1000"]);
    let mut user = None;
    stage.also(|_| {
        user = Some(sleeper.spawn()?);
        while !sh("cat /sys/fs/cgroup/deep/er/cgroup.procs")?.contains(char::is_numeric) {}
        Ok(())
    })?;
    told(&mut stage, lines)?;
    stage.polite_pods("polite", 1)?;
    stage.stop()?;
    stage.must_show(&[(Kind::Process, 3), (Kind::Mount, 4)])?;
    stage.judge(&Right::Clean, 1)?;
    user.ok_or("no user")?.kill()?;
    Ok(())
}
