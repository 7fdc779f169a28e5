//! Where the profile's roots really are: a root is a place, not a spelling.
//!
//! Each is resolved once, when the scope is gathered. From then on all paths of [`Roots`] but containerd's address are
//! places, as the kernel spells them in mount tables and working directories; the profile's spellings are kept as aliases.

use std::path::{Path, PathBuf};

use crate::error::{Blind, Result, Why};
use crate::linux::host::Host;
use crate::linux::place;
use crate::order;
use crate::runtime::docker;
use crate::runtime::told::{self, ConfiguredRoots};
use crate::snap::Snap;
use crate::snap::profile::{Alias, Profile, Roots, Unresolved, is_shared};
use crate::text::show;

/// Nothing is ever called so, in no mount namespace.
const NOWHERE: &str = "/proc/nowhere";

/// The roots as they are called here, and as processes inside the snap know them.
pub fn resolve(host: &Host, snap: &Snap, profile: &Profile) -> Result<(Roots, Roots)> {
    resolve_as_told(host, snap, profile, None)
}

/// The same where living shims work in other places than the configuration names. The shims count more: the configuration may
/// have been changed since they were started.
pub fn resolve_as_told(
    host: &Host,
    snap: &Snap,
    profile: &Profile,
    by_shims: Option<ConfiguredRoots>,
) -> Result<(Roots, Roots)> {
    let mut roots = profile.resolve(snap)?;
    let mut inside = profile.resolve(&snap.inside())?;
    let (mut told, mut unread) = told::read(host, snap, &roots.told_by);
    if docker::data_of(&roots.root).is_some() {
        let more;
        (told, more) = told::by_docker(host, snap, told);
        unread.extend(more);
    }
    if let Some(by_shims) = by_shims {
        told = ConfiguredRoots {
            state: by_shims.state.or(told.state),
            root: by_shims.root.or(told.root),
            address: by_shims.address.or(told.address),
            ..told
        };
    }
    // What the snap's programs have written, they have in their own spelling.
    let (outside_home, inside_home) = (&snap.home, &snap.inside().home);
    move_to(snap, inside_home, &mut roots, &told);
    move_to(&snap.inside(), outside_home, &mut inside, &told);
    let found = Found { unread, ..Found::of(host, snap, &roots) };
    found.put_into(&mut roots, |place| place.to_path_buf());
    found.put_into(&mut inside, |path| swap(path, outside_home, inside_home));
    Ok((roots, inside))
}

/// A path in a directory that is called otherwise here.
pub(super) fn swap(path: &Path, from: &Path, to: &Path) -> PathBuf {
    path.strip_prefix(from).map_or_else(|_| path.to_path_buf(), |below| to.join(below))
}

/// Roots that hid, as blind spots.
pub fn blind(roots: &Roots) -> impl Iterator<Item = Blind> {
    roots.unresolved.iter().map(|it| Blind::new(show(&it.path), (it.reason, &it.why)))
}

