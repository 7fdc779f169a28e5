//! Apps of the snap that run in scopes of their own (`snap run`). snapd stops services before a remove hook runs; apps it ends
//! only where it was told `--terminate`, and after the hook.
//!
//! So an app that somebody may still use is told, and closes no gate: what it works with snapd deletes in any case. What root's
//! app has left behind ends.

use std::collections::{BTreeMap, HashSet};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::error::Blind;
use crate::linux::cgroup::{CgroupTree, full};
use crate::linux::proc::{Proc, has_terminal};
use crate::order;
use crate::reason::Reason;
use crate::residue::{Residue, Service};
use crate::runtime::processes::Processes;
use crate::scope::Scope;
use crate::snap::units;
use crate::text::{escape, few, show};
use crate::view::View;

/// What runs in scopes of the snap.
#[derive(Default)]
pub struct Apps {
    /// Nobody waits for it, nor sees it.
    pub left: Vec<Residue>,
    /// Somebody may use it.
    pub used: Vec<Blind>,
}

/// What runs in scopes of the snap, but for those in which we run, or who has started us. Shims are none of it.
pub fn find(view: &View, scope: &Scope, processes: &Processes, tree: &CgroupTree) -> Apps {
    const MAX_TOLD: usize = 20;
    let mut apps = Apps::default();
    let instance = &scope.snap.instance;
    let mut groups: BTreeMap<&Path, (PathBuf, HashSet<i32>)> = BTreeMap::new();
    for (hierarchy, group) in tree.each().filter(|(_, group)| units::scope_of(group, instance).is_some()) {
        let directory = full(&hierarchy.point, group);
        match view.group_pids(hierarchy, group) {
            Ok(pids) => groups.entry(group).or_insert((directory, HashSet::new())).1.extend(pids.iter()),
            Err(why) => apps.used.push(Blind::new(show(&directory), why)),
        }
    }
    if groups.is_empty() {
        return apps;
    }
    let us = ourselves_and_above(view, processes);
    let (own_depth, snaps_own) = (view.pid_namespace_depth(None), namespace(view));
    for (group, (directory, pids)) in groups.iter().filter(|(_, (_, pids))| pids.is_disjoint(&us)) {
        let Some(unit) = units::scope_of(group, instance) else { continue };
        let is_app = |p: &&Proc| {
            let pid = p.id.pid;
            // A guest of this machine may have any group in its own.
            let is_here = own_depth.is_some() && view.pid_namespace_depth(Some(pid)) == own_depth;
            let is_the_snaps = || unit.is_roots || is_the_snaps(view, scope, pid, snaps_own.as_deref());
            is_here && !processes.is_shim(pid) && is_the_snaps()
        };
        let alive = pids.iter().filter_map(|pid| processes.get(*pid)).filter(|p| p.alive());
        let mut app: Vec<&Proc> = alive.filter(is_app).collect();
        order::sort_by_key(&mut app, |p| p.id);
        if app.is_empty() {
            continue;
        }
        // Another program is somebody's work, begun in a shell of the snap's, say.
        let is_left = |p: &&Proc| is_its_program(view, scope, p.id.pid) && is_left(view, p, pids);
        if unit.is_roots && app.iter().all(is_left) {
            let processes = app.iter().map(|process| process.id).collect();
            apps.left.push(Residue::Service(Service { name: unit.name.to_owned(), processes }.into()));
        } else if apps.used.len() < MAX_TOLD {
            apps.used.push(used(directory, &app));
        } else if apps.used.len() == MAX_TOLD {
            apps.used.push(Blind::new("apps of the snap", (Reason::TooMany, "more of them run")));
        }
    }
    apps
}

/// True if who started a process has ended or is in the same scope, and it has no terminal where somebody could see it.
fn is_left(view: &View, process: &Proc, scope: &HashSet<i32>) -> bool {
    let stat = view.host.read_piece(Path::new(&format!("/proc/{}/stat", process.id.pid)));
    (process.parent == 1 || scope.contains(&process.parent)) && stat.is_ok_and(|stat| !has_terminal(&stat))
}

/// What tells of a process in a user's scope that it is the snap's: its program, or the mount namespace that snapd has made.
fn is_the_snaps(view: &View, scope: &Scope, pid: i32, snaps_own: Option<&Path>) -> bool {
    is_its_program(view, scope, pid)
        || snaps_own.is_some_and(|own| view.mount_namespace(&pid.to_string()).is_some_and(|its| its == own))
}

fn is_its_program(view: &View, scope: &Scope, pid: i32) -> bool {
    let of_all_revisions = scope.snap.dir.parent().unwrap_or(&scope.snap.dir);
    let program = view.host.link(Path::new(&format!("/proc/{pid}/exe")));
    program.is_ok_and(|program| program.starts_with(of_all_revisions))
}

