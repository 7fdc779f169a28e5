//! The walk through the hierarchies: which groups exist.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::CWD;

use super::group::{MAX_DEPTH, children, has_none_below, open_group};
use super::{CgroupTree, Hierarchy, Unlisted, Version, full};
use crate::error::Why;
use crate::linux::host::Host;
use crate::reason::Reason;

pub fn walk(host: &Host, hierarchies: Vec<Hierarchy>, names: &Names) -> CgroupTree {
    let mut tree = CgroupTree::default();
    for hierarchy in hierarchies {
        // First at a glance. The kernel's count says whether that was all; where it does not count, all is looked at.
        let glanced =
            (hierarchy.version == Version::V2).then(|| Walk::through(host, &hierarchy, names, true));
        let mut walk = match glanced {
            Some((walk, true)) => walk,
            _ => Walk::through(host, &hierarchy, names, false).0,
        };
        tree.unreadable.append(&mut walk.unreadable);
        walk.groups.shrink_to_fit();
        tree.groups.push(walk.groups);
        tree.hierarchies.push(hierarchy);
    }
    tree
}

/// Deeper than any runtime puts a container; with the "/".
const TOLD_DEPTH: usize = 17;

/// A walk through one hierarchy.
struct Walk<'a> {
    point: &'a Path,
    groups: Vec<PathBuf>,
    /// Which of the groups were not asked for groups below them, and how deep they are.
    unasked: Vec<(usize, usize)>,
    unreadable: Vec<Unlisted>,
    names: &'a Names,
    /// Directories are listed at a glance.
    glance: bool,
}

/// Names that tell where to expect groups. A hint that saves system calls, and nothing else.
pub struct Names {
    /// True for a container's group: it has hardly ever any below it.
    pub of_container: fn(&str) -> bool,
    /// True for a group of kubelet's: it has some nearly always.
    pub of_kubelet: fn(&Path) -> bool,
}

impl<'a> Walk<'a> {
    /// Goes through a hierarchy. True if the kernel counts no more groups than were found.
    fn through(host: &Host, hierarchy: &'a Hierarchy, names: &'a Names, glance: bool) -> (Walk<'a>, bool) {
        let (groups, unasked, unreadable) = Default::default();
        let mut walk = Walk { point: &hierarchy.point, groups, unasked, unreadable, names, glance };
        let top = open_group(CWD, host.path(&hierarchy.point));
        walk.below(top, Path::new("/"), 0);
        let mut whole = walk.is_whole(host, hierarchy);
        // Those that were left are asked if there are more.
        if !whole && !walk.unasked.is_empty() {
            walk.rest(host);
            whole = glance && walk.is_whole(host, hierarchy);
        }
        (walk, whole)
    }

    /// The groups in a directory and below them. Those of containers are most, and have hardly ever any below them:
    /// they are left for later.
    fn below(&mut self, directory: io::Result<OwnedFd>, group: &Path, depth: usize) {
        let listed = directory.and_then(|directory| Ok((children(&directory, self.glance)?, directory)));
        let (children, directory) = match listed {
            Ok(listed) => listed,
            Err(e) if e.raw_os_error().is_some_and(crate::error::gone) => return,
            Err(e) => return self.unlisted(group, e.into(), false),
        };
        for name in children {
            // To join leaves room for as much again.
            let mut path = group.join(&name);
            path.shrink_to_fit();
            if name.to_str().is_some_and(self.names.of_container) {
                self.unasked.push((self.groups.len(), depth));
                self.groups.push(path);
            } else {
                self.groups.push(path.clone());
                self.into(&directory, &name, &path, depth);
            }
        }
    }

    /// Descends into a group. Skips the link-count check for kubelet's own groups: they nearly always have children.
    fn into<P: rustix::path::Arg + Copy>(
        &mut self,
        at: impl AsFd + Copy,
        name: P,
        group: &Path,
        depth: usize,
    ) {
        if !(self.names.of_kubelet)(group) && has_none_below(at, name) {
            return;
        }
        if depth < MAX_DEPTH {
            self.below(open_group(at, name), group, depth + 1);
        } else {
            // Many branches far below one group are told as that one.
            let above: PathBuf = group.components().take(TOLD_DEPTH).collect();
            let why = (Reason::TooMany, "the groups below it are nested too deeply");
            self.unlisted(&above, why.into(), true);
        }
    }

