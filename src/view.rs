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

use crate::cgroup::{self, CgroupTree, Hierarchy};
use crate::error::{Context, Result};
use crate::firewall::{self, Firewall};
use crate::host::Host;
use crate::mountinfo::{self, MountTable};
use crate::namespace::SnapNamespace;
use crate::netlink::{self, Link};
use crate::proc::{self, Proc};
use crate::residue::ProcessId;
use crate::snap::Snap;

/// All processes, by PID.
#[derive(Debug, Clone, Default)]
pub struct Processes {
    by_pid: HashMap<i32, Proc>,
    /// Processes whose state could not be read, with the reason. Not those that vanished meanwhile.
    pub unreadable: Vec<(i32, String)>,
}

impl Processes {
    /// The process with this PID now.
    pub fn get(&self, pid: i32) -> Option<&Proc> {
        self.by_pid.get(&pid)
    }

    /// The process with this PID and start time, if it still lives.
    pub fn alive(&self, id: ProcessId) -> Option<&Proc> {
        self.get(id.pid).filter(|p| p.id == id && p.alive())
    }

    /// All that live.
    pub fn iter(&self) -> impl Iterator<Item = &Proc> {
        self.by_pid.values().filter(|p| p.alive())
    }
}

/// The PIDs in a group, or why they cannot be read.
pub type Pids = std::result::Result<Rc<[i32]>, String>;

/// One look at the machine. Reads when first asked, then remembers.
pub struct View<'a> {
    /// What is looked at.
    pub host: &'a Host,
    snap_namespace: Option<SnapNamespace>,
    hierarchies: Option<Vec<Hierarchy>>,
    processes: OnceCell<Result<Processes>>,
    own: OnceCell<Result<Arc<MountTable>>>,
    first: OnceCell<Result<MountTable>>,
    snap: OnceCell<Result<Option<MountTable>>>,
    cgroups: OnceCell<Result<CgroupTree>>,
    units: OnceCell<HashMap<i32, String>>,
    pids: RefCell<HashMap<OsString, Pids>>,
    unpopulated: RefCell<HashMap<OsString, bool>>,
    frozen: RefCell<HashMap<OsString, bool>>,
    links: OnceCell<std::io::Result<Vec<Link>>>,
    firewall: OnceCell<Firewall>,
}

