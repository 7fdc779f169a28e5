//! docker's daemon from the snap's directories (34): Debian's dockerd with a containerd of its own, containers on the
//! default bridge, on a network of the user's, on the host's, on another container's and on none.
//!
//! RIGHT: everything is ended, with the stop signal that the image names, and nothing is left: the overlays, the network
//! namespaces under docker's names, the bridges, the veths and the rules. A second daemon's things stay; so do those of the
//! distribution's docker, in the directories that a snap such as k8s names and shares with it, and nothing of them is told.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::furniture::{DOCKER_28, OTHERS, furnish};
use crate::stage::{COMMON, Right, Stage, USERS, demand, sh};
use support::Result;
use support::picture::{Kind, Thing};
use support::runtime::{Layout, Manner, Runtime, in_group};
use support::scenes::Scene;

pub const ALL: &[Scene] = &[
    ("docker_ends_and_leaves_nothing", || killed(Docker::start, &[], &[])),
    ("docker_ends_and_leaves_nothing_hybrid", || killed(Docker::start, &[], &[])),
    ("docker_with_data_named_in_the_profile", || killed(Docker::start, &[], &["data"])),
    ("docker_with_its_network_named_in_the_profile", || killed(Docker::start, &[], &["data", "network"])),
    ("docker_by_the_profile_that_is_built_in", || killed(Docker::start, &[], &["built in"])),
    ("docker_by_the_profile_that_is_built_in_whose_shims_were_killed", || {
        killed(Docker::start, &[], &["built in", "shims killed"])
    }),
    ("docker_that_has_ended_in_order_leaves_bridges_that_are_told", ended_in_order),
    ("docker_that_has_ended_in_order_leaves_bridges_that_are_told_hybrid", ended_in_order),
    ("docker_that_has_ended_in_order_beside_another_docker", ended_in_order_beside_another),
    ("docker_beside_another_docker", || beside(Docker::start, &[], "9090:90")),
    ("docker_where_a_snap_that_never_ran_would_work_stays", || where_the_snap_would_work(true)),
    ("docker_that_came_later_to_where_the_snap_would_work_stays", || where_the_snap_would_work(false)),
    ("docker_that_has_forwarding_dropped", || forwarding_dropped(false)),
    ("docker_that_has_forwarding_dropped_and_has_ended_in_order", || forwarding_dropped(true)),
    ("docker_whose_shims_were_killed", || killed(Docker::start, &[], &["shims killed"])),
    ("docker_with_a_moved_data_root", || moved(&[])),
    ("docker_with_a_moved_data_root_whose_shims_were_killed", || moved(&["shims killed"])),
    ("docker_with_a_moved_data_root_that_has_ended_in_order", moved_and_ended_in_order),
    ("docker_in_a_swarm_that_was_killed", swarm),
    ("docker_whose_moved_data_root_another_docker_has_now", moved_and_taken_over),
];

/// containerd keeps the images, and mounts root file systems.
pub const IMAGES_OF_CONTAINERD: [&str; 2] = ["--feature", "containerd-snapshotter=true"];

/// A dockerd that runs.
pub struct Docker {
    programs: &'static str,
    daemon: Child,
    socket: PathBuf,
    exec: PathBuf,
}

/// Starts one of either version, in a service, with its data and its own directory, and with more words.
pub type Start = fn(&str, &str, &str, &[&str]) -> Result<Docker>;

impl Docker {
    pub fn start(service: &str, data: &str, exec: &str, more: &[&str]) -> Result<Docker> {
        Docker::start_of(OTHERS, "1.6", service, data, exec, more)
    }

    /// The newer one.
    pub fn start_28(service: &str, data: &str, exec: &str, more: &[&str]) -> Result<Docker> {
        Docker::start_of(DOCKER_28, "2.1", service, data, exec, more)
    }

