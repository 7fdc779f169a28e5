//! Notes on what lies outside of the snap's own directories and stays there.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::linux::place::is_furniture;
use crate::report::note::{Note, NoteKind};
use crate::residue::PathKind;
use crate::scope::Scope;
use crate::snap::hostfs::is_for_namespaces;
use crate::snap::profile::is_shared;
use crate::steps::{logs, wide};
use crate::text::show;
use crate::view::View;

/// Places to which roots lead, with the directory in which each begins: who made one for the snap may want that to go, too.
pub fn of_outside(view: &View, scope: &Scope) -> Note {
    let roots = &scope.roots;
    let places = roots.aliases.iter().flat_map(|a| std::iter::once(&a.place).chain(&a.links));
    let bound = wide::bound_places(view, scope);
    // containerd makes the directory of a socket of its own.
    let of_sockets = roots.sockets.iter().chain([&roots.address]).filter_map(|socket| socket.parent());
    let of_sockets: Vec<PathBuf> =
        of_sockets.map(Path::to_path_buf).filter(|path| !is_shared(path)).collect();
    let places = places
        .chain(&roots.moved)
        .chain(&of_sockets)
        .chain(&roots.pod_logs)
        .chain(&roots.shared)
        .chain(&bound)
        .filter(|p| !roots.is_own(&scope.snap, p) && !scope.snap.owns_at_run(p));
    let there = |path: &Path| view.host.exists(path).unwrap_or(true);
    let left = places.filter_map(|place| place.ancestors().find(|above| there(above)));
    let mut items: BTreeMap<PathBuf, String> = BTreeMap::new();
    for place in left.filter(|place| !is_furniture(place)) {
        let begins = place.ancestors().filter(|above| !is_furniture(above)).last().unwrap_or(place);
        let item = match begins == place {
            true => show(place).into_owned(),
            false => format!("{} in {}", show(place), show(begins)),
        };
        items.insert(place.to_path_buf(), item);
    }
    let text = "places outside of the snap's own directories to which its roots lead; what is in them stays, but for what is \
                proven the snap's";
    Note::of(NoteKind::Outside, text, items.into_values())
}

/// Mount points that are the snap's own directories. What is on these is the snap's, and the mount is whoever made it for that.
pub fn of_own_mounts(view: &View, scope: &Scope) -> Option<Note> {
    let snap = &scope.snap;
    let own = [&snap.home, &snap.common, &snap.data].map(|path| [path.clone(), scope.roots.place_of(path)]);
    let table = view.own_mounts().as_ref().ok().filter(|_| view.in_init_namespace());
    let mounted = table
        .iter()
        .flat_map(|table| &table.mounts)
        .filter(|m| own.as_flattened().iter().any(|path| path == m.point()));
    let items: Vec<String> = mounted.map(|mount| show(mount.point()).into_owned()).collect();
    let text = "snapd 2.77 and later refuse to remove the snap while something is mounted at its own directories, and older ones \
                delete what is on it; it can be unmounted once 'snap disable' and then 'snap-teardown remove' have ended what uses it";
    let note = Note::of(NoteKind::OwnMounts, text, items);
    (!note.items.is_empty()).then_some(note)
}

/// Empty files over which namespaces of ours were bound, in directories that are not for that: whoever made such a file may
/// have made it for something else.
pub fn of_namespaces(view: &View, scope: &Scope) -> Vec<String> {
    let paths = scope.network.namespaces.iter().flat_map(|namespace| &namespace.paths);
    let others = paths.filter(|p| !is_for_namespaces(p, &scope.roots.netns, scope.snap.owns(p)));
    let empty = |path: &&PathBuf| view.host.stat(path).is_ok_and(|found| found.is_file() && found.len() == 0);
    let why = "a network namespace of ours was bound over it, and whose it is nobody knows";
    others.filter(empty).map(|path| format!("the file {} ({why})", show(path))).collect()
}

/// Logs of our pods, with their size, where the profile does not want them to go.
pub fn of_logs(view: &View, scope: &Scope) -> Note {
    let found = if scope.roots.logs { Vec::new() } else { logs::of_ours(view, scope) };
    let item = |(path, what): &(PathBuf, PathKind)| match what {
        PathKind::PodLogs => format!("{} ({} KiB)", show(path), logs::size(view, path).div_ceil(1024)),
        _ => show(path).into_owned(),
    };
    let items: Vec<String> = found.iter().map(item).collect();
    Note::of(NoteKind::PodLogs, "logs of this snap's pods are left; the profile does not name them", items)
}
