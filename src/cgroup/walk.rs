//! The walk through the hierarchies: which groups exist.

use std::ffi::{OsStr, OsString};
use std::io;
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, RawDir, openat, statat};

use super::{CgroupTree, Hierarchy, Version, container_of, full, is_kubelets};
use crate::host::Host;

/// Groups nest; a container may make its own. A tree deeper than this was made to exhaust us.
pub const DEEPEST: usize = 64;

/// Walks hierarchies.
pub fn walk(host: &Host, hierarchies: Vec<Hierarchy>) -> CgroupTree {
    let mut tree = CgroupTree::default();
    for hierarchy in hierarchies {
        let mut walk = Walk {
            point: &hierarchy.point,
            groups: Vec::new(),
            unasked: Vec::new(),
            unreadable: &mut tree.unreadable,
        };
        let top = open_group(CWD, host.path(&hierarchy.point));
        walk.below(top, Path::new("/"), 0);
        walk.rest(host, &hierarchy);
        tree.groups.push(walk.groups);
        tree.hierarchies.push(hierarchy);
    }
    tree
}

/// A walk through one hierarchy.
struct Walk<'a> {
    point: &'a Path,
    groups: Vec<PathBuf>,
    /// Groups that were not asked for groups below them, and how deep they are.
    unasked: Vec<(PathBuf, usize)>,
    unreadable: &'a mut Vec<(PathBuf, String)>,
}

impl Walk<'_> {
    /// The groups in a directory and below them. Those of containers are most, and have hardly ever any below them:
    /// they are left for later.
    fn below(&mut self, directory: io::Result<OwnedFd>, group: &Path, depth: usize) {
        let listed = directory.and_then(|directory| Ok((children(&directory)?, directory)));
        let (children, directory) = match listed {
            Ok(listed) => listed,
            Err(e) if e.raw_os_error().is_some_and(crate::error::gone) => return,
            Err(e) => return self.unreadable.push((full(self.point, group), e.to_string())),
        };
        for name in children {
            let path = group.join(&name);
            self.groups.push(path.clone());
            match name.to_str().and_then(container_of) {
                Some(_) => self.unasked.push((path, depth)),
                None => self.into(&directory, &name, &path, depth),
            }
        }
    }

    /// The groups below one that was found. kubelet's have some nearly always: those are not asked before.
    fn into<P: rustix::path::Arg + Copy>(
        &mut self,
        at: impl AsFd + Copy,
        name: P,
        group: &Path,
        depth: usize,
    ) {
        if !is_kubelets(group) && has_none_below(at, name) {
            return;
        }
        if depth < DEEPEST {
            self.below(open_group(at, name), group, depth + 1);
        } else {
            self.unreadable.push((full(self.point, group), "nested too deeply".into()));
        }
    }

    /// Asks those that were left, unless the kernel counts no more groups than were found.
    fn rest(&mut self, host: &Host, hierarchy: &Hierarchy) {
        if self.unasked.is_empty() || descendants(host, hierarchy) == Some(self.groups.len()) {
            return;
        }
        while let Some((group, depth)) = self.unasked.pop() {
            let directory = host.path(&full(self.point, &group));
            self.into(CWD, &directory, &group, depth);
        }
    }
}

/// How many groups there are in a hierarchy, where the kernel tells (Documentation/admin-guide/cgroup-v2.rst, cgroup.stat).
fn descendants(host: &Host, hierarchy: &Hierarchy) -> Option<usize> {
    let text = (hierarchy.version == Version::V2)
        .then(|| host.read_text(&hierarchy.point.join("cgroup.stat")).ok())??;
    text.lines().find_map(|line| line.strip_prefix("nr_descendants ")?.parse().ok())
}

pub fn open_group(at: impl AsFd, name: impl rustix::path::Arg) -> io::Result<OwnedFd> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(openat(at, name, flags, Mode::empty())?)
}

/// The names of the groups directly in a directory.
pub fn children(directory: &OwnedFd) -> io::Result<Vec<OsString>> {
    let mut buffer = [MaybeUninit::uninit(); 8 << 10];
    let mut entries = RawDir::new(directory, &mut buffer);
    let mut children = Vec::new();
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let name = entry.file_name();
        if entry.file_type() == FileType::Directory && name != c"." && name != c".." {
            children.push(OsStr::from_bytes(name.to_bytes()).to_owned());
        }
    }
    Ok(children)
}

/// A directory's link count says how many are in it, on cgroupfs as elsewhere: two means none, and spares a listing of
/// dozens of interface files.
pub fn has_none_below(at: impl AsFd, name: impl rustix::path::Arg) -> bool {
    statat(at, name, AtFlags::SYMLINK_NOFOLLOW).is_ok_and(|stat| stat.st_nlink == 2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

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
            let tree = walk(&host, vec![hierarchy]);
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
}
