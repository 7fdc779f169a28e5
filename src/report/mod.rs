//! The result: one versioned JSON document, and the few lines that people read of it.
//!
//! The outcome is that of the last look, plus what was detached and cannot be looked at. What removers said of
//! themselves is told as the reason why something is left, and decides nothing.

pub mod advice;
pub mod build;
pub mod file;
mod fit;
pub mod journal;
mod left;
mod needs;
pub mod note;
pub mod script;
pub mod size;
pub mod summary;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::engine::step::{Gate, StepName};
use crate::error::Blind;
use crate::linux::mountinfo::MountTable;
use crate::reason::Reason;
use crate::remove::ability::Abilities;
use crate::remove::drain::ending::Ending;
use crate::report::advice::Advice;
use crate::report::note::Note;
use crate::report::script::Script;
use crate::report::size::{Disk, Size};
use crate::residue::Residue;
use crate::scope::Scope;

pub use left::Left;

/// Version of the document; it changes when a key changes its meaning or goes.
pub const SCHEMA: u32 = 1;

/// What the last look says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Nothing of ours is left, and everything could be looked at.
    Clean,
    /// Something of ours is left.
    Residue,
    /// Nothing was seen, and something could not be looked at.
    Blind,
    /// The run did not come to its end.
    Interrupted,
}

/// The document.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Report {
    /// Version of this document.
    pub schema: u32,
    /// Version of the program.
    pub version: String,
    /// What was asked for.
    pub command: Command,
    /// True if parts were left out for want of room; counts are always whole.
    pub truncated: bool,
    /// False while the run goes on: a document that stays so was left by a run that was killed.
    pub complete: bool,
    /// Seconds since 1970 at the start, by the wall clock.
    pub started_at: u64,
    /// How long it took.
    pub elapsed_ms: u64,
    /// Seconds since 1970 at the end; none in an older document.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<u64>,
    /// What the last look says.
    pub outcome: Outcome,
    /// The exit status that goes with it.
    pub exit_status: u8,
    /// What has to be done now; none in an older document.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub needs: Option<Needs>,
    /// True if the deadline ended the run.
    pub out_of_time: bool,
    /// Rounds over the plan.
    pub rounds: u32,
    pub snap: SnapName,
    /// Where the profile came from.
    pub profile: String,
    /// The machine.
    pub host: HostFacts,
    /// What confinement granted and refused.
    pub abilities: Abilities,
    /// Totals over all steps, each residue once.
    pub counts: Counts,
    pub steps: Vec<StepReport>,
    /// What to do about what is left.
    pub advice: Vec<Advice>,
    /// What to know besides.
    #[serde(default)]
    pub notes: Vec<Note>,
    /// How the user's own scripts ended.
    #[serde(rename = "hooks", default, skip_serializing_if = "Vec::is_empty")]
    pub scripts: Vec<Script>,
    /// How each container ended that was asked to; only in the file.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub endings: Vec<Ending>,
    /// How much lies where, of a survey.
    #[serde(skip_deserializing, skip_serializing_if = "Vec::is_empty")]
    pub sizes: Vec<Size>,
    /// How much came back, of a removal that deletes data.
    #[serde(skip_deserializing, skip_serializing_if = "Vec::is_empty")]
    pub disks: Vec<Disk>,
    /// How much is ours.
    pub scope_counts: ScopeCounts,
    /// All that is ours; only in the file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<Arc<Scope>>,
    /// Where the whole document is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// True if what is bound into containers is not told for want of room.
    #[serde(skip)]
    without_binds: bool,
}

/// What has to be done, and which reasons decide it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Needs {
    pub what: What,
    /// Each once; nothing where nothing has to be done.
    pub because: Vec<Reason>,
}

/// What has to be done. These three are all; none is added within a version of the document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum What {
    None,
    /// That ends all that is left, and for some of it nothing else does.
    Reboot,
    /// Somebody has to look.
    Human,
}

/// What is left of the document where nothing else fits.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Minimal {
    schema: u32,
    truncated: bool,
    outcome: Outcome,
    exit_status: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    needs: Option<Needs>,
    counts: Counts,
}

