//! Pods that serve storage to others (33): they are asked to end after those that may need them.
//!
//! RIGHT: what an application writes in its last seconds to a file system that a pod serves is on the server's disk; two
//! tiers within one grace.

use std::fs;

use crate::app::SERVER;
use crate::shapes::until;
use crate::stage::{COMMON, Right, Stage, USERS, demand, sh};
use support::Result;
use support::picture::Kind;
use support::scenes::Scene;

pub const ALL: &[Scene] = &[
    ("a_pod_that_serves_storage_ends_last", || served("1.7", true)),
    ("a_pod_that_serves_storage_ends_last_2_1", || served("2.1", true)),
    ("a_pod_that_serves_storage_ends_last_hybrid", || served("1.7", true)),
    ("a_pod_that_serves_storage_and_was_made_last", || served("1.7", false)),
    ("a_pod_that_serves_storage_whose_shim_is_dead", dead_shim),
    ("the_control_an_application_can_write_while_its_server_lives", alone),
];

fn furnish(stage: &mut Stage) -> Result<String> {
    let place = format!("{COMMON}/var/lib/kubelet/plugins/fuse.csi/served");
    sh(&format!(
        "mkdir -p {place} {USERS}/written
         mount --bind {place} {place}; mount --make-rshared {place}"
    ))?;
    stage.start_usual()?;
    Ok(place)
}

fn server(stage: &Stage, place: &str) -> Result<()> {
    let exe = std::env::current_exe()?;
    let program = format!("{}:/server", exe.display());
    let (served, store) = (format!("{place}:/served:rshared"), format!("{USERS}/written:/store"));
    let options = ["--privileged", "--mount", &program, "--mount", &served, "--mount", &store];
    stage.runtime()?.make_pods("server", &options, &["/server", SERVER])?;
    until("the server's file system is passed on", || {
        sh(&format!("grep -c ' {place} .*fuse.test' /proc/self/mountinfo || true"))
            .is_ok_and(|n| n.trim() != "0")
    })
}

fn client(stage: &Stage, place: &str) -> Result<i32> {
    let volume = format!("{place}:/volume");
    let pods =
        stage.runtime()?.make_pods("database", &["--mount", &volume], &["/app", "last", "/volume/data"])?;
    Ok(pods[0].containers[0].pid)
}

fn served(version: &'static str, first: bool) -> Result<()> {
    let mut stage = Stage::new(version)?;
    let place = furnish(&mut stage)?;
    server(&stage, &place)?;
    client(&stage, &place)?;
    if !first {
        // A server that is restarted while its client runs is younger than that.
        client_first(&stage)?;
    }
    stage.stop()?;
    judge(&mut stage)
}

/// One more client, which needs nobody.
fn client_first(stage: &Stage) -> Result<()> {
    stage.runtime()?.make_pods("another", &[], &["/app", "obedient"])?;
    Ok(())
}

/// The control: while its server lives, the application's last words arrive.
fn alone() -> Result<()> {
    let mut stage = Stage::new("1.7")?;
    let place = furnish(&mut stage)?;
    server(&stage, &place)?;
    let pid = client(&stage, &place)?;
    // Until it waits for it, a container's first process takes no notice of the signal.
    until("the application waits", || {
        sh(&format!("grep -c sigtimedwait /proc/{pid}/wchan || true")).is_ok_and(|n| n.trim() == "1")
    })?;
    sh(&format!(
        "kill -TERM {pid}; while [ -e /proc/{pid} ] && ! grep -q '^State:.Z' /proc/{pid}/status; do :; done"
    ))?;
    arrived()
}

fn arrived() -> Result<()> {
    let size = fs::metadata(format!("{USERS}/written/data")).map_or(0, |file| file.len());
    demand(
        size == 1 << 20,
        format!("{size} bytes of what the application wrote last are on the server's disk"),
    )
}

fn dead_shim() -> Result<()> {
    let mut stage = Stage::new("1.7")?;
    let place = furnish(&mut stage)?;
    server(&stage, &place)?;
    client(&stage, &place)?;
    stage.stop()?;
    crate::moved::kill_shims(&stage)?;
    judge(&mut stage)
}

fn judge(stage: &mut Stage) -> Result<()> {
    stage.must_show(&[(Kind::Process, 4), (Kind::Mount, 10)])?;
    stage.judge(&Right::Clean, 1)?;
    arrived()
}
