//! Roots that lead out of the snap's directories, by a link or a bind mount. Who leads one there may share it with another
//! containerd, or may have given it to that since: it counts as ours while nothing there says that it is another's.

use std::path::{Path, PathBuf};

use crate::error::Blind;
use crate::linux::mountinfo::{Mount, MountTable};
use crate::runtime::bundle;
use crate::runtime::{docker, metadata};
use crate::scope::{Container, Scope, images, manners, roots};
use crate::snap::Snap;
use crate::snap::profile::{Roots, is_shared};
use crate::text::show;
use crate::view::View;

/// Where else the part of a file system is to be seen that a mount shows.
pub fn shown<'t>(table: &'t MountTable, mount: &'t Mount) -> impl Iterator<Item = PathBuf> + 't {
    let others = table.mounts.iter().filter(|m| m.device() == mount.device() && m.id != mount.id);
    others.filter_map(|m| Some(m.point().join(mount.root().strip_prefix(m.root()).ok()?)))
}

/// Where a root really is, if others may reach it by a path that is not the snap's.
fn of(view: &View, snap: &Snap, roots: &Roots, path: &Path) -> Option<PathBuf> {
    if snap.owns_at_run(path) {
        return None;
    }
    if !roots.is_own(snap, path) {
        return Some(path.to_path_buf());
    }
    let table = view.own_mounts().as_ref().ok()?;
    let bound = |m: &&Mount| path.starts_with(m.point()) && roots.is_own(snap, m.point());
    let mount = table.mounts.iter().rev().find(bound)?;
    // docker shows the directory of its data at its own place.
    let place = shown(table, mount).find(|place| !roots.is_own(snap, place))?;
    Some(place.join(path.strip_prefix(mount.point()).ok()?))
}

/// Gives up the roots that are another's, and those that others have, too, before anything is looked for there. Told is what
/// cannot be known.
pub(super) fn give_up(view: &View, snap: &Snap, roots: &mut Roots, inside: &mut Roots) -> Option<Blind> {
    let (root, state) = (roots.root.clone(), roots.state.clone());
    let mut told = None;
    let data = docker::data_of(&root).filter(|data| roots.mounts.contains(data));
    if let Some(data) = data.filter(|data| of(view, snap, roots, data).is_some()) {
        let others = images::is_other_dockers(view, snap, &data);
        if !matches!(others, Ok(false)) {
            drop_from(snap, roots, inside, &data);
            share(snap, roots, inside, &root);
        }
        told = others.err().map(|e| Blind::new(format!("docker's data in {}", show(&data)), e));
    }
    if let Some(place) = of(view, snap, roots, &root).filter(|_| roots.mounts.contains(&root)) {
        let locked = images::is_locked(view, snap, &root.join(metadata::FILE)).is_ok_and(|locked| locked);
        if locked || is_shared(&place) {
            share(snap, roots, inside, &root);
            roots.untied.extend(Some(root).filter(|_| !locked));
        }
    }
    if of(view, snap, roots, &state).is_some_and(|place| is_shared(&place)) && roots.mounts.contains(&state) {
        share(snap, roots, inside, &state);
    }
    let kubelet = roots.kubelet.clone().filter(|kubelet| roots.mounts.contains(kubelet));
    if let Some(kubelet) = kubelet.filter(|path| of(view, snap, roots, path).is_some_and(|p| is_shared(&p))) {
        share(snap, roots, inside, &kubelet);
    }
    told
}

/// Gives up containerd's root once all containers are known, if what is recorded there is all of another's.
pub(super) fn untie(view: &View, scope: &mut Scope) {
    let (snap, roots) = (scope.snap.clone(), &scope.roots);
    let root = roots.root.clone();
    if of(view, &snap, roots, &root).is_none() || !roots.mounts.contains(&root) {
        return;
    }
    let records = manners::read(view, scope).ok().flatten().unwrap_or_default();
    // Its state, where that is the snap's alone. What another has below the root is called alike.
    let state_out = of(view, &snap, roots, &roots.state).is_some();
    let in_state = |c: &Container| {
        let bundles = bundle::paths_below(&roots.state, &c.id);
        !state_out && bundles.iter().any(|path| view.host.exists(path).unwrap_or(false))
    };
    let tied = |c: &Container| records.containers.contains_key(&c.id) && (c.is_proven() || in_state(c));
    if !records.containers.is_empty() && !scope.containers.iter().any(tied) {
        share(&snap, &mut scope.roots, &mut scope.inside, &root);
        scope.roots.untied.push(root);
    }
}

/// What is there counts from now on by the IDs of containers and pods of ours alone.
fn share(snap: &Snap, roots: &mut Roots, inside: &mut Roots, path: &Path) {
    drop_from(snap, roots, inside, path);
    roots.shared.push(path.to_path_buf());
    inside.shared.push(roots::swap(path, &snap.home, &snap.inside().home));
}

fn drop_from(snap: &Snap, roots: &mut Roots, inside: &mut Roots, path: &Path) {
    let known_inside = roots::swap(path, &snap.home, &snap.inside().home);
    for (roots, path) in [(roots, path), (inside, &known_inside)] {
        roots.mounts.retain(|root| root != path);
        roots.data.retain(|data| data != path);
    }
}
