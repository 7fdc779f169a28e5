//! Network namespaces that are bound in directories that only the snap writes, and that nobody is in. docker's swarm makes such
//! ones for its networks and balancers, and no container of ours is ever in them.

use std::collections::BTreeSet;
use std::path::Path;

use crate::linux::netns;
use crate::order;
use crate::scope::Scope;
use crate::scope::netns::Machine;
use crate::view::View;

/// Their numbers. None where anybody cannot be asked where he is.
pub(super) fn gather(view: &View, scope: &Scope) -> Vec<u64> {
    let Ok(table) = view.own_mounts() else { return Vec::new() };
    let own = |path: &Path| scope.snap.owns_at_run(path) || scope.roots.is_own(&scope.snap, path);
    let namespaces = table.mounts.iter().filter_map(|mount| Some((netns::of_mount(mount)?, mount.point())));
    let mut bound: Vec<u64> = namespaces.filter(|(_, point)| own(point)).map(|(inode, _)| inode).collect();
    if bound.is_empty() {
        return bound;
    }
    order::sort(&mut bound);
    bound.dedup();
    let mut inhabited = BTreeSet::new();
    let (_, hidden) = Machine::of(view, table).strangers(scope, &[], &mut inhabited);
    bound.retain(|inode| !hidden && !inhabited.contains(inode));
    bound
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{file, scope_of};
    use crate::linux::host::Host;
    use crate::scope::tests::STAT;
    use std::os::unix::fs::symlink;

    #[test]
    fn in_directories_of_the_snap_where_nobody_is() {
        let dir = tempfile::tempdir().unwrap();
        let bound = |inode: u64, at: &str| format!("{inode} 1 0:4 net:[{inode}] {at} rw - nsfs nsfs rw\n");
        let table = [
            bound(3, "/run/snap.microk8s/netns/1-a"),
            bound(4, "/var/snap/microk8s/common/run/lb_b"),
            bound(5, "/run/snap.microk8s/netns/c"),
            bound(6, "/run/netns/cni-d"),
            bound(7, "/run/snap.microk8s/netns/default"),
        ];
        file(dir.path(), "proc/self/mountinfo", table.concat());
        let process = |pid: &str, inode: u64| {
            file(dir.path(), &format!("proc/{pid}/stat"), format!("{pid} {STAT}"));
            file(dir.path(), &format!("proc/{pid}/ns/x"), "");
            let link = dir.path().join("proc").join(pid).join("ns/net");
            let _ = std::fs::remove_file(&link);
            symlink(format!("net:[{inode}]"), link).unwrap();
        };
        ["1", "self"].iter().for_each(|pid| process(pid, 7));
        process("50", 5);
        let host = Host::at(dir.path());
        let found = || gather(&View::new(&host, None), &scope_of(&[]));
        assert_eq!(found(), [3, 4]);
        process("51", 4);
        assert_eq!(found(), [3]);
        // What is no number of a namespace is no answer.
        let link = dir.path().join("proc/51/ns/net");
        std::fs::remove_file(&link).unwrap();
        symlink("hidden", link).unwrap();
        assert!(found().is_empty());
    }
}
