//! Bridges that docker uses and that are not, or not only, this docker's: the one that any two dockers share, and one that the
//! user had before (34); routes that lead nowhere and are a routing daemon's.

use std::path::Path;

use crate::docker::{BUILT_IN_EXEC, DOCKER_DATA, Docker, SERVICE, is_any_dockers, profile};
use crate::stage::{Right, Stage, demand, sh};
use support::Result;
use support::picture::{Kind, Thing};
use support::scenes::Scene;

pub const ALL: &[Scene] = &[
    ("addresses_that_a_bridge_guards_are_told", guarded),
    ("docker0_of_ours_and_of_another_docker_that_lives", docker0_of_both),
    ("a_bridge_of_the_users_that_containers_of_ours_are_in", || users_bridge(&[])),
    ("a_bridge_of_the_users_that_docker_was_started_with", || users_bridge(&["default"])),
    ("a_bridge_of_the_users_whose_docker_has_ended_in_order", || users_bridge(&["in order"])),
    ("routes_of_a_routing_daemons_over_our_pods_network", routes),
    ("a_bridge_of_the_users_that_docker_was_started_with_and_that_has_ended_in_order", || {
        users_bridge(&["default", "in order"])
    }),
];

/// Ours was killed, with live-restore; the host's own has no container by now. RIGHT: what both use stays, with its address and
/// its rules, and is named; ours alone goes.
fn docker0_of_both() -> Result<()> {
    let mut stage = Stage::new("1.6")?;
    profile(&mut stage, &["built in"])?;
    let mut docker = Docker::start(SERVICE, DOCKER_DATA, BUILT_IN_EXEC, &["--live-restore"])?;
    docker.run(&["network", "create", "front"])?;
    docker.run(&["run", "-d", "-p", "8080:80", "app", "/app", "obedient"])?;
    docker.run(&["run", "-d", "--network", "front", "app", "/app", "obedient"])?;
    docker.kill()?;
    let _other = stage
        .also(|_| Docker::start("system.slice/docker.service", "/var/lib/docker", "/run/docker", &[]))?;
    stage.shared(|thing| {
        let of_docker0 = thing.name.contains("docker0") || thing.name.contains("172.17.");
        match thing.kind {
            Kind::Neighbour => thing.name.contains("dev docker0"),
            Kind::Link | Kind::Address | Kind::Route | Kind::Setting => of_docker0,
            // It goes with the last container, and docker makes it anew.
            Kind::Cgroup => false,
            Kind::Rule => !["br-", "saddr 172.17.0.2 ip daddr"].iter().any(|own| thing.name.contains(own)),
            _ => is_any_dockers(thing),
        }
    })?;
    stage.must_show(&[(Kind::Process, 4), (Kind::Link, 3), (Kind::Cgroup, 2)])?;
    let nothing: fn(&Thing) -> bool = |_| false;
    let report = stage.judge(&Right::Told(nothing, &[3]), 0)?;
    let steps = report["steps"].to_string();
    demand(steps.contains("the link docker0") && report["counts"]["blind"] == 1, steps)?;
    let left = sh("ip -4 -o addr show dev docker0; iptables-nft -t nat -S; iptables-legacy -t nat -S")?;
    demand(
        left.contains("172.17.0.1/16") && left.contains("MASQUERADE"),
        format!("the other has lost: {left}"),
    )
}

