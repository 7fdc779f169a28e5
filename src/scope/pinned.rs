//! Namespaces of containers of ours that somebody has bound to a file: with a mount namespace stays all that was mounted in it.
//! Once the processes are gone, nothing tells any more that they were ours.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use crate::linux::mountinfo::Mount;
use crate::residue::witness::Proven;
use crate::scope::Scope;
use crate::view::View;

/// Where snapd binds those of its snaps.
const SNAPD: &str = "/run/snapd/ns";

/// The kind of namespace that a mount shows, unless that is a network's.
pub fn kind(mount: &Mount) -> Option<&str> {
    let kind = mount.root().to_str()?.split_once(":[")?.0;
    (mount.fstype() == "nsfs" && kind != "net" && !mount.point().starts_with(SNAPD)).then_some(kind)
}

/// Their names, such as `mnt:[4026532336]`.
pub(super) fn gather(view: &View, scope: &Scope) -> HashSet<PathBuf> {
    let Ok(table) = view.own_mounts() else { return HashSet::new() };
    let kinds: HashSet<&str> = table.mounts.iter().filter_map(kind).collect();
    let Some(tree) = view.cgroups().as_ref().ok().filter(|_| !kinds.is_empty()) else {
        return HashSet::new();
    };
    let name = |pid: &str, kind: &str| {
        std::fs::read_link(view.host.path(Path::new(&format!("/proc/{pid}/ns/{kind}")))).ok()
    };
    // A container may share the host's.
    let hosts =
        ["self", "1"].into_iter().flat_map(|pid| kinds.iter().filter_map(move |kind| name(pid, kind)));
    let hosts: HashSet<PathBuf> = hosts.collect();
    let existing = tree.index();
    let groups = scope.containers.iter().flat_map(|c| &c.proven_cgroups).map(Proven::get);
    let pids = groups.flat_map(|group| view.pids_in(&existing, group));
    let of_process = |pid: i32| kinds.iter().filter_map(move |kind| name(&pid.to_string(), kind));
    pids.flat_map(of_process).filter(|name| !hosts.contains(name)).collect()
}
