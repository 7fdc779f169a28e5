//! What changes while the hook works: pods that start, mounts that appear, numbers and names that change hands, and a
//! second hook.

#[path = "../torture/actor/mod.rs"]
mod actor;
#[path = "../torture/check/mod.rs"]
mod check;
#[path = "../torture/dice.rs"]
mod dice;
#[path = "../torture/worlds/mod.rs"]
mod worlds;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use check::{Snapshot, Verdict};
use dice::Dice;
use support::Result;
use support::hook::Snap;
use support::scenes::Scene;
use support::world::Cgroups;
use worlds::{COMMON, World};

const ALL: &[Scene] = &[
    ("a_pod_that_starts_meanwhile", pod_meanwhile),
    ("a_mount_that_appears_meanwhile", mount_meanwhile),
    ("a_directory_swapped_for_a_symlink", || tampered(swap)),
    ("a_mount_that_comes_and_goes_in_what_is_deleted", || tampered(come_and_go)),
    ("a_mounts_directory_swapped_for_a_symlink", mounts_directory_swapped),
    ("numbers_that_are_given_again", numbers),
    ("two_hooks_at_once", two_hooks),
];

fn main() -> ExitCode {
    match actor::in_between().or_else(actor::role) {
        None => support::scenes::main("races", ALL, |_| true),
        Some(Ok(())) => ExitCode::SUCCESS,
        Some(Err(error)) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn stage(features: &[&str]) -> Result<(Snap, World)> {
    let snap = Snap::install("microk8s")?;
    let world = World::build_of(11, features, Cgroups::V2, &snap)?;
    world.make_group("system.slice/snap.microk8s.hook.remove-0f1e2d3c.scope")?;
    Ok((snap, world))
}

fn report(snap: &Snap) -> Result<Value> {
    snap.document()
}

fn harmless(verdict: &Verdict) -> Result<()> {
    if verdict.harmed.is_empty() && verdict.lies.is_empty() && !verdict.late {
        return Ok(());
    }
    Err(format!("{verdict:#?}").into())
}

fn clean(verdict: &Verdict) -> Result<()> {
    harmless(verdict)?;
    if verdict.outcome == "clean" { Ok(()) } else { Err(format!("not clean: {verdict:#?}").into()) }
}

/// Waits until the hook has written what its survey found: from then on it acts.
fn surveyed(snap: &Snap) -> Result<()> {
    let start = Instant::now();
    while !snap.result_file().exists() {
        if start.elapsed() > Duration::from_secs(10) {
            return Err("the hook wrote no survey".into());
        }
        std::thread::sleep(Duration::from_millis(1)); // the file's directory may not exist yet, to be watched
    }
    Ok(())
}

fn pod_meanwhile() -> Result<()> {
    let (snap, mut world) = stage(&["stubborn"])?;
    let before = Snapshot::take(&world)?;
    let running = snap.start_hook()?;
    surveyed(&snap)?;
    // While the first pods get their second to end.
    world.pod(&mut Dice::new(12))?;
    let ended = running.end()?;
    world.collect();
    let verdict = check::judge(&world, &before, &ended, Some(&report(&snap)?))?;
    clean(&verdict)
}

fn mount_meanwhile() -> Result<()> {
    let (snap, mut world) = stage(&["stubborn"])?;
    let before = Snapshot::take(&world)?;
    let running = snap.start_hook()?;
    surveyed(&snap)?;
    let kubelet = Path::new(COMMON).join("var/lib/kubelet/pods/late/volumes");
    world.tmpfs(&kubelet.join("x"))?;
    // In what will be deleted: an outside directory, which must not be.
    let data = Path::new(COMMON).join("var/lib/containerd/late");
    fs::create_dir_all(&data)?;
    support::world::bind(Path::new("/srv/users"), &data)?;
    world.mounts.push(data);
    let ended = running.end()?;
    world.collect();
    let verdict = check::judge(&world, &before, &ended, Some(&report(&snap)?))?;
    clean(&verdict)
}

/// A hostile neighbour leads what is being deleted to a user's data, all the time.
fn tampered(tamper: fn(&Path, &AtomicBool) -> u64) -> Result<()> {
    for round in 0..8 {
        let (snap, mut world) = if round == 0 { stage(&[])? } else { again(round)? };
        let data = Path::new(COMMON).join("var/lib/containerd/swap");
        for n in 0..40 {
            for file in 0..20 {
                worlds::write(data.join(format!("{n}/deep/{file}")), "an image's")?;
            }
        }
        for file in 0..20 {
            worlds::write(format!("/srv/users/deep/{file}"), "not ours")?;
        }
        let before = Snapshot::take(&world)?;
        let stop = AtomicBool::new(false);
        let (ended, swaps) = std::thread::scope(|scope| -> Result<_> {
            let swapper = scope.spawn(|| tamper(&data, &stop));
            let ended = snap.start_hook()?.end();
            stop.store(true, Ordering::Relaxed);
            Ok((ended?, swapper.join().map_err(|_| "the swapper panicked")?))
        })?;
        world.collect();
        let verdict = check::judge(&world, &before, &ended, Some(&report(&snap)?))?;
        // What was swapped at the last moment may be left, and then is told; a user's data is whole.
        harmless(&verdict)?;
        if round == 7 {
            println!("tampered with {swaps} times in the last round, outcome {}", verdict.outcome);
        }
        fs::remove_dir_all(data.ancestors().nth(1).ok_or("no parent")?).ok();
    }
    Ok(())
}

fn again(round: u64) -> Result<(Snap, World)> {
    let snap = Snap { name: "microk8s".into(), dir: "/snap/microk8s/1".into(), common: COMMON.into() };
    let mut world = World::default();
    world.pod(&mut Dice::new(100 + round))?;
    for path in ["run/containerd", "var/lib/containerd"] {
        world.paths.push(Path::new(COMMON).join(path));
    }
    Ok((snap, world))
}

/// Shows the user's data in a directory and takes it away again. A bind of the same file system has the same device.
fn come_and_go(data: &Path, stop: &AtomicBool) -> u64 {
    let mut times = 0;
    while !stop.load(Ordering::Relaxed) {
        for n in 0..40 {
            let dir = data.join(format!("{n}/deep"));
            if support::world::bind(Path::new("/srv/users/deep"), &dir).is_ok() {
                times += 1;
                let _ = nix::mount::umount2(&dir, nix::mount::MntFlags::MNT_DETACH);
            }
        }
    }
    times
}

/// Puts symlinks to the user's data in the place of directories.
fn swap(data: &Path, stop: &AtomicBool) -> u64 {
    let mut swaps = 0;
    while !stop.load(Ordering::Relaxed) {
        for n in 0..40 {
            let (dir, aside) = (data.join(format!("{n}/deep")), data.join(format!("{n}/aside")));
            if fs::rename(&dir, &aside).is_ok() && symlink("/srv/users/deep", &dir).is_ok() {
                swaps += 1;
                let _ = fs::remove_file(&dir);
                let _ = fs::rename(&aside, &dir);
            }
        }
    }
    swaps
}

/// A hostile pod leads an unmount elsewhere: the directory that our mounts are in becomes a symlink to one in which
/// somebody else's mounts have the same names.
fn mounts_directory_swapped() -> Result<()> {
    const MOUNTS: usize = 60;
    const ROUNDS: u64 = 24;
    let (mut swaps, mut left) = (0, 0);
    for round in 0..ROUNDS {
        let (snap, mut world) = if round == 0 { stage(&[])? } else { again(round)? };
        let pods = Path::new(COMMON).join("var/lib/kubelet/pods");
        let (evil, aside) = (pods.join("evil"), pods.join("aside"));
        // Where there is but one, and elsewhere half of the time, a whole round of the hook may find it there, and the last
        // resort is tried.
        let (mounts, pause) = if round < 6 { (MOUNTS, 0) } else { (1, 2) };
        for n in 0..mounts {
            let theirs = Path::new("/srv/theirs").join(n.to_string());
            if round == 0 {
                fs::create_dir_all(&theirs)?;
                support::world::mount_new("tmpfs", &theirs, nix::mount::MsFlags::empty(), "size=4k")?;
            }
            world.tmpfs(&evil.join(n.to_string()))?;
        }
        let before = Snapshot::take(&world)?;
        let stop = AtomicBool::new(false);
        let ended = std::thread::scope(|scope| -> Result<_> {
            let swapper = scope.spawn(|| {
                let mut swaps = 0;
                while !stop.load(Ordering::Relaxed) {
                    if fs::rename(&evil, &aside).is_ok() && symlink("/srv/theirs", &evil).is_ok() {
                        swaps += 1;
                        std::thread::sleep(Duration::from_millis(pause));
                        let _ = fs::remove_file(&evil);
                        let _ = fs::rename(&aside, &evil);
                        std::thread::sleep(Duration::from_millis(pause));
                    }
                }
                swaps
            });
            let ended = snap.start_hook()?.end();
            stop.store(true, Ordering::Relaxed);
            swaps += swapper.join().map_err(|_| "the swapper panicked")?;
            ended
        })?;
        world.collect();
        let verdict = check::judge(&world, &before, &ended, Some(&report(&snap)?))?;
        left += verdict.left.len();
        // What was elsewhere at the last look is told by that name; but nobody is harmed.
        if !verdict.harmed.is_empty() || verdict.late {
            return Err(format!("{verdict:#?}").into());
        }
        let before = Snapshot::take(&world)?;
        let ended = snap.start_hook()?.end()?;
        clean(&check::judge(&world, &before, &ended, Some(&report(&snap)?))?)?;
    }
    println!("swapped {swaps} times; {left} things left for a second run in {ROUNDS} rounds");
    Ok(())
}

/// Few numbers for processes, and many processes that come and go: a number that was ours is soon somebody else's.
fn numbers() -> Result<()> {
    const RUNS: u64 = 12;
    fs::write("/proc/sys/kernel/pid_max", "430").map_err(|e| format!("cannot make numbers few: {e}"))?;
    // The kernel gives the first three hundred once only: from there on all are given again and again.
    while std::process::Command::new("/bin/true").spawn().and_then(|mut c| c.wait().map(|_| c.id()))? < 299 {}
    let (snap, mut world) = stage(&["bomb", "daemon"])?;
    let (mut reused, start) = (0, Instant::now());
    let mut run = 0;
    // Where the machine is busy one run takes ten seconds and more, and the world is ended after two minutes.
    while run < RUNS && (start.elapsed() < Duration::from_secs(45) || reused == 0) {
        if run > 0 {
            world = again(run)?.1;
        }
        // Some are asked to end, and do so while others still may.
        world.features.extend(["bomb", "stubborn"].map(str::to_owned));
        world.pod(&mut Dice::new(200 + run))?;
        let before = Snapshot::take(&world)?;
        let stop = AtomicBool::new(false);
        let mut bystanders: Vec<std::process::Child> = Vec::new();
        let ended = std::thread::scope(|scope| -> Result<_> {
            let churner = scope.spawn(|| churn(&stop).map_err(|e| e.to_string()));
            let ended = snap.start_hook()?.end();
            stop.store(true, Ordering::Relaxed);
            bystanders = churner.join().map_err(|_| "the churner panicked")??;
            ended
        })?;
        world.collect();
        let numbers: Vec<i32> =
            bystanders.iter().filter_map(|child| i32::try_from(child.id()).ok()).collect();
        reused += numbers.iter().filter(|pid| before.is_ours(**pid)).count();
        let mut dead = 0;
        for child in &mut bystanders {
            dead += u32::from(child.try_wait()?.is_some());
            child.kill()?;
            child.wait()?;
        }
        if dead > 0 {
            return Err(format!("run {run}: {dead} of {} bystanders are dead", bystanders.len()).into());
        }
        let verdict = check::judge(&world, &before, &ended, Some(&report(&snap)?))?;
        clean(&verdict)?;
        run += 1;
    }
    println!("{reused} numbers of ours were somebody else's by the end of {run} runs");
    if reused == 0 { Err("no number was given again: the race was not run".into()) } else { Ok(()) }
}

/// Starts processes that end at once, and now and then one that stays: the bystanders.
fn churn(stop: &AtomicBool) -> Result<Vec<std::process::Child>> {
    let mut staying = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        for _ in 0..6 {
            std::process::Command::new("/bin/true").status()?;
        }
        if staying.len() < 40 {
            staying.push(std::process::Command::new("/bin/sleep").arg("1000").spawn()?);
        }
    }
    Ok(staying)
}

fn two_hooks() -> Result<()> {
    let (snap, mut world) = stage(&["stubborn", "stacked", "bomb"])?;
    let before = Snapshot::take(&world)?;
    let first = snap.start_hook()?;
    surveyed(&snap)?;
    let second = snap.start_hook()?.end()?;
    let first = first.end()?;
    world.collect();
    let verdict = check::judge(&world, &before, &first, Some(&report(&snap)?))?;
    if (first.status, second.status) != (Some(0), Some(0)) {
        return Err(
            format!("{:?} {:?}\n{}\n{}", first.status, second.status, first.output, second.output).into()
        );
    }
    // The one that came second had nothing left to do.
    if !second.output.contains("0 found") {
        return Err(format!("the second did not wait:\n{}", second.output).into());
    }
    clean(&verdict)
}
