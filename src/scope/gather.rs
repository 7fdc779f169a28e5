//! What is ours by bundles and by runc's states, and what another instance makes doubtful.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::{Path, PathBuf};

use super::{Bystander, Container, Evidence, Shim};
use crate::cgroup;
use crate::evidence::{self, Bundle};
use crate::profile::Roots;
use crate::residue::{ContainerId, ProcessId, short};
use crate::shim;
use crate::snap::Snap;
use crate::step::Blind;
use crate::text;
use crate::view::View;

/// The gathering itself.
pub(super) struct Gather<'a> {
    pub(super) view: &'a View<'a>,
    pub(super) snap: &'a Snap,
    pub(super) roots: &'a Roots,
    pub(super) inside: &'a Roots,
    pub(super) containers: BTreeMap<ContainerId, Container>,
    pub(super) shims: Vec<Shim>,
    /// IDs that a readable runc state gives to somebody else.
    pub(super) foreign: BTreeSet<ContainerId>,
    /// The same, whatever containerd's namespace.
    pub(super) foreign_ids: HashSet<String>,
    pub(super) bystanders: Vec<Bystander>,
    pub(super) blind: Vec<Blind>,
    pub(super) nonsense: Vec<String>,
    pub(super) runc_hidden: Option<String>,
    /// Another instance of the same snap that has units on this machine.
    pub(super) sibling: Option<String>,
}

impl<'a> Gather<'a> {
    pub(super) fn new(view: &'a View<'a>, snap: &'a Snap, roots: &'a Roots, inside: &'a Roots) -> Self {
        Gather {
            view,
            snap,
            roots,
            inside,
            containers: BTreeMap::new(),
            shims: Vec::new(),
            foreign: BTreeSet::new(),
            foreign_ids: HashSet::new(),
            bystanders: Vec::new(),
            blind: Vec::new(),
            nonsense: Vec::new(),
            runc_hidden: None,
            sibling: sibling_of(view, snap),
        }
    }

    pub(super) fn bundles(&mut self) {
        let (ids, errors) = evidence::list_bundles(self.view.host, self.roots);
        self.blind.extend(errors.iter().map(|e| Blind::new("bundles", e)));
        for id in ids {
            let bundle = evidence::read_bundle(self.view.host, self.roots, &id);
            self.nonsense.extend(bundle.nonsense.iter().cloned());
            self.claim(id, bundle, Evidence::Bundle);
        }
    }

    /// Takes a container as ours, or adds to what is known of it.
    pub(super) fn claim(&mut self, id: ContainerId, bundle: Bundle, evidence: Evidence) -> &mut Container {
        let container = self.containers.entry(id.clone()).or_insert_with(|| Container {
            group: bundle.group.unwrap_or_else(|| id.id.clone()),
            sandbox: bundle.is_sandbox,
            pod: bundle.pod,
            groups: bundle.groups,
            init: None,
            netns: bundle.netns,
            socket: bundle.socket,
            binds: bundle.binds,
            evidence: BTreeSet::new(),
            id,
        });
        container.evidence.insert(evidence);
        container
    }

