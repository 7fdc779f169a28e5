//! Processes that have lost all that would tell whose they are: their shim, their bundle, and a group with a container's name.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use super::gather::Gather;
use super::rootfs::RootFs;
use crate::error::Blind;
use crate::linux::cgroup::{full, group};
use crate::linux::proc::Proc;
use crate::order;
use crate::reason::Reason;
use crate::residue::witness::{Proven, Witness};
use crate::runtime::bundle::Bundle;
use crate::runtime::processes::Processes;
use crate::runtime::{ContainerId, groups};
use crate::scope::Evidence;
use crate::snap::units;
use crate::text;
use crate::view::View;

impl Gather<'_> {
    /// Processes in no group that is known, which init has inherited and which have a mount namespace of their own: their root
    /// tells whose they are. Each was the first process of a container, so each counts as a container and is asked to end.
    pub(super) fn lost_processes(&mut self, processes: &Processes, accounted: &HashSet<i32>) {
        let own = self.view.mount_namespace("self");
        let inherited =
            |p: &&Proc| p.parent == 1 && !p.kernel && p.id.pid != 1 && !accounted.contains(&p.id.pid);
        // Where confinement hides the namespace, the mount table tells as much.
        let apart =
            |p: &&Proc| self.view.mount_namespace(&p.id.pid.to_string()).is_none_or(|its| Some(its) != own);
        let (mut lost, mut untold) = (Vec::new(), Vec::new());
        for process in processes.iter().filter(inherited).filter(apart) {
            match self.root_of(process, processes) {
                RootFs::Ours => lost.push(process.clone()),
                RootFs::Gone | RootFs::Elsewhere => {}
                root => untold.push((process, root)),
            }
        }
        self.tell_lost(untold);
        order::sort_by_key(&mut lost, |p| p.id.pid);
        let mut inhabitants: HashMap<PathBuf, usize> = HashMap::new();
        for group in lost.iter().flat_map(|p| self.view.membership(p.id.pid)) {
            *inhabitants.entry(group).or_default() += 1;
        }
        for process in lost {
            let groups = self.view.membership(process.id.pid);
            // A group with several of them is no single container's: its name is no ID, and it is not killed as a whole.
            let alone =
                |group: &&PathBuf| inhabitants.get(*group) == Some(&1) && !groups::is_open_to_others(group);
            let (alone, crowded): (Vec<_>, Vec<_>) = groups.iter().partition(alone);
            let name = |group: &&PathBuf| {
                let name = group.file_name().and_then(|n| n.to_str())?;
                crate::runtime::shim::name(name.strip_suffix(".scope").unwrap_or(name).as_bytes())
            };
            let id = alone.iter().find_map(name).unwrap_or_else(|| format!("process-{}", process.id.pid));
            let id = ContainerId { namespace: "k8s.io".into(), id: id.into() };
            let wholly = |group: &&&PathBuf| self.is_wholly_ours(group, processes);
            // Nor is one in a manager's place, where it may put others.
            let (managed, alone): (Vec<_>, Vec<_>) =
                alone.iter().filter(wholly).partition(|group| groups::is_of_a_manager(group));
            let crowded: Vec<_> = crowded.iter().filter(wholly).chain(managed).collect();
            alone.into_iter().for_each(|group| self.own_orphan(id.clone(), group));
            let container = self.claim(id, Bundle::default(), Evidence::RootFs);
            container.witnesses.insert(Witness::RootOnSnapshot);
            container.strays.push(Proven::by(Witness::RootOnSnapshot, process.id));
            // Such a group goes, too, once they have ended and it is empty: nobody else is in it.
            container.cgroups.extend(crowded.into_iter().map(|group| group.to_path_buf()));
        }
    }

    /// Lost processes that may be ours: nobody ends them, and nobody is silent about them. Where not even the mount table can
    /// be read, that is so of every daemon of the machine, and the place decides: whoever is where systemd puts what it
    /// starts is systemd's.
    fn tell_lost(&mut self, mut untold: Vec<(&Proc, RootFs)>) {
        const MAX_TOLD: usize = 20;
        if untold.is_empty() {
            return;
        }
        order::sort_by_key(&mut untold, |(process, _)| process.id.pid);
        let places = Places::of(self.view);
        let mut told = Vec::new();
        for (process, root) in untold {
            let reads_like_ours = matches!(self.reads_like_ours(process), Ok(true));
            let place = places.of_process(process.id.pid);
            let (why, may_be_ours) = match root {
                RootFs::Unknown(why) => (why, true),
                RootFs::Doubtful(why) => (why, false),
                _ => ("it has changed its root".to_owned(), false),
            };
            let in_containers_place =
                place.is_some_and(|group| groups::is_containers_place(group) && !self.is_a_users(group));
            if reads_like_ours || place.is_some() {
                let what = format!("process {} ({})", process.id.pid, text::escape(process.comm.as_bytes()));
                let group = place.map_or_else(|| "/".into(), text::show);
                let why = format!(
                    "its parent is gone, it is in the group {group}, and whose it is cannot be told: {why}"
                );
                told.push((
                    may_be_ours && (reads_like_ours || in_containers_place),
                    Blind::new(what, (Reason::Unproven, why)),
                ));
            }
        }
        let rest = told.split_off(told.len().min(MAX_TOLD));
        if !rest.is_empty() {
            let more = Blind::new(
                "processes",
                (Reason::TooMany, format!("{} more without parents cannot be told", rest.len())),
            );
            told.push((rest.iter().any(|(may_be_ours, _)| *may_be_ours), more));
        }
        for (may_be_ours, blind) in told {
            let list = if may_be_ours { &mut self.blind } else { &mut self.doubts };
            list.push(blind);
        }
    }

    /// True if every process in a group has its root on our snapshots, and the group is none that everybody is in.
    fn is_wholly_ours(&self, group: &Path, processes: &Processes) -> bool {
        let of_all = group.components().count() < 2 || groups::is_open_to_others(group);
        // kubelet makes none where containers have theirs: one that is called so there is a container's (`podinfo`).
        let of_container = |above: &Path| groups::is_a_pods(above) || above == Path::new("/k8s.io");
        let is_kubelets = groups::is_kubelets(group) && !group.parent().is_some_and(of_container);
        if of_all || is_kubelets {
            return false;
        }
        self.pids_of(group).is_ok_and(|pids| {
            let mut alive = pids.iter().filter_map(|pid| processes.get(*pid)).filter(|p| p.alive());
            alive.all(|p| matches!(self.root_of(p, processes), RootFs::Ours))
        })
    }
}

