//! The independent checker: what is really there before and after, whose it was, and whether the report tells the truth.
//!
//! It shares no code with the program under test. Everything that its world does not call ours is somebody else's, so
//! that what nobody thought of counts as harmed too.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::worlds::{COMMON, DEADLINE, World, pids_in};
use support::Result;
use support::hook::Ended;

mod machine;
mod report;

pub use machine::Snapshot;
use machine::mounts_of;
use report::{each, is_named, is_right, is_unproven, speaks_of, untrue};

/// Nobody promises that a groups above the pods' stays or goes; nor what runs for the test itself.
const SHARED: &[&str] =
    &["kubepods", "burstable", "besteffort", "kubepods.slice", "kubepods-burstable.slice", "k8s.io", "moby"];

/// What a runtime makes for itself: ours leaves these directories empty, and no other one runs here.
const SKELETON: &[&str] = &[
    "/run/containerd",
    "/run/containerd/fifo",
    "/run/containerd/runc",
    "/run/containerd/runc/k8s.io",
    "/run/containerd/runc/moby",
    "/run/containerd/s",
    "/var/lib/cni",
    "/var/lib/cni/networks",
    "/var/lib/cni/networks/k8s-pod-network",
    "/var/lib/cni/results",
];

/// What one world came to.
#[derive(Default, Debug)]
pub struct Verdict {
    pub outcome: String,
    pub bystanders: usize,
    pub ours: usize,
    /// Ours, still there.
    pub left: Vec<String>,
    /// Left without a reason that the world gave for it.
    pub unexcused: Vec<String>,
    pub lies: Vec<String>,
    pub harmed: Vec<String>,
    pub late: bool,
}

/// Judges a run of the hook over a world.
pub fn judge(world: &World, before: &Snapshot, ended: &Ended, report: Option<&Value>) -> Result<Verdict> {
    let after = Snapshot::take(world)?;
    let mut verdict =
        Verdict { late: ended.elapsed.as_secs_f64() > DEADLINE as f64 + 3.0, ..Verdict::default() };
    let ours = before.owned.clone();
    verdict.ours = ours.len() + world.mounts.len() + world.paths.len() + world.leaves.len();
    harm(world, before, &after, &ours, &mut verdict);
    let left = left(world, before, &after, &ours);
    truth(world, &left, ended, report, &mut verdict);
    verdict.left = left.into_iter().map(|item| item.to_string()).collect();
    Ok(verdict)
}

fn harm(world: &World, before: &Snapshot, after: &Snapshot, ours: &BTreeSet<i32>, verdict: &mut Verdict) {
    let own = i32::try_from(std::process::id()).unwrap_or(0);
    for (pid, process) in before.processes.iter().filter(|(pid, _)| !ours.contains(pid) && **pid != own) {
        verdict.bystanders += 1;
        match after.processes.get(pid) {
            Some(now) if now == process => {}
            Some(now) => verdict.harmed.push(format!("process {pid} ({}) changed: {now:?}", process.name)),
            None => verdict.harmed.push(format!("process {pid} ({}) is gone", process.name)),
        }
    }
    cut_off(world, before, after, ours, verdict);
    let mine: BTreeSet<&PathBuf> = world.mounts.iter().collect();
    for (id, point) in before.mounts.iter().filter(|(_, point)| !mine.contains(point)) {
        verdict.bystanders += 1;
        if after.mounts.get(id) != Some(point) {
            verdict.harmed.push(format!("mount {id} at {point:?} is gone"));
        }
    }
    for device in world.devices.iter().filter(|device| !device.is_ours) {
        verdict.bystanders += 1;
        if !device.is_attached() {
            verdict.harmed.push(format!("the loop device {} is gone", device.node));
        }
    }
    for (group, looks) in &before.groups {
        if is_own_group(world, group) || group.file_name().is_some_and(|n| SHARED.iter().any(|s| n == *s)) {
            continue;
        }
        verdict.bystanders += 1;
        if after.groups.get(group) != Some(looks) {
            verdict.harmed.push(format!("group {} changed: {:?}", group.display(), after.groups.get(group)));
        }
    }
    for (path, looks) in
        before.files.iter().filter(|(path, _)| !SKELETON.iter().any(|own| *path == Path::new(own)))
    {
        verdict.bystanders += 1;
        if after.files.get(path) != Some(looks) {
            verdict.harmed.push(format!("{path:?} changed from '{looks}' to {:?}", after.files.get(path)));
        }
    }
}