/// The name of the snap's mount namespace, if it is another than the host's. A hook runs in it.
fn namespace(view: &View) -> Option<PathBuf> {
    if !view.in_init_namespace() {
        return view.mount_namespace("self");
    }
    let file = std::fs::metadata(view.snap_namespace.as_ref()?.file()).ok()?;
    Some(format!("mnt:[{}]", file.ino()).into())
}

pub(super) fn ourselves_and_above(view: &View, processes: &Processes) -> HashSet<i32> {
    let own = view.host.link(Path::new("/proc/self")).ok();
    let own = own.and_then(|own| own.to_str()?.parse().ok()).and_then(|own| processes.get(own));
    processes.up_from(own).map(|p| p.id.pid).collect()
}

fn used(directory: &Path, app: &[&Proc]) -> Blind {
    const MAX_NAMED: usize = 10;
    let name = |p: &&Proc| format!("process {} ({})", p.id.pid, escape(p.comm.as_bytes()));
    let names: Vec<String> = app.iter().map(name).collect();
    let pids: Vec<String> = app.iter().take(MAX_NAMED).map(|p| p.id.pid.to_string()).collect();
    let why = format!(
        "{}: somebody has started an app of the snap, and may still use it; 'kill {}' ends it",
        few(&names, MAX_NAMED),
        pids.join(" ")
    );
    Blind::new(show(directory), (Reason::Busy, why))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linux::host::Host;

    const STAT: &str =
        "(x) S 1 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 9876 11 22 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0";

    /// Adds a process to a group of a machine that is a directory.
    fn process(machine: &Path, pid: u32, group: &str, namespace: &str, program: &str) {
        let file = |name: &str, text: &str| crate::fixture::file(machine, name, text);
        file(&format!("cg{group}/cgroup.procs"), &format!("{pid}\n"));
        file(&format!("proc/{pid}/stat"), &format!("{pid} {STAT}\n"));
        file(&format!("proc/{pid}/status"), "NSpid:\t7\n");
        link(machine, &pid.to_string(), "ns/mnt", namespace);
        link(machine, &pid.to_string(), "exe", program);
    }

    fn link(machine: &Path, pid: &str, name: &str, to: &str) {
        let at = machine.join("proc").join(pid).join(name);
        std::fs::create_dir_all(at.parent().unwrap()).unwrap();
        std::os::unix::fs::symlink(to, at).unwrap();
    }

    /// Who is told, in the snap's own mount namespace.
    fn found(machine: &Path) -> (usize, Vec<String>) {
        crate::fixture::file(machine, "proc/self/mountinfo", "1 0 0:1 / /cg rw - cgroup2 c rw\n");
        crate::fixture::file(machine, "proc/self/status", "NSpid:\t1\n");
        let (host, scope) = (Host::at(machine), crate::fixture::scope_of(&[]));
        let view = View::new(&host, None);
        let (processes, tree) = (view.processes().as_ref().unwrap(), view.cgroups().as_ref().unwrap());
        let apps = find(&view, &scope, processes, tree);
        (apps.left.len(), apps.used.into_iter().map(|blind| blind.what).collect())
    }

    #[test]
    fn in_a_users_scope_the_program_or_the_mount_namespace_tells_that_it_is_the_snaps() {
        let session = "/user.slice/user-9.slice/user@9.service/app.slice";
        let dir = tempfile::tempdir().unwrap();
        for (pid, namespace) in [("self", "mnt:[2]"), ("1", "mnt:[1]")] {
            link(dir.path(), pid, "ns/mnt", namespace);
        }
        for (pid, namespace, program) in [
            (10, "mnt:[1]", "/snap/microk8s/7/kubectl"),
            (11, "mnt:[2]", "/bin/bash"),
            (12, "mnt:[1]", "/bin/bash"),
            (13, "mnt:[1]", "/snap/microk8s_two/7/kubectl"),
        ] {
            process(dir.path(), pid, &format!("{session}/snap.microk8s.a-{pid}.scope"), namespace, program);
        }
        let told = [10, 11].map(|pid| format!("/cg{session}/snap.microk8s.a-{pid}.scope"));
        assert_eq!(found(dir.path()), (0, told.to_vec()));
        let of_root = "/system.slice/snap.microk8s.a-20.scope";
        process(dir.path(), 20, of_root, "mnt:[1]", "/snap/microk8s/7/kubectl");
        assert_eq!(found(dir.path()), (1, told.to_vec()));
        process(dir.path(), 21, of_root, "mnt:[1]", "/usr/bin/rsync");
        let (left, told) = found(dir.path());
        assert_eq!((left, told.len()), (0, 3), "somebody's work, begun in a shell of the snap's");
    }

    #[test]
    fn many_are_told_as_that() {
        let dir = tempfile::tempdir().unwrap();
        for pid in 100..130 {
            let group = format!("/user.slice/x/snap.microk8s.a-{pid}.scope");
            process(dir.path(), pid, &group, "mnt:[1]", "/snap/microk8s/7/kubectl");
        }
        let (left, told) = found(dir.path());
        assert_eq!((left, told.len(), told[20].as_str()), (0, 21, "apps of the snap"));
    }
}
