//! One look at the machine: its processes, mount tables and control groups, each read at most once.
//!
//! Finders share a view, so that a survey costs one pass over `/proc`, one over the mount tables and one over
//! the control groups however many steps there are. What changes the machine takes a new view.

use std::cell::{OnceCell, RefCell};
use std::collections::HashMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use crate::error::{Error, Result, Why};
use crate::linux::cgroup::{self, CgroupTree, Hierarchy, Index, group};
use crate::linux::firewall::{self, Firewall, Programs};
use crate::linux::host::Host;
use crate::linux::links::{self, Link};
use crate::linux::mount_namespace::{self, MountNamespace, is_nsfs};
use crate::linux::mountinfo::{self, MountTable};
use crate::linux::proc::{Proc, living_thread};
use crate::order;
use crate::runtime::groups;
use crate::runtime::processes::Processes;
use crate::snap::{Snap, units};

/// By which names the walk through the control groups knows where to expect groups.
const NAMES: cgroup::Names = cgroup::Names {
    of_container: |name| groups::container_of(name).is_some(),
    of_kubelet: groups::is_kubelets,
};

/// The PIDs in a group, or why they cannot be read.
pub type Pids = std::result::Result<Rc<[i32]>, Why>;

/// Where snapd keeps the mount namespaces of snaps, also of those of which nothing runs.
const SNAPD_NAMESPACES: &str = "/run/snapd/ns";

/// One look at the machine. Reads when first asked, then remembers.
pub struct View<'a> {
    /// What is looked at.
    pub host: &'a Host,
    /// The snap's mount namespace, when we are outside of it and know it.
    pub snap_namespace: Option<MountNamespace>,
    hierarchies: Option<Vec<Hierarchy>>,
    processes: OnceCell<Result<Processes>>,
    own: OnceCell<Result<Arc<MountTable>>>,
    init: OnceCell<Result<MountTable>>,
    snap: OnceCell<Result<Option<MountTable>>>,
    cgroups: OnceCell<Result<CgroupTree>>,
    units: OnceCell<HashMap<i32, String>>,
    depths: RefCell<HashMap<Option<i32>, Option<usize>>>,
    groups: RefCell<HashMap<OsString, Group>>,
    links: OnceCell<std::io::Result<Vec<Link>>>,
    firewall: OnceCell<Firewall>,
}

/// What was read of a control group, where anybody has asked.
#[derive(Default)]
struct Group {
    pids: Option<Pids>,
    unpopulated: Option<bool>,
    frozen: Option<bool>,
}

