//! The machine at one moment, as it is seen without any code of the program under test.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use crate::worlds::{World, pids_in, start_time};
use support::Result;
use support::world::machines_own;

#[derive(PartialEq, Eq, Clone, Debug)]
pub struct Process {
    pub start: u64,
    /// True if something keeps it from running.
    still: bool,
    pub name: String,
    /// The network namespace that it is in.
    pub network: u64,
}

/// The machine at one moment.
#[derive(Clone)]
pub struct Snapshot {
    pub processes: BTreeMap<i32, Process>,
    pub mounts: BTreeMap<u64, PathBuf>,
    pub groups: BTreeMap<PathBuf, String>,
    pub files: BTreeMap<PathBuf, String>,
    /// The links in each network namespace that a process is in.
    pub links: BTreeMap<u64, BTreeSet<String>>,
    /// Processes of ours: in a group of ours, or known by number.
    pub owned: BTreeSet<i32>,
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
            links: BTreeMap::new(),
            owned: BTreeSet::new(),
        };
        groups(Path::new("/sys/fs/cgroup"), &mut snapshot.groups)?;
        snapshot.links = links(&snapshot.processes);
        snapshot.owned = owned(world, &snapshot);
        let machines = machines_own()?;
        let ours: BTreeSet<&Path> = [&world.paths, &world.mounts, &world.hidden, &world.either, &machines]
            .into_iter()
            .flatten()
            .map(PathBuf::as_path)
            .collect();
        for root in ["/var", "/run", "/srv", "/mnt", "/home", "/opt", "/root", "/snap", "/tmp", "/dev/shm"] {
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
        let network = fs::metadata(format!("/proc/{pid}/ns/net")).map_or(0, |namespace| namespace.ino());
        let Ok(start) = start_time(pid) else { continue };
        all.insert(pid, Process { start, still: "Tt".contains(state) || frozen, name, network });
    }
    Ok(all)
}

fn links(processes: &BTreeMap<i32, Process>) -> BTreeMap<u64, BTreeSet<String>> {
    let mut all = BTreeMap::new();
    for (pid, process) in processes {
        all.entry(process.network).or_insert_with(|| {
            // Two lines of headings, then `name: numbers`.
            let text = fs::read_to_string(format!("/proc/{pid}/net/dev")).unwrap_or_default();
            let names = text.lines().skip(2).filter_map(|line| line.split_once(':'));
            names.map(|(name, _)| name.trim().to_owned()).collect()
        });
    }
    all
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

pub fn mounts() -> Result<BTreeMap<u64, PathBuf>> {
    mounts_of("self")
}

/// Those in the mount namespace of a process.
pub fn mounts_of(pid: &str) -> Result<BTreeMap<u64, PathBuf>> {
    let mut all = BTreeMap::new();
    for line in fs::read(format!("/proc/{pid}/mountinfo"))?
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
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
        // What a namespace is bound over cannot be read.
        fs::read(path).ok().hash(&mut hasher);
        format!("{head} {} bytes {:x}", metadata.len(), hasher.finish())
    } else if kind.is_fifo() || kind.is_socket() {
        // A socket that was made anew is another one.
        format!("{head} special {}", metadata.ino())
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

fn owned(world: &World, now: &Snapshot) -> BTreeSet<i32> {
    let mut ours: BTreeSet<i32> =
        world.pids.iter().copied().filter(|pid| now.processes.contains_key(pid)).collect();
    for group in now.groups.keys().filter(|group| world.leaves.iter().any(|leaf| group.starts_with(leaf))) {
        ours.extend(pids_in(group));
    }
    ours
}
