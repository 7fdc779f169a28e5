//! The rounds: one pass over the plan after another, until nothing is left, nothing moves any more, or the
//! time is up.
//!
//! The engine orders, waits and counts. It knows no kind of residue and makes no system call: what looks,
//! removes and waits is handed to it. No error leaves it by `?`: an error is a field of the history it returns,
//! tied to the thing it concerns, so that one refusal never hides another.

pub mod done;
mod seen;
pub mod step;

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::engine::done::Done;
use crate::engine::step::{Effort, Gate, Step};
use crate::error::Blind;
use crate::residue::finding::Finding;
use crate::residue::{Keys, Residue};

pub use seen::Seen;

/// Removes what it is given, by this effort and until then.
pub type Remove<'a> = &'a mut dyn FnMut(&[Residue], Effort, Instant) -> Vec<Done>;

/// What the engine is given to work with.
pub struct Acts<'a> {
    /// Looks with the eyes of the plan's step at this position. `fresh` asks for a new look at the machine, not at what was
    /// last seen.
    pub look: &'a mut dyn FnMut(usize, bool) -> Finding,
    /// Removes, or tries to: one answer for each residue, in the same order.
    pub remove: Remove<'a>,
    /// Waits until what was asked for has happened, at most until then.
    pub settle: &'a mut dyn FnMut(&[&Residue], Instant),
    /// Says why a gate is closed; nothing if it is open.
    pub closed: &'a mut dyn FnMut(Gate) -> Option<String>,
    /// True once somebody has asked us to stop.
    pub interrupted: &'a mut dyn FnMut() -> bool,
    /// Told of each step that is about to act, for whoever watches.
    pub progress: &'a mut dyn FnMut(&Step, &[Residue], Effort),
}

/// What one step met with over all rounds.
#[derive(Debug, Clone, Default)]
pub struct StepHistory {
    /// All that was seen, by key, with the last thing that was tried on it.
    pub seen: Seen,
    /// What the last look still saw; where it looks as when it was first seen, that one.
    pub left: Vec<Arc<Residue>>,
    /// Where the last look could not see.
    pub blind: Vec<Blind>,
    /// Why a gate kept the step from acting, if it did at the end.
    pub closed: Option<(Gate, String)>,
    /// Time spent in this step.
    pub elapsed: Duration,
}

/// A residue and what became of the last attempt to remove it.
#[derive(Debug, Clone)]
pub struct Tracked {
    /// As it was first seen. What is left and the report share it: a node has some thirty for each of its pods.
    pub residue: Arc<Residue>,
    /// What was tried last, and what came of it.
    pub tried: Option<Tried>,
}

/// An attempt. That something is gone, which nearly all are, takes no room.
#[derive(Debug, Clone)]
pub struct Tried {
    pub effort: Effort,
    other_than_gone: Option<Box<Done>>,
}

impl Tried {
    pub fn new(effort: Effort, done: Done) -> Tried {
        Tried { effort, other_than_gone: (done != Done::Gone).then(|| Box::new(done)) }
    }

    /// What came of it.
    pub fn done(&self) -> &Done {
        self.other_than_gone.as_deref().unwrap_or(&Done::Gone)
    }
}

/// The whole teardown, as it went.
#[derive(Debug, Clone, Default)]
pub struct History {
    /// Step by step, in the plan's order.
    pub steps: Vec<StepHistory>,
    /// How many rounds were made.
    pub rounds: u32,
    /// True if somebody asked us to stop before nothing was left.
    pub interrupted: bool,
    /// True if the deadline ended it.
    pub out_of_time: bool,
}

impl StepHistory {
    /// Adds residues to what was seen and is left.
    pub fn add(&mut self, residues: Vec<Residue>) {
        let noted = note(self, residues, &[]);
        self.left.extend(noted);
    }
}

impl History {
    /// This history as the continuation of an earlier one over the same plan: what was seen then counts as seen,
    /// what is left is what this one left.
    pub fn continuing(mut self, earlier: History) -> History {
        for (own, old) in self.steps.iter_mut().zip(earlier.steps) {
            own.elapsed += old.elapsed;
            own.seen.add_all(old.seen.into_all());
        }
        self.rounds += earlier.rounds;
        self
    }
}

/// Looks with every step's eyes, once, without touching anything.
pub fn survey(plan: &[Step], acts: &mut Acts) -> History {
    let steps = plan.iter().map(|_| StepHistory::default()).collect();
    let mut history = History { steps, ..History::default() };
    look_at_all(acts, &mut history);
    history
}

