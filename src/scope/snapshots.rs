//! Snapshots in a root of containerd's that others may use, too, mounted at other places than containerd's own, as `ctr images
//! mount` does it.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::linux::mountinfo::Mount;
use crate::order;
use crate::runtime::metadata::snapshots::namespaces;
use crate::runtime::{docker, metadata};
use crate::scope::held::place_in;
use crate::scope::rootfs::SNAPSHOTTER;
use crate::scope::{Scope, images, shared};
use crate::view::View;

/// Those that a containerd of ours may have mounted. Its own places tell whose a mount is; of the others only the snapshotter's
/// database does, by the namespace that made the snapshot.
pub fn mounted<'v>(view: &'v View, scope: &Scope) -> Vec<&'v Mount> {
    let root = &scope.roots.root;
    let Ok(table) = view.own_mounts() else { return Vec::new() };
    if !scope.roots.shared.contains(root) || !scope.has_run() {
        return Vec::new();
    }
    let on_disk = place_in(table, root);
    let shown = table.mounts.iter().filter(|m| !shared::is_below(scope, m.point()));
    let shown =
        shown.map(|m| (m, layers(scope, m, on_disk.as_ref()))).filter(|(_, layers)| !layers.is_empty());
    let shown: Vec<(&Mount, BTreeSet<PathBuf>)> = shown.collect();
    if shown.is_empty() {
        return Vec::new();
    }
    // Each containerd locks its database for as long as it runs. Whoever works there now may have made what is not ours.
    let others = images::is_locked(view, &scope.snap, &root.join(metadata::FILE)).unwrap_or(false);
    let mut makers = Makers { view, root, known: BTreeMap::new() };
    let may_be_ours = |namespace: &String| match namespace.as_str() {
        name if docker::is_namespace(name) && scope.roots.docker.is_none() => false,
        namespace => !others || scope.counts_in(namespace),
    };
    let is_told = |(_, layers): &(_, BTreeSet<PathBuf>)| {
        let namespaces = order::set(layers.iter().filter_map(|layer| makers.of(layer)));
        if namespaces.is_empty() { !others } else { namespaces.iter().any(may_be_ours) }
    };
    shown.into_iter().filter(is_told).map(|(mount, _)| mount).collect()
}

/// What a mount shows of the snapshotters' directories, from containerd's root on: an overlay's layers, or a part of them.
fn layers(scope: &Scope, mount: &Mount, on_disk: Option<&(String, PathBuf)>) -> BTreeSet<PathBuf> {
    let roots = scope.roots.spellings(&scope.roots.root);
    let below = |path: &Path| roots.iter().find_map(|root| Some(path.strip_prefix(root).ok()?.to_path_buf()));
    let shown = mount.layers().into_iter().filter_map(|layer| below(&layer));
    let part = on_disk.filter(|(device, _)| device == mount.device());
    let part = part.and_then(|(_, at)| mount.root().strip_prefix(at).ok()).map(Path::to_path_buf);
    let of_snapshotter = |path: &PathBuf| path.as_os_str().as_bytes().starts_with(SNAPSHOTTER.as_bytes());
    order::set(shown.chain(part).filter(of_snapshotter))
}

/// Who has made snapshots, as far as the databases of their snapshotters tell.
struct Makers<'a> {
    view: &'a View<'a>,
    root: &'a Path,
    known: BTreeMap<PathBuf, BTreeMap<u64, String>>,
}

impl Makers<'_> {
    /// The namespace of containerd's in which the snapshot was made that has this layer, such as `DIRECTORY/snapshots/7/fs`.
    fn of(&mut self, layer: &Path) -> Option<String> {
        let parts: Vec<&str> = layer.iter().filter_map(OsStr::to_str).collect();
        let [snapshotter, "snapshots", id, ..] = parts[..] else { return None };
        let file = self.root.join(snapshotter).join("metadata.db");
        let view = self.view;
        let read = |file: &Path| {
            view.host.reach(file).ok()?;
            namespaces(&view.host.path(file)).ok()
        };
        let known = self.known.entry(file.clone()).or_insert_with(|| read(&file).unwrap_or_default());
        known.get(&id.parse().ok()?).cloned()
    }
}

#[cfg(test)]
mod tests;