    fn unlisted(&mut self, group: &Path, why: Why, too_deep: bool) {
        let directory = full(self.point, group);
        if self.unreadable.last().is_none_or(|last| last.directory != directory) {
            self.unreadable.push(Unlisted { directory, group: group.to_path_buf(), why, too_deep });
        }
    }

    fn is_whole(&self, host: &Host, hierarchy: &Hierarchy) -> bool {
        descendants(host, hierarchy) == Some(self.groups.len())
    }

    fn rest(&mut self, host: &Host) {
        while let Some((at, depth)) = self.unasked.pop() {
            let group = self.groups[at].clone();
            let directory = host.path(&full(self.point, &group));
            self.into(CWD, &directory, &group, depth);
        }
    }
}

/// How many groups there are in a hierarchy, where the kernel tells (Documentation/admin-guide/cgroup-v2.rst, cgroup.stat).
fn descendants(host: &Host, hierarchy: &Hierarchy) -> Option<usize> {
    let text = (hierarchy.version == Version::V2)
        .then(|| host.read_piece(&hierarchy.point.join("cgroup.stat")).ok())??;
    let text = String::from_utf8(text).ok()?;
    text.lines().find_map(|line| line.strip_prefix("nr_descendants ")?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    const NAMES: Names =
        Names { of_container: |name| name.len() == 64, of_kubelet: |group| group.starts_with("/kubepods") };

    #[test]
    fn groups_below_a_containers_are_found_unless_the_kernel_counts_none() {
        let dir = tempfile::tempdir().unwrap();
        let id = "0123456789abcdef".repeat(4);
        let nested = format!("kubepods/pod1/{id}/init.scope/{id}/deep");
        fs::create_dir_all(dir.path().join(&nested)).unwrap();
        let host = Host::at(dir.path());
        let found = |version, counted: Option<usize>| {
            if let Some(n) = counted {
                let text = format!("nr_descendants {n}\nnr_dying_descendants 7\n");
                fs::write(dir.path().join("cgroup.stat"), text).unwrap();
            }
            let hierarchy = Hierarchy { version, point: "/".into(), read_only: false, freezer: false };
            let tree = walk(&host, vec![hierarchy], &NAMES);
            assert!(tree.unreadable.is_empty(), "{tree:?}");
            tree.groups[0].clone()
        };
        let parts: Vec<&str> = nested.split('/').collect();
        let all: Vec<PathBuf> =
            (1..=parts.len()).map(|n| format!("/{}", parts[..n].join("/")).into()).collect();
        assert_eq!(found(Version::V2, None), all, "before there is a count");
        assert_eq!(found(Version::V2, Some(6)), all);
        assert_eq!(found(Version::V2, Some(7)), all, "one that came since");
        assert_eq!(found(Version::V2, Some(3)), all[..3]);
        assert_eq!(found(Version::V1, Some(3)), all, "which says nothing of the kind");
    }

    #[test]
    fn groups_that_are_nested_too_deeply_are_told_once_and_apart() {
        let dir = tempfile::tempdir().unwrap();
        let deep: PathBuf = (0..MAX_DEPTH + 3).map(|n| n.to_string()).collect();
        for branch in ["a", "b"] {
            fs::create_dir_all(dir.path().join("user.slice").join(&deep).join(branch)).unwrap();
        }
        let hierarchy =
            Hierarchy { version: Version::V2, point: "/".into(), read_only: false, freezer: false };
        let tree = walk(&Host::at(dir.path()), vec![hierarchy], &NAMES);
        let [told] = &tree.unreadable[..] else { panic!("{:?}", tree.unreadable) };
        assert!(told.too_deep && told.group.starts_with("/user.slice/0/1/2"), "{told:?}");
        assert_eq!(told.group.components().count(), TOLD_DEPTH);
    }
}
