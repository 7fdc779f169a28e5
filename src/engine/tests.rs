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
    Residue::path(name.into(), PathKind::Fifo)
}

/// A world of names: `stubborn` ones go only by the last effort, `fixed` ones never.
struct World {
    there: BTreeSet<String>,
    log: Vec<String>,
    closed: bool,
    interrupt_after: usize,
}

fn run(there: &[&str], closed: bool, interrupt_after: usize, deadline: Instant) -> (History, Vec<String>) {
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
    let seen = history.steps[0].seen.get(&thing("a-fixed").key()).unwrap();
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
        Residue::Service(residue::Service { name: name.into(), processes }.into())
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
    let seen = |at: usize| &own.seen.get(&own.left[at].key()).unwrap().residue;
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
