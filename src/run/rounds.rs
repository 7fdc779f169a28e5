//! What the engine is handed: looking, removing, and the facts that gates ask for.

use std::cell::{Cell, RefCell};
use std::time::Instant;

use crate::engine::step::{Effort, Gate, Step, StepName};
use crate::engine::{self, Acts, History};
use crate::error::Blind;
use crate::linux::holders;
use crate::remove;
use crate::remove::live::Live;
use crate::residue::Residue;
use crate::residue::finding::Finding;
use crate::scope::Scope;
use crate::steps::{self, Row, owned};
use crate::view::View;

/// Told what happens, for whoever watches.
pub type Watch<'a> = &'a mut dyn FnMut(&Step, &[Residue], Effort);

/// What stays the same over all rounds of a run.
pub struct Rounds<'a> {
    /// The machine.
    pub live: &'a Live,
    pub plan: &'a [Row],
    /// When the run must be over.
    pub deadline: Instant,
}

impl<'a> Rounds<'a> {
    /// One teardown of one scope, after a survey of it. Returns its history and the view of its last look.
    pub fn teardown(
        &self,
        scope: &Scope,
        surveyed: History,
        view: View<'a>,
        watch: Watch,
    ) -> (History, View<'a>) {
        let Rounds { live, plan, deadline } = *self;
        let view = RefCell::new(view);
        let stale = Cell::new(false);
        let renew = |fresh: bool| {
            if stale.replace(false) || fresh {
                let next = view.borrow().again(fresh);
                *view.borrow_mut() = next;
            }
        };
        let mut acts = Acts {
            look: &mut |at, fresh| {
                renew(fresh);
                find(&plan[at], &view.borrow(), scope, Some(live))
            },
            remove: &mut |residues, effort, until| {
                stale.set(true);
                let is_stopped =
                    |service: &str| owned::service_is_stopped(&View::new(&live.host, None), scope, service);
                remove::remove(live, residues, effort, until, scope, &is_stopped)
            },
            settle: &mut |residues, until| remove::settle(live, residues, until),
            closed: &mut |gate| {
                renew(false);
                why_closed(live, gate, &view.borrow(), scope)
            },
            interrupted: &mut || live.interrupts.seen(),
            progress: watch,
        };
        let history = engine::teardown(&steps::of_rows(plan), surveyed, &mut acts, deadline);
        (history, view.into_inner())
    }
}

/// Looks with every step's eyes, once.
pub fn look_once(plan: &[Row], view: &View, scope: &Scope, live: Option<&Live>) -> History {
    let mut acts = Acts {
        look: &mut |at, _| find(&plan[at], view, scope, live),
        remove: &mut |_, _, _| Vec::new(),
        settle: &mut |_, _| {},
        closed: &mut |_| None,
        interrupted: &mut || false,
        progress: &mut |_, _, _| {},
    };
    engine::survey(&steps::of_rows(plan), &mut acts)
}

/// What a step sees, and what no look can see any more.
fn find(row: &Row, view: &View, scope: &Scope, live: Option<&Live>) -> Finding {
    let mut finding = (row.find)(view, scope);
    finding.residues.extend(live.into_iter().flat_map(|live| remembered_for(live, row.name)));
    finding
}

/// Why a gate is closed, as far as the last look can tell.
fn why_closed(live: &Live, gate: Gate, view: &View, scope: &Scope) -> Option<String> {
    let blocked =
        |finding: Finding, one: &str, many: &str| match (finding.residues.len(), finding.blind.first()) {
            (0, None) => None,
            (0, Some(blind)) => Some(format!("could not look at {}: {}", blind.what, blind.why)),
            (1, _) => Some(format!("{one}: {}", finding.residues[0])),
            (n, _) => Some(format!("{n} {many}, the first: {}", finding.residues[0])),
        };
    match gate {
        Gate::NoOwnedProcess => {
            blocked(owned::processes(view, scope), "one of ours still runs", "of ours still run")
        }
        Gate::MountTableClear => {
            let mut finding = owned::mounts(view, scope);
            finding.residues.extend(live.remembered().into_iter().filter(still_held));
            blocked(finding, "one mount of ours is left", "mounts of ours are left")
        }
    }
}

/// What no look can see, under the step that would look for it.
fn remembered_for(live: &Live, name: StepName) -> Vec<Residue> {
    let mut remembered = live.remembered();
    remembered.retain(|residue| match residue {
        Residue::Detached(_) => name == StepName::Mounts && still_held(residue),
        Residue::RuntimeLeftRunning(_) => name == StepName::Services,
        _ => false,
    });
    remembered
}

/// Detached mounts that an earlier run remembered, added to what the mounts step saw.
pub fn add_remembered(plan: &[Row], history: &mut History, remembered: Vec<Residue>) {
    if let Some(at) = plan.iter().position(|row| row.name == StepName::Mounts) {
        history.steps[at].add(remembered);
    }
}

/// Evidence that hides by now, and did not when the scope was gathered, could be of something that has come since.
pub fn add_blind(plan: &[Row], history: &mut History, hidden: Vec<Blind>) {
    let Some(at) = plan.iter().position(|row| row.name == StepName::Containers) else { return };
    let known = &mut history.steps[at].blind;
    let more: Vec<Blind> = hidden.into_iter().filter(|blind| !known.contains(blind)).collect();
    known.extend(more);
}

/// True unless the residue is a detached mount that nobody can hold any more.
pub fn still_held(residue: &Residue) -> bool {
    match residue {
        Residue::Detached(mount) => holders::remain(&mount.holders, mount.holders_unknown),
        _ => true,
    }
}