/// Links that are gone: in the machine's own network namespace, and in those of bystanders.
fn cut_off(world: &World, before: &Snapshot, after: &Snapshot, ours: &BTreeSet<i32>, verdict: &mut Verdict) {
    let others = before.processes.iter().filter(|(pid, _)| !ours.contains(pid));
    let networks: BTreeSet<u64> = others.map(|(_, process)| process.network).collect();
    for (network, link) in before.links.iter().flat_map(|(n, links)| links.iter().map(move |link| (n, link)))
    {
        if !networks.contains(network) || world.links.contains(link) {
            continue;
        }
        verdict.bystanders += 1;
        if !after.links.get(network).is_some_and(|links| links.contains(link)) {
            verdict.harmed.push(format!("link {link} in the network namespace {network} is gone"));
        }
    }
}

fn is_own_group(world: &World, group: &Path) -> bool {
    world.leaves.iter().any(|leaf| group.starts_with(leaf)) || world.pods.iter().any(|pod| pod == group)
}

#[derive(Debug)]
enum Item {
    Process(i32, String),
    Mount(PathBuf),
    Group(PathBuf),
    Path(PathBuf),
    /// A root outside of the snap's directories in which something is left, if only a user's.
    Moved(PathBuf),
    Link(String),
    /// A loop device, by its name.
    Device(String),
    /// A mount that is in no table any more, and in use: by this process.
    Busy(PathBuf, i32),
}

impl std::fmt::Display for Item {
    fn fmt(&self, out: &mut std::fmt::Formatter) -> std::fmt::Result {
        match self {
            Item::Process(pid, name) => write!(out, "process {pid} ({name})"),
            Item::Mount(point) => write!(out, "mount {point:?}"),
            Item::Group(path) => write!(out, "group {}", path.display()),
            Item::Path(path) => write!(out, "path {}", path.display()),
            Item::Moved(path) => write!(out, "the place {}", path.display()),
            Item::Link(name) => write!(out, "link {name}"),
            Item::Device(name) => write!(out, "device {name}"),
            Item::Busy(point, pid) => write!(out, "mount {point:?}, in use by {pid}"),
        }
    }
}

fn left(world: &World, before: &Snapshot, after: &Snapshot, ours: &BTreeSet<i32>) -> Vec<Item> {
    let mut left = Vec::new();
    for pid in ours {
        // A number may be another's by now.
        if let (Some(was), Some(now)) = (before.processes.get(pid), after.processes.get(pid))
            && was.start == now.start
        {
            left.push(Item::Process(*pid, now.name.clone()));
        }
    }
    for group in after.groups.keys() {
        let at_or_below = world.leaves.iter().any(|leaf| group.starts_with(leaf));
        for pid in pids_in(group).into_iter().filter(|pid| at_or_below && !ours.contains(pid)) {
            left.push(Item::Process(pid, "new in a group of ours".into()));
        }
        if at_or_below || world.pods.contains(group) {
            left.push(Item::Group(group.clone()));
        }
    }
    let points: BTreeSet<&PathBuf> = after.mounts.values().collect();
    left.extend(world.mounts.iter().filter(|point| points.contains(point)).map(|p| Item::Mount(p.clone())));
    let on_host: BTreeSet<PathBuf> = mounts_of("1").unwrap_or_default().into_values().collect();
    left.extend(
        world.on_host.iter().filter(|point| on_host.contains(*point)).map(|p| Item::Mount(p.clone())),
    );
    for (point, pid) in &world.busy {
        if after.processes.contains_key(pid) && !points.contains(point) {
            left.push(Item::Busy(point.clone(), *pid));
        }
    }
    let links: BTreeSet<&String> = after.links.values().flatten().collect();
    left.extend(world.links.iter().filter(|name| links.contains(name)).map(|n| Item::Link(n.clone())));
    let devices = world.devices.iter().filter(|device| device.is_ours && device.is_attached());
    left.extend(devices.map(|device| Item::Device(device.node.clone())));
    let is_used = |place: &&PathBuf| place.read_dir().is_ok_and(|mut names| names.next().is_some());
    left.extend(world.moved.iter().filter(is_used).map(|place| Item::Moved(place.clone())));
    left.extend(
        world.paths.iter().filter(|path| path.symlink_metadata().is_ok()).map(|p| Item::Path(p.clone())),
    );
    left
}

