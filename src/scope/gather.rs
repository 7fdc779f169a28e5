//! What is gathered while ownership is decided.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};

use crate::error::Blind;
use crate::linux::cgroup::{CgroupTree, Index};
use crate::runtime::bundle::Bundle;
use crate::runtime::{ContainerId, Name, shim};
use crate::scope::{Bystander, BystanderKind, Container, Evidence, OwnedShim, images};
use crate::snap::profile::Roots;
use crate::snap::{Snap, units};
use crate::view::View;

/// From where a process descends that is deeper in process namespaces than we are.
#[derive(Clone)]
pub(super) enum Descent {
    Ours,
    /// From a first process that has its root elsewhere, and its mounts in this namespace.
    Elsewhere(Option<PathBuf>),
    Unknown,
}

/// The gathering itself.
pub(super) struct Gather<'a> {
    pub(super) view: &'a View<'a>,
    pub(super) snap: &'a Snap,
    pub(super) roots: &'a Roots,
    pub(super) inside: &'a Roots,
    /// The hierarchies in which each control group exists.
    pub(super) places: Index<'a>,
    pub(super) containers: BTreeMap<ContainerId, Container>,
    pub(super) shims: Vec<OwnedShim>,
    /// Shims at our containerd's address that are another's by the unit that they run in.
    pub(super) anothers_shims: Vec<i32>,
    /// Containers in our directories that are theirs.
    pub(super) anothers: Vec<ContainerId>,
    /// IDs that a readable runc state gives to somebody else.
    pub(super) foreign: BTreeSet<ContainerId>,
    /// The same, whatever containerd's namespace.
    pub(super) foreign_ids: HashSet<Name>,
    /// runc's states of our bundles where these lie in other places than the profile names.
    pub(super) states: BTreeMap<ContainerId, PathBuf>,
    /// Control groups of which runc's own record says that they were made for a container of ours.
    pub(super) recorded: HashSet<PathBuf>,
    /// Control groups that a bundle claims for a container and whose names are not the container's.
    pub(super) refused: Vec<(ContainerId, PathBuf)>,
    pub(super) bystanders: Vec<Bystander>,
    /// What could hide something of ours.
    pub(super) blind: Vec<Blind>,
    /// What claims to be ours, against evidence that it is not.
    pub(super) doubts: Vec<Blind>,
    pub(super) nonsense: Vec<String>,
    pub(super) runc_hidden: Option<String>,
    /// Another instance of the same snap that runs on this machine.
    pub(super) sibling: Option<String>,
    /// True if what has its root on a snapshot of our containerd's is ours by that.
    pub(super) root_proves: bool,
    /// Whose processes count as root's: those of the user that we are.
    pub(super) root: u32,
    /// From where processes descend, by PID, as far as anybody has looked.
    pub(super) descents: RefCell<HashMap<i32, Descent>>,
}

impl<'a> Gather<'a> {
    pub(super) fn new(view: &'a View<'a>, snap: &'a Snap, roots: &'a Roots, inside: &'a Roots) -> Self {
        Gather {
            view,
            snap,
            roots,
            inside,
            places: view.cgroups().as_ref().map(CgroupTree::index).unwrap_or_default(),
            containers: BTreeMap::new(),
            shims: Vec::new(),
            anothers_shims: Vec::new(),
            anothers: Vec::new(),
            foreign: BTreeSet::new(),
            foreign_ids: HashSet::new(),
            states: BTreeMap::new(),
            recorded: HashSet::new(),
            refused: Vec::new(),
            bystanders: Vec::new(),
            blind: Vec::new(),
            doubts: Vec::new(),
            nonsense: Vec::new(),
            runc_hidden: None,
            sibling: sibling_of(view, snap),
            root_proves: images::proves(view, snap, roots),
            root: nix::unistd::geteuid().as_raw(),
            descents: RefCell::default(),
        }
    }

    /// Takes a container as one to look for, or adds to what is known of it. Proves nothing.
    pub(super) fn claim(
        &mut self,
        id: ContainerId,
        mut bundle: Bundle,
        evidence: Evidence,
    ) -> &mut Container {
        bundle.socket =
            bundle.socket.take().filter(|socket| self.is_computed(socket, &id, bundle.shim_id.as_deref()));
        self.refused.extend(bundle.refused.drain(..).map(|group| (id.clone(), group)));
        let container = self.containers.entry(id.clone()).or_insert_with(|| Container {
            shim_id: bundle.shim_id.map_or_else(|| id.id.clone(), Name::from),
            sandbox: bundle.is_sandbox,
            pod: bundle.pod,
            cgroups: bundle.groups,
            netns: bundle.netns,
            socket: bundle.socket.map(Into::into),
            binds: bundle.binds.into(),
            shares: bundle.shares,
            passed_on: bundle.passed_on.into(),
            privileged: bundle.privileged,
            host_ipc: bundle.host_ipc,
            ..Container::of_id(id)
        });
        container.evidence.insert(evidence);
        container
    }

    /// A bundle may name any socket; containerd has its shims listen at a hash of its own address and their ID.
    fn is_computed(&self, socket: &Path, id: &ContainerId, shim_id: Option<&str>) -> bool {
        let of = |name: &str| self.socket_at(&id.namespace, name) == *socket;
        of(shim_id.unwrap_or(&id.id)) || of(&id.id)
    }

    /// Where our containerd has the shim listen that it started under this name.
    pub(super) fn socket_at(&self, namespace: &str, name: &str) -> PathBuf {
        shim::socket(&self.roots.shim_sockets, &self.inside.address, namespace, name)
    }

    /// The comments by which firewall rules are ours: they name the snap, and where another instance of it runs, they
    /// may as well be that one's.
    pub(super) fn rule_comments(&mut self, named: &[String]) -> Vec<String> {
        let Some(sibling) = &self.sibling else { return named.to_vec() };
        let why = format!("the instance '{sibling}' makes the same");
        let what = |comment: &String| format!("the firewall rules with the comment '{comment}'");
        let rules = |comment| Bystander::anothers(BystanderKind::Rules, what(comment), why.clone());
        self.bystanders.extend(named.iter().map(rules));
        Vec::new()
    }

    pub(super) fn note_foreign(&mut self, id: &ContainerId) {
        self.foreign_ids.insert(id.id.clone());
        self.foreign.insert(id.clone());
    }

    /// True if no container can write below this directory: none of the snap's own, which hostPath volumes may reach.
    pub(super) fn is_out_of_reach(&self, directory: &Path) -> bool {
        !self.snap.owns(directory)
    }
}

/// Another instance of the same snap, known by a unit of it in which something runs at our own PID namespace depth. An
/// empty group of that name, one in a delegated slice, and a guest's are nobody's.
fn sibling_of(view: &View, snap: &Snap) -> Option<String> {
    let tree = view.cgroups().as_ref().ok()?;
    let own_depth = view.pid_namespace_depth(None);
    let of_same_snap = |other: &str| other.split('_').next() == Some(snap.name.as_str());
    tree.each().find_map(|(hierarchy, group)| {
        let other = units::snap_of(group).filter(|other| *other != snap.instance && of_same_snap(other))?;
        let pids = view.group_pids(hierarchy, group).ok()?;
        let runs = pids.iter().any(|pid| view.pid_namespace_depth(Some(*pid)) == own_depth);
        runs.then(|| other.to_owned())
    })
}
