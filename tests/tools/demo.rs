//! The demonstration: a snap's containers outlive their runtime, and its remove hook tears them down.
//!
//! All of it happens in a private world (see `../support/world.rs`); the machine is compared before and after.

#[path = "../support/mod.rs"]
mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use serde_json::json;
use support::hook::Snap;
use support::look::{Kind, Look};
use support::runtime::{Layout, Runtime, in_group, mount_volumes, show_installed, show_programs};
use support::world::{self, Cgroups};
use support::{Result, build_dir, built};

const SNAP: &str = "microk8s";
const PODS: usize = 3;

fn main() -> ExitCode {
    let done = match world::role() {
        Ok(Some(_)) => inside(),
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
    let before = Machine::now()?;
    let status = world::run("demo", Cgroups::V2, Stdio::inherit(), Stdio::inherit())?;
    let after = Machine::now()?;
    title("The machine, before and after");
    let mut same = true;
    for (what, before, after) in [
        ("mounts", &before.mounts, &after.mounts),
        ("control groups of the demonstration", &before.groups, &after.groups),
        ("processes of the demonstration", &before.processes, &after.processes),
    ] {
        let word = if before == after { "the same" } else { "NOT the same" };
        println!("{what}: {} and {}, {word}", before.len(), after.len());
        for changed in before.symmetric_difference(after) {
            println!("  {changed}");
        }
        same &= before == after;
    }
    if !same {
        return Err("the machine has changed".into());
    }
    if status.success() { Ok(()) } else { Err("the demonstration has failed".into()) }
}

struct Machine {
    mounts: BTreeSet<String>,
    groups: BTreeSet<String>,
    processes: BTreeSet<String>,
}

impl Machine {
    /// What a careless demonstration could leave on the machine that runs it.
    fn now() -> Result<Machine> {
        let mounts = fs::read_to_string("/proc/self/mountinfo")?.lines().map(str::to_owned).collect();
        let mut groups = BTreeSet::new();
        for top in ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"] {
            for entry in fs::read_dir(top).into_iter().flatten().flatten() {
                if entry.file_name().to_string_lossy().starts_with("snap-teardown-") {
                    groups.insert(entry.path().display().to_string());
                }
            }
        }
        let mut processes = BTreeSet::new();
        let (own, build) = (std::process::id().to_string(), build_dir()?);
        for entry in fs::read_dir("/proc")?.flatten() {
            let Ok(exe) = fs::read_link(entry.path().join("exe")) else { continue };
            let ours =
                exe.starts_with(&build) || exe.starts_with("/opt/containerd") || exe == Path::new("/app");
            if ours && entry.file_name().to_string_lossy() != own {
                processes.insert(format!("{} {}", entry.path().display(), exe.display()));
            }
        }
        Ok(Machine { mounts, groups, processes })
    }
}

/// In the world.
fn inside() -> Result<()> {
    let snap = Snap::install(SNAP)?;
    fs::create_dir_all("/srv/users")?;
    fs::write("/srv/users/precious", "not ours")?;
    let real = show_installed("1.6")? || show_programs().is_ok();
    let before = Look::now()?;

    if real {
        title(&format!("{PODS} pods of the snap '{SNAP}', made by a real containerd, which is then killed"));
        run_pods(&snap)?;
    } else {
        title("No containerd with runc and CNI plugins here: processes, mounts and groups as pods have them");
        imitate_pods(&snap)?;
    }
    let full = Look::now()?.minus(&before);
    println!("what it leaves behind, by an independent look:\n{full:.2}");

    title("$ snap-teardown survey");
    let survey = Command::new(built("snap-teardown")?).arg("survey").envs(snap.environment()).status()?;
    println!("({survey})");

    title("$ $SNAP/meta/hooks/remove");
    let ended = snap.run_hook()?;
    println!("{}", ended.output);
    println!("(exit status {:?}, {} ms)", ended.status, ended.elapsed.as_millis());

    title(&format!("$ cat {}", snap.result_file().display()));
    println!("{}", serde_json::to_string_pretty(&snap.document()?)?);

    title("What is left, by the same independent look");
    let left = Look::now()?.minus(&before).without(&[Kind::Report]);
    if left.is_empty() {
        println!("nothing")
    } else {
        println!("{left}")
    }
    let precious = fs::read_to_string("/srv/users/precious")?;
    println!("the user's own file, which the pods had mounted: '{precious}'");
    if ended.status == Some(0) && left.is_empty() { Ok(()) } else { Err("something is left".into()) }
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
fn imitate_pods(snap: &Snap) -> Result<()> {
    let app = built("examples/app")?;
    for i in 0..PODS {
        let (id, uid) = (format!("{i}").repeat(64), format!("demo-0000-4000-8000-{i}"));
        let bundle = snap.common.join("run/containerd/io.containerd.runtime.v2.task/k8s.io").join(&id);
        fs::create_dir_all(bundle.join("rootfs"))?;
        let annotations = json!({ "io.kubernetes.cri.sandbox-id": id });
        let group = format!("kubepods/besteffort/pod{uid}/{id}");
        let config = json!({ "annotations": annotations, "linux": { "cgroupsPath": format!("/{group}") } });
        fs::write(bundle.join("config.json"), config.to_string())?;
        mount_overlay(snap, &id, &bundle.join("rootfs"))?;
        mount_volumes(&snap.common.join("var/lib/kubelet"), &uid, Path::new("/srv/users"))?;
        let process = in_group(&group, &app.display().to_string())?.arg("obedient").spawn()?;
        println!("pod {uid}: process {}", process.id());
    }
    Ok(())
}

fn mount_overlay(snap: &Snap, id: &str, at: &Path) -> Result<()> {
    let snapshot =
        snap.common.join("var/lib/containerd/io.containerd.snapshotter.v1.overlayfs/snapshots").join(id);
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