/// What was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Command {
    /// Look, touch nothing.
    Survey,
    Remove,
    /// Look for what an earlier run was to remove.
    Verify,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct SnapName {
    pub name: String,
    pub instance: String,
    /// The revision, where it is known.
    pub revision: Option<String>,
    /// The version that its packager gave it, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The version of containerd that it ships, where it says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub containerd: Option<String>,
}

/// What the machine is like.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct HostFacts {
    /// Kernel release.
    pub kernel: String,
    /// `v1`, `v2`, `hybrid` or `none`.
    pub cgroup: String,
    /// Our own AppArmor label; none where it cannot be read.
    pub label: Option<String>,
    /// How it calls itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// Which boot it is (`/proc/sys/kernel/random/boot_id`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot_id: Option<String>,
    /// Which machine it is (machine-id(5)).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine_id: Option<String>,
}

impl HostFacts {
    /// True if this and that were seen in two boots of one machine: nothing that only a boot holds can be the same.
    pub fn booted_between(&self, then: &HostFacts) -> bool {
        self.machine_id == then.machine_id
            && self.boot_id.is_some()
            && then.boot_id.is_some()
            && self.boot_id != then.boot_id
    }

    /// True if they are known to be two machines.
    pub fn is_another_machine(&self, then: &HostFacts) -> bool {
        self.machine_id.is_some() && then.machine_id.is_some() && self.machine_id != then.machine_id
    }
}

/// Totals.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Counts {
    /// Seen at any time.
    pub found: usize,
    /// Seen, and not there at the last look.
    pub removed: usize,
    /// There at the last look.
    pub left: usize,
    /// Places that could not be looked at.
    pub blind: usize,
}

/// How much is ours.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ScopeCounts {
    pub containers: usize,
    pub shims: usize,
    /// Things that look like ours and are not.
    pub bystanders: usize,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct StepReport {
    pub name: StepName,
    /// Time spent in it.
    pub elapsed_ms: u64,
    /// How many of what it looks for.
    pub counts: Counts,
    /// Why it did not act, if a gate kept it from acting.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closed: Option<Closed>,
    pub left: Vec<Left>,
    /// What was seen and is gone.
    pub removed: Vec<Arc<Residue>>,
    /// Where it could not look.
    pub blind: Vec<Blind>,
}

/// A closed gate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Closed {
    pub gate: Gate,
    /// What keeps it closed.
    pub why: String,
}

/// What is known of a run besides its history.
pub struct RunFacts {
    /// What was asked for.
    pub command: Command,
    /// Where the profile came from.
    pub profile: String,
    /// The snap's version.
    pub snap_version: Option<String>,
    /// That of containerd in it.
    pub containerd: Option<String>,
    /// The machine.
    pub host: HostFacts,
    /// What confinement granted.
    pub abilities: Abilities,
    /// Seconds since 1970 at the start.
    pub started_at: u64,
    /// How long it has taken.
    pub elapsed_ms: u64,
    /// False for the document that is written before anything is removed.
    pub complete: bool,
    /// PIDs that are in uninterruptible sleep.
    pub stuck: Vec<i32>,
    /// True if the snap itself runs us.
    pub in_hook: bool,
    /// Our own mount table, where it is known.
    pub mounts: Option<Arc<MountTable>>,
    /// What to know besides.
    pub notes: Vec<Note>,
    /// How the user's own scripts ended.
    pub scripts: Vec<Script>,
    /// How each container ended that was asked to.
    pub endings: Vec<Ending>,
}

#[cfg(test)]
impl RunFacts {
    /// Those of a removal of which nothing more is known.
    pub(crate) fn of_a_removal() -> RunFacts {
        RunFacts {
            command: Command::Remove,
            profile: "x".into(),
            snap_version: None,
            containerd: None,
            host: HostFacts {
                kernel: "6".into(),
                cgroup: "v2".into(),
                label: None,
                hostname: None,
                boot_id: None,
                machine_id: None,
            },
            abilities: Default::default(),
            started_at: 0,
            elapsed_ms: 0,
            complete: true,
            stuck: vec![],
            in_hook: false,
            mounts: None,
            notes: vec![],
            scripts: vec![],
            endings: vec![],
        }
    }
}
