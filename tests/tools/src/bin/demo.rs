//! The demonstration: a snap's containers outlive their runtime, and its remove hook tears them down.
//!
//! All of it happens in a private world (see `tests/support/world.rs`); the machine is compared before and after.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};

use serde_json::{Value, json};
use support::fixture::{self, Bundle};
use support::hook::Snap;
use support::look::{Kind, Look};
use support::runtime::{Layout, Runtime, in_group, mount_volumes, show_installed, show_programs};
use support::world::{self, Cgroups};
use support::{Result, built};

const SNAP: &str = "microk8s";
const PODS: usize = 3;

/// The two bodies.
const REAL: &str = "demo";
const IMITATED: &str = "demo-without-containers";

fn main() -> ExitCode {
    let done = match world::role() {
        Ok(Some(body)) => inside(&body),
        Ok(None) => outside(),
        Err(error) => Err(error),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("demo: {error}");
            ExitCode::FAILURE
        }
    }
}

/// On the machine: the world, and proof that nothing of it is left.
fn outside() -> Result<()> {
    let body = match std::env::args().nth(1).as_deref() {
        None => REAL,
        Some("--without-containers") => IMITATED,
        Some(other) => return Err(format!("unknown argument '{other}'; known: --without-containers").into()),
    };
    let mounts = mounts()?;
    let ended = world::run(body, Cgroups::V2, Stdio::inherit(), Stdio::inherit())?;
    title("The machine");
    let after = self::mounts()?;
    println!("mounts: {} before, {} after", mounts.len(), after.len());
    let mut changed: Vec<_> = mounts.symmetric_difference(&after).cloned().collect();
    let (groups, processes) = (groups(&ended.group), processes(&ended.group)?);
    println!("control groups of the demonstration: {}, its processes: {}", groups.len(), processes.len());
    changed.extend(groups);
    changed.extend(processes);
    if !changed.is_empty() {
        return Err(format!("the machine is not as it was:\n{}", changed.join("\n")).into());
    }
    println!("as it was");
    if ended.status.success() { Ok(()) } else { Err("the demonstration has failed".into()) }
}

fn mounts() -> Result<BTreeSet<String>> {
    Ok(fs::read_to_string("/proc/self/mountinfo")?.lines().map(str::to_owned).collect())
}

/// Directories of a world's groups, in whichever hierarchy.
fn groups(name: &str) -> Vec<String> {
    let top = Path::new("/sys/fs/cgroup");
    let hierarchies = fs::read_dir(top).into_iter().flatten().flatten().map(|entry| entry.path());
    let places = hierarchies.chain([top.to_path_buf()]).map(|dir| dir.join(name));
    places.filter(|path| path.exists()).map(|path| path.display().to_string()).collect()
}

/// Processes that are in a world's groups.
fn processes(name: &str) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")?.flatten() {
        let groups = fs::read_to_string(entry.path().join("cgroup")).unwrap_or_default();
        if groups.contains(&format!("/{name}/")) {
            found.push(entry.path().display().to_string());
        }
    }
    Ok(found)
}