impl<'a> View<'a> {
    /// A new look. `snap_namespace` is the snap's mount namespace, when we are outside of it and know it.
    pub fn new(host: &'a Host, snap_namespace: Option<MountNamespace>) -> View<'a> {
        // Before anything is looked at that a server could keep waiting, which what is mounted tells.
        host.learn_mounts();
        View::unread(host, snap_namespace)
    }

    /// A new look at the machine, and at the snap's own mounts if we are outside of its mount namespace.
    pub fn of_snap(host: &'a Host, snap: &Snap) -> View<'a> {
        let view = View::unread(host, None);
        let processes = Processes::read_beside(host, || host.learn_mounts());
        // The scope needs them first.
        let _ = processes.as_ref().map(Processes::begin_lines);
        let _ = view.processes.set(processes);
        let snap_namespace = view.find_snap_namespace(snap);
        View { snap_namespace, ..view }
    }

    fn unread(host: &'a Host, snap_namespace: Option<MountNamespace>) -> View<'a> {
        View {
            host,
            snap_namespace,
            hierarchies: None,
            processes: OnceCell::new(),
            own: OnceCell::new(),
            init: OnceCell::new(),
            snap: OnceCell::new(),
            cgroups: OnceCell::new(),
            units: OnceCell::new(),
            depths: RefCell::default(),
            groups: RefCell::default(),
            links: OnceCell::new(),
            firewall: OnceCell::new(),
        }
    }

    /// A new look at the same machine, at the end of a round a `thorough` one. Where its control groups are mounted does
    /// not change meanwhile, and is not looked up in a table of thousands of mounts again.
    pub fn again(&self, thorough: bool) -> View<'a> {
        if thorough {
            self.host.forget_mounts();
        }
        let hierarchies = self.cgroups.get().and_then(|tree| Some(tree.as_ref().ok()?.hierarchies.clone()));
        View { hierarchies, ..View::new(self.host, self.snap_namespace.clone()) }
    }

    /// All processes that this `/proc` shows.
    pub fn processes(&self) -> &Result<Processes> {
        self.processes.get_or_init(|| Processes::read(self.host))
    }

    /// Our own mount table.
    pub fn own_mounts(&self) -> &Result<Arc<MountTable>> {
        self.own.get_or_init(|| self.host.own_mounts())
    }

    /// Our own mount table is large where there are many pods, and is read anew when it is asked for next: while they are
    /// ended it changes anyway.
    pub fn forget_mounts(&mut self) {
        self.own.take();
        self.host.forget_mounts();
    }

    /// pid 1's mount table; where that is our own too, its root alone.
    pub fn init_mounts(&self) -> &Result<MountTable> {
        self.init.get_or_init(|| {
            let bytes = self.host.read(Path::new("/proc/1/mountinfo"))?;
            let mut lines = bytes.split(|b| *b == b'\n').map(mountinfo::parse);
            let root = lines.find(|one| root_of(one).is_some()).unwrap_or_default();
            let own = self.own_mounts().as_ref().ok().and_then(|own| root_of(own));
            let same = own.is_some() && own == root_of(&root);
            Ok(if same { root } else { mountinfo::parse(&bytes) })
        })
    }

    /// The snap's mount table, when we run outside of its mount namespace and it still exists.
    pub fn snap_mounts(&self) -> &Result<Option<MountTable>> {
        self.snap.get_or_init(|| match &self.snap_namespace {
            None => Ok(None),
            Some(namespace) => namespace.mounts(self.host),
        })
    }

    /// True if pid 1's table is our own too: by the names of the namespaces or, where those are hidden, by mount
    /// IDs, which are unique across namespaces.
    pub fn in_init_namespace(&self) -> bool {
        if let (Some(own), Some(first)) = (self.mount_namespace("self"), self.mount_namespace("1")) {
            return own == first;
        }
        match (self.own_mounts(), self.init_mounts()) {
            (Ok(own), Ok(first)) => root_of(own).is_some() && root_of(own) == root_of(first),
            _ => false,
        }
    }

    /// The name of a process's mount namespace, if we may know it.
    pub fn mount_namespace(&self, pid: &str) -> Option<PathBuf> {
        mount_namespace::name(self.host, pid)
    }

    /// The directory below /proc that tells a process's root, mounts and namespaces. Where its first thread has ended
    /// before the others, that is another thread's.
    pub fn directory_of(&self, process: &Proc) -> PathBuf {
        let pid = process.id.pid;
        let of_thread = (process.leaderless && self.host.is_live()).then(|| living_thread(pid)).flatten();
        of_thread.unwrap_or_else(|| format!("/proc/{pid}").into())
    }

    fn find_snap_namespace(&self, snap: &Snap) -> Option<MountNamespace> {
        if !self.in_init_namespace() {
            return None;
        }
        let kept = Path::new(SNAPD_NAMESPACES).join(format!("{}.mnt", snap.instance));
        if self.host.is_live() && is_nsfs(&kept) {
            return Some(MountNamespace::Kept(kept));
        }
        self.process_in_snap_namespace(snap).map(MountNamespace::OfProcess)
    }

    /// A process that is in the snap's namespace and not in ours.
    fn process_in_snap_namespace(&self, snap: &Snap) -> Option<i32> {
        let processes = self.processes().as_ref().ok()?;
        let own = self.mount_namespace("self")?;
        let of_unit = |pid: &i32| self.unit_of(*pid) == Some(snap.instance.as_str());
        let mut candidates: Vec<i32> = processes.iter().map(|p| p.id.pid).filter(of_unit).collect();
        order::sort(&mut candidates);
        let elsewhere = |pid: i32| self.mount_namespace(&pid.to_string()).is_some_and(|its| its != own);
        candidates.into_iter().find(|pid| elsewhere(*pid))
    }

    /// In how many PID namespaces a process has a PID, counted from ours: 1 is our own namespace. None is ourselves.
    pub fn pid_namespace_depth(&self, pid: Option<i32>) -> Option<usize> {
        if let Some(known) = self.depths.borrow().get(&pid) {
            return *known;
        }
        let depth = self.read_depth(pid);
        self.depths.borrow_mut().insert(pid, depth);
        depth
    }

    fn read_depth(&self, pid: Option<i32>) -> Option<usize> {
        let pid = pid.map_or("self".into(), |pid| pid.to_string());
        let status = self.host.read_piece(Path::new(&format!("/proc/{pid}/status"))).ok()?;
        let line = status.split(|b| *b == b'\n').find_map(|l| l.strip_prefix(b"NSpid:"))?;
        Some(line.split(u8::is_ascii_whitespace).filter(|f| !f.is_empty()).count())
    }

    /// The control groups of all hierarchies.
    pub fn cgroups(&self) -> &Result<CgroupTree> {
        self.cgroups.get_or_init(|| {
            if let Some(hierarchies) = &self.hierarchies {
                return Ok(cgroup::walk(self.host, hierarchies.clone(), &NAMES));
            }
            match self.own_mounts() {
                Ok(table) => Ok(cgroup::walk(self.host, cgroup::hierarchies(table), &NAMES)),
                Err(e) => Err(Error::Malformed { path: "/sys/fs/cgroup".into(), reason: e.to_string() }),
            }
        })
    }

    /// The PIDs in a group and below it.
    pub fn group_pids(&self, hierarchy: &Hierarchy, group: &Path) -> Pids {
        if self.is_unpopulated(hierarchy, group) {
            return Ok(Rc::default());
        }
        let directory = cgroup::full(&hierarchy.point, group);
        self.of_group(
            &directory,
            |known| &mut known.pids,
            || group::pids(self.host, &directory).map(Rc::from).map_err(Why::from),
        )
    }

    /// The same in all hierarchies that have the group, as far as they can be listed.
    pub fn pids_in(&self, existing: &Index, group: &Path) -> Vec<i32> {
        let listed = existing.hierarchies_of(group).filter_map(|h| self.group_pids(h, group).ok());
        listed.flat_map(|pids| pids.to_vec()).collect()
    }

    /// What is known of a group, read when it is asked for first.
    fn of_group<T: Clone>(
        &self,
        directory: &Path,
        part: impl Fn(&mut Group) -> &mut Option<T>,
        read: impl FnOnce() -> T,
    ) -> T {
        let known =
            self.groups.borrow_mut().get_mut(directory.as_os_str()).and_then(|group| part(group).clone());
        known.unwrap_or_else(|| {
            let now = read();
            let mut groups = self.groups.borrow_mut();
            *part(groups.entry(directory.into()).or_default()) = Some(now.clone());
            now
        })
    }

    /// True if the kernel says that nothing runs anywhere below the topmost group above this one. Once all pods are dead
    /// that is one file to read, not one for each container.
    pub fn is_unpopulated(&self, hierarchy: &Hierarchy, group: &Path) -> bool {
        let Some(topmost) = group.iter().nth(1) else { return false };
        let directory = hierarchy.point.join(topmost);
        let read = || group::is_unpopulated(self.host, hierarchy, &directory);
        self.of_group(&directory, |known| &mut known.unpopulated, read)
    }

    /// True if there is a process in a group or below it, whoever's, or if that cannot be told.
    pub fn is_occupied(&self, hierarchy: &Hierarchy, group: &Path) -> bool {
        group::is_occupied(self.host, hierarchy, &cgroup::full(&hierarchy.point, group))
    }

    /// True if a group is frozen.
    pub fn frozen(&self, hierarchy: &Hierarchy, directory: &Path) -> bool {
        self.of_group(directory, |known| &mut known.frozen, || group::frozen(self.host, hierarchy, directory))
    }

    /// The instance name of the snap in whose unit a process runs. Told from the units' side: a few groups are
    /// listed once, instead of one file read for each process. What runs in another PID namespace runs in no unit of
    /// this machine's systemd, whatever its group is called.
    pub fn unit_of(&self, pid: i32) -> Option<&str> {
        let units = self.units.get_or_init(|| {
            let Ok(tree) = self.cgroups() else { return HashMap::new() };
            let mut units = HashMap::new();
            for (hierarchy, group) in tree.each() {
                let Some(snap) = units::snap_of(group) else { continue };
                let Ok(pids) = self.group_pids(hierarchy, group) else { continue };
                units.extend(pids.iter().map(|pid| (*pid, snap.to_owned())));
            }
            units
        });
        let unit = units.get(&pid)?;
        (self.pid_namespace_depth(Some(pid)) == self.pid_namespace_depth(None)).then_some(unit.as_str())
    }

    /// The links of our network namespace. Only the machine itself has any.
    pub fn links(&self) -> &std::io::Result<Vec<Link>> {
        self.links.get_or_init(|| if self.host.is_live() { links::links() } else { Ok(Vec::new()) })
    }

    /// The firewall's rules and chains. Only the machine itself has any.
    pub fn firewall(&self, programs: &Programs) -> &Firewall {
        self.firewall.get_or_init(|| match self.host.is_live() {
            true => firewall::read(self.host, programs),
            false => Firewall::default(),
        })
    }

    /// The groups that a process is in, as paths below their hierarchies; none where that cannot be read.
    pub fn membership(&self, pid: i32) -> Vec<PathBuf> {
        let file = PathBuf::from(format!("/proc/{pid}/cgroup"));
        self.host.read_piece(&file).map(|bytes| group::parse_membership(&bytes)).unwrap_or_default()
    }
}

/// The ID of the mount at "/".
fn root_of(table: &MountTable) -> Option<u64> {
    table.mounts.iter().find(|m| m.point() == Path::new("/")).map(|m| m.id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linux::cgroup::Version;
    use std::fs;

    #[test]
    fn the_topmost_group_answers_for_all_below_it_or_each_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let group = dir.path().join("kubepods/pod1/c");
        fs::create_dir_all(&group).unwrap();
        fs::write(group.join("cgroup.procs"), "7\n").unwrap();
        let host = Host::at(dir.path());
        let pids_where = |events: Option<&str>, version| {
            let file = dir.path().join("kubepods/cgroup.events");
            events.map_or_else(|| drop(fs::remove_file(&file)), |text| fs::write(&file, text).unwrap());
            let hierarchy = Hierarchy { version, point: "/".into(), read_only: false, freezer: false };
            View::new(&host, None).group_pids(&hierarchy, Path::new("/kubepods/pod1/c")).unwrap().to_vec()
        };
        assert!(pids_where(Some("populated 0\nfrozen 0\n"), Version::V2).is_empty());
        assert_eq!(pids_where(Some("populated 1\nfrozen 0\n"), Version::V2), [7]);
        assert_eq!(pids_where(Some("populated 0\n"), Version::V1), [7], "a file of no meaning there");
        assert_eq!(pids_where(None, Version::V2), [7]);
    }

    #[test]
    fn a_process_of_another_pid_namespace_is_in_no_unit_of_ours() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| crate::fixture::file(dir.path(), name, text);
        file("proc/self/mountinfo", "1 0 0:1 / /cg rw - cgroup2 c rw\n");
        file("cg/system.slice/snap.microk8s.d.service/cgroup.procs", "7\n8\n");
        file("cg/user.slice/snap.microk8s.d.service/cgroup.procs", "9\n");
        for (pid, depth) in [("self", "1"), ("7", "7"), ("8", "8 1"), ("9", "9")] {
            file(&format!("proc/{pid}/status"), &format!("Name:\tx\nNSpid:\t{depth}\n"));
        }
        let host = Host::at(dir.path());
        let view = View::new(&host, None);
        assert_eq!([7, 8, 9].map(|pid| view.unit_of(pid)), [Some("microk8s"), None, None]);
    }
}
