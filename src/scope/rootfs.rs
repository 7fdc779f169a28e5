//! Whether a process's root file system is on a snapshot of ours.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::gather::{Descent, Gather};
use crate::linux::identity::namespace_of;
use crate::linux::mountinfo::{self, Mount};
use crate::linux::proc::Proc;
use crate::runtime::processes::Processes;

/// Below containerd's root: each of its snapshotters has a directory of this name with its own behind it.
pub(super) const SNAPSHOTTER: &str = "io.containerd.snapshotter.v1.";

/// As many parents are looked at, one above the other.
const MAX_ABOVE: usize = 1000;

/// Where a process has its root.
pub(super) enum RootFs {
    /// On a snapshot of ours.
    Ours,
    /// Not there, or in a place that others can make look like it.
    Elsewhere,
    /// The process ended meanwhile.
    Gone,
    /// It reads like ours, where anybody could have made it so.
    Doubtful(String),
    /// In a directory that no mount shows: it has gone there itself (chroot(2)), as everything in a container may.
    Changed,
    /// It cannot be told.
    Unknown(String),
}

impl Gather<'_> {
    pub(super) fn root_of(&self, process: &Proc, processes: &Processes) -> RootFs {
        if !self.root_proves {
            return RootFs::Elsewhere;
        }
        if self.is_of_another_shim(process, processes) {
            return RootFs::Elsewhere;
        }
        let unit = Some(process.parent).filter(|p| processes.is_shim(*p)).and_then(|p| self.view.unit_of(p));
        if unit.is_some_and(|unit| unit != self.snap.instance) {
            return RootFs::Elsewhere;
        }
        match (self.reads_like_ours(process), self.levels_below(process)) {
            (Err(RootFs::Changed), None | Some(2..)) => return RootFs::Elsewhere,
            (Err(root), _) => return root,
            (Ok(true), Some(0)) => {}
            (Ok(true), Some(1)) => {
                if let Some(root) = self.of_guest(process, processes) {
                    return root;
                }
            }
            (Ok(_), _) => return RootFs::Elsewhere,
        }
        let (host, pid) = (self.view.host, process.id.pid.to_string());
        let (its, own) = (namespace_of(host, &pid, "user"), namespace_of(host, "self", "user"));
        if its.is_none() && own.is_some() {
            let why = "its root reads like a snapshot of ours, and its user namespace is hidden";
            return RootFs::Unknown(why.into());
        }
        if its != own {
            let why = "its root reads like a snapshot of ours, in a user namespace of its own, and its shim is gone";
            return RootFs::Doubtful(why.into());
        }
        match &self.sibling {
            Some(sibling) if unit.is_none() => {
                RootFs::Unknown(format!("the instance '{sibling}' has the same paths"))
            }
            _ => RootFs::Ours,
        }
    }

    /// True for a child of a living process that reads like a shim of another containerd.
    pub(super) fn is_of_another_shim(&self, process: &Proc, processes: &Processes) -> bool {
        processes.shim(process.parent).is_some_and(|args| args.address != self.inside.address)
    }

    /// True if each of these, whose roots cannot be told, descends from a process outside of their group, on the machine
    /// itself, that has its root elsewhere, and nothing on the way up is the snap's or could be. It is no proof: an
    /// administrator's `runc exec` is such a parent of a process of ours, and whoever adopts orphans (PR_SET_CHILD_SUBREAPER)
    /// may be. So what has such parents is told, and keeps nothing from being removed.
    pub(super) fn have_parents_elsewhere(&self, all: &[&Proc], group: &[i32], processes: &Processes) -> bool {
        all.iter().all(|process| self.has_parent_elsewhere(process, group, processes))
    }

    fn has_parent_elsewhere(&self, process: &Proc, group: &[i32], processes: &Processes) -> bool {
        let depth = self.view.pid_namespace_depth(None);
        let mut found = false;
        // Numbers that were given again while all were read may make a circle.
        let above = std::iter::successors(processes.get(process.parent), |p| processes.get(p.parent));
        for parent in above.take(MAX_ABOVE).take_while(|p| p.id.pid != 1) {
            let pid = parent.id.pid;
            let names_ours = processes.shim(pid).is_some_and(|args| args.address == self.inside.address);
            let is_hidden = processes.hidden().contains(&pid);
            let is_the_snaps = self.view.unit_of(pid) == Some(self.snap.instance.as_str());
            if names_ours || is_hidden || is_the_snaps || parent.kernel || !parent.alive() {
                return false;
            }
            found |= !group.contains(&pid)
                && depth.is_some()
                && self.view.pid_namespace_depth(Some(pid)) == depth
                && matches!(self.reads_like_ours(parent), Ok(false));
        }
        found
    }

    /// Whether a process's root is, by its path, on a snapshot of ours.
    pub(super) fn reads_like_ours(&self, process: &Proc) -> Result<bool, RootFs> {
        let file = self.view.directory_of(process).join("mountinfo");
        let table = match self.view.host.read(&file) {
            Ok(bytes) => mountinfo::parse(&bytes),
            // EINVAL is what the kernel says of one that is about to go.
            Err(e) if e.is_gone() || e.errno() == Some(nix::libc::EINVAL) => return Err(RootFs::Gone),
            Err(e) => return Err(RootFs::Unknown(e.to_string())),
        };
        let root = table.mounts.iter().rev().find(|m| m.point() == Path::new("/"));
        root.map(|root| self.is_on_our_snapshots(root)).ok_or(RootFs::Changed)
    }

    /// What a process is instead of ours, if it is a guest's in the guest's own process namespace (a pod's with `hostPID`): it
    /// is as near as a container of ours. But a container's first process has its root on our snapshots, too; a guest's
    /// has not.
    fn of_guest(&self, process: &Proc, processes: &Processes) -> Option<RootFs> {
        match self.descent(process, processes) {
            Descent::Ours => None,
            Descent::Elsewhere(mounts) => {
                // A container's own that has changed its root shares its mounts with the others.
                let same = mounts.is_some() && mounts == self.mounts_of(process);
                let why =
                    "its root reads like a snapshot of ours, and the first process above it has another";
                Some(if same { RootFs::Doubtful(why.into()) } else { RootFs::Elsewhere })
            }
            Descent::Unknown => Some(match self.reads_like_ours(process) {
                Err(RootFs::Gone) => RootFs::Gone,
                _ => RootFs::Unknown("which process is the first above it cannot be told".into()),
            }),
        }
    }

    /// Looks up from a process as far as it goes deeper than we are. What is found is kept for each on the way: many in a row
    /// would take long.
    fn descent(&self, process: &Proc, processes: &Processes) -> Descent {
        let depth = |pid| self.view.pid_namespace_depth(pid);
        let own = depth(None);
        let (mut first, mut way) = (process, Vec::new());
        let found = loop {
            if let Some(known) = self.descents.borrow().get(&first.id.pid) {
                break known.clone();
            }
            way.push(first.id.pid);
            let above = Some(first.parent).filter(|parent| *parent != 1);
            match above.map(|parent| (processes.get(parent), depth(Some(parent)))) {
                // Numbers that were given again while all were read may make a circle.
                Some((Some(parent), its)) if its > own && !way.contains(&parent.id.pid) => first = parent,
                Some((_, its)) if its.is_none() || its > own => break Descent::Unknown,
                _ if first.id == process.id => break Descent::Ours,
                _ => break self.descent_from(first),
            }
        };
        self.descents.borrow_mut().extend(way.into_iter().map(|pid| (pid, found.clone())));
        found
    }

    fn descent_from(&self, first: &Proc) -> Descent {
        match self.reads_like_ours(first) {
            Ok(true) => Descent::Ours,
            Ok(false) | Err(RootFs::Changed) => Descent::Elsewhere(self.mounts_of(first)),
            Err(_) => Descent::Unknown,
        }
    }

    fn mounts_of(&self, process: &Proc) -> Option<PathBuf> {
        self.view.mount_namespace(&process.id.pid.to_string())
    }

    /// An overlay says itself where its layers are; of the others (native, btrfs), the kernel says which directory of the
    /// file system is mounted there.
    fn is_on_our_snapshots(&self, mount: &Mount) -> bool {
        let roots = self.inside.spellings(&self.inside.root);
        let below = |path: &Path| {
            let mut inside = roots.iter().filter_map(|root| path.strip_prefix(root).ok());
            inside.any(|rest| rest.to_str().is_some_and(|rest| rest.starts_with(SNAPSHOTTER)))
        };
        if mount.fstype() == "overlay" {
            let docker = || upper(&mount.options()).is_some_and(|path| self.is_dockers(&path));
            return mount.layers().iter().any(|layer| below(layer)) || docker();
        }
        let Ok(table) = self.view.own_mounts() else { return false };
        let holds = |m: &&Mount| self.roots.root.starts_with(m.point());
        let Some(home) = table.mounts.iter().rev().filter(holds).max_by_key(|m| m.point().as_os_str().len())
        else {
            return false;
        };
        let Ok(rest) = self.roots.root.strip_prefix(home.point()) else { return false };
        let on_disk = home.root().join(rest);
        let inside = mount.root().strip_prefix(&on_disk).ok();
        home.device() == mount.device()
            && inside.and_then(Path::to_str).is_some_and(|rest| rest.starts_with(SNAPSHOTTER))
    }

    /// docker has layers of its own: `overlay2/ID/diff` below the directory of its data, which lies in the snap's.
    fn is_dockers(&self, layer: &Path) -> bool {
        let inside = self.snap.inside();
        let moved = self.inside.docker.as_ref();
        let mut own = [&inside.common, &inside.data].into_iter().chain(moved);
        let own = own.any(|own| layer.starts_with(own));
        let mut parts = layer.iter().rev();
        own && parts.next().is_some_and(|name| name == "diff")
            && parts.next().is_some()
            && parts.next().is_some_and(|name| name == "overlay2")
    }

    /// How many process namespaces a process is below us. The same path in another guest's mount namespace is another
    /// directory. A guest's own containers are at least two levels down; a container of ours is at most one below us.
    fn levels_below(&self, process: &Proc) -> Option<usize> {
        let depth = |pid| self.view.pid_namespace_depth(pid);
        depth(Some(process.id.pid))?.checked_sub(depth(None)?)
    }
}

/// The directory that an overlay writes to.
fn upper(options: &[u8]) -> Option<PathBuf> {
    let upper = options.split(|b| *b == b',').find_map(|option| option.strip_prefix(b"upperdir="))?;
    Some(PathBuf::from(OsStr::from_bytes(upper)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_directory_that_an_overlay_writes_to() {
        let options = b"rw,lowerdir=/a:/b,upperdir=/var/snap/m/common/x/fs,workdir=/w";
        assert_eq!(upper(options).as_deref(), Some(Path::new("/var/snap/m/common/x/fs")));
        assert_eq!(upper(b"rw,workdir=/w"), None);
    }
}
