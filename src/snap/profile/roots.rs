//! A profile's paths for one snap, and what was found out about them.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::linux::host::Host;
use crate::reason::Reason;
use crate::snap::Snap;
use crate::text;

/// A profile whose paths are known: absolute, plain, and allowed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Roots {
    /// containerd's socket.
    #[serde(with = "text")]
    pub address: PathBuf,
    /// Sockets that the profile and the snap's own configuration name for it; what only shims name is not among them.
    #[serde(skip)]
    pub sockets: Vec<PathBuf>,
    /// containerd's state directory.
    #[serde(with = "text")]
    pub state: PathBuf,
    /// containerd's root directory.
    #[serde(with = "text")]
    pub root: PathBuf,
    /// Where shims listen.
    #[serde(with = "text")]
    pub shim_sockets: PathBuf,
    /// runc's state.
    #[serde(with = "text")]
    pub runc: PathBuf,
    /// The containers' standard streams.
    #[serde(with = "text")]
    pub fifos: PathBuf,
    /// The `ctr` that the snap ships.
    #[serde(with = "text::option")]
    pub ctr: Option<PathBuf>,
    /// kubelet's root directory.
    #[serde(with = "text::option")]
    pub kubelet: Option<PathBuf>,
    /// Every root below which a mount is the snap's: containerd's, kubelet's and the profile's own.
    #[serde(with = "text::list")]
    pub mounts: Vec<PathBuf>,
    /// Roots of the runtime and kubelet that others may use, too: below them only what is of an owned ID is the snap's.
    #[serde(with = "text::list")]
    pub shared: Vec<PathBuf>,
    /// Roots that are, or are reached through, symlinks. All other paths here are places, as the kernel spells them.
    pub aliases: Vec<Alias>,
    /// Places outside of the snap's own directories to which its own configuration has moved it. Nothing is deleted there
    /// because of where it lies.
    #[serde(with = "text::list")]
    pub moved: Vec<PathBuf>,
    /// Where links or bind mounts lead out of the snap's own directories, and nothing ties what is there to the snap.
    #[serde(skip)]
    pub untied: Vec<PathBuf>,
    /// Where docker's daemon keeps all its data, where that is not in the snap's own directories.
    #[serde(skip)]
    pub docker: Option<PathBuf>,
    /// Paths that lead to no place that could be trusted. They are looked for nowhere.
    pub unresolved: Vec<Unresolved>,
    /// Files in which users move the runtime.
    #[serde(skip)]
    pub told_by: ToldBy,
    /// True if the logs of the snap's own pods go, too.
    pub logs: bool,
    /// Where kubelet was told to have logs of pods written.
    #[serde(skip)]
    pub pod_logs: Option<PathBuf>,
    /// Control groups that containerd was told to go into, or to put its shims into, each with the file that says so.
    #[serde(skip)]
    pub groups: Vec<(PathBuf, PathBuf)>,
    /// Where CNI plugins cache results and lease addresses.
    #[serde(with = "text")]
    pub cni: PathBuf,
    /// Where network namespaces are bound.
    #[serde(with = "text")]
    pub netns: PathBuf,
    /// Where the snap ships its iptables programs.
    #[serde(with = "text::option")]
    pub iptables: Option<PathBuf>,
    /// Symlinks on the host.
    #[serde(with = "text::list")]
    pub host_symlinks: Vec<PathBuf>,
    /// Directories to delete.
    #[serde(with = "text::list")]
    pub data: Vec<PathBuf>,
    /// Where provisioners keep volumes.
    #[serde(skip)]
    pub volumes: Vec<PathBuf>,
    /// The users' scripts.
    #[serde(rename = "hooks", with = "text::option")]
    pub scripts: Option<PathBuf>,
}

/// What alone is ours below a root where others may have theirs, too: by the names that its program makes there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Made {
    Anything,
    Containerds,
    Kubelets,
    Dockers,
}

/// docker's drivers, and what it keeps beside their layers.
const DOCKERS: &[&str] = &[
    "aufs",
    "btrfs",
    "buildkit",
    "containerd",
    "containers",
    "devicemapper",
    "fuse-overlayfs",
    "image",
    "overlay",
    "overlay2",
    "plugins",
    "rootfs",
    "tmp",
    "vfs",
    "volumes",
    "zfs",
];

