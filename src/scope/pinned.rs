//! Namespaces of containers of ours that somebody has bound to a file: with a mount namespace stays all that was mounted in it.
//! Once the processes are gone, nothing tells any more that they were ours.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use crate::error::Blind;
use crate::linux::mountinfo::Mount;
use crate::residue::witness::Proven;
use crate::scope::Scope;
use crate::text::show;
use crate::view::View;

/// Where snapd binds those of its snaps.
const SNAPD: &str = "/run/snapd/ns";

/// The kind of namespace that a mount shows, unless that is a network's.
pub fn kind(mount: &Mount) -> Option<&str> {
    let kind = mount.root().to_str()?.split_once(":[")?.0;
    (mount.fstype() == "nsfs" && kind != "net" && !mount.point().starts_with(SNAPD)).then_some(kind)
}

/// Their names, such as `mnt:[4026532336]`. Where a process of ours does not show its own, one that is bound may be its, and is told.
pub(super) fn gather(view: &View, scope: &mut Scope) -> HashSet<PathBuf> {
    let Ok(table) = view.own_mounts() else { return HashSet::new() };
    let bound: Vec<(&Mount, &str)> = table.mounts.iter().filter_map(|m| Some((m, kind(m)?))).collect();
    let kinds: HashSet<&str> = bound.iter().map(|(_, kind)| *kind).collect();
    let Some(tree) = view.cgroups().as_ref().ok().filter(|_| !kinds.is_empty()) else {
        return HashSet::new();
    };
    let name = |pid: &str, kind: &str| view.host.link(&Path::new("/proc").join(pid).join("ns").join(kind));
    // A container may share the host's.
    let hosts =
        ["self", "1"].into_iter().flat_map(|pid| kinds.iter().filter_map(move |kind| name(pid, kind).ok()));
    let hosts: HashSet<PathBuf> = hosts.collect();
    let existing = tree.index();
    let groups = scope.containers.iter().flat_map(|c| &c.proven_cgroups).map(Proven::get);
    let (mut found, mut hidden) = (HashSet::new(), HashMap::new());
    for pid in groups.flat_map(|group| view.pids_in(&existing, group)) {
        for kind in &kinds {
            match name(&pid.to_string(), kind) {
                Ok(name) => _ = found.insert(name),
                Err(e) if e.is_gone() => {}
                Err(e) => _ = hidden.entry(*kind).or_insert(e),
            }
        }
    }
    found.retain(|name| !hosts.contains(name));
    let untold = bound.into_iter().filter(|(m, _)| !found.contains(m.root()) && !hosts.contains(m.root()));
    scope.doubts.extend(untold.filter_map(|(mount, kind)| {
        let what = format!("whose namespace ({kind}) is bound to {}", show(mount.point()));
        Some(Blind::new(what, hidden.get(kind)?))
    }));
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{file, scope_of};
    use crate::linux::host::Host;

    #[test]
    fn one_that_a_process_of_ours_may_have_is_told_where_its_own_are_hidden() {
        let dir = tempfile::tempdir().unwrap();
        let table = "1 0 8:1 / / rw - ext4 /dev/a rw\n2 1 0:5 / /cg rw - cgroup2 c rw\n\
                     3 1 0:4 uts:[7] /bound rw - nsfs nsfs rw\n4 1 0:4 uts:[1] /own rw - nsfs nsfs rw\n";
        file(dir.path(), "proc/self/mountinfo", table);
        let link = |pid: &str, name: &str| {
            file(dir.path(), &format!("proc/{pid}/ns/x"), "");
            std::os::unix::fs::symlink(name, dir.path().join(format!("proc/{pid}/ns/uts"))).unwrap();
        };
        link("self", "uts:[1]");
        let mut scope = scope_of(&["a"]);
        scope.containers[0].prove_in("/a");
        file(dir.path(), "cg/a/cgroup.procs", "9\n");
        let mut found = || {
            let host = Host::at(dir.path());
            let found = gather(&View::new(&host, None), &mut scope);
            let told: Vec<String> = scope.doubts.drain(..).map(|doubt| doubt.what).collect();
            (found.len(), told.join(" "))
        };
        assert_eq!(found(), (0, String::new()), "it has ended meanwhile");
        file(dir.path(), "proc/9/ns/uts", "not to be read as a link");
        assert_eq!(found(), (0, "whose namespace (uts) is bound to /bound".into()));
        std::fs::remove_file(dir.path().join("proc/9/ns/uts")).unwrap();
        link("9", "uts:[8]");
        assert_eq!(found(), (1, String::new()), "it has another");
    }
}
