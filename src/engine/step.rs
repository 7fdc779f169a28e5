//! One step: how patient to be with what it finds, and what must be true before it may act.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// One step of the plan. What it looks for, the plan knows.
#[derive(Debug, Clone, Copy)]
pub struct Step {
    pub name: StepName,
    /// What the step does about what it finds, in this order, before the last round.
    pub efforts: &'static [Effort],
    /// How long to wait, after each effort, for what it asked for.
    pub grace: Duration,
    /// What must be true before the step may remove anything.
    pub gates: &'static [Gate],
}

/// A step, as the report and the journal call it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StepName {
    Drain,
    Services,
    Containers,
    Shims,
    Network,
    Mounts,
    Cgroups,
    State,
    Data,
}

impl std::fmt::Display for StepName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&crate::text::name(self))
    }
}

/// How hard a step tries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Effort {
    /// Politely: what is asked may save its work.
    Ask,
    Force,
    /// By force, with the means that are kept for when nothing else has helped.
    Last,
}

/// A fact that must hold before a step may remove anything. Gates name facts, not steps: what confinement
/// keeps one step from removing must not block another that does not depend on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Gate {
    /// No process of ours runs.
    NoOwnedProcess,
    /// No mount of ours is left, or was merely detached, in our table or under the snap's data in init's.
    MountTableClear,
}
