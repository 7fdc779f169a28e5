//! One sample: a private world in which pods are made on a real containerd, which is then killed; and what is timed.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use serde::{Deserialize, Serialize};

use crate::plain::Work;
use support::Result;
use support::hook::Snap;
use support::look::{Kind, Look};
use support::runtime::{Layout, Runtime, in_group, mount_volumes, show_installed, show_programs};

const SNAP: &str = "microk8s";
/// The user's own directory, which every pod mounts.
const USERS: &str = "/srv/users";

/// What one world is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Subject {
    /// Somebody else's pods: passes over them, our hook with nothing to do beside them, and then the floor.
    Floor,
    /// Our hook, with no patience.
    Forced,
    /// Our hook as it is, on applications that obey.
    Graceful,
    /// Somebody else's hook.
    Peer,
}

/// One world's order.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Order {
    pub subject: Subject,
    pub pods: usize,
    /// Pods have network namespaces made by CNI.
    pub cni: bool,
    /// Count system calls instead of taking the time.
    pub trace: bool,
    pub peer: Option<String>,
}

/// What one run of a program took.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Taken {
    pub seconds: f64,
    pub cpu_seconds: f64,
    pub peak_kib: i64,
    pub status: i32,
}

/// What one world told.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Told {
    pub build_seconds: f64,
    pub taken: BTreeMap<String, Vec<Taken>>,
    /// Milliseconds by step of the plan.
    pub phases: Vec<(String, f64)>,
    /// System calls by name, by program.
    pub calls: BTreeMap<String, BTreeMap<String, u64>>,
    /// How long the slowest application took to end after it was asked, in seconds.
    pub slowest: f64,
    /// What an independent look saw left.
    pub left: String,
}

/// The body of a sample's world.
pub fn inside(order: &str) -> Result<()> {
    let order: Order = serde_json::from_str(order)?;
    if !show_installed("1.6")? {
        show_programs()?;
    }
    fs::create_dir_all(USERS)?;
    let snap = Snap::install(SNAP)?;
    if order.subject == Subject::Forced {
        fs::write(snap.dir.join("teardown.json"), impatient()?)?;
    }
    Look::now()?;
    let before = Look::now()?;
    let mut told = Told::default();
    let layout = if order.subject == Subject::Floor { Layout::of_host() } else { Layout::of_snap(SNAP) };
    let started = Instant::now();
    let mut runtime = Runtime::start(layout, "1.6")?;
    make_pods(&runtime, &order, &snap)?;
    if order.subject != Subject::Peer {
        runtime.kill()?;
    }
    told.build_seconds = started.elapsed().as_secs_f64();
    match order.subject {
        Subject::Floor => measure_floor(&mut told, &order, &snap, &runtime)?,
        Subject::Forced | Subject::Graceful => measure_hook(&mut told, &order, &snap, &before)?,
        Subject::Peer => {
            measure_peer(&mut told, &order, &snap)?;
            told.left = Look::now()?.minus(&before).summary();
        }
    }
    println!("{}", serde_json::to_string(&told)?);
    Ok(())
}

fn impatient() -> Result<String> {
    let built_in = fs::read(support::sources().join("src/snap/profile/microk8s.json"))?;
    let mut profile: serde_json::Value = serde_json::from_slice(&built_in)?;
    profile["patience"] = serde_json::json!({ "drain": 0 });
    Ok(profile.to_string())
}

/// Not all pods are alike: a name, the stop signal of its image, a grace, what obeys that signal.
const MANNERS: [(&str, &str, u64, &str); 3] = [
    ("term", "SIGTERM", 30, "obedient"),
    ("int", "SIGINT", 20, "stopper"),
    ("quit", "SIGQUIT", 45, "quitter"),
];

/// How many pods are of one of these manners: of ten, the last is one more than the others.
fn share(pods: usize, at: usize) -> usize {
    (pods + at) / MANNERS.len()
}

