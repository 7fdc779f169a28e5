//! Runs worlds, counts, and prints what they came to.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use crate::worlds::{FEATURES, World};
use crate::{actor, check};
use libtest_mimic::{Arguments, Failed, Trial};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use support::hook::{self, Snap};
use support::world::{self, Cgroups};
use support::{Result, build_dir};
use support::{runtime, scenes};

/// Worlds of a plain `cargo test`; TORTURE_WORLDS changes it.
const WORLDS: u64 = 100;

/// Has what the hook says in each world printed.
const KEEP: &str = "TORTURE_KEEP";

/// Where the plain run begins; every seed is as good as every other.
const FIRST: u64 = 1;

/// Worlds that found something once, or that a plain run has too seldom: what it was or is, a seed, and the features.
const FOUND: &[(&str, u64, &str)] = &[
    ("the_services_of_a_guest_were_stopped", 10, "address-nested,service-stray"),
    ("the_mount_namespace_of_a_guest_was_entered", 6, "address-nested,containerd-alive,half-deleted"),
    ("the_containers_of_a_parallel_instance_were_ended", 1, "parallel-instance"),
    ("bundles_about_to_be_deleted_stayed_mounted_at_a_moved_place", 4, "half-deleted,root-moved,state-moved"),
    ("containers_called_podinfo_left_their_groups", 20261127117, "nested-group,odd-ids,state-deleted"),
    ("lost_containers_called_podinfo_left_their_groups", 20261216197, "no-shim,odd-ids,state-deleted"),
    ("odd_names_of_the_systemd_driver_left_their_groups", 304, "odd-ids,state-deleted,systemd-names"),
    ("paused_containers_with_an_init_system_were_not_thawed", 7012, "bundle-deleted,nested-group,paused"),
    ("an_administrators_empty_mount_point_was_a_doubt", 281128245, "roots-bound,state-moved"),
    ("bombs_that_nothing_but_pids_max_bounds", 5000, "bomb,host-pid"),
];

pub fn main() -> ExitCode {
    let result = match actor::in_between().or_else(actor::role) {
        Some(result) => result.map(|()| ExitCode::SUCCESS),
        None => run(),
    };
    result.unwrap_or_else(|error| {
        eprintln!("torture: {error}");
        ExitCode::FAILURE
    })
}