impl Made {
    /// Whether what is called so in a root is of what was made there.
    pub fn has_name(self, name: &OsStr) -> bool {
        match self {
            Made::Anything => true,
            Made::Containerds => {
                name.as_encoded_bytes().starts_with(b"io.containerd.") || name == "tmpmounts"
            }
            Made::Kubelets => name == "pods" || name == "plugins",
            Made::Dockers => DOCKERS.iter().any(|own| name == *own),
        }
    }

    /// The same of what lies at or below a root.
    pub fn has(self, root: &Path, path: &Path) -> bool {
        let below = path.strip_prefix(root).ok();
        below.is_some_and(|below| {
            self == Made::Anything || below.iter().next().is_some_and(|n| self.has_name(n))
        })
    }
}

/// A path that leads to another place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Alias {
    /// As the profile spells it.
    #[serde(with = "text")]
    pub name: PathBuf,
    /// As the kernel does.
    #[serde(with = "text")]
    pub place: PathBuf,
    /// The links on the way.
    #[serde(with = "text::list")]
    pub links: Vec<PathBuf>,
}

/// A path that leads to no place that could be trusted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Unresolved {
    #[serde(with = "text")]
    pub path: PathBuf,
    pub reason: Reason,
    pub why: String,
}

/// Files in which users move the runtime.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ToldBy {
    /// containerd's arguments and configurations.
    pub containerd: Vec<PathBuf>,
    /// kubelet's arguments.
    pub kubelet: Vec<PathBuf>,
}

impl Roots {
    /// The place of a path that the profile spells.
    pub fn place_of(&self, path: &Path) -> PathBuf {
        let swap = |a: &Alias| path.strip_prefix(&a.name).ok().map(|below| join(&a.place, below));
        let longest = self.aliases.iter().filter(|a| path.starts_with(&a.name));
        longest
            .max_by_key(|a| a.name.components().count())
            .and_then(swap)
            .unwrap_or_else(|| path.to_path_buf())
    }

    /// True for a place strictly below the snap's own directories, wherever those are.
    pub fn is_own(&self, snap: &Snap, place: &Path) -> bool {
        let below = |root: PathBuf| place.starts_with(&root) && place != root;
        snap.owns(place) || [&snap.common, &snap.data].into_iter().any(|root| below(self.place_of(root)))
    }

    /// True if containerd's root is in the snap's own directories, and not given up as another's that is bound there.
    pub fn owns_root(&self, snap: &Snap) -> bool {
        self.is_own(snap, &self.root) && self.mounts.contains(&self.root)
    }

    /// What is made in a root.
    pub fn made_in(&self, root: &Path) -> Made {
        if root == self.root || root == self.state {
            Made::Containerds
        } else if self.kubelet.as_deref() == Some(root) {
            Made::Kubelets
        } else if self.root.strip_prefix(root).is_ok_and(|below| below == Path::new("containerd/daemon")) {
            Made::Dockers
        } else {
            Made::Anything
        }
    }

    /// Whether this is there, and a program of the snap may have made it.
    pub fn may_have_made(&self, host: &Host, snap: &Snap, path: &Path) -> bool {
        host.exists(path).unwrap_or(false) && (self.is_own(snap, path) || !snap.is_younger_than(host, path))
    }

    /// All spellings of a place, its own first: what mounts a file system may print the one that it was given.
    pub fn spellings(&self, place: &Path) -> Vec<PathBuf> {
        let swap = |a: &Alias| place.strip_prefix(&a.place).ok().map(|below| join(&a.name, below));
        std::iter::once(place.to_path_buf()).chain(self.aliases.iter().filter_map(swap)).collect()
    }
}

/// Where containerd listens for its shims, if it is not told.
pub fn for_shims(address: &Path) -> PathBuf {
    let mut second = address.to_path_buf();
    second.as_mut_os_string().push(".ttrpc");
    second
}

/// A joined empty path would end in a slash.
fn join(path: &Path, below: &Path) -> PathBuf {
    if below.as_os_str().is_empty() { path.to_path_buf() } else { path.join(below) }
}