fn make_pods(runtime: &Runtime, order: &Order, snap: &Snap) -> Result<()> {
    let mut pods = Vec::new();
    for (at, (name, signal, grace, mode)) in MANNERS.into_iter().enumerate() {
        let (image, count) = (format!("docker.io/library/{name}:1"), share(order.pods, at).to_string());
        runtime.import(&image, "/app", &["--stop-signal", signal])?;
        let grace = format!("io.kubernetes.pod.terminationGracePeriod={grace}");
        let mut options = vec!["--count", &count, "--image", &image, "--container-annotation", &grace];
        if !order.cni {
            options.push("--host-network");
        }
        pods.extend(runtime.make_pods(name, &options, &["/app", mode])?);
    }
    let kubelet = snap.common.join("var/lib/kubelet");
    // Others' pods have the same volumes, where no hook of ours looks.
    let kubelet = if order.subject == Subject::Floor { "/var/lib/kubelet".into() } else { kubelet };
    pods.iter().try_for_each(|pod| mount_volumes(&kubelet, &pod.uid, Path::new(USERS)))
}

fn measure_floor(told: &mut Told, order: &Order, snap: &Snap, runtime: &Runtime) -> Result<()> {
    let own = std::env::current_exe()?;
    let (own, hook) = (own.display().to_string(), hook_of(snap));
    // The first of each pays for what the kernel then remembers; the medians do not.
    for _ in 0..if order.trace { 1 } else { 5 } {
        let pass = run(order, snap, told, "pass", &[&own, "--as-program", "pass"])?;
        let wide = run(order, snap, told, "wide", &[&own, "--as-program", "wide"])?;
        let nothing = run(order, snap, told, "nothing", &[&hook])?;
        if [&pass, &wide, &nothing].iter().any(|taken| taken.status != 0) {
            return Err(format!("with nothing to do: pass {pass:?}, wide {wide:?}, hook {nothing:?}").into());
        }
    }
    let shims = runtime.shims()?;
    let layout = &runtime.layout;
    let work = Work::find(shims, &[&layout.state, &layout.root, Path::new("/var/lib/kubelet")])?;
    if (work.shims.len(), work.leaves.len()) != (order.pods, 2 * order.pods) {
        return Err(format!("{} shims, {} leaves", work.shims.len(), work.leaves.len()).into());
    }
    work.write(Path::new("/tmp/work"))?;
    let floor = run(order, snap, told, "floor", &[&own, "--as-program", "floor", "/tmp/work"])?;
    // It must have done what it is there for.
    if floor.status != 0 || !runtime.shims()?.is_empty() || Path::new("/sys/fs/cgroup/kubepods").exists() {
        return Err(format!("the floor left something: {floor:?}").into());
    }
    Ok(())
}

fn measure_hook(told: &mut Told, order: &Order, snap: &Snap, before: &Look) -> Result<()> {
    let name = if order.subject == Subject::Forced { "forced" } else { "graceful" };
    let taken = run(order, snap, told, name, &[&hook_of(snap)])?;
    let left = Look::now()?.minus(before).without(&[Kind::Report]);
    let left = if order.cni {
        left.without(&[Kind::Netns, Kind::Link, Kind::Address, Kind::Route, Kind::Rule, Kind::CniState])
    } else {
        left
    };
    let document: serde_json::Value = serde_json::from_slice(&fs::read(snap.result_file())?)?;
    // No figure without the truth check: the hook says clean, and an independent look agrees.
    if taken.status != 0 || document["outcome"] != "clean" || !left.is_empty() {
        return Err(format!("{name}: {taken:?}, {}, left: {left}", document["outcome"]).into());
    }
    let found = document["scope-counts"]["shims"].as_u64();
    if found != Some(order.pods as u64) {
        return Err(format!("{name}: {found:?} shims for {} pods", order.pods).into());
    }
    if order.subject == Subject::Graceful {
        each_in_its_manner(&document, order.pods)?;
        let took = document["endings"].as_array().into_iter().flatten();
        let took = took.filter_map(|ending| ending["elapsed-ms"].as_f64());
        told.slowest = took.fold(0.0, f64::max) / 1000.0;
    }
    for step in document["steps"].as_array().into_iter().flatten() {
        let name = step["name"].as_str().unwrap_or_default().to_owned();
        told.phases.push((name, step["elapsed-ms"].as_f64().unwrap_or_default()));
    }
    Ok(())
}

