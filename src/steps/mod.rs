//! The plan: every step, in the one order that works. Nowhere else is order written.

mod agents;
mod apps;
mod blackholes;
pub mod cgroups;
mod classes;
mod containers;
mod data;
mod dockers;
mod drain;
mod elsewhere;
pub mod families;
mod files;
pub mod firewall;
mod flannel;
mod ipc;
mod kata;
pub mod logs;
pub mod loops;
mod mounts;
mod network;
pub mod owned;
mod passed_on;
mod running;
mod services;
mod shared_state;
mod shims;
pub mod skeleton;
mod state;
pub mod wide;

use std::time::Duration;

use crate::engine::step::{Effort, Gate, Step, StepName};
use crate::residue::finding::Finding;
use crate::scope::Scope;
use crate::view::View;

/// How long a killed process may take to end before it counts as stuck.
const KILL_GRACE: Duration = Duration::from_secs(10);

/// One row of the plan: a step, and the function that looks for it and touches nothing.
#[derive(Clone, Copy)]
pub struct Row {
    pub name: StepName,
    /// How patient it is, and its gates.
    pub step: Step,
    /// Looks, and touches nothing.
    pub find: fn(&View, &Scope) -> Finding,
}

impl Row {
    const fn new(name: StepName, find: fn(&View, &Scope) -> Finding, efforts: &'static [Effort]) -> Row {
        Row { name, find, step: Step { name, efforts, grace: Duration::ZERO, gates: &[] } }
    }

    const fn grace(self, grace: Duration) -> Row {
        Row { step: Step { grace, ..self.step }, ..self }
    }

    const fn gates(self, gates: &'static [Gate]) -> Row {
        Row { step: Step { gates, ..self.step }, ..self }
    }
}

/// The steps alone, as the engine takes them.
pub fn of_rows(plan: &[Row]) -> Vec<Step> {
    plan.iter().map(|row| row.step).collect()
}

/// The plan for a profile's patience.
pub fn plan(drain: Duration) -> Vec<Row> {
    use Effort::{Ask, Force};
    use Gate::{MountTableClear, NoOwnedProcess};
    // Without patience nobody is asked: a request that is not waited for gives no time to save anything.
    let politely: &[Effort] = if drain.is_zero() { &[] } else { &[Ask] };
    vec![
        // While shims and containerd's files are whole, so that what needs time to save its work can have it.
        Row::new(StepName::Drain, drain::find, politely).grace(drain),
        // Before containers are killed: a runtime or supervisor that still runs would start them again.
        Row::new(StepName::Services, services::all, &[Ask, Force]).grace(KILL_GRACE),
        // Before the shims: a container whose shim is gone has lost the one who may signal it.
        Row::new(StepName::Containers, containers::find, &[Force]).grace(KILL_GRACE),
        // Once its containers are dead a shim has nothing to keep; it holds mounts and the network namespace.
        Row::new(StepName::Shims, shims::find, &[Force]).grace(KILL_GRACE),
        // Once nothing of ours runs that could use or renew them. Before the mounts and the state, whose CNI
        // results and bundles are what a rerun knows them by.
        Row::new(StepName::Network, network::find, &[Force]).gates(&[NoOwnedProcess]),
        // Once nothing runs in them: a mount that is busy is one that somebody uses.
        Row::new(StepName::Mounts, mounts::find, &[Force]),
        // Once they are empty. Before the state, which knows their names.
        Row::new(StepName::Cgroups, cgroups::find, &[Force]),
        // Once nothing of ours runs that could need it: a bundle tells the shim what to kill, and a rerun what is ours.
        Row::new(StepName::State, state::find, &[Force]).gates(&[NoOwnedProcess]),
        // Last: the only step that cannot be made good, so nothing may run and nothing may be mounted.
        Row::new(StepName::Data, data::find, &[Force]).gates(&[NoOwnedProcess, MountTableClear]),
    ]
}
