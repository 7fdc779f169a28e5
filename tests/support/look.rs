//! An independent look at a world: everything a container runtime can leave, listed without asking whose it is.
//!
//! It shares no code and no idea of ownership with the program under test. What is ours is the difference of two looks:
//! before our runtime was started, and after its pods were made. In a private world, which holds only what its test put
//! there, that is all (`now`); on a whole machine tests/tools/src/bin/leftovers tells the machine's own doings apart.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::Result;
use super::machine::{self, Process, names};
use super::runtime::output;

/// Where snapd binds the mount namespace of the snap, in the scenes that give it one.
pub const NAMESPACE: &str = "/run/snapd/ns/microk8s.mnt";

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Kind {
    Shim,
    Process,
    Mount,
    Cgroup,
    Socket,
    RuncState,
    Fifo,
    Bundle,
    Data,
    Netns,
    Link,
    Address,
    Route,
    Rule,
    CniState,
    Loop,
    /// The result of a teardown: the one thing it may leave.
    Report,
    Other,
}

/// What every pod leaves when nothing takes it away.
pub const OF_PODS: [Kind; 14] = {
    use Kind::*;
    [
        Shim, Process, Mount, Cgroup, Socket, RuncState, Bundle, Data, Netns, Link, Address, Route, Rule,
        CniState,
    ]
};

#[derive(Clone)]
pub struct Item {
    pub kind: Kind,
    /// A path, or the name that people have for it.
    pub what: String,
    pub looks: String,
}

/// What was there at one moment, by names that are unique for the life of the thing.
#[derive(Clone, Default)]
pub struct Look(BTreeMap<String, Item>);

impl Look {
    /// All of a private world.
    pub fn now() -> Result<Look> {
        let mut look = Look::without_programs()?;
        look.network()?;
        Ok(look)
    }

    /// What can be seen where neither `ip` nor `iptables-save` is installed: no addresses, routes and firewall rules.
    pub fn without_programs() -> Result<Look> {
        let mut look = Look::default();
        let mount_points = look.mounts()?;
        look.mounts_of_the_snap()?;
        // One of init's that has ended is about to be collected.
        let collected = |process: &Process| process.is_zombie() && process.parent == "1";
        look.processes(machine::processes()?.iter().filter(|process| !collected(process)));
        look.groups()?;
        for root in ["/run", "/var/lib/cni"] {
            look.files(Path::new(root), &mount_points)?;
        }
        for root in ["/var/lib/containerd", "/var/lib/containerd2"] {
            // A containerd that runs collects the garbage in its content store when it pleases.
            for name in names(root)?.into_iter().filter(|name| !name.starts_with("io.containerd.content")) {
                look.files(&Path::new(root).join(name), &mount_points)?;
            }
        }
        for snap in names("/var/snap")? {
            for root in ["run", "var/lib"] {
                look.files(&Path::new("/var/snap").join(&snap).join("common").join(root), &mount_points)?;
            }
        }
        look.links()?;
        Ok(look)
    }

    /// A machine that goes on living: where container runtimes leave things, and no place of anybody else's.
    pub fn of_machine(processes: &[Process]) -> Result<Look> {
        let mut look = Look::default();
        let mount_points = look.mounts()?;
        look.processes(processes.iter());
        look.groups()?;
        for root in ["/run/containerd", "/run/netns", "/var/lib/cni"] {
            look.files(Path::new(root), &mount_points)?;
        }
        for path in machine::bound_sockets()? {
            look.add(Kind::Socket, format!("socket bound at {path}"), path);
        }
        for (name, file) in machine::loops()? {
            let what = format!("{name} {file}");
            look.add(Kind::Loop, format!("loop {what}"), what);
        }
        look.links()?;
        look.network()?;
        Ok(look)
    }

    fn links(&mut self) -> Result<()> {
        for link in names("/sys/class/net")? {
            let index = fs::read_to_string(format!("/sys/class/net/{link}/ifindex")).unwrap_or_default();
            self.add(Kind::Link, format!("{link} ({})", index.trim()), link);
        }
        Ok(())
    }

    fn network(&mut self) -> Result<()> {
        self.addresses_and_routes()?;
        self.rules()
    }

    /// Each thing with its name.
    pub fn items(&self) -> impl Iterator<Item = (&String, &Item)> {
        self.0.iter()
    }

    /// What is here and was not there.
    pub fn minus(&self, other: &Look) -> Look {
        let new = self.0.iter().filter(|(name, _)| !other.0.contains_key(*name));
        Look(new.map(|(name, item)| (name.clone(), item.clone())).collect())
    }

