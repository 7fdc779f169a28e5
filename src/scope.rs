//! What is ours: decided once, before anything is removed, and never changed later.
//!
//! A teardown destroys the evidence of ownership as it goes (bundles, process ancestry, CNI results), so all of
//! it is gathered first. Ours is proven, not named: a container by its bundle in our state directory, by the
//! bundle that its runc state names, by its parent shim, or by its root file system; a shim by its `-address`,
//! its PID namespace and its control group or the bundles that it serves. A contradiction makes a bystander.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::cgroup;
use crate::evidence::{self, Bundle};
use crate::network::{self, Network};
use crate::proc::Proc;
use crate::profile::{Profile, Roots, Services};
use crate::residue::{ContainerId, ProcessId, short};
use crate::shim;
use crate::snap::Snap;
use crate::step::Blind;
use crate::text;
use crate::view::{Processes, View};

/// Everything that is ours.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Scope {
    // What a later run knows by itself is written for people, and not read back.
    /// The snap, with its directories as they are called here.
    #[serde(skip_deserializing)]
    pub snap: Snap,
    /// The profile's paths as they are called here.
    #[serde(skip_deserializing)]
    pub roots: Roots,
    /// The profile's paths as processes inside the snap know them; other texts only in a parallel instance.
    #[serde(skip_deserializing)]
    pub inside: Roots,
    /// The services that matter for the order.
    #[serde(skip_deserializing)]
    pub services: Services,
    /// Links that the profile names.
    #[serde(skip_deserializing)]
    pub links: Vec<String>,
    /// Comments on the snap's firewall rules.
    #[serde(skip_deserializing)]
    pub rule_comments: Vec<String>,
    /// Our containers, dead ones included.
    pub containers: Vec<Container>,
    /// Our shims.
    pub shims: Vec<Shim>,
    /// IDs of ours that runc's state gives to another containerd, in the same namespace or in another.
    pub foreign: Vec<ContainerId>,
    /// What of the network is ours.
    #[serde(default)]
    pub network: Network,
    /// What looks like ours and is not.
    pub bystanders: Vec<Bystander>,
    /// Evidence that could not be read, where no other source covers it.
    pub blind: Vec<Blind>,
    /// Evidence that was there and made no sense; it was not used.
    pub nonsense: Vec<String>,
}

/// A container of ours.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Container {
    /// Its name.
    #[serde(flatten)]
    pub id: ContainerId,
    /// The ID under which its shim was started: its sandbox's, or its own.
    pub group: String,
    /// True for a sandbox ("pause").
    pub sandbox: bool,
    /// Its pod, if it has one.
    pub pod: Option<Pod>,
    /// Its control groups, as paths below a hierarchy's mount point.
    #[serde(with = "text::list")]
    pub groups: Vec<PathBuf>,
    /// Its first process, where runc recorded it.
    pub init: Option<ProcessId>,
    /// Its network namespace, if one was made for it.
    #[serde(with = "text::option")]
    pub netns: Option<PathBuf>,
    /// Where its shim listens, if that is known and where shims do.
    #[serde(with = "text::option")]
    pub socket: Option<PathBuf>,
    /// Directories of the host that are bound into it.
    #[serde(with = "text::list")]
    pub binds: Vec<PathBuf>,
    /// What proves it ours.
    pub evidence: BTreeSet<Evidence>,
}

/// A pod, as kubelet names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Pod {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
}

impl std::fmt::Display for Pod {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", text::escape(self.namespace.as_bytes()), text::escape(self.name.as_bytes()))
    }
}

/// A proof of ownership.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Evidence {
    /// A bundle or work directory in our state or root directory.
    Bundle,
    /// A runc state whose `bundle=` label leads into our state directory.
    RuncState,
    /// A living parent that is a shim of ours.
    ParentShim,
    /// A shim of ours that was started with its ID.
    ShimId,
    /// A root file system on our snapshots.
    RootFs,
}

/// A shim of ours.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Shim {
    /// Its process.
    pub process: ProcessId,
    /// containerd's namespace.
    pub namespace: String,
    /// The ID it was started with.
    pub id: Option<String>,
    /// Where it listens.
    #[serde(with = "text::option")]
    pub socket: Option<PathBuf>,
}

/// Something that looks like ours, and the contradiction that says it is not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Bystander {
    /// What it is.
    pub what: String,
    /// Why it is left alone.
    pub why: String,
}

