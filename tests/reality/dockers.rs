//! docker as administrators configure it (34): on a bridge of the host's own, with its groups elsewhere, killed in a build.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::docker::{BUILT_IN_EXEC, DOCKER_DATA, Docker, SERVICE, profile};
use crate::furniture::furnish;
use crate::stage::{DATA, Right, Stage, demand, sh};
use support::Result;
use support::picture::{Kind, Thing};
use support::scenes::Scene;

pub const ALL: &[Scene] = &[
    ("docker_on_a_bridge_that_was_there_before", on_a_bridge_of_the_hosts),
    ("docker_whose_groups_are_elsewhere_that_has_ended_in_order", groups_elsewhere),
    ("docker_that_was_killed_in_a_build", in_a_build),
];

/// The administrator's bridge has an address, and may have a port of his by tomorrow. RIGHT: it stays, with its address; what docker
/// wrote over it cannot be told from what he wrote, so it is told.
fn on_a_bridge_of_the_hosts() -> Result<()> {
    furnish(true)?;
    sh("ip link add own0 address 02:00:00:00:00:07 type bridge
        ip address add 10.77.0.1/16 dev own0; ip link set own0 up")?;
    let mut stage = Stage::from_here("1.6", Vec::new())?;
    profile(&mut stage, &["built in"])?;
    let config = json!({"bridge": "own0"});
    let mut docker = Docker::configured(SERVICE, DOCKER_DATA, BUILT_IN_EXEC, &[], config)?;
    docker.run(&["run", "-d", "-p", "8080:80", "app", "/app", "obedient"])?;
    docker.kill()?;
    stage.must_show(&[(Kind::Process, 2), (Kind::Link, 1), (Kind::Rule, 10)])?;
    let told: fn(&Thing) -> bool = |thing| matches!(thing.kind, Kind::Link | Kind::Address | Kind::Route);
    let report = stage.judge(&Right::Doubt(told), 0)?;
    demand(report["steps"].to_string().contains("the link own0"), "the bridge is not told")?;
    demand(sh("ip address show dev own0")?.contains("10.77.0.1/16"), "the bridge has lost its address")?;
    demand(!sh("ls /sys/class/net")?.contains("veth"), "a port of ours is left")
}

/// runc takes a container's own group away, and nobody those above it. RIGHT: whoever made them, they are told.
fn groups_elsewhere() -> Result<()> {
    let mut stage = Stage::new("1.6")?;
    profile(&mut stage, &["built in"])?;
    let config = json!({"bridge": "none", "cgroup-parent": "/custom/deep"});
    // Where the docker snap has it.
    fs::create_dir_all(format!("{DATA}/config"))?;
    fs::write(format!("{DATA}/config/daemon.json"), config.to_string())?;
    let mut docker = Docker::configured(SERVICE, DOCKER_DATA, BUILT_IN_EXEC, &[], config)?;
    docker.run(&["run", "-d", "--network", "none", "app", "/app", "obedient"])?;
    docker.run(&["run", "-d", "--network", "none", "--cgroup-parent", "/own", "app", "/app", "obedient"])?;
    docker.stop()?;
    stage.must_show(&[(Kind::Cgroup, 3)])?;
    let named: fn(&Thing) -> bool = |thing| thing.kind == Kind::Cgroup;
    let report = stage.judge(&Right::Doubt(named), 0)?;
    let told = report["steps"].to_string();
    for group in ["custom/deep", "custom", "own"] {
        demand(told.contains(&format!("\"/sys/fs/cgroup/{group}\"")), format!("{group} is not told"))?;
    }
    Ok(())
}

/// BuildKit calls runc without a place for its states, and its containers are none of containerd's.
/// RIGHT: the step is ended, and its state and the directory that runc made for it are gone.
fn in_a_build() -> Result<()> {
    let mut stage = Stage::new("1.6")?;
    profile(&mut stage, &["built in"])?;
    let mut docker = Docker::start(SERVICE, DOCKER_DATA, BUILT_IN_EXEC, &[])?;
    let text = "FROM app\nRUN [\"/app\", \"obedient\"]\n";
    fs::write("/opt/runtimes/build/Dockerfile", text)?;
    sh(&format!(
        "export DOCKER_HOST=unix://{BUILT_IN_EXEC}/docker.sock HOME=/opt/runtimes DOCKER_BUILDKIT=1
         docker build /opt/runtimes/build >/opt/runtimes/build.log 2>&1 &"
    ))?;
    let start = Instant::now();
    // A state is there before its process is the application.
    while sh("cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' ' || true")?.matches("/app obedient").count()
        == 0
    {
        let log = || sh("tail -n 5 /opt/runtimes/build.log").unwrap_or_default();
        demand(start.elapsed() < Duration::from_secs(30), format!("the step does not run: {}", log()))?;
        std::thread::sleep(Duration::from_millis(50));
    }
    docker.kill()?;
    stage.must_show(&[(Kind::Process, 1), (Kind::Mount, 2), (Kind::Cgroup, 2)])?;
    demand(Path::new("/run/runc").is_dir(), "runc has its states elsewhere")?;
    stage.judge(&Right::Clean, 0)?;
    demand(!Path::new("/run/runc").exists(), "runc's state of the step is left")
}
