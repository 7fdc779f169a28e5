//! The kinds of things that a container snap can leave behind, each with what identifies it.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::text;

/// A process, safe against PID reuse: a PID alone may belong to somebody else a moment later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ProcessId {
    /// The PID in our own PID namespace.
    pub pid: i32,
    /// Start time in clock ticks since boot (field 22 of `/proc/PID/stat`).
    pub start: u64,
}

/// A container's name, as containerd has it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ContainerId {
    /// containerd's namespace; `k8s.io` for everything that CRI makes.
    pub namespace: String,
    /// The ID; 64 hexadecimal digits when CRI made it.
    pub id: String,
}

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
    /// A shim's socket.
    ShimSocket,
    /// A socket of the runtime itself.
    RuntimeSocket,
    /// A container's standard stream.
    Fifo,
    /// The cached result of a CNI call.
    CniResult,
    /// An address that a CNI IPAM plugin has leased to a sandbox.
    CniLease,
    /// A socket of a kubelet plugin.
    PluginSocket,
    /// A symlink on the host that leads into the snap.
    HostSymlink,
    /// A directory of the profile's `data`, deleted with all it holds.
    Data,
}

/// One thing still there that should not be.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", rename_all_fields = "kebab-case")]
pub enum Residue {
    /// A service of the snap that still runs, or what it left running in its group.
    Service {
        /// Its name within the snap.
        name: String,
        /// Its processes that are neither shims nor containers.
        processes: Vec<ProcessId>,
    },
    /// A container that still has processes: containerd's "task".
    Task {
        /// Whose.
        container: ContainerId,
        /// Namespace and name of the pod, if known.
        pod: Option<String>,
        /// True for the pod's sandbox ("pause").
        sandbox: bool,
        /// All its processes, the init first where it is known.
        processes: Vec<ProcessId>,
        /// True if its group is frozen.
        paused: bool,
        /// The container's own cgroups, one for each hierarchy, as full paths.
        #[serde(with = "text::list")]
        groups: Vec<PathBuf>,
        /// Where its shim listens, as far as is known.
        #[serde(with = "text::option")]
        socket: Option<PathBuf>,
    },
    /// A containerd shim.
    Shim {
        /// The shim's process.
        process: ProcessId,
        /// containerd's namespace.
        namespace: String,
        /// The ID it was started with: the sandbox's, for a pod.
        id: Option<String>,
        /// Where it listens, if known.
        #[serde(with = "text::option")]
        socket: Option<PathBuf>,
        /// The containers it serves, applications first.
        containers: Vec<String>,
        /// Those of them that still have a process: while there are any, the shim stays.
        held_by: Vec<String>,
    },
    /// A network namespace of one of our sandboxes.
    Netns {
        /// Where it is bound, such as `/run/netns/cni-…`.
        #[serde(with = "text")]
        path: PathBuf,
        /// How many times it is mounted there and at propagated copies.
        mounts: usize,
        /// The sandbox that it was made for.
        sandbox: String,
    },
    /// A network interface.
    Link {
        /// The kernel's index.
        index: u32,
        /// Its name.
        name: String,
        /// What the kernel calls its type ("veth", "bridge"), if it has one.
        r#type: String,
    },
    /// A firewall rule, or a chain that holds nothing but our rules.
    Rule {
        /// The program that speaks for the rule's backend and family, such as `iptables-legacy`.
        #[serde(with = "text")]
        program: PathBuf,
        /// The table.
        table: String,
        /// The rule in the program's own words, without `-A`; or the chain alone.
        rule: Vec<String>,
        /// True for a chain to be deleted, false for a rule.
        chain: bool,
    },
    /// A rule of nf_tables that a CNI plugin made without iptables.
    NftRule {
        /// `ip`, `ip6` or `inet`.
        family: String,
        /// The table.
        table: String,
        /// The chain.
        chain: String,
        /// The kernel's number of it.
        handle: u64,
        /// The comment on it, which says whose it is.
        comment: String,
    },
    /// A mount.
    Mount {
        /// The kernel's mount ID.
        id: u64,
        /// Where.
        #[serde(with = "text")]
        point: PathBuf,
        /// File system type.
        fstype: String,
        /// Whose table it stands in.
        table: TableOf,
        /// True if entering it may wait for a server.
        may_hang: bool,
    },
    /// A loop device whose backing file is ours.
    Loop {
        /// `/dev/loopN`.
        #[serde(with = "text")]
        device: PathBuf,
        /// The file behind it.
        #[serde(with = "text")]
        backing: PathBuf,
    },
    /// A control group.
    Cgroup {
        /// Full path.
        #[serde(with = "text")]
        path: PathBuf,
        /// The container whose own it is; none for a pod's or a QoS class's.
        container: Option<String>,
    },
    /// A file, a socket, a directory.
    Path {
        /// Where.
        #[serde(with = "text")]
        path: PathBuf,
        /// What it is.
        what: PathKind,
    },
    /// A mount that was taken out of the table while somebody still used it. It is no longer to be seen,
    /// and still there.
    Detached {
        /// Where it was.
        #[serde(with = "text")]
        point: PathBuf,
        /// File system type.
        fstype: String,
        /// Who held it then, as far as could be seen.
        holders: Vec<Holder>,
        /// True if there are processes whose open files could not be seen.
        holders_unknown: bool,
    },
    /// The runtime's service, started by us as the last resort and not seen to have stopped again.
    RuntimeLeftRunning {
        /// Its name within the snap.
        name: String,
    },
}

