//! What is ours: decided once, before anything is removed, and never changed later.
//!
//! A teardown destroys the evidence of ownership as it goes (bundles, process ancestry, CNI results), so all of
//! it is gathered first. Ours is proven, not named: a container by its bundle in our state directory, by the
//! bundle that its runc state names, by its parent shim, or by its root file system; a shim by its `-address`,
//! its PID namespace and its control group or the bundles that it serves. A contradiction makes a bystander.

pub mod builds;
mod bundles;
mod children;
pub mod cni_ids;
mod container;
mod dead;
mod dead_sockets;
pub mod decide;
mod deserted;
pub mod devices;
mod docker_links;
mod earlier;
mod exited;
mod forgotten;
mod gather;
pub mod graceful;
mod groups;
pub mod held;
mod images;
pub mod ipc;
mod lent;
mod link_facts;
mod link_verdict;
mod links;
mod lost;
mod manners;
mod netns;
pub mod network;
mod orphans;
mod others;
pub mod outside;
mod owner;
pub mod pinned;
mod rootfs;
pub mod roots;
pub mod shared;
mod shims;
pub mod snapshots;
mod told_groups;
mod union;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::error::Blind;
use crate::linux::block::Device;
use crate::linux::firewall::Programs;
use crate::linux::proc::ProcessId;
use crate::order;
use crate::reason::Reason;
use crate::residue::witness::Witness;
use crate::runtime::told::ConfiguredRoots;
use crate::runtime::{ContainerId, Name, docker, shim};
use crate::scope::graceful::Graceful;
use crate::scope::network::Network;
use crate::snap::Snap;
use crate::snap::profile::{Roots, Services};
use crate::text;

pub use builds::Builds;
pub use container::{Container, Evidence, without_binds};
pub use exited::Exited;
pub use told_groups::ToldGroups;

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
    /// Where its living shims were seen to work, if the profile and the configuration do not tell; or docker's daemon, by a file
    /// that goes with the rest. Kept for later looks and runs: once these shims have ended, nothing tells.
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
    /// Network namespaces that are bound in directories that only the snap writes, and that nobody was in.
    #[serde(skip)]
    pub deserted: Vec<u64>,
    /// Other namespaces of containers of ours that are bound to files, by their names.
    #[serde(skip)]
    pub pinned: HashSet<PathBuf>,
    /// Our containerd's database is there and cannot be read.
    #[serde(skip)]
    pub damaged: bool,
    /// What of the network is ours.
    #[serde(default)]
    pub network: Network,
    /// Directories with streams that shims of ours had open, where the names do not tell whose these are.
    #[serde(skip)]
    pub streams: BTreeSet<PathBuf>,
    /// runc's states of our bundles where these lie in other places than the profile names.
    #[serde(skip)]
    pub states: BTreeMap<ContainerId, PathBuf>,
    /// Where docker's data are not in the snap's directories, the places there that are containers' of ours.
    #[serde(skip)]
    pub docker_places: BTreeSet<PathBuf>,
    /// Control groups that docker or containerd was told to use, and that may be a user's.
    #[serde(default, skip_serializing_if = "ToldGroups::is_empty")]
    pub told_groups: ToldGroups,
    /// runc's states of docker's builds, where others have theirs, too.
    #[serde(skip)]
    pub builds: Builds,
    /// Where volumes are staged for pods of ours alone, in a directory that kubelets share.
    #[serde(skip)]
    pub staged: BTreeSet<PathBuf>,
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
    /// What is left of containers and pods that had ended before, and that our containerd's database alone tells of.
    #[serde(default, skip_serializing_if = "Exited::is_empty")]
    pub exited: Exited,
    /// What our processes have made in the machine's own IPC namespace: table, number, and the process.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub ipc: BTreeSet<Name>,
    /// Our containerd has run, and nothing of it has a container any more: what it made for all of them may be there.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub idle: bool,
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

/// A shim of ours.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct OwnedShim {
    pub process: ProcessId,
    /// containerd's namespace.
    pub namespace: Name,
    /// The ID it was started with.
    pub id: Option<Name>,
    /// Where it listens.
    #[serde(with = "text::option")]
    pub socket: Option<Arc<Path>>,
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
    pub fn socket_of(&self, container: &Container) -> Arc<Path> {
        let computed = || {
            shim::socket(
                &self.roots.shim_sockets,
                &self.inside.address,
                &container.id.namespace,
                &container.shim_id,
            )
            .into()
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

    /// The uids of pods of ours.
    pub fn pod_uids(&self) -> impl Iterator<Item = &str> {
        let pods = self.containers.iter().filter(|c| c.pod_proven).filter_map(|c| c.pod.as_ref());
        pods.map(|pod| pod.uid.as_str()).filter(|uid| !uid.is_empty())
    }

    /// Whether a containerd of the snap has run, as far as anything of it is left.
    pub fn has_run(&self) -> bool {
        self.idle || self.containers.iter().any(|container| self.counts_as_ours(container))
    }

    /// Whether a docker of ours has left something: containers, plugins, steps of builds, or what it keeps after the last one. Stopped
    /// in order, it has ended its containers and left its rules, and the builds with theirs.
    pub fn docker_has_run(&self) -> bool {
        let is_its = |c: &Container| docker::is_namespace(&c.id.namespace) && self.counts_as_ours(c);
        self.containers.iter().any(is_its)
            || (self.has_run() || !self.builds.is_empty()) && docker::data_of(&self.roots.root).is_some()
    }

    /// Whether a container of ours is in this namespace of containerd's.
    fn counts_in(&self, namespace: &str) -> bool {
        self.containers.iter().any(|c| c.id.namespace == *namespace && self.counts_as_ours(c))
    }

    /// Whether a kubelet of the snap has run, as far as anything of what it manages is left.
    pub fn kubelet_has_run(&self) -> bool {
        self.roots.kubelet.is_some() && (self.network.is_known() || self.has_run())
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
