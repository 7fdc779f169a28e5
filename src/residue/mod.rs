//! The kinds of things that a container snap can leave behind, each with what identifies it.

mod display;
pub mod finding;
mod key;
mod read;
pub mod witness;

use crate::linux::blackhole::Blackhole;
use crate::linux::block;
use crate::linux::holders::Holder;
use crate::linux::proc::ProcessId;
use crate::runtime::{ContainerId, Name};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use crate::residue::witness::Witnesses;

pub use key::{Key, Keys};
pub use read::detached;

use serde::{Deserialize, Serialize};

use crate::text;

/// Whose mount table a mount stands in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TableOf {
    /// Our own mount namespace.
    Own,
    /// The snap's mount namespace, when we run outside of it.
    Snap,
    /// pid 1's, when it is not our own: only the host can unmount there.
    Host,
}

/// What a path is to the container runtime.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PathKind {
    /// A container's bundle, or its work directory.
    Bundle,
    /// runc's state directory of a container.
    RuncState,
    /// What a runtime keeps of containers besides: gVisor, Kata, or containerd of the mounts that it has made itself.
    RuntimeState,
    ShimSocket,
    /// A socket of the runtime itself.
    RuntimeSocket,
    /// A container's standard stream.
    Fifo,
    /// The cached result of a CNI call.
    CniResult,
    /// An address that a CNI IPAM plugin has leased to a sandbox.
    CniLease,
    /// The directory of a network in which nobody has a lease any more.
    CniNetwork,
    /// A socket of a kubelet plugin.
    PluginSocket,
    /// A symlink on the host that leads into the snap.
    HostSymlink,
    PodLogs,
    /// A link to the log of a container.
    PodLogLink,
    /// A directory that runtimes share and that is empty by us.
    EmptyDirectory,
    /// A directory of the profile's `data`, deleted with all it holds.
    Data,
    /// What lies where the snap's configuration has moved a root to, outside of the snap's own directories.
    Moved,
}

/// One thing still there that should not be. Kinds that say much are in boxes: nearly all are paths, mounts and groups, and
/// there are some twenty of these for each pod.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Residue {
    Service(Box<Service>),
    Task(Box<Task>),
    Shim(Box<Shim>),
    Netns(Box<Netns>),
    Link(Box<Link>),
    Rule(Box<Rule>),
    NftRule(Box<NftRule>),
    Ipset(Ipset),
    Flows(Flows),
    Blackhole(Box<Blackhole>),
    Mount(Mount),
    Loop(Box<Loop>),
    Device(Box<Device>),
    Cgroup(Cgroup),
    Path(Path),
    Detached(Box<Detached>),
    RuntimeLeftRunning(RuntimeLeftRunning),
}

/// A service of the snap that still runs, or what it left running in its group; or what an app of the snap has left running.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Service {
    /// Its name within the snap; of an app, its scope's (`APP-UUID.scope`).
    pub name: String,
    /// Its processes that are neither shims nor containers.
    pub processes: Vec<ProcessId>,
}

impl Service {
    /// True for an app's scope: snapd does not know it, and systemd never starts one again.
    pub fn is_scope(&self) -> bool {
        self.name.ends_with(".scope")
    }
}

/// A container that still has processes: containerd's "task".
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Task {
    pub container: ContainerId,
    /// Namespace and name of the pod, if known.
    pub pod: Option<String>,
    /// True for the pod's sandbox ("pause").
    pub sandbox: bool,
    /// All its processes, the init first where it is known.
    pub processes: Vec<ProcessId>,
    /// True if its group is frozen.
    pub paused: bool,
    /// The container's own cgroups, one for each hierarchy, as full paths.
    #[serde(with = "text::list")]
    pub groups: Vec<PathBuf>,
    /// Where its shim listens, as far as is known.
    #[serde(with = "text::option")]
    pub socket: Option<Arc<std::path::Path>>,
    /// What proves it ours.
    pub witnesses: Witnesses,
}

/// A containerd shim.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Shim {
    pub process: ProcessId,
    /// containerd's namespace.
    pub namespace: Name,
    /// The ID it was started with: the sandbox's, for a pod.
    pub id: Option<Name>,
    /// Where it listens, if known.
    #[serde(with = "text::option")]
    pub socket: Option<Arc<std::path::Path>>,
    /// The containers it serves, applications first.
    pub containers: Vec<Name>,
    /// Those of them that still have a process: while there are any, the shim stays.
    pub held_by: Vec<Name>,
    /// What proves it ours.
    pub witnesses: Witnesses,
}

/// A network namespace of one of our sandboxes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Netns {
    /// Where it is bound, such as `/run/netns/cni-…`.
    #[serde(with = "text")]
    pub path: PathBuf,
    /// How many times it is mounted there and at propagated copies.
    pub mounts: usize,
    /// The kernel's number of it; none if only its file is left.
    pub inode: Option<u64>,
    /// The sandbox that it was made for.
    pub sandbox: String,
}

