//! A picture of the whole machine, and the difference of two.
//!
//! The oracle is the machine as it was: nothing here knows what a container runtime leaves, where, or whose it is. One
//! picture is taken before the first thing of a snap exists, one when it should be gone; what the second has more, less
//! or otherwise was made by the snap. No code is shared with the program under test. It needs the standard library and
//! the programs ip, nft, iptables, nsenter; what else it finds (ipset, ipvsadm, conntrack, dmsetup) it asks as well.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

mod machine;
mod network;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Kind {
    Process,
    Mount,
    Cgroup,
    Link,
    Address,
    Route,
    /// A firewall rule, chain, set, table or virtual server.
    Rule,
    /// A permanent neighbour or forwarding entry, or a tunnel's state and policy.
    Neighbour,
    Conntrack,
    /// A bound socket.
    Socket,
    /// A block device with something behind it.
    Device,
    /// System V shared memory, semaphores, queues.
    Ipc,
    Setting,
    /// Something that is systemd's or AppArmor's.
    Loaded,
    File,
}

/// One thing of the machine: its kind, and a name that is its own for as long as it exists.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Thing {
    pub kind: Kind,
    pub name: String,
    /// What may change without its being another thing, and matters.
    pub looks: String,
    /// The path, for what has one.
    pub path: PathBuf,
}

/// What a picture leaves out.
#[derive(Clone, Default)]
pub struct Options {
    /// Trees of the one who looks, and of the machine's own programs.
    pub without: Vec<PathBuf>,
    /// Trees whose files' contents count, not only their names.
    pub contents: Vec<PathBuf>,
    /// True in a private world: block devices are the whole machine's, and those over other file systems are not ours to see.
    pub world: bool,
}

#[derive(Clone, Default)]
pub struct Picture {
    things: BTreeMap<(Kind, String), Thing>,
    options: Options,
}

/// What one picture has and the other has not.
#[derive(Clone, Default)]
pub struct Difference {
    pub more: Vec<Thing>,
    pub less: Vec<Thing>,
    /// There in both, looking otherwise: as it looks now, and as it looked.
    pub other: Vec<(Thing, String)>,
}

impl Picture {
    pub fn take(options: &Options) -> Result<Picture> {
        let mut picture = Picture { options: options.clone(), ..Picture::default() };
        picture.processes()?;
        picture.mounts()?;
        picture.groups()?;
        picture.links()?;
        picture.rules();
        picture.sockets()?;
        picture.devices()?;
        picture.loaded();
        for tree in ["/proc/sys/kernel", "/proc/sys/net", "/proc/sys/vm"] {
            picture.settings(Path::new(tree));
        }
        picture.files(Path::new("/"), &tables_of(Path::new("/proc/self/mountinfo")));
        Ok(picture)
    }

    /// What has come, gone and changed since `before`.
    pub fn since(&self, before: &Picture) -> Difference {
        let new = |key: &(Kind, String)| !before.things.contains_key(key);
        let links: BTreeSet<String> = self
            .things
            .iter()
            .filter(|(key, thing)| thing.kind == Kind::Link && new(key))
            .filter_map(|(_, thing)| thing.name.split(' ').nth(1).map(str::to_owned))
            .collect();
        // What the kernel keeps for a link goes with it.
        let of_a_link = |thing: &Thing| match thing.kind {
            Kind::Setting => thing.path.iter().any(|part| links.contains(&*part.to_string_lossy())),
            Kind::Neighbour => thing.name.split(' ').any(|word| links.contains(word)),
            _ => false,
        };
        let more = self.things.iter().filter(|(key, thing)| new(key) && !of_a_link(thing));
        let less = before.things.iter().filter(|(key, _)| !self.things.contains_key(key));
        let other = self.things.iter().filter_map(|(key, now)| {
            let was = before.things.get(key)?;
            (was.looks != now.looks).then(|| (now.clone(), was.looks.clone()))
        });
        Difference {
            more: more.map(|(_, thing)| thing.clone()).collect(),
            less: less.map(|(_, thing)| thing.clone()).collect(),
            other: other.collect(),
        }
    }

