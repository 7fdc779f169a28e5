//! Which network namespaces the machine shows, who claims them for containers of ours, and who else is in them.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};

use crate::linux::cgroup::{CgroupTree, Index};
use crate::linux::mountinfo::MountTable;
use crate::linux::netns;
use crate::linux::proc::ProcessId;
use crate::order;
use crate::runtime::cni::Attachment;
use crate::scope::network::NetnsEvidence;
use crate::scope::{Container, Evidence, Scope};
use crate::snap::hostfs::HOSTFS;
use crate::text::{escape, show};
use crate::view::View;

/// What the machine shows.
pub(in crate::scope) struct Machine<'a> {
    view: &'a View<'a>,
    /// Where each namespace is bound.
    pub(in crate::scope) binds: BTreeMap<u64, Vec<PathBuf>>,
    at: HashMap<PathBuf, u64>,
    /// Ours and pid 1's: what is in these is in no pod.
    pub(in crate::scope) hosts: Vec<u64>,
    /// In which hierarchies each group is.
    index: Index<'a>,
}

/// One source's word for one namespace of one container.
pub(in crate::scope) struct Claim<'a> {
    pub(in crate::scope) container: &'a Container,
    pub(in crate::scope) by: NetnsEvidence,
    pub(in crate::scope) inode: u64,
    pub(in crate::scope) path: Option<PathBuf>,
}

