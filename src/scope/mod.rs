//! What is ours: decided once, before anything is removed, and never changed later.
//!
//! A teardown destroys the evidence of ownership as it goes (bundles, process ancestry, CNI results), so all of
//! it is gathered first. Ours is proven, not named: a container by its bundle in our state directory, by the
//! bundle that its runc state names, by its parent shim, or by its root file system; a shim by its `-address`,
//! its PID namespace and its control group or the bundles that it serves. A contradiction makes a bystander.

pub mod bundles;
mod children;
pub mod decide;
pub mod devices;
mod docker_links;
mod earlier;
mod forgotten;
mod gather;
pub mod graceful;
mod groups;
pub mod held;
mod images;
mod link_facts;
mod link_verdict;
mod links;
mod lost;
mod manners;
mod netns;
pub mod network;
mod orphans;
mod rootfs;
pub mod roots;
mod shims;
mod union;

use std::cell::Cell;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::PathBuf;

use serde::{Deserialize, Serialize, Serializer};

use crate::error::Blind;
use crate::linux::block::Device;
use crate::linux::firewall::Programs;
use crate::linux::proc::ProcessId;
use crate::order;
use crate::reason::Reason;
use crate::residue::witness::{Proven, Witness};
use crate::runtime::told::ConfiguredRoots;
use crate::runtime::{ContainerId, Pod, shim};
use crate::scope::graceful::Graceful;
use crate::scope::network::Network;
use crate::snap::Snap;
use crate::snap::profile::{Roots, Services};
use crate::text;

/// Everything that is ours.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Scope {
    // What a later run knows by itself is written for people, and not read back.
    /// The snap, with its directories as they are called here.
    #[serde(skip_deserializing)]
    pub snap: Snap,
    /// The profile's paths as they are called here.
    #[serde(skip_deserializing)]
    pub roots: Roots,
    /// The profile's paths as processes inside the snap know them; other texts only in a parallel instance.
    #[serde(skip_deserializing)]
    pub inside: Roots,
    /// Where its living shims were seen to work, if the profile and the configuration do not tell. Kept for later looks and
    /// runs: once these shims have ended, nothing tells.
    #[serde(default)]
    pub told_by_shims: Option<ConfiguredRoots>,
    /// The services that matter for the order.
    #[serde(skip_deserializing)]
    pub services: Services,
    /// Links that the profile names.
    #[serde(skip_deserializing)]
    pub links: Vec<String>,
    /// Comments on the snap's firewall rules.
    #[serde(skip_deserializing)]
    pub rule_comments: Vec<String>,
    /// Our containers, dead ones included.
    pub containers: Vec<Container>,
    /// Our shims.
    pub shims: Vec<OwnedShim>,
    /// IDs of ours that runc's state gives to another containerd, in the same namespace or in another.
    pub foreign: Vec<ContainerId>,
    /// What of the network is ours.
    #[serde(default)]
    pub network: Network,
    /// Directories with streams that shims of ours had open, where others have containers of the same IDs.
    #[serde(skip)]
    pub streams: BTreeSet<PathBuf>,
    /// How our applications are to be ended.
    #[serde(skip_deserializing)]
    pub graceful: Graceful,
    /// Block devices that only mounts of ours used.
    #[serde(default)]
    pub devices: Vec<Device>,
    /// Control groups above our containers' that were made for them alone.
    #[serde(default, with = "text::list")]
    pub groups_above: Vec<PathBuf>,
    /// Containers of which nothing tells but our containerd's database and the names of their streams or of empty groups:
    /// hints. Their streams go only where nobody else can have the same ID; their groups, while they are empty.
    #[serde(default)]
    pub recorded: Vec<ContainerId>,
    /// What looks like ours and is not.
    pub bystanders: Vec<Bystander>,
    /// Evidence that could not be read, where no other source covers it.
    pub blind: Vec<Blind>,
    /// What claims to be ours, against evidence that it is not. It is told, and keeps nothing else from being removed.
    #[serde(default)]
    pub doubts: Vec<Blind>,
    /// Evidence that was there and made no sense; it was not used.
    pub nonsense: Vec<String>,
}