impl Scope {
    /// Gathers the evidence. Reads only.
    pub fn gather(view: &View, snap: &Snap, profile: &Profile) -> crate::error::Result<Scope> {
        Scope::gather_after(view, snap, profile, None)
    }

    /// The same after an earlier run that left something.
    pub fn gather_after(
        view: &View,
        snap: &Snap,
        profile: &Profile,
        earlier: Option<&Scope>,
    ) -> crate::error::Result<Scope> {
        let roots = profile.resolve(snap)?;
        let inside = profile.resolve(&snap.inside())?;
        let mut gather = Gather::new(view, snap, &roots, &inside);
        gather.bundles();
        gather.runc_states();
        gather.shims();
        gather.children_of_shims();
        gather.unclaimed_groups();
        earlier.into_iter().for_each(|earlier| gather.known_before(&earlier.containers));
        let rule_comments = gather.rule_comments(&profile.network.rule_comments);
        let Gather { containers, shims, mut foreign, mut bystanders, blind, nonsense, .. } = gather;
        let ids: HashSet<String> = containers.keys().map(|own| own.id.clone()).collect();
        foreign.retain(|other| ids.contains(&other.id));
        let mut scope = Scope {
            snap: snap.clone(),
            roots,
            inside,
            services: profile.services.clone(),
            links: profile.network.links.clone(),
            rule_comments,
            shims,
            foreign: foreign.into_iter().collect(),
            containers: containers.into_values().collect(),
            network: Network::default(),
            bystanders: Vec::new(),
            blind,
            nonsense,
        };
        let found = network::gather(view, &mut scope, earlier.map(|e| &e.network));
        bystanders.extend(found.bystanders);
        scope.network = found.network;
        scope.bystanders = bystanders;
        Ok(scope)
    }

    /// The containers by containerd's namespace and the ID under which their shim was started.
    pub fn by_group(&self) -> HashMap<(&str, &str), Vec<&Container>> {
        let mut groups: HashMap<_, Vec<_>> = HashMap::new();
        for c in &self.containers {
            groups.entry((c.id.namespace.as_str(), c.group.as_str())).or_default().push(c);
        }
        groups
    }

    /// The containers that a shim serves, applications first. A shim that was started without an ID may serve
    /// any of its namespace.
    pub fn served_by<'a>(
        &'a self,
        shim: &Shim,
        by_group: &HashMap<(&str, &str), Vec<&'a Container>>,
    ) -> Vec<&'a Container> {
        let mut served: Vec<_> = match &shim.id {
            Some(id) => by_group.get(&(shim.namespace.as_str(), id.as_str())).cloned().unwrap_or_default(),
            None => self.containers.iter().filter(|c| c.id.namespace == shim.namespace).collect(),
        };
        served.sort_by_key(|c| c.sandbox);
        served
    }

    /// Where a container's shim listens: as recorded, else where its name puts it.
    pub fn socket_of(&self, container: &Container) -> PathBuf {
        let computed = || {
            shim::socket(
                &self.roots.shim_sockets,
                &self.inside.address,
                &container.id.namespace,
                &container.group,
            )
        };
        container.socket.clone().unwrap_or_else(computed)
    }

    /// True if runc's state of this ID is another containerd's.
    pub fn is_foreign(&self, id: &ContainerId) -> bool {
        self.foreign.contains(id)
    }

    /// IDs that nobody but us has: what is known by an ID alone is ours by these only.
    pub fn sole_ids(&self) -> HashSet<&str> {
        let mut ids: HashSet<&str> = self.containers.iter().map(|c| c.id.id.as_str()).collect();
        for other in &self.foreign {
            ids.remove(other.id.as_str());
        }
        ids
    }

    /// What the other scope knows and this one does not, added: for evidence that appeared while we worked,
    /// and for evidence that we have destroyed since.
    pub fn union(mut self, older: Scope) -> Scope {
        let netns: HashMap<_, _> = older.containers.iter().map(|c| (&c.id, &c.netns)).collect();
        for own in self.containers.iter_mut().filter(|c| c.netns.is_none()) {
            own.netns = netns.get(&own.id).and_then(|netns| (*netns).clone());
        }
        let known: HashSet<_> = self.containers.iter().map(|c| c.id.clone()).collect();
        self.containers.extend(older.containers.into_iter().filter(|c| !known.contains(&c.id)));
        let known: HashSet<_> = self.shims.iter().map(|s| s.process).collect();
        self.shims.extend(older.shims.into_iter().filter(|s| !known.contains(&s.process)));
        self.network = self.network.union(older.network);
        for bystander in older.bystanders {
            if !self.bystanders.contains(&bystander) {
                self.bystanders.push(bystander);
            }
        }
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

/// The gathering itself.
struct Gather<'a> {
    view: &'a View<'a>,
    snap: &'a Snap,
    roots: &'a Roots,
    inside: &'a Roots,
    containers: BTreeMap<ContainerId, Container>,
    shims: Vec<Shim>,
    /// IDs that a readable runc state gives to somebody else.
    foreign: BTreeSet<ContainerId>,
    /// The same, whatever containerd's namespace.
    foreign_ids: HashSet<String>,
    bystanders: Vec<Bystander>,
    blind: Vec<Blind>,
    nonsense: Vec<String>,
    runc_hidden: Option<String>,
    /// Another instance of the same snap that has units on this machine.
    sibling: Option<String>,
}