    fn start_of(
        programs: &'static str,
        containerd: &str,
        service: &str,
        data: &str,
        exec: &str,
        more: &[&str],
    ) -> Result<Docker> {
        let layout = Layout { network: ("docker", 9), ..Layout::of_host() };
        let place = Runtime::prepare(Manner::default(), &layout, containerd)?;
        let (exec, socket) = (PathBuf::from(exec), PathBuf::from(format!("{exec}/docker.sock")));
        fs::create_dir_all(data)?;
        fs::create_dir_all(&exec)?;
        let log = format!("/opt/runtimes/dockerd-{}", service.replace('/', "-"));
        let config = exec.join("daemon.json");
        // Else the older one makes /etc/docker for a key of its own.
        let said = match programs {
            OTHERS => json!({"deprecated-key-path": exec.join("key.json")}),
            _ => json!({}),
        };
        fs::write(&config, said.to_string())?;
        let mut command = in_group(service, "dockerd")?;
        command.arg("--config-file").arg(config);
        // What a file says, it wants in no word.
        let by_file = |word: &&&str| fs::read_to_string(word).is_ok_and(|text| text.contains("data-root"));
        if more.iter().find(by_file).is_none() {
            command.args(["--data-root", data, "--exec-root"]).arg(&exec);
        }
        let driver = if more.contains(&IMAGES_OF_CONTAINERD[1]) { "overlayfs" } else { "overlay2" };
        command
            .arg("--pidfile")
            .arg(exec.join("docker.pid"))
            .arg(format!("--host=unix://{}", socket.display()))
            .args(["--storage-driver", driver, "--exec-opt", "native.cgroupdriver=cgroupfs"])
            .args(more)
            .env("PATH", format!("{programs}:{}", place.path))
            .stdin(Stdio::null())
            .stdout(File::create(&log)?)
            .stderr(File::options().append(true).open(&log)?);
        let docker = Docker { programs, daemon: command.spawn()?, socket, exec };
        let start = Instant::now();
        // Nothing announces that a socket is served.
        while docker.run(&["version"]).is_err() {
            if start.elapsed() > Duration::from_secs(30) {
                return Err(format!("dockerd does not answer: {}", sh(&format!("tail -n 5 {log}"))?).into());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        docker.image()?;
        Ok(docker)
    }

    pub fn run(&self, words: &[&str]) -> Result<String> {
        let mut command = Command::new(Path::new(self.programs).join("docker"));
        command.env("DOCKER_HOST", format!("unix://{}", self.socket.display())).env("HOME", "/opt/runtimes");
        command.env("DOCKER_BUILDKIT", "0").args(words);
        Ok(String::from_utf8_lossy(&support::runtime::output(&mut command)?).trim().to_owned())
    }

    fn image(&self) -> Result<()> {
        let app = support::built("app")?;
        sh(&format!(
            "mkdir -p /opt/runtimes/image/out; cp {} /opt/runtimes/image/app; tar -C /opt/runtimes/image -cf /opt/runtimes/image.tar .",
            app.display()
        ))?;
        self.run(&["import", "/opt/runtimes/image.tar", "app"])?;
        sh(
            "mkdir -p /opt/runtimes/build; printf 'FROM app\nSTOPSIGNAL SIGINT\n' > /opt/runtimes/build/Dockerfile",
        )?;
        self.run(&["build", "--quiet", "--tag", "interrupted", "/opt/runtimes/build"])?;
        Ok(())
    }

    /// In order, as snapd does: it ends its containers first.
    pub fn stop(&mut self) -> Result<()> {
        sh(&format!("kill -TERM {}", self.daemon.id()))?;
        self.daemon.wait()?;
        Ok(())
    }

    /// dockerd and its containerd end at once; containers and shims live on, as with live-restore.
    pub fn kill(&mut self) -> Result<()> {
        let pid = fs::read_to_string(self.exec.join("containerd/containerd.pid"))?;
        self.daemon.kill()?;
        self.daemon.wait()?;
        // It asks the kernel to be killed with its parent, which may be done.
        sh(&format!("kill -KILL {0} 2>/dev/null || true; while [ -e /proc/{0} ]; do :; done", pid.trim()))?;
        Ok(())
    }
}

pub const DOCKER_DATA: &str = "/var/snap/microk8s/common/var-lib-docker";
const DOCKER_EXEC: &str = "/var/snap/microk8s/common/run/docker";
/// The docker snap's own place.
pub const BUILT_IN_EXEC: &str = "/run/snap.microk8s";
pub const SERVICE: &str = "system.slice/snap.microk8s.dockerd.service";

fn containers(docker: &Docker, default: bool) -> Result<()> {
    fs::create_dir_all(format!("{USERS}/written"))?;
    docker.run(&["network", "create", "front"])?;
    if default {
        docker.run(&["run", "-d", "--name", "one", "-p", "8080:80", "app", "/app", "obedient"])?;
        docker.run(&["run", "-d", "--network", "container:one", "app", "/app", "obedient"])?;
    }
    docker.run(&[
        "run",
        "-d",
        "--network",
        "front",
        "-p",
        "8081:80/udp",
        "-p",
        "127.0.0.1:8082:80",
        "app",
        "/app",
        "obedient",
    ])?;
    docker.run(&["run", "-d", "--network", "front", "--tmpfs", "/tmp", "app", "/app", "obedient"])?;
    docker.run(&["run", "-d", "--network", "host", "app", "/app", "obedient"])?;
    docker.run(&["run", "-d", "--network", "none", "-v", "volume:/v", "app", "/app", "obedient"])?;
    let out = format!("{USERS}/written:/out");
    docker.run(&["run", "-d", "-v", &out, "interrupted", "/app", "interrupted", "/out/interrupted"])?;
    Ok(())
}

/// The layout of the daemon's own containerd, in a profile.
pub fn profile(stage: &mut Stage, options: &[&str]) -> Result<()> {
    if options.contains(&"built in") {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/snap/profile/docker.json");
        let built_in: serde_json::Value = serde_json::from_slice(&fs::read(file)?)?;
        return stage.profile(|profile| {
            *profile = built_in;
            profile["snap"] = json!("microk8s");
        });
    }
    stage.profile(|profile| {
        *profile = json!({
            "schema": 1,
            "snap": "microk8s",
            "containerd": {
                "address": "$SNAP_COMMON/run/docker/containerd/containerd.sock",
                "state": "$SNAP_COMMON/run/docker/containerd/daemon",
                "root": "$SNAP_COMMON/var-lib-docker/containerd/daemon",
                "runc": "$SNAP_COMMON/run/docker/runtime-runc"
            },
        });
        if options.contains(&"data") {
            profile["data"] = json!(["$SNAP_COMMON/var-lib-docker", "$SNAP_COMMON/run/docker"]);
        }
        if options.contains(&"network") {
            profile["network"] = json!({"links": ["docker0"], "netns": "$SNAP_COMMON/run/docker/netns"});
        }
        // runc's state by its true place, or as a packager who knows of none leaves it.
        if !options.contains(&"network") {
            profile["containerd"].as_object_mut().map(|map| map.remove("runc"));
        }
    })
}

/// Containers whose dockerd was killed, which had these words more.
pub fn killed(start: Start, words: &[&str], options: &[&str]) -> Result<()> {
    let mut stage = Stage::new("1.6")?;
    profile(&mut stage, options)?;
    let exec = if options.contains(&"built in") { BUILT_IN_EXEC } else { DOCKER_EXEC };
    let mut docker = start(SERVICE, DOCKER_DATA, exec, words)?;
    containers(&docker, true)?;
    let least = if options.contains(&"shims killed") { 7 } else { 14 };
    docker.kill()?;
    if options.contains(&"shims killed") {
        kill_shims()?;
    }
    stage.must_show(&[
        (Kind::Process, least),
        (Kind::Mount, 10),
        (Kind::Link, 4),
        (Kind::Rule, 10),
        (Kind::Cgroup, 7),
    ])?;
    let report = stage.judge(&Right::Clean, 1)?;
    let took = report["elapsed-ms"].as_u64().unwrap_or(u64::MAX);
    demand(took < 15_000, format!("{took} ms: a stop signal was not the image's own"))
}

pub fn kill_shims() -> Result<()> {
    sh("for p in /proc/[0-9]*; do if tr '\\0' ' ' < $p/cmdline | grep -q '^[^ ]*containerd-shim'; then
        kill -KILL ${p#/proc/}; while [ -e $p ]; do :; done; fi; done")?;
    Ok(())
}

/// `snap set docker data-root=…`, as the snap's README has it.
const MOVED_DATA: &str = "/mnt/big/docker";

fn at_the_moved_data(thing: &Thing) -> bool {
    thing.kind == Kind::File && thing.path.starts_with("/mnt/big")
}

/// RIGHT: what runs, is mounted or linked is ended, and the files there are named and stay.
fn moved(options: &[&str]) -> Result<()> {
    let mut stage = Stage::new("1.6")?;
    profile(&mut stage, &["built in"])?;
    let mut docker = Docker::start(SERVICE, MOVED_DATA, BUILT_IN_EXEC, &[])?;
    containers(&docker, true)?;
    docker.run(&["volume", "create", "--opt=type=tmpfs", "--opt=device=tmpfs", "memory"])?;
    docker.run(&["run", "-d", "-v", "memory:/m", "app", "/app", "obedient"])?;
    docker.kill()?;
    if options.contains(&"shims killed") {
        kill_shims()?;
    }
    stage.must_show(&[
        (Kind::Process, 8),
        (Kind::Mount, 12),
        (Kind::Link, 4),
        (Kind::Rule, 10),
        (Kind::Cgroup, 8),
    ])?;
    stage.judge(&Right::Told(at_the_moved_data, &[1]), 1)?;
    Ok(())
}

/// A swarm of one with a service, whose daemon was killed. Nobody is ever in the namespaces of its networks and balancers.
/// (Without IPVS in the kernel, dockerd makes the namespaces and says that it does not balance.)
/// RIGHT: these go; bridges that lead there are told, since no container proves them ours.
fn swarm() -> Result<()> {
    let mut stage = Stage::new("1.6")?;
    profile(&mut stage, &["built in"])?;
    let mut docker = Docker::start(SERVICE, DOCKER_DATA, BUILT_IN_EXEC, &[])?;
    docker.run(&["swarm", "init", "--advertise-addr", "127.0.0.1", "--listen-addr", "127.0.0.1:2377"])?;
    docker.run(&["service", "create", "--detach", "--publish", "8088:80", "app", "/app", "obedient"])?;
    let start = Instant::now();
    // A service's containers are started when its networks are made.
    while docker.run(&["ps", "--quiet"])?.is_empty() {
        demand(start.elapsed() < Duration::from_secs(30), "the service does not start")?;
        std::thread::sleep(Duration::from_millis(50));
    }
    docker.kill()?;
    let bound = sh("grep -c 'nsfs.*/netns/\\|/netns/.*nsfs' /proc/self/mountinfo")?;
    demand(bound.trim().parse::<usize>()? >= 3, format!("{bound} namespaces are bound"))?;
    stage.must_show(&[(Kind::Process, 2), (Kind::Link, 3)])?;
    // The kernel ends a namespace, with the links into it, some time after its last name.
    let bridge: fn(&Thing) -> bool = |thing| thing.kind == Kind::Link && !thing.name.contains("veth");
    let report = stage.judge(&Right::Doubt(bridge), 0)?;
    demand(report["counts"]["left"] == 0, format!("something is left: {}", report["counts"]))?;
    demand(!Path::new(BUILT_IN_EXEC).join("netns").exists(), "the namespaces are still bound")?;
    let start = Instant::now();
    while sh("ls /sys/class/net")?.contains("veth") {
        demand(start.elapsed() < Duration::from_secs(10), "a link into a namespace of ours is still there")?;
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// dockerd got its SIGTERM and ended its containers: nothing of theirs is left to tell whose the bridges are but its own record.
fn ended_in_order() -> Result<()> {
    let mut stage = Stage::new("1.6")?;
    profile(&mut stage, &["built in"])?;
    let mut docker = Docker::start(SERVICE, DOCKER_DATA, BUILT_IN_EXEC, &[])?;
    docker.run(&["network", "create", "front"])?;
    docker.run(&["run", "-d", "--network", "front", "app", "/app", "obedient"])?;
    sh(&format!("kill -TERM {}", docker.daemon.id()))?;
    docker.daemon.wait()?;
    stage.must_show(&[(Kind::Link, 2), (Kind::Rule, 10)])?;
    let bridges: fn(&Thing) -> bool = |thing| matches!(thing.kind, Kind::Link | Kind::Address | Kind::Route);
    let report = stage.judge(&Right::Doubt(bridges), 0)?;
    demand(report["steps"].to_string().contains("docker0"), "docker0 is not told")?;
    nothing_is_left_of_any_docker()
}

/// Where nothing was forwarded before, dockerd turns that on and drops all but what is its own. RIGHT: nobody knows who did it;
/// the policy stays, and is named with the command.
fn forwarding_dropped(in_order: bool) -> Result<()> {
    furnish(false)?;
    sh("echo 0 > /proc/sys/net/ipv4/ip_forward")?;
    let mut stage = Stage::from_here("1.6", Vec::new())?;
    profile(&mut stage, &["built in"])?;
    let mut docker = Docker::start(SERVICE, DOCKER_DATA, BUILT_IN_EXEC, &[])?;
    docker.run(&["run", "-d", "app", "/app", "obedient"])?;
    match in_order {
        true => {
            sh(&format!("kill -TERM {}", docker.daemon.id()))?;
            docker.daemon.wait()?;
        }
        false => docker.kill()?,
    }
    let policy =
        || sh("iptables-nft -S FORWARD 2>/dev/null | head -n 1; iptables-legacy -S FORWARD | head -n 1");
    demand(policy()?.contains("-P FORWARD DROP"), "dockerd has not changed the policy")?;
    let may: fn(&Thing) -> bool = |thing| match thing.kind {
        Kind::Setting => true,
        // Of the bridge and the chains nothing tells whose they are, where no container is left.
        Kind::Rule | Kind::Link | Kind::Address | Kind::Route => true,
        _ => false,
    };
    let report = stage.judge(&Right::Told(may, if in_order { &[3] } else { &[0] }), 0)?;
    let notes = report["notes"].to_string();
    demand(notes.contains("-P FORWARD ACCEPT"), format!("the policy is not named: {notes}"))?;
    demand(policy()?.contains("-P FORWARD DROP"), "the policy was changed")
}

/// Another one runs by now, and has no container. RIGHT: what both make stays.
fn ended_in_order_beside_another() -> Result<()> {
    let mut stage = Stage::new("1.6")?;
    profile(&mut stage, &["built in"])?;
    let mut docker = Docker::start(SERVICE, DOCKER_DATA, BUILT_IN_EXEC, &[])?;
    docker.run(&["run", "-d", "--network", "none", "app", "/app", "obedient"])?;
    sh(&format!("kill -TERM {}", docker.daemon.id()))?;
    docker.daemon.wait()?;
    let _other = stage
        .also(|_| Docker::start("system.slice/docker.service", "/var/lib/docker", "/run/docker", &[]))?;
    stage.must_show(&[(Kind::Cgroup, 1), (Kind::File, 2)])?;
    stage.shared(|thing| match thing.kind {
        Kind::Rule | Kind::Link | Kind::Address | Kind::Route | Kind::Neighbour | Kind::Setting => true,
        _ => is_any_dockers(thing),
    })?;
    stage.judge(&Right::Clean, 0)?;
    sh("ls -d /sys/fs/cgroup/docker /run/docker").map(drop)
}

fn nothing_is_left_of_any_docker() -> Result<()> {
    let left = sh("find /sys/fs/cgroup -maxdepth 2 -name docker; ls -d /run/docker 2>/dev/null || true")?;
    demand(left.is_empty(), format!("no docker runs, and these are left: {left}"))
}

/// The same with the data elsewhere: the record of the bridges lies there, too.
fn moved_and_ended_in_order() -> Result<()> {
    let mut stage = Stage::new("1.6")?;
    profile(&mut stage, &["built in"])?;
    let mut docker = Docker::start(SERVICE, MOVED_DATA, BUILT_IN_EXEC, &[])?;
    docker.run(&["network", "create", "front"])?;
    docker.run(&["run", "-d", "--network", "front", "app", "/app", "obedient"])?;
    sh(&format!("kill -TERM {}", docker.daemon.id()))?;
    docker.daemon.wait()?;
    stage.must_show(&[(Kind::Link, 2), (Kind::Rule, 10), (Kind::File, 10)])?;
    let left: fn(&Thing) -> bool = |thing| match thing.kind {
        Kind::Link | Kind::Address | Kind::Route | Kind::Rule | Kind::Setting => true,
        _ => at_the_moved_data(thing),
    };
    let report = stage.judge(&Right::Told(left, &[1]), 0)?;
    demand(report["steps"].to_string().contains("docker0"), "docker0 is not told")?;
    demand(Path::new(MOVED_DATA).join("image").exists(), "the data were deleted")?;
    nothing_is_left_of_any_docker()
}

/// Empty directories that every docker makes, and no one of them takes away.
pub fn is_any_dockers(thing: &Thing) -> bool {
    let directories = ["/run/docker", "/run/docker/plugins", "/run/containerd", "/run/containerd/s"];
    match thing.kind {
        Kind::File => directories.iter().any(|path| thing.path.as_path() == Path::new(path)),
        Kind::Cgroup => thing.path.ends_with("docker"),
        _ => false,
    }
}

/// The user has given the place to the host's own docker since. RIGHT: that one's containers stay, with all they have there.
fn moved_and_taken_over() -> Result<()> {
    let mut stage = Stage::new("1.6")?;
    profile(&mut stage, &["built in"])?;
    let mut docker = Docker::start(SERVICE, MOVED_DATA, BUILT_IN_EXEC, &[])?;
    docker.run(&["run", "-d", "--name", "ours", "--network", "none", "app", "/app", "obedient"])?;
    docker.kill()?;
    let other = stage.also(|_| {
        let other = Docker::start("system.slice/docker.service", MOVED_DATA, "/run/docker", &[])?;
        other.run(&["run", "-d", "--network", "none", "-v", "volume:/v", "app", "/app", "obedient"])?;
        Ok(other)
    })?;
    stage.must_show(&[(Kind::Process, 1), (Kind::Mount, 1)])?;
    // Made by whichever comes first, used by both.
    stage.shared(|thing| match thing.kind {
        Kind::Mount => thing.path.as_path() == Path::new(MOVED_DATA),
        Kind::Setting => thing.name.contains("docker0"),
        Kind::Rule | Kind::Link | Kind::Address | Kind::Route | Kind::Neighbour => true,
        _ => is_any_dockers(thing),
    })?;
    stage.judge(&Right::Told(at_the_moved_data, &[1]), 0)?;
    demand(other.run(&["ps", "-q"])?.lines().count() == 1, "the other docker's container is not there")
}

/// The host's own docker has docker0, its containers, its network. It starts last: any dockerd removes what the one
/// before it has made of docker0 and of the common chains.
pub fn beside(start: Start, more: &[&str], his_port: &str) -> Result<()> {
    let mut stage = Stage::new("1.6")?;
    profile(&mut stage, &["data", "network"])?;
    let mut docker = start(SERVICE, DOCKER_DATA, DOCKER_EXEC, &[&["--bridge=none"], more].concat())?;
    containers(&docker, false)?;
    docker.kill()?;
    let other = stage.also(|_| {
        let other = start("system.slice/docker.service", "/var/lib/docker", "/run/docker", more)?;
        other.run(&["network", "create", "--subnet", "172.30.0.0/16", "back"])?;
        other.run(&["run", "-d", "-p", his_port, "app", "/app", "obedient"])?;
        other.run(&["run", "-d", "--network", "back", "app", "/app", "obedient"])?;
        Ok(other)
    })?;
    // Made by whichever comes first, used by both: directories, and the chains that are called the same everywhere.
    let links = sh("ls /sys/class/net")?;
    let others = other.run(&["network", "ls", "--no-trunc", "--quiet"])?;
    let is_others = |name: &str| others.lines().any(|id| id.starts_with(name.trim_start_matches("br-")));
    let ours = links.lines().find(|name| name.starts_with("br-") && !is_others(name));
    let ours = ours.ok_or_else(|| format!("which is our bridge: {links}"))?;
    let address =
        sh(&format!("ip -4 -o addr show dev {ours} | grep -o 'inet [0-9]*\\.[0-9]*\\.' | cut -c6-"))?;
    let address = format!(" {}", address.trim());
    demand(address.len() > 4, format!("{ours} has no address"))?;
    let on_loopback = if his_port.contains("8082") { ours } else { "dport 8082" };
    stage.shared(|thing| match thing.kind {
        Kind::Rule => ![ours, &address, on_loopback].iter().any(|own| thing.name.contains(own)),
        _ => is_any_dockers(thing),
    })?;
    stage.must_show(&[(Kind::Process, 10), (Kind::Mount, 8), (Kind::Link, 3), (Kind::Cgroup, 4)])?;
    stage.judge(&Right::Clean, 1)?;
    demand(
        other.run(&["ps", "-q"])?.lines().count() == 2,
        "the other docker's containers are not all there",
    )?;
    demand(Path::new(COMMON).symlink_metadata().is_err(), "the snap's data are still there")
}

/// Debian's docker, whose containerd works in the directories that the k8s snap shares with everybody. Of the snap nothing has run:
/// its kubelet and containerd are started by `k8s bootstrap` only, which refuses where there is a /run/containerd.
fn where_the_snap_would_work(before: bool) -> Result<()> {
    let start = || {
        let containerd = Runtime::start(Layout::of_host(), "1.6")?;
        let words = ["--containerd", "/run/containerd/containerd.sock"];
        let docker = Docker::start("system.slice/docker.service", "/var/lib/docker", "/run/docker", &words)?;
        docker.run(&["run", "-d", "-p", "9090:90", "app", "/app", "obedient"])?;
        docker.run(&["run", "-d", "--network", "host", "app", "/app", "obedient"])?;
        Ok((containerd, docker))
    };
    let mut docker = None;
    let mut stage = Stage::beside("1.6", || {
        if !before {
            return Ok(Vec::new());
        }
        let (containerd, its) = start()?;
        docker = Some(its);
        Ok(vec![containerd])
    })?;
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/snap/profile/k8s.json");
    let built_in: serde_json::Value = serde_json::from_slice(&fs::read(file)?)?;
    stage.profile(|profile| {
        *profile = built_in;
        profile["snap"] = json!("microk8s");
    })?;
    if !before {
        let (containerd, its) = stage.also(|_| start())?;
        docker = Some(its);
        stage.others.push(containerd);
    }
    sh("ls -d /run/containerd/io.containerd.runtime.v2.task/moby/*")?;
    let report = stage.judge(&Right::Clean, 0)?;
    let said = report["scope"]["bystanders"].to_string();
    demand(said.matches("the container ").count() == 2, format!("two containers are docker's: {said}"))?;
    let docker = docker.ok_or("no docker")?;
    demand(docker.run(&["ps", "-q"])?.lines().count() == 2, "docker's containers are not all there")
}
