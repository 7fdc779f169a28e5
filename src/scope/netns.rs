//! Which network namespaces are ours, by whatever name they are bound.
//!
//! All that may tell is asked: the processes of a container (the kernel's word), runc's state and CNI's result (root's),
//! and the bundle (which a container may have written). Then everybody who is in one is looked up: where somebody is who is
//! not ours, it is another's, whoever calls it ours.

mod machine;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::PathBuf;

use crate::error::Blind;
use crate::linux::netns;
use crate::order;
use crate::reason::Reason;
use crate::runtime::cni::{self, Attachment};
use crate::runtime::short;
use crate::scope::network::{NetnsEvidence, Network, OwnedNetns};
use crate::scope::{Bystander, BystanderKind, Scope};
use crate::text::show;
use crate::view::View;

pub(super) use machine::{Claim, Machine};

#[derive(Debug, Default)]
pub(super) struct Namespaces {
    pub ours: Vec<OwnedNetns>,
    /// Others', and why.
    pub others: BTreeMap<u64, String>,
    pub bystanders: Vec<Bystander>,
    pub blind: Vec<Blind>,
    /// A file by which each can be opened.
    pub doors: BTreeMap<u64, PathBuf>,
    /// Namespaces that nobody has claimed and that are bound where CNI binds its own, each with its place.
    pub unclaimed: BTreeMap<u64, PathBuf>,
    /// The same for those that are bound elsewhere.
    pub elsewhere: BTreeMap<u64, PathBuf>,
    /// Those that some process is in.
    pub inhabited: BTreeSet<u64>,
    /// Whether anybody could not be asked where he is.
    pub hidden: bool,
    /// Namespaces that somebody's result of CNI names or may be of, and that nobody is in or claims.
    pub lost: Vec<(u64, PathBuf)>,
}

pub(super) fn gather(
    view: &View,
    scope: &Scope,
    attachments: &[(String, Attachment)],
    of_others: &[Attachment],
    earlier: Option<&Network>,
) -> Namespaces {
    let mut found = Namespaces::default();
    if scope.containers.is_empty() && !scope.idle && earlier.is_none_or(|e| e.namespaces.is_empty()) {
        return found;
    }
    let table = match view.own_mounts() {
        Ok(table) => table,
        Err(e) => {
            found.blind.push(Blind::new("network namespaces", e));
            return found;
        }
    };
    let mut machine = Machine::of(view, table);
    let claims = machine.claims(scope, attachments);
    if !claims.is_empty() {
        let (strangers, hidden) = machine.strangers(scope, &claims, &mut found.inhabited);
        for claim in &claims {
            if let Some(lent) = machine.lent(claim, &claims) {
                found.lent(claim, lent);
            } else {
                found.judge(claim, &claims, &strangers, hidden, of_others);
            }
        }
        found.hidden = hidden;
    }
    found.tell_held(&machine, &claims);
    found.leftover_files(&machine, scope, attachments);
    found.remember(&machine, earlier);
    for owned in &mut found.ours {
        let Some(inode) = owned.inode else { continue };
        owned.paths.extend(machine.binds.get(&inode).into_iter().flatten().cloned());
        order::sort(&mut owned.paths);
        owned.paths.dedup();
        found.doors.extend(owned.paths.first().map(|path| (inode, path.clone())));
    }
    found.unclaimed(&machine, scope);
    if claims.is_empty() && !found.unclaimed.is_empty() {
        found.hidden = machine.strangers(scope, &[], &mut found.inhabited).1;
    }
    let named = of_others.iter().filter_map(|result| machine.bound_at(result.netns.as_ref()?));
    let named = order::set(named);
    // Not every plugin's result tells it: Calico's do not. Where no database tells either, it may be any.
    let unnamed = scope.damaged && of_others.iter().any(|result| result.netns.is_none());
    let is_lost = |(inode, path): &(&u64, &PathBuf)| {
        (unnamed || named.contains(inode)) && !found.inhabited.contains(inode) && netns::is_cnis(path)
    };
    found.lost = found.unclaimed.iter().filter(is_lost).map(|(inode, path)| (*inode, path.clone())).collect();
    found
}