impl<'a> View<'a> {
    /// A new look. `snap_namespace` is the snap's mount namespace, when we are outside of it and know it.
    pub fn new(host: &'a Host, snap_namespace: Option<SnapNamespace>) -> View<'a> {
        let view = View::unread(host, snap_namespace);
        // Before anything else is looked at: what is mounted says what a look may have to wait for.
        if let Ok(table) = view.own_mounts() {
            host.mounted(table);
        }
        view
    }

    fn unread(host: &'a Host, snap_namespace: Option<SnapNamespace>) -> View<'a> {
        View {
            host,
            snap_namespace,
            hierarchies: None,
            processes: OnceCell::new(),
            own: OnceCell::new(),
            first: OnceCell::new(),
            snap: OnceCell::new(),
            cgroups: OnceCell::new(),
            units: OnceCell::new(),
            pids: RefCell::default(),
            unpopulated: RefCell::default(),
            frozen: RefCell::default(),
            links: OnceCell::new(),
            firewall: OnceCell::new(),
        }
    }

    /// The same look, once it is known where the snap's mounts are.
    pub fn with_snap_namespace(self, snap_namespace: Option<SnapNamespace>) -> View<'a> {
        View { snap_namespace, ..self }
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
        self.processes.get_or_init(|| read_processes(self.host))
    }

    /// Our own mount table.
    pub fn own_mounts(&self) -> &Result<Arc<MountTable>> {
        self.own.get_or_init(|| self.host.own_mounts())
    }

    /// pid 1's mount table; where that is our own too, its root alone.
    pub fn first_mounts(&self) -> &Result<MountTable> {
        self.first.get_or_init(|| {
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
    pub fn in_first_namespace(&self) -> bool {
        if let (Some(own), Some(first)) = (self.mount_namespace("self"), self.mount_namespace("1")) {
            return own == first;
        }
        match (self.own_mounts(), self.first_mounts()) {
            (Ok(own), Ok(first)) => root_of(own).is_some() && root_of(own) == root_of(first),
            _ => false,
        }
    }

    /// The name of a process's mount namespace, if we may know it.
    pub fn mount_namespace(&self, pid: &str) -> Option<PathBuf> {
        std::fs::read_link(self.host.path(Path::new(&format!("/proc/{pid}/ns/mnt")))).ok()
    }

    /// The control groups of all hierarchies.
    pub fn cgroups(&self) -> &Result<CgroupTree> {
        self.cgroups.get_or_init(|| {
            if let Some(hierarchies) = &self.hierarchies {
                return Ok(cgroup::walk(self.host, hierarchies.clone()));
            }
            match self.own_mounts() {
                Ok(table) => Ok(cgroup::walk(self.host, cgroup::hierarchies(table))),
                Err(e) => Err(crate::error::Error::Malformed {
                    path: "/sys/fs/cgroup".into(),
                    reason: e.to_string(),
                }),
            }
        })
    }

    /// The PIDs in a group and below it.
    pub fn group_pids(&self, hierarchy: &Hierarchy, group: &Path) -> Pids {
        if self.is_unpopulated(hierarchy, group) {
            return Ok(Rc::default());
        }
        let directory = cgroup::full(&hierarchy.point, group);
        if let Some(known) = self.pids.borrow().get(directory.as_os_str()) {
            return known.clone();
        }
        let pids = cgroup::pids(self.host, &directory).map(Rc::from).map_err(|e| e.to_string());
        self.pids.borrow_mut().insert(directory.into_os_string(), pids.clone());
        pids
    }

    /// True if the kernel says that nothing runs anywhere below the topmost group above this one. Once all pods are dead
    /// that is one file to read, not one for each container.
    pub fn is_unpopulated(&self, hierarchy: &Hierarchy, group: &Path) -> bool {
        let Some(topmost) = group.iter().nth(1) else { return false };
        let directory = hierarchy.point.join(topmost);
        if let Some(known) = self.unpopulated.borrow().get(directory.as_os_str()) {
            return *known;
        }
        let unpopulated = cgroup::is_unpopulated(self.host, hierarchy, &directory);
        self.unpopulated.borrow_mut().insert(directory.into_os_string(), unpopulated);
        unpopulated
    }

    /// True if a group is frozen.
    pub fn frozen(&self, hierarchy: &Hierarchy, directory: &Path) -> bool {
        if let Some(known) = self.frozen.borrow().get(directory.as_os_str()) {
            return *known;
        }
        let frozen = cgroup::frozen(self.host, hierarchy, directory);
        self.frozen.borrow_mut().insert(directory.as_os_str().to_owned(), frozen);
        frozen
    }

    /// The instance name of the snap in whose unit a process runs. Told from the units' side: a few groups are
    /// listed once, instead of one file read for each process.
    pub fn unit_of(&self, pid: i32) -> Option<&str> {
        let units = self.units.get_or_init(|| {
            let Ok(tree) = self.cgroups() else { return HashMap::new() };
            let mut units = HashMap::new();
            for (hierarchy, group) in tree.each() {
                let Some(snap) = cgroup::snap_of(group) else { continue };
                let Ok(pids) = self.group_pids(hierarchy, group) else { continue };
                units.extend(pids.iter().map(|pid| (*pid, snap.to_owned())));
            }
            units
        });
        units.get(&pid).map(String::as_str)
    }

    /// The links of our network namespace. Only the machine itself has any.
    pub fn links(&self) -> &std::io::Result<Vec<Link>> {
        self.links.get_or_init(|| if self.host.is_live() { netlink::links() } else { Ok(Vec::new()) })
    }

    /// The firewall's rules and chains. Only the machine itself has any.
    pub fn firewall(&self, snap: &Snap, programs: Option<&Path>) -> &Firewall {
        self.firewall.get_or_init(|| match self.host.is_live() {
            true => firewall::read(self.host, snap, programs),
            false => Firewall::default(),
        })
    }

    /// The groups that a process is in, as paths below their hierarchies; none where that cannot be read.
    pub fn membership(&self, pid: i32) -> Vec<PathBuf> {
        let file = PathBuf::from(format!("/proc/{pid}/cgroup"));
        self.host.read(&file).map(|bytes| cgroup::parse_membership(&bytes)).unwrap_or_default()
    }
}

/// The ID of the mount at "/".
fn root_of(table: &MountTable) -> Option<u64> {
    table.mounts.iter().find(|m| m.point == Path::new("/")).map(|m| m.id)
}

fn read_processes(host: &Host) -> Result<Processes> {
    let path = Path::new("/proc");
    let mut all = Processes::default();
    let proc = proc::Directory::open(&host.path(path)).context("open", path)?;
    let entries = std::fs::read_dir(host.path(path)).context("list", path)?;
    for entry in entries {
        let entry = entry.context("list", path)?;
        let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse::<i32>().ok()) else { continue };
        match proc.read(pid) {
            Ok(process) => {
                all.by_pid.insert(pid, process);
            }
            Err(e) if e.raw_os_error().is_some_and(crate::error::gone) => {}
            Err(e) => all.unreadable.push((pid, e.to_string())),
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::Version;
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
}
