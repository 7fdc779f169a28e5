//! containerd's state directory where others would use it, too: what goes with the last of ours, and why it stays.

use std::path::{Path, PathBuf};

use crate::error::Blind;
use crate::order;
use crate::reason::Reason;
use crate::residue::{PathKind, Residue};
use crate::runtime::activated;
use crate::scope::{BystanderKind, Scope};
use crate::text::{few, show};
use crate::view::View;

/// So many entries of the state directory are named.
const MOST_NAMED: usize = 4;

/// What the mount manager of our containerd wrote down, where all of it is of ours, in the directory that others would use, too.
pub fn mounts_made(view: &View, scope: &Scope) -> Option<Residue> {
    let roots = &scope.roots;
    let directory = roots.state.join(activated::DIRECTORY);
    let file = directory.join(activated::FILE);
    let is_free = |path: &Path| view.host.list(path).map_or_else(|e| e.is_gone(), |names| names.is_empty());
    let may_go = roots.shared.contains(&roots.state)
        && view.host.stat(&file).is_ok_and(|it| it.is_file())
        && !scope.snap.is_younger_than(view.host, &directory)
        && is_free(&directory.join(activated::TARGETS));
    let ours = |id: &_| scope.containers.iter().any(|own| own.id == *id && scope.counts_as_ours(own));
    let is_ours = || activated::are_all(&view.host.path(&file), &ours).is_ok_and(|all| all);
    (may_go && is_ours()).then(|| Residue::path(file, PathKind::RuntimeState))
}

/// Why the state directory stays that others would use, too, where a container of another's is not why, and is told as such.
pub fn stays(
    view: &View,
    scope: &Scope,
    candidates: &[PathBuf],
    goes: &dyn Fn(&Path) -> bool,
) -> Option<Blind> {
    let state = &scope.roots.state;
    let is_there = scope.roots.shared.contains(state) && view.host.stat(state).is_ok_and(|it| it.is_dir());
    let is_anothers = scope.bystanders.iter().any(|other| other.kind == BystanderKind::Container);
    if !is_there || goes(state) || is_anothers || scope.snap.is_younger_than(view.host, state) {
        return None;
    }
    // A mount point is its administrator's.
    let mounts = view.own_mounts().as_ref().map_or(&[][..], |table| &table.mounts);
    let is_mount_point = |path: &Path| mounts.iter().any(|mount| mount.point() == path);
    let mut keep = Vec::new();
    let mut open = vec![state.clone()];
    while let Some(directory) = open.pop() {
        let names = view.host.list(&directory).unwrap_or_default();
        let mut below: Vec<PathBuf> = names.iter().map(|name| directory.join(name)).collect();
        below.retain(|path| !goes(path));
        if below.is_empty() && !is_mount_point(&directory) {
            keep.push(directory);
            continue;
        }
        for path in below {
            let all = if candidates.contains(&path) { &mut open } else { &mut keep };
            all.push(path);
        }
    }
    if keep.is_empty() {
        return None;
    }
    order::sort(&mut keep);
    let named: Vec<String> = keep.iter().map(|path| format!("'{}'", show(path))).collect();
    let why = format!("nothing proves whose these are: {}", few(&named, MOST_NAMED));
    Some(Blind::new(format!("why {} is still there", show(state)), (Reason::Unproven, why)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::file;
    use crate::linux::host::Host;
    use crate::scope::Bystander;
    use std::fs;

    #[test]
    fn what_is_there_is_told_by_name_unless_it_is_known_to_be_anothers() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["io.containerd.x/a", "io.containerd.x/b", "s/1", "own", "runc/k8s.io/a/state.json"] {
            file(dir.path(), &format!("run/containerd/{name}"), "");
        }
        let host = Host::at(dir.path());
        let mut scope = crate::fixture::scope_of(&["a"]);
        let told = |scope: &Scope| {
            let below = |name: &str| scope.roots.state.join(name);
            let candidates = ["io.containerd.x", "s", "runc", "runc/k8s.io"].map(below);
            let goes = |path: &Path| *path == below("io.containerd.x/a") || *path == below("runc/k8s.io/a");
            stays(&View::new(&host, None), scope, &candidates, &goes).map(|blind| blind.why)
        };
        scope.roots.state = "/run/containerd".into();
        assert_eq!(told(&scope), None, "the snap's own");
        scope.roots.shared = vec![scope.roots.state.clone()];
        let all = "'/run/containerd/io.containerd.x/b', '/run/containerd/own', '/run/containerd/runc/k8s.io', '/run/containerd/s/1'";
        let why = "nothing proves whose these are: ";
        assert_eq!(told(&scope), Some(format!("{why}{all}")));
        file(dir.path(), "run/containerd/t", "");
        assert_eq!(told(&scope), Some(format!("{why}{all} and 1 more")));
        scope.bystanders = vec![Bystander {
            kind: BystanderKind::Container,
            what: "".into(),
            reason: Reason::Anothers,
            why: "".into(),
        }];
        assert_eq!(told(&scope), None);
    }

    #[test]
    fn an_administrators_mount_point_is_no_leftover_once_it_is_empty() {
        let dir = tempfile::tempdir().unwrap();
        file(dir.path(), "mnt/big/run/runc/a", "");
        let host = Host::at(dir.path());
        let mut scope = crate::fixture::scope_of(&["a"]);
        scope.roots.state = "/mnt/big/run".into();
        scope.roots.shared = vec![scope.roots.state.clone()];
        let told =
            |goes: bool| stays(&View::new(&host, None), &scope, &[], &|path| goes && path.ends_with("runc"));
        for (mounts, is_told) in [("", true), ("2 1 8:1 /run /mnt/big/run rw - ext4 /dev/sda1 rw\n", false)] {
            file(dir.path(), "proc/self/mountinfo", format!("1 0 0:1 / / rw - tmpfs t rw\n{mounts}"));
            assert_eq!(told(true).is_some(), is_told, "{mounts:?}");
            assert!(told(false).is_some(), "something is in it");
        }
    }

    #[test]
    fn the_mount_managers_database_goes_only_where_nothing_is_mounted_by_it() {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::at(dir.path());
        let mut scope = crate::fixture::scope_of(&["a"]);
        scope.roots.state = "/run/containerd".into();
        let own = dir.path().join("run/containerd").join(activated::DIRECTORY);
        fs::create_dir_all(own.join("t/1")).unwrap();
        fs::write(own.join("mounts.db"), activated::empty()).unwrap();
        let goes = |scope: &Scope| mounts_made(&View::new(&host, None), scope).is_some();
        assert!(!goes(&scope), "the directory is the snap's own, and goes whole");
        scope.roots.shared = vec![scope.roots.state.clone()];
        assert!(!goes(&scope), "something is mounted, or was");
        fs::remove_dir(own.join("t/1")).unwrap();
        assert!(goes(&scope));
        fs::write(own.join("mounts.db"), "nonsense").unwrap();
        assert!(!goes(&scope));
    }
}
