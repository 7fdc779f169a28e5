//! What an earlier run knew and could not remove.

use std::path::{Path, PathBuf};

use super::gather::Gather;
use crate::linux::folded::Paths;
use crate::runtime::{Name, cni, groups, shim};
use crate::scope::Container;

impl Gather<'_> {
    /// Containers that an earlier run knew and whose evidence is gone. Of these only what is dead is taken (a network
    /// namespace, an empty group, a socket): what runs has to be proven anew.
    pub(super) fn known_before(&mut self, containers: &[Container]) {
        let Ok(tree) = self.view.cgroups() else { return };
        let existing = tree.index();
        let is_empty = |group: &Path| {
            let places = existing.hierarchies_of(group);
            let mut pids = places.map(|h| self.view.group_pids(h, group));
            pids.all(|pids| pids.is_ok_and(|pids| pids.is_empty()))
        };
        let mut known = Vec::new();
        for old in containers {
            let plain = |name: &Name| shim::name(name.as_bytes()).is_some();
            let named = [&old.id.namespace, &old.id.id, &old.shim_id].into_iter().all(plain);
            self.containers.entry(old.id.clone()).and_modify(|own| own.remember_pod(old));
            if !named || self.containers.contains_key(&old.id) || self.foreign_ids.contains(&old.id.id) {
                continue;
            }
            let group = |g: &&PathBuf| groups::is_group_of(g, &old.id.id) && is_empty(g);
            known.push(Container {
                cgroups: old.cgroups.iter().filter(group).cloned().collect(),
                init: None,
                netns: old.netns.clone().filter(|path| cni::is_netns(path, self.roots)),
                socket: old.socket.clone().filter(|s| s.parent() == Some(&self.roots.shim_sockets)),
                binds: Paths::default(),
                ..old.clone()
            });
        }
        self.containers.extend(known.into_iter().map(|c| (c.id.clone(), c)));
    }
}
