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
                if !self.places.contains_key(group.as_os_str()) {
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
        let is_there = |g: &&PathBuf| self.recorded.contains(*g) || self.places.contains_key(g.as_os_str());
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
        let unknown = roots.iter().find_map(|root| match root {
            RootFs::Unknown(why) => Some(why.clone()),
            _ => None,
        });
        let who = format!("holds process {} ({})", first.id.pid, text::escape(first.comm.as_bytes()));
        match unknown {
            Some(why) if own_place => Standing::Doubtful {
                reason: Reason::Unproven,
                why: format!("{who}, whose root cannot be told: {why}"),
                may_be_ours: !self.is_a_users(group),
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
    fn is_a_users(&self, group: &Path) -> bool {
        let owner = |directory: &Path| self.view.host.stat(directory).ok().map(|found| found.uid());
        let is_so = |hierarchy: &&Hierarchy| {
            let roots = [Some(0), owner(&hierarchy.point)];
            let mut above = group.ancestors().skip(1).filter(|above| above.parent().is_some());
            above.any(|above| {
                owner(&full(&hierarchy.point, above)).is_some_and(|uid| !roots.contains(&Some(uid)))
            })
        };
        self.places.get(group.as_os_str()).is_some_and(|places| places.iter().all(is_so))
    }

    pub(super) fn pids_of(&self, group: &Path) -> Result<Vec<i32>, Why> {
        let mut all = Vec::new();
        for hierarchy in self.places.get(group.as_os_str()).into_iter().flatten() {
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
        // What a user can make keeps nothing from being removed.
        let untold = |gather: &mut Self, why: Why| {
            let told = Blind::new(format!("container group {}", text::show(group)), why);
            let list = if gather.is_a_users(group) { &mut gather.doubts } else { &mut gather.blind };
            list.push(told);
        };
        let pids = match self.pids_of(group) {
            Ok(pids) => pids,
            Err(why) => return untold(self, why),
        };
        let alive = pids.iter().filter_map(|pid| processes.get(*pid)).filter(|p| p.alive());
        // One that ends while it is looked at tells nothing; the next one may.
        let root = alive.map(|p| self.root_of(p, processes)).find(|root| !matches!(root, RootFs::Gone));
        match root {
            Some(RootFs::Ours) => {
                let id = ContainerId { namespace: "k8s.io".into(), id: id.to_owned() };
                self.own_orphan(id, group);
            }
            Some(RootFs::Unknown(why)) => {
                let hidden = self.runc_hidden.as_deref().unwrap_or("no runc state, no parent shim");
                let why = format!("whose it is cannot be told: {hidden}; {why}");
                untold(self, (Reason::Unproven, why).into());
            }
            Some(RootFs::Doubtful(why)) => {
                let what = format!("container group {}", text::show(group));
                self.doubts.push(Blind::new(what, (Reason::Unproven, why)));
            }
            Some(RootFs::Gone | RootFs::Elsewhere) | None => {}
        }
    }

    fn own_orphan(&mut self, id: ContainerId, group: &Path) {
        let container = self.claim(id, Bundle::default(), Evidence::RootFs);
        container.witnesses.insert(Witness::RootOnSnapshot);
        container.cgroups.push(group.to_path_buf());
        container.proven_cgroups.push(Proven::by(Witness::RootOnSnapshot, group.to_path_buf()));
    }

    /// Processes in no group that is known, which init has inherited and which have a mount namespace of their own: their root
    /// tells whose they are. Each was the first process of a container, so each counts as a container and is asked to end.
    fn lost_processes(&mut self, processes: &Processes, accounted: &HashSet<i32>) {
        let own = self.view.mount_namespace("self");
        let inherited =
            |p: &&Proc| p.parent == 1 && !p.kernel && p.id.pid != 1 && !accounted.contains(&p.id.pid);
        let apart = |p: &&Proc| {
            let its = self.view.mount_namespace(&p.id.pid.to_string());
            its.is_some() && its != own
        };
        let lost = processes.iter().filter(inherited).filter(apart);
        let mut lost: Vec<Proc> =
            lost.filter(|p| matches!(self.root_of(p, processes), RootFs::Ours)).cloned().collect();
        order::sort_by_key(&mut lost, |p| p.id.pid);
        let mut inhabitants: HashMap<PathBuf, usize> = HashMap::new();
        for group in lost.iter().flat_map(|p| self.view.membership(p.id.pid)) {
            *inhabitants.entry(group).or_default() += 1;
        }
        for process in lost {
            let groups = self.view.membership(process.id.pid);
            // A group with several of them is no single container's: its name is no ID, and it is not killed as a whole.
            let alone =
                |group: &&PathBuf| inhabitants.get(*group) == Some(&1) && !groups::is_open_to_others(group);
            let (alone, crowded): (Vec<_>, Vec<_>) = groups.iter().partition(alone);
            let name = |group: &&PathBuf| {
                let name = group.file_name().and_then(|n| n.to_str())?;
                crate::runtime::shim::name(name.strip_suffix(".scope").unwrap_or(name).as_bytes())
            };
            let id = alone.iter().find_map(name).unwrap_or_else(|| format!("process-{}", process.id.pid));
            let id = ContainerId { namespace: "k8s.io".into(), id };
            let wholly = |group: &&&PathBuf| self.is_wholly_ours(group, processes);
            // Nor is one in a manager's place, where it may put others.
            let (managed, alone): (Vec<_>, Vec<_>) =
                alone.iter().filter(wholly).partition(|group| groups::is_of_a_manager(group));
            let crowded: Vec<_> = crowded.iter().filter(wholly).chain(managed).collect();
            alone.into_iter().for_each(|group| self.own_orphan(id.clone(), group));
            let container = self.claim(id, Bundle::default(), Evidence::RootFs);
            container.witnesses.insert(Witness::RootOnSnapshot);
            container.strays.push(Proven::by(Witness::RootOnSnapshot, process.id));
            // Such a group goes, too, once they have ended and it is empty: nobody else is in it.
            container.cgroups.extend(crowded.into_iter().map(|group| group.to_path_buf()));
        }
    }

    /// True if every process in a group has its root on our snapshots, and the group is none that everybody is in.
    fn is_wholly_ours(&self, group: &Path, processes: &Processes) -> bool {
        let of_all = group.components().count() < 2 || groups::is_open_to_others(group);
        // kubelet makes none where containers have theirs: one that is called so there is a container's (`podinfo`).
        let of_container = |above: &Path| groups::is_a_pods(above) || above == Path::new("/k8s.io");
        let is_kubelets = groups::is_kubelets(group) && !group.parent().is_some_and(of_container);
        if of_all || is_kubelets {
            return false;
        }
        self.pids_of(group).is_ok_and(|pids| {
            let mut alive = pids.iter().filter_map(|pid| processes.get(*pid)).filter(|p| p.alive());
            alive.all(|p| matches!(self.root_of(p, processes), RootFs::Ours))
        })
    }

    /// IDs that something alive carries which is not ours: what is known by the ID alone is then nobody's to remove.
    pub(super) fn contradicted_ids(&mut self) {
        let Ok(tree) = self.view.cgroups() else { return };
        let mut carriers: HashMap<&str, Vec<&Path>> = HashMap::new();
        for (_, group) in tree.each() {
            let name = group.file_name().and_then(|n| n.to_str()).unwrap_or_default();
            let name = name.strip_suffix(".scope").unwrap_or(name);
            let tail = name.rsplit(['-', ':']).next().unwrap_or(name);
            let tail = tail.strip_prefix("kata_").unwrap_or(tail);
            carriers.entry(tail).or_default().push(group);
            if tail != name {
                carriers.entry(name).or_default().push(group);
            }
        }
        let unproven = self.containers.values().filter(|c| !c.is_proven() && !c.contradicted);
        let mut contradicted = Vec::new();
        for container in unproven {
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
        let hierarchy = self.places.get(group.as_os_str()).and_then(|places| places.first());
        let parent = group.parent().unwrap_or(group);
        let place = hierarchy.map_or_else(|| parent.to_path_buf(), |h| full(&h.point, parent));
        let mut pids = self.pids_of(group).unwrap_or_default();
        order::sort(&mut pids);
        pids.dedup();
        let pids: Vec<String> = pids.iter().take(MAX_NAMED).map(|pid| format!("process {pid}")).collect();
        format!("the living group {name} in {} ({})", text::show(&place), pids.join(", "))
    }

    /// What a bundle claims and no container could have is told while it lives; many such claims are counted.
    pub(super) fn refused_groups(&mut self) {
        const MAX_TOLD: usize = 20;
        let refused = std::mem::take(&mut self.refused);
        let lives = |group: &Path| self.pids_of(group).is_ok_and(|pids| !pids.is_empty());
        let proven = |id: &ContainerId| self.containers.get(id).is_some_and(Container::is_proven);
        let living: Vec<_> = refused.into_iter().filter(|(id, group)| !proven(id) && lives(group)).collect();
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
    }
}

#[cfg(test)]
mod tests {
    use crate::scope::tests::{CGROUPS, STAT, gathered, tree};

    /// Whoever has been given a group can make such groups: they hold nothing up. Where root made them, they do.
    #[test]
    fn a_users_group_that_cannot_be_told_is_a_doubt_and_roots_is_blind() {
        let id = "a".repeat(64);
        let delegated = "sys/fs/cgroup/user.slice/user@1000.service";
        let group = format!("{delegated}/{id}");
        // Its mount table cannot be read, as under plug set A.
        let files = [
            CGROUPS,
            ("proc/self/status", "NSpid:\t9\n"),
            (&format!("{group}/cgroup.procs"), "61\n"),
            ("proc/61/stat", &format!("61 {STAT}")),
            ("proc/61/cmdline", ""),
            ("proc/61/status", "NSpid:\t61\t1\n"),
            ("proc/61/mountinfo/x", ""),
        ];
        let mut worlds = vec![(None, 0, 1)];
        // Only root can give a directory away; the attack with many groups has a real user's.
        if nix::unistd::geteuid().is_root() {
            worlds.extend([(Some(&group[..]), 0, 1), (Some(delegated), 1, 0)]);
        }
        for (owned, doubts, blind) in worlds {
            let dir = tree(&files);
            if let Some(owned) = owned {
                std::os::unix::fs::chown(dir.path().join(owned), Some(1000), None).unwrap();
            }
            let scope = gathered(&dir);
            assert_eq!(
                (scope.doubts.len(), scope.blind.len()),
                (doubts, blind),
                "{owned:?}: {:?}",
                scope.blind
            );
        }
    }
}
