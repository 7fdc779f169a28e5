//! What the runtime wrote down about our containers: bundles, runc's states, sockets, streams. By computed or
//! recorded names only: whatever else lies in a shared directory is somebody else's.

use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use crate::error::Blind;
use crate::linux::sockets;
use crate::order;
use crate::reason::Reason;
use crate::residue::finding::Finding;
use crate::residue::{PathKind, Residue};
use crate::runtime::streams::container_of;
use crate::runtime::{ContainerId, Name, bundle, docker, sandboxed, shim, short};
use crate::scope::{Container, Scope};
use crate::snap::profile::{for_shims, is_shared};
use crate::steps::{files, flannel, ipc, kata, logs, skeleton};
use crate::text::show;
use crate::view::View;

/// The names of so many containers are looked up together: each has a dozen, and most are of nothing that exists.
const AT_ONCE: usize = 512;

/// Those of the files and directories that exist.
pub fn find(view: &View, scope: &Scope) -> Finding {
    let mut finding = Finding::default();
    let ours: Vec<&Container> = scope.containers.iter().filter(|c| scope.counts_as_ours(c)).collect();
    for some in ours.chunks(AT_ONCE) {
        existing(view, some.iter().flat_map(|container| names(scope, container)).collect(), &mut finding);
    }
    doubtful_states(view, scope, &mut finding);
    // The same of those that have exited.
    let exited: Vec<&Name> = scope.exited.ids.iter().collect();
    for root in scope.roots.shared.iter().flat_map(|root| bundle::CRI.map(|kind| root.join(kind))) {
        for some in exited.chunks(AT_ONCE) {
            let paths = some.iter().map(|id| (root.join(id), PathKind::Bundle));
            existing(view, paths.collect(), &mut finding);
        }
    }
    let builds = scope.builds.keys().map(|state| (state.clone(), PathKind::RuncState));
    let mut wanted: Vec<_> = builds.collect();
    of_runsc(view, scope, &mut wanted);
    // In a directory that runtimes share, another one may listen at that name by now.
    let dead = |path: &Path| {
        let is_free = || view.host.is_live() && sockets::is_dead(path) && !skeleton::others_run(view, scope);
        scope.has_run() && is_free()
    };
    let sockets =
        scope.roots.sockets.iter().filter(|p| scope.snap.owns(p) || !is_elsewhere(scope, p) && dead(p));
    let sockets = sockets.map(|path| scope.roots.place_of(path));
    let mut sockets: Vec<PathBuf> =
        sockets.filter(|path| !is_served(view, scope, path, &mut finding)).collect();
    sockets.extend(sockets_elsewhere(view, scope, &mut finding));
    // Each containerd from 2.0 on makes the first anew when it starts, wherever it is told to work, and so does docker with the
    // second, where its clients look for it.
    let of_docker = docker::data_of(&scope.roots.root).map(|_| docker::SOCKET);
    let everybodys = [Some(bundle::NRI_SOCKET), of_docker].into_iter().flatten().map(PathBuf::from);
    sockets.extend(everybodys.filter(|path| dead(path) && !scope.snap.is_younger_than(view.host, path)));
    wanted.extend(sockets.into_iter().map(|path| (path, PathKind::RuntimeSocket)));
    existing(view, wanted, &mut finding);
    dead_sockets(view, scope, &mut finding);
    fifos(view, scope, &mut finding);
    files::of_cni(view, scope, &mut finding);
    finding.residues.extend(flannel::lease(view, scope));
    files::plugin_sockets(view, scope, &mut finding);
    files::host_symlinks(view, scope, &mut finding);
    logs::find(view, scope, &mut finding);
    kata::find(view, scope, &mut finding);
    ipc::find(view, scope, &mut finding);
    skeleton::find(view, scope, &mut finding);
    finding
}

/// True for a socket of the snap's own at which somebody listens who is in none of its units, such as its containerd in a unit
/// of an administrator's: nobody can know that he is the snap's, and without the socket nobody would ever hear of him.
fn is_served(view: &View, scope: &Scope, path: &Path, finding: &mut Finding) -> bool {
    // The way there may be one on which nobody answers.
    let may_ask = view.host.is_live() && view.host.reach(path).is_ok();
    let listener = if may_ask { sockets::listener(path) } else { None };
    // systemd listens for services that it starts when they are asked.
    let is_stranger = |pid: &i32| *pid != 1 && view.unit_of(*pid) != Some(scope.snap.instance.as_str());
    let stranger = listener.filter(is_stranger);
    let Some(pid) = stranger else { return false };
    let why = format!("process {pid} listens there, and runs in no unit of the snap; 'kill {pid}' ends it");
    finding.blind.push(Blind::new(show(path), (Reason::Unproven, why)));
    true
}