    /// Takes over what has come and changed between two later looks: somebody else's doing, after the picture. With a link of
    /// his comes what the kernel keeps for it.
    pub fn adopt(&mut self, now: &Picture, earlier: &Picture) {
        for (key, thing) in &now.things {
            let was = earlier.things.get(key);
            let changed = was.is_some_and(|was| was.looks != thing.looks) && self.things.contains_key(key);
            if was.is_none() || changed {
                self.things.insert(key.clone(), thing.clone());
            }
        }
        self.things.retain(|key, _| !earlier.things.contains_key(key) || now.things.contains_key(key));
    }

    /// The picture without some things.
    pub fn without(&self, these: impl Fn(&Thing) -> bool) -> Picture {
        let mut rest = self.clone();
        rest.things.retain(|_, thing| !these(thing));
        rest
    }

    pub fn any(&self, is: impl Fn(&Thing) -> bool) -> bool {
        self.things.values().any(is)
    }

    pub fn has(&self, kind: Kind, name: &str) -> bool {
        self.things.contains_key(&(kind, name.to_owned()))
    }

    fn add(&mut self, kind: Kind, name: String, looks: impl Into<String>) {
        self.add_at(kind, name, looks, PathBuf::new());
    }

    fn add_at(&mut self, kind: Kind, name: String, looks: impl Into<String>, path: PathBuf) {
        let thing = Thing { kind, name: name.clone(), looks: looks.into(), path };
        self.things.insert((kind, name), thing);
    }

    /// All but the kernel's threads. What has ended and only waits for its parent is no process any more.
    fn processes(&mut self) -> Result<()> {
        const KERNEL_THREAD: u64 = 0x0020_0000;
        for pid in pids()? {
            // One that ends while we look is not there.
            let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { continue };
            let Some((head, tail)) = stat.rsplit_once(") ") else { continue };
            let fields: Vec<_> = tail.split_whitespace().collect();
            let flags: u64 = fields[6].parse()?;
            if matches!(fields[0], "Z" | "X") || flags & KERNEL_THREAD != 0 {
                continue;
            }
            let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
            let stopped = if matches!(fields[0], "T" | "t") { " stopped" } else { "" };
            let name = head.split_once('(').map_or("", |(_, name)| name);
            let group = groups.lines().last().unwrap_or_default();
            self.add(
                Kind::Process,
                format!("process {pid} started {}", fields[19]),
                format!("({name}){stopped} in {group}"),
            );
        }
        Ok(())
    }

    /// In every mount namespace that a process is in, and in those that are kept by a bind alone.
    fn mounts(&mut self) -> Result<()> {
        let mut seen = BTreeSet::new();
        for pid in pids()? {
            let Ok(namespace) = fs::read_link(format!("/proc/{pid}/ns/mnt")) else { continue };
            if seen.insert(namespace.clone()) {
                self.table(&tables_of(Path::new(&format!("/proc/{pid}/mountinfo"))), &namespace);
            }
        }
        for kept in
            tables_of(Path::new("/proc/self/mountinfo")).iter().filter(|m| m.root.starts_with("mnt:["))
        {
            if seen.insert(PathBuf::from(&kept.root)) {
                let at = format!("--mount={}", kept.point.display());
                if let Some(text) = run(&["nsenter", &at, "cat", "/proc/self/mountinfo"]) {
                    self.table(&parse(&text), Path::new(&kept.root));
                }
            }
        }
        Ok(())
    }

    fn table(&mut self, table: &[Mount], namespace: &Path) {
        for mount in table {
            let name = format!("mount {} at {} in {}", mount.id, mount.point.display(), namespace.display());
            let looks = format!("{} of {} ({})", mount.root, mount.source, mount.kind);
            self.add_at(Kind::Mount, name, looks, mount.point.clone());
        }
    }

    fn groups(&mut self) -> Result<()> {
        let tops: BTreeSet<PathBuf> = tables_of(Path::new("/proc/self/mountinfo"))
            .into_iter()
            .filter(|mount| mount.kind.starts_with("cgroup"))
            .map(|mount| mount.point)
            .collect();
        for top in tops {
            self.groups_below(&top)?;
        }
        Ok(())
    }

