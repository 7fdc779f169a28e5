//! Shims that have died while containerd ran: it has put their bundles away, and their sockets are left in /run/containerd/s (46); and
//! streams of programs that `ctr exec` has run (48).
//!
//! RIGHT: those that are called after our containerd's address and an ID in its database go, wherever another runtime runs. Whatever
//! else is there stays, and is nobody's doubt.

use std::fs;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::idle::KUBELET;
use crate::moved::kill_shims;
use crate::stage::{Right, Stage, demand, sh};
use support::Result;
use support::picture::{Kind, Thing};
use support::runtime::{Layout, Runtime};
use support::scenes::Scene;

pub const ALL: &[Scene] = &[
    ("sockets_of_shims_that_have_died_go", || died("1.7", Some("polite"), false)),
    ("sockets_of_shims_that_have_died_go_1_6", || died("1.6", Some("polite"), false)),
    ("sockets_of_shims_that_have_died_go_2_1", || died("2.1", Some("polite"), false)),
    ("sockets_of_shims_that_have_all_died_go", || died("1.7", None, false)),
    ("sockets_of_shims_that_have_died_go_beside_others", || died("1.7", Some("polite"), true)),
    ("a_socket_of_a_shim_that_has_died_at_which_somebody_listens_is_told", listening),
    ("streams_of_a_program_that_ctr_runs_in_a_container_go", || executed("1.7", false)),
    ("streams_of_a_program_that_ctr_runs_in_a_container_go_2_1", || executed("2.1", false)),
    ("streams_of_a_program_whose_shim_has_died_are_told", || executed("1.7", true)),
];

const SOCKETS: &str = "/run/containerd/s";

fn sockets() -> Vec<PathBuf> {
    let entries = fs::read_dir(SOCKETS).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}

/// A pod, and one whose shim has died. Their containerd has ended.
fn kill_one(stage: &mut Stage, living: Option<&str>) -> Result<Vec<PathBuf>> {
    stage.start_usual()?;
    let before = sockets();
    let runtime = stage.runtime()?;
    // Of one with a network of its own, CNI's notes tell as well.
    runtime.make_pods("died", &["--host-network"], &["/app", "obedient"])?;
    let bundles = runtime.layout.state.join("io.containerd.runtime.v2.task/k8s.io");
    for shim in runtime.shims()? {
        sh(&format!("kill -KILL $(cat /proc/{shim}/task/{shim}/children) {shim}"))?;
    }
    let until = Instant::now() + Duration::from_secs(20);
    while !runtime.shims()?.is_empty() || fs::read_dir(&bundles)?.next().is_some() {
        demand(Instant::now() < until, "containerd has not put the bundles away")?;
        sleep(Duration::from_millis(50));
    }
    // kubelet's part: an empty group of a pod's would tell of the sandbox, too.
    sh(
        "find /sys/fs/cgroup -depth -type d -path '*kubepods/besteffort/pod*' -exec rmdir {} + 2>/dev/null || true",
    )?;
    let dead: Vec<_> = sockets().into_iter().filter(|path| !before.contains(path)).collect();
    demand(!dead.is_empty(), "the shim has taken its socket with it")?;
    match living {
        Some(name) => drop(stage.polite_pods(name, 1)?),
        None => drop(sh(KUBELET)?),
    }
    stage.stop()?;
    Ok(dead)
}

