//! What is left, and how it is known.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use support::look::{Item, Kind, Look};
use support::machine::{self, Process};

use crate::{Record, Result, is_installed, noted, snap};

const GROUPS: &str = "/sys/fs/cgroup";

/// Every pod of the test snap has a uid that begins with "pod-".
const POD_GROUP: &str = "/podpod-";

/// Where the machine mounts things by itself while a snap comes, runs and goes.
const MOUNTED_BY_THE_MACHINE: [&str; 6] =
    ["/proc", "/run/credentials", "/run/snapd/ns", "/run/user", "/snap", "/tmp"];

/// What is left, by its names: what it is in one word, and the thing.
pub type Left = BTreeMap<String, (&'static str, Item)>;

/// All that run; what has ended and was not yet collected does not.
pub fn processes() -> Result<Vec<Process>> {
    Ok(machine::processes()?.into_iter().filter(|process| !process.is_zombie()).collect())
}

pub fn look() -> Result<Left> {
    let processes = processes()?;
    let now = Look::of_machine(&processes)?;
    let before: Option<BTreeSet<String>> = noted("before")?;
    let recorded = noted::<Record>("record")?.unwrap_or_default().known;
    let by_name: BTreeMap<String, &Process> = processes.iter().map(|it| (it.name(), it)).collect();
    let mut left = Left::new();
    for (name, item) in now.items() {
        let process = by_name.get(name).copied();
        let is_new = before.as_ref().is_some_and(|before| !before.contains(name));
        let is_left =
            recorded.contains(name) || is_new && can_be_a_snaps(item, process) || has_a_mark(item, process);
        if is_left && !is_of_an_installed_snap(item) {
            left.insert(name.clone(), (word_for(item.kind, process), line(item, process)));
        }
    }
    add_what_links_bring(&now, before.as_ref(), &mut left);
    add_mounts_elsewhere(&processes, &mut left)?;
    add_services_and_data(&mut left);
    Ok(left)
}

/// Whether a new thing may be there because of a snap: other things come and go on every machine.
fn can_be_a_snaps(item: &Item, process: Option<&Process>) -> bool {
    let is_below = |dirs: &[&str]| dirs.iter().any(|dir| Path::new(&item.what).starts_with(dir));
    match item.kind {
        Kind::Process => process.is_some_and(|process| process.group.starts_with("/kubepods")),
        Kind::Cgroup => is_below(&["/sys/fs/cgroup/kubepods"]),
        Kind::Mount => !is_below(&MOUNTED_BY_THE_MACHINE),
        Kind::Socket => is_below(&["/run/containerd"]),
        // Told by their link, if that is new.
        Kind::Address | Kind::Route => false,
        _ => true,
    }
}

/// The snap's own marks: its services' groups, its label, the addresses of its shims, its directories, its pods' groups.
fn has_a_mark(item: &Item, process: Option<&Process>) -> bool {
    let snap = snap();
    let common = format!("/var/snap/{snap}/common/");
    if let Some(process) = process {
        return process.group.starts_with(&format!("/system.slice/snap.{snap}."))
            || process.label.starts_with(&format!("snap.{snap}."))
            || process.is_shim() && process.words.iter().any(|word| word.starts_with(&common))
            || process.group.contains(POD_GROUP);
    }
    match item.kind {
        Kind::Cgroup => item.what.contains(POD_GROUP),
        Kind::Mount => {
            item.what.starts_with(&format!("/var/snap/{snap}/"))
                || item.what.starts_with(&format!("/snap/{snap}/"))
                || item.what == format!("/run/snapd/ns/{snap}.mnt")
        }
        Kind::Socket => item.what.starts_with(&common),
        Kind::Loop => item.what.contains(&format!("/snaps/{snap}_")),
        _ => false,
    }
}

/// What a snap has while it is installed, whether it runs or not.
fn is_of_an_installed_snap(item: &Item) -> bool {
    let snap = snap();
    is_installed()
        && match item.kind {
            Kind::Mount => item.what.starts_with("/snap/") || item.what.starts_with("/run/snapd/ns/"),
            Kind::Loop => item.what.contains(&format!("/snaps/{snap}_")),
            _ => false,
        }
}

fn word_for(kind: Kind, process: Option<&Process>) -> &'static str {
    match kind {
        Kind::Shim => "shim",
        Kind::Process if process.is_some_and(|process| process.group.contains("/kubepods/")) => "pod-process",
        Kind::Process => "process",
        Kind::Mount => "mount",
        Kind::Cgroup => "cgroup",
        Kind::Socket => "socket",
        Kind::Netns => "netns",
        Kind::Link => "link",
        Kind::Address => "address",
        Kind::Route => "route",
        Kind::Rule => "firewall-rule",
        Kind::Loop => "loop",
        Kind::Data => "data",
        Kind::RuncState | Kind::Fifo | Kind::Bundle | Kind::CniState | Kind::Report | Kind::Other => "state",
    }
}