/// A network interface.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Link {
    /// The kernel's index.
    pub index: u32,
    pub name: String,
    /// What the kernel calls its type ("veth", "bridge"), if it has one.
    pub r#type: String,
}

/// A firewall rule, or a chain that holds nothing but our rules.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Rule {
    /// The program that speaks for the rule's backend and family, such as `iptables-legacy`.
    #[serde(with = "text")]
    pub program: PathBuf,
    pub table: String,
    /// The rule in the program's own words, without `-A`; or the chain alone.
    pub rule: Vec<String>,
    /// True for a chain to be deleted, false for a rule.
    pub chain: bool,
}

/// A rule of nf_tables that a CNI plugin made without iptables.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct NftRule {
    /// `ip`, `ip6` or `inet`.
    pub family: String,
    pub table: String,
    pub chain: String,
    /// The kernel's number of it.
    pub handle: u64,
    /// The comment on it, which says whose it is.
    pub comment: String,
}

/// A set of addresses or ports that firewall rules named.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Ipset {
    pub name: String,
}

/// Connections that the kernel tracks and whose answers would come from pods that are gone.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Flows {
    /// The pods' addresses.
    pub addresses: BTreeSet<IpAddr>,
    /// How many there are.
    pub count: usize,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Mount {
    /// The kernel's mount ID.
    pub id: u64,
    #[serde(with = "text")]
    pub point: Arc<std::path::Path>,
    /// File system type.
    pub fstype: Name,
    /// Whose table it stands in.
    pub table: TableOf,
    /// True if entering it may wait for a server.
    pub may_hang: bool,
}

/// A loop device whose backing file is ours.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Loop {
    /// `/dev/loopN`.
    #[serde(with = "text")]
    pub device: PathBuf,
    /// The file behind it.
    #[serde(with = "text")]
    pub backing: PathBuf,
}

/// A block device that only mounts of ours used.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Device {
    #[serde(flatten)]
    pub device: block::Device,
    /// True if nothing but files of ours is below it.
    pub ours: bool,
    /// The command that ends it.
    pub command: String,
}

/// A control group.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Cgroup {
    /// Full path.
    #[serde(with = "text")]
    pub path: Box<std::path::Path>,
    /// The container whose own it is; none for a pod's or a QoS class's.
    pub container: Option<Name>,
}

/// A file, a socket, a directory.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Path {
    #[serde(with = "text")]
    pub path: Box<std::path::Path>,
    pub what: PathKind,
}

/// A mount that was taken out of the table while somebody still used it. It is no longer to be seen,
/// and still there.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Detached {
    #[serde(with = "text")]
    pub point: PathBuf,
    /// File system type.
    pub fstype: String,
    /// Who held it then, as far as could be seen.
    pub holders: Vec<Holder>,
    /// True if there are processes whose open files could not be seen.
    pub holders_unknown: bool,
}

/// The runtime's service, started by us as the last resort and not seen to have stopped again.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct RuntimeLeftRunning {
    /// Its name within the snap.
    pub name: String,
}

impl Residue {
    /// A file or a directory.
    pub fn path(path: PathBuf, what: PathKind) -> Residue {
        Residue::Path(Path { path: path.into(), what })
    }

    /// A control group, by its full path.
    pub fn group(path: PathBuf, container: Option<Name>) -> Residue {
        Residue::Cgroup(Cgroup { path: path.into(), container })
    }

    /// The processes that this residue consists of.
    pub fn processes(&self) -> &[ProcessId] {
        match self {
            Residue::Service(service) => &service.processes,
            Residue::Task(task) => &task.processes,
            Residue::Shim(shim) => std::slice::from_ref(&shim.process),
            _ => &[],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_names_the_kind_and_survives_odd_paths() {
        use std::os::unix::ffi::OsStringExt;
        let point = PathBuf::from(std::ffi::OsString::from_vec(b"/a\n\xff".to_vec()));
        let residue = Residue::Mount(Mount {
            id: 7,
            point: point.into(),
            fstype: "tmpfs".into(),
            table: TableOf::Own,
            may_hang: false,
        });
        let json = serde_json::to_string(&residue).unwrap();
        assert!(json.contains(r#""kind":"mount""#) && json.contains(r#""may-hang":false"#), "{json}");
        assert_eq!(serde_json::from_str::<Residue>(&json).unwrap(), residue);
        assert!(!residue.to_string().contains('\n'));
    }

    #[test]
    fn the_key_ignores_what_changes_meanwhile() {
        let task = |n| {
            Residue::Task(Box::new(Task {
                container: ContainerId { namespace: "k8s.io".into(), id: "a".into() },
                pod: None,
                sandbox: false,
                processes: (0..n).map(|pid| ProcessId { pid, start: 1 }).collect(),
                paused: false,
                groups: vec![],
                socket: None,
                witnesses: Default::default(),
            }))
        };
        assert_eq!(task(1).key(), task(5).key());
    }
}