/// True for a socket in no directory that is the snap's or that runtimes share.
fn is_elsewhere(scope: &Scope, path: &Path) -> bool {
    !scope.snap.owns(path) && !scope.snap.owns_at_run(path) && !is_shared(path)
}

/// The runtime's sockets in other places, of which the snap's configuration tells: those at which nobody listens any more. Told is
/// where somebody does, and where only shims told that our containerd listens.
fn sockets_elsewhere(view: &View, scope: &Scope, finding: &mut Finding) -> Vec<PathBuf> {
    let named = &scope.roots.sockets;
    let by_shims = [scope.roots.address.clone(), for_shims(&scope.roots.address)];
    let mut found = Vec::new();
    for path in named.iter().chain(by_shims.iter().filter(|path| !named.contains(path))) {
        if !is_elsewhere(scope, path) || !view.host.is_live() {
            continue;
        }
        match view.host.stat(path) {
            Ok(it) if !it.file_type().is_socket() || scope.snap.is_younger_than(view.host, path) => continue,
            Ok(_) => {}
            Err(e) if e.is_gone() => continue,
            Err(e) => {
                finding.blind.push(Blind::new(show(path), e));
                continue;
            }
        }
        let is_dead = sockets::is_dead(path);
        let why = match named.contains(path) {
            true if is_dead && scope.has_run() => {
                found.push(path.clone());
                continue;
            }
            true if is_dead => {
                "the snap's configuration names it, and nothing says that its containerd ever ran"
            }
            true => "the snap's configuration has its containerd listen there, and somebody does",
            false => "only shims say that our containerd listened there",
        };
        if is_dead || !skeleton::ours_runs(view, scope) {
            finding.blind.push(Blind::new(show(path), (Reason::Unproven, why)));
        }
    }
    found
}

/// Many names in one directory are looked up in one listing of it, a few (or those in a directory that we may not
/// list) one by one.
fn existing(view: &View, mut wanted: Vec<(PathBuf, PathKind)>, finding: &mut Finding) {
    const FEW: usize = 8;
    // By their bytes: paths are compared part by part, which takes far longer.
    order::sort_by(&mut wanted, |a, b| a.0.as_os_str().cmp(b.0.as_os_str()).then(a.1.cmp(&b.1)));
    wanted.dedup();
    for names in wanted.chunk_by_mut(|a, b| directory(&a.0) == directory(&b.0)) {
        let list = || view.host.list(Path::new(directory(&names[0].0))).ok();
        let listed = (names.len() > FEW).then(list).flatten();
        let listed: Option<HashSet<OsString>> = listed.map(|names| names.into_iter().collect());
        for (path, what) in names {
            let there = match &listed {
                Some(listed) => Ok(path.file_name().is_some_and(|name| listed.contains(name))),
                None => view.host.exists(path),
            };
            match there {
                Ok(true) => {
                    let path = std::mem::take(path);
                    finding.residues.push(Residue::path(path, *what))
                }
                Ok(false) => {}
                Err(e) => finding.blind.push(Blind::new(show(path), e)),
            }
        }
    }
}

fn directory(path: &Path) -> &OsStr {
    path.parent().map(Path::as_os_str).unwrap_or_default()
}

fn names(scope: &Scope, container: &Container) -> Vec<(PathBuf, PathKind)> {
    let roots = &scope.roots;
    let (namespace, id) = (&container.id.namespace, &container.id.id);
    let mut names: Vec<_> =
        bundle::bundle_paths(roots, &container.id).map(|p| (p, PathKind::Bundle)).collect();
    // What CRI keeps beside the bundles goes with the whole directory, but where that is not the snap's alone.
    for root in &roots.shared {
        names.extend(bundle::CRI.map(|kind| (root.join(kind).join(id), PathKind::Bundle)));
        names.push((root.join(bundle::SANDBOXES).join(namespace).join(id), PathKind::Bundle));
    }
    if container.may_be_tidied() {
        names.extend(runc_states(scope, container).map(|state| (state, PathKind::RuncState)));
        // The streams and the socket of a plugin that docker runs lie there, wherever docker is told to work.
        let of_plugin = (**namespace == *docker::PLUGINS).then(|| Path::new(docker::SKELETON[0]).join(id));
        names.extend(of_plugin.map(|directory| (directory, PathKind::Fifo)));
    }
    // A socket is named after the ID under which the shim was started.
    if container.shim_id == *id {
        let address = &scope.inside.address;
        names.push((shim::socket(&roots.shim_sockets, address, namespace, id), PathKind::ShimSocket));
        names.push((shim::debug_socket(&roots.shim_sockets, address, namespace, id), PathKind::ShimSocket));
        names.extend(container.socket.as_deref().map(|s| (s.to_path_buf(), PathKind::ShimSocket)));
    }
    names
}

