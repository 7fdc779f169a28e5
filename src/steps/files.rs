//! Files outside of containerd's own directories: what CNI's plugins noted, sockets of kubelet's plugins, and
//! symlinks on the host that lead into the snap.

use std::cell::LazyCell;
use std::collections::{BTreeSet, HashSet};
use std::os::unix::fs::FileTypeExt;
use std::path::{Component, Path, PathBuf};

use crate::error::Blind;
use crate::error::Error;
use crate::linux::sockets;
use crate::reason::Reason;
use crate::residue::finding::Finding;
use crate::residue::{PathKind, Residue};
use crate::runtime::cni;
use crate::scope::Scope;
use crate::scope::cni_ids::CniIds;
use crate::snap::Snap;
use crate::snap::hostfs::HOSTFS;
use crate::steps::skeleton;
use crate::text::show;
use crate::view::View;

/// Where kubelet's plugins listen, below its root directory: in the directory itself, or one further down.
const PLUGINS: [(&str, bool); 4] =
    [("plugins_registry", false), ("plugins", true), ("device-plugins", false), ("pod-resources", false)];

/// Results and leases of our sandboxes. The directories are shared by all runtimes: a result is ours if its name and its
/// content were a proven container's when the scope was gathered, a lease by the ID in it.
pub fn of_cni(view: &View, scope: &Scope, finding: &mut Finding) {
    let ids = CniIds::proven(scope);
    let ids = ids.names();
    let cni = &scope.roots.cni;
    // libcni keeps a result for as long as a sandbox has its address, and calls it by the sandbox's ID, which has no dash.
    let names = cni::names(view.host, cni);
    let parts =
        LazyCell::new(|| names.iter().flatten().flat_map(|name| name.split('-')).collect::<HashSet<_>>());
    let is_lost = |id: &str| names.is_ok() && !id.contains('-') && !parts.contains(id);
    let usual = cni::leases(view.host, &cni.join("networks"), &ids, &scope.network.networks, &is_lost);
    // Elsewhere a network's name is not enough.
    let told = |at: &PathBuf| cni::leases(view.host, at, &ids, &BTreeSet::new(), &is_lost);
    let leases = scope.network.leases.iter().map(told).fold(usual, cni::Leases::and);
    let mut errors = leases.errors;
    let (notes, without) = cni::notes(view.host, cni, &scope.network.notes, &ids, &mut errors);
    let (results, emptied) = existing(view, &scope.network.results, &mut errors);
    for file in results.into_iter().chain(notes) {
        finding.residues.push(Residue::path(file, PathKind::CniResult));
    }
    finding.residues.extend(leases.files.into_iter().map(|file| Residue::path(file, PathKind::CniLease)));
    // They are empty when those are gone.
    finding.residues.extend(
        leases
            .directories
            .into_iter()
            .chain(emptied)
            .chain(without)
            .map(|at| Residue::path(at, PathKind::CniNetwork)),
    );
    let lost = leases.lost.iter().map(|network| {
        let why = (Reason::Unproven, "an address in it is of a sandbox that nothing tells of");
        Blind::new(format!("the CNI network {}", show(network)), why)
    });
    finding.blind.extend(lost);
    if scope.idle && !scope.roots.is_own(&scope.snap, cni) && !skeleton::others_run(view, scope) {
        let why = (Reason::Unproven, "nothing says whose network it was");
        let newer = leases.deserted.iter().filter(|network| !scope.snap.is_younger_than(view.host, network));
        finding
            .blind
            .extend(newer.map(|network| Blind::new(format!("the CNI network {}", show(network)), why)));
        if names.is_ok_and(|names| !names.is_empty()) {
            let why = (Reason::Unproven, "nothing tells of the sandboxes that they are of");
            finding.blind.push(Blind::new(format!("CNI's results in {}", show(&cni.join("results"))), why));
        }
    }
    // Where no sandbox of ours had a network, there is nothing that could hide.
    if scope.network.is_known() {
        finding.blind.extend(errors.iter().map(|e| Blind::new("CNI's results and leases", e)));
    }
}

