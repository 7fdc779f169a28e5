//! Control groups that no record names: empty ones that bear the ID of a container of ours, and those above a container's own
//! that were made for it.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};

use super::gather::Gather;
use crate::linux::cgroup::group::serial_number;
use crate::linux::cgroup::{Hierarchy, full};
use crate::runtime::{ContainerId, groups, sandboxed};
use crate::scope::Container;
use crate::snap::units;

impl Gather<'_> {
    /// Adds empty groups below kubelet's that are named after containers of ours. gVisor runs a whole pod in one group and
    /// leaves those of its containers empty, and Kata makes one group for the sandbox: no record tells of either. Nothing is
    /// in such a group that could be harmed, so its name is enough.
    pub(super) fn empty_groups(&mut self) {
        let Ok(tree) = self.view.cgroups() else { return };
        let known = self.known_groups();
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
                && self.is_empty(group)
            {
                found.insert(((*id).clone(), group.to_path_buf()));
            }
        }
        self.add_groups(found);
    }

    /// Adds empty groups of containers beside proven ones, in the group of the same pod: all of a pod's containers are one
    /// runtime's. Such a group is left where its process has gone elsewhere, and no record tells of it any more.
    pub(super) fn empty_siblings(&mut self) {
        let Ok(tree) = self.view.cgroups() else { return };
        let proven = self.containers.values().filter(|c| c.is_proven());
        let leaves = proven.flat_map(|c| c.proven_cgroups.iter().map(move |group| (group.get(), &c.id)));
        let pods: HashMap<&Path, &ContainerId> = leaves
            .filter_map(|(group, id)| Some((group.parent().filter(|above| groups::is_a_pods(above))?, id)))
            .collect();
        if pods.is_empty() {
            return;
        }
        let known = self.known_groups();
        let mut found = BTreeSet::new();
        for (_, group) in tree.each().filter(|(_, group)| !known.contains(*group)) {
            let Some(sibling) = group.parent().and_then(|above| pods.get(above)) else { continue };
            if groups::container_in_a_pod(group).is_some_and(|id| !self.foreign_ids.contains(id))
                && self.is_empty(group)
            {
                found.insert(((*sibling).clone(), group.to_path_buf()));
            }
        }
        self.add_groups(found);
    }

    /// The groups of all containers that are known so far.
    pub(super) fn known_groups(&self) -> HashSet<PathBuf> {
        self.containers.values().flat_map(|c| c.cgroups.iter().cloned()).collect()
    }

    fn add_groups(&mut self, found: BTreeSet<(ContainerId, PathBuf)>) {
        for (id, group) in found {
            self.containers.entry(id).and_modify(|container| container.cgroups.push(group));
        }
    }

    fn is_empty(&self, group: &Path) -> bool {
        self.places.hierarchies_of(group).all(|hierarchy| !self.view.is_occupied(hierarchy, group))
    }

    /// The groups above those of proven containers that were made in one go with them. runc makes all groups that are missing
    /// on the way to a container's, and at the end removes the last one alone. A group that another manager, such as systemd,
    /// has made is that manager's.
    pub(super) fn groups_above(&self) -> Vec<PathBuf> {
        let managed = units::has_systemd(self.view.host);
        let mut made = BTreeSet::new();
        let proven = self.containers.values().filter(|c| c.is_proven());
        for leaf in proven.flat_map(|c: &Container| &c.cgroups) {
            let mut child = leaf.as_path();
            while let Some(above) = child.parent().filter(|above| above.components().count() > 1) {
                if !groups::is_kubelets(above) {
                    if managed && groups::is_of_a_manager(above) || !self.made_together(above, child) {
                        break;
                    }
                    made.insert(above.to_path_buf());
                }
                child = above;
            }
        }
        made.into_iter().collect()
    }

    fn made_together(&self, above: &Path, child: &Path) -> bool {
        let at = |hierarchy: &Hierarchy, group: &Path| {
            serial_number(self.view.host, &full(&hierarchy.point, group))
        };
        self.places.has(child)
            && self.places.hierarchies_of(child).all(|h| match (at(h, above), at(h, child)) {
                (Some(above), Some(child)) => in_one_go(above, child),
                _ => false,
            })
    }
}

/// True if hardly anything was made in a hierarchy after a group and before one in it. The kernel numbers groups and their
/// files in the order in which they are made (kernfs, `idr_alloc_cyclic`), and a group has some dozens of files. A group that
/// was there before, for others, has a far lower number.
fn in_one_go(above: u64, child: u64) -> bool {
    const FILES: u64 = 256;
    child > above && child - above <= FILES
}

#[cfg(test)]
impl Container {
    /// Makes it one that is proven to be in this group: for tests elsewhere.
    pub fn prove_in(&mut self, group: &str) {
        use crate::residue::witness::{Proven, Witness};
        self.proven_cgroups.push(Proven::by(Witness::RuncState, group.into()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_made_in_one_go_with_what_follows_it_at_once() {
        // As seen on a machine with the bare hierarchy, and as far as all controllers make it.
        assert!(in_one_go(1_081_106, 1_081_125) && in_one_go(7, 7 + 200));
        assert!(!in_one_go(7, 5000), "others have made groups meanwhile");
        assert!(!in_one_go(5000, 7) && !in_one_go(7, 7));
    }
}
