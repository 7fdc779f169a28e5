//! The rounds: one pass over the plan after another, until nothing is left, nothing moves any more, or the
//! time is up.
//!
//! The engine orders, waits and counts. It knows no kind of residue and makes no system call: what looks,
//! removes and waits is handed to it. No error leaves it by `?`: an error is a field of the history it returns,
//! tied to the thing it concerns, so that one refusal never hides another.

pub mod done;
pub mod step;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::engine::done::Done;
use crate::engine::step::{Effort, Gate, Step};
use crate::error::Blind;
use crate::residue::finding::Finding;
use crate::residue::{Key, Keys, Residue};

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
    pub seen: BTreeMap<Key, Tracked>,
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
            for (key, seen) in old.seen {
                track(own, key, seen);
            }
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
        let before = keys(&history);
        if before.as_slice().is_empty() {
            break;
        }
        history.interrupted = (acts.interrupted)();
        history.out_of_time = Instant::now() >= deadline;
        if history.interrupted || history.out_of_time {
            break;
        }
        history.rounds += 1;
        pass(plan, acts, &mut history, last_effort, deadline);
        look_at_all(acts, &mut history);
        let after = keys(&history);
        let moved = before.without(&after) > 0;
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
    for residue in residues {
        let key = residue.key();
        let known = before.iter().chain([&*own]).find_map(|step| step.seen.get(&key));
        let known = known.map(|known| &known.residue).filter(|known| known.is_told_as(&residue));
        let residue = known.map_or_else(|| Arc::new(residue), Arc::clone);
        track(own, key, Tracked { residue: residue.clone(), tried: None });
        noted.push(residue);
    }
    noted
}

/// Notes what was not yet seen.
fn note_new(own: &mut StepHistory, residues: &[Residue]) {
    for residue in residues {
        let key = residue.key();
        if !own.seen.contains_key(&key) {
            track(own, key, Tracked { residue: Arc::new(residue.clone()), tried: None });
        }
    }
}

/// Keeps what was seen first. No `entry`, for the program's size.
fn track(own: &mut StepHistory, key: Key, tracked: Tracked) {
    if own.seen.contains_key(&key) {
        return;
    }
    own.seen.insert(key, tracked);
}