fn died(version: &'static str, living: Option<&str>, others: bool) -> Result<()> {
    let mut stage = Stage::beside(version, || {
        if !others {
            return Ok(vec![]);
        }
        // One that another containerd left, one at which somebody listens, a file, and a pod that runs.
        let theirs = Path::new(SOCKETS);
        fs::create_dir_all(theirs)?;
        drop(UnixListener::bind(theirs.join("e".repeat(64)))?);
        std::mem::forget(UnixListener::bind(theirs.join("d".repeat(64)))?);
        fs::write(theirs.join("c".repeat(64)), "precious")?;
        let other = Runtime::start(Layout::of_host(), "1.7")?;
        other.pods("other", 1, &["/app", "obedient"])?;
        Ok(vec![other])
    })?;
    let dead = kill_one(&mut stage, living)?;
    if others {
        stage.also(|_| {
            drop(UnixListener::bind(Path::new(SOCKETS).join("b".repeat(64)))?);
            Ok(())
        })?;
    }
    stage.must_show(&[(Kind::File, 10)])?;
    let polite = usize::from(living.is_some());
    stage.judge(&Right::Clean, polite)?;
    demand(!dead.iter().any(|path| path.exists()), "a socket of a dead shim is left")?;
    demand(Path::new(SOCKETS).exists() == others, "the directory is not as it should be")
}

fn listening() -> Result<()> {
    let mut stage = Stage::new("1.7")?;
    let dead = kill_one(&mut stage, Some("polite"))?;
    let one = dead.first().ok_or("no socket")?.clone();
    fs::remove_file(&one)?;
    let _listener = UnixListener::bind(&one)?;
    stage.must_show(&[(Kind::Process, 3), (Kind::File, 10)])?;
    stage.judge(&Right::Doubt(|thing| thing.path.parent() == Some(Path::new(SOCKETS))), 1)?;
    demand(one.exists(), "somebody's socket was removed")
}

/// `ctr exec` was killed, and the program that it runs in a container goes on: its streams are called after the program alone. Beside
/// them are such of which nobody tells, and which are older than the snap. RIGHT: gone, by what the shim has open; told, where that died.
fn executed(version: &'static str, dead: bool) -> Result<()> {
    const FIFOS: &str = "/run/containerd/fifo";
    let mut stage = Stage::beside(version, || {
        sh(&format!("mkdir -p {FIFOS}/7; mkfifo {FIFOS}/7/program-stdout {FIFOS}/7/program-stdin"))?;
        Ok(vec![])
    })?;
    stage.start_usual()?;
    let runtime = stage.runtime()?;
    let pod = runtime.make_pods("host", &["--host-network"], &["/app", "obedient"])?.remove(0);
    let (socket, id) = (&runtime.layout.socket, &pod.containers[0].id);
    let mut client = Command::new(runtime.programs.join("ctr"));
    client.arg("--address").arg(socket).args(["-n", "k8s.io", "tasks", "exec", "--exec-id", "program", id]);
    let mut client =
        client.args(["/app", "obedient"]).env("PATH", "/usr/sbin:/usr/bin").stdin(Stdio::piped()).spawn()?;
    let made =
        || fs::read_dir(FIFOS).map(|all| all.flatten().map(|it| it.path()).find(|it| !it.ends_with("7")));
    let until = Instant::now() + Duration::from_secs(10);
    let runs = |runtime: &Runtime| {
        let all = runtime.ctr(&["-n", "k8s.io", "tasks", "ps", id]).unwrap_or_default();
        String::from_utf8_lossy(&all).contains("program")
    };
    while !runs(runtime) {
        demand(Instant::now() < until, "the program does not run")?;
        sleep(Duration::from_millis(50));
    }
    client.kill()?;
    client.wait()?;
    let made = made()?.ok_or("ctr has made no streams")?;
    stage.stop()?;
    if dead {
        kill_shims(&stage)?;
    }
    stage.must_show(&[(Kind::Process, if dead { 3 } else { 4 }), (Kind::File, 10)])?;
    let streams: fn(&Thing) -> bool = |thing| thing.path.starts_with(FIFOS);
    let right = if dead { Right::Told(streams, &[3]) } else { Right::Clean };
    let report = stage.judge(&right, 0)?;
    let told = report["steps"].to_string();
    demand(!told.contains("fifo/7\""), format!("another's are told: {told}"))?;
    demand(
        made.exists() == dead && Path::new(FIFOS).join("7").exists(),
        "the streams are not as they should be",
    )
}
