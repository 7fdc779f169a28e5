//! docker's daemon from the snap's directories, in layouts that its users have (34): containers in a control group that a user
//! names, a build that is killed.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::docker::{BUILT_IN_EXEC, DOCKER_DATA, Docker, SERVICE, profile};
use crate::stage::{Right, Stage, demand, sh};
use support::Result;
use support::picture::{Kind, Thing};
use support::scenes::Scene;

pub const ALL: &[Scene] = &[
    ("groups_that_docker_was_told_to_make_containers_in_are_told", || parent(&[])),
    ("groups_that_docker_was_told_to_make_containers_in_are_told_hybrid", || parent(&[])),
    ("the_group_that_dockers_own_file_names_is_told", || parent(&["daemon"])),
    ("a_users_group_that_docker_was_told_to_make_containers_in_stays", users_parent),
];

/// A docker that leaves nothing of a network.
const NO_NETWORK: [&str; 2] = ["--bridge=none", "--iptables=false"];

/// A container in groups that are made for it; dockerd has ended it in order. RIGHT: docker's record alone names the groups, and a
/// user may have made them: they are told.
fn parent(options: &[&str]) -> Result<()> {
    let mut stage = Stage::new("1.6")?;
    profile(&mut stage, &["built in"])?;
    let word = ["--cgroup-parent", "/deep/er"];
    let mut daemons = NO_NETWORK.to_vec();
    if options.contains(&"daemon") {
        let directory = "/var/snap/microk8s/1/config";
        let file = format!("{directory}/daemon.json");
        std::fs::create_dir_all(directory)?;
        let said = json!({"cgroup-parent": "/deep/er", "deprecated-key-path": "/run/snap.microk8s/key.json"});
        std::fs::write(&file, said.to_string())?;
        daemons.extend(["--config-file", "/var/snap/microk8s/1/config/daemon.json"]);
    }
    let mut docker = Docker::start(SERVICE, DOCKER_DATA, BUILT_IN_EXEC, &daemons)?;
    let word = if options.contains(&"daemon") { &[][..] } else { &word };
    docker.run(&[&["run", "-d", "--network", "none"], word, &["app", "/app", "obedient"]].concat())?;
    sh("find /sys/fs/cgroup -path '*/deep/er/*' -type d | grep .")?;
    let killed = options.contains(&"killed");
    if killed {
        docker.kill()?
    } else {
        docker.stop()?
    }
    stage.must_show(&[(Kind::Cgroup, 2)])?;
    let group: fn(&Thing) -> bool = |thing| thing.kind == Kind::Cgroup;
    stage.judge(&Right::Doubt(group), 0)?;
    Ok(())
}

/// The user has made the group before; in another one of his, which a container was in, too, somebody is.
/// RIGHT: both stay. What is empty is told.
fn users_parent() -> Result<()> {
    let mut stage = Stage::new("1.6")?;
    profile(&mut stage, &["built in"])?;
    stage.also(|_| sh("mkdir /sys/fs/cgroup/empty /sys/fs/cgroup/used"))?;
    let mut sleeper = Command::new("/bin/sh");
    sleeper.args(["-ec", "echo $$ > /sys/fs/cgroup/used/cgroup.procs; exec sleep 1000"]);
    let mut user = None;
    stage.also(|_| {
        user = Some(sleeper.stdin(Stdio::null()).stdout(Stdio::null()).spawn()?);
        while !sh("cat /sys/fs/cgroup/used/cgroup.procs")?.contains(char::is_numeric) {}
        Ok(())
    })?;
    let mut docker = Docker::start(SERVICE, DOCKER_DATA, BUILT_IN_EXEC, &NO_NETWORK)?;
    for parent in ["/empty", "/used"] {
        docker.run(&["run", "-d", "--network=none", "--cgroup-parent", parent, "app", "/app", "obedient"])?;
    }
    docker.stop()?;
    stage.must_show(&[(Kind::File, 2)])?;
    let nothing: fn(&Thing) -> bool = |_| false;
    let report = stage.judge(&Right::Told(nothing, &[3]), 0)?;
    let said = report["steps"].to_string();
    demand(said.contains("/sys/fs/cgroup/empty") && !said.contains("/sys/fs/cgroup/used"), said)?;
    sh("ls -d /sys/fs/cgroup/empty /sys/fs/cgroup/used")?;
    user.ok_or("no user")?.kill()?;
    Ok(())
}
