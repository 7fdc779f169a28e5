//! docker's daemon from the snap's directories, in layouts that its users have (34): containers in a control group that a user
//! names, a build that is killed.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::docker::{BUILT_IN_EXEC, DOCKER_DATA, Docker, SERVICE, Start, is_any_dockers, profile};
use crate::stage::{Right, Stage, demand, sh};
use support::Result;
use support::picture::{Kind, Thing};
use support::scenes::Scene;

pub const ALL: &[Scene] = &[
    ("groups_that_docker_was_told_to_make_containers_in_are_told", || parent(&[])),
    ("groups_that_docker_was_told_to_make_containers_in_are_told_hybrid", || parent(&[])),
    ("the_group_that_dockers_own_file_names_is_told", || parent(&["daemon"])),
    ("a_build_in_the_middle_of_which_docker_was_killed", || build(&[])),
    ("a_build_in_the_middle_of_which_docker_was_killed_hybrid", || build(&[])),
    ("a_build_that_was_killed_together_with_docker", || build(&["dead"])),
    ("a_build_that_was_killed_beside_one_of_another_docker", || build(&["dead", "another"])),
    ("a_build_that_was_killed_beside_a_container_of_runcs", || build(&["runc"])),
    ("a_build_in_dockers_network", || build_in_network(Docker::start, &[])),
    ("a_build_in_dockers_network_of_docker_28", || build_in_network(Docker::start_28, &[])),
    ("a_build_in_dockers_network_when_docker_was_killed", || build_in_network(Docker::start_28, &["killed"])),
    ("a_build_in_the_network_of_two_dockers", || build_in_network(Docker::start_28, &["another"])),
    ("docker_that_its_own_file_has_work_elsewhere", || elsewhere(&[])),
    ("docker_that_its_own_file_has_work_elsewhere_and_whose_shims_were_killed", || {
        elsewhere(&["shims killed"])
    }),
    ("docker_that_its_own_file_has_work_elsewhere_and_whose_shims_were_killed_hybrid", || {
        elsewhere(&["shims killed"])
    }),
    ("docker_whose_places_elsewhere_another_docker_has_now", || elsewhere(&["shims killed", "another"])),
    ("docker_whose_places_elsewhere_another_docker_has_that_was_killed", || {
        elsewhere(&["shims killed", "another", "another killed"])
    }),
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

/// A build with a step that does not end: its client.
fn start_build(exec: &str, network: &str, states: usize) -> Result<Child> {
    sh("mkdir -p /opt/runtimes/slow
        printf 'FROM app\nRUN [\"/app\", \"obedient\"]\n' > /opt/runtimes/slow/Dockerfile")?;
    let client = Command::new("/opt/others/bin/docker")
        .env("DOCKER_HOST", format!("unix://{exec}/docker.sock"))
        .env("HOME", "/opt/runtimes")
        .env("DOCKER_BUILDKIT", "1")
        .args(["build", "--quiet", "--network", network, "/opt/runtimes/slow"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()?;
    let start = Instant::now();
    let runs = "for s in /run/runc/*/state.json; do grep -l '\"init_process_pid\":[1-9]' $s || true; done";
    // runc writes its state before it starts the program.
    while sh(runs)?.lines().count() < states || obedient()? == 0 {
        demand(start.elapsed() < Duration::from_secs(30), "the build does not start")?;
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(client)
}

/// How many containers' programs run.
fn obedient() -> Result<usize> {
    let mut found = 0;
    for entry in fs::read_dir("/proc")? {
        let line = fs::read(entry?.path().join("cmdline"));
        found += usize::from(line.is_ok_and(|line| line.starts_with(b"/app\0obedient\0")));
    }
    Ok(found)
}

/// Containers that are runc's alone, one that lives and one that has ended, whose bundles are called like a build's.
fn containers_of_runc() -> Result<()> {
    sh("for id in alive dead; do
            b=/var/lib/docker/buildkit/executor/$id; mkdir -p $b/rootfs; cp /opt/runtimes/image/app $b/rootfs/app; cd $b
            /opt/containerd/1.6/runc spec
            sed -i 's/\"terminal\": true/\"terminal\": false/; s/\"sh\"/\"\\/app\", \"obedient\"/' config.json
            /opt/containerd/1.6/runc run -d $id </dev/null >/dev/null 2>&1
        done
        /opt/containerd/1.6/runc kill dead KILL
        until /opt/containerd/1.6/runc list | grep -q 'dead .*stopped'; do :; done
        /opt/containerd/1.6/runc list")?;
    Ok(())
}

/// dockerd was killed while runc ran a step of a build for it, with no shim. RIGHT: the step is ended; runc's state goes, and where
/// no other has any, so does the directory of all. Another's states stay.
fn build(options: &[&str]) -> Result<()> {
    let has = |word| options.contains(&word);
    let mut stage = Stage::new("1.6")?;
    profile(&mut stage, &["built in"])?;
    let mut docker = Docker::start(SERVICE, DOCKER_DATA, BUILT_IN_EXEC, &NO_NETWORK)?;
    // Without its client, docker ends a build.
    let mut client = start_build(BUILT_IN_EXEC, "none", 1)?;
    docker.kill()?;
    let _ = client.kill();
    client.wait()?;
    if has("dead") {
        sh("pid=$(grep -o '\"init_process_pid\":[0-9]*' /run/runc/*/state.json | cut -d: -f2)
            kill -KILL $pid; while [ -e /proc/$pid ]; do :; done")?;
    }
    let mut other = None;
    if has("another") {
        other = Some(stage.also(|_| {
            let service = "system.slice/docker.service";
            let other = Docker::start(service, "/var/lib/docker", "/run/docker", &NO_NETWORK)?;
            Ok((start_build("/run/docker", "none", 2)?, other))
        })?);
    }
    if has("runc") {
        stage.also(|_| containers_of_runc())?;
    }
    let is_shared = has("another") || has("runc");
    stage.shared(|thing| match thing.kind {
        Kind::File if thing.path.as_path() == Path::new("/run/runc") => is_shared,
        Kind::Cgroup if thing.path.ends_with("docker/buildkit") => has("another"),
        _ => has("another") && is_any_dockers(thing),
    })?;
    stage.must_show(&[(Kind::File, 2), (Kind::Mount, 1)])?;
    stage.judge(&Right::Clean, 0)?;
    let left = sh("ls /run/runc 2>/dev/null | wc -l")?;
    let others = if has("another") { 1 } else { 2 * usize::from(has("runc")) };
    demand(left.trim().parse() == Ok(others), format!("{left} of {others} states of others"))?;
    let goes_on = other.is_none() || obedient()? > 0;
    if let Some((mut client, _)) = other {
        client.kill()?;
        client.wait()?;
    }
    demand(goes_on, "the other's build has ended")
}

/// Of docker nothing is in the network but a step of a build, for which it does not wait when it is stopped. RIGHT: its rules go as
/// those of containers do. Another docker has the same bridge by now: that stays, and is told.
fn build_in_network(start: Start, options: &[&str]) -> Result<()> {
    let has = |word| options.contains(&word);
    let mut stage = Stage::new("1.6")?;
    profile(&mut stage, &["built in"])?;
    let mut docker = start(SERVICE, DOCKER_DATA, BUILT_IN_EXEC, &[])?;
    let mut client = start_build(BUILT_IN_EXEC, "default", 1)?;
    if has("killed") {
        docker.kill()?
    } else {
        docker.stop()?
    }
    let _ = client.kill();
    client.wait()?;
    let bridge: fn(&Thing) -> bool = |thing| thing.kind == Kind::Link && thing.name == "docker0";
    let other = has("another")
        .then(|| stage.also(|_| start("system.slice/docker.service", "/var/lib/docker", "/run/docker", &[])));
    let other = other.transpose()?;
    if other.is_some() {
        stage.shared(|thing| {
            let networks = matches!(thing.kind, Kind::Rule | Kind::Address | Kind::Route);
            networks || bridge(thing) || thing.kind != Kind::Cgroup && is_any_dockers(thing)
        })?;
        stage.must_show(&[(Kind::Process, 1), (Kind::Mount, 2), (Kind::Link, 1)])?;
        stage.judge(&Right::Doubt(|_| false), 0)?;
        return demand(sh("ls /sys/class/net")?.contains("docker0"), "the bridge of the other is gone");
    }
    stage.must_show(&[(Kind::Process, 1), (Kind::Mount, 2), (Kind::Link, 2), (Kind::Rule, 8)])?;
    stage.judge(&Right::Clean, 0).map(drop)
}

/// Neither its data nor what it has while it runs lies in the snap's directories, as a file there says.
const ELSEWHERE: [&str; 2] = ["/mnt/data/docker", "/mnt/run/docker"];

/// RIGHT: all that lives is ended, and the files there are named and stay. What another docker has there by now stays.
fn elsewhere(options: &[&str]) -> Result<()> {
    let has = |word| options.contains(&word);
    let mut stage = Stage::new("1.6")?;
    profile(&mut stage, &["built in"])?;
    let [data, exec] = ELSEWHERE;
    let file = "/var/snap/microk8s/1/config/daemon.json";
    let key = json!(format!("{exec}/key.json"));
    sh("mkdir -p /var/snap/microk8s/1/config")?;
    std::fs::write(
        file,
        json!({"data-root": data, "exec-root": exec, "deprecated-key-path": key}).to_string(),
    )?;
    let mut docker = Docker::start(SERVICE, data, exec, &["--config-file", file])?;
    docker.run(&["run", "-d", "-p", "8080:80", "app", "/app", "obedient"])?;
    docker.run(&["run", "-d", "--network", "none", "-v", "volume:/v", "app", "/app", "obedient"])?;
    docker.kill()?;
    if has("shims killed") {
        sh("for p in /proc/[0-9]*; do if tr '\\0' ' ' < $p/cmdline | grep -q '^[^ ]*containerd-shim'; then
            kill -KILL ${p#/proc/}; while [ -e $p ]; do :; done; fi; done")?;
    }
    let there: fn(&Thing) -> bool = |thing| thing.kind == Kind::File && thing.path.starts_with("/mnt");
    if !has("another") {
        stage.must_show(&[(Kind::Process, 2), (Kind::Mount, 4), (Kind::Link, 2), (Kind::Cgroup, 2)])?;
        return stage.judge(&Right::Told(there, &[1]), 0).map(|_| ());
    }
    // It ends what it finds there first, and leaves the sockets of its shims.
    let other = stage.also(|_| {
        let mut other = Docker::start("system.slice/docker.service", data, exec, &[])?;
        other.run(&["run", "-d", "-p", "9090:90", "app", "/app", "obedient"])?;
        other.run(&["run", "-d", "--network", "none", "app", "/app", "obedient"])?;
        if has("another killed") {
            other.kill()?;
        }
        Ok(other)
    })?;
    // All that is there but the snap's files is its by now.
    let snaps = |thing: &Thing| thing.path.to_string_lossy().contains("snap");
    stage.shared(|thing| !snaps(thing))?;
    stage.must_show(&[(Kind::File, 1)])?;
    let report = stage.judge(&Right::Told(there, &[1]), 0)?;
    let counts = &report["counts"];
    demand(counts["removed"] == 0 && counts["left"] == 2, counts.to_string())?;
    if has("another killed") {
        let alive = obedient()?;
        return demand(alive == 2, format!("{alive} of the other docker's containers are there"));
    }
    demand(other.run(&["ps", "-q"])?.lines().count() == 2, "the other docker's containers are not all there")
}