/// Removes what the plan's steps find: rounds of ask and force while something moves, one last round when
/// nothing does, and a final look that decides. It begins with what a survey of the same plan saw.
pub fn teardown(plan: &[Step], surveyed: History, acts: &mut Acts, deadline: Instant) -> History {
    let mut history = surveyed;
    let mut last_effort = false;
    loop {
        if history.steps.iter().all(|step| step.left.is_empty()) {
            break;
        }
        history.interrupted = (acts.interrupted)();
        history.out_of_time = Instant::now() >= deadline;
        if history.interrupted || history.out_of_time {
            break;
        }
        history.rounds += 1;
        pass(plan, acts, &mut history, last_effort, deadline);
        let before: Vec<_> = history.steps.iter_mut().map(|step| std::mem::take(&mut step.left)).collect();
        look_at_all(acts, &mut history);
        let after = Keys::of(&mut history.steps.iter().flat_map(|s| s.left.iter().map(|r| r.key())));
        let moved = before.iter().flatten().any(|residue| !after.has(&residue.key()));
        // A round that was cut short has not shown that nothing moves.
        let cut = (acts.interrupted)() || Instant::now() >= deadline;
        if !moved && last_effort && !cut {
            break;
        }
        last_effort = !moved;
    }
    history
}

/// One look with every step's eyes; what it sees is what is left.
fn look_at_all(acts: &mut Acts, history: &mut History) {
    let mut fresh = true;
    for at in 0..history.steps.len() {
        let finding = (acts.look)(at, fresh);
        fresh = false;
        let (before, own) = history.steps.split_at_mut(at);
        let own = &mut own[0];
        own.left = note(own, finding.residues, before);
        own.blind = finding.blind;
    }
}

/// One pass over the plan, removing.
fn pass(plan: &[Step], acts: &mut Acts, history: &mut History, last: bool, deadline: Instant) {
    for (at, (step, own)) in plan.iter().zip(&mut history.steps).enumerate() {
        let started = Instant::now();
        let efforts = if last { &[Effort::Last][..] } else { step.efforts };
        for &effort in efforts {
            if started >= deadline || (acts.interrupted)() {
                break;
            }
            let finding = (acts.look)(at, false);
            note_new(own, &finding.residues);
            if finding.residues.is_empty() {
                break;
            }
            own.closed = step.gates.iter().find_map(|gate| (acts.closed)(*gate).map(|why| (*gate, why)));
            if own.closed.is_some() {
                break;
            }
            (acts.progress)(step, &finding.residues, effort);
            let done = (acts.remove)(&finding.residues, effort, deadline);
            let until = deadline.min(Instant::now() + step.grace);
            let open = waiting(&finding.residues, &done);
            if !open.is_empty() {
                (acts.settle)(&open, until);
            }
            for (residue, done) in finding.residues.into_iter().zip(done) {
                if let Some(seen) = own.seen.get_mut(&residue.key()) {
                    seen.tried = Some(Tried::new(effort, done));
                }
            }
        }
        own.elapsed += started.elapsed();
    }
}

/// Those that were asked for and may still come about.
fn waiting<'a>(residues: &'a [Residue], done: &[Done]) -> Vec<&'a Residue> {
    let asked = residues.iter().zip(done).filter(|(_, done)| matches!(done, Done::Asked { .. }));
    asked.map(|(residue, _)| residue).collect()
}

/// Notes what was seen; of each, the one to keep, which may be that of a step before.
fn note(own: &mut StepHistory, residues: Vec<Residue>, before: &[StepHistory]) -> Vec<Arc<Residue>> {
    let mut noted = Vec::with_capacity(residues.len());
    let mut new = Vec::new();
    for residue in residues {
        let key = residue.key();
        let own_known = own.seen.get(&key);
        let known = before.iter().find_map(|step| step.seen.get(&key)).or(own_known);
        let known = known.map(|known| &known.residue).filter(|known| known.is_told_as(&residue));
        let residue = known.map_or_else(|| Arc::new(residue), Arc::clone);
        if own_known.is_none() {
            new.push((key, Tracked { residue: residue.clone(), tried: None }));
        }
        noted.push(residue);
    }
    own.seen.add_all(new);
    noted
}

/// Notes what was not yet seen.
fn note_new(own: &mut StepHistory, residues: &[Residue]) {
    let new = residues
        .iter()
        .map(|residue| (residue.key(), residue))
        .filter(|(key, _)| own.seen.get(key).is_none());
    let new = new.map(|(key, residue)| (key, Tracked { residue: Arc::new(residue.clone()), tried: None }));
    let new: Vec<_> = new.collect();
    own.seen.add_all(new);
}

#[cfg(test)]
mod tests;
