//! The independent checker: what is really there before and after, whose it was, and whether the report tells the truth.
//!
//! It shares no code with the program under test. Everything that its world does not call ours is somebody else's, so
//! that what nobody thought of counts as harmed too.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::worlds::{COMMON, DEADLINE, World, pids_in, start_time};
use support::Result;
use support::hook::Ended;
use support::world::machines_own;

/// Nobody promises that a groups above the pods' stays or goes; nor what runs for the test itself.
const SHARED: &[&str] =
    &["kubepods", "burstable", "besteffort", "kubepods.slice", "kubepods-burstable.slice"];

/// What a runtime makes for itself: ours leaves these directories empty, and no other one runs here.
const SKELETON: &[&str] = &[
    "/run/containerd",
    "/run/containerd/fifo",
    "/run/containerd/runc",
    "/run/containerd/runc/k8s.io",
    "/run/containerd/s",
];

#[derive(PartialEq, Eq, Clone, Debug)]
struct Process {
    start: u64,
    /// True if something keeps it from running.
    still: bool,
    name: String,
}

/// The machine at one moment.
#[derive(Clone)]
pub struct Snapshot {
    processes: BTreeMap<i32, Process>,
    mounts: BTreeMap<u64, PathBuf>,
    groups: BTreeMap<PathBuf, String>,
    files: BTreeMap<PathBuf, String>,
    /// Processes of ours: in a group of ours, or known by number.
    owned: BTreeSet<i32>,
}

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

impl Snapshot {
    /// True if the number was one of ours then.
    #[allow(dead_code)] // only where numbers are few
    pub fn is_ours(&self, pid: i32) -> bool {
        self.owned.contains(&pid)
    }

    /// A process that the test itself has stopped since.
    #[allow(dead_code)] // only where something is stopped
    pub fn stopped(&mut self, pid: i32) {
        if let Some(process) = self.processes.get_mut(&pid) {
            process.still = true;
        }
    }

    pub fn take(world: &World) -> Result<Snapshot> {
        let mut snapshot = Snapshot {
            processes: processes()?,
            mounts: mounts()?,
            groups: BTreeMap::new(),
            files: BTreeMap::new(),
            owned: BTreeSet::new(),
        };
        groups(Path::new("/sys/fs/cgroup"), &mut snapshot.groups)?;
        snapshot.owned = owned(world, &snapshot);
        let machines = machines_own()?;
        let ours: BTreeSet<&Path> = [&world.paths, &world.mounts, &world.hidden, &machines]
            .into_iter()
            .flatten()
            .map(PathBuf::as_path)
            .collect();
        for root in ["/var", "/run", "/srv", "/home", "/opt", "/root", "/snap", "/tmp", "/dev/shm"] {
            files(Path::new(root), &ours, &mut snapshot.files)?;
        }
        Ok(snapshot)
    }
}

fn processes() -> Result<BTreeMap<i32, Process>> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir("/proc")? {
        let Ok(pid) = entry?.file_name().to_string_lossy().parse::<i32>() else { continue };
        let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { continue };
        let Some((head, tail)) = stat.rsplit_once(") ") else { continue };
        let state = tail.chars().next().unwrap_or('?');
        if state == 'Z' || state == 'X' {
            continue;
        }
        let frozen = frozen(pid);
        let name = head.split_once('(').map_or("", |(_, name)| name).to_owned();
        all.insert(pid, Process { start: start_time(pid)?, still: "Tt".contains(state) || frozen, name });
    }
    Ok(all)
}

/// True if the process is in a frozen group of the unified hierarchy.
fn frozen(pid: i32) -> bool {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    let Some(group) = text.lines().find_map(|line| line.strip_prefix("0::")) else { return false };
    let top = if Path::new("/sys/fs/cgroup/unified").exists() {
        "/sys/fs/cgroup/unified"
    } else {
        "/sys/fs/cgroup"
    };
    let events = fs::read_to_string(format!("{top}{group}/cgroup.events")).unwrap_or_default();
    events.contains("frozen 1")
}

