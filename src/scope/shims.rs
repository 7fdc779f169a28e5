//! Which shims are ours: root's, with our containerd's address, in our PID namespace, and in the snap's unit or at work in
//! a bundle of ours.

use std::collections::{BTreeSet, HashSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::gather::Gather;
use crate::error::Blind;
use crate::linux::identity::{is_same_file, owner_of_process};
use crate::linux::proc::Proc;
use crate::order;
use crate::reason::Reason;
use crate::residue::witness::Witness;
use crate::runtime::bundle::{self, Bundle};
use crate::runtime::shim::ShimArgs;
use crate::runtime::streams::container_of;
use crate::runtime::told::ConfiguredRoots;
use crate::runtime::{ContainerId, Name, groups, listing};
use crate::scope::{Bystander, BystanderKind, Container, Evidence, OwnedShim};
use crate::snap::profile::{Roots, is_shared};
use crate::snap::{Snap, units};
use crate::text;
use crate::view::View;

/// Whose a process is that calls itself a shim of our containerd.
enum Verdict {
    Ours(Witness),
    /// By evidence that names the other; and whether that is a unit, which systemd alone chooses.
    Anothers(String, bool),
    /// By lack of any evidence.
    Doubtful(String),
}

/// As many PIDs are named.
const MAX_NAMED: usize = 10;

/// Where the living shims of our containerd work, if that is in no directory of ours: a proven shim's bundle is ours, wherever
/// it lies. Nothing where they work in several places; nor within the snap's directories, where a container may have moved
/// it, with whatever else lies there. Where the profile names a directory that all runtimes share, they cannot have been moved
/// from there into the snap's: then the profile is wrong, and they work where they were started.
pub(super) fn told_by_shims(
    view: &View,
    snap: &Snap,
    roots: &Roots,
    inside: &Roots,
) -> Option<ConfiguredRoots> {
    let processes = view.processes().as_ref().ok()?;
    let serves = |p: &Proc| processes.shim(p.id.pid).filter(|args| args.address == inside.address);
    let misnamed = is_shared(&roots.state);
    let outside = |place: &PathBuf| misnamed || !snap.owns(place) && !snap.inside().owns(place);
    let shims = processes
        .iter()
        .filter_map(|p| Some((p, serves(p)?, works_elsewhere(view, inside, p.id.pid).filter(&outside)?)));
    let shims: Vec<_> = shims.collect();
    if shims.is_empty() {
        return None;
    }
    let gather = Gather::new(view, snap, roots, inside);
    let depth = view.pid_namespace_depth(None);
    let ours = |(process, args, _): &&(&Proc, &ShimArgs, PathBuf)| {
        matches!(gather.judge(process, args, depth), Verdict::Ours(_))
    };
    // A bundle is STATE/TASKS/NAMESPACE/ID.
    let mut told = shims.iter().filter(ours).map(|(_, _, bundle)| ConfiguredRoots {
        state: bundle.ancestors().nth(3).map(Path::to_path_buf),
        root: root_of_bundle(view, bundle).filter(&outside),
        ..ConfiguredRoots::default()
    });
    let first = told.next()?;
    told.all(|other| other.state == first.state).then_some(first)
}

/// True for a path whose end is that of a bundle or a work directory.
fn is_bundle(path: &Path) -> bool {
    let tasks = path.ancestors().nth(2);
    tasks.is_some_and(|tasks| bundle::ALL_TASKS.iter().any(|name| tasks.ends_with(name)))
}

/// The address that all living shims name which are proven ours and work in bundles of ours, where none of them names the one that is
/// known: containerd was told on its command line alone, or the file that names it was changed since.
pub(super) fn address_by_shims(view: &View, snap: &Snap, roots: &Roots, inside: &Roots) -> Option<PathBuf> {
    let processes = view.processes().as_ref().ok()?;
    let shims = || processes.iter().filter_map(|p| Some((p, processes.shim(p.id.pid)?)));
    if shims().all(|(_, args)| args.address == inside.address) {
        return None;
    }
    let gather = Gather::new(view, snap, roots, inside);
    let depth = view.pid_namespace_depth(None);
    let bundles: HashSet<ContainerId> =
        listing::list_bundles(view.host, roots).containers.into_iter().collect();
    let mut told = shims()
        .filter(|(process, args)| {
            gather.may_tell_address(process, args, &|id| bundles.contains(id))
                && matches!(gather.judge(process, args, depth), Verdict::Ours(_))
        })
        .map(|(_, args)| &args.address);
    let first = told.next()?;
    (*first != inside.address && told.all(|other| other == first)).then(|| first.clone())
}

/// containerd's root: a bundle's link `work` leads to ROOT/TASKS/NAMESPACE/ID.
fn root_of_bundle(view: &View, bundle: &Path) -> Option<PathBuf> {
    let work = view.host.link(&bundle.join("work")).ok()?;
    work.ancestors().nth(3).filter(|_| work.is_absolute() && is_bundle(&work)).map(Path::to_path_buf)
}

/// The bundle that a shim works in, where that lies in no directory of ours: containerd's state has been moved.
fn works_elsewhere(view: &View, inside: &Roots, pid: i32) -> Option<PathBuf> {
    let cwd = std::fs::read_link(view.host.path(Path::new(&format!("/proc/{pid}/cwd")))).ok()?;
    let places = inside.spellings(&inside.state);
    (is_bundle(&cwd) && !places.iter().any(|state| cwd.starts_with(state))).then_some(cwd)
}

/// True if containerd has the address and the state directory that it has by default, or where a file has a docker of ours work
/// out of the snap's directories: so have others, or may have by now, and only the snap's unit tells which shims are ours.
fn is_everybodys(roots: &Roots) -> bool {
    is_shared(&roots.address) && is_shared(&roots.state)
        || roots.moved.iter().any(|place| roots.address.starts_with(place))
}

impl Gather<'_> {
    pub(super) fn shims(&mut self) {
        let view = self.view;
        let processes = match view.processes() {
            Ok(processes) => processes,
            Err(e) => return self.blind.push(Blind::new("processes", e)),
        };
        let hidden: Vec<i32> =
            processes.hidden().iter().copied().filter(|pid| !self.is_in_container(*pid)).collect();
        if !hidden.is_empty() {
            let pids: Vec<String> = hidden.iter().take(MAX_NAMED).map(i32::to_string).collect();
            let why = format!(
                "the command lines of {} of root's processes cannot be read: {}",
                hidden.len(),
                pids.join(" ")
            );
            self.blind.push(Blind::new("processes", (Reason::Refused, why)));
        }
        self.blind
            .extend(processes.unreadable.iter().map(|(pid, why)| Blind::new(format!("process {pid}"), why)));
        let depth = view.pid_namespace_depth(None);
        for process in processes.iter() {
            let Some(args) = processes.shim(process.id.pid) else { continue };
            if args.address != self.inside.address {
                self.another_containerds(process, args, depth);
                continue;
            }
            let what = format!("the shim {}", process.id.pid);
            match self.judge(process, args, depth) {
                Verdict::Ours(witness) => self.own_shim(process, args, witness),
                Verdict::Anothers(why, by_unit) => {
                    self.anothers_shims.extend(by_unit.then_some(process.id.pid));
                    self.bystanders.push(Bystander::anothers(BystanderKind::Shim, what, why));
                }
                Verdict::Doubtful(why) => {
                    let reason = Reason::Unproven;
                    self.doubts.push(Blind::new(&what, (reason, &why)));
                    self.bystanders.push(Bystander { kind: BystanderKind::Shim, what, reason, why });
                }
            }
        }
        order::sort_by_key(&mut self.shims, |s| s.process);
        self.shim_ids();
    }

    /// True for a process in a group of a container of ours: it goes with that, and is no shim.
    fn is_in_container(&self, pid: i32) -> bool {
        let groups = self.view.membership(pid);
        self.containers.values().any(|c| c.cgroups.iter().any(|group| groups.contains(group)))
    }

    fn own_shim(&mut self, process: &Proc, args: &ShimArgs, witness: Witness) {
        if let Some(place) = works_elsewhere(self.view, self.inside, process.id.pid) {
            let why = format!(
                "it works in '{}', which is not below the state directory that the profile names",
                text::show(&place)
            );
            let what = format!("what the shim {} has left", process.id.pid);
            self.doubts.push(Blind::new(what, (Reason::Unproven, why)));
        }
        let socket = args.id.as_ref().map(|id| self.socket_of(&args.namespace, id));
        let (namespace, id) = (args.namespace.as_str().into(), args.id.as_deref().map(Name::from));
        self.shims.push(OwnedShim { process: process.id, namespace, id, socket, witness });
    }

    /// The directories of streams that shims of ours have open, where these are called after nothing that is known: after a program
    /// that `ctr exec` runs in a container, or a container whose ID others have, too. The name of a stream tells no more than the ID.
    pub(super) fn streams(&self) -> BTreeSet<PathBuf> {
        let host = self.view.host;
        let ids: HashSet<&str> = self.containers.keys().map(|own| own.id.as_str()).collect();
        let is_known = |name: &OsString| container_of(name).is_some_and(|id| ids.contains(id));
        let all = host.list(&self.roots.fifos).unwrap_or_default();
        let unknown = all.iter().any(|directory| {
            host.list(&self.roots.fifos.join(directory)).is_ok_and(|names| !names.iter().all(is_known))
        });
        let shares_id = |shim: &&OwnedShim| {
            let serves = |c: &&Container| Some(&c.shim_id) == shim.id.as_ref() || shim.id.is_none();
            unknown || self.containers.values().filter(serves).any(|c| self.foreign_ids.contains(&c.id.id))
        };
        let mut found = BTreeSet::new();
        for shim in self.shims.iter().filter(shares_id) {
            let open = PathBuf::from(format!("/proc/{}/fd", shim.process.pid));
            for name in self.view.host.list(&open).unwrap_or_default() {
                let Ok(file) = self.view.host.link(&open.join(name)) else { continue };
                let directory = file.parent().filter(|d| d.parent() == Some(&self.roots.fifos));
                found.extend(directory.map(Path::to_path_buf));
            }
        }
        found
    }

    /// A shim of another containerd is nobody's business here, but for one that runs in a service of this very snap:
    /// then the profile does not say where the snap's containerd listens, and what it runs cannot be found.
    fn another_containerds(&mut self, process: &Proc, args: &ShimArgs, own_depth: Option<usize>) {
        let pid = process.id.pid;
        let address = &args.address;
        if self.view.unit_of(pid) != Some(self.snap.instance.as_str()) {
            let names_itself_ours = || {
                self.may_tell_address(process, args, &|id| self.containers.contains_key(id))
                    && matches!(self.judge(process, args, own_depth), Verdict::Ours(_))
            };
            if names_itself_ours() {
                let why = format!(
                    "it works in a bundle of ours and serves a containerd at '{}', which not all of our shims name",
                    text::show(address)
                );
                self.doubts.push(Blind::new(format!("the shim {pid}"), (Reason::Unproven, why)));
            }
            return;
        }
        let service =
            self.view.membership(pid).iter().any(|g| units::service_of(g, &self.snap.instance).is_some());
        if service && self.view.pid_namespace_depth(Some(pid)) == own_depth && self.is_roots(pid) {
            let why = format!(
                "shim {pid} runs in a service of the snap and serves a containerd at '{}', which the profile does not name",
                text::show(address)
            );
            let what = "containers of another containerd of the snap";
            self.blind.push(Blind::new(what, (Reason::Unproven, why)));
        }
    }

    /// A shim whose bundle is gone still proves that a container of its ID was ours.
    fn shim_ids(&mut self) {
        for shim in self.shims.clone() {
            let Some(id) = shim.id else { continue };
            let id = ContainerId { namespace: shim.namespace, id };
            if !self.foreign.contains(&id) {
                let container = self.claim(id, Bundle::default(), Evidence::ShimId);
                container.witnesses.insert(shim.witness);
            }
        }
    }

    fn socket_of(&self, namespace: &str, id: &str) -> Arc<Path> {
        // A shim is nearly always named after its first container.
        let first = self.containers.get(&ContainerId { namespace: namespace.into(), id: id.into() });
        let serves = |c: &&Container| c.id.namespace == namespace && c.shim_id == id && c.socket.is_some();
        first
            .filter(serves)
            .or_else(|| self.containers.values().find(serves))
            .and_then(|c| c.socket.clone())
            .unwrap_or_else(|| self.socket_at(namespace, id).into())
    }

    fn judge(&self, process: &Proc, args: &ShimArgs, own_depth: Option<usize>) -> Verdict {
        let pid = process.id.pid;
        if !self.is_roots(pid) {
            return Verdict::Anothers("it is not root's".into(), false);
        }
        if own_depth.is_none() || self.view.pid_namespace_depth(Some(pid)) != own_depth {
            return Verdict::Anothers("it runs in another PID namespace".into(), false);
        }
        match self.view.unit_of(pid) {
            Some(snap) if snap == self.snap.instance => return Verdict::Ours(Witness::Unit),
            Some(other) => return Verdict::Anothers(format!("it runs in a unit of snap '{other}'"), true),
            None => {}
        }
        let membership = self.view.membership(pid);
        if let Some(group) = membership.iter().find(|group| self.is_of_a_container(group)) {
            let why = format!("it runs in the container group {}", text::show(group));
            return Verdict::Doubtful(why);
        }
        if is_everybodys(self.inside) {
            let of_service = membership.iter().find(|group| group.starts_with("/system.slice"));
            return match of_service {
                Some(group) => {
                    let why = format!("it runs in {}", text::show(group));
                    Verdict::Anothers(why, groups::is_of_a_service(group))
                }
                None => Verdict::Doubtful("its containerd listens and works where everybody's does".into()),
            };
        }
        if self.works_in_our_bundle(pid, args) {
            return Verdict::Ours(Witness::WorksInBundle);
        }
        Verdict::Doubtful(
            "it names our containerd, runs in no unit of the snap, and works in none of its bundles".into(),
        )
    }

    /// The owner of a process's directory is its effective user, also where the process hides all else.
    fn is_roots(&self, pid: i32) -> bool {
        // A fixture's files are its author's.
        !self.view.host.is_live() || owner_of_process(self.view.host, pid).is_ok_and(|uid| uid == self.root)
    }

    fn is_of_a_container(&self, group: &Path) -> bool {
        let name = group.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        groups::container_of(name).is_some()
            || group.ancestors().any(groups::is_kubelets)
            || self.containers.values().any(|c| c.cgroups.iter().any(|own| group.starts_with(own)))
    }

    /// True for a shim that works in a bundle of ours where nobody else's containerd has its own. Of most that are another's, its ID
    /// says that there is none: others may have very many.
    fn may_tell_address(
        &self,
        process: &Proc,
        args: &ShimArgs,
        has_bundle: &dyn Fn(&ContainerId) -> bool,
    ) -> bool {
        let pid = process.id.pid;
        let of_shim = |id: &String| {
            let namespace = args.namespace.as_str().into();
            has_bundle(&ContainerId { namespace, id: id.as_str().into() })
        };
        if !args.id.as_ref().is_none_or(of_shim) {
            return false;
        }
        let state = &self.roots.state;
        let is_alone = self.roots.is_own(self.snap, state) && self.roots.mounts.contains(state);
        (is_alone || self.view.unit_of(pid) == Some(self.snap.instance.as_str()))
            && self.works_in_our_bundle(pid, args)
    }

    /// A shim's working directory is its bundle: of the container that it was started for, or of one that it serves.
    fn works_in_our_bundle(&self, pid: i32, args: &ShimArgs) -> bool {
        let link = PathBuf::from(format!("/proc/{pid}/cwd"));
        let Ok(text) = std::fs::read_link(self.view.host.path(&link)) else { return false };
        let below = |tasks: &str| text.strip_prefix(self.inside.state.join(tasks).join(&args.namespace)).ok();
        let mut places = bundle::ALL_TASKS.iter().filter_map(|tasks| Some((tasks, below(tasks)?)));
        let Some((tasks, name)) = places.next() else { return false };
        let name = name.to_string_lossy();
        let (name, deleted) = match name.strip_suffix(" (deleted)") {
            Some(name) => (name, true),
            None => (&*name, false),
        };
        let id = ContainerId { namespace: args.namespace.as_str().into(), id: name.into() };
        let serves = args.id.as_deref().is_none_or(|shim_id| {
            name == shim_id || self.containers.get(&id).is_some_and(|c| c.shim_id == *shim_id)
        });
        let here = self.roots.state.join(tasks).join(&args.namespace).join(name);
        // A bundle that is gone cannot be compared, and with another instance's it would read the same.
        serves && if deleted { self.sibling.is_none() } else { is_same_file(self.view.host, &link, &here) }
    }
}
