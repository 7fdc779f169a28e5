//! What is ours by bundles and by runc's states, and what another instance makes doubtful.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use crate::error::Blind;
use crate::runtime::ContainerId;
use crate::runtime::bundle::Bundle;
use crate::scope::{Bystander, BystanderKind, Container, Proof, Shim};
use crate::snap::profile::Roots;
use crate::snap::{Snap, units};
use crate::view::View;

/// The gathering itself.
pub(super) struct Gather<'a> {
    pub(super) view: &'a View<'a>,
    pub(super) snap: &'a Snap,
    pub(super) roots: &'a Roots,
    pub(super) inside: &'a Roots,
    pub(super) containers: BTreeMap<ContainerId, Container>,
    pub(super) shims: Vec<Shim>,
    /// IDs that a readable runc state gives to somebody else.
    pub(super) foreign: BTreeSet<ContainerId>,
    /// The same, whatever containerd's namespace.
    pub(super) foreign_ids: HashSet<String>,
    pub(super) bystanders: Vec<Bystander>,
    pub(super) blind: Vec<Blind>,
    pub(super) nonsense: Vec<String>,
    pub(super) runc_hidden: Option<String>,
    /// Another instance of the same snap that has units on this machine.
    pub(super) sibling: Option<String>,
}

impl<'a> Gather<'a> {
    pub(super) fn new(view: &'a View<'a>, snap: &'a Snap, roots: &'a Roots, inside: &'a Roots) -> Self {
        Gather {
            view,
            snap,
            roots,
            inside,
            containers: BTreeMap::new(),
            shims: Vec::new(),
            foreign: BTreeSet::new(),
            foreign_ids: HashSet::new(),
            bystanders: Vec::new(),
            blind: Vec::new(),
            nonsense: Vec::new(),
            runc_hidden: None,
            sibling: sibling_of(view, snap),
        }
    }

    /// Takes a container as ours, or adds to what is known of it.
    pub(super) fn claim(&mut self, id: ContainerId, bundle: Bundle, evidence: Proof) -> &mut Container {
        let container = self.containers.entry(id.clone()).or_insert_with(|| Container {
            shim_id: bundle.shim_id.unwrap_or_else(|| id.id.clone()),
            sandbox: bundle.is_sandbox,
            pod: bundle.pod,
            cgroups: bundle.groups,
            init: None,
            netns: bundle.netns,
            socket: bundle.socket,
            binds: bundle.binds,
            evidence: BTreeSet::new(),
            id,
        });
        container.evidence.insert(evidence);
        container
    }

    /// The comments by which firewall rules are ours: they name the snap, and where another instance of it runs, they
    /// may as well be that one's.
    pub(super) fn rule_comments(&mut self, named: &[String]) -> Vec<String> {
        let Some(sibling) = &self.sibling else { return named.to_vec() };
        let why = format!("the instance '{sibling}' makes the same");
        let what = |comment: &String| format!("the firewall rules with the comment '{comment}'");
        self.bystanders.extend(named.iter().map(|c| Bystander {
            kind: BystanderKind::Rules,
            what: what(c),
            why: why.clone(),
        }));
        Vec::new()
    }

    pub(super) fn note_foreign(&mut self, id: &ContainerId) {
        self.foreign_ids.insert(id.id.clone());
        self.foreign.insert(id.clone());
    }
}

/// Another instance of the same snap, known by its units.
fn sibling_of(view: &View, snap: &Snap) -> Option<String> {
    let tree = view.cgroups().as_ref().ok()?;
    let of_same_snap = |other: &&str| other.split('_').next() == Some(snap.name.as_str());
    let mut instances = tree.each().filter_map(|(_, group)| units::snap_of(group)).filter(of_same_snap);
    instances.find(|other| *other != snap.instance).map(str::to_owned)
}
