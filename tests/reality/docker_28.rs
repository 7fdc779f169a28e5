//! The docker of today (Debian forky's, 28, with containerd 2.1), which makes other rules and other chains than the one of bookworm, and
//! ways of both to be run in which nobody had tried them: without its proxy program, with addresses of IPv6, with users mapped, with
//! images that containerd keeps.
//!
//! RIGHT: as of the older one, everything is ended and nothing is left. One that is started empties the chains that all dockers
//! share: what ours has outside of these goes all the same, and the other's rules stay.

use std::path::Path;

use crate::docker::{
    BUILT_IN_EXEC, DOCKER_DATA, Docker, IMAGES_OF_CONTAINERD, SERVICE, Start, beside, is_any_dockers,
    kill_shims, killed, profile,
};
use crate::stage::{Right, Stage, demand, sh};
use support::Result;
use support::picture::{Kind, Thing};
use support::scenes::Scene;

const BUILT_IN: &[&str] = &["built in"];
const WITHOUT_SHIMS: &[&str] = &["built in", "shims killed"];
const NO_PROXY: &[&str] = &["--userland-proxy=false"];

pub const ALL: &[Scene] = &[
    ("docker_28", || killed(Docker::start_28, &[], BUILT_IN)),
    ("docker_28_hybrid", || killed(Docker::start_28, &[], BUILT_IN)),
    ("docker_28_whose_shims_were_killed", || killed(Docker::start_28, &[], WITHOUT_SHIMS)),
    ("docker_28_beside_another_docker", || beside(Docker::start_28, &[], "9090:90")),
    ("docker_28_without_its_proxy_beside_another_docker", || beside(Docker::start_28, NO_PROXY, "9090:90")),
    ("docker_28_whose_port_another_docker_has_by_now", || {
        beside(Docker::start_28, NO_PROXY, "127.0.0.1:8082:90")
    }),
    ("docker_28_whose_docker0_another_docker_has_by_now", || on_docker0("9090:90")),
    ("docker_28_whose_docker0_and_rule_another_docker_has_by_now", || on_docker0("9090:80")),
    ("docker_28_without_its_proxy", || killed(Docker::start_28, NO_PROXY, BUILT_IN)),
    ("docker_without_its_proxy", || killed(Docker::start, NO_PROXY, WITHOUT_SHIMS)),
    ("docker_28_with_images_of_containerd", || killed(Docker::start_28, &IMAGES_OF_CONTAINERD, BUILT_IN)),
    ("docker_28_with_images_of_containerd_whose_shims_were_killed", || {
        killed(Docker::start_28, &IMAGES_OF_CONTAINERD, WITHOUT_SHIMS)
    }),
    ("docker_28_with_ipv6", ipv6),
    ("docker_28_that_maps_users", || maps_users(Docker::start_28)),
    ("docker_that_maps_users", || maps_users(Docker::start)),
    ("docker_28_that_has_ended_in_order_is_told", ended_in_order),
    ("docker_28_on_the_bridge_of_another_docker_is_told", two_on_docker0),
    ("docker_28_that_runs_a_plugin", || plugin(Docker::start_28, &[])),
    ("docker_that_runs_a_plugin_whose_shim_was_killed", || plugin(Docker::start, &["shims killed"])),
    ("docker_28_that_runs_a_plugin_beside_plugins_of_another", || plugin(Docker::start_28, &["beside"])),
    ("docker_28_that_runs_nothing_but_a_plugin", plugin_alone),
    ("docker_28_that_listens_where_every_docker_does", || listens(None)),
    ("docker_28_beside_a_socket_at_which_another_listens", || listens(Some(Beside::Alive))),
    ("docker_28_beside_a_dead_socket_of_before", || listens(Some(Beside::Dead))),
];