    pub fn add_all(&mut self, other: &Look) {
        self.0.extend(other.0.clone());
    }

    pub fn without(&self, kinds: &[Kind]) -> Look {
        let kept = self.0.iter().filter(|(_, item)| !kinds.contains(&item.kind));
        Look(kept.map(|(name, item)| (name.clone(), item.clone())).collect())
    }

    pub fn only(&self, kinds: &[Kind]) -> Look {
        self.minus(&self.without(kinds))
    }

    pub fn kinds(&self) -> BTreeSet<Kind> {
        self.0.values().map(|item| item.kind).collect()
    }

    pub fn count(&self, kind: Kind) -> usize {
        self.0.values().filter(|item| item.kind == kind).count()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// How many of each kind, in one line.
    pub fn summary(&self) -> String {
        let counts = self.kinds().into_iter().map(|kind| format!("{kind:?} {}", self.count(kind)));
        counts.collect::<Vec<_>>().join(", ")
    }

    fn add(&mut self, kind: Kind, name: String, what: String) {
        self.0.insert(name, Item { kind, what, looks: String::new() });
    }

    fn mounts(&mut self) -> Result<BTreeSet<PathBuf>> {
        self.mount_table(&fs::read_to_string("/proc/self/mountinfo")?, "")
    }

    /// In the scenes that give the snap a mount namespace of its own.
    fn mounts_of_the_snap(&mut self) -> Result<()> {
        if Path::new(NAMESPACE).exists() {
            let mut command = Command::new("/usr/bin/nsenter");
            command.arg(format!("--mount={NAMESPACE}")).args(["/bin/cat", "/proc/self/mountinfo"]);
            let table = output(&mut command)?;
            self.mount_table(&String::from_utf8_lossy(&table), " in the snap's namespace")?;
        }
        Ok(())
    }

    fn mount_table(&mut self, table: &str, of: &str) -> Result<BTreeSet<PathBuf>> {
        let mounts = machine::mounts(table);
        for mount in &mounts {
            let kind = if mount.at.starts_with("/run/netns/") { Kind::Netns } else { Kind::Mount };
            let at = mount.at.display().to_string();
            self.add(kind, format!("mount {} at {at}{of}", mount.id), at);
        }
        Ok(mounts.into_iter().map(|mount| mount.at).collect())
    }

    fn processes<'a>(&mut self, processes: impl Iterator<Item = &'a Process>) {
        for process in processes {
            let kind = if process.is_shim() { Kind::Shim } else { Kind::Process };
            // A process may yet change its command; its number and start are what make it that process.
            let looks = format!("({}) {}", process.comm, process.words.join(" "));
            self.0.insert(process.name(), Item { kind, what: process.pid.to_string(), looks });
        }
    }

    fn groups(&mut self) -> Result<()> {
        let top = Path::new("/sys/fs/cgroup");
        if top.join("cgroup.procs").exists() {
            return self.groups_below(top);
        }
        for hierarchy in names(top)? {
            self.groups_below(&top.join(hierarchy))?;
        }
        Ok(())
    }

    /// Groups of pods; a service's own group is systemd's to remove, and there is no systemd here.
    fn groups_below(&mut self, dir: &Path) -> Result<()> {
        for entry in entries(dir)? {
            let path = entry.path();
            if !entry.file_type()?.is_dir() || ["system.slice", "world"].iter().any(|own| path.ends_with(own))
            {
                continue;
            }
            let read = |file| fs::read_to_string(path.join(file)).unwrap_or_default();
            let frozen = read("cgroup.freeze").starts_with('1')
                || !["", "THAWED\n"].contains(&&*read("freezer.state"));
            let name = format!("group {}{}", path.display(), if frozen { " (frozen)" } else { "" });
            self.add(Kind::Cgroup, name, path.display().to_string());
            self.groups_below(&path)?;
        }
        Ok(())
    }

    fn files(&mut self, dir: &Path, mount_points: &BTreeSet<PathBuf>) -> Result<()> {
        for entry in entries(dir)? {
            let (path, file_type) = (entry.path(), entry.file_type()?);
            if let Some(kind) = kind_of_file(&path, file_type.is_dir(), file_type.is_fifo()) {
                self.add(kind, path.display().to_string(), path.display().to_string());
            }
            // What is below another mount is seen as that mount.
            if file_type.is_dir() && !mount_points.contains(&path) {
                self.files(&path, mount_points)?;
            }
        }
        Ok(())
    }

