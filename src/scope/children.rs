//! Children of our shims: whose container each is, whatever became of the bundle, and whatever group it is in.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use super::gather::Gather;
use crate::linux::proc::Proc;
use crate::residue::witness::{Proven, Witness};
use crate::runtime::bundle::Bundle;
use crate::runtime::{ContainerId, groups};
use crate::scope::{Container, Evidence, OwnedShim};

/// Processes of a container are no deeper below its shim.
const MAX_DEEP: usize = 1000;

impl Gather<'_> {
    /// A child of our shim is a container's process, whatever became of the bundle, and whatever group it is in.
    pub(super) fn children_of_shims(&mut self) {
        let Ok(processes) = self.view.processes() else { return };
        let shims: HashMap<i32, OwnedShim> = self.shims.iter().map(|s| (s.process.pid, s.clone())).collect();
        if shims.is_empty() {
            return;
        }
        let known = self.known_groups();
        let settled = self.in_known_groups(&known);
        for child in processes.iter().filter(|p| !settled.contains(&p.id.pid)) {
            let Some(shim) = shims.get(&child.parent) else { continue };
            if !shims.contains_key(&child.id.pid) {
                self.child_of_shim(child, shim, &known);
            }
        }
    }

    fn child_of_shim(&mut self, child: &Proc, shim: &OwnedShim, known: &HashSet<PathBuf>) {
        let groups = self.view.membership(child.id.pid);
        if groups.iter().any(|group| known.contains(group)) {
            return;
        }
        for group in &groups {
            let Some(id) = group.file_name().and_then(|n| n.to_str()).and_then(groups::container_of) else {
                continue;
            };
            let id = ContainerId { namespace: shim.namespace.clone(), id: id.into() };
            let bundle = Bundle { shim_id: shim.id.as_ref().map(ToString::to_string), ..Bundle::default() };
            return self.claim(id, bundle, Evidence::ParentShim).is_in(group.clone());
        }
        if let Some((id, group)) = groups.iter().find_map(|group| self.group_above(group, shim)) {
            let id = ContainerId { namespace: shim.namespace.clone(), id: id.into() };
            return self.claim(id, Bundle::default(), Evidence::ParentShim).is_in(group);
        }
        if let Some((id, group)) = self.named_group(&groups, shim) {
            return self.claim(id, Bundle::default(), Evidence::ParentShim).is_in(group);
        }
        // It is in a group that is no container's: a pod's, as with gVisor, or any other. So it is signalled alone. If runc
        // has written down that it is a container's first process, it is that container's; else that of the one which the
        // shim was started for.
        let is_init = |c: &&mut Container| c.id.namespace == shim.namespace && c.init == Some(child.id);
        if let Some(container) = self.containers.values_mut().find(is_init) {
            container.witnesses.insert(Witness::ChildOfShim);
            return container.strays.push(Proven::by(Witness::ChildOfShim, child.id));
        }
        let id = shim.id.clone().unwrap_or_else(|| format!("shim-{}", shim.process.pid).into());
        let id = ContainerId { namespace: shim.namespace.clone(), id };
        let bundle = Bundle { shim_id: shim.id.as_ref().map(ToString::to_string), ..Bundle::default() };
        let container = self.claim(id, bundle, Evidence::ParentShim);
        container.witnesses.insert(Witness::ChildOfShim);
        container.strays.push(Proven::by(Witness::ChildOfShim, child.id));
    }

    /// The group of a container that one is in which an init system of its own has made in there, and the container's ID: the
    /// topmost group with such a name, if all that runs in it descends from this shim.
    fn group_above(&self, group: &Path, shim: &OwnedShim) -> Option<(String, PathBuf)> {
        let id_of =
            |group: &Path| group.file_name()?.to_str().and_then(groups::container_of).map(str::to_owned);
        let (group, id) =
            group.ancestors().skip(1).filter_map(|above| Some((above, id_of(above)?))).last()?;
        let processes = self.view.processes().as_ref().ok()?;
        let descends = |pid: &i32| {
            let parents = std::iter::successors(processes.get(*pid), |p| processes.get(p.parent));
            parents.take(MAX_DEEP).any(|p| p.parent == shim.process.pid)
        };
        let all = self.pids_of(group).is_ok_and(|pids| !pids.is_empty() && pids.iter().all(descends));
        all.then(|| (id, group.to_path_buf()))
    }

    /// The container of a shim's that a group is named after, directly in a pod's group or in that of containerd's namespace,
    /// whatever the name looks like: an ID may begin as kubelet names its groups (`podinfo`), and then what a bundle says of
    /// its group counts for nothing.
    fn named_group(&self, groups: &[PathBuf], shim: &OwnedShim) -> Option<(ContainerId, PathBuf)> {
        let serves =
            |c: &&Container| c.id.namespace == shim.namespace && Some(&c.shim_id) == shim.id.as_ref();
        let of_namespace = Path::new("/").join(&shim.namespace);
        let is_place = |above: &Path| groups::is_a_pods(above) || above == of_namespace;
        // Of what a container has made below its own group, that counts; and of what looks like a place in there, nothing.
        let own = |group: &PathBuf| {
            let named = group.ancestors().filter(|above| above.parent().is_some_and(is_place));
            named.last().map(Path::to_path_buf)
        };
        groups.iter().filter_map(own).find_map(|group| {
            let mut served = self.containers.values().filter(serves);
            let named = served.find(|c| groups::is_named_after(&group, &c.id.id))?;
            Some((named.id.clone(), group))
        })
    }

    /// The processes in these groups, where each process is in one group only. They need not be asked which that is.
    fn in_known_groups(&self, known: &HashSet<PathBuf>) -> HashSet<i32> {
        let Ok(tree) = self.view.cgroups() else { return HashSet::new() };
        if tree.hierarchies.len() != 1 {
            return HashSet::new();
        }
        let ours = tree.each().filter(|(_, group)| known.contains(*group));
        let pids = ours.filter_map(|(hierarchy, group)| self.view.group_pids(hierarchy, group).ok());
        pids.flat_map(|pids| pids.to_vec()).collect()
    }
}

#[cfg(test)]
mod tests;
