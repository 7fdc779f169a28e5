//! What the integration tests and the fuzz targets use. No interface: it changes with them.

pub use crate::bits::Word;
pub use crate::engine::done::{Done, Rung};
pub use crate::engine::step::{Effort, Gate, StepName};
pub use crate::engine::{History, StepHistory, Tracked, Tried};
pub use crate::error::{Blind, Position};
pub use crate::linux::block::{Device as BlockDevice, Kind as HowAttached};
pub use crate::linux::cgroup::group::{parse_membership, parse_pids};
pub use crate::linux::holders::Holder;
pub use crate::linux::host::Host;
pub use crate::linux::mountinfo;
pub use crate::linux::proc::ProcessId;
pub use crate::reason::Reason;
pub use crate::remove::ability::{Abilities, Ability, Answer};
pub use crate::remove::drain::ending;
pub use crate::report::advice::Advice;
pub use crate::report::note::{Note, NoteKind};
pub use crate::report::script::{End, Script};
pub use crate::report::size::{Disk, Goes, Holds, Size};
pub use crate::report::{Command, HostFacts, Report, RunFacts};
pub use crate::residue::witness::{Witness, Witnesses};
pub use crate::residue::{PathKind, Residue, TableOf};

/// The kinds of residues.
pub mod residue {
    pub use crate::linux::blackhole::Blackhole;
    pub use crate::residue::{
        Cgroup, Detached, Device, Flows, Ipset, Link, Loop, Mount, Netns, NftRule, Path, Rule,
        RuntimeLeftRunning, Service, Shim, Task,
    };
}

pub use crate::run::subject::Subject;
pub use crate::run::{survey, verify};
pub use crate::runtime::bundle::{self, Bundle};
pub use crate::runtime::told::ConfiguredRoots;
pub use crate::runtime::ttrpc::ShimClient;
pub use crate::runtime::{
    ContainerId, Pod, bolt, exec, groups, hook_plan, http, http_hook, metadata, pre_stop, runc, shim,
};
pub use crate::scope::decide::gather;
pub use crate::scope::network::{NetnsEvidence, OwnedLink, OwnedNetns};
pub use crate::scope::{Bystander, BystanderKind, Container, Evidence, OwnedShim, Scope};
pub use crate::snap::Snap;
pub use crate::snap::profile::{Profile, Roots};
pub use crate::snap::units;
pub use crate::steps::{of_rows, plan};
pub use crate::view::View;
