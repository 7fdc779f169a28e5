//! What every docker makes on a host and none takes away: it is ours where docker was stopped in order, so that no container of
//! ours is left to tell, and no other runtime is there.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use crate::linux::cgroup::{Hierarchy, full};
use crate::runtime::{docker, groups};
use crate::scope::Scope;
use crate::steps::skeleton;
use crate::view::View;

/// Its groups above those of containers, where they hold nothing, and before them those of builds of ours, children before parents.
/// Like all such groups, docker makes them anew.
pub fn empty_groups<'a>(
    view: &View,
    scope: &Scope,
    hierarchy: &Hierarchy,
    all: &'a [PathBuf],
) -> Vec<&'a Path> {
    let has_built = !scope.builds.is_empty();
    if !(scope.idle || has_built) || docker::data_of(&scope.roots.root).is_none() {
        return Vec::new();
    }
    let of_builds: HashSet<&PathBuf> = scope.builds.values().flatten().collect();
    let is_a_builds = |group: &&PathBuf| {
        let path = full(&hierarchy.point, group);
        of_builds.contains(&path) && !view.is_occupied(hierarchy, group)
    };
    let leaves: Vec<&Path> = match has_built {
        true => all.iter().filter(is_a_builds).map(PathBuf::as_path).collect(),
        false => Vec::new(),
    };
    let mut found = leaves.clone();
    // Parents come first in a walk.
    for group in all.iter().rev().filter(|group| groups::is_dockers(group)) {
        let has_children = all.iter().any(|c| c.parent() == Some(group) && !found.contains(&c.as_path()));
        let path = full(&hierarchy.point, group);
        if !has_children
            && !view.is_occupied(hierarchy, group)
            && !scope.snap.is_younger_than(view.host, &path)
        {
            found.push(group);
        }
    }
    if found.len() > leaves.len() && skeleton::others_run(view, scope) {
        return leaves;
    }
    found
}
