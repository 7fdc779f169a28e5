//! One row of the plan: what to look for, and how patient to be with it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::residue::Residue;
use crate::scope::Scope;
use crate::view::View;

/// One row of the plan.
#[derive(Debug, Clone, Copy)]
pub struct Step {
    /// The step's name in the report and in the journal.
    pub name: &'static str,
    /// Looks, and touches nothing.
    pub find: fn(&View, &Scope) -> Finding,
    /// What the step does about what it finds, in this order, before the last round.
    pub efforts: &'static [Effort],
    /// How long to wait, after each effort, for what it asked for.
    pub grace: Duration,
    /// What must be true before the step may remove anything.
    pub gates: &'static [Gate],
}

/// What a step saw.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Finding {
    /// What is there and should not be.
    pub residues: Vec<Residue>,
    /// Where something of ours could hide, because it could not be looked at.
    pub blind: Vec<Blind>,
}

impl Finding {
    /// A finding of things alone.
    pub fn of(residues: Vec<Residue>) -> Finding {
        Finding { residues, blind: Vec::new() }
    }
}

/// A source that could hide something of ours, could not be read, and that no other source covers.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Blind {
    /// What could not be looked at.
    pub what: String,
    /// Why.
    pub why: String,
}

impl Blind {
    /// A blind spot and its reason.
    pub fn new(what: impl Into<String>, why: impl std::fmt::Display) -> Blind {
        Blind { what: what.into(), why: why.to_string() }
    }
}

/// How hard a step tries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Effort {
    /// Politely: what is asked may save its work.
    Ask,
    /// By force.
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
    /// No mount of ours is left, or was merely detached, in our table or under the snap's data in pid 1's.
    MountTableClear,
    /// No later removal needs what this step deletes (a bundle tells the shim what to kill).
    EvidenceUnneeded,
}