/// A process that keeps a residue busy. Never its command line or environment: those hold secrets.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Holder {
    /// Which.
    pub process: ProcessId,
    /// Its name.
    pub comm: String,
    /// Its user.
    pub uid: u32,
}

impl Residue {
    /// What makes this residue the same one at the next look. Details that change meanwhile (the number of
    /// processes, who holds it) are not part of it, or every round would look like progress.
    pub fn key(&self) -> String {
        match self {
            Residue::Service { name, .. } => format!("service {name}"),
            Residue::Task { container, .. } => format!("task {}/{}", container.namespace, container.id),
            Residue::Shim { process, .. } => format!("shim {} {}", process.pid, process.start),
            Residue::Netns { path, .. } => format!("netns {}", text::show(path)),
            Residue::Link { index, name, .. } => format!("link {index} {name}"),
            Residue::Rule { program, table, rule, chain } => {
                format!("rule {} {table} {chain} {}", text::show(program), rule.join(" "))
            }
            Residue::NftRule { family, table, handle, .. } => format!("nft-rule {family} {table} {handle}"),
            Residue::Mount { id, point, table, .. } => format!("mount {table:?} {id} {}", text::show(point)),
            Residue::Loop { device, .. } => format!("loop {}", text::show(device)),
            Residue::Cgroup { path, .. } => format!("cgroup {}", text::show(path)),
            Residue::Path { path, .. } => format!("path {}", text::show(path)),
            Residue::Detached { point, .. } => format!("detached {}", text::show(point)),
            Residue::RuntimeLeftRunning { name } => format!("runtime-left-running {name}"),
        }
    }
}

/// One line for people: what it is, and which.
impl std::fmt::Display for Residue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Residue::Service { name, processes } => {
                write!(f, "service {name} ({} processes)", processes.len())
            }
            Residue::Task { container, pod, sandbox, processes, .. } => {
                let role = if *sandbox { "sandbox" } else { "container" };
                write!(f, "{role} {}", short(&container.id))?;
                if let Some(pod) = pod {
                    write!(f, " of pod {}", text::escape(pod.as_bytes()))?;
                }
                let pids: Vec<_> = processes.iter().take(3).map(|p| p.pid.to_string()).collect();
                write!(
                    f,
                    " ({} processes: {}{})",
                    processes.len(),
                    pids.join(" "),
                    if processes.len() > 3 { " …" } else { "" }
                )
            }
            Residue::Shim { process, id, .. } => {
                write!(f, "shim {}", process.pid)?;
                id.as_deref().map_or(Ok(()), |id| write!(f, " of {}", short(id)))
            }
            Residue::Netns { path, .. } => write!(f, "network namespace {}", text::show(path)),
            Residue::Link { name, r#type, .. } => write!(f, "link {name} ({type})"),
            Residue::Rule { program, table, rule, chain } => {
                let program = program.file_name().unwrap_or_default().as_encoded_bytes();
                let what = if *chain { "chain" } else { "rule" };
                write!(
                    f,
                    "firewall {what} {} {table}: {}",
                    text::escape(program),
                    text::escape(rule.join(" ").as_bytes())
                )
            }
            Residue::NftRule { family, table, chain, handle, comment } => {
                let comment = text::escape(comment.as_bytes());
                write!(f, "firewall rule nft {family} {table} {chain}: handle {handle} ({comment})")
            }
            Residue::Mount { point, fstype, table, .. } => {
                let whose = match table {
                    TableOf::Own => "",
                    TableOf::Snap => " in the snap's mount namespace",
                    TableOf::Host => " on the host",
                };
                write!(f, "mount {} ({fstype}){whose}", text::show(point))
            }
            Residue::Loop { device, backing } => {
                write!(f, "loop device {} of {}", text::show(device), text::show(backing))
            }
            Residue::Cgroup { path, .. } => write!(f, "cgroup {}", text::show(path)),
            Residue::Path { path, what } => {
                let what = crate::report::name(what).replace('-', " ");
                write!(f, "{what} {}", text::show(path))
            }
            Residue::Detached { point, .. } => write!(f, "detached mount {}", text::show(point)),
            Residue::RuntimeLeftRunning { name } => {
                write!(f, "service {name}, started by this run and still running")
            }
        }
    }
}

/// A container ID as people know it from their tools: the first 13 digits.
pub fn short(id: &str) -> &str {
    id.get(..13).unwrap_or(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_names_the_kind_and_survives_odd_paths() {
        use std::os::unix::ffi::OsStringExt;
        let point = PathBuf::from(std::ffi::OsString::from_vec(b"/a\n\xff".to_vec()));
        let residue =
            Residue::Mount { id: 7, point, fstype: "tmpfs".into(), table: TableOf::Own, may_hang: false };
        let json = serde_json::to_string(&residue).unwrap();
        assert!(json.contains(r#""kind":"mount""#) && json.contains(r#""may-hang":false"#), "{json}");
        assert_eq!(serde_json::from_str::<Residue>(&json).unwrap(), residue);
        assert!(!residue.to_string().contains('\n'));
    }

    #[test]
    fn the_key_ignores_what_changes_meanwhile() {
        let task = |n| Residue::Task {
            container: ContainerId { namespace: "k8s.io".into(), id: "a".into() },
            pod: None,
            sandbox: false,
            processes: (0..n).map(|pid| ProcessId { pid, start: 1 }).collect(),
            paused: false,
            groups: vec![],
            socket: None,
        };
        assert_eq!(task(1).key(), task(5).key());
    }
}
