//! Ours is also what ours holds: mounts that are known by what they show, wherever they are mounted.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::linux::mountinfo::{Mount, MountTable};
use crate::linux::netns;
use crate::order;
use crate::runtime::sandboxed::KATA_SHARED;
use crate::scope::Scope;
use crate::scope::owner::{Owner, owner};
use crate::snap::Snap;
use crate::snap::profile::{Made, Roots};

/// What tells a mount of ours in one table.
pub struct Held<'a> {
    roots: &'a Roots,
    snap: &'a Snap,
    /// Where the snap's directories, and the places of its roots, lie on their file systems, with what of it is ours.
    places: Vec<(String, PathBuf, Made)>,
    /// The same directories, in every spelling.
    directories: Vec<(PathBuf, Made)>,
    /// The roots below which mounts are ours.
    below: Vec<(&'a Path, Made)>,
    /// What somebody's own mount may be at, or above: the snap's directories, and where roots lead.
    under: Vec<PathBuf>,
    /// containerd's root directory, with the layers of images, in every spelling; nothing where others keep theirs there, too.
    images: Vec<PathBuf>,
    /// Devices that are ours: those of files of ours, and kubelet's volumes in memory.
    devices: HashSet<String>,
    /// IDs and uids of ours.
    ids: HashSet<&'a str>,
    /// Containers of ours: in one namespace of containerd's an ID is one container's.
    tasks: HashSet<(&'a str, &'a str)>,
    /// IDs that a witness says are ours.
    proven: HashSet<&'a str>,
    /// IDs of mounts that show a directory at its own place. docker makes one of the directory of its data.
    itself: HashSet<u64>,
    /// Network namespaces by whose names nobody loses anything: the one that we are in ourselves, the host's, and those that
    /// nobody is in and that have names in directories that only the snap writes.
    nameless: HashSet<u64>,
    /// The places of containers of ours where docker's data were moved to.
    docker: &'a BTreeSet<PathBuf>,
    /// Where volumes are staged for pods of ours alone, in a directory that kubelets share.
    staged: &'a BTreeSet<PathBuf>,
}