/// In which groups processes are, as far as that may matter: none that systemd has made for what it starts, and none of a
/// container's name, which is judged as one.
struct Places<'a> {
    groups: HashMap<i32, &'a Path>,
    /// The processes that are in no group of any hierarchy, if systemd runs, which leaves nothing there.
    grouped: Option<HashSet<i32>>,
}

impl<'a> Places<'a> {
    fn of(view: &'a View) -> Places<'a> {
        let mut places = Places { groups: HashMap::new(), grouped: None };
        let Ok(tree) = view.cgroups() else { return places };
        let mut grouped = HashSet::new();
        for (hierarchy, at) in tree.each() {
            let named =
                at.iter().filter_map(|name| name.to_str()).any(|name| groups::container_of(name).is_some());
            let own = || group::own_pids(view.host, &full(&hierarchy.point, at)).unwrap_or_default();
            if at.components().count() == 2 {
                grouped.extend(view.group_pids(hierarchy, at).iter().flat_map(|pids| pids.iter().copied()));
            }
            if !named && !groups::is_a_units(at) {
                places.groups.extend(own().into_iter().map(|pid| (pid, at)));
            }
        }
        places.grouped = units::has_systemd(view.host).then_some(grouped);
        places
    }

    /// The group that a process is in, or the topmost; none where nothing says that it could be a container's.
    fn of_process(&self, pid: i32) -> Option<&Path> {
        let ungrouped = self.grouped.as_ref().is_some_and(|grouped| !grouped.contains(&pid));
        self.groups.get(&pid).copied().or(ungrouped.then_some(Path::new("/")))
    }
}

#[cfg(test)]
mod tests {
    use crate::scope::tests::{CGROUPS, STAT, gathered, root_on, tree};

    /// How many doubts, and how much that is blind, one process makes that has lost all.
    fn told(group: &str, table: (&str, &str), namespace: &str, systemd: bool) -> (usize, usize) {
        let procs = format!("sys/fs/cgroup{group}/cgroup.procs");
        let mut files = vec![
            CGROUPS,
            ("proc/self/status", "NSpid:\t9\n"),
            (&procs, "61\n"),
            ("proc/61/status", "NSpid:\t61\t1\n"),
            ("proc/61/cmdline", ""),
            table,
        ];
        let stat = format!("61 {STAT}");
        files.push(("proc/61/stat", &stat));
        files.extend(systemd.then_some(("run/systemd/system/x", "")));
        let dir = tree(&files);
        for (pid, user) in
            [("self", "user:[1]"), ("61", namespace)].into_iter().filter(|(_, ns)| !ns.is_empty())
        {
            std::fs::create_dir_all(dir.path().join("proc").join(pid).join("ns")).unwrap();
            std::os::unix::fs::symlink(user, dir.path().join("proc").join(pid).join("ns/user")).unwrap();
        }
        let scope = gathered(&dir);
        (scope.doubts.len(), scope.blind.len())
    }

    #[test]
    fn of_processes_that_nobody_can_read_those_are_told_that_systemd_has_not_started() {
        let hidden = ("proc/61/mountinfo/x", "");
        for (group, systemd, expected) in [
            ("/system.slice/cron.service", true, (0, 0)),
            ("/user.slice/user-1000.slice/session-3.scope", true, (0, 0)),
            ("/machine.slice/libpod-1.scope", true, (0, 0)),
            ("/azure.slice/azure-walinux.slice/agent.service", true, (0, 0)),
            ("/odd/web", true, (1, 0)),
            ("/odd.slice/cri-containerd-web.scope", true, (1, 0)),
            ("/k8s.io/web", true, (0, 1)),
            ("/kubepods.slice/kubepods-pod1.slice/cri-containerd-web.scope", true, (0, 1)),
            // systemd leaves nothing in no group; elsewhere all may be there.
            ("", true, (1, 0)),
            ("", false, (0, 0)),
        ] {
            assert_eq!(told(group, hidden, "", systemd), expected, "{group}");
        }
    }

    #[test]
    fn a_lost_process_on_our_snapshots_is_told_wherever_it_is() {
        let (root, group) = (root_on(1), "/system.slice/x.service");
        let table = ("proc/61/mountinfo", &*root);
        assert_eq!(told(group, table, "", true), (0, 1), "its user namespace is hidden");
        assert_eq!(told(group, table, "user:[2]", true), (1, 0), "it is another");
        assert_eq!(told(group, table, "user:[1]", true), (0, 0), "it is ours to end");
        let elsewhere = ("proc/61/mountinfo", "1 0 0:9 / / rw - ext4 /dev/x rw\n");
        assert_eq!(told("/odd/web", elsewhere, "", true), (0, 0));
        let changed = ("proc/61/mountinfo", "1 0 0:9 / /x rw - ext4 /dev/x rw\n");
        assert_eq!((told(group, changed, "", true), told("/odd/web", changed, "", true)), ((0, 0), (1, 0)));
    }
}
