//! Control groups of our containers, then the pods' and QoS classes' groups above them that are empty and held
//! one of ours; and the groups of services of a snap that is gone.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use crate::error::Blind;
use crate::linux::cgroup::{Hierarchy, full, group};
use crate::reason::Reason;
use crate::residue::Residue;
use crate::residue::finding::Finding;
use crate::runtime::{Name, groups};
use crate::scope::Scope;
use crate::snap::units;
use crate::steps::{classes, dockers};
use crate::text::show;
use crate::view::View;

/// Leaves first. A group above is ours to remove only if everything in it is.
pub fn find(view: &View, scope: &Scope) -> Finding {
    let tree = match view.cgroups() {
        Ok(tree) => tree,
        Err(e) => return Finding { residues: vec![], blind: vec![Blind::new("control groups", e)] },
    };
    let mut owners: HashMap<&Path, &str> = scope
        .containers
        .iter()
        .flat_map(|c| c.cgroups.iter().map(|g| (g.as_path(), c.id.id.as_str())))
        .collect();
    let unnamed = unnamed(view, scope, &owners);
    owners.extend(unnamed.iter().copied());
    let names: HashMap<&str, &Name> = scope.containers.iter().map(|c| (c.id.id.as_str(), &c.id.id)).collect();
    let mut finding = Finding::default();
    let mut above = Above::of(view, scope);
    let kubelets = unnamed.iter().flat_map(|(group, _)| group.ancestors().skip(1));
    above.ours.extend(kubelets.filter(|group| groups::is_kubelets(group)));
    let writable = tree.hierarchies.iter().zip(&tree.groups).filter(|(h, _)| !h.read_only);
    for (hierarchy, all) in writable {
        let (mut found, mut unknown) = removable(all, &owners, &above);
        let classes = classes::empty(view.host, scope, all, &found.iter().map(|(group, _)| *group).collect());
        found.extend(classes.ours.into_iter().map(|group| (group, None)));
        unknown.extend(classes.unknown.into_iter().map(Path::to_path_buf));
        let empty = unknown.iter().filter(|group| !view.is_occupied(hierarchy, group));
        let why =
            (Reason::Unproven, "it is empty, and whether it was made for a container of ours cannot be told");
        finding.blind.extend(empty.map(|group| Blind::new(show(&full(&hierarchy.point, group)), why)));
        for (name, container) in found {
            let path = full(&hierarchy.point, name);
            // A group above the leaves may hold processes of its own that are nobody's container.
            let has_own = || group::own_pids(view.host, &path).is_ok_and(|pids| !pids.is_empty());
            if container.is_none() && !view.is_unpopulated(hierarchy, name) && has_own() {
                continue;
            }
            let container =
                container.map(|id| names.get(id).map_or_else(|| id.into(), |&known| known.clone()));
            finding.residues.push(Residue::group(path, container));
        }
        let of_docker = dockers::empty_groups(view, scope, hierarchy, all);
        for group in of_docker.into_iter().chain(abandoned(view, scope, all)) {
            let path = full(&hierarchy.point, group);
            let is_it = |residue: &Residue| matches!(residue, Residue::Cgroup(it) if *it.path == *path);
            if !finding.residues.iter().any(is_it) {
                finding.residues.push(Residue::group(path, None));
            }
        }
        told_groups(view, scope, hierarchy, all, &mut finding);
    }
    finding
}

/// Tells of the groups that a runtime was told to use and that nobody is in, beside those that go anyway or are told.
fn told_groups(view: &View, scope: &Scope, hierarchy: &Hierarchy, all: &[PathBuf], finding: &mut Finding) {
    for (group, why) in all.iter().filter_map(|group| Some((group, scope.told_groups.of(group)?))) {
        let path = full(&hierarchy.point, group);
        let goes = |residue: &Residue| matches!(residue, Residue::Cgroup(it) if *it.path == *path);
        let what = show(&path);
        let is_known =
            || finding.blind.iter().any(|blind| blind.what == what) || finding.residues.iter().any(goes);
        if !view.is_occupied(hierarchy, group) && !is_known() {
            let why = format!("{why}; who made it cannot be told");
            finding.blind.push(Blind::new(what, (Reason::Unproven, why)));
        }
    }
}

/// Empty groups in those of pods that nothing ties to a container of ours but its ID, be it one that only our containerd's
/// database knows.
fn unnamed<'a>(view: &'a View, scope: &'a Scope, known: &HashMap<&Path, &str>) -> Vec<(&'a Path, &'a str)> {
    let Ok(tree) = view.cgroups() else { return Vec::new() };
    let mut ids = scope.sole_ids();
    ids.extend(scope.recorded.iter().map(|id| id.id.as_str()));
    let named = |group: &'a Path| groups::container_in_a_pod(group).filter(|id| ids.contains(id));
    let occupied = |group: &Path| tree.hierarchies.iter().any(|h| view.is_occupied(h, group));
    let others = tree.each().filter(|(_, group)| !known.contains_key(group));
    let all = others.filter_map(|(_, group)| Some((group, named(group)?)));
    all.filter(|(group, _)| !occupied(group)).collect()
}

