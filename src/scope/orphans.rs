//! Whose the processes are, whatever became of the bundle: by the group that they are in, and by a root on our snapshots. Here
//! hints become proof, or doubt.

use std::collections::{HashMap, HashSet};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::gather::Gather;
use super::rootfs::RootFs;
use crate::error::{Blind, Why};
use crate::linux::cgroup::{Hierarchy, full};
use crate::linux::proc::Proc;
use crate::order;
use crate::reason::Reason;
use crate::residue::witness::{Proven, Witness};
use crate::runtime::bundle::Bundle;
use crate::runtime::processes::Processes;
use crate::runtime::{ContainerId, groups, short};
use crate::scope::{Container, Evidence};
use crate::text;

/// What is known of a control group that a container is said to have.
enum Standing {
    /// Nothing runs in it: it may go by a hint.
    Dead,
    Proven(Witness),
    /// All that runs in it descends from a shim that is another's: this one.
    Anothers(i32),
    /// It runs and nothing proves it ours; why, and whether it could be ours all the same.
    Doubtful {
        reason: Reason,
        why: String,
        may_be_ours: bool,
    },
}

impl Gather<'_> {
    /// Says of each group that a container is said to have what proves it: what has no witness is not ended.
    pub(super) fn prove_groups(&mut self) {
        let Ok(processes) = self.view.processes() else { return };
        let mut containers = std::mem::take(&mut self.containers);
        for container in containers.values_mut() {
            for group in std::mem::take(&mut container.cgroups) {
                if !self.places.has(&group) {
                    // Only of what runc wrote down, a group that is gone tells which groups above it were ours.
                    if self.recorded.contains(&group) || container.is_proven() {
                        container.cgroups.push(group);
                    }
                    continue;
                }
                match self.standing(container, &group, processes) {
                    Standing::Dead => container.cgroups.push(group),
                    Standing::Proven(witness) => {
                        container.witnesses.insert(witness);
                        container.proven_cgroups.push(Proven::by(witness, group.clone()));
                        container.cgroups.push(group);
                    }
                    Standing::Anothers(shim) => self.leave(&container.id, shim),
                    Standing::Doubtful { reason, why, may_be_ours } => {
                        container.contradicted = true;
                        let what = format!("container {}", short(&container.id.id));
                        let why = format!("the group {} {why}", text::show(&group));
                        let told = Blind::new(what, (reason, why));
                        match may_be_ours {
                            true => self.blind.push(told),
                            false => self.doubts.push(told),
                        }
                    }
                }
            }
        }
        containers.values_mut().for_each(|container| self.prove_pod(container));
        self.containers = containers;
    }

    /// A bundle says of which pod a container is; that pod's group is made by kubelet, and runc's record or the kernel names it.
    fn prove_pod(&self, container: &mut Container) {
        let uid = container.pod.as_ref().map_or("", |pod| pod.uid.as_str());
        let is_there = |g: &&PathBuf| self.recorded.contains(*g) || self.places.has(g);
        let mut groups = container.cgroups.iter().filter(is_there);
        container.pod_proven = container.is_proven() && groups.any(|g| groups::is_of_pod(g, uid));
    }

    fn standing(&self, container: &Container, group: &Path, processes: &Processes) -> Standing {
        // Where systemd keeps what is not ours, a group is a container's only if its name cannot be anybody else's.
        let own_place = !groups::is_of_a_manager(group) || groups::carries_long_id(group, &container.id.id);
        let recorded = own_place && self.recorded.contains(group);
        let pids = match self.pids_of(group) {
            Ok(pids) => pids,
            // A container can make more groups below its own than are looked through.
            Err(_) if recorded && self.holds_its_init(container, group, processes) => {
                return Standing::Proven(Witness::RuncState);
            }
            Err(why) => {
                let (reason, why) = (why.reason, format!("could not be read: {why}"));
                return Standing::Doubtful { reason, why, may_be_ours: !self.is_a_users(group) };
            }
        };
        let alive: Vec<&Proc> =
            pids.iter().filter_map(|pid| processes.get(*pid)).filter(|p| p.alive()).collect();
        let Some(first) = alive.first() else { return Standing::Dead };
        let shim = |p: &&&Proc| self.shims.iter().any(|shim| shim.process.pid == p.parent);
        if own_place && alive.iter().find(shim).is_some() {
            return Standing::Proven(Witness::ChildOfShim);
        }
        let init = container.init.filter(|init| alive.iter().any(|p| p.id == *init));
        if recorded && init.is_some() {
            return Standing::Proven(Witness::RuncState);
        }
        let roots: Vec<RootFs> = alive.iter().map(|p| self.root_of(p, processes)).collect();
        let all_ours = roots.iter().all(|root| matches!(root, RootFs::Ours | RootFs::Gone));
        if roots.iter().any(|root| matches!(root, RootFs::Ours)) && (own_place || all_ours) {
            return Standing::Proven(Witness::RootOnSnapshot);
        }
        if own_place && let Some(shim) = self.anothers_shim(container, &alive, processes) {
            return Standing::Anothers(shim);
        }
        let unknown = unknown_of(&alive, &roots);
        let who = format!("holds process {} ({})", first.id.pid, text::escape(first.comm.as_bytes()));
        match unknown {
            Some((hidden, why)) if own_place => Standing::Doubtful {
                reason: Reason::Unproven,
                why: format!("{who}, whose root cannot be told: {why}"),
                may_be_ours: !self.is_a_users(group)
                    && !self.have_parents_elsewhere(&hidden, &pids, processes),
            },
            _ => {
                let why = format!("{who}, which is no child of a shim of ours and has its root elsewhere");
                Standing::Doubtful { reason: Reason::Contradicted, why, may_be_ours: false }
            }
        }
    }

    /// True if the process that runc wrote down is alive and says itself that it is in this group.
    fn holds_its_init(&self, container: &Container, group: &Path, processes: &Processes) -> bool {
        let init = container.init.and_then(|init| processes.alive(init));
        init.is_some_and(|init| self.view.membership(init.id.pid).iter().any(|own| own.starts_with(group)))
    }

    /// True if a group is in one that belongs to a user: he, and not root's containerd, has made it. Its own owner tells
    /// nothing, for runc gives a container's group to the container's user namespace. Every hierarchy must say so.
    pub(super) fn is_a_users(&self, group: &Path) -> bool {
        let owner = |directory: &Path| self.view.host.stat(directory).ok().map(|found| found.uid());
        let is_so = |hierarchy: &Hierarchy| {
            let roots = [Some(0), owner(&hierarchy.point)];
            let mut above = group.ancestors().skip(1).filter(|above| above.parent().is_some());
            above.any(|above| {
                owner(&full(&hierarchy.point, above)).is_some_and(|uid| !roots.contains(&Some(uid)))
            })
        };
        self.places.has(group) && self.places.hierarchies_of(group).all(is_so)
    }

    pub(super) fn pids_of(&self, group: &Path) -> Result<Vec<i32>, Why> {
        let mut all = Vec::new();
        for hierarchy in self.places.hierarchies_of(group) {
            all.extend_from_slice(&self.view.group_pids(hierarchy, group)?);
        }
        Ok(all)
    }

    /// Groups that look like a container's and that nobody has claimed, and processes that have lost their shim: an orphan
    /// whose bundle, shim and runc state are all gone (or hidden from us) is told by its root file system.
    pub(super) fn orphans(&mut self) {
        let view = self.view;
        let (Ok(tree), Ok(processes)) = (view.cgroups(), view.processes()) else { return };
        let known = self.known_groups();
        let mut judged = HashSet::new();
        for (_, group) in tree.each() {
            let id = group.file_name().and_then(|n| n.to_str()).and_then(groups::container_of);
            let Some(id) = id.filter(|id| !self.foreign_ids.contains(*id)) else { continue };
            if !known.contains(group) && judged.insert(group) {
                self.unclaimed_group(group, id, processes);
            }
        }
        let accounted: HashSet<i32> = known
            .iter()
            .chain(self.proven_groups().iter())
            .filter_map(|group| self.pids_of(group).ok())
            .flatten()
            .collect();
        self.lost_processes(processes, &accounted);
    }

    fn proven_groups(&self) -> Vec<PathBuf> {
        self.containers.values().flat_map(|c| c.proven_cgroups.iter().map(|g| g.get().clone())).collect()
    }

    fn unclaimed_group(&mut self, group: &Path, id: &str, processes: &Processes) {
        let what = format!("container group {}", text::show(group));
        let pids = match self.pids_of(group) {
            Ok(pids) => pids,
            // What a user can make keeps nothing from being removed.
            Err(why) if self.is_a_users(group) => return self.doubts.push(Blind::new(what, why)),
            Err(why) => return self.blind.push(Blind::new(what, why)),
        };
        let alive: Vec<&Proc> =
            pids.iter().filter_map(|pid| processes.get(*pid)).filter(|p| p.alive()).collect();
        let root_of = |p: &&Proc| self.root_of(p, processes);
        // One that ends while it is looked at tells nothing; the next one may.
        let first = alive.iter().map(root_of).find(|root| !matches!(root, RootFs::Gone));
        if matches!(first, Some(RootFs::Ours)) {
            return self.own_orphan(ContainerId { namespace: "k8s.io".into(), id: id.into() }, group);
        }
        // What a shim outside of it has started there is that shim's container.
        let has_another = |p: &&Proc| self.is_of_another_shim(p, processes) && !pids.contains(&p.parent);
        if alive.iter().any(has_another) {
            return;
        }
        let roots: Vec<RootFs> = alive.iter().map(root_of).collect();
        let ours = alive.iter().zip(&roots).filter(|(_, root)| matches!(root, RootFs::Ours));
        let parents: Vec<i32> = ours.map(|(process, _)| process.parent).collect();
        if !parents.is_empty() {
            // What init has inherited is asked by itself, and ends the rest with it.
            let why = "a process in it has its root on a snapshot of ours, and the first one has not";
            let all_have_others = !parents.contains(&1);
            return self
                .doubts
                .extend(all_have_others.then(|| Blind::new(what, (Reason::Contradicted, why))));
        }
        if roots.iter().any(|root| matches!(root, RootFs::Elsewhere)) {
            return;
        }
        if let Some((hidden, why)) = unknown_of(&alive, &roots) {
            let runc = self.runc_hidden.as_deref().unwrap_or("no runc state, no parent shim");
            let told =
                Blind::new(what, (Reason::Unproven, format!("whose it is cannot be told: {runc}; {why}")));
            let is_anothers =
                self.is_a_users(group) || self.have_parents_elsewhere(&hidden, &pids, processes);
            let list = if is_anothers { &mut self.doubts } else { &mut self.blind };
            return list.push(told);
        }
        let doubtful = roots.into_iter().find_map(|root| match root {
            RootFs::Doubtful(why) => Some(why),
            RootFs::Changed => {
                Some("its processes have changed their roots, and nothing tells whose they were".into())
            }
            _ => None,
        });
        self.doubts.extend(doubtful.map(|why| Blind::new(what, (Reason::Unproven, why))));
    }

    pub(super) fn own_orphan(&mut self, id: ContainerId, group: &Path) {
        let container = self.claim(id, Bundle::default(), Evidence::RootFs);
        container.witnesses.insert(Witness::RootOnSnapshot);
        container.cgroups.push(group.to_path_buf());
        container.proven_cgroups.push(Proven::by(Witness::RootOnSnapshot, group.to_path_buf()));
    }

    /// IDs that something alive carries which is not ours: what is known by the ID alone is then nobody's to remove.
    pub(super) fn contradicted_ids(&mut self) {
        let Ok(tree) = self.view.cgroups() else { return };
        let unproven = || self.containers.values().filter(|c| !c.is_proven() && !c.contradicted);
        let mut carriers: HashMap<&str, Vec<&Path>> =
            unproven().map(|c| (c.id.id.as_str(), Vec::new())).collect();
        for (_, group) in tree.each() {
            let name = group.file_name().and_then(|n| n.to_str()).unwrap_or_default();
            let name = name.strip_suffix(".scope").unwrap_or(name);
            let tail = name.rsplit(['-', ':']).next().unwrap_or(name);
            let tail = tail.strip_prefix("kata_").unwrap_or(tail);
            // Containers make groups, too, and as many as they like: only those of these names are kept.
            for name in [Some(tail), Some(name).filter(|name| *name != tail)].into_iter().flatten() {
                if let Some(groups) = carriers.get_mut(name) {
                    groups.push(group);
                }
            }
        }
        let mut contradicted = Vec::new();
        for container in unproven() {
            let groups = carriers.get(container.id.id.as_str()).into_iter().flatten();
            let mut others = groups.filter(|g| !container.cgroups.iter().any(|own| own == *g));
            if let Some(group) = others.find(|g| self.pids_of(g).is_ok_and(|pids| !pids.is_empty())) {
                contradicted.push((container.id.clone(), group.to_path_buf()));
            }
        }
        for (id, group) in contradicted {
            self.containers.entry(id.clone()).and_modify(|c| c.contradicted = true);
            // Whose it is, runc's state of it says.
            if self.foreign.contains(&id) {
                continue;
            }
            let why = format!("only a bundle names it, and {} carries its ID", self.living(&group));
            let what = format!("container {}", short(&id.id));
            self.doubts.push(Blind::new(what, (Reason::Contradicted, why)));
        }
    }

    /// In words: a living group, where it is, and what runs in it.
    fn living(&self, group: &Path) -> String {
        const MAX_NAMED: usize = 10;
        let name = text::show(group.file_name().map_or(group, Path::new));
        let hierarchy = self.places.hierarchies_of(group).next();
        let parent = group.parent().unwrap_or(group);
        let place = hierarchy.map_or_else(|| parent.to_path_buf(), |h| full(&h.point, parent));
        let mut pids = self.pids_of(group).unwrap_or_default();
        order::sort(&mut pids);
        pids.dedup();
        let pids: Vec<String> = pids.iter().take(MAX_NAMED).map(|pid| format!("process {pid}")).collect();
        format!("the living group {name} in {} ({})", text::show(&place), pids.join(", "))
    }

    /// What a bundle claims and no container could have is told while it lives; many such claims are counted. Those of proven
    /// containers are returned: `ctr run --cgroup` takes any name.
    pub(super) fn refused_groups(&mut self) -> Vec<PathBuf> {
        const MAX_TOLD: usize = 20;
        let refused = std::mem::take(&mut self.refused);
        let lives = |group: &Path| self.pids_of(group).is_ok_and(|pids| !pids.is_empty());
        let proven = |id: &ContainerId| self.containers.get(id).is_some_and(Container::is_proven);
        let (chosen, refused): (Vec<_>, Vec<_>) = refused.into_iter().partition(|(id, _)| proven(id));
        let living: Vec<_> = refused.into_iter().filter(|(_, group)| lives(group)).collect();
        for (id, group) in living.iter().take(MAX_TOLD) {
            let why =
                format!("a bundle claims the living group {}, which is not called so", text::show(group));
            let what = format!("container {}", short(&id.id));
            self.doubts.push(Blind::new(what, (Reason::Contradicted, why)));
        }
        if living.len() > MAX_TOLD {
            let more = living.len() - MAX_TOLD;
            let why = format!("{more} more claim living groups that are not theirs");
            self.doubts.push(Blind::new("bundles", (Reason::Contradicted, why)));
        }
        chosen.into_iter().map(|(_, group)| group).collect()
    }
}

/// Those whose root cannot be told, and why that of the first cannot.
fn unknown_of<'a>(alive: &[&'a Proc], roots: &[RootFs]) -> Option<(Vec<&'a Proc>, String)> {
    let hidden = |root: &&RootFs| matches!(root, RootFs::Unknown(_));
    let Some(RootFs::Unknown(why)) = roots.iter().find(hidden) else { return None };
    let all = alive.iter().zip(roots).filter(|(_, root)| hidden(root));
    Some((all.map(|(process, _)| *process).collect(), why.clone()))
}

#[cfg(test)]
mod tests;