fn mounts() -> Result<BTreeMap<u64, PathBuf>> {
    let mut all = BTreeMap::new();
    for line in fs::read("/proc/self/mountinfo")?.split(|byte| *byte == b'\n').filter(|line| !line.is_empty())
    {
        let fields: Vec<_> = line.split(|byte| *byte == b' ').collect();
        let id = String::from_utf8_lossy(fields[0]).parse()?;
        all.insert(id, unescape(fields[4]));
    }
    Ok(all)
}

fn unescape(field: &[u8]) -> PathBuf {
    let (mut bytes, mut at) = (Vec::new(), 0);
    while at < field.len() {
        let octal = field.get(at + 1..at + 4).filter(|_| field[at] == b'\\');
        match octal.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok()) {
            Some(byte) => {
                bytes.push(byte);
                at += 4;
            }
            None => {
                bytes.push(field[at]);
                at += 1;
            }
        }
    }
    PathBuf::from(std::ffi::OsString::from_vec(bytes))
}

fn groups(dir: &Path, all: &mut BTreeMap<PathBuf, String>) -> Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let path = entry.path();
        if !entry.file_type()?.is_dir() {
            continue;
        }
        let read = |file| fs::read_to_string(path.join(file)).unwrap_or_default();
        // Who is in it is told by the processes; only that it is frozen is its own.
        all.insert(path.clone(), format!("{}{}", read("cgroup.freeze"), read("freezer.state")));
        groups(&path, all)?;
    }
    Ok(())
}

