//! Control groups of our containers, then the pods' and QoS classes' groups above them that are empty and held
//! one of ours; and the groups of services of a snap that is gone.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use crate::error::Blind;
use crate::linux::cgroup::{full, group};
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
        finding.residues.extend(of_docker.into_iter().chain(abandoned(view, scope, all)).map(|group| {
            let path = full(&hierarchy.point, group);
            Residue::group(path, None)
        }));
    }
    finding
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
mod tests {
    use super::*;

    fn names(groups: &[&str], owned: &[&str]) -> Vec<String> {
        let groups: Vec<PathBuf> = groups.iter().map(PathBuf::from).collect();
        let owners = owned.iter().map(|g| (Path::new(*g), "id")).collect();
        let above = owned.iter().flat_map(|g| Path::new(*g).ancestors().skip(1));
        let ours = above.filter(|g| is_a_runtimes(g)).collect();
        let above = Above { ours, ..Above::default() };
        removable(&groups, &owners, &above).0.into_iter().map(|(g, _)| g.display().to_string()).collect()
    }

    #[test]
    fn groups_of_services_that_no_unit_file_backs_any_more() {
        let root = std::env::temp_dir().join(format!("abandoned-{}", std::process::id()));
        let units = root.join("etc/systemd/system");
        std::fs::create_dir_all(&units).unwrap();
        std::fs::write(units.join("snap.microk8s.daemon-kept.service"), "").unwrap();
        let groups = [
            "/system.slice/snap.microk8s.daemon-containerd.service",
            "/system.slice/snap.microk8s.daemon-kept.service",
            "/system.slice/snap.microk8s_two.daemon-containerd.service",
            "/guest/system.slice/snap.microk8s.daemon-containerd.service",
            "/system.slice",
        ]
        .map(PathBuf::from);
        let host = crate::linux::host::Host::at(&root);
        let view = View::new(&host, None);
        let mut scope = crate::fixture::scope_of(&[]);
        let seen =
            |scope: &Scope| abandoned(&view, scope, &groups).map(Path::to_path_buf).collect::<Vec<_>>();
        assert_eq!(seen(&scope), Vec::<PathBuf>::new(), "the snap is installed: snapd's business");
        scope.snap.revision = None;
        assert_eq!(seen(&scope), groups[..1]);
        std::fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn dockers_group_goes_with_its_last_container() {
        let groups = ["/docker", "/docker/c1", "/mine", "/mine/c2"];
        assert_eq!(names(&groups, &["/docker/c1", "/mine/c2"]), ["/mine/c2", "/docker/c1", "/docker"]);
        let beside = ["/docker", "/docker/c1", "/docker/c3"];
        assert_eq!(names(&beside, &["/docker/c1"]), ["/docker/c1"], "another daemon's");
    }

    #[test]
    fn leaves_then_the_empty_groups_above_that_held_them() {
        let groups = [
            "/kubepods",
            "/kubepods/besteffort",
            "/kubepods/besteffort/podA",
            "/kubepods/besteffort/podA/c1",
            "/system.slice",
        ];
        assert_eq!(
            names(&groups, &["/kubepods/besteffort/podA/c1"]),
            [
                "/kubepods/besteffort/podA/c1",
                "/kubepods/besteffort/podA",
                "/kubepods/besteffort",
                "/kubepods"
            ]
        );
    }

    #[test]
    fn a_neighbour_keeps_the_shared_groups() {
        let groups =
            ["/kubepods", "/kubepods/podA", "/kubepods/podA/c1", "/kubepods/podB", "/kubepods/podB/c9"];
        assert_eq!(names(&groups, &["/kubepods/podA/c1"]), ["/kubepods/podA/c1", "/kubepods/podA"]);
    }

    #[test]
    fn groups_that_a_container_made_go_with_it_deepest_first() {
        let groups = ["/k8s.io", "/k8s.io/c1", "/k8s.io/c1/init.scope", "/k8s.io/c1/a", "/k8s.io/c1/a/b"];
        assert_eq!(
            names(&groups, &["/k8s.io/c1"]),
            ["/k8s.io/c1/a/b", "/k8s.io/c1/a", "/k8s.io/c1/init.scope", "/k8s.io/c1", "/k8s.io"]
        );
    }

    #[test]
    fn very_many_groups_that_a_container_made_are_told_as_its_own() {
        let mut groups = vec!["/k8s.io".to_owned(), "/k8s.io/c1".into(), "/k8s.io/c2".into()];
        groups.extend((0..=MAX_BELOW).map(|n| format!("/k8s.io/c1/{n}")));
        let groups: Vec<&str> = groups.iter().map(String::as_str).collect();
        let own = ["/k8s.io/c2", "/k8s.io/c1", "/k8s.io"];
        assert_eq!(names(&groups, &own[..2]), own);
        assert_eq!(names(&groups[..groups.len() - 1], &own[..2]).len(), MAX_BELOW + own.len());
    }

    #[test]
    fn a_leaf_that_is_already_gone_still_tells_which_groups_were_ours() {
        assert_eq!(
            names(&["/kubepods", "/kubepods/podA"], &["/kubepods/podA/c1"]),
            ["/kubepods/podA", "/kubepods"]
        );
    }

    #[test]
    fn a_group_above_that_was_made_for_ours_goes_and_one_that_may_be_anothers_is_told() {
        let groups = ["/odd", "/odd/web", "/more", "/more/x", "/more/x/y"].map(PathBuf::from);
        let leaves = ["/odd/web", "/more/x/y"].map(PathBuf::from);
        let owners = leaves.iter().map(|g| (g.as_path(), "id")).collect();
        let mut scope = crate::fixture::scope_of(&["c1"]);
        scope.containers[0].cgroups = leaves.to_vec();
        scope.groups_above = vec!["/odd".into(), "/more".into()];
        let dir = tempfile::tempdir().unwrap();
        let host = crate::linux::host::Host::at(dir.path());
        let above = Above::of(&View::new(&host, None), &scope);
        let (found, unknown) = removable(&groups, &owners, &above);
        let found: Vec<_> = found.into_iter().map(|(group, _)| group.display().to_string()).collect();
        assert_eq!(found, ["/more/x/y", "/odd/web", "/odd"], "what is above a group that stays stays");
        assert_eq!(unknown, [PathBuf::from("/more/x")]);
        scope.containers[0].witnesses = Default::default();
        let above = Above::of(&View::new(&host, None), &scope);
        assert!(above.unknown.is_empty(), "a hint proves nothing, and what is not proven is told elsewhere");
        scope.containers[0] = crate::fixture::scope_of(&["c1"]).containers.remove(0);
        scope.containers[0].cgroups = vec!["/user.slice/session-7.scope".into()];
        let unknown = |scope: &Scope| Above::of(&View::new(&host, None), scope).unknown.len();
        assert_eq!(unknown(&scope), 1);
        std::fs::create_dir_all(dir.path().join("run/systemd/system")).unwrap();
        assert_eq!(unknown(&scope), 0, "systemd's own");
    }

    #[test]
    fn a_read_only_hierarchy_is_told_and_not_left() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("sys/fs/cgroup/kubepods/podA/c1")).unwrap();
        std::fs::create_dir_all(dir.path().join("proc/self")).unwrap();
        let host = crate::linux::host::Host::at(dir.path());
        let mut scope = crate::fixture::scope_of(&["c1"]);
        scope.containers[0].cgroups = vec!["/kubepods/podA/c1".into()];
        for (options, told, left) in [("ro", 1, 0), ("rw", 0, 3)] {
            let table = format!("1 0 0:1 / /sys/fs/cgroup {options},nosuid - cgroup2 c rw\n");
            std::fs::write(dir.path().join("proc/self/mountinfo"), table).unwrap();
            let view = View::new(&host, None);
            assert_eq!(read_only(&view, &scope).len(), told, "{options}");
            let events = dir.path().join("sys/fs/cgroup/kubepods/podA/c1/cgroup.events");
            std::fs::write(&events, "populated 1\n").unwrap();
            assert!(
                read_only(&View::new(&host, None), &scope).is_empty(),
                "one in which something runs is not empty"
            );
            std::fs::remove_file(events).unwrap();
            assert_eq!(find(&view, &scope).residues.len(), left, "{options}");
        }
    }

    #[test]
    fn the_hosts_own_groups_stay() {
        assert!(names(&["/system.slice", "/user.slice"], &["/system.slice/x/c1"]).is_empty());
    }
}
