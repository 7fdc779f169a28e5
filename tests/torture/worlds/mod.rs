//! Builds one random world inside a private one, and writes down whose everything in it is.
//!
//! What is ours is known because it was made here, never by a rule that the program under test could share.

#![allow(dead_code)] // each test that includes this uses its own part

mod damage;
mod devices;
mod forged;
mod layout;
mod others;
mod pods;
mod volumes;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Child;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use serde_json::json;

use crate::actor::{self, Part};
use crate::dice::Dice;
use support::Result;
use support::fixture;
use support::hook::Snap;
use support::world::{Cgroups, bind};

use devices::LoopDevice;
use layout::Places;

pub const COMMON: &str = "/var/snap/microk8s/common";
pub const ADDRESS: &str = "/var/snap/microk8s/common/run/containerd.sock";
const SERVICE: &str = "system.slice/snap.microk8s.daemon-containerd.service";
/// Seconds: short, so that stubborn applications do not make worlds slow.
pub const DRAIN: u64 = 1;
pub const DEADLINE: u64 = 20;

/// Everything that a world may have; each occurs in about every seventh world at least.
pub const FEATURES: &[&str] = &[
    "daemon",
    "stubborn",
    "bomb",
    "stopped",
    "traced",
    "non-root",
    "host-pid",
    "host-net",
    "nested-group",
    "paused",
    "many-containers",
    "by-runc",
    "systemd-names",
    "stacked",
    "bind-outside",
    "propagated",
    "busy",
    "odd-names",
    "mount-at-root",
    "data-symlink",
    "data-bind",
    "no-shim",
    "shim-killed",
    "half-deleted",
    "bundle-deleted",
    "config-cut",
    "state-cut",
    "state-deleted",
    "init-dead",
    "containerd-alive",
    "service-stray",
    "same-names",
    "foreign-groups",
    "own-id-elsewhere",
    "foreign-pause",
    "address-extends",
    "address-nested",
    "parallel-instance",
    "roots-extended",
    "foreign-state-of-own-id",
    "guest",
    "foreign-runtime",
    "user-data",
    "foreign-socket",
    "snap-namespace",
    "state-moved",
    "root-moved",
    "roots-linked",
    "roots-bound",
    "kubelet-linked",
    "other-namespace",
    "odd-ids",
    "mounts-elsewhere",
    "network",
    "forged-group",
    "forged-netns",
    "forged-socket",
    "forged-results",
    "posing-user",
    "loop-devices",
];

/// What a world is made of, and whose it is.
#[derive(Default)]
pub struct World {
    pub features: BTreeSet<String>,
    pub hybrid: bool,
    /// Control groups of ours: the containers' own, then the pods'.
    pub leaves: Vec<PathBuf>,
    pub pods: Vec<PathBuf>,
    /// Processes of ours that are in no group of a container.
    pub pids: Vec<i32>,
    /// Mount points of ours.
    pub mounts: Vec<PathBuf>,
    /// Files and directories of ours, with all that they hold.
    pub paths: Vec<PathBuf>,
    /// Mounts of ours that somebody else keeps busy: point and process.
    pub busy: Vec<(PathBuf, i32)>,
    /// Mounts of ours that only the host can unmount, from where the hook runs.
    pub on_host: Vec<PathBuf>,
    /// Links of ours.
    pub links: Vec<String>,
    /// Places that our own look must not enter.
    pub hidden: Vec<PathBuf>,
    /// What nobody promises anything of: it may stay or go.
    pub either: Vec<PathBuf>,
    /// Roots that were moved to somewhere outside of the snap's directories: as long as anything is in them, that is told.
    pub moved: Vec<PathBuf>,
    /// Places outside to which links of ours lead: noted while they are there.
    pub linked: Vec<PathBuf>,
    /// Words of doubts that are right here.
    pub doubts: Vec<String>,
    /// What has to be doubted, by a word of it: clean would be a lie.
    pub must_doubt: Vec<String>,
    /// Loop devices of this world, ours and another's.
    pub devices: Vec<LoopDevice>,
    pub places: Places,
    seed: u64,
    /// In which namespace of containerd's containers are made; the usual one if empty.
    namespace: String,
    children: Vec<Child>,
    ids: Vec<String>,
    image: bool,
}

impl World {
    pub fn has(&self, feature: &str) -> bool {
        self.features.contains(feature)
    }

    /// Builds the world of a seed.
    pub fn build(seed: u64, cgroups: Cgroups, snap: &Snap) -> Result<World> {
        let features: Vec<&str> =
            FEATURES.iter().copied().filter(|feature| Dice::about(seed, feature).percent(15)).collect();
        World::build_of(seed, &features, cgroups, snap)
    }