/// Where runc's state of a container is. That of our ID is another's if its label says so; such a container has no group of ours.
fn runc_states(scope: &Scope, container: &Container) -> impl Iterator<Item = PathBuf> {
    let ContainerId { namespace, id } = &container.id;
    let usual = scope.roots.runc.join(namespace).join(id);
    let elsewhere = scope.states.get(&container.id).filter(|state| **state != usual).cloned();
    let states = [usual].into_iter().chain(elsewhere);
    states.filter(|_| !scope.is_foreign(&container.id))
}

/// States that cannot be read, of an ID that somebody alive has, and that only a bundle calls ours.
fn doubtful_states(view: &View, scope: &Scope, finding: &mut Finding) {
    for container in scope.containers.iter().filter(|c| scope.counts_as_ours(c) && !c.may_be_tidied()) {
        for state in runc_states(scope, container).filter(|state| view.host.exists(state).unwrap_or(true)) {
            let why = format!("whose container {} is cannot be told", short(&container.id.id));
            finding.blind.push(Blind::new(show(&state), (Reason::Unproven, why)));
        }
    }
}

/// What gVisor keeps of containers of ours: files that are named after both a container and its sandbox.
fn of_runsc(view: &View, scope: &Scope, wanted: &mut Vec<(PathBuf, PathKind)>) {
    let own = scope.containers.iter().filter(|c| scope.counts_as_ours(c) && c.may_be_tidied());
    let own = own.filter(|c| !scope.is_foreign(&c.id));
    let own: HashMap<(&str, &str), &Container> =
        own.map(|c| ((c.id.namespace.as_str(), c.id.id.as_str()), c)).collect();
    let namespaces = order::set(own.keys().map(|(namespace, _)| *namespace));
    for namespace in namespaces {
        for directory in sandboxed::runsc_directories(&scope.roots, namespace) {
            for name in view.host.list(&directory).unwrap_or_default() {
                let Some((id, sandbox)) = name.to_str().and_then(sandboxed::owners_of_file) else { continue };
                let Some(container) = own.get(&(namespace, id)).filter(|c| c.shim_id == sandbox) else {
                    continue;
                };
                let id = &container.id;
                if !sandboxed::is_of_another(view.host, &directory, &scope.inside, id, sandbox) {
                    wanted.push((directory.join(&name), PathKind::RuntimeState));
                }
            }
        }
    }
}

/// Sockets of shims that had ended before. Where the address, to which each name leads, or the database may be another's as well, they
/// may be its: beside another runtime they are left, and told where nobody else could have them.
fn dead_sockets(view: &View, scope: &Scope, finding: &mut Finding) {
    let roots = &scope.roots;
    let own = |place: &Path| roots.is_own(&scope.snap, place) || scope.snap.owns_at_run(place);
    let (own_root, own_address) = (own(&roots.root), own(&roots.address));
    let known: HashSet<&Path> = scope.shims.iter().filter_map(|shim| shim.socket.as_deref()).collect();
    let alone =
        own_root && own_address || scope.exited.sockets.is_empty() || !skeleton::others_run(view, scope);
    for path in scope.exited.sockets.iter().map(|name| roots.shim_sockets.join(name)) {
        let is_there = || view.host.stat(&path).is_ok_and(|it| it.file_type().is_socket());
        if known.contains(&*path) || !is_there() {
            continue;
        }
        let is_dead = !view.host.is_live() || sockets::is_dead(&path);
        let why = match own_root {
            true if alone && is_dead => {
                finding.residues.push(Residue::path(path, PathKind::ShimSocket));
                continue;
            }
            true if alone => "it is called after a container of ours, and somebody may listen there",
            true if is_dead => {
                "it is called after a container of ours, and another runtime may have the same address"
            }
            false if alone => "others may have had the containerd of ours that it is called after",
            _ => continue,
        };
        finding.blind.push(Blind::new(show(&path), (Reason::Unproven, why)));
    }
}

