//! Control groups: where the hierarchies are, which groups exist, and whose names they carry.
//!
//! Three layouts are in the field: v2 alone, v1 with a hierarchy for each controller, and hybrid. A
//! container's group has the same path in every hierarchy it is in, named by kubelet and runc in one of two
//! ways (`cgroupfs`, `systemd`).

pub mod group;
pub mod walk;

use std::path::{Path, PathBuf};

use crate::error::Why;
use crate::linux::mountinfo::{Mount, MountTable};
use crate::order;

pub use walk::{Names, walk};

/// Which interface files a hierarchy has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// One hierarchy for each controller, or named.
    V1,
    /// The unified one.
    V2,
}

/// One mounted hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hierarchy {
    /// v1 or v2.
    pub version: Version,
    /// Where it is mounted.
    pub point: PathBuf,
    /// True if nothing in it can be changed.
    pub read_only: bool,
    /// True if this is the v1 hierarchy that can freeze groups.
    pub freezer: bool,
}

/// All groups of all hierarchies.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CgroupTree {
    /// The hierarchies, in mount order.
    pub hierarchies: Vec<Hierarchy>,
    /// For each hierarchy, its groups as paths below its mount point ("/kubepods/…"), parents first.
    pub groups: Vec<Vec<PathBuf>>,
    /// Groups below which could not be looked.
    pub unreadable: Vec<Unlisted>,
}

/// A group of which is not known what lies below it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unlisted {
    pub directory: PathBuf,
    /// The group, as a path below its hierarchy's mount point: whether it can be somebody's is told by what lies above it.
    pub group: PathBuf,
    pub why: Why,
    /// True if nothing refused: the groups were nested on purpose until nobody follows them. Whoever owns a group can do
    /// that below it, and hides there only what is his.
    pub too_deep: bool,
}

/// The hierarchies in a mount table, each once: the first of co-mounted copies that shows the whole of it, and none that is
/// shadowed by a later mount at the same place.
pub fn hierarchies(table: &MountTable) -> Vec<Hierarchy> {
    let mut found: Vec<(String, Hierarchy)> = Vec::new();
    let all = || table.mounts.iter().enumerate();
    let is_whole = |(_, mount): &(usize, &Mount)| mount.root() == Path::new("/");
    for (i, mount) in all().filter(is_whole).chain(all().filter(|one| !is_whole(one))) {
        let version = match mount.fstype() {
            "cgroup2" => Version::V2,
            "cgroup" => Version::V1,
            _ => continue,
        };
        let shadowed = table.mounts[i + 1..].iter().any(|later| mount.point().starts_with(later.point()));
        let twin = found.iter().any(|(device, _)| *device == mount.device());
        if shadowed || twin {
            continue;
        }
        let freezer =
            version == Version::V1 && mount.options().split(|b| *b == b',').any(|o| o == b"freezer");
        found.push((
            mount.device().to_owned(),
            Hierarchy { version, point: mount.point().to_path_buf(), read_only: mount.read_only, freezer },
        ));
    }
    found.into_iter().map(|(_, hierarchy)| hierarchy).collect()
}

/// The directory of a group that is named as a path below its hierarchy's mount point.
pub fn full(point: &Path, group: &Path) -> PathBuf {
    match group.strip_prefix("/") {
        Ok(below) if !below.as_os_str().is_empty() => point.join(below),
        _ => point.to_path_buf(),
    }
}

impl CgroupTree {
    /// An index in which to look up in which hierarchies a group exists.
    pub fn index(&self) -> Index<'_> {
        let mut index = Index { hierarchies: &self.hierarchies, groups: &self.groups, places: Vec::new() };
        for (hierarchy, groups) in (0..).zip(&self.groups) {
            index.places.extend((0..).zip(groups).map(|(group, _)| (hierarchy, group)));
        }
        let mut places = std::mem::take(&mut index.places);
        order::sort_by(&mut places, |one, other| index.name(one).cmp(index.name(other)));
        Index { places, ..index }
    }

    /// Every group with its hierarchy.
    pub fn each(&self) -> impl Iterator<Item = (&Hierarchy, &Path)> {
        self.hierarchies
            .iter()
            .zip(&self.groups)
            .flat_map(|(h, groups)| groups.iter().map(move |g| (h, g.as_path())))
    }

    /// "v1", "v2" or "hybrid", as people call it.
    pub fn layout(&self) -> &'static str {
        let has = |v| self.hierarchies.iter().any(|h| h.version == v);
        match (has(Version::V1), has(Version::V2)) {
            (true, true) => "hybrid",
            (true, false) => "v1",
            (false, true) => "v2",
            (false, false) => "none",
        }
    }
}