    /// Builds a world that has these features.
    pub fn build_of(seed: u64, features: &[&str], cgroups: Cgroups, snap: &Snap) -> Result<World> {
        if let Some(unknown) = features.iter().find(|feature| !FEATURES.contains(feature)) {
            return Err(format!("no such feature: {unknown}").into());
        }
        let mut dice = Dice::new(seed);
        let features = features.iter().map(|&feature| feature.to_owned()).collect();
        let mut world = World { seed, hybrid: cgroups == Cgroups::Hybrid, features, ..World::default() };
        if world.has("snap-namespace") {
            // As snap-confine makes it, for everything of the snap: the first process keeps the host's.
            unshare(CloneFlags::CLONE_NEWNS)?;
            mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_SLAVE, None::<&str>)?;
        }
        world.lay_out()?;
        World::furnish(snap)?;
        if world.has("mount-at-root") {
            // A user's own disk at the root below which every mount is ours.
            write("/srv/disk/data", "on a user's disk")?;
            bind("/srv/disk".as_ref(), &world.places.kubelet)?;
        }
        for _ in 0..1 + dice.below(3) {
            world.pod(&mut dice)?;
        }
        if world.has("other-namespace") {
            world.pod_of_moby()?;
        }
        world.volumes(&mut dice)?;
        if world.has("mounts-elsewhere") {
            world.mounts_elsewhere(&mut Dice::about(seed, "elsewhere"))?;
        }
        world.bystanders(&mut dice)?;
        // Last, for a mount namespace that is made later would have a copy of each mount, and keep its device in use.
        if world.has("loop-devices") {
            world.loop_devices()?;
        }
        world.damage(&mut dice)?;
        Ok(world)
    }

    /// What every snap has: a profile with less patience, directories, and users' data that nobody may touch.
    pub fn furnish(snap: &Snap) -> Result<()> {
        let text = include_bytes!("../../../src/snap/profile/microk8s.json");
        let mut profile: serde_json::Value = serde_json::from_slice(text)?;
        profile["patience"] = json!({ "drain": DRAIN, "deadline": DEADLINE });
        fs::write(snap.dir.join("teardown.json"), profile.to_string())?;
        for (file, text) in [
            ("/srv/users/precious", "not ours"),
            ("/srv/users/deep/er/precious", "not ours either"),
            ("/var/snap/microk8s/common/default-storage/claim/data", "a user's"),
            ("/var/snap/microk8s/1/args/kubelet", "--config"),
            ("/var/snap/microk8s/common/var/lib/kubelet/config", "kubelet's"),
            ("/var/snap/other/common/run/containerd/state", "another snap's"),
            ("/run/containerd/s/0000", "a host's"),
        ] {
            write(file, text)?;
        }
        fs::create_dir_all("/run/containerd/runc/k8s.io")?;
        fs::create_dir_all("/run/netns")?;
        Ok(())
    }

    /// The hierarchies in which containers have groups.
    pub fn hierarchies(&self) -> Vec<PathBuf> {
        let top = PathBuf::from("/sys/fs/cgroup");
        if !self.hybrid {
            return vec![top];
        }
        let all = fs::read_dir(top).into_iter().flatten().flatten();
        all.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
            .map(|entry| entry.path())
            .collect()
    }

    fn group_paths(&self, group: &str) -> Vec<PathBuf> {
        self.hierarchies().iter().map(|root| root.join(group.trim_start_matches('/'))).collect()
    }

    pub fn make_group(&self, group: &str) -> Result<Vec<PathBuf>> {
        let dirs = self.group_paths(group);
        for dir in &dirs {
            fs::create_dir_all(dir).map_err(|e| format!("cannot make '{}': {e}", dir.display()))?;
        }
        Ok(dirs)
    }

    /// A process that is nobody's business.
    pub fn bystander(&mut self, part: &Part, line: &[&str]) -> Result<i32> {
        self.other("be", part, line)
    }

    pub fn other(&mut self, play: &str, part: &Part, line: &[&str]) -> Result<i32> {
        let line: Vec<String> = line.iter().map(|&word| word.to_owned()).collect();
        let (child, _) = actor::start(actor::command(play, part, &line)?)?;
        let pid = i32::try_from(child.id())?;
        self.children.push(child);
        Ok(pid)
    }

    /// Collects those that have ended, so that only the living are looked at.
    pub fn collect(&mut self) {
        for child in &mut self.children {
            let _ = child.try_wait();
        }
    }
}

pub fn shim_line(address: &str, id: &str) -> Vec<String> {
    fixture::shim_line("/snap/microk8s/1", address, id)
}

pub fn write(path: impl AsRef<Path>, text: &str) -> Result<()> {
    let path = path.as_ref();
    fs::create_dir_all(path.parent().ok_or("a file has a directory")?)?;
    fs::write(path, text).map_err(|e| format!("cannot write '{}': {e}", path.display()).into())
}

pub fn start_time(pid: i32) -> Result<u64> {
    let stat =
        fs::read_to_string(format!("/proc/{pid}/stat")).map_err(|e| format!("no process {pid}: {e}"))?;
    let fields = stat.rsplit_once(')').ok_or("a process without a name")?.1;
    Ok(fields.split_whitespace().nth(19).ok_or("a short stat")?.parse()?)
}

pub fn pids_in(group: &Path) -> Vec<i32> {
    let text = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
    text.lines().filter_map(|line| line.parse().ok()).collect()
}