impl Namespaces {
    fn judge(
        &mut self,
        claim: &Claim,
        all: &[Claim],
        strangers: &BTreeMap<u64, String>,
        hidden: bool,
        of_others: &[Attachment],
    ) {
        let Claim { container, by, inode, path } = claim;
        if self.ours.iter().any(|o| o.inode == Some(*inode)) {
            return;
        }
        let what = || match path {
            Some(path) => format!("the network namespace {}", show(path)),
            None => format!("the network namespace of container {}", short(&container.id.id)),
        };
        // Witnesses come first, and of two that differ the kernel is believed, and the other one told.
        let differs =
            |other: &&Claim| other.container.id == container.id && other.by < *by && other.inode != *inode;
        if let Some(better) = all.iter().find(differs).filter(|_| *by >= NetnsEvidence::CniResult) {
            let (by, better, id) = (by.words(), better.by.words(), short(&container.id.id));
            let why = format!("{by} of container {id} names it, and {better} tells of another one");
            return self.blind.push(Blind::new(what(), (Reason::Contradicted, why)));
        }
        if let Some(why) = strangers.get(inode) {
            if self.others.insert(*inode, why.clone()).is_none() {
                self.bystanders.push(Bystander::anothers(BystanderKind::Netns, what(), why.clone()));
            }
            if !container.is_proven() {
                let why = format!("{} of container {} names it; but {why}", by.words(), container.id.id);
                self.blind.push(Blind::new(what(), (Reason::Contradicted, why)));
            }
            return;
        }
        match self.doubt(claim, hidden, of_others) {
            Some(why) => self.blind.push(Blind::new(what(), (Reason::Unproven, why))),
            None => self.ours.push(OwnedNetns {
                inode: Some(*inode),
                paths: Vec::new(),
                sandbox: container.id.id.to_string(),
                because: *by,
            }),
        }
    }

    /// One that was there before the container: it stays with its links. Where a bundle alone says so, or nothing says
    /// anything, it is in doubt.
    fn lent(&mut self, Claim { container, inode, .. }: &Claim, (path, by): (PathBuf, Option<NetnsEvidence>)) {
        let id = short(&container.id.id);
        let (what, why) =
            (format!("the network namespace {}", show(&path)), format!("container {id} is in it"));
        let known = self.others.insert(*inode, why.clone()).is_some();
        match by {
            _ if known => {}
            Some(NetnsEvidence::RuncState) => {
                let why = format!("container {id} has joined it, and it was there before");
                self.bystanders.push(Bystander::anothers(BystanderKind::Netns, what, why));
            }
            _ => self
                .blind
                .push(Blind::new(what, (Reason::Unproven, format!("{why}, and its name is not CNI's")))),
        }
    }

    /// Tells of namespaces that were made for containers of ours, by root's word, and stay because somebody else is in them:
    /// these are left over, and not a bystander's own. runc's state also names namespaces that somebody else made and a
    /// container of ours has joined; CNI's are known by their names.
    fn tell_held(&mut self, machine: &Machine, claims: &[Claim]) {
        let made = |claim: &&Claim| match claim.by {
            NetnsEvidence::CniResult => claim.container.is_proven(),
            NetnsEvidence::RuncState => {
                claim.container.is_proven() && claim.path.as_deref().is_some_and(netns::is_cnis)
            }
            _ => false,
        };
        let left = order::set(claims.iter().filter(made).map(|claim| claim.inode));
        for (inode, why) in self.others.iter().filter(|(inode, _)| left.contains(inode)) {
            for path in machine.binds.get(inode).into_iter().flatten() {
                let what = format!("the network namespace {}", show(path));
                self.blind.push(Blind::new(what, (Reason::Busy, why)));
            }
        }
    }