/// A hierarchy and one of its groups, by their numbers.
type Place = (u32, u32);

/// All groups of all hierarchies, sorted by their names. It is made while the most memory is used, and with thousands of pods it
/// takes a tenth of what a map would.
#[derive(Default)]
pub struct Index<'a> {
    hierarchies: &'a [Hierarchy],
    groups: &'a [Vec<PathBuf>],
    places: Vec<Place>,
}

impl<'a> Index<'a> {
    /// The hierarchies in which a group exists, in mount order.
    pub fn hierarchies_of(&self, group: &Path) -> impl Iterator<Item = &'a Hierarchy> {
        let name = group.as_os_str().as_encoded_bytes();
        let first = self.places.partition_point(|place| self.name(place) < name);
        let same = self.places[first..].iter().take_while(move |place| self.name(place) == name);
        same.map(|(hierarchy, _)| &self.hierarchies[*hierarchy as usize])
    }

    /// True if a group exists in any.
    pub fn has(&self, group: &Path) -> bool {
        self.hierarchies_of(group).next().is_some()
    }

    /// By the names' bytes: paths are compared part by part, which takes longer.
    fn name(&self, (hierarchy, group): &Place) -> &'a [u8] {
        self.groups[*hierarchy as usize][*group as usize].as_os_str().as_encoded_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linux::mountinfo::parse;

    #[test]
    fn hierarchies_once_each_and_none_that_is_shadowed() {
        let table = parse(
            b"1 0 0:1 / / rw - ext4 /dev/a rw\n2 1 0:2 / /sys/fs/cgroup/cpu rw - cgroup c rw,cpu\n\
              3 1 0:2 / /mnt/cpu rw - cgroup c rw,cpu\n4 1 0:3 / /sys/fs/cgroup/freezer rw - cgroup c rw,freezer\n\
              5 1 0:4 / /sys/fs/cgroup/unified rw - cgroup2 c rw\n",
        );
        let found = hierarchies(&table);
        assert_eq!(found.len(), 3);
        assert!(found[1].freezer && !found[0].freezer && found[2].version == Version::V2);
        let table = parse(b"2 1 0:2 / /sys/fs/cgroup/cpu rw - cgroup c rw,cpu\n6 1 0:5 / /sys/fs/cgroup rw - cgroup2 c rw\n");
        assert_eq!(hierarchies(&table).iter().map(|h| h.version).collect::<Vec<_>>(), [Version::V2]);
        let table =
            parse(b"2 1 0:2 /a /mnt/a rw - cgroup2 c rw\n3 1 0:2 / /sys/fs/cgroup rw - cgroup2 c rw\n");
        let points: Vec<_> = hierarchies(&table).into_iter().map(|h| h.point).collect();
        assert_eq!(points, [PathBuf::from("/sys/fs/cgroup")], "a part of it shows a part of the groups");
    }

    #[test]
    fn a_group_is_found_in_each_hierarchy_that_has_it() {
        let groups = |all: &[&str]| all.iter().map(PathBuf::from).collect::<Vec<_>>();
        let hierarchy =
            |at: &str| Hierarchy { version: Version::V1, point: at.into(), read_only: false, freezer: false };
        let tree = CgroupTree {
            hierarchies: ["/c", "/b", "/a"].map(hierarchy).into(),
            groups: vec![groups(&["/x/b", "/x", "/x-a"]), groups(&[]), groups(&["/x-a", "/x", "/y"])],
            unreadable: Vec::new(),
        };
        let index = tree.index();
        let found = |group: &str| -> Vec<&str> {
            index.hierarchies_of(group.as_ref()).filter_map(|h| h.point.to_str()).collect()
        };
        assert_eq!(["/x", "/x-a"].map(found), [["/c", "/a"], ["/c", "/a"]]);
        assert_eq!((found("/x/b"), found("/y")), (vec!["/c"], vec!["/a"]));
        assert!(["/", "/x/", "/x/c", "/z"].iter().all(|group| found(group).is_empty()));
        assert!(CgroupTree::default().index().hierarchies_of("/x".as_ref()).next().is_none());
    }
}