impl<'a> Held<'a> {
    /// `roots` and `snap` as they are called where the table is; `devices` are block devices of ours.
    pub fn of(
        table: &MountTable,
        roots: &'a Roots,
        snap: &'a Snap,
        scope: &'a Scope,
        devices: &HashSet<String>,
    ) -> Held<'a> {
        let home = roots.place_of(&snap.home);
        let at_home: Vec<_> = [&home, &roots.place_of(&snap.common), &roots.place_of(&snap.data)]
            .into_iter()
            .filter_map(|own| place_in(table, own))
            .collect();
        // Where others may have theirs beside it, a root is not ours as a whole.
        let made_in = |root: &PathBuf| {
            let place = place_in(table, root);
            let is_home = |(device, at): &(String, PathBuf)| {
                place.as_ref().is_some_and(|(on, place)| on == device && place.starts_with(at))
            };
            match roots.made_in(root) {
                _ if snap.owns_at_run(root) || at_home.iter().any(is_home) => Made::Anything,
                // What nothing is known of, but that it has a whole disk.
                Made::Anything if place.is_some_and(|(_, place)| place == Path::new("/")) => Made::Dockers,
                made => made,
            }
        };
        let roots_made = own_places(roots).map(|root| (root, made_in(root)));
        let places = std::iter::once((&snap.home, Made::Anything)).chain(roots_made);
        let spelled = |(place, made): (&PathBuf, Made)| {
            roots.spellings(place).into_iter().map(move |path| (path, made))
        };
        let mut directories: Vec<(PathBuf, Made)> = places.flat_map(spelled).collect();
        directories.push((home, Made::Anything));
        order::sort_by(&mut directories, |a, b| a.0.cmp(&b.0));
        directories.dedup();
        let below = roots.mounts.iter().map(|root| (root.as_path(), made_in(root))).collect();
        let mut ids = scope.sole_ids();
        let doubtful = scope.containers.iter().filter(|c| !scope.counts_as_ours(c));
        for container in doubtful {
            ids.remove(container.id.id.as_str());
        }
        ids.extend(scope.pod_uids());
        let own = scope.containers.iter().filter(|c| scope.counts_as_ours(c) && !scope.is_foreign(&c.id));
        let tasks = own.map(|c| (c.id.namespace.as_str(), c.id.id.as_str())).collect();
        let place = |(directory, made): &(PathBuf, Made)| {
            place_in(table, directory).map(|(device, at)| (device, at, *made))
        };
        let places = directories.iter().filter_map(place).collect();
        let images = if roots.is_own(snap, &roots.root) { roots.spellings(&roots.root) } else { Vec::new() };
        let by_id: HashMap<u64, &Mount> = table.mounts.iter().map(|m| (m.id, m)).collect();
        let itself = table.mounts.iter().filter(|m| shows_itself(&by_id, m)).map(|m| m.id).collect();
        let (devices, proven) = (devices.clone(), scope.proven_ids());
        let nameless = scope.deserted.iter().copied().chain(scope.network.own).collect();
        let own = [&snap.home, &snap.common, &snap.data];
        let under = own.into_iter().flat_map(|path| [path.clone(), roots.place_of(path)]);
        let under = under.chain(roots.aliases.iter().map(|a| a.place.clone())).collect();
        let mut held = Held {
            roots,
            snap,
            places,
            directories,
            below,
            under,
            images,
            devices,
            ids,
            tasks,
            proven,
            itself,
            nameless,
            docker: &scope.docker_places,
            staged: &scope.staged,
        };
        let in_memory = table.mounts.iter().filter(|m| is_volume_in_memory(m) && held.is_below(m));
        let in_memory: Vec<String> = in_memory.map(|m| m.device().to_owned()).collect();
        held.devices.extend(in_memory);
        // docker mounts the directory of its data at its own place, so that mounts there reach others, or none. Whoever else has
        // something mounted below may need it.
        if table.mounts.iter().any(|m| held.is_in_docker(m) && !held.is_ours(m)) {
            let at = table.mounts.iter().filter(|m| Some(m.point()) == roots.docker.as_deref());
            at.for_each(|m| _ = held.itself.remove(&m.id));
        }
        held
    }

    /// True for a mount of ours: below one of our roots, of an ID of ours in a shared one, or of something of ours. One at a
    /// root was put there by somebody else, and stays.
    pub fn is_ours(&self, mount: &Mount) -> bool {
        self.is_placed(mount) || self.shows_ours(mount) || self.hides_nothing(mount)
    }

    /// True for a mount in the snap's directories by whose end nobody loses anything: it shows a directory at its own place,
    /// or is a name for a network namespace that everybody is in, or nobody. docker makes all of these.
    fn hides_nothing(&self, mount: &Mount) -> bool {
        let at_dockers = self.roots.docker.as_deref() == Some(mount.point());
        if at_dockers {
            return self.itself.contains(&mount.id);
        }
        let in_snap = self.roots.is_own(self.snap, mount.point());
        in_snap && (self.itself.contains(&mount.id) || self.keeps_no_network(mount))
    }

    fn keeps_no_network(&self, mount: &Mount) -> bool {
        netns::of_mount(mount).is_some_and(|inode| self.nameless.contains(&inode))
    }

    /// By where it is alone; in the snap's directory in /run, also such a name for a network namespace.
    pub fn is_placed(&self, mount: &Mount) -> bool {
        let at_run = || self.snap.owns_at_run(mount.point()) && self.keeps_no_network(mount);
        self.is_below(mount)
            || self.is_of_owned_id(mount)
            || self.is_of_kata(mount)
            || self.is_of_docker(mount)
            || at_run()
    }

    /// True for a mount in the directory that Kata shares with a sandbox's virtual machine. Everybody who uses Kata has such
    /// mounts below the same directory, so an ID counts only where a witness says that it is ours.
    fn is_of_kata(&self, mount: &Mount) -> bool {
        let below = mount.point().strip_prefix(KATA_SHARED).ok();
        below.and_then(|below| below.iter().next()?.to_str()).is_some_and(|id| self.proven.contains(id))
    }

    fn is_of_docker(&self, mount: &Mount) -> bool {
        let Some(data) = &self.roots.docker else { return false };
        let point = mount.point();
        // What is mounted in a volume need not be docker's.
        let mut ways =
            point.ancestors().take(if point.starts_with(data.join("volumes")) { 1 } else { usize::MAX });
        ways.any(|way| self.docker.contains(way))
    }

    /// True for a mount below the directory that docker's data were moved to. One at it may be the disk that they were moved to.
    pub fn is_in_docker(&self, mount: &Mount) -> bool {
        let point = mount.point();
        self.roots.docker.as_ref().is_some_and(|data| point.starts_with(data) && point != data)
    }

    fn is_below(&self, mount: &Mount) -> bool {
        let below = |(root, made): &(&Path, Made)| mount.point() != *root && made.has(root, mount.point());
        self.below.iter().any(below) && !self.is_somebodys_root(mount)
    }

    /// In a directory that runtimes share, by the ID or the pod's uid at the place where that stands, or by what pods have of it.
    fn is_of_owned_id(&self, mount: &Mount) -> bool {
        let mut owners = self.roots.shared.iter().filter_map(|root| owner(root, mount.point()));
        let is_owned = |owner| match owner {
            Owner::Task(namespace, id) => self.tasks.contains(&(namespace, id)),
            Owner::Container(id) | Owner::Pod(id) => self.ids.contains(id),
            Owner::Unknown => false,
        };
        owners.any(is_owned) || self.staged.contains(mount.point())
    }

    /// By what it shows: a part of our directories, layers of ours, a file of ours as a device, a volume of ours in memory.
    /// For an overlay in the snap's directories only layers in the root of our containerd count: other layers there may be of
    /// a containerd that the profile does not name. In directories that the profile gives up as data, any layer of ours
    /// counts.
    pub fn shows_ours(&self, mount: &Mount) -> bool {
        if self.is_somebodys_root(mount) {
            return false;
        }
        self.shows_place(mount) || self.devices.contains(mount.device()) || {
            let inside = self.is_in_snap(mount) && !self.is_in_data(mount);
            let is_image = |layer: &Path| self.images.iter().any(|place| layer.starts_with(place));
            let is_ours = |layer: &Path| self.directories.iter().any(|(place, made)| made.has(place, layer));
            mount.layers().iter().any(|layer| if inside { is_image(layer) } else { is_ours(layer) })
        }
    }

    fn is_in_data(&self, mount: &Mount) -> bool {
        self.roots.data.iter().any(|data| mount.point().starts_with(data) && mount.point() != *data)
    }

    /// At the snap's own directories, above them, or at a root of the profile: somebody put it there for the snap.
    fn is_somebodys_root(&self, mount: &Mount) -> bool {
        let at = |path: &PathBuf| path.starts_with(mount.point());
        self.under.iter().any(at)
            || own_places(self.roots).chain(&self.roots.shared).any(|root| *root == mount.point())
    }

    /// True for a mount below the snap's own directories; a mount at one of these is none.
    pub fn is_in_snap(&self, mount: &Mount) -> bool {
        let home = self.roots.place_of(&self.snap.home);
        let own = [&self.snap.common, &self.snap.data].map(|path| self.roots.place_of(path));
        mount.point().starts_with(&home)
            && mount.point() != home
            && !own.iter().any(|path| path == mount.point())
    }

    /// The directory of all that the snap keeps.
    pub fn home(&self) -> &Path {
        &self.snap.home
    }

    /// As far as another mount namespace's table can tell: what a mount shows, not how it is spelled there.
    pub fn shows_ours_elsewhere(&self, mount: &Mount) -> bool {
        self.shows_place(mount) || self.devices.contains(mount.device())
    }

    /// True if something of ours may be on a device.
    pub fn is_on_device(&self, device: &[u8]) -> bool {
        let is = |ours: &str| ours.as_bytes() == device;
        self.places.iter().any(|(ours, ..)| is(ours)) || self.devices.iter().any(|ours| is(ours))
    }

    fn shows_place(&self, mount: &Mount) -> bool {
        let shows = |(device, root, made): &(String, PathBuf, Made)| {
            *device == mount.device() && made.has(root, mount.root())
        };
        self.places.iter().any(shows)
    }
}