fn ipv6() -> Result<()> {
    let mut stage = Stage::new("2.1")?;
    profile(&mut stage, BUILT_IN)?;
    let words = ["--ipv6", "--fixed-cidr-v6", "fd00:99::/64"];
    let mut docker = Docker::start_28(SERVICE, DOCKER_DATA, BUILT_IN_EXEC, &words)?;
    docker.run(&["network", "create", "--ipv6", "--subnet", "fd00:77::/64", "six"])?;
    docker.run(&["run", "-d", "-p", "8080:80", "app", "/app", "obedient"])?;
    docker.run(&["run", "-d", "-p", "8081:80", "--network", "six", "app", "/app", "obedient"])?;
    docker.kill()?;
    stage.must_show(&[(Kind::Process, 4), (Kind::Link, 4), (Kind::Rule, 40)])?;
    stage.judge(&Right::Clean, 0)?;
    Ok(())
}

/// Containers whose users are others outside. Their namespace of containerd's and their data are called after whom these are mapped to.
fn maps_users(start: Start) -> Result<()> {
    let mut stage = Stage::beside("1.6", || {
        sh("cp -a /etc /opt/runtimes/etc; mount --bind /opt/runtimes/etc /etc
            echo dockremap:200000:65536 | tee /etc/subuid > /etc/subgid
            echo dockremap:x:998:998::/:/bin/false >> /etc/passwd; echo dockremap:x:998: >> /etc/group")?;
        Ok(Vec::new())
    })?;
    profile(&mut stage, BUILT_IN)?;
    let mut docker = start(SERVICE, DOCKER_DATA, BUILT_IN_EXEC, &["--userns-remap", "default"])?;
    docker.run(&["network", "create", "front"])?;
    docker.run(&["run", "-d", "-p", "8080:80", "--network", "front", "app", "/app", "obedient"])?;
    docker.run(&["run", "-d", "-v", "data:/data", "app", "/app", "obedient"])?;
    docker.kill()?;
    sh(&format!("ls -d {DOCKER_DATA}/200000.200000/containers/*"))?;
    stage.must_show(&[(Kind::Process, 4), (Kind::Link, 4), (Kind::Mount, 4), (Kind::Rule, 10)])?;
    stage.judge(&Right::Clean, 0)?;
    Ok(())
}

/// A plugin in a container of docker's own. Its socket and its streams lie in a directory that is called after it, which no option
/// of docker's moves. What it mounts below its data is mounted on the host, too.
const PLUGIN: &str = r#"mkdir -p /opt/runtimes/plugin/rootfs/usr /opt/runtimes/plugin/rootfs/run/docker/plugins
    mkdir /opt/runtimes/plugin/rootfs/etc /opt/runtimes/plugin/rootfs/data /opt/runtimes/plugin/rootfs/proc /opt/runtimes/plugin/rootfs/dev
    cd /opt/runtimes/plugin
    for name in lib lib64; do ln -s usr/$name rootfs/$name; done
    cat > rootfs/serve.py <<END
import ctypes, os, signal, socket
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
server = socket.socket(socket.AF_UNIX)
server.bind('/run/docker/plugins/own.sock')
server.listen()
os.mkdir('/data/volume')
ctypes.CDLL(None).mount(b'volume', b'/data/volume', b'tmpfs', 0, b'size=64k')
while True: signal.pause()
END
    cat > config.json <<END
{"entrypoint": ["/usr/bin/python3", "/serve.py"], "network": {"type": "host"}, "propagatedMount": "/data",
 "interface": {"types": ["docker.dummy/1.0"], "socket": "own.sock", "protocolScheme": "none"},
 "linux": {"capabilities": ["CAP_SYS_ADMIN"]},
 "mounts": [{"type": "bind", "source": "/usr", "destination": "/usr", "options": ["rbind", "ro"]}]}
END"#;

/// Another's is called after another container, or is none of a container.
const PLUGINS_OF_ANOTHER: &str = "cd /run; mkdir -p -m 700 docker/plugins; cd docker/plugins
    id=$(printf '%064d' 7); mkdir $id own; mkfifo $id/$id-stdout $id/$id-stderr; touch $id/x.sock own/own.sock own.spec";

fn start_plugin(docker: &Docker) -> Result<()> {
    sh(PLUGIN)?;
    docker.run(&["plugin", "create", "some/plugin", "/opt/runtimes/plugin"])?;
    docker.run(&["plugin", "enable", "some/plugin"])?;
    crate::shapes::until("the plugin has mounted", || {
        sh("grep -c propagated-mount/volume /proc/self/mountinfo").is_ok()
    })
}

fn plugin(start: Start, options: &[&str]) -> Result<()> {
    let beside = options.contains(&"beside");
    let mut stage =
        Stage::beside("1.6", || sh(if beside { PLUGINS_OF_ANOTHER } else { "" }).map(|_| vec![]))?;
    profile(&mut stage, BUILT_IN)?;
    let mut docker = start(SERVICE, DOCKER_DATA, BUILT_IN_EXEC, &[])?;
    docker.run(&["run", "-d", "app", "/app", "obedient"])?;
    start_plugin(&docker)?;
    docker.kill()?;
    if options.contains(&"shims killed") {
        kill_shims()?;
    }
    stage.must_show(&[
        (Kind::Process, 2),
        (Kind::Mount, 4),
        (Kind::Link, 2),
        (Kind::Cgroup, 3),
        (Kind::File, 4),
    ])?;
    stage.judge(&Right::Clean, 0).map(drop)
}

/// What is at the place of docker's socket that is not ours.
#[derive(Clone, Copy, PartialEq)]
enum Beside {
    /// As systemd listens there for a docker that does not run: it starts it as soon as anybody asks.
    Alive,
    Dead,
}

/// Nobody listens any more at what a killed docker leaves, as the snap's own has it: at the place at which its clients look for it.
fn listens(beside: Option<Beside>) -> Result<()> {
    const SOCKET: &str = "/run/docker.sock";
    let mut listener = None;
    let mut stage = Stage::beside("2.1", || {
        listener = beside.map(|_| std::os::unix::net::UnixListener::bind(SOCKET)).transpose()?;
        listener.take_if(|_| beside == Some(Beside::Dead));
        Ok(Vec::new())
    })?;
    profile(&mut stage, BUILT_IN)?;
    let host = format!("--host=unix://{SOCKET}");
    let words: &[&str] = if beside.is_none() { &[&host] } else { &[] };
    let mut docker = Docker::start_28(SERVICE, DOCKER_DATA, BUILT_IN_EXEC, words)?;
    docker.run(&["run", "-d", "app", "/app", "obedient"])?;
    docker.kill()?;
    stage.must_show(&[(Kind::Process, 2), (Kind::Mount, 3), (Kind::Link, 2), (Kind::File, 4)])?;
    stage.judge(&Right::Clean, 0)?;
    demand(Path::new(SOCKET).exists() == beside.is_some(), "the socket is not as it should be")?;
    if let Some(listener) = listener {
        listener.set_nonblocking(true)?;
        demand(
            listener.accept().is_err(),
            "somebody has asked there, and systemd would have started docker",
        )?;
    }
    Ok(())
}

/// Nobody is in docker's network.
fn plugin_alone() -> Result<()> {
    let mut stage = Stage::new("2.1")?;
    profile(&mut stage, BUILT_IN)?;
    let mut docker = Docker::start_28(SERVICE, DOCKER_DATA, BUILT_IN_EXEC, &[])?;
    start_plugin(&docker)?;
    docker.kill()?;
    stage.must_show(&[(Kind::Process, 2), (Kind::Mount, 2), (Kind::Link, 1), (Kind::File, 4)])?;
    let network: fn(&Thing) -> bool =
        |thing| matches!(thing.kind, Kind::Link | Kind::Address | Kind::Route | Kind::Rule);
    stage.judge(&Right::Told(network, &[3]), 0).map(drop)
}

fn ended_in_order() -> Result<()> {
    let mut stage = Stage::new("2.1")?;
    profile(&mut stage, BUILT_IN)?;
    let mut docker = Docker::start_28(SERVICE, DOCKER_DATA, BUILT_IN_EXEC, &[])?;
    docker.run(&["run", "-d", "-p", "127.0.0.1:8080:80", "app", "/app", "obedient"])?;
    docker.stop()?;
    stage.must_show(&[(Kind::Link, 1), (Kind::Rule, 20)])?;
    stage.judge(&Right::Doubt(|thing| matches!(thing.kind, Kind::Link | Kind::Address | Kind::Route)), 0)?;
    Ok(())
}

/// Both use docker0, and give out the same addresses. Ours came later, and the other has started a container since.
fn two_on_docker0() -> Result<()> {
    const OTHERS: &str = "system.slice/docker.service";
    let mut stage = Stage::new("1.6")?;
    profile(&mut stage, BUILT_IN)?;
    let other = stage.also(|_| Docker::start_28(OTHERS, "/var/lib/docker", "/run/docker", &[]))?;
    let mut docker = Docker::start_28(SERVICE, DOCKER_DATA, BUILT_IN_EXEC, &[])?;
    docker.run(&["run", "-d", "-p", "8082:80", "app", "/app", "obedient"])?;
    docker.run(&["run", "-d", "app", "/app", "obedient"])?;
    docker.kill()?;
    stage.also(|_| other.run(&["run", "-d", "-p", "9090:90", "app", "/app", "obedient"]))?;
    let rules = "iptables-nft-save | grep -c -e 'dport 8082 .*172.17.0.2:80' -e '172.17.0.2/32.*dport 80 ' -e '-d 172.17.0.3/32'";
    demand(sh(rules)?.trim() == "3", "the scene is not what it should be")?;
    stage.must_show(&[(Kind::Process, 1), (Kind::Rule, 3)])?;
    stage.judge(&Right::Doubt(|thing| thing.kind == Kind::Rule), 0)?;
    demand(sh(rules)?.trim() == "3", "a rule has gone that may be the other docker's")?;
    demand(other.run(&["ps", "-q"])?.lines().count() == 1, "the other docker's container is gone")
}

/// Another docker is started on the bridge that all dockers have, and its container gets the address of ours. RIGHT: the rules that
/// docker wrote down for ours go, but for one that the other's container needs as well.
fn on_docker0(his_port: &str) -> Result<()> {
    let mut stage = Stage::new("1.6")?;
    profile(&mut stage, BUILT_IN)?;
    let mut docker = Docker::start_28(SERVICE, DOCKER_DATA, BUILT_IN_EXEC, NO_PROXY)?;
    docker.run(&["run", "-d", "-p", "127.0.0.1:8082:80", "app", "/app", "obedient"])?;
    docker.kill()?;
    let other = stage.also(|_| {
        let other =
            Docker::start_28("system.slice/docker.service", "/var/lib/docker", "/run/docker", NO_PROXY)?;
        other.run(&["run", "-d", "-p", his_port, "app", "/app", "obedient"])?;
        Ok(other)
    })?;
    let to_itself = if his_port.ends_with(":80") { "dport 8082" } else { "dport 80 " };
    stage.shared(|thing| match thing.kind {
        Kind::Rule => !["dport 8082", to_itself].iter().any(|own| thing.name.contains(own)),
        Kind::Neighbour | Kind::Link | Kind::Setting if thing.name.contains("veth") => false,
        Kind::Link | Kind::Address | Kind::Route | Kind::Neighbour | Kind::Setting => true,
        _ => is_any_dockers(thing),
    })?;
    sh("iptables-nft -t nat -S POSTROUTING | grep -- '-s 172.17.0.2/32 -d 172.17.0.2/32 .*--dport 80 '")?;
    stage.must_show(&[(Kind::Process, 1), (Kind::Rule, 1)])?;
    stage.judge(&Right::Clean, 0)?;
    demand(other.run(&["ps", "-q"])?.lines().count() == 1, "the other docker's container is gone")
}