    /// Why a claim that nobody contradicts is not enough.
    fn doubt(&self, claim: &Claim, hidden: bool, of_others: &[Attachment]) -> Option<String> {
        let Claim { container, by, path, .. } = claim;
        if !container.is_proven() {
            return Some(format!(
                "{} of container {} names it, which nothing proves ours",
                by.words(),
                container.id.id
            ));
        }
        let names = |a: &&Attachment| a.netns.as_deref().map(netns::plain) == *path && path.is_some();
        if *by >= NetnsEvidence::CniResult && of_others.iter().any(|a| names(&a)) {
            return Some("CNI's result of another's container names it, too".into());
        }
        if *by != NetnsEvidence::Bundle {
            return None;
        }
        if hidden {
            return Some("only the bundle names it, and who is in it cannot be told".into());
        }
        // By another name it was made by somebody else, and lent to the container.
        let lent = !path.as_deref().is_some_and(netns::is_cnis);
        lent.then(|| "only the bundle names it, and its name is not CNI's".into())
    }

    /// The file of a namespace that is no longer bound there, where a witness or the bundle of a proven container names it.
    fn leftover_files(&mut self, machine: &Machine, scope: &Scope, attachments: &[(String, Attachment)]) {
        let known: HashSet<&str> =
            scope.containers.iter().filter(|c| c.is_proven()).map(|c| c.id.id.as_str()).collect();
        let of_cni = attachments
            .iter()
            .filter_map(|(id, a)| Some((id.as_str(), a.netns.as_ref()?, NetnsEvidence::CniResult)));
        let named = scope.containers.iter().flat_map(|c| {
            let state =
                c.netns_of_state.iter().map(move |path| (c.id.id.as_str(), path, NetnsEvidence::RuncState));
            state.chain(c.netns.iter().map(move |path| (c.id.id.as_str(), path, NetnsEvidence::Bundle)))
        });
        let mut files: BTreeMap<PathBuf, OwnedNetns> = BTreeMap::new();
        for (id, path, because) in named.chain(of_cni).filter(|(id, ..)| known.contains(id)) {
            let plain = netns::plain(path);
            if netns::is_cnis(&plain) && cni::is_netns(path, &scope.roots) && machine.bound_at(path).is_none()
            {
                let (inode, paths) = (None, vec![plain.clone()]);
                files.entry(plain).or_insert(OwnedNetns { inode, paths, sandbox: id.into(), because });
            }
        }
        self.ours.extend(files.into_values());
    }

    /// What an earlier run had proven, where the same namespace is still bound at the same place.
    fn remember(&mut self, machine: &Machine, earlier: Option<&Network>) {
        for old in earlier.into_iter().flat_map(|e| &e.namespaces) {
            let same = |path: &&PathBuf| old.inode.is_some() && machine.bound_at(path) == old.inode;
            let known = |n: &OwnedNetns| n.inode == old.inode && (n.inode.is_some() || n.paths == old.paths);
            let others = old.inode.is_some_and(|inode| self.others.contains_key(&inode));
            if (old.inode.is_none() || old.paths.iter().any(|p| same(&p)))
                && !others
                && !self.ours.iter().any(known)
            {
                self.ours.push(OwnedNetns { because: NetnsEvidence::EarlierRun, ..old.clone() });
            }
        }
    }

    fn unclaimed(&mut self, machine: &Machine, scope: &Scope) {
        for (inode, points) in &machine.binds {
            let taken = self.others.contains_key(inode) || self.ours.iter().any(|o| o.inode == Some(*inode));
            if taken || machine.hosts.contains(inode) {
                continue;
            }
            if let Some(path) = points.iter().find(|path| cni::is_netns(path, &scope.roots)) {
                self.unclaimed.insert(*inode, path.clone());
            } else if let Some(path) = points.first() {
                self.elsewhere.insert(*inode, path.clone());
            }
        }
        let door = |inode: &u64| Some((*inode, machine.binds.get(inode)?.first()?.clone()));
        self.doors.extend(self.others.keys().filter_map(door));
    }
}

impl NetnsEvidence {
    fn words(self) -> &'static str {
        match self {
            NetnsEvidence::Process => "a process",
            NetnsEvidence::RuncState => "runc's state",
            NetnsEvidence::CniResult => "CNI's result",
            NetnsEvidence::EarlierRun => "an earlier run",
            NetnsEvidence::Bundle => "the bundle",
        }
    }
}

#[cfg(test)]
mod tests;