/// RIGHT: it was there before docker, and stays, without a doubt; what docker has made, goes or is told.
fn users_bridge(options: &[&str]) -> Result<()> {
    let (default, in_order) = (options.contains(&"default"), options.contains(&"in order"));
    let mut stage = Stage::beside("1.6", || {
        sh("ip link add br0 address 02:00:00:00:00:50 type bridge; ip addr add 192.168.50.1/24 dev br0; ip link set br0 up")
            .map(|_| Vec::new())
    })?;
    profile(&mut stage, &["built in"])?;
    let bridge = if default { "--bridge=br0" } else { "--bridge=none" };
    let mut docker = Docker::start(SERVICE, DOCKER_DATA, BUILT_IN_EXEC, &[bridge])?;
    let mut network = "bridge";
    if !default {
        let name = "com.docker.network.bridge.name=br0";
        docker.run(&["network", "create", "--subnet", "192.168.50.0/24", "-o", name, "lan"])?;
        network = "lan";
    }
    docker.run(&["run", "-d", "--network", network, "app", "/app", "obedient"])?;
    match in_order {
        true => docker.stop()?,
        false => docker.kill()?,
    }
    // docker sets what it likes for the user's bridge.
    stage.shared(|thing| thing.kind == Kind::Setting && thing.name.contains("br0"))?;
    let least = usize::from(!in_order);
    stage.must_show(&[(Kind::Process, 2 * least), (Kind::Link, least), (Kind::Rule, 4)])?;
    // docker's own chains, of which some are for that bridge: which rules the user has written over his own, nobody knows.
    let chains: fn(&Thing) -> bool = |thing| thing.kind == Kind::Rule && thing.name.contains("chain DOCKER");
    let report = stage.judge(&Right::Doubt(chains), 0)?;
    demand(report["counts"]["blind"] == 1, report["steps"].to_string())?;
    let said = report["steps"].to_string();
    demand(!said.contains("the link br0"), format!("the user's own bridge is told as left: {said}"))?;
    demand(Path::new("/sys/class/net/br0/bridge").exists(), "the user's bridge is gone")?;
    let left = sh("ip -4 -o addr show dev br0")?;
    demand(left.contains("192.168.50.1/24"), "the user's bridge has lost its address")
}

/// FRR's and BIRD's networks, in which our pods are; one of nobody's number. RIGHT: they stay, and what no routing daemon has made
/// is named; Calico's blocks go.
fn routes() -> Result<()> {
    let mut stage = Stage::beside("1.7", || {
        sh("ip route add blackhole 10.1.0.0/16 proto 196; ip route add blackhole 10.1.0.0/17 proto bird
            ip route add blackhole 10.1.0.0/24 proto 186; ip route add blackhole 10.1.0.0/23 proto 99")
        .map(|_| Vec::new())
    })?;
    stage.start_usual()?;
    stage.polite_pods("polite", 1)?;
    sh("ip route add blackhole 10.1.0.0/26 proto 80; ip route add blackhole 10.1.0.0/27 proto bird")?;
    stage.stop()?;
    stage.must_show(&[(Kind::Process, 3), (Kind::Route, 2)])?;
    let nothing: fn(&Thing) -> bool = |_| false;
    let report = stage.judge(&Right::Told(nothing, &[3]), 1)?;
    let said = report["steps"].to_string();
    demand(said.contains("10.1.0.0/23") && report["counts"]["blind"] == 1, said)
}

/// The bridge plugin keeps rules of nf_tables for each pod (`macspoofchk`), in a table in which others have the same, and their own.
fn guarded() -> Result<()> {
    const OTHERS: &str = "macspoofchk-1111111111111111111111111111111111111111111111111111111111111111-eth0";
    let mut stage = Stage::beside("1.7", || {
        sh(&format!(
            "nft 'add table bridge nat; add chain bridge nat users; add rule bridge nat users accept comment \"users own\"'
             nft 'add chain bridge nat cni-br-iface-other; add rule bridge nat cni-br-iface-other drop comment \"{OTHERS}\"'
             nft 'add chain bridge nat PREROUTING {{ type filter hook prerouting priority -300; }}'
             nft 'add rule bridge nat PREROUTING iifname \"veth9\" jump cni-br-iface-other comment \"{OTHERS}\"'"
        ))?;
        Ok(Vec::new())
    })?;
    let mut bridge = crate::network::a_bridge("podbr7");
    bridge["macspoofchk"] = true.into();
    crate::network::start(&mut stage, &serde_json::json!([bridge]))?;
    stage.polite_pods("polite", 1)?;
    stage.stop()?;
    stage.must_show(&[(Kind::Process, 3), (Kind::Rule, 6)])?;
    let guards: fn(&Thing) -> bool =
        |thing| thing.kind == Kind::Rule && thing.name.contains("nft table bridge nat");
    let report = stage.judge(&Right::Told(guards, &[3]), 1)?;
    let told = report["steps"].to_string();
    demand(told.contains("cni-br-iface-") && !told.contains("1111111111") && !told.contains("users"), told)
}