/// Those of the files that exist, told by one listing of each directory; and the directories that hold nothing else.
fn existing(view: &View, files: &[PathBuf], errors: &mut Vec<Error>) -> (Vec<PathBuf>, Vec<PathBuf>) {
    let mut found = Vec::new();
    let mut emptied = Vec::new();
    for files in files.chunk_by(|a, b| a.parent() == b.parent()) {
        let Some(directory) = files[0].parent() else { continue };
        match view.host.list(directory) {
            Ok(names) => {
                let names: HashSet<_> = names.into_iter().collect();
                let there = files.iter().filter(|f| f.file_name().is_some_and(|name| names.contains(name)));
                let before = found.len();
                found.extend(there.cloned());
                let alone = found.len() > before && found.len() - before == names.len();
                emptied.extend(alone.then(|| directory.to_path_buf()));
            }
            Err(e) => errors.push(e),
        }
    }
    (found, emptied)
}

/// Sockets only, and none below a mount: what is mounted there is not kubelet's directory.
pub fn plugin_sockets(view: &View, scope: &Scope, finding: &mut Finding) {
    let Some(kubelet) = &scope.roots.kubelet else { return };
    // Where others may have a kubelet, too, one that somebody listens at is his.
    let shared = !scope.roots.mounts.contains(kubelet);
    if shared && scope.containers.is_empty() {
        return;
    }
    let Ok(table) = view.own_mounts() else { return };
    for (name, deeper) in PLUGINS {
        let directory = kubelet.join(name);
        let below = match deeper {
            true => children(view, &directory, finding),
            false => vec![directory],
        };
        for directory in below {
            if table.mounts.iter().any(|m| {
                m.point() != *kubelet && m.point().starts_with(kubelet) && directory.starts_with(m.point())
            }) {
                continue;
            }
            for path in children(view, &directory, finding) {
                if view.host.stat(&path).is_ok_and(|m| m.file_type().is_socket())
                    && (!shared || view.host.is_live() && sockets::is_dead(&path))
                {
                    finding.residues.push(Residue::path(path, PathKind::PluginSocket));
                }
            }
        }
    }
}

fn children(view: &View, directory: &Path, finding: &mut Finding) -> Vec<PathBuf> {
    match view.host.list(directory) {
        Ok(names) => names.into_iter().map(|name| directory.join(name)).collect(),
        // Something else than a directory has nothing in it.
        Err(Error::Malformed { .. }) => Vec::new(),
        Err(e) => {
            finding.blind.push(Blind::new(crate::text::show(directory), e));
            Vec::new()
        }
    }
}

/// Symlinks that the profile names, if they lead into this snap's own directories. In a snap's mount namespace
/// the host's are below another directory, as far as confinement shows it.
pub fn host_symlinks(view: &View, scope: &Scope, finding: &mut Finding) {
    for link in &scope.roots.host_symlinks {
        let below = link.strip_prefix("/").unwrap_or(link);
        for path in [link.clone(), Path::new(HOSTFS).join(below)] {
            let target = match view.host.link(&path) {
                Ok(target) => target,
                Err(e) => {
                    // Nothing there, something else, or out of sight: only a wait is worth a word.
                    let silent = matches!(e, Error::Silent { .. });
                    finding.blind.extend(silent.then(|| Blind::new(crate::text::show(&path), e)));
                    continue;
                }
            };
            if leads_into(&scope.snap, link, &target) {
                finding.residues.push(Residue::path(path, PathKind::HostSymlink));
            }
        }
    }
}

/// True if a symlink leads into the snap's directories, whatever else it may pass through there.
fn leads_into(snap: &Snap, link: &Path, target: &Path) -> bool {
    let mut path = PathBuf::new();
    for part in link.parent().unwrap_or(link).join(target).components() {
        match part {
            Component::ParentDir => drop(path.pop()),
            Component::CurDir => {}
            other => path.push(other),
        }
    }
    snap.owns_on_host(&path)
}

#[cfg(test)]
mod tests;