fn files(path: &Path, ours: &BTreeSet<&Path>, all: &mut BTreeMap<PathBuf, String>) -> Result<()> {
    if ours.contains(path) || path.starts_with("/run/snap.microk8s") {
        return Ok(());
    }
    let Ok(metadata) = fs::symlink_metadata(path) else { return Ok(()) };
    let kind = metadata.file_type();
    let head = format!("{:o} {}:{}", metadata.mode(), metadata.uid(), metadata.gid());
    let looks = if kind.is_symlink() {
        format!("{head} -> {:?}", fs::read_link(path)?)
    } else if kind.is_file() {
        let mut hasher = DefaultHasher::new();
        fs::read(path)?.hash(&mut hasher);
        format!("{head} {} bytes {:x}", metadata.len(), hasher.finish())
    } else if kind.is_fifo() || kind.is_socket() {
        format!("{head} special")
    } else {
        head
    };
    all.insert(path.to_path_buf(), looks);
    if kind.is_dir() {
        for entry in fs::read_dir(path)? {
            files(&entry?.path(), ours, all)?;
        }
    }
    Ok(())
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

fn owned(world: &World, now: &Snapshot) -> BTreeSet<i32> {
    let mut ours: BTreeSet<i32> =
        world.pids.iter().copied().filter(|pid| now.processes.contains_key(pid)).collect();
    for group in now.groups.keys().filter(|group| world.leaves.iter().any(|leaf| group.starts_with(leaf))) {
        ours.extend(pids_in(group));
    }
    ours
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
    let mine: BTreeSet<&PathBuf> = world.mounts.iter().collect();
    for (id, point) in before.mounts.iter().filter(|(_, point)| !mine.contains(point)) {
        verdict.bystanders += 1;
        if after.mounts.get(id) != Some(point) {
            verdict.harmed.push(format!("mount {id} at {point:?} is gone"));
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

fn is_own_group(world: &World, group: &Path) -> bool {
    world.leaves.iter().any(|leaf| group.starts_with(leaf)) || world.pods.iter().any(|pod| pod == group)
}

#[derive(Debug)]
enum Item {
    Process(i32, String),
    Mount(PathBuf),
    Group(PathBuf),
    Path(PathBuf),
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
    for (point, pid) in &world.busy {
        if after.processes.contains_key(pid) && !points.contains(point) {
            left.push(Item::Busy(point.clone(), *pid));
        }
    }
    left.extend(
        world.paths.iter().filter(|path| path.symlink_metadata().is_ok()).map(|p| Item::Path(p.clone())),
    );
    left
}

/// Compares what is left with what the report says, and both with the exit status.
fn truth(world: &World, left: &[Item], ended: &Ended, report: Option<&Value>, verdict: &mut Verdict) {
    let unproven = is_unproven(world);
    let excused = |item: &Item| match item {
        Item::Busy(..) => true,
        // While they live, what they use stays.
        _ if unproven => true,
        // A mount in use keeps the data below which it might lie.
        Item::Path(path) => !world.busy.is_empty() && path.starts_with(COMMON),
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
    for item in left {
        let doubted = unproven && matches!(item, Item::Process(..) | Item::Group(_));
        if !doubted && !told.iter().any(|residue| speaks_of(residue, item)) {
            verdict.lies.push(format!("not told: {item}"));
        }
    }
    for residue in &told {
        if let Some(why) = untrue(&residue["residue"]) {
            verdict.lies.push(format!("told, and not so ({why}): {}", residue["residue"]));
        }
    }
    let expected = match (verdict.outcome.as_str(), left.is_empty()) {
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
    let mut blind = each(&report["steps"]).flat_map(|step| each(&step["blind"]));
    if verdict.outcome == "blind"
        && let Some(why) = blind.find(|blind| !is_of_a_user(blind))
    {
        verdict.unexcused.push(format!("blind without need: {why}"));
    }
}

/// True where nothing proves whose containers live: their shims and runc's states are gone, and another instance of the snap
/// has the same paths. They are told as doubts.
fn is_unproven(world: &World) -> bool {
    ["parallel-instance", "shim-killed", "state-deleted"]
        .iter()
        .all(|feature| world.features.contains(*feature))
}

/// A mount that a user has put into the snap's directories: nothing says whose it is, and it keeps snapd from removing them.
fn is_of_a_user(blind: &Value) -> bool {
    blind["why"].as_str().is_some_and(|why| why.starts_with("it lies in the snap's directories"))
}

fn each(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// A path as the document writes it: text, or bytes where it is none.
fn path_of(value: &Value) -> PathBuf {
    match value {
        Value::String(text) => PathBuf::from(text),
        Value::Array(bytes) => {
            let bytes = bytes.iter().filter_map(|byte| byte.as_u64()).map(|byte| byte as u8).collect();
            PathBuf::from(std::ffi::OsString::from_vec(bytes))
        }
        Value::Object(map) => map.values().next().map(path_of).unwrap_or_default(),
        _ => PathBuf::new(),
    }
}

fn same(value: &Value, path: &Path) -> bool {
    path_of(value).as_os_str().as_bytes() == path.as_os_str().as_bytes()
}

/// True if an entry of the report tells of an item, with who holds it where somebody does.
fn speaks_of(left: &Value, item: &Item) -> bool {
    let residue = &left["residue"];
    let kind = residue["kind"].as_str().unwrap_or_default();
    match item {
        Item::Process(pid, _) => {
            let number = |value: &Value| value["pid"].as_i64() == Some(i64::from(*pid));
            number(&residue["process"]) || each(&residue["processes"]).any(number)
        }
        Item::Mount(point) => matches!(kind, "mount" | "detached") && same(&residue["point"], point),
        Item::Group(path) => {
            kind == "cgroup" && same(&residue["path"], path)
                || each(&residue["groups"]).any(|g| same(g, path))
        }
        Item::Path(path) => {
            path.starts_with(path_of(&residue["path"])) && !same(&residue["path"], Path::new(""))
        }
        Item::Busy(point, pid) => {
            let mut holders = each(&residue["holders"]).chain(each(&left["holders"]));
            same(&residue["point"], point)
                && holders.any(|holder| holder["process"]["pid"].as_i64() == Some(i64::from(*pid)))
        }
    }
}

/// Why a residue that the report tells of is not there.
fn untrue(residue: &Value) -> Option<String> {
    let alive = |id: &Value| {
        let pid = id["pid"].as_i64().unwrap_or(0) as i32;
        start_time(pid).ok() == id["start"].as_u64()
    };
    match residue["kind"].as_str().unwrap_or_default() {
        "mount" => {
            let point = path_of(&residue["point"]);
            let there = mounts().is_ok_and(|all| all.values().any(|p| *p == point));
            (!there).then(|| "no such mount".into())
        }
        "cgroup" | "path" => {
            let path = path_of(&residue["path"]);
            path.symlink_metadata().err().map(|e| e.to_string())
        }
        "shim" | "process" => (!alive(&residue["process"])).then(|| "it has ended".into()),
        "task" | "service" => (!each(&residue["processes"]).any(alive)).then(|| "all have ended".into()),
        _ => None,
    }
}