/// In the world.
fn inside(body: &str) -> Result<()> {
    let snap = Snap::install(SNAP)?;
    fs::create_dir_all("/srv/users")?;
    fs::write("/srv/users/precious", "not ours")?;
    let real = body == REAL && (show_installed("1.6")? || show_programs().is_ok());
    let before = Look::now()?;

    let mut children = Vec::new();
    if real {
        title(&format!("{PODS} pods of the snap '{SNAP}', made by a real containerd, which is then killed"));
        run_pods(&snap)?;
    } else {
        title("Without containerd, runc and CNI plugins: processes, mounts and groups as pods have them");
        children = imitate_pods(&snap)?;
    }
    let full = Look::now()?.minus(&before);
    println!("what is there now, by an independent look:\n{full:.2}");

    title("$ snap-teardown survey");
    let survey = Command::new(built("snap-teardown")?).arg("survey").envs(snap.environment()).status()?;
    println!("({survey})");

    title("$ $SNAP/meta/hooks/remove");
    let ended = snap.run_hook()?;
    ended.output.lines().for_each(|line| println!("{line:.160}"));
    println!("(exit status {:?}, {} ms)", ended.status, ended.elapsed.as_millis());

    for child in &mut children {
        child.try_wait()?; // ours to collect, if it has ended
    }

    title(&format!("$ cat {} (lists shown as their lengths)", snap.result_file().display()));
    println!("{}", serde_json::to_string_pretty(&without_lists(snap.document()?))?);

    title("What is left, by the same independent look");
    let left = Look::now()?.minus(&before).without(&[Kind::Report]);
    if left.is_empty() {
        println!("nothing")
    } else {
        println!("{left}")
    }
    let precious = fs::read_to_string("/srv/users/precious")?;
    println!("the user's own file, which the pods had mounted, says '{precious}'");
    if ended.status == Some(0) && left.is_empty() { Ok(()) } else { Err("something is left".into()) }
}

/// A document short enough to be read on a screen.
fn without_lists(value: Value) -> Value {
    let names = ["steps", "left", "blind"];
    match value {
        Value::Object(fields) => {
            let short = |(name, value): (String, Value)| match value {
                Value::Array(list) if !names.contains(&name.as_str()) => {
                    (name, json!(format!("… {} …", list.len())))
                }
                other => (name, without_lists(other)),
            };
            Value::Object(fields.into_iter().map(short).collect())
        }
        Value::Array(list) => Value::Array(list.into_iter().map(without_lists).collect()),
        other => other,
    }
}

fn run_pods(snap: &Snap) -> Result<()> {
    let mut runtime = Runtime::start(Layout::of_snap(SNAP), "1.6")?;
    let mut pods = runtime.pods("web", PODS - 1, &["/app", "obedient"])?;
    pods.extend(runtime.pods("db", 1, &["/app", "parent"])?);
    for pod in pods {
        mount_volumes(&snap.common.join("var/lib/kubelet"), &pod.uid, Path::new("/srv/users"))?;
        println!("pod {}: sandbox process {}, application {}", pod.uid, pod.pid, pod.containers[0].pid);
    }
    runtime.kill()
}

/// Real processes in real groups, with bundles and mounts in the places where containerd keeps them.
fn imitate_pods(snap: &Snap) -> Result<Vec<Child>> {
    let mut children = Vec::new();
    let app = built("app")?;
    for i in 0..PODS {
        let (id, uid) = (format!("{i}").repeat(64), format!("demo-0000-4000-8000-{i}"));
        let group = format!("kubepods/besteffort/pod{uid}/{id}");
        let bundle = Bundle::new(&id, &format!("/{group}")).of_sandbox(&id);
        let bundle = bundle.write(&snap.common.join("run/containerd"))?;
        fs::create_dir(bundle.join("rootfs"))?;
        mount_overlay(snap, &id, &bundle.join("rootfs"))?;
        mount_volumes(&snap.common.join("var/lib/kubelet"), &uid, Path::new("/srv/users"))?;
        let process = in_group(&group, &app.display().to_string())?.arg("obedient").spawn()?;
        println!("pod {uid}: process {}", process.id());
        children.push(process);
    }
    Ok(children)
}

fn mount_overlay(snap: &Snap, id: &str, at: &Path) -> Result<()> {
    let snapshot = fixture::snapshot(&snap.common.join("var/lib/containerd"), id);
    let [lower, upper, work] = ["lower", "fs", "work"].map(|name| snapshot.join(name));
    for dir in [&lower, &upper, &work] {
        fs::create_dir_all(dir)?;
    }
    let show = |path: &PathBuf| path.display().to_string();
    let options = format!("lowerdir={},upperdir={},workdir={}", show(&lower), show(&upper), show(&work));
    world::mount_new("overlay", at, nix::mount::MsFlags::empty(), &options)
}

fn title(text: &str) {
    println!("\n== {text}\n");
}