/// Compares what is left with what the report says, and both with the exit status.
fn truth(world: &World, left: &[Item], ended: &Ended, report: Option<&Value>, verdict: &mut Verdict) {
    let unproven = is_unproven(world);
    let blind = report.into_iter().flat_map(|report| each(&report["steps"]));
    let blind: Vec<&Value> = blind.flat_map(|step| each(&step["blind"])).collect();
    // A path that is in doubt, where the world has a reason for that.
    let is_doubt = |blind: &Value, path: &Path| is_named(blind, path) && is_right(world, blind);
    let doubted = |item: &Item| matches!(item, Item::Path(path) if blind.iter().any(|it| is_doubt(it, path)));
    let excused = |item: &Item| match item {
        Item::Busy(..) | Item::Moved(_) => true,
        _ if doubted(item) => true,
        // While they live, what they use stays.
        _ if unproven => true,
        Item::Mount(point) => world.on_host.contains(point),
        // A mount in use keeps the data below which it might lie; one that only the host can unmount, too.
        Item::Path(path) => {
            let is_data = path.starts_with(COMMON) || path.starts_with("/mnt/linked");
            is_data && !(world.busy.is_empty() && world.on_host.is_empty())
        }
        _ => false,
    };
    verdict.unexcused = left.iter().filter(|item| !excused(item)).map(Item::to_string).collect();
    let Some(report) = report else {
        verdict.outcome = "none".into();
        // A hook that did nothing and had nothing to do need not write a document.
        if !left.is_empty() {
            verdict.lies.push("something is left, and there is no document".into());
        }
        return;
    };
    verdict.outcome = report["outcome"].as_str().unwrap_or("?").to_owned();
    let told: Vec<&Value> = each(&report["steps"]).flat_map(|step| each(&step["left"])).collect();
    for text in &mut verdict.unexcused {
        // With the reason that the report gives for it, so that one line is enough to begin with.
        let item = left.iter().find(|item| item.to_string() == *text);
        let entry = item.and_then(|item| told.iter().find(|residue| speaks_of(residue, item)));
        if let Some(why) = entry.and_then(|entry| entry["why"].as_str()) {
            text.push_str(&format!(": {why}"));
        }
    }
    let unseen: Vec<&Path> = blind.iter().filter_map(|it| it["what"].as_str().map(Path::new)).collect();
    for item in left {
        // A root file system is told with the bundle that it is in.
        if let Item::Mount(point) = item
            && point.ancestors().any(|above| above.parent().is_some() && unseen.contains(&above))
        {
            continue;
        }
        // The network of a container in doubt, and what it has in directories that all runtimes share, is told with that.
        let with_container = unproven
            && match item {
                Item::Process(..) | Item::Group(_) | Item::Link(_) => true,
                Item::Mount(point) => point.starts_with("/run/netns"),
                Item::Path(path) => !path.starts_with("/var/snap"),
                _ => false,
            };
        if !with_container && !doubted(item) && !told.iter().any(|residue| speaks_of(residue, item)) {
            verdict.lies.push(format!("not told: {item}"));
        }
    }
    for residue in &told {
        if let Some(why) = untrue(&residue["residue"]) {
            verdict.lies.push(format!("told, and not so ({why}): {}", residue["residue"]));
        }
    }
    let expected = match (verdict.outcome.as_str(), left.iter().all(doubted)) {
        ("clean", true) => Some(0),
        ("residue", false) => Some(1),
        ("blind", true) => Some(3),
        _ => None,
    };
    if expected.is_none() || ended.status != expected {
        verdict.lies.push(format!(
            "outcome {}, status {:?}, {} left",
            verdict.outcome,
            ended.status,
            left.len()
        ));
    }
    let notes = report["notes"].to_string();
    for place in world.linked.iter().filter(|place| place.exists()) {
        if !notes.contains(&*place.to_string_lossy()) {
            verdict.lies.push(format!("not noted: the place {}", place.display()));
        }
    }
    if verdict.outcome == "clean" {
        verdict.lies.extend(world.must_doubt.iter().map(|word| format!("clean, and no doubt of {word}")));
    }
    if verdict.outcome == "blind"
        && let Some(why) = blind.iter().find(|blind| !is_right(world, blind))
    {
        verdict.unexcused.push(format!("blind without need: {why}"));
    }
}