fn run() -> Result<ExitCode> {
    if let Some(body) = world::role()? {
        let order: Order = serde_json::from_str(&body)?;
        println!("{}", one_world(&order)?);
        return Ok(ExitCode::SUCCESS);
    }
    // A fresh machine has no runc of its own; the virtual machine's task brings one.
    if !runtime::runc()?.exists() {
        runtime::fetch()?;
    }
    let words: Vec<String> = std::env::args().collect();
    let option = |name: &str| words.iter().position(|word| word == name).and_then(|at| words.get(at + 1));
    if let Some(worlds) = option("--worlds") {
        let seed = option("--seed").map_or(Ok(FIRST), |text| text.parse())?;
        let order = Order { seed, features: option("--features").cloned(), hook: None };
        let tally = torture(&order, worlds.parse()?)?;
        println!("{tally}");
        return Ok(if tally.good() { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    Ok(libtest_mimic::run(&one_at_a_time(), trials()?).exit_code())
}

/// The trials share the processors among their own worlds.
fn one_at_a_time() -> Arguments {
    let mut arguments = Arguments::from_args();
    arguments.test_threads = Some(1);
    arguments
}

fn trials() -> Result<Vec<Trial>> {
    let worlds = std::env::var("TORTURE_WORLDS").ok().map_or(Ok(WORLDS), |text| text.parse())?;
    let all = format!("{worlds}_worlds");
    let mut trials = vec![
        Trial::test(all.clone(), move || judge(&all, FIRST, worlds, None, |tally| tally.good())),
        Trial::test("a_hook_that_does_nothing_is_caught", || {
            judge("a_hook_that_does_nothing_is_caught", FIRST, 4, Some("/bin/true".into()), |tally| {
                tally.left > 0 && tally.harmed == 0 && tally.lies > 0
            })
        }),
        Trial::test("a_hook_that_kills_everything_is_caught", || {
            let mutant = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/torture/kill-everything");
            judge("a_hook_that_kills_everything_is_caught", FIRST, 4, Some(mutant.into()), |tally| {
                tally.harmed > 0
            })
        }),
    ];
    for (name, seed, features) in FOUND {
        let order = Order { seed: *seed, features: Some((*features).to_owned()), hook: None };
        trials.push(Trial::test(*name, move || judge_all(name, &order, 8, |tally| tally.good())));
    }
    Ok(trials)
}

fn judge(
    name: &str,
    seed: u64,
    worlds: u64,
    hook: Option<PathBuf>,
    good: impl Fn(&Tally) -> bool,
) -> std::result::Result<(), Failed> {
    judge_all(name, &Order { seed, features: None, hook }, worlds, good)
}

fn judge_all(
    name: &str,
    order: &Order,
    worlds: u64,
    good: impl Fn(&Tally) -> bool,
) -> std::result::Result<(), Failed> {
    let tally = torture(order, worlds).map_err(|e| scenes::failed(name, &e.to_string()))?;
    println!("{tally}");
    if good(&tally) { Ok(()) } else { Err(scenes::failed(name, &format!("see above:\n{tally}"))) }
}

/// Which world to build, and what to run in it.
#[derive(Clone, Serialize, Deserialize)]
struct Order {
    seed: u64,
    /// These features, separated by commas; else those that the seed brings.
    features: Option<String>,
    /// Another program in the hook's place.
    hook: Option<PathBuf>,
}

/// What all worlds came to.
#[derive(Default)]
struct Tally {
    worlds: u64,
    features: BTreeMap<String, u64>,
    outcomes: BTreeMap<String, u64>,
    bystanders: u64,
    ours: u64,
    left: u64,
    excused: u64,
    lies: u64,
    harmed: u64,
    late: u64,
    broken: u64,
    slowest: u64,
    milliseconds: u64,
    seconds: u64,
}

impl Tally {
    fn good(&self) -> bool {
        let covered = self.worlds < 200 || self.features.values().all(|count| *count >= 10);
        [self.left, self.lies, self.harmed, self.late, self.broken].iter().all(|count| *count == 0) && covered
    }

    fn add(&mut self, world: &Value) {
        let count = |key: &str| world[key].as_array().map_or(0, |list| list.len() as u64);
        self.worlds += 1;
        for feature in world["features"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            *self.features.entry(feature.to_owned()).or_default() += 1;
        }
        *self.outcomes.entry(world["outcome"].as_str().unwrap_or("?").to_owned()).or_default() += 1;
        self.bystanders += world["bystanders"].as_u64().unwrap_or(0);
        self.ours += world["ours"].as_u64().unwrap_or(0);
        self.left += count("unexcused");
        self.excused += count("left").saturating_sub(count("unexcused"));
        self.lies += count("lies");
        self.harmed += count("harmed");
        self.late += u64::from(world["late"] == true);
        let milliseconds = world["milliseconds"].as_u64().unwrap_or(0);
        self.milliseconds += milliseconds;
        self.slowest = self.slowest.max(milliseconds);
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, out: &mut std::fmt::Formatter) -> std::fmt::Result {
        let features: Vec<_> = self.features.iter().map(|(name, count)| format!("{name} {count}")).collect();
        writeln!(out, "features: {}", features.join(", "))?;
        let least = self.features.values().min().copied().unwrap_or(0);
        writeln!(
            out,
            "worlds: {} in {} s, outcomes {:?}, hook {} ms on average, {} ms at most",
            self.worlds,
            self.seconds,
            self.outcomes,
            self.milliseconds / self.worlds.max(1),
            self.slowest
        )?;
        writeln!(
            out,
            "features: {} of {}, the rarest in {least} worlds",
            self.features.len(),
            FEATURES.len()
        )?;
        writeln!(
            out,
            "bystanders checked: {}; things of ours: {}; left for a reason and told: {}",
            self.bystanders, self.ours, self.excused
        )?;
        write!(
            out,
            "left: {}  lies: {}  harmed: {}  late: {}  worlds that could not be built: {}",
            self.left, self.lies, self.harmed, self.late, self.broken
        )
    }
}

/// Runs worlds, two at a time; what is wrong with one is printed with its seed.
fn torture(order: &Order, worlds: u64) -> Result<Tally> {
    let start = Instant::now();
    if let Some(missing) = order.hook.as_ref().filter(|hook| !hook.exists()) {
        return Err(format!("no '{}'", missing.display()).into());
    }
    let quiet = order.hook.is_some();
    let next = AtomicU64::new(order.seed);
    let tally = Mutex::new(Tally {
        features: FEATURES.iter().map(|f| ((*f).to_owned(), 0)).collect(),
        ..Tally::default()
    });
    let processors = std::thread::available_parallelism().map_or(1, |n| n.get());
    std::thread::scope(|scope| {
        for _ in 0..processors.clamp(2, 4) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= order.seed + worlds {
                        return;
                    }
                    let world = in_a_world(&Order { seed, ..order.clone() });
                    let Ok(mut tally) = tally.lock() else { return };
                    match world {
                        Ok(world) => {
                            tally.add(&world);
                            if !quiet {
                                complain(&world);
                            }
                        }
                        Err(error) => {
                            tally.worlds += 1;
                            tally.broken += 1;
                            println!("seed {seed}: {error}");
                        }
                    }
                }
            });
        }
    });
    let mut tally = tally.into_inner().map_err(|_| "a thread panicked")?;
    tally.seconds = start.elapsed().as_secs();
    Ok(tally)
}