fn keys(history: &History) -> Keys {
    Keys::of(&mut history.steps.iter().flat_map(|s| s.left.iter().map(|residue| residue.key())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::step::StepName;
    use crate::linux::proc::ProcessId;
    use crate::residue::{self, PathKind};
    use std::cell::{Cell, RefCell};
    use std::collections::BTreeSet;

    const fn step(name: StepName, gates: &'static [Gate]) -> Step {
        Step { name, efforts: &[Effort::Ask, Effort::Force], grace: Duration::ZERO, gates }
    }

    fn thing(name: &str) -> Residue {
        Residue::Path(residue::Path { path: name.into(), what: PathKind::Fifo })
    }

    /// A world of names: `stubborn` ones go only by the last effort, `fixed` ones never.
    struct World {
        there: BTreeSet<String>,
        log: Vec<String>,
        closed: bool,
        interrupt_after: usize,
    }

    fn run(
        there: &[&str],
        closed: bool,
        interrupt_after: usize,
        deadline: Instant,
    ) -> (History, Vec<String>) {
        let there = there.iter().map(|s| s.to_string()).collect();
        let world = RefCell::new(World { there, log: vec![], closed, interrupt_after });
        let plan = [step(StepName::Drain, &[]), step(StepName::State, &[Gate::NoOwnedProcess])];
        let mut acts = Acts {
            look: &mut |at, _| {
                let of_step = |n: &&String| n.starts_with(["a", "b"][at]);
                Finding::of(world.borrow().there.iter().filter(of_step).map(|n| thing(n)).collect())
            },
            remove: &mut |residues, effort, _| {
                let mut world = world.borrow_mut();
                residues
                    .iter()
                    .map(|r| {
                        let Residue::Path(residue::Path { path, .. }) = r else { unreachable!() };
                        let name = path.to_str().unwrap();
                        world.log.push(format!("{effort:?} {name}"));
                        let goes = match effort {
                            Effort::Ask => name.contains("polite"),
                            Effort::Force => !name.contains("stubborn") && !name.contains("fixed"),
                            Effort::Last => !name.contains("fixed"),
                        };
                        if goes {
                            world.there.remove(name);
                        }
                        // A remover may claim anything; only the next look counts.
                        Done::Gone
                    })
                    .collect()
            },
            settle: &mut |_, _| {},
            closed: &mut |_| world.borrow().closed.then(|| "something runs".to_string()),
            interrupted: &mut || world.borrow().log.len() >= world.borrow().interrupt_after,
            progress: &mut |_, _, _| {},
        };
        let surveyed = survey(&plan, &mut acts);
        let history = teardown(&plan, surveyed, &mut acts, deadline);
        (history, world.into_inner().log)
    }

    fn later() -> Instant {
        Instant::now() + Duration::from_secs(60)
    }

    #[test]
    fn nothing_to_do_does_nothing() {
        let (history, log) = run(&[], false, usize::MAX, later());
        assert!(log.is_empty() && history.rounds == 0 && !history.interrupted);
    }

    #[test]
    fn asks_before_force_and_stops_asking_what_went() {
        let (history, log) = run(&["a-polite", "a-other"], false, usize::MAX, later());
        assert_eq!(log, ["Ask a-other", "Ask a-polite", "Force a-other"]);
        assert_eq!(history.rounds, 1);
        assert!(history.steps[0].left.is_empty());
    }

    #[test]
    fn one_last_round_when_nothing_moves_and_then_no_more() {
        let (history, log) = run(&["a-stubborn", "a-fixed"], false, usize::MAX, later());
        assert_eq!(log.iter().filter(|l| l.starts_with("Last")).count(), 3, "{log:?}");
        assert_eq!(history.steps[0].left, [Arc::new(thing("a-fixed"))]);
    }

    #[test]
    fn what_a_remover_claims_counts_for_nothing() {
        let (history, _) = run(&["a-fixed"], false, usize::MAX, later());
        let seen = &history.steps[0].seen[&thing("a-fixed").key()];
        assert_eq!(seen.tried.as_ref().map(Tried::done), Some(&Done::Gone));
        assert_eq!(history.steps[0].left.len(), 1);
    }

    #[test]
    fn a_closed_gate_keeps_its_step_from_acting_and_says_why() {
        let (history, log) = run(&["a-x", "b-x"], true, usize::MAX, later());
        assert_eq!(log, ["Ask a-x", "Force a-x"]);
        assert_eq!(history.steps[1].closed.as_ref().unwrap().1, "something runs");
        assert_eq!(history.steps[1].left.len(), 1);
    }

    #[test]
    fn an_interrupt_ends_with_a_look_not_with_silence() {
        let (history, log) = run(&["a-fixed", "b-x"], false, 1, later());
        assert!(history.interrupted);
        assert_eq!(log, ["Ask a-fixed"]);
        assert_eq!(history.steps[1].left.len(), 1);
    }

    #[test]
    fn a_residue_is_held_once_as_it_was_first_seen_and_left_as_it_is_now() {
        let plan = [step(StepName::Drain, &[]), step(StepName::Containers, &[])];
        let count = Cell::new(0);
        let service = |name: &str| {
            let processes = vec![ProcessId { pid: count.get(), start: 1 }];
            Residue::Service(residue::Service { name: name.into(), processes })
        };
        let mut acts = Acts {
            look: &mut |_, _| Finding::of(vec![thing("same"), service("changes")]),
            remove: &mut |_, _, _| vec![],
            settle: &mut |_, _| {},
            closed: &mut |_| None,
            interrupted: &mut || false,
            progress: &mut |_, _, _| {},
        };
        let mut history = survey(&plan, &mut acts);
        let [one, two] = &history.steps[..] else { unreachable!() };
        assert!(one.left.iter().zip(&two.left).all(|(one, two)| Arc::ptr_eq(one, two)));
        count.set(1);
        look_at_all(&mut acts, &mut history);
        let own = &history.steps[1];
        let seen = |at: usize| &own.seen[&own.left[at].key()].residue;
        assert!(Arc::ptr_eq(&own.left[0], seen(0)));
        assert_eq!((own.left[1].processes()[0].pid, seen(1).processes()[0].pid), (1, 0));
        assert_eq!((own.seen.len(), own.left.len()), (2, 2));
    }

    #[test]
    fn an_interrupt_in_the_last_round_is_told() {
        // Ask, force, and then, with the last effort, the signal.
        let (history, log) = run(&["a-fixed"], false, 3, later());
        assert_eq!(log, ["Ask a-fixed", "Force a-fixed", "Last a-fixed"]);
        assert!(history.interrupted);
    }

    #[test]
    fn a_deadline_in_the_past_touches_nothing_and_still_tells_what_is_there() {
        let (history, log) = run(&["a-x"], false, usize::MAX, Instant::now());
        assert!(history.out_of_time && log.is_empty());
        assert_eq!(history.steps[0].left.len(), 1);
    }
}