/// A thing as `list` shows it.
fn line(item: &Item, process: Option<&Process>) -> Item {
    let mut item = item.clone();
    if let Some(it) = process {
        item.looks = format!("{} state {} {} {}", it.comm, it.state, it.group, it.label);
    }
    item
}

/// New addresses and routes of a link that was there before.
fn add_what_links_bring(now: &Look, before: Option<&BTreeSet<String>>, left: &mut Left) {
    let Some(before) = before else { return };
    let new_links: BTreeSet<String> = left
        .values()
        .filter(|(_, item)| item.kind == Kind::Link)
        .map(|(_, item)| item.what.clone())
        .collect();
    for (name, item) in now.items() {
        let is_told = item.what.split(' ').any(|word| new_links.contains(word));
        if [Kind::Address, Kind::Route].contains(&item.kind) && !before.contains(name) && !is_told {
            left.insert(name.clone(), (word_for(item.kind, None), item.clone()));
        }
    }
}

/// Mounts below the snap's data in every mount namespace that one of its processes keeps alive.
fn add_mounts_elsewhere(processes: &[Process], left: &mut Left) -> Result<()> {
    let data = format!("/var/snap/{}", snap());
    let mut seen = BTreeSet::from([fs::read_link("/proc/self/ns/mnt")?]); // told already
    let ours: Vec<_> = processes.iter().filter(|process| left.contains_key(&process.name())).collect();
    for process in ours {
        let read = |file: &str| Path::new("/proc").join(process.pid.to_string()).join(file);
        // One that has ended since holds nothing any more.
        let (Ok(namespace), Ok(table)) =
            (fs::read_link(read("ns/mnt")), fs::read_to_string(read("mountinfo")))
        else {
            continue;
        };
        if !seen.insert(namespace) {
            continue;
        }
        for mount in machine::mounts(&table) {
            if mount.at.starts_with(&data) && mount.at != Path::new(&data) {
                let what = mount.at.display().to_string();
                let looks = format!("{} (in the namespace of the snap)", mount.kind);
                let name = format!("mount {what} {looks}");
                left.insert(name, ("mount", Item { kind: Kind::Mount, what, looks }));
            }
        }
    }
    Ok(())
}

/// The groups of the snap's services and its data, once it is not installed any more.
fn add_services_and_data(left: &mut Left) {
    if is_installed() {
        return;
    }
    let slice = Path::new(GROUPS).join("system.slice");
    let services = machine::names(&slice).unwrap_or_default();
    let ours = services.iter().filter(|name| name.starts_with(&format!("snap.{}.", snap())));
    let mut add = |kind, word, path: PathBuf| {
        if path.is_dir() {
            let what = path.display().to_string();
            left.insert(format!("{word} {what}"), (word, Item { kind, what, looks: String::new() }));
        }
    };
    ours.for_each(|name| add(Kind::Cgroup, "cgroup", slice.join(name)));
    add(Kind::Data, "data", Path::new("/var/snap").join(snap()));
}