/// The roots that are the snap's alone, and what may be deleted.
fn own_places(roots: &Roots) -> impl Iterator<Item = &PathBuf> {
    roots.mounts.iter().chain(&roots.data)
}

/// Where a directory lies on its file system: the device, and the path there.
pub(super) fn place_in(table: &MountTable, path: &Path) -> Option<(String, PathBuf)> {
    // Of mounts at one point the last one is on top.
    let above = table.mounts.iter().filter(|m| path.starts_with(m.point()));
    let mount = above.max_by_key(|m| m.point().components().count())?;
    let below = path.strip_prefix(mount.point()).ok()?;
    Some((mount.device().to_owned(), mount.root().join(below).components().collect()))
}

/// True for what goes with a directory although it is called otherwise: a mount, such as snapd makes for a layout, shows a part
/// of it there. Of mounts of which the deepest is not the last nobody knows here which is seen.
pub fn goes_with(table: &MountTable, directory: &Path, path: &Path) -> bool {
    let above = || table.mounts.iter().filter(|m| path.starts_with(m.point()));
    let deepest = above().max_by_key(|m| m.point().components().count());
    table.bad_lines == 0
        && deepest.map(|m| m.id) == above().next_back().map(|m| m.id)
        && place_in(table, directory)
            .zip(place_in(table, path))
            .is_some_and(|(whole, part)| whole.0 == part.0 && part.1.starts_with(whole.1))
}

/// True if a mount shows a directory at its own place, which would be seen there without it, too.
fn shows_itself(by_id: &HashMap<u64, &Mount>, mount: &Mount) -> bool {
    let parent = by_id.get(&mount.parent).filter(|m| m.device() == mount.device());
    let place = parent.and_then(|m| Some(m.root().join(mount.point().strip_prefix(m.point()).ok()?)));
    mount.root() != Path::new("/") && place.is_some_and(|place| place == mount.root())
}

/// kubelet makes a file system for each of these volumes; it mounts nobody else's there.
fn is_volume_in_memory(mount: &Mount) -> bool {
    const KINDS: [&[u8]; 4] = [
        b"kubernetes.io~secret",
        b"kubernetes.io~empty-dir",
        b"kubernetes.io~projected",
        b"kubernetes.io~configmap",
    ];
    let of_volume =
        mount.point().parent().and_then(Path::file_name).is_some_and(|n| KINDS.contains(&n.as_bytes()));
    mount.fstype() == "tmpfs" && mount.root() == Path::new("/") && of_volume
}

#[cfg(test)]
mod tests;