/// Groups of services of a snap that is not installed. systemd removes a service's group when the last process in
/// it ends, but not once the unit is gone; and shims stay in theirs when the service stops.
fn abandoned<'a>(view: &View, scope: &'a Scope, groups: &'a [PathBuf]) -> impl Iterator<Item = &'a Path> {
    let forgotten = |unit: &std::ffi::OsStr| {
        ["/etc/systemd/system", "/run/systemd/system"]
            .iter()
            .all(|directory| view.host.exists(&Path::new(directory).join(unit)).is_ok_and(|there| !there))
    };
    let removed = scope.snap.revision.is_none();
    groups.iter().map(PathBuf::as_path).filter(move |group| {
        removed
            && group.parent() == Some(Path::new("/system.slice"))
            && units::service_of(group, &scope.snap.instance).is_some()
            && group.file_name().is_some_and(forgotten)
    })
}

/// Empty groups of ours in hierarchies that are mounted read-only (as in some containers): nobody here can remove
/// them, and whoever can is outside.
pub fn read_only(view: &View, scope: &Scope) -> Vec<PathBuf> {
    let Ok(tree) = view.cgroups() else { return Vec::new() };
    let owned: HashSet<&Path> =
        scope.containers.iter().flat_map(|c| c.cgroups.iter().map(PathBuf::as_path)).collect();
    let ours = tree.each().filter(|(hierarchy, group)| {
        hierarchy.read_only && owned.contains(group) && !view.is_occupied(hierarchy, group)
    });
    ours.map(|(hierarchy, group)| full(&hierarchy.point, group)).collect()
}

/// Groups above those of our containers.
#[derive(Default)]
struct Above<'a> {
    /// Those of kubelet and docker, and those that were made for containers of ours.
    ours: HashSet<&'a Path>,
    /// All others, but for systemd's: nobody knows for whom they were made.
    unknown: HashSet<&'a Path>,
}

impl<'a> Above<'a> {
    fn of(view: &View, scope: &'a Scope) -> Above<'a> {
        let managed = units::has_systemd(view.host);
        let mut above = Above::default();
        for container in &scope.containers {
            for group in container.cgroups.iter().flat_map(|leaf| leaf.ancestors().skip(1)) {
                if is_a_runtimes(group) || scope.groups_above.iter().any(|made| made == group) {
                    above.ours.insert(group);
                } else if container.is_proven()
                    && group.components().count() > 1
                    && !(managed && groups::is_of_a_manager(group))
                {
                    above.unknown.insert(group);
                }
            }
        }
        above
    }
}

/// True for a group that kubelet or docker makes for everything that it runs.
fn is_a_runtimes(group: &Path) -> bool {
    groups::is_kubelets(group) || groups::is_dockers(group)
}

/// A group, and the container that it is of.
type Owned<'a> = (&'a Path, Option<&'a str>);

/// A container can make groups below its own without end. More than so many are not told one by one: they go with its own.
const MAX_BELOW: usize = 1000;

/// What may go from one hierarchy, children before parents: groups at or below an owned leaf, and the shared
/// groups above one that hold nothing else. Second, those above one that would then be empty, too, and may be somebody's.
fn removable<'a>(
    groups: &'a [PathBuf],
    owners: &HashMap<&Path, &'a str>,
    above: &Above,
) -> (Vec<Owned<'a>>, Vec<PathBuf>) {
    // The machine's other groups are many, and nothing to us.
    if owners.is_empty() {
        return Default::default();
    }
    let owner = |group: &Path| group.ancestors().find_map(|a| owners.get(a).copied());
    let mut children: HashMap<&Path, usize> = HashMap::new();
    for group in groups {
        if let Some(parent) = group.parent() {
            *children.entry(parent).or_default() += 1;
        }
    }
    // Parents come first in a walk, so that the walk backwards has the children of each before it.
    let (mut found, mut unknown) = (Vec::new(), Vec::new());
    for group in groups.iter().rev() {
        let container = owner(group);
        let empty = children.get(group.as_path()).copied().unwrap_or(0) == 0;
        if container.is_none() && !(empty && above.ours.contains(group.as_path())) {
            unknown.extend((empty && above.unknown.contains(group.as_path())).then(|| group.clone()));
            continue;
        }
        if let Some(count) = group.parent().and_then(|p| children.get_mut(p)) {
            *count -= 1;
        }
        found.push((group.as_path(), container));
    }
    let is_below = |(group, container): &Owned| container.is_some() && !owners.contains_key(group);
    if found.iter().filter(|owned| is_below(owned)).count() > MAX_BELOW {
        found.retain(|owned| !is_below(owned));
    }
    (found, unknown)
}

#[cfg(test)]
mod tests;