/// Streams lie in directories of random names: `RANDOM/ID-stdout`. They say no more than the ID. So those of an ID that
/// somebody else has, too, are left, unless a shim of ours had them open. Those of an ID that only containerd's database
/// names go only if all was seen and no other runtime runs, of which a container might have the same ID.
fn fifos(view: &View, scope: &Scope, finding: &mut Finding) {
    let ids = scope.sole_ids();
    let recorded: HashSet<&str> = scope.recorded.iter().map(|id| id.id.as_str()).collect();
    let is_sure = || scope.blind.is_empty() && scope.doubts.is_empty() && !skeleton::others_run(view, scope);
    let foreign = |id: &str| scope.containers.iter().any(|c| c.id.id == *id && !scope.counts_as_ours(c));
    let serves = |c: &Container| scope.shims.iter().any(|s| s.id.as_ref().is_none_or(|id| *id == c.shim_id));
    let has_lost = || scope.containers.iter().any(|c| scope.counts_as_ours(c) && !serves(c));
    let may_be_of_the_dead = |directory: &Path| {
        has_lost() && !scope.snap.is_younger_than(view.host, directory) && !skeleton::others_run(view, scope)
    };
    let directories = match view.host.list(&scope.roots.fifos) {
        Ok(directories) => directories,
        Err(_) if ids.is_empty() && recorded.is_empty() => return,
        Err(e) => return finding.blind.push(Blind::new("the streams of containers", e)),
    };
    for directory in directories {
        let directory = scope.roots.fifos.join(directory);
        let Ok(streams) = view.host.list(&directory) else { continue };
        let all_of = |is_one: &dyn Fn(&str) -> bool| {
            !streams.is_empty() && streams.iter().all(|name| container_of(name).is_some_and(is_one))
        };
        // Whoever puts the streams of several into one directory has more there than what our shims had open.
        let first = streams.first().and_then(container_of);
        let is_ones = || all_of(&|id| Some(id) == first) && scope.streams.contains(&directory);
        let is_recorded = all_of(&|id| recorded.contains(id));
        let is_ours = all_of(&|id| ids.contains(id)) || is_ones();
        if is_ours || is_recorded && is_sure() {
            finding.residues.push(Residue::path(directory, PathKind::Fifo));
        } else if is_recorded {
            let why = "it bears the ID of a container of ours, and what else runs here may have the same";
            finding.blind.push(Blind::new(show(&directory), (Reason::Unproven, why)));
        } else if all_of(&|id| !foreign(id)) && may_be_of_the_dead(&directory) {
            let why = "a shim of ours that died may have had it open, and no other runtime runs here; look, then 'rm -r' it";
            finding.blind.push(Blind::new(show(&directory), (Reason::Unproven, why)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_that_cannot_be_listed_are_blind_where_containers_of_ours_were() {
        let dir = tempfile::tempdir().unwrap();
        crate::fixture::file(dir.path(), "run/containerd/fifo", "no directory");
        let host = crate::linux::host::Host::at(dir.path());
        let told = |ids: &[&str]| {
            let mut finding = Finding::default();
            fifos(&View::new(&host, None), &crate::fixture::scope_of(ids), &mut finding);
            finding.blind.len()
        };
        assert_eq!([told(&[]), told(&["a"])], [0, 1]);
    }

    #[test]
    fn runcs_state_of_an_id_that_somebody_alive_has_is_not_ours_by_a_bundle() {
        let mut scope = crate::fixture::scope_of(&["a"]);
        let is_ours = |scope: &Scope| {
            names(scope, &scope.containers[0]).iter().any(|(_, what)| *what == PathKind::RuncState)
        };
        scope.containers[0].witnesses = Default::default();
        assert!(is_ours(&scope), "a hint that nothing contradicts");
        scope.containers[0].contradicted = true;
        assert!(!is_ours(&scope));
        let dir = tempfile::tempdir().unwrap();
        let host = crate::linux::host::Host::at(dir.path());
        let state = scope.roots.runc.join("k8s.io/a");
        let told = |scope: &Scope| {
            let mut finding = Finding::default();
            doubtful_states(&View::new(&host, None), scope, &mut finding);
            finding.blind.into_iter().map(|blind| blind.what).collect::<Vec<_>>()
        };
        assert!(told(&scope).is_empty(), "it is not there");
        std::fs::create_dir_all(dir.path().join(state.strip_prefix("/").unwrap())).unwrap();
        assert_eq!(told(&scope), [state.display().to_string()]);
        scope.containers[0].contradicted = false;
        assert!(told(&scope).is_empty(), "it is removed");
    }
}