/// A container of ours.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Container {
    /// Its name.
    #[serde(flatten)]
    pub id: ContainerId,
    /// The ID under which its shim was started: its sandbox's, or its own.
    #[serde(rename = "group")]
    pub shim_id: String,
    /// True for a sandbox ("pause").
    pub sandbox: bool,
    /// Its pod, if it has one.
    pub pod: Option<Pod>,
    /// True if one of its control groups is that pod's: only its bundle, which it may write itself, names the pod.
    #[serde(default)]
    pub pod_proven: bool,
    /// Its control groups, as paths below a hierarchy's mount point.
    #[serde(rename = "groups", with = "text::list")]
    pub cgroups: Vec<PathBuf>,
    /// Its first process, where runc recorded it.
    pub init: Option<ProcessId>,
    /// Its network namespace, as its bundle names it.
    #[serde(with = "text::option")]
    pub netns: Option<PathBuf>,
    /// The same as runc's state names it, which only root can write.
    #[serde(skip)]
    pub netns_of_state: Option<PathBuf>,
    /// Where its shim listens, if that is known and where shims do.
    #[serde(with = "text::option")]
    pub socket: Option<PathBuf>,
    /// Directories of the host that are bound into it.
    #[serde(serialize_with = "binds", deserialize_with = "text::list::deserialize")]
    pub binds: Vec<PathBuf>,
    /// True if what it mounts is passed on to the host, and so to others.
    #[serde(skip)]
    pub shares: bool,
    /// True if it may do on the host what root may: it has CAP_SYS_ADMIN.
    #[serde(skip)]
    pub privileged: bool,
    /// Where it was found.
    pub evidence: BTreeSet<Evidence>,
    /// What proves it ours; nothing for one that is known by hints alone.
    #[serde(default)]
    pub witnesses: BTreeSet<Witness>,
    /// True if something alive that is not ours carries its ID or is in a group that it claims.
    #[serde(default)]
    pub contradicted: bool,
    /// Those of its control groups whose processes are ours to end. A result file proves nothing alive.
    #[serde(skip)]
    pub proven_cgroups: Vec<Proven<PathBuf>>,
    /// Its processes in groups that are not its own.
    #[serde(skip)]
    pub strays: Vec<Proven<ProcessId>>,
}

impl Container {
    /// Notes that it has this group.
    fn is_in(&mut self, group: PathBuf) {
        if !self.cgroups.contains(&group) {
            self.cgroups.push(group);
        }
    }

    /// One of which only the ID is known so far.
    pub(crate) fn of_id(id: ContainerId) -> Container {
        Container {
            shim_id: id.id.clone(),
            id,
            sandbox: false,
            pod: None,
            pod_proven: false,
            cgroups: Vec::new(),
            init: None,
            netns: None,
            netns_of_state: None,
            socket: None,
            binds: Vec::new(),
            shares: false,
            privileged: false,
            evidence: BTreeSet::new(),
            witnesses: BTreeSet::new(),
            contradicted: false,
            proven_cgroups: Vec::new(),
            strays: Vec::new(),
        }
    }

    /// Gives back what its lists have grown by and do not need: it stays for the whole run.
    fn shrink(&mut self) {
        self.cgroups.shrink_to_fit();
        self.binds.shrink_to_fit();
        self.proven_cgroups.shrink_to_fit();
        self.strays.shrink_to_fit();
    }

    /// True if a witness proves it ours.
    pub fn is_proven(&self) -> bool {
        !self.witnesses.is_empty()
    }

    /// Takes over what was known of its pod, where its groups are gone that told.
    fn remember_pod(&mut self, older: &Container) {
        if older.pod_proven && !self.pod_proven {
            (self.pod, self.pod_proven) = (older.pod.clone(), true);
        }
    }

    /// True if what is dead of it may go: it is proven ours, or a hint says so that nothing contradicts.
    pub fn may_be_tidied(&self) -> bool {
        self.is_proven() || !self.contradicted
    }
}

/// Where a container was found. Where to look, not whose it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Evidence {
    /// A bundle or work directory in our state or root directory.
    Bundle,
    /// A runc state whose `bundle=` label leads into our state directory.
    RuncState,
    /// A living parent that is a shim of ours.
    ParentShim,
    /// A shim of ours that was started with its ID.
    ShimId,
    /// A root file system on our snapshots.
    RootFs,
    /// CNI's result names it for a network namespace that a process of ours is in.
    CniResult,
}

/// A shim of ours.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct OwnedShim {
    pub process: ProcessId,
    /// containerd's namespace.
    pub namespace: String,
    /// The ID it was started with.
    pub id: Option<String>,
    /// Where it listens.
    #[serde(with = "text::option")]
    pub socket: Option<PathBuf>,
    /// What proves it ours.
    pub witness: Witness,
}

