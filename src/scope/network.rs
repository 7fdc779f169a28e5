//! What of the network is ours.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::net::IpAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::error::Blind;
use crate::order;
use crate::runtime::docker::Reached;
use crate::text;

/// What of the network is ours.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Network {
    /// Network namespaces of ours.
    pub namespaces: Vec<OwnedNetns>,
    /// Links of ours.
    pub links: Vec<OwnedLink>,
    /// Files with CNI's results of our sandboxes.
    #[serde(with = "text::list")]
    pub results: Vec<PathBuf>,
    /// Directories besides the usual ones in which addresses were leased to them.
    #[serde(skip)]
    pub leases: BTreeSet<PathBuf>,
    /// The same for files that plugins keep for each sandbox.
    #[serde(skip)]
    pub notes: BTreeSet<PathBuf>,
    /// Names of the CNI networks that our sandboxes were attached to.
    pub networks: BTreeSet<String>,
    /// Names of the interfaces by which they were.
    pub interfaces: BTreeSet<String>,
    /// CNI's plugins that attached them, as its configuration calls these.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub plugins: BTreeSet<String>,
    /// Addresses that they were given, and that nobody else has.
    pub addresses: BTreeSet<IpAddr>,
    /// Networks of links of ours: an address and how many bits of it name the network.
    pub blocks: BTreeSet<(IpAddr, u8)>,
    /// How docker's containers of ours were reached, as docker wrote it down.
    #[serde(skip)]
    pub docker: Reached,
    /// The network namespace that we are in ourselves: a name for it keeps nobody's network alive.
    #[serde(skip)]
    pub own: Option<u64>,
    /// Others' programs that are alive and manage pods, or the network of a node: what they make looks as ours does. By their
    /// names.
    pub rivals: BTreeMap<String, String>,
    /// Network namespaces that a result of CNI names or may be of, and that nobody is in or claims: what tells whose they were is
    /// lost.
    #[serde(skip)]
    pub lost: Vec<(u64, PathBuf)>,
    /// What could be ours, or hides what is, with the reason.
    pub blind: Vec<Blind>,
}

/// Programs that manage pods.
pub const KUBELETS: [&str; 9] =
    ["kubelet", "kubelite", "k3s-server", "k3s-agent", "k3s", "rke2", "k0s", "edgecore", "microshift"];

/// docker's daemon knows no pods.
pub(super) const DOCKERD: &str = "dockerd";

impl Network {
    /// Why there may be another kubelet: a living program that manages pods and is not ours.
    pub fn other_kubelet(&self) -> Option<&str> {
        self.rivals.iter().find(|(name, _)| *name != DOCKERD).map(|(_, why)| why.as_str())
    }
}

/// A network namespace of ours, with what proves it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct OwnedNetns {
    /// The kernel's number of it; none of one that is gone and has left its file behind.
    pub inode: Option<u64>,
    /// Where it was bound when the scope was gathered. The number alone may be another's by now.
    #[serde(with = "text::list")]
    pub paths: Vec<PathBuf>,
    /// The sandbox that it was made for.
    pub sandbox: String,
    /// Who says so.
    pub because: NetnsEvidence,
}

/// Who says that a network namespace is a container's. Only a bundle can be written by a container, so it proves nothing
/// that another contradicts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NetnsEvidence {
    /// A process of a proven container is in it.
    Process,
    /// runc's state, which only root can write, names it.
    RuncState,
    /// CNI's result of exactly this container names it.
    CniResult,
    /// An earlier run had a proof.
    EarlierRun,
    /// The container's bundle names it, or, for a dead sandbox, containerd's database, and nothing says otherwise.
    Bundle,
}

/// A link of ours, with what proves it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct OwnedLink {
    /// The kernel's index.
    pub index: u32,
    pub name: String,
    /// Its kind.
    pub r#type: String,
    /// Why it is ours.
    pub because: String,
}

impl Network {
    /// What either knows.
    pub fn union(mut self, older: Network) -> Network {
        let known: HashSet<u32> = self.links.iter().map(|l| l.index).collect();
        self.links.extend(older.links.into_iter().filter(|l| !known.contains(&l.index)));
        let known: HashSet<PathBuf> = self.namespaces.iter().flat_map(|n| n.paths.iter().cloned()).collect();
        let new = |n: &OwnedNetns| !n.paths.iter().any(|path| known.contains(path));
        self.namespaces.extend(older.namespaces.into_iter().filter(new));
        self.results.extend(older.results);
        order::sort(&mut self.results);
        self.results.dedup();
        self.leases.extend(older.leases);
        self.notes.extend(older.notes);
        self.networks.extend(older.networks);
        self.interfaces.extend(older.interfaces);
        self.plugins.extend(older.plugins);
        self.addresses.extend(older.addresses);
        self.blocks.extend(older.blocks);
        self.docker.union(older.docker);
        self.rivals.extend(older.rivals);
        self
    }

    /// True if anything of ours ever had a network.
    pub fn is_known(&self) -> bool {
        !self.namespaces.is_empty()
            || !self.results.is_empty()
            || !self.networks.is_empty()
            || !self.addresses.is_empty()
    }
}
