//! What is ours by bundles and by runc's states.

use std::collections::HashSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::gather::Gather;
use crate::error::Blind;
use crate::linux::proc::ProcessId;
use crate::order;
use crate::reason::Reason;
use crate::residue::witness::Witness;
use crate::runtime::bundle::{self, Bundle};
use crate::runtime::{ContainerId, groups, listing, runc, shim, short};
use crate::scope::{Bystander, BystanderKind, Container, Evidence};
use crate::snap::profile::is_shared;
use crate::text;

impl Gather<'_> {
    pub(super) fn bundles(&mut self) {
        let listed = listing::list_bundles(self.view.host, self.roots);
        self.blind.extend(listed.errors.iter().map(|e| Blind::new("bundles", e)));
        // Of a link, and of names beyond count, only they themselves are not known: what runs is found by other means.
        let not_followed = (Reason::Unproven, "a symlink, not followed");
        self.doubts.extend(listed.links.iter().map(|l| Blind::new(text::show(l), not_followed)));
        for (directory, more) in &listed.more {
            let why = format!("{more} names more than are looked at");
            self.doubts.push(Blind::new(text::show(directory), (Reason::TooMany, why)));
        }
        self.nonsense.extend(listed.nonsense);
        let mut room = bundle::Room::default();
        let sockets = self.view.host.list(&self.roots.shim_sockets).unwrap_or_default();
        let sockets: HashSet<OsString> = sockets.into_iter().collect();
        for id in listed.containers {
            let heard = |bundle: &Bundle| self.heard(&id, bundle.shim_id.as_deref(), &sockets);
            let bundle = bundle::read_bundle(self.view.host, self.roots, &id, &mut room, &heard);
            self.nonsense.extend(bundle.nonsense.iter().cloned());
            self.claim(id, bundle, Evidence::Bundle);
        }
    }

    /// Where a container's shim listens, if there is one socket only that may be it: of the two that count (`is_computed`), the
    /// bundle can then name no other one that exists.
    fn heard(&self, id: &ContainerId, shim_id: Option<&str>, there: &HashSet<OsString>) -> Option<PathBuf> {
        let of = |name: &str| {
            let socket = self.socket_at(&id.namespace, name);
            socket.file_name().is_some_and(|name| there.contains(name)).then_some(socket)
        };
        let shims = of(shim_id.unwrap_or(&id.id))?;
        of(&id.id).is_none_or(|own| own == shims).then_some(shims)
    }

    /// Reads runc's states: those of our bundles, and those of bundles that are gone.
    pub(super) fn runc_states(&mut self) {
        let namespaces = match self.view.host.list(&self.roots.runc) {
            Ok(names) => names,
            Err(e) => return self.runc_hidden = Some(e.to_string()),
        };
        let neighbours = listing::list_neighbours(self.view.host, self.roots);
        for namespace in namespaces.iter().filter_map(|n| shim::name(n.as_encoded_bytes())) {
            let directory = self.roots.runc.join(&namespace);
            let ids = match self.view.host.list(&directory) {
                Ok(ids) => ids,
                Err(e) => {
                    self.runc_hidden = Some(e.to_string());
                    continue;
                }
            };
            for id in ids.iter().filter_map(|n| shim::name(n.as_encoded_bytes())) {
                let id = ContainerId { namespace: namespace.as_str().into(), id: id.into() };
                // A bundle elsewhere and none here says as much as the state, in tens of kilobytes, would.
                if neighbours.contains(&id) && !self.containers.contains_key(&id) {
                    self.note_foreign(&id);
                } else {
                    self.runc_state(&directory, id);
                }
            }
        }
    }

    /// Reads the states of our bundles that lie in other places, which the options of a runtime may name. Such a state is a hint, as
    /// the bundle is that leads there.
    pub(super) fn runc_states_elsewhere(&mut self) {
        let is_unknown =
            |c: &&Container| !c.evidence.contains(Evidence::RuncState) && !self.foreign.contains(&c.id);
        let unknown: Vec<ContainerId> =
            self.containers.values().filter(is_unknown).map(|c| c.id.clone()).collect();
        for id in unknown {
            let directory = bundle::runc_directory(self.view.host, self.roots, &id);
            let Some(directory) = directory.filter(|d| d.parent() != Some(&self.roots.runc)) else {
                continue;
            };
            self.runc_state(&directory, id.clone());
            self.states.insert(id.clone(), directory.join(&id.id));
        }
    }

    /// runc's states are shared by all containerds of the host, so a state is ours only by its `bundle=` label;
    /// a state of our own ID with another's label says that the running container of that ID is another's.
    fn runc_state(&mut self, directory: &Path, id: ContainerId) {
        let file = directory.join(&id.id).join("state.json");
        let bytes = runc::read_file(self.view.host, &file);
        if !self.containers.contains_key(&id)
            && bytes.as_ref().is_ok_and(|bytes| runc::is_plainly_foreign(bytes, self.inside))
        {
            return self.note_foreign(&id);
        }
        let state = match bytes.and_then(|bytes| runc::read_runc_state(&file, &bytes)) {
            Ok(state) => state,
            Err(e) if e.is_gone() => return,
            Err(e) => {
                if self.containers.contains_key(&id) {
                    self.nonsense.push(e.to_string());
                }
                return;
            }
        };
        let ours = state
            .bundle
            .as_ref()
            .is_some_and(|b| bundle::bundle_paths(self.inside, &id).any(|own| own == *b));
        if !ours {
            self.note_foreign(&id);
            if let Some(container) = self.containers.get_mut(&id) {
                container.cgroups.clear();
                container.init = None;
                let bundle = state.bundle.as_deref().map_or("no bundle".into(), text::show);
                let why = format!("its runc state names {bundle}");
                let what = format!("the running container {}", short(&id.id));
                self.bystanders.push(Bystander::anothers(BystanderKind::Container, what, why));
            }
            return;
        }
        if !self.containers.contains_key(&id)
            && let Some(why) = self.is_siblings(state.init, &id)
        {
            self.note_foreign(&id);
            let what = format!("the container {}", short(&id.id));
            return self.bystanders.push(Bystander::anothers(BystanderKind::Container, what, why));
        }
        if let Some(why) = self.serves_another(state.init) {
            self.note_foreign(&id);
            if let Some(container) = self.containers.get_mut(&id) {
                container.cgroups.clear();
                container.init = None;
            }
            let what = format!("the container {}", short(&id.id));
            return self.bystanders.push(Bystander::anothers(BystanderKind::Container, what, why));
        }
        let groups = self.relative_groups(&state.groups, &id.id);
        // A state that a container could have written is a hint like its bundle; and so is one of a bundle in a directory
        // that other containerds use, too, or may use by now.
        let is_moved = self.roots.moved.iter().any(|place| directory.starts_with(place));
        let is_witness = !is_moved
            && directory.starts_with(&self.roots.runc)
            && self.is_out_of_reach(&self.roots.runc)
            && !is_shared(&self.roots.state)
            && (!self.has_moved_out() || self.root_proves);
        if is_witness {
            self.recorded.extend(groups.iter().cloned());
        }
        let container = self.claim(id, Bundle::default(), Evidence::RuncState);
        if is_witness {
            container.witnesses.insert(Witness::RuncState);
        }
        container.init = state.init;
        container.netns_of_state = state.netns;
        for group in groups {
            container.is_in(group);
        }
    }

    /// True if the snap's configuration names a state directory outside of its own: others may have been told the same.
    fn has_moved_out(&self) -> bool {
        self.roots.moved.contains(&self.roots.state)
    }

    /// Why a container with a bundle in such a directory is another containerd's: its shim lives, and serves that.
    fn serves_another(&self, init: Option<ProcessId>) -> Option<String> {
        if !self.has_moved_out() {
            return None;
        }
        let processes = self.view.processes().as_ref().ok()?;
        let shim = processes.alive(init?)?.parent;
        let address = &processes.shim(shim)?.address;
        let is_anothers =
            *address != self.inside.address && self.view.unit_of(shim) != Some(self.snap.instance.as_str());
        is_anothers.then(|| format!("its shim serves a containerd at '{}'", text::show(address)))
    }

    /// Why a container that has no bundle in our directories is another instance's; none if it is ours. In every
    /// instance of a snap the paths read the same, so beside another one they prove nothing: what counts is the
    /// unit in which the container's shim runs.
    pub(super) fn is_siblings(&mut self, init: Option<ProcessId>, id: &ContainerId) -> Option<String> {
        let sibling = self.sibling.clone()?;
        let processes = self.view.processes().as_ref().ok();
        let init = processes.and_then(|all| all.alive(init?));
        let shim = init
            .and_then(|p| processes?.get(p.parent))
            .filter(|p| processes.is_some_and(|all| all.is_shim(p.id.pid)));
        match shim.and_then(|p| self.view.unit_of(p.id.pid)) {
            Some(unit) if unit == self.snap.instance => return None,
            Some(unit) => return Some(format!("its shim runs in a unit of snap '{unit}'")),
            None => {}
        }
        let why = format!("it has no bundle here, and the instance '{sibling}' has the same paths");
        if init.is_some() {
            let what = format!("container {}", short(&id.id));
            self.blind.push(Blind::new(what, (Reason::Unproven, &why)));
        }
        Some(why)
    }

    /// Full paths of groups, as paths below their hierarchy's mount point.
    fn relative_groups(&self, full: &[PathBuf], id: &str) -> Vec<PathBuf> {
        let Ok(tree) = self.view.cgroups() else { return Vec::new() };
        let relative = full.iter().filter_map(|path| {
            let below = tree.hierarchies.iter().find_map(|h| path.strip_prefix(&h.point).ok())?;
            Some(Path::new("/").join(below))
        });
        let mut groups: Vec<_> = relative.filter(|g| groups::is_named_after(g, id)).collect();
        order::sort(&mut groups);
        groups.dedup();
        groups
    }
}