/// Something that looks like ours, and the contradiction that says it is not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Bystander {
    pub kind: BystanderKind,
    pub what: String,
    #[serde(default)]
    pub reason: Reason,
    /// Why it is left alone.
    pub why: String,
}

impl Bystander {
    /// One of which evidence says that it is another's.
    fn anothers(kind: BystanderKind, what: String, why: String) -> Bystander {
        Bystander { kind, what, reason: Reason::Anothers, why }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BystanderKind {
    Container,
    Shim,
    /// A network interface.
    Link,
    /// A network namespace.
    Netns,
    /// Firewall rules.
    Rules,
}

thread_local! {
    static WITHOUT_BINDS: Cell<bool> = const { Cell::new(false) };
}

/// Writes a scope's containers without what is bound into them. To write a copy without it would take twice the memory, for
/// just the worlds that have most.
pub fn without_binds<T>(write: impl FnOnce() -> T) -> T {
    WITHOUT_BINDS.set(true);
    let written = write();
    WITHOUT_BINDS.set(false);
    written
}

fn binds<S: Serializer>(paths: &[PathBuf], to: S) -> std::result::Result<S::Ok, S::Error> {
    text::list::serialize(if WITHOUT_BINDS.get() { &[] } else { paths }, to)
}

impl Scope {
    /// The containers by containerd's namespace and the ID under which their shim was started.
    pub fn by_shim(&self) -> HashMap<(&str, &str), Vec<&Container>> {
        let mut shims: HashMap<_, Vec<_>> = HashMap::new();
        for c in &self.containers {
            shims.entry((c.id.namespace.as_str(), c.shim_id.as_str())).or_default().push(c);
        }
        shims
    }

    /// The containers that a shim serves, applications first. A shim that was started without an ID may serve
    /// any of its namespace.
    pub fn served_by<'a>(
        &'a self,
        shim: &OwnedShim,
        by_shim: &HashMap<(&str, &str), Vec<&'a Container>>,
    ) -> Vec<&'a Container> {
        let mut served: Vec<_> = match &shim.id {
            Some(id) => by_shim.get(&(shim.namespace.as_str(), id.as_str())).cloned().unwrap_or_default(),
            None => self.containers.iter().filter(|c| c.id.namespace == shim.namespace).collect(),
        };
        order::sort_by_key(&mut served, |c| c.sandbox);
        served
    }

    /// Where the programs that list firewall rules come from.
    pub fn programs(&self) -> Programs<'_> {
        Programs { shipped: self.roots.iptables.as_deref(), snap_dir: &self.snap.dir }
    }

    /// Where a container's shim listens: as recorded, else where its name puts it.
    pub fn socket_of(&self, container: &Container) -> PathBuf {
        let computed = || {
            shim::socket(
                &self.roots.shim_sockets,
                &self.inside.address,
                &container.id.namespace,
                &container.shim_id,
            )
        };
        container.socket.clone().unwrap_or_else(computed)
    }

    /// True if runc's state of this ID is another containerd's.
    pub fn is_foreign(&self, id: &ContainerId) -> bool {
        self.foreign.contains(id)
    }

    /// Whether what is dead of a container, such as its files and mounts, goes as ours: it is proven, or it was found in
    /// directories that are the snap's alone. In one that others share, a container may be anybody's. For what lives, only
    /// `Container::is_proven` counts.
    pub fn counts_as_ours(&self, container: &Container) -> bool {
        container.is_proven() || self.roots.shared.is_empty()
    }

    /// IDs that nobody but us has: what is known by an ID alone is ours by these only.
    pub fn sole_ids(&self) -> HashSet<&str> {
        let mut ids: HashSet<&str> =
            self.containers.iter().filter(|c| c.may_be_tidied()).map(|c| c.id.id.as_str()).collect();
        for other in &self.foreign {
            ids.remove(other.id.as_str());
        }
        ids
    }

    /// IDs of containers that a witness says are ours, and that nobody else has: what is known by an ID alone, and shared
    /// by all runtimes, is ours by these only.
    pub fn proven_ids(&self) -> HashSet<&str> {
        let proven = self.containers.iter().filter(|c| c.is_proven()).map(|c| c.id.id.as_str());
        let mut ids: HashSet<&str> = proven.collect();
        for other in &self.foreign {
            ids.remove(other.id.as_str());
        }
        ids
    }
}

#[cfg(test)]
mod tests;