fn complain(world: &Value) {
    for what in ["harmed", "lies", "unexcused"] {
        for thing in world[what].as_array().into_iter().flatten().take(6) {
            println!("seed {}: {what}: {}", world["seed"], thing.as_str().unwrap_or("?"));
        }
    }
    let wrong = ["harmed", "lies", "unexcused"]
        .iter()
        .any(|what| world[what].as_array().is_some_and(|l| !l.is_empty()));
    if world["late"] == true || wrong {
        println!("seed {}: {} ms; features {}", world["seed"], world["milliseconds"], world["features"]);
    }
}

/// Starts the private world of a seed and takes its verdict.
fn in_a_world(order: &Order) -> Result<Value> {
    let seed = order.seed;
    let logs = build_dir()?.join("worlds");
    fs::create_dir_all(&logs)?;
    let log = logs.join(format!("torture-{seed}-{}", std::process::id()));
    let hybrid = seed.is_multiple_of(4);
    let cgroups = if hybrid { Cgroups::Hybrid } else { Cgroups::V2 };
    let errors = File::create(log.with_extension("err"))?;
    let body = serde_json::to_string(order)?;
    let status = world::run(&body, cgroups, File::create(&log)?.into(), errors.into())?.status;
    let text = fs::read_to_string(&log)?;
    let complaints = fs::read_to_string(log.with_extension("err"))?;
    fs::remove_file(&log)?;
    fs::remove_file(log.with_extension("err"))?;
    if std::env::var_os(KEEP).is_some() {
        println!("seed {seed}:\n{}", complaints.trim());
    }
    let last = text.lines().rev().find(|line| line.starts_with('{'));
    match last.map(serde_json::from_str) {
        Some(Ok(world)) if status.success() => Ok(world),
        _ => Err(format!("{status}: {}", complaints.trim()).into()),
    }
}

/// Inside the world: builds it, runs the hook (or another program in its place), judges.
fn one_world(order: &Order) -> Result<Value> {
    let cgroups = if fs::exists("/sys/fs/cgroup/cgroup.procs")? { Cgroups::V2 } else { Cgroups::Hybrid };
    let snap = Snap::install("microk8s")?;
    if let Some(hook) = &order.hook {
        fs::copy(hook, snap.dir.join("meta/hooks/remove"))?;
    }
    fs::write("/run/torture-world", "")?;
    let seed = order.seed;
    let mut world = match &order.features {
        None => World::build(seed, cgroups, &snap)?,
        Some(features) => World::build_of(seed, &features.split(',').collect::<Vec<_>>(), cgroups, &snap)?,
    };
    // The hook's own group is there before anyone looks.
    world.make_group("system.slice/snap.microk8s.hook.remove-0f1e2d3c.scope")?;
    let before = check::Snapshot::take(&world)?;
    let ended = snap.run_hook()?;
    world.collect();
    let text = fs::read(snap.result_file()).ok();
    let report: Option<Value> = text.map(|text| serde_json::from_slice(&text)).transpose()?;
    if let Some(document) = &report {
        hook::check(document)?;
    }
    let verdict = check::judge(&world, &before, &ended, report.as_ref())?;
    if std::env::var_os(KEEP).is_some() {
        eprintln!("{}\n{}", ended.output, report.unwrap_or_default());
    }
    Ok(json!({
        "seed": seed, "features": world.features, "outcome": verdict.outcome, "bystanders": verdict.bystanders,
        "ours": verdict.ours, "left": verdict.left, "unexcused": verdict.unexcused, "lies": verdict.lies,
        "harmed": verdict.harmed, "late": verdict.late,
        "milliseconds": u64::try_from(ended.elapsed.as_millis())?,
    }))
}