impl<'a> Machine<'a> {
    pub(in crate::scope) fn of(view: &'a View<'a>, table: &MountTable) -> Machine<'a> {
        let index = view.cgroups().as_ref().map(CgroupTree::index).unwrap_or_default();
        let mut machine =
            Machine { view, binds: BTreeMap::new(), at: HashMap::new(), hosts: Vec::new(), index };
        for (mount, inode) in table.mounts.iter().filter_map(|m| Some((m, netns::of_mount(m)?))) {
            machine.binds.entry(inode).or_default().push(mount.point().to_path_buf());
            machine.at.insert(netns::plain(mount.point()), inode);
        }
        machine
    }

    pub(in crate::scope) fn bound_at(&self, path: &Path) -> Option<u64> {
        let path = netns::plain(path);
        let copy = || Some(Path::new(HOSTFS).join(path.strip_prefix("/").ok()?));
        self.at.get(&path).or_else(|| self.at.get(&copy()?)).copied()
    }

    pub(in crate::scope) fn claims<'s>(
        &mut self,
        scope: &'s Scope,
        attachments: &[(String, Attachment)],
    ) -> Vec<Claim<'s>> {
        let mut claims = Vec::new();
        self.hosts =
            ["self", "1"].iter().filter_map(|pid| netns::of_process(self.view.host, pid).ok()).collect();
        let mut of_pods = HashSet::new();
        // A sandbox's process answers for its whole pod.
        let mut containers: Vec<&Container> = scope.containers.iter().collect();
        order::sort_by_key(&mut containers, |c| !c.sandbox);
        for container in containers {
            let pod = (container.id.namespace.as_str(), container.shim_id.as_str());
            let process = container.is_proven() && !of_pods.contains(&pod);
            let process = process.then(|| self.of_process(container)).flatten();
            if let Some(inode) = process {
                of_pods.insert(pod);
                claims.push(Claim { container, by: NetnsEvidence::Process, inode, path: None });
            }
            let results = attachments.iter().filter(|(id, _)| container.id.id == *id);
            let of_cni =
                results.filter_map(|(_, a)| a.netns.as_ref()).map(|path| (NetnsEvidence::CniResult, path));
            let state = container.netns_of_state.iter().map(|path| (NetnsEvidence::RuncState, path));
            let bundle = container.netns.iter().map(|path| (NetnsEvidence::Bundle, path));
            for (by, path) in state.chain(of_cni).chain(bundle) {
                if let Some(inode) = self.bound_at(path).filter(|inode| !self.hosts.contains(inode)) {
                    claims.push(Claim { container, by, inode, path: Some(netns::plain(path)) });
                }
            }
        }
        order::sort_by_key(&mut claims, |claim| claim.by);
        claims
    }

    /// The name of a namespace that somebody has made and a container has joined, and what says so: it was started in it by
    /// that name, which is not CNI's. Where no record of the container is left, `ip netns`' own directory is somebody's.
    pub(in crate::scope) fn lent(
        &self,
        claim: &Claim,
        all: &[Claim],
    ) -> Option<(PathBuf, Option<NetnsEvidence>)> {
        let Claim { container, inode, .. } = claim;
        let binds = self.binds.get(inode)?;
        let of_cni = |other: &Claim| other.inode == *inode && other.by == NetnsEvidence::CniResult;
        if binds.iter().any(|path| netns::is_cnis(path)) || all.iter().any(of_cni) {
            return None;
        }
        let named = [
            (NetnsEvidence::RuncState, &container.netns_of_state),
            (NetnsEvidence::Bundle, &container.netns),
        ];
        for (by, path) in named {
            let here = |path: &&PathBuf| self.bound_at(path) == Some(*inode);
            if let Some(path) = path.as_ref().filter(here) {
                return Some((netns::plain(path), Some(by)));
            }
        }
        let recorded =
            [Evidence::Bundle, Evidence::RuncState].iter().any(|e| container.evidence.contains(*e));
        let users = binds.iter().find(|path| path.starts_with("/run/netns"));
        users.filter(|_| !recorded).map(|path| (path.clone(), None))
    }

    /// The namespace that a process of the container is in, unless that is the host's.
    fn of_process(&self, container: &Container) -> Option<u64> {
        // Without our own there is nothing to compare with.
        self.hosts.first()?;
        let init = container
            .init
            .filter(|id| self.view.processes().as_ref().is_ok_and(|all| all.alive(*id).is_some()));
        let pid = init.map(|id| id.pid).or_else(|| self.pids(container).next())?;
        let inode = netns::of_process(self.view.host, &pid.to_string()).ok()?;
        (!self.hosts.contains(&inode)).then_some(inode)
    }

    /// Who is in one of the claimed namespaces and in no container of ours; and whether anybody could not be asked.
    pub(in crate::scope) fn strangers(
        &self,
        scope: &Scope,
        claims: &[Claim],
        inhabited: &mut BTreeSet<u64>,
    ) -> (BTreeMap<u64, String>, bool) {
        let wanted: HashSet<u64> = claims.iter().map(|claim| claim.inode).collect();
        let ours = self.our_pids(scope);
        let mut strangers = BTreeMap::new();
        let mut hidden = false;
        let Ok(processes) = self.view.processes() else { return (strangers, true) };
        for process in processes.iter().filter(|p| !p.kernel) {
            let pid = process.id.pid;
            let asked = netns::of_process(self.view.host, &pid.to_string());
            hidden |= netns::is_hidden(&asked);
            let Ok(inode) = asked else { continue };
            inhabited.insert(inode);
            if wanted.contains(&inode) && !ours.contains(&pid) && !self.is_in_ours(pid, scope) {
                let group = self.view.membership(pid).pop().unwrap_or_default();
                let comm = escape(process.comm.as_bytes());
                strangers.entry(inode).or_insert(format!(
                    "process {pid} ({comm}) of group {} is in it and in no container of ours",
                    show(&group)
                ));
            }
        }
        (strangers, hidden)
    }

    fn our_pids(&self, scope: &Scope) -> HashSet<i32> {
        let shims = scope.shims.iter().map(|shim| shim.process.pid);
        let proven = || scope.containers.iter().filter(|c| c.is_proven());
        let alive = |id: &ProcessId| self.view.processes().as_ref().is_ok_and(|all| all.alive(*id).is_some());
        let inits = proven().filter_map(|c| c.init).filter(alive).map(|init| init.pid);
        shims.chain(inits).chain(proven().flat_map(|c| self.pids(c))).collect()
    }

    /// The processes in a container's groups, and those of the container that are in groups of others.
    fn pids(&self, container: &Container) -> impl Iterator<Item = i32> {
        let in_groups = container.cgroups.iter().flat_map(|group| self.view.pids_in(&self.index, group));
        container.strays.iter().map(|stray| stray.get().pid).chain(in_groups)
    }

    /// One that has come since, or that is in a group below a container's.
    fn is_in_ours(&self, pid: i32, scope: &Scope) -> bool {
        let of_container = |group: &PathBuf| {
            let owned = scope.containers.iter().filter(|c| c.is_proven()).flat_map(|c| &c.cgroups);
            owned.into_iter().any(|own| group.starts_with(own))
        };
        self.view.membership(pid).iter().any(of_container)
    }
}
