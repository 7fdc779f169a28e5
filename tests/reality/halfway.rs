//! Pods that were being made when the snap's containerd was ended (43): their network namespaces, links, addresses and rules are
//! there, and no result of CNI yet.
//!
//! RIGHT: gone, by what containerd's database has of them since before their network was made. Without it whose they are cannot be
//! known: each is named, and the status is 3.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::idle::{DATABASE, is_netns};
use crate::network::{a_bridge, start_with};
use crate::stage::{Right, Stage, demand, sh};
use support::picture::{Kind, Thing};
use support::runtime::{PROGRAMS, Runtime};
use support::scenes::Scene;
use support::{Result, built};

pub const ALL: &[Scene] = &[
    ("nothing_is_left_of_a_pod_that_was_being_made", || made("1.7", false)),
    ("nothing_is_left_of_a_pod_that_was_being_made_1_6", || made("1.6", false)),
    ("nothing_is_left_of_a_pod_that_was_being_made_2_1", || made("2.1", false)),
    ("nothing_is_left_of_a_pod_that_was_being_made_beside_others_that_live", || made("1.7", true)),
    ("nothing_is_left_of_a_pod_that_was_being_made_beside_others_that_live_2_1", || made("2.1", true)),
    ("a_pod_that_was_being_made_and_no_database_tells_of_is_named", || unknown(false)),
    ("a_pod_that_was_being_made_and_no_database_tells_of_is_named_beside_others_that_live", || unknown(true)),
];

/// Where the plugins are, with one that does not end once it is told.
const PLUGINS: &str = "/opt/plugins";

/// Says that it was reached, and by which process.
const STUCK: &str = "#!/bin/sh
case $CNI_COMMAND in
ADD) echo $$ >/tmp/stuck; exec sleep 600 ;;
VERSION) echo '{\"cniVersion\":\"0.4.0\",\"supportedVersions\":[\"0.4.0\"]}' ;;
esac
";

fn made(version: &'static str, beside: bool) -> Result<()> {
    let mut stage = Stage::beside(version, plugins)?;
    halfway(&mut stage, beside)?;
    stage.must_show(&[(Kind::File, 2), (Kind::Link, 2), (Kind::Mount, 1)])?;
    stage.judge(&Right::Clean, 0)?;
    Ok(())
}

fn unknown(beside: bool) -> Result<()> {
    let mut stage = Stage::beside("1.7", plugins)?;
    halfway(&mut stage, beside)?;
    sh(&format!("rm {DATABASE}"))?;
    stage.must_show(&[(Kind::File, 2), (Kind::Link, 2), (Kind::Mount, 1)])?;
    let named: fn(&Thing) -> bool =
        |thing| is_netns(thing) || thing.path.starts_with("/var/lib/cni/networks/pods/10.");
    stage.judge(&Right::Doubt(named), 0)?;
    Ok(())
}

fn plugins() -> Result<Vec<Runtime>> {
    sh(&format!("mkdir {PLUGINS}; ln -s {PROGRAMS}/1.6/cni/* {PLUGINS}; ln -s tuning {PLUGINS}/stuck"))?;
    Ok(Vec::new())
}

/// containerd has ended, and its plugins with it, while a pod's network was made.
fn halfway(stage: &mut Stage, beside: bool) -> Result<()> {
    let portmap = json!({"type": "portmap", "capabilities": {"portMappings": true}});
    let plugins: Value = json!([a_bridge("cni0"), portmap, {"type": "stuck"}]);
    start_with(stage, &plugins, |config| {
        let usual = format!("{PROGRAMS}/1.6/cni");
        demand(config.contains(&usual), "the plugins are elsewhere")?;
        Ok(config.replace(&usual, PLUGINS))
    })?;
    if beside {
        stage.runtime()?.make_pods("alive", &[], &["/app", "obedient"])?;
    }
    let stuck = Path::new(PLUGINS).join("stuck");
    fs::remove_file(&stuck)?;
    fs::write(&stuck, STUCK)?;
    fs::set_permissions(&stuck, fs::Permissions::from_mode(0o755))?;
    let mut podmaker = Command::new(built("podmaker")?);
    podmaker.arg("--socket").arg(&stage.runtime()?.layout.socket);
    podmaker.args([
        "run",
        "--pod",
        "half",
        "--uid",
        "half-0000-4000-8000",
        "--host-port",
        "18081:80",
        "--",
        "/app",
        "obedient",
    ]);
    stage.keep(podmaker)?;
    let pid = Path::new("/tmp/stuck");
    let until = Instant::now() + Duration::from_secs(20);
    while fs::read_to_string(pid).unwrap_or_default().is_empty() {
        demand(Instant::now() < until, "the plugin was never reached")?;
        std::thread::sleep(Duration::from_millis(20));
    }
    stage.stop()?;
    sh(&format!("kill -KILL $(cat {0}); rm {0} {PLUGINS}/stuck; ln -s tuning {PLUGINS}/stuck", pid.display()))
        .map(drop)
}
