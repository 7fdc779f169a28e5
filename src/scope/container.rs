//! One container: what is known of it, and by what.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::bits::{Bits, Word};
use crate::linux::folded::Paths;
use crate::linux::proc::ProcessId;
use crate::residue::witness::{Proven, Witnesses};
use crate::runtime::{ContainerId, Name, Pod};
use crate::text;

/// A container of ours.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Container {
    /// Its name.
    #[serde(flatten)]
    pub id: ContainerId,
    /// The ID under which its shim was started: its sandbox's, or its own.
    #[serde(rename = "group")]
    pub shim_id: Name,
    /// True for a sandbox ("pause").
    pub sandbox: bool,
    /// Its pod, if it has one.
    pub pod: Option<Pod>,
    /// True if one of its control groups is that pod's: only its bundle, which it may write itself, names the pod.
    #[serde(default)]
    pub pod_proven: bool,
    /// Its control groups, as paths below a hierarchy's mount point.
    #[serde(rename = "groups", with = "text::list")]
    pub cgroups: Vec<PathBuf>,
    /// Its first process, where runc recorded it.
    pub init: Option<ProcessId>,
    /// Its network namespace, as its bundle names it.
    #[serde(with = "text::option")]
    pub netns: Option<PathBuf>,
    /// The same as runc's state names it, which only root can write.
    #[serde(skip)]
    pub netns_of_state: Option<PathBuf>,
    /// Where its shim listens, if that is known and where shims do.
    #[serde(with = "text::option")]
    pub socket: Option<Arc<Path>>,
    /// Directories of the host that are bound into it.
    #[serde(serialize_with = "binds", deserialize_with = "binds_of")]
    pub binds: Paths,
    /// True if what it mounts is passed on to the host, and so to others.
    #[serde(skip)]
    pub shares: bool,
    /// Those of its binds from which it is.
    #[serde(skip)]
    pub passed_on: Paths,
    /// True if it may do on the host what root may: it has CAP_SYS_ADMIN.
    #[serde(skip)]
    pub privileged: bool,
    /// True if its bundle says that it has the host's IPC namespace.
    #[serde(skip)]
    pub host_ipc: bool,
    /// Where it was found.
    pub evidence: Bits<Evidence>,
    /// What proves it ours; nothing for one that is known by hints alone.
    #[serde(default)]
    pub witnesses: Witnesses,
    /// True if something alive that is not ours carries its ID or is in a group that it claims.
    #[serde(default)]
    pub contradicted: bool,
    /// Those of its control groups whose processes are ours to end. A result file proves nothing alive.
    #[serde(skip)]
    pub proven_cgroups: Vec<Proven<PathBuf>>,
    /// Its processes in groups that are not its own.
    #[serde(skip)]
    pub strays: Vec<Proven<ProcessId>>,
}

impl Container {
    /// Notes that it has this group.
    pub(super) fn is_in(&mut self, group: PathBuf) {
        if !self.cgroups.contains(&group) {
            self.cgroups.push(group);
        }
    }

    /// One of which only the ID is known so far.
    pub(crate) fn of_id(id: ContainerId) -> Container {
        Container {
            shim_id: id.id.clone(),
            id,
            sandbox: false,
            pod: None,
            pod_proven: false,
            cgroups: Vec::new(),
            init: None,
            netns: None,
            netns_of_state: None,
            socket: None,
            binds: Paths::default(),
            shares: false,
            passed_on: Paths::default(),
            privileged: false,
            host_ipc: false,
            evidence: Bits::default(),
            witnesses: Witnesses::default(),
            contradicted: false,
            proven_cgroups: Vec::new(),
            strays: Vec::new(),
        }
    }

    /// Gives back what its lists have grown by and do not need: it stays for the whole run.
    pub(super) fn shrink(&mut self) {
        self.cgroups.shrink_to_fit();
        self.proven_cgroups.shrink_to_fit();
        self.strays.shrink_to_fit();
    }

    /// True if a witness proves it ours.
    pub fn is_proven(&self) -> bool {
        !self.witnesses.is_empty()
    }

    /// Takes over what was known of its pod, where its groups are gone that told.
    pub(super) fn remember_pod(&mut self, older: &Container) {
        if older.pod_proven && !self.pod_proven {
            (self.pod, self.pod_proven) = (older.pod.clone(), true);
        }
    }

    /// True if what is dead of it may go: it is proven ours, or a hint says so that nothing contradicts.
    pub fn may_be_tidied(&self) -> bool {
        self.is_proven() || !self.contradicted
    }
}

/// Where a container was found. Where to look, not whose it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Evidence {
    /// A bundle or work directory in our state or root directory.
    Bundle,
    /// A runc state whose `bundle=` label leads into our state directory.
    RuncState,
    /// A living parent that is a shim of ours.
    ParentShim,
    /// A shim of ours that was started with its ID.
    ShimId,
    /// A root file system on our snapshots.
    RootFs,
    /// CNI's result names it for a network namespace that a process of ours is in.
    CniResult,
    /// Our containerd's database names it.
    Database,
}

impl Word for Evidence {
    const ALL: &'static [Evidence] = &[
        Evidence::Bundle,
        Evidence::RuncState,
        Evidence::ParentShim,
        Evidence::ShimId,
        Evidence::RootFs,
        Evidence::CniResult,
        Evidence::Database,
    ];

    fn number(self) -> u8 {
        self as u8
    }
}

const _: () = assert!(Evidence::ALL.len() == Evidence::Database as usize + 1);

thread_local! {
    static WITHOUT_BINDS: Cell<bool> = const { Cell::new(false) };
}

/// Writes a scope's containers without what is bound into them. To write a copy without it would take twice the memory, for
/// just the worlds that have most.
pub fn without_binds<T>(write: impl FnOnce() -> T) -> T {
    WITHOUT_BINDS.set(true);
    let written = write();
    WITHOUT_BINDS.set(false);
    written
}

fn binds<S: Serializer>(paths: &Paths, to: S) -> std::result::Result<S::Ok, S::Error> {
    let paths = if WITHOUT_BINDS.get() { Vec::new() } else { paths.list() };
    text::list::serialize(&paths, to)
}

fn binds_of<'de, D: Deserializer<'de>>(from: D) -> std::result::Result<Paths, D::Error> {
    let paths: Vec<PathBuf> = text::list::deserialize(from)?;
    Ok(paths.into())
}