impl<'a> Gather<'a> {
    fn new(view: &'a View<'a>, snap: &'a Snap, roots: &'a Roots, inside: &'a Roots) -> Self {
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

    fn bundles(&mut self) {
        let (ids, errors) = evidence::list_bundles(self.view.host, self.roots);
        self.blind.extend(errors.iter().map(|e| Blind::new("bundles", e)));
        for id in ids {
            let bundle = evidence::read_bundle(self.view.host, self.roots, &id);
            self.nonsense.extend(bundle.nonsense.iter().cloned());
            self.claim(id, bundle, Evidence::Bundle);
        }
    }

    /// Takes a container as ours, or adds to what is known of it.
    fn claim(&mut self, id: ContainerId, bundle: Bundle, evidence: Evidence) -> &mut Container {
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
    fn runc_states(&mut self) {
        let namespaces = match self.view.host.list(&self.roots.runc) {
            Ok(names) => names,
            Err(e) => return self.runc_hidden = Some(e.to_string()),
        };
        for namespace in namespaces.iter().filter_map(|n| shim::name(n.as_encoded_bytes())) {
            let directory = self.roots.runc.join(&namespace);
            match self.view.host.list(&directory) {
                Ok(ids) => ids.iter().filter_map(|n| shim::name(n.as_encoded_bytes())).for_each(|id| {
                    self.runc_state(&directory, ContainerId { namespace: namespace.clone(), id });
                }),
                Err(e) => self.runc_hidden = Some(e.to_string()),
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
    fn is_siblings(&mut self, init: Option<ProcessId>, id: &ContainerId) -> Option<String> {
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
    fn rule_comments(&mut self, named: &[String]) -> Vec<String> {
        let Some(sibling) = &self.sibling else { return named.to_vec() };
        let why = format!("the instance '{sibling}' makes the same");
        let what = |comment: &String| format!("the firewall rules with the comment '{comment}'");
        self.bystanders.extend(named.iter().map(|c| Bystander { what: what(c), why: why.clone() }));
        Vec::new()
    }

    fn note_foreign(&mut self, id: &ContainerId) {
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

    fn shims(&mut self) {
        let view = self.view;
        let processes = match view.processes() {
            Ok(processes) => processes,
            Err(e) => return self.blind.push(Blind::new("processes", e)),
        };
        let hidden = processes.iter().filter(|p| p.hidden).count();
        if hidden > 0 {
            self.blind.push(Blind::new(
                "processes",
                format!("the command lines of {hidden} of root's processes cannot be read"),
            ));
        }
        self.blind
            .extend(processes.unreadable.iter().map(|(pid, why)| Blind::new(format!("process {pid}"), why)));
        let depth = pid_namespace_depth(view, "self");
        for process in processes.iter() {
            let Some(args) = &process.shim else { continue };
            if args.address != self.inside.address {
                self.another_containerds(process, &args.address, depth);
                continue;
            }
            match self.disprove(process, depth) {
                None => {
                    let socket = args.id.as_ref().map(|id| self.socket_of(&args.namespace, id));
                    let (namespace, id) = (args.namespace.clone(), args.id.clone());
                    self.shims.push(Shim { process: process.id, namespace, id, socket });
                }
                Some(why) => {
                    self.bystanders.push(Bystander { what: format!("the shim {}", process.id.pid), why })
                }
            }
        }
        self.shims.sort_by_key(|s| s.process);
        self.shim_ids();
    }

    /// A shim of another containerd is nobody's business here, but for one that runs in a service of this very snap:
    /// then the profile does not say where the snap's containerd listens, and what it runs cannot be found.
    fn another_containerds(&mut self, process: &Proc, address: &Path, own_depth: Option<usize>) {
        let pid = process.id.pid;
        if self.view.unit_of(pid) != Some(self.snap.instance.as_str()) {
            return;
        }
        let service =
            self.view.membership(pid).iter().any(|g| cgroup::service_of(g, &self.snap.instance).is_some());
        if service && pid_namespace_depth(self.view, &pid.to_string()) == own_depth {
            let why = format!(
                "shim {pid} runs in a service of the snap and serves a containerd at '{}', which the profile does not name",
                text::show(address)
            );
            self.blind.push(Blind::new("containers of another containerd of the snap", why));
        }
    }

    /// A shim whose bundle is gone still proves that a container of its ID was ours.
    fn shim_ids(&mut self) {
        for shim in self.shims.clone() {
            let Some(id) = shim.id else { continue };
            let id = ContainerId { namespace: shim.namespace, id };
            if !self.foreign.contains(&id) {
                self.claim(id, Bundle::default(), Evidence::ShimId);
            }
        }
    }

    fn socket_of(&self, namespace: &str, id: &str) -> PathBuf {
        // A shim is nearly always named after its first container.
        let first = self.containers.get(&ContainerId { namespace: namespace.into(), id: id.into() });
        let serves = |c: &&Container| c.id.namespace == namespace && c.group == id && c.socket.is_some();
        first
            .filter(serves)
            .or_else(|| self.containers.values().find(serves))
            .and_then(|c| c.socket.clone())
            .unwrap_or_else(|| shim::socket(&self.roots.shim_sockets, &self.inside.address, namespace, id))
    }

    /// Why a process whose command line says that it is our shim is not; none if it is.
    fn disprove(&self, process: &Proc, own_depth: Option<usize>) -> Option<String> {
        let pid = process.id.pid;
        let depth = pid_namespace_depth(self.view, &pid.to_string());
        if own_depth.is_none() || depth != own_depth {
            return Some("it runs in another PID namespace".into());
        }
        match self.view.unit_of(pid) {
            Some(snap) if snap == self.snap.instance => return None,
            Some(other) => return Some(format!("it runs in a unit of snap '{other}'")),
            None => {}
        }
        let args = process.shim.as_ref()?;
        let serves = |c: &Container| {
            c.id.namespace == args.namespace
                && args.id.as_ref().is_some_and(|id| c.group == *id || c.id.id == *id)
        };
        if self.containers.values().any(serves) || (self.sibling.is_none() && self.works_in_our_bundles(pid))
        {
            return None;
        }
        Some("it runs in no unit of the snap and serves none of its bundles".into())
    }

    /// A shim's working directory is its bundle, and stays known when the bundle has been deleted.
    fn works_in_our_bundles(&self, pid: i32) -> bool {
        let link = self.view.host.path(Path::new(&format!("/proc/{pid}/cwd")));
        std::fs::read_link(link).is_ok_and(|cwd| cwd.starts_with(self.inside.state.join(evidence::TASKS)))
    }

    /// A child of our shim in a group of its own is a container's first process, whatever became of the bundle.
    fn children_of_shims(&mut self) {
        let Ok(processes) = self.view.processes() else { return };
        let shims: HashMap<i32, Shim> = self.shims.iter().map(|s| (s.process.pid, s.clone())).collect();
        let known: HashSet<PathBuf> =
            self.containers.values().flat_map(|c| c.groups.iter().cloned()).collect();
        for child in processes.iter().filter(|p| shims.contains_key(&p.parent) && p.shim.is_none()) {
            let Some(shim) = shims.get(&child.parent) else { continue };
            for group in self.view.membership(child.id.pid) {
                let Some(id) = group.file_name().and_then(|n| n.to_str()).and_then(cgroup::container_of)
                else {
                    continue;
                };
                if known.contains(&group) || self.foreign_ids.contains(id) {
                    continue;
                }
                let id = ContainerId { namespace: shim.namespace.clone(), id: id.to_owned() };
                let bundle = Bundle { group: shim.id.clone(), ..Bundle::default() };
                let container = self.claim(id, bundle, Evidence::ParentShim);
                container.groups.push(group);
            }
        }
    }

    /// Groups that look like a container's and that nobody has claimed: an orphan whose bundle, shim and runc
    /// state are all gone (or hidden from us) is told by its root file system.
    fn unclaimed_groups(&mut self) {
        let view = self.view;
        let (Ok(tree), Ok(processes)) = (view.cgroups(), view.processes()) else { return };
        let known: HashSet<PathBuf> =
            self.containers.values().flat_map(|c| c.groups.iter().cloned()).collect();
        let mut judged = HashSet::new();
        for (hierarchy, group) in tree.each() {
            let Some(id) = group.file_name().and_then(|n| n.to_str()).and_then(cgroup::container_of) else {
                continue;
            };
            if known.contains(group) || self.foreign_ids.contains(id) || judged.contains(group) {
                continue;
            }
            let pids = match view.group_pids(&cgroup::full(&hierarchy.point, group)) {
                Ok(pids) => pids,
                Err(why) => {
                    self.blind.push(Blind::new(format!("cgroup {}", text::show(group)), why));
                    continue;
                }
            };
            let alive = pids.iter().filter_map(|pid| processes.get(*pid)).filter(|p| p.alive());
            // One that ends while it is looked at tells nothing; the next one may.
            let verdict = alive.map(|p| self.whose(p, processes)).find(|w| !matches!(w, Whose::Gone));
            let Some(verdict) = verdict else { continue };
            judged.insert(group.to_path_buf());
            match verdict {
                Whose::Gone => {}
                Whose::Ours => {
                    let id = ContainerId { namespace: "k8s.io".into(), id: id.to_owned() };
                    self.claim(id, Bundle::default(), Evidence::RootFs).groups.push(group.to_path_buf());
                }
                Whose::Foreign => {}
                Whose::Unknown(why) => {
                    let hidden = self.runc_hidden.as_deref().unwrap_or("no runc state, no parent shim");
                    let why = format!("whose it is cannot be told: {hidden}; {why}");
                    self.blind.push(Blind::new(format!("container group {}", text::show(group)), why));
                }
            }
        }
    }

    /// Containers that an earlier run knew and whose evidence is gone. Of these only what is dead is taken (a network
    /// namespace, an empty group, a socket): what runs has to be proven anew.
    fn known_before(&mut self, containers: &[Container]) {
        let Ok(tree) = self.view.cgroups() else { return };
        let existing = tree.index();
        let is_empty = |group: &Path| {
            let places = existing.get(group).into_iter().flatten();
            let mut pids = places.map(|h| self.view.group_pids(&cgroup::full(&h.point, group)));
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

    fn whose(&self, process: &Proc, processes: &Processes) -> Whose {
        let parent = processes.get(process.parent);
        if let Some(args) = parent.and_then(|p| p.shim.as_ref())
            && args.address != self.inside.address
        {
            return Whose::Foreign;
        }
        let unit = parent.filter(|p| p.shim.is_some()).and_then(|p| self.view.unit_of(p.id.pid));
        if unit.is_some_and(|unit| unit != self.snap.instance) {
            return Whose::Foreign;
        }
        let file = PathBuf::from(format!("/proc/{}/mountinfo", process.id.pid));
        let table = match self.view.host.read(&file) {
            Ok(bytes) => crate::mountinfo::parse(&bytes),
            // EINVAL is what the kernel says of one that is about to go.
            Err(e) if e.is_gone() || e.errno() == Some(nix::libc::EINVAL) => return Whose::Gone,
            Err(e) => return Whose::Unknown(e.to_string()),
        };
        let snapshots = self.inside.root.join("io.containerd.snapshotter.v1.overlayfs/snapshots");
        let root = table.mounts.iter().rev().find(|m| m.point == Path::new("/"));
        let upper = root.filter(|m| m.fstype == "overlay").and_then(|m| overlay_upper(&m.options));
        match upper {
            Some(upper) if upper.starts_with(&snapshots) && self.same_pid_namespace(process) => {
                match &self.sibling {
                    Some(sibling) if unit.is_none() => {
                        Whose::Unknown(format!("the instance '{sibling}' has the same paths"))
                    }
                    _ => Whose::Ours,
                }
            }
            _ => Whose::Foreign,
        }
    }

    /// The same path in another guest's mount namespace is another directory. A guest's own containers are in a
    /// PID namespace at least two levels down; a container of ours is at most one below us.
    fn same_pid_namespace(&self, process: &Proc) -> bool {
        let depth = |pid: &str| pid_namespace_depth(self.view, pid);
        match (depth("self"), depth(&process.id.pid.to_string())) {
            (Some(own), Some(its)) => its == own || its == own + 1,
            _ => false,
        }
    }
}

enum Whose {
    Gone,
    Ours,
    Foreign,
    Unknown(String),
}

/// Another instance of the same snap, known by its units.
fn sibling_of(view: &View, snap: &Snap) -> Option<String> {
    let tree = view.cgroups().as_ref().ok()?;
    let of_same_snap = |other: &&str| other.split('_').next() == Some(snap.name.as_str());
    let mut instances = tree.each().filter_map(|(_, group)| cgroup::snap_of(group)).filter(of_same_snap);
    instances.find(|other| *other != snap.instance).map(str::to_owned)
}

/// The `upperdir=` of an overlay's options; the kernel prints the whole path there.
fn overlay_upper(options: &[u8]) -> Option<PathBuf> {
    use std::os::unix::ffi::OsStrExt;
    let upper = options.split(|b| *b == b',').find_map(|o| o.strip_prefix(b"upperdir="))?;
    Some(PathBuf::from(std::ffi::OsStr::from_bytes(upper)))
}

/// In how many PID namespaces a process has a PID, counted from ours: 1 is our own namespace.
pub(crate) fn pid_namespace_depth(view: &View, pid: &str) -> Option<usize> {
    let status = view.host.read(Path::new(&format!("/proc/{pid}/status"))).ok()?;
    let line = status.split(|b| *b == b'\n').find_map(|l| l.strip_prefix(b"NSpid:"))?;
    Some(line.split(u8::is_ascii_whitespace).filter(|f| !f.is_empty()).count())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A scope of the built-in profile with sandboxes by these IDs and nothing else.
    pub(crate) fn scope_of(ids: &[&str]) -> Scope {
        let snap = Snap::stand_in("microk8s");
        let profile = Profile::built_in("microk8s").unwrap().unwrap();
        let host = crate::host::Host::at("/nonexistent");
        let mut scope = Scope::gather(&View::new(&host, None), &snap, &profile).unwrap();
        scope.containers = ids.iter().map(|id| sandbox(id)).collect();
        scope
    }

    fn sandbox(id: &str) -> Container {
        Container {
            id: ContainerId { namespace: "k8s.io".into(), id: id.into() },
            group: id.into(),
            sandbox: true,
            pod: None,
            groups: vec![],
            init: None,
            netns: None,
            socket: None,
            binds: vec![],
            evidence: BTreeSet::new(),
        }
    }

    #[test]
    fn overlay_upper_dirs() {
        let options = b"rw,lowerdir=/a:/b,upperdir=/var/snap/m/common/x/fs,workdir=/w";
        assert_eq!(overlay_upper(options).unwrap(), Path::new("/var/snap/m/common/x/fs"));
        assert!(overlay_upper(b"rw,lowerdir=/a").is_none());
    }

    #[test]
    fn what_an_earlier_run_could_not_remove_is_still_known_and_what_runs_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let file = dir.path().join(path);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, text).unwrap();
        };
        write("proc/self/mountinfo", "1 0 0:1 / /sys/fs/cgroup rw - cgroup2 c rw\n");
        write("sys/fs/cgroup/kubepods/podA/dead/cgroup.procs", "");
        write("sys/fs/cgroup/kubepods/podB/runs/cgroup.procs", "77\n");
        write("run/netns/cni-dead", "");
        let mut earlier = scope_of(&["dead", "runs", "../etc"]);
        for (container, pod) in earlier.containers.iter_mut().zip(["podA", "podB", "podC"]) {
            container.groups = vec![Path::new("/kubepods").join(pod).join(&container.id.id)];
            container.netns = Some(format!("/run/netns/cni-{}", container.id.id).into());
            container.init = Some(ProcessId { pid: 77, start: 1 });
        }
        earlier.containers[2].netns = Some("/etc/passwd".into());
        let host = crate::host::Host::at(dir.path());
        let (snap, profile) = (Snap::stand_in("microk8s"), Profile::built_in("microk8s").unwrap().unwrap());
        let view = View::new(&host, None);
        let scope = Scope::gather_after(&view, &snap, &profile, Some(&earlier)).unwrap();
        let known: Vec<_> =
            scope.containers.iter().map(|c| (c.id.id.as_str(), c.groups.len(), c.init)).collect();
        assert_eq!(known, [("dead", 1, None), ("runs", 0, None)]);
        let plan = crate::steps::plan(std::time::Duration::ZERO);
        let found: Vec<String> =
            plan.iter().flat_map(|s| (s.find)(&view, &scope).residues).map(|r| r.key()).collect();
        for key in ["netns /run/netns/cni-dead", "cgroup /sys/fs/cgroup/kubepods/podA/dead"] {
            assert!(found.iter().any(|k| k == key), "{key}: {found:?}");
        }
        assert!(!found.iter().any(|k| k.contains("podB") || k.contains("etc")), "{found:?}");
    }

    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let file = dir.path().join(path);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, text).unwrap();
        }
        dir
    }

    fn gathered(dir: &tempfile::TempDir) -> Scope {
        let host = crate::host::Host::at(dir.path());
        let profile = Profile::built_in("microk8s").unwrap().unwrap();
        Scope::gather(&View::new(&host, None), &Snap::stand_in("microk8s"), &profile).unwrap()
    }

    const CGROUPS: (&str, &str) = ("proc/self/mountinfo", "1 0 0:1 / /sys/fs/cgroup rw - cgroup2 c rw\n");
    const STAT: &str = "(x) S 1 1 1 0 -1 4194560 0 0 0 0 0 0 0 0 20 0 1 0 100 0 0 184 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n";

    #[test]
    fn a_shim_in_our_service_with_another_address_is_not_passed_over() {
        let stat = format!("50 {STAT}");
        for (unit, depth, blind) in [
            ("snap.microk8s.daemon-containerd.service", "50", 1),
            ("snap.microk8s.ctr-1.scope", "50", 0),
            ("snap.microk8s_two.daemon-containerd.service", "50", 0),
            ("snap.microk8s.daemon-containerd.service", "50\t7", 0),
        ] {
            let (group, status) = (format!("/system.slice/{unit}"), format!("NSpid:\t{depth}\n"));
            let dir = tree(&[
                CGROUPS,
                ("proc/self/status", "NSpid:\t9\n"),
                (&format!("sys/fs/cgroup{group}/cgroup.procs"), "50\n"),
                ("proc/50/stat", &stat),
                ("proc/50/cmdline", "shim\0-namespace\0k8s.io\0-id\0a\0-address\0/run/other.sock\0"),
                ("proc/50/status", &status),
                ("proc/50/cgroup", &format!("0::{group}\n")),
            ]);
            let scope = gathered(&dir);
            assert_eq!(scope.blind.len(), blind, "{unit} {depth}: {:?}", scope.blind);
            assert!(scope.shims.is_empty(), "{unit}");
        }
    }

    #[test]
    fn a_process_that_ends_while_it_is_looked_at_does_not_hide_an_orphan() {
        let id = "a".repeat(64);
        let root = "/var/snap/microk8s/common/var/lib/containerd/io.containerd.snapshotter.v1.overlayfs/snapshots/1/fs";
        let dir = tree(&[
            CGROUPS,
            ("proc/self/status", "NSpid:\t9\n"),
            (&format!("sys/fs/cgroup/kubepods/podA/{id}/cgroup.procs"), "60\n61\n"),
            // The first has no mount table any more.
            ("proc/60/stat", &format!("60 {STAT}")),
            ("proc/60/cmdline", ""),
            ("proc/61/stat", &format!("61 {STAT}")),
            ("proc/61/cmdline", ""),
            ("proc/61/status", "NSpid:\t61\t1\n"),
            (
                "proc/61/mountinfo",
                &format!("1 0 0:1 / / rw - overlay overlay rw,lowerdir=/l,upperdir={root},workdir=/w\n"),
            ),
        ]);
        let scope = gathered(&dir);
        assert_eq!(scope.containers.iter().map(|c| c.id.id.as_str()).collect::<Vec<_>>(), [id.as_str()]);
    }

    #[test]
    fn beside_another_instance_a_comment_that_names_the_snap_proves_nothing() {
        let dir = tree(&[
            CGROUPS,
            ("sys/fs/cgroup/system.slice/snap.microk8s_two.daemon-kubelite.service/cgroup.procs", ""),
        ]);
        let scope = gathered(&dir);
        assert!(scope.rule_comments.is_empty() && scope.bystanders.len() == 1, "{:?}", scope.bystanders);
        assert_eq!(gathered(&tree(&[CGROUPS])).rule_comments.len(), 1);
    }
}