    fn groups_below(&mut self, dir: &Path) -> Result<()> {
        let Ok(entries) = fs::read_dir(dir) else { return Ok(()) };
        for entry in entries.flatten().filter(|entry| entry.file_type().is_ok_and(|t| t.is_dir())) {
            let path = entry.path();
            let read = |file| fs::read_to_string(path.join(file)).unwrap_or_default();
            let frozen =
                read("cgroup.freeze").starts_with('1') || read("freezer.state").starts_with("FROZEN");
            let looks = if frozen { "frozen" } else { "" };
            self.add_at(Kind::Cgroup, format!("group {}", path.display()), looks, path.clone());
            self.groups_below(&path)?;
        }
        Ok(())
    }
}

pub struct Mount {
    pub id: u64,
    pub device: String,
    pub root: String,
    pub point: PathBuf,
    pub kind: String,
    pub source: String,
}

pub fn tables_of(file: &Path) -> Vec<Mount> {
    parse(&String::from_utf8_lossy(&fs::read(file).unwrap_or_default()))
}

fn parse(text: &str) -> Vec<Mount> {
    text.lines()
        .filter_map(|line| {
            let (before, after) = line.split_once(" - ")?;
            let (before, after): (Vec<_>, Vec<_>) = (before.split(' ').collect(), after.split(' ').collect());
            Some(Mount {
                id: before.first()?.parse().ok()?,
                device: (*before.get(2)?).to_owned(),
                root: plain(before.get(3)?),
                point: plain(before.get(4)?).into(),
                kind: (*after.first()?).to_owned(),
                source: plain(after.get(1)?),
            })
        })
        .collect()
}

/// Blanks and the like, as the kernel writes them.
fn plain(field: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(field.to_owned(), |text, (written, meant)| text.replace(written, meant))
}

fn pids() -> Result<Vec<u32>> {
    Ok(fs::read_dir("/proc")?
        .flatten()
        .filter_map(|e| e.file_name().to_string_lossy().parse().ok())
        .collect())
}

fn names(dir: impl AsRef<Path>) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// What a program prints; none if it is not here, or complains.
fn run(words: &[&str]) -> Option<String> {
    let mut command = Command::new(words[0]);
    let output = command.args(&words[1..]).env("PATH", PATH).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The last place is where the tests fetch what the machine has not installed.
const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin:/opt/others/bin";

impl Difference {
    pub fn is_empty(&self) -> bool {
        self.more.is_empty() && self.less.is_empty() && self.other.is_empty()
    }

    /// Without those that `kept` refuses.
    pub fn only(&self, kept: impl Fn(&Thing) -> bool) -> Difference {
        Difference {
            more: self.more.iter().filter(|t| kept(t)).cloned().collect(),
            less: self.less.iter().filter(|t| kept(t)).cloned().collect(),
            other: self.other.iter().filter(|(t, _)| kept(t)).cloned().collect(),
        }
    }

    pub fn count(&self, kind: Kind) -> usize {
        self.more.iter().filter(|thing| thing.kind == kind).count()
    }
}

impl fmt::Display for Thing {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        write!(out, "{:?}: {} {}", self.kind, self.name, self.looks)
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        let limit = out.precision().unwrap_or(usize::MAX);
        let mut shown: BTreeMap<(char, Kind), usize> = BTreeMap::new();
        let changed = |(now, was): &(Thing, String)| ('~', now.kind, format!("{now}, was {was}"));
        let lines = self.more.iter().map(|t| ('+', t.kind, t.to_string()));
        let lines = lines
            .chain(self.less.iter().map(|t| ('-', t.kind, t.to_string())))
            .chain(self.other.iter().map(changed));
        for (sign, kind, line) in lines {
            let n = shown.entry((sign, kind)).or_default();
            *n += 1;
            if *n <= limit {
                writeln!(out, "  {sign} {line}")?;
            }
        }
        for ((sign, kind), n) in shown.iter().filter(|(_, n)| **n > limit) {
            writeln!(out, "  {sign} {kind:?}: {} more", n - limit)?;
        }
        Ok(())
    }
}