/// What the snap's own configuration says, instead of what the profile does.
fn move_to(snap: &Snap, other_home: &Path, roots: &mut Roots, told: &ConfiguredRoots) {
    let known: Vec<PathBuf> = roots.mounts.iter().chain(&roots.shared).cloned().collect();
    let here = |path: &PathBuf| swap(path, other_home, &snap.home);
    let new = |path: &Option<PathBuf>| path.as_ref().map(here).filter(|path| !known.contains(path));
    roots.sockets.extend(told.sockets.iter().map(here));
    if let Some(address) = &told.address {
        roots.address = here(address);
    }
    let is_dockers = docker::data_of(&roots.root).is_some();
    for (told, root) in [(&told.state, &mut roots.state), (&told.root, &mut roots.root)] {
        let Some(path) = new(told) else { continue };
        root.clone_from(&path);
        if snap.owns(&path) {
            roots.mounts.push(path);
        } else {
            roots.shared.push(path.clone());
            roots.moved.push(path);
        }
    }
    // docker's daemon is told where all its data go, and has its containerd work below that.
    if let Some(data) = new(&told.root).filter(|_| is_dockers).and_then(|root| docker::data_of(&root)) {
        match snap.owns(&data) {
            true => roots.mounts.push(data),
            false => {
                roots.moved.push(data.clone());
                roots.docker = Some(data);
            }
        }
    }
    if let Some(exec) = told.docker.as_ref().map(here) {
        roots.address = exec.join("containerd/containerd.sock");
        roots.fifos = exec.join("containerd");
        roots.runc = exec.join("runtime-runc");
        roots.netns = exec.join("netns");
        if !snap.owns(&exec) && !snap.owns_at_run(&exec) {
            roots.moved.push(exec);
        }
    }
    roots.groups.clone_from(&told.groups);
    roots.pod_logs = told.pod_logs.as_ref().map(here);
    let Some(kubelet) = new(&told.kubelet) else { return };
    roots.kubelet = Some(kubelet.clone());
    if snap.owns(&kubelet) {
        return roots.mounts.push(kubelet);
    }
    roots.moved.push(kubelet.clone());
    // These are kubelet's alone; what else a user keeps beside them is not.
    match is_shared(&kubelet) {
        true => roots.shared.push(kubelet),
        false => roots.mounts.extend(["pods", "plugins"].map(|name| kubelet.join(name))),
    }
}

/// What was found out about the roots that are not spelled as their places.
#[derive(Default)]
struct Found {
    aliases: Vec<Alias>,
    unresolved: Vec<Unresolved>,
    /// Files that may have named other roots.
    unread: Vec<Unresolved>,
}

impl Found {
    fn of(host: &Host, snap: &Snap, roots: &Roots) -> Found {
        let mut found = Found::default();
        let runtime = [Some(&roots.state), Some(&roots.root), roots.kubelet.as_ref(), Some(&snap.common)];
        let all = runtime.into_iter().flatten().chain(&roots.mounts).chain(&roots.data).chain(&roots.moved);
        let mut all: Vec<&PathBuf> = all.collect();
        order::sort(&mut all);
        all.dedup();
        for path in all {
            match place::of(host, path) {
                Ok(place) if place.path == *path => {}
                Ok(place) => {
                    found.aliases.push(Alias { name: path.clone(), place: place.path, links: place.links })
                }
                // Whoever looks there next is told that the server does not answer; what is known by the spelling can still
                // go.
                Err(_) if host.reach(path).is_err() => {}
                Err(Why { reason, text: why, .. }) => {
                    found.unresolved.push(Unresolved { path: path.clone(), reason, why })
                }
            }
        }
        found
    }

    /// Puts places where spellings were. `here` says how a path is called where these roots are.
    fn put_into(&self, roots: &mut Roots, here: impl Fn(&Path) -> PathBuf) {
        let alias = |a: &Alias| Alias { name: here(&a.name), place: here(&a.place), links: a.links.clone() };
        roots.aliases = self.aliases.iter().map(alias).collect();
        roots.unresolved = [&self.unresolved[..], &self.unread].concat();
        let hidden: Vec<PathBuf> = self.unresolved.iter().map(|it| here(&it.path)).collect();
        let known = roots.clone();
        let place = |path: &mut PathBuf| match hidden.contains(path) {
            true => *path = NOWHERE.into(),
            false => *path = known.place_of(path),
        };
        let runtime =
            [Some(&mut roots.state), Some(&mut roots.root), roots.kubelet.as_mut(), roots.docker.as_mut()];
        runtime.into_iter().flatten().for_each(place);
        for list in [&mut roots.mounts, &mut roots.shared, &mut roots.data, &mut roots.moved] {
            list.retain(|path| !hidden.contains(path));
            list.iter_mut().for_each(place);
        }
    }
}

#[cfg(test)]
mod tests;