/// No figure either where some application was killed, or was not asked as it wants to be.
fn each_in_its_manner(document: &serde_json::Value, pods: usize) -> Result<()> {
    let endings = document["endings"].as_array().map(Vec::as_slice).unwrap_or_default();
    for (at, (name, signal, grace, _)) in MANNERS.into_iter().enumerate() {
        let in_its_manner = |ending: &&serde_json::Value| {
            ending["end"] == "after-signal" && ending["signal"] == signal && ending["grace"] == grace
        };
        let (good, all) = (endings.iter().filter(in_its_manner).count(), share(pods, at));
        if good != all {
            return Err(format!("{good} of {all} pods of '{name}' ended as they ask: {endings:#?}").into());
        }
    }
    Ok(())
}

fn measure_peer(told: &mut Told, order: &Order, snap: &Snap) -> Result<()> {
    let command = order.peer.as_deref().ok_or("no peer")?;
    run(order, snap, told, "peer", &["/bin/sh", "-c", command]).map(drop)
}

fn hook_of(snap: &Snap) -> String {
    snap.dir.join("meta/hooks/remove").display().to_string()
}

/// Runs a program as snapd runs a hook, in a group of its own, and takes its time or counts its system calls.
fn run(order: &Order, snap: &Snap, told: &mut Told, name: &str, program: &[&str]) -> Result<Taken> {
    let own = std::env::current_exe()?;
    let calls = PathBuf::from("/tmp/calls");
    let mut words: Vec<&str> = vec!["--as-program", "clock"];
    if order.trace {
        words.extend(["/usr/bin/strace", "-f", "-c", "-U", "calls,name", "-o", "/tmp/calls"]);
    }
    words.extend(program);
    let scope = format!("system.slice/snap.{SNAP}.hook.remove-0f1e2d3c.scope");
    let mut command = in_group(&scope, &own.display().to_string())?;
    let out = command.args(words).env_clear().envs(snap.environment()).stderr(Stdio::inherit()).output()?;
    let taken: Taken = serde_json::from_slice(&out.stdout)
        .map_err(|e| format!("{name}: {e}: {}", String::from_utf8_lossy(&out.stdout)))?;
    if order.trace {
        told.calls.insert(name.into(), parse_calls(&fs::read_to_string(calls)?));
    } else {
        told.taken.entry(name.into()).or_default().push(taken.clone());
    }
    Ok(taken)
}

/// The program that times another: as small as can be, since a child's peak memory includes its parent's at the fork.
pub fn clock(program: &[String]) -> Result<()> {
    let (name, args) = program.split_first().ok_or("no program")?;
    let output = fs::File::create("/tmp/output")?;
    let mut command = Command::new(name);
    command.args(args).stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
    let start = Instant::now();
    let status = command.status()?;
    let seconds = start.elapsed().as_secs_f64();
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let cpu = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    let taken = Taken {
        seconds,
        cpu_seconds: cpu as f64 / 1e6,
        peak_kib: usage.max_rss(),
        status: status.code().unwrap_or(-1),
    };
    if !status.success() {
        eprintln!("{name}: {status}: {}", fs::read_to_string("/tmp/output")?);
    }
    println!("{}", serde_json::to_string(&taken)?);
    Ok(())
}

/// strace's table: lines of a count and a name, between rules of dashes.
fn parse_calls(text: &str) -> BTreeMap<String, u64> {
    let pair = |line: &str| {
        let (count, name) = line.trim().split_once(' ')?;
        Some((name.trim().to_owned(), count.parse().ok()?))
    };
    text.lines().filter_map(pair).filter(|(name, _)| name != "total").collect()
}
