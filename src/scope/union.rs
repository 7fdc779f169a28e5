//! Two scopes of one snap: an earlier one and a later one, of one boot or of two.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;

use crate::linux::block::Device;
use crate::linux::proc::ProcessId;
use crate::runtime::ContainerId;
use crate::scope::Scope;
use crate::scope::network::Network;

impl Scope {
    /// What the other scope knows and this one does not, added: for evidence that appeared while we worked,
    /// and for evidence that we have destroyed since.
    pub fn union(mut self, older: Scope) -> Scope {
        let before: HashMap<_, _> = older.containers.iter().map(|c| (&c.id, c)).collect();
        for own in &mut self.containers {
            let Some(old) = before.get(&own.id) else { continue };
            own.remember_pod(old);
            own.netns = own.netns.take().or_else(|| old.netns.clone());
        }
        let known: HashSet<_> = self.containers.iter().map(|c| c.id.clone()).collect();
        self.containers.extend(older.containers.into_iter().filter(|c| !known.contains(&c.id)));
        let known: HashSet<_> = self.shims.iter().map(|s| s.process).collect();
        self.shims.extend(older.shims.into_iter().filter(|s| !known.contains(&s.process)));
        self.network = self.network.union(older.network);
        self.told_by_shims = self.told_by_shims.or(older.told_by_shims);
        self.streams.extend(older.streams);
        self.states.extend(older.states);
        self.told_groups.union(older.told_groups);
        self.builds.extend(older.builds);
        self.staged.extend(older.staged);
        self.pinned.extend(older.pinned);
        self.graceful = self.graceful.union(older.graceful);
        let new: Vec<Device> = older.devices.into_iter().filter(|d| !self.devices.contains(d)).collect();
        self.devices.extend(new);
        let new: Vec<PathBuf> =
            older.groups_above.into_iter().filter(|g| !self.groups_above.contains(g)).collect();
        self.groups_above.extend(new);
        let new: Vec<ContainerId> =
            older.recorded.into_iter().filter(|id| !self.recorded.contains(id)).collect();
        self.recorded.extend(new);
        self.exited = self.exited.union(older.exited);
        self.ipc.extend(older.ipc);
        self.idle = self.containers.is_empty() && (self.idle || older.idle);
        for bystander in older.bystanders {
            if !self.bystanders.contains(&bystander) {
                self.bystanders.push(bystander);
            }
        }
        self
    }

    /// What of it can have outlived the boot in which it was written: names, and what lies on a disk. Processes, namespaces,
    /// links, groups and sockets ended with that boot; what has their numbers and names now is something else.
    pub fn after_another_boot(mut self) -> Scope {
        for container in &mut self.containers {
            container.cgroups.clear();
            (container.init, container.netns, container.socket) = (None, None, None);
        }
        self.shims.clear();
        self.exited.sockets.clear();
        self.ipc.clear();
        self.groups_above.clear();
        self.told_groups = Default::default();
        self.builds.clear();
        self.devices.clear();
        self.bystanders.clear();
        let Network { results, networks, addresses, .. } = self.network;
        self.network = Network { results, networks, addresses, ..Network::default() };
        self
    }

    /// True if the other scope names a container or a shim that this one does not.
    pub fn lacks(&self, newer: &Scope) -> bool {
        let containers: HashSet<&ContainerId> = self.containers.iter().map(|c| &c.id).collect();
        let shims: HashSet<ProcessId> = self.shims.iter().map(|s| s.process).collect();
        newer.containers.iter().any(|c| !containers.contains(&c.id))
            || newer.shims.iter().any(|s| !shims.contains(&s.process))
    }
}