    fn addresses_and_routes(&mut self) -> Result<()> {
        for (kind, arguments) in [
            (Kind::Address, &["-o", "addr"][..]),
            (Kind::Route, &["-4", "route", "show", "table", "all"]),
            (Kind::Route, &["-6", "route", "show", "table", "all"]),
        ] {
            let text = output(Command::new("ip").args(arguments).env("PATH", "/usr/sbin:/sbin"))?;
            // What the kernel gives every link by itself comes a moment after the link.
            let own = |line: &&str| !line.contains("fe80:") && !line.contains("multicast");
            for line in String::from_utf8_lossy(&text).lines().filter(own) {
                let words: Vec<_> = line.split_whitespace().filter(|w| *w != "linkdown").collect();
                let words = if kind == Kind::Address { &words[1..4] } else { &words[..] };
                self.add(kind, format!("{kind:?} {}", words.join(" ")), words.join(" "));
            }
        }
        Ok(())
    }

    fn rules(&mut self) -> Result<()> {
        for program in ["iptables-save", "ip6tables-save"] {
            let text = output(Command::new(program).env("PATH", "/usr/sbin:/sbin"))?;
            let mut table = String::new();
            for line in String::from_utf8_lossy(&text).lines() {
                match line.as_bytes().first() {
                    Some(b'*') => table = line[1..].to_owned(),
                    // A built-in chain has a policy, and stays once anything has looked at its table.
                    Some(b':') if line.contains(" - ") => {
                        let chain = line[1..].split(' ').next().unwrap_or_default();
                        self.rule(format!("{program} {table} chain {chain}"));
                    }
                    Some(b'-') => self.rule(format!("{program} {table} {line}")),
                    _ => {}
                }
            }
        }
        Ok(())
    }

    fn rule(&mut self, rule: String) {
        self.add(Kind::Rule, rule.clone(), rule);
    }
}

/// The kind of a file, by its place. A directory counts where one stands for a container, or is data.
fn kind_of_file(path: &Path, is_dir: bool, is_fifo: bool) -> Option<Kind> {
    let text = path.display().to_string();
    let of_container = path.components().any(|c| c.as_os_str() == "k8s.io") && !path.ends_with("k8s.io");
    if text.starts_with("/run/snap.") {
        (!is_dir).then_some(Kind::Report)
    } else if text.starts_with("/run/netns/") {
        Some(Kind::Netns)
    } else if text.starts_with("/var/lib/cni/") {
        (!is_dir).then_some(Kind::CniState)
    } else if is_fifo {
        Some(Kind::Fifo)
    } else if text.starts_with("/run/containerd/s/") || text.contains("containerd.sock") {
        Some(Kind::Socket)
    } else if text.starts_with("/run/containerd/runc/") {
        (!is_dir || of_container).then_some(Kind::RuncState)
    } else if text.contains("/io.containerd.runtime.v2.task/") && text.contains("/run/") {
        (!is_dir || of_container).then_some(Kind::Bundle)
    } else if text.starts_with("/var/") && text.contains("/containerd") {
        let top = path.ends_with("containerd") || path.ends_with("containerd2");
        (!top).then_some(Kind::Data)
    } else if text.starts_with("/run/") {
        (!is_dir).then_some(Kind::Other)
    } else {
        None
    }
}

/// The counts, then the things; `{:.2}` shows two of each kind.
impl fmt::Display for Look {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        writeln!(out, "{}", self.summary())?;
        let mut items: Vec<_> = self.0.iter().map(|(name, item)| (&item.kind, name, &item.looks)).collect();
        items.sort();
        let limit = out.precision().unwrap_or(8);
        let mut shown = BTreeMap::new();
        for (kind, name, looks) in items {
            let n = shown.entry(*kind).or_insert(0);
            *n += 1;
            if *n <= limit {
                writeln!(out, "  {kind:?}: {}", format!("{name} {looks}").trim())?;
            } else if *n == limit + 1 {
                writeln!(out, "  {kind:?}: and {} more", self.count(*kind) - limit)?;
            }
        }
        Ok(())
    }
}

/// What a directory holds: nothing, if it is not there or goes while we look. One whose path is too long for the kernel is
/// left or gone with those above it.
fn entries(dir: &Path) -> Result<Vec<fs::DirEntry>> {
    match fs::read_dir(dir) {
        Ok(entries) => Ok(entries.collect::<std::io::Result<_>>()?),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::InvalidFilename) => {
            Ok(Vec::new())
        }
        Err(error) => Err(format!("cannot list '{}': {error}", dir.display()).into()),
    }
}