    /// Reads runc's states: those of our bundles, and those of bundles that are gone.
    pub(super) fn runc_states(&mut self) {
        let namespaces = match self.view.host.list(&self.roots.runc) {
            Ok(names) => names,
            Err(e) => return self.runc_hidden = Some(e.to_string()),
        };
        let neighbours = evidence::list_neighbours(self.view.host, self.roots);
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
                let id = ContainerId { namespace: namespace.clone(), id };
                // A bundle elsewhere and none here says as much as the state, in tens of kilobytes, would.
                if neighbours.contains(&id) && !self.containers.contains_key(&id) {
                    self.note_foreign(&id);
                } else {
                    self.runc_state(&directory, id);
                }
            }
        }
    }

    /// runc's states are shared by all containerds of the host, so a state is ours only by its `bundle=` label;
    /// a state of our own ID with another's label says that the running container of that ID is another's.
    fn runc_state(&mut self, directory: &Path, id: ContainerId) {
        let file = directory.join(&id.id).join("state.json");
        let bytes = self.view.host.read(&file);
        if !self.containers.contains_key(&id)
            && bytes.as_ref().is_ok_and(|bytes| evidence::is_plainly_foreign(bytes, self.inside))
        {
            return self.note_foreign(&id);
        }
        let state = match bytes.and_then(|bytes| evidence::read_runc_state(&file, &bytes)) {
            Ok(state) => state,
            Err(e) if e.is_gone() => return,
            Err(e) => {
                if self.containers.contains_key(&id) {
                    self.nonsense.push(e.to_string());
                }
                return;
            }
        };
        let expected = evidence::bundle_paths(self.inside, &id);
        let ours = state.bundle.as_ref().is_some_and(|b| expected.contains(b));
        if !ours {
            self.note_foreign(&id);
            if let Some(container) = self.containers.get_mut(&id) {
                container.groups.clear();
                container.init = None;
                let bundle = state.bundle.as_deref().map_or("no bundle".into(), text::show);
                let why = format!("its runc state names {bundle}");
                self.bystanders
                    .push(Bystander { what: format!("the running container {}", short(&id.id)), why });
            }
            return;
        }
        if !self.containers.contains_key(&id)
            && let Some(why) = self.is_siblings(state.init, &id)
        {
            self.note_foreign(&id);
            let what = format!("the container {}", short(&id.id));
            return self.bystanders.push(Bystander { what, why });
        }
        let groups = self.relative_groups(&state.groups, &id.id);
        let netns = state.netns.filter(|p| evidence::is_netns(p, self.roots));
        let container = self.claim(id, Bundle::default(), Evidence::RuncState);
        container.init = state.init;
        container.netns = container.netns.take().or(netns);
        for group in groups {
            if !container.groups.contains(&group) {
                container.groups.push(group);
            }
        }
    }

    /// Why a container that has no bundle in our directories is another instance's; none if it is ours. In every
    /// instance of a snap the paths read the same, so beside another one they prove nothing: what counts is the
    /// unit in which the container's shim runs.
    pub(super) fn is_siblings(&mut self, init: Option<ProcessId>, id: &ContainerId) -> Option<String> {
        let sibling = self.sibling.clone()?;
        let processes = self.view.processes().as_ref().ok();
        let init = processes.and_then(|all| all.alive(init?));
        let shim = init.and_then(|p| processes?.get(p.parent)).filter(|p| p.shim.is_some());
        match shim.and_then(|p| self.view.unit_of(p.id.pid)) {
            Some(unit) if unit == self.snap.instance => return None,
            Some(unit) => return Some(format!("its shim runs in a unit of snap '{unit}'")),
            None => {}
        }
        let why = format!("it has no bundle here, and the instance '{sibling}' has the same paths");
        if init.is_some() {
            self.blind.push(Blind::new(format!("container {}", short(&id.id)), &why));
        }
        Some(why)
    }

    /// The comments by which firewall rules are ours: they name the snap, and where another instance of it runs, they
    /// may as well be that one's.
    pub(super) fn rule_comments(&mut self, named: &[String]) -> Vec<String> {
        let Some(sibling) = &self.sibling else { return named.to_vec() };
        let why = format!("the instance '{sibling}' makes the same");
        let what = |comment: &String| format!("the firewall rules with the comment '{comment}'");
        self.bystanders.extend(named.iter().map(|c| Bystander { what: what(c), why: why.clone() }));
        Vec::new()
    }

    pub(super) fn note_foreign(&mut self, id: &ContainerId) {
        self.foreign_ids.insert(id.id.clone());
        self.foreign.insert(id.clone());
    }

    /// Full paths of groups, as paths below their hierarchy's mount point.
    fn relative_groups(&self, full: &[PathBuf], id: &str) -> Vec<PathBuf> {
        let Ok(tree) = self.view.cgroups() else { return Vec::new() };
        let relative = full.iter().filter_map(|path| {
            let below = tree.hierarchies.iter().find_map(|h| path.strip_prefix(&h.point).ok())?;
            Some(Path::new("/").join(below))
        });
        let mut groups: Vec<_> = relative.filter(|g| evidence::is_group_of(g, id)).collect();
        groups.sort();
        groups.dedup();
        groups
    }

    /// Containers that an earlier run knew and whose evidence is gone. Of these only what is dead is taken (a network
    /// namespace, an empty group, a socket): what runs has to be proven anew.
    pub(super) fn known_before(&mut self, containers: &[Container]) {
        let Ok(tree) = self.view.cgroups() else { return };
        let existing = tree.index();
        let is_empty = |group: &Path| {
            let places = existing.get(group.as_os_str()).into_iter().flatten();
            let mut pids = places.map(|h| self.view.group_pids(h, group));
            pids.all(|pids| pids.is_ok_and(|pids| pids.is_empty()))
        };
        let mut known = Vec::new();
        for old in containers {
            let plain = |name: &String| shim::name(name.as_bytes()).is_some();
            let named = [&old.id.namespace, &old.id.id, &old.group].into_iter().all(plain);
            if !named || self.containers.contains_key(&old.id) || self.foreign_ids.contains(&old.id.id) {
                continue;
            }
            let group = |g: &&PathBuf| evidence::is_group_of(g, &old.id.id) && is_empty(g);
            known.push(Container {
                groups: old.groups.iter().filter(group).cloned().collect(),
                init: None,
                netns: old.netns.clone().filter(|path| evidence::is_netns(path, self.roots)),
                socket: old.socket.clone().filter(|s| s.parent() == Some(&self.roots.shim_sockets)),
                binds: Vec::new(),
                ..old.clone()
            });
        }
        self.containers.extend(known.into_iter().map(|c| (c.id.clone(), c)));
    }
}

/// Another instance of the same snap, known by its units.
fn sibling_of(view: &View, snap: &Snap) -> Option<String> {
    let tree = view.cgroups().as_ref().ok()?;
    let of_same_snap = |other: &&str| other.split('_').next() == Some(snap.name.as_str());
    let mut instances = tree.each().filter_map(|(_, group)| cgroup::snap_of(group)).filter(of_same_snap);
    instances.find(|other| *other != snap.instance).map(str::to_owned)
}
