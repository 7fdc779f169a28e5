//! Control groups that no record names: empty ones that bear the ID of a container of ours.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};

use super::gather::Gather;
use crate::linux::cgroup::Hierarchy;
use crate::runtime::{ContainerId, groups, sandboxed};

impl Gather<'_> {
    /// gVisor runs a pod in the sandbox's group or the pod's, and leaves those of its containers empty; Kata makes a group for
    /// the sandbox. An empty group of that exact shape, below kubelet's, may go by its name.
    pub(super) fn empty_groups(&mut self) {
        let Ok(tree) = self.view.cgroups() else { return };
        let known: HashSet<&Path> =
            self.containers.values().flat_map(|c| c.cgroups.iter().map(PathBuf::as_path)).collect();
        let ids: HashMap<&str, &ContainerId> =
            self.containers.keys().map(|id| (id.id.as_str(), id)).collect();
        let mut found = BTreeSet::new();
        for (_, group) in tree.each() {
            let name = group.file_name().and_then(|n| n.to_str()).unwrap_or_default();
            let Some(id) = sandboxed::owner_of_group(name).and_then(|id| ids.get(id)) else { continue };
            let kubelets = group.iter().nth(1).is_some_and(|top| groups::is_kubelets(Path::new(top)));
            if kubelets
                && !known.contains(group)
                && !self.foreign_ids.contains(&id.id)
                && self.places_of(group).iter().all(|h| !self.view.is_occupied(h, group))
            {
                found.insert(((*id).clone(), group.to_path_buf()));
            }
        }
        for (id, group) in found {
            self.containers.entry(id).and_modify(|container| container.cgroups.push(group));
        }
    }

    fn places_of(&self, group: &Path) -> &[&Hierarchy] {
        self.places.get(group.as_os_str()).map_or(&[], Vec::as_slice)
    }
}
