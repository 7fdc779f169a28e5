//! Containers whose bundle is gone: by their parent shim, or by their root file system.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::gather::Gather;
use crate::error::Blind;
use crate::linux::mountinfo;
use crate::linux::proc::Proc;
use crate::runtime::bundle::Bundle;
use crate::runtime::processes::Processes;
use crate::runtime::{ContainerId, groups};
use crate::scope::{Proof, Shim};
use crate::text;

impl Gather<'_> {
    /// A child of our shim in a group of its own is a container's first process, whatever became of the bundle.
    pub(super) fn children_of_shims(&mut self) {
        let Ok(processes) = self.view.processes() else { return };
        let shims: HashMap<i32, Shim> = self.shims.iter().map(|s| (s.process.pid, s.clone())).collect();
        let known: HashSet<PathBuf> =
            self.containers.values().flat_map(|c| c.cgroups.iter().cloned()).collect();
        let settled = self.in_known_groups(&known);
        let children =
            processes.iter().filter(|p| !processes.is_shim(p.id.pid) && !settled.contains(&p.id.pid));
        for child in children {
            let Some(shim) = shims.get(&child.parent) else { continue };
            for group in self.view.membership(child.id.pid) {
                let Some(id) = group.file_name().and_then(|n| n.to_str()).and_then(groups::container_of)
                else {
                    continue;
                };
                if known.contains(&group) || self.foreign_ids.contains(id) {
                    continue;
                }
                let id = ContainerId { namespace: shim.namespace.clone(), id: id.to_owned() };
                let bundle = Bundle { shim_id: shim.id.clone(), ..Bundle::default() };
                let container = self.claim(id, bundle, Proof::ParentShim);
                container.cgroups.push(group);
            }
        }
    }

    /// The processes in these groups, where each process is in one group only. They need not be asked which that is.
    fn in_known_groups(&self, known: &HashSet<PathBuf>) -> HashSet<i32> {
        let Ok(tree) = self.view.cgroups() else { return HashSet::new() };
        if tree.hierarchies.len() != 1 {
            return HashSet::new();
        }
        let ours = tree.each().filter(|(_, group)| known.contains(*group));
        let pids = ours.filter_map(|(hierarchy, group)| self.view.group_pids(hierarchy, group).ok());
        pids.flat_map(|pids| pids.to_vec()).collect()
    }

    /// Groups that look like a container's and that nobody has claimed: an orphan whose bundle, shim and runc
    /// state are all gone (or hidden from us) is told by its root file system.
    pub(super) fn unclaimed_groups(&mut self) {
        let view = self.view;
        let (Ok(tree), Ok(processes)) = (view.cgroups(), view.processes()) else { return };
        let known: HashSet<PathBuf> =
            self.containers.values().flat_map(|c| c.cgroups.iter().cloned()).collect();
        let mut judged = HashSet::new();
        for (hierarchy, group) in tree.each() {
            let Some(id) = group.file_name().and_then(|n| n.to_str()).and_then(groups::container_of) else {
                continue;
            };
            if known.contains(group) || self.foreign_ids.contains(id) || judged.contains(group) {
                continue;
            }
            let pids = match view.group_pids(hierarchy, group) {
                Ok(pids) => pids,
                Err(why) => {
                    self.blind.push(Blind::new(format!("cgroup {}", text::show(group)), why));
                    continue;
                }
            };
            let alive = pids.iter().filter_map(|pid| processes.get(*pid)).filter(|p| p.alive());
            // One that ends while it is looked at tells nothing; the next one may.
            let verdict = alive.map(|p| self.whose(p, processes)).find(|w| !matches!(w, Whose::Gone));
            let Some(verdict) = verdict else { continue };
            judged.insert(group.to_path_buf());
            match verdict {
                Whose::Gone => {}
                Whose::Ours => {
                    let id = ContainerId { namespace: "k8s.io".into(), id: id.to_owned() };
                    self.claim(id, Bundle::default(), Proof::RootFs).cgroups.push(group.to_path_buf());
                }
                Whose::Foreign => {}
                Whose::Unknown(why) => {
                    let hidden = self.runc_hidden.as_deref().unwrap_or("no runc state, no parent shim");
                    let why = format!("whose it is cannot be told: {hidden}; {why}");
                    self.blind.push(Blind::new(format!("container group {}", text::show(group)), why));
                }
            }
        }
    }

    fn whose(&self, process: &Proc, processes: &Processes) -> Whose {
        let parent = processes.get(process.parent);
        if let Some(args) = processes.shim(process.parent)
            && args.address != self.inside.address
        {
            return Whose::Foreign;
        }
        let unit = parent.filter(|p| processes.is_shim(p.id.pid)).and_then(|p| self.view.unit_of(p.id.pid));
        if unit.is_some_and(|unit| unit != self.snap.instance) {
            return Whose::Foreign;
        }
        let file = PathBuf::from(format!("/proc/{}/mountinfo", process.id.pid));
        let table = match self.view.host.read(&file) {
            Ok(bytes) => mountinfo::parse(&bytes),
            // EINVAL is what the kernel says of one that is about to go.
            Err(e) if e.is_gone() || e.errno() == Some(nix::libc::EINVAL) => return Whose::Gone,
            Err(e) => return Whose::Unknown(e.to_string()),
        };
        let snapshots = self.inside.root.join("io.containerd.snapshotter.v1.overlayfs/snapshots");
        // An overlay prints the spelling that it was given.
        let snapshots = self.inside.spellings(&snapshots);
        let root = table.mounts.iter().rev().find(|m| m.point == Path::new("/"));
        let upper = root.filter(|m| m.fstype == "overlay").and_then(|m| overlay_upper(&m.options));
        match upper {
            Some(upper)
                if snapshots.iter().any(|s| upper.starts_with(s)) && self.same_pid_namespace(process) =>
            {
                match &self.sibling {
                    Some(sibling) if unit.is_none() => {
                        Whose::Unknown(format!("the instance '{sibling}' has the same paths"))
                    }
                    _ => Whose::Ours,
                }
            }
            _ => Whose::Foreign,
        }
    }

    /// The same path in another guest's mount namespace is another directory. A guest's own containers are in a
    /// PID namespace at least two levels down; a container of ours is at most one below us.
    fn same_pid_namespace(&self, process: &Proc) -> bool {
        let depth = |pid| self.view.pid_namespace_depth(pid);
        match (depth(None), depth(Some(process.id.pid))) {
            (Some(own), Some(its)) => its == own || its == own + 1,
            _ => false,
        }
    }
}

enum Whose {
    Gone,
    Ours,
    Foreign,
    Unknown(String),
}

/// The `upperdir=` of an overlay's options; the kernel prints the whole path there.
fn overlay_upper(options: &[u8]) -> Option<PathBuf> {
    let upper = options.split(|b| *b == b',').find_map(|o| o.strip_prefix(b"upperdir="))?;
    Some(PathBuf::from(OsStr::from_bytes(upper)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overlay_upper_dirs() {
        let options = b"rw,lowerdir=/a:/b,upperdir=/var/snap/m/common/x/fs,workdir=/w";
        assert_eq!(overlay_upper(options).unwrap(), Path::new("/var/snap/m/common/x/fs"));
        assert!(overlay_upper(b"rw,lowerdir=/a").is_none());
    }
}
