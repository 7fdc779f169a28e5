//! The docker of today (Debian forky's, 28, with containerd 2.1), which makes other rules and other chains than the one of bookworm, and
//! ways of both to be run in which nobody had tried them: without its proxy program, with addresses of IPv6, with users mapped, with
//! images that containerd keeps.
//!
//! RIGHT: as of the older one, everything is ended and nothing is left. One that is started empties the chains that all dockers
//! share: what ours has outside of these goes all the same, and the other's rules stay.

use crate::docker::{
    BUILT_IN_EXEC, DOCKER_DATA, Docker, IMAGES_OF_CONTAINERD, SERVICE, Start, beside, killed, profile,
};
use crate::stage::{Right, Stage, sh};
use support::Result;
use support::picture::Kind;
use support::scenes::Scene;

const BUILT_IN: &[&str] = &["built in"];
const WITHOUT_SHIMS: &[&str] = &["built in", "shims killed"];
const NO_PROXY: &[&str] = &["--userland-proxy=false"];

pub const ALL: &[Scene] = &[
    ("docker_28", || killed(Docker::start_28, &[], BUILT_IN)),
    ("docker_28_hybrid", || killed(Docker::start_28, &[], BUILT_IN)),
    ("docker_28_whose_shims_were_killed", || killed(Docker::start_28, &[], WITHOUT_SHIMS)),
    ("docker_28_beside_another_docker", || beside(Docker::start_28)),
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
