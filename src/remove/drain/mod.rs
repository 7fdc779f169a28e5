//! Asks containers to end as kubelet would: each its own hook, its own signal, its own grace; all of them at once, and one
//! wait for whatever happens first (kubelet `kuberuntime/kuberuntime_container.go`, `killContainer`).
//!
//! A container whose own grace is over is killed at once, while others still have theirs. Those that serve storage or network
//! to others are asked when the others have ended, within the same grace.

mod course;
pub mod ending;
mod one;
mod waiting;
mod watch;
mod work;

use std::time::{Duration, Instant};

use crate::engine::done::Done;
use crate::linux::interrupts::wait_for_one;
use crate::linux::process::OFTEN;
use crate::remove::live::Live;
use crate::residue::Task;
use crate::scope::graceful::Graceful;
use course::Drain;
use one::One;
use waiting::Waiting;
use work::Work;

/// What is kept of the run's time for all that comes after the drain, if there is so much.
const RESERVE: Duration = Duration::from_secs(30);

/// Those whose grace ends within so short a time of each other are left to the step that kills: it does them in one go.
const TOGETHER: Duration = Duration::from_millis(100);

/// Asks these containers to end, and waits for each as long as it may take; one answer for each, in the same order.
pub fn drain(live: &Live, tasks: &[&Task], graceful: &Graceful, deadline: Instant) -> Vec<Done> {
    let began = Instant::now();
    let work = match Work::new() {
        Ok(work) => work,
        Err(e) => {
            let failed = |_: &&Task| Done::Failed { error: format!("cannot wait for it: {e}"), errno: None };
            return tasks.iter().map(failed).collect();
        }
    };
    let left = deadline.saturating_duration_since(began);
    let end = deadline - RESERVE.min(left / 4);
    let mut drain = Drain { live, work, began, end, deadline, commands: Default::default() };
    let mut all: Vec<One> = tasks.iter().enumerate().map(|(at, t)| One::new(at, t, graceful)).collect();
    for one in &mut all {
        // It was asked in an earlier round, and its grace is over.
        if live.has_ending(&one.task.container) {
            one.pass_over();
        }
    }
    let mut open = 0;
    for one in &mut all {
        one.watch(&drain, &mut open);
    }
    run(&mut drain, &mut all, &mut Waiting::new(live));
    all.into_iter().map(One::done).collect()
}

fn run(drain: &mut Drain, all: &mut [One], waiting: &mut Waiting) {
    loop {
        begin(drain, all);
        let now = Instant::now();
        let overdue: Vec<usize> =
            (0..all.len()).filter(|at| all[*at].due().is_some_and(|due| due <= now)).collect();
        let last = all.iter().all(|one| one.is_over() || one.is_due_to_be_killed(now + TOGETHER));
        for at in overdue {
            all[at].time_is_up(drain, last);
        }
        if all.iter().all(One::is_over) || drain.live.interrupts.seen() {
            return;
        }
        let next = waiting.tell(drain, all);
        wait(drain, all, next);
    }
}

/// Begins those whose turn it is: first the ones that nobody depends on.
fn begin(drain: &mut Drain, all: &mut [One]) {
    let first = all.iter().any(|one| !one.serves_others && !one.is_over());
    for one in all.iter_mut().filter(|one| one.is_waiting() && !(first && one.serves_others)) {
        one.begin(drain);
    }
}

/// Waits for the first thing that happens, until this moment at most, and does what is to be done then.
fn wait(drain: &mut Drain, all: &mut [One], most: Instant) {
    let mut until = all.iter().filter_map(One::due).min().unwrap_or_else(Instant::now).min(most);
    let (mut events, mut of) = (vec![drain.work.event()], vec![None]);
    let mut unopened = 0;
    for (at, one) in all.iter().enumerate().filter(|(_, one)| !one.is_over()) {
        for watched in one.watched() {
            match watched.event() {
                Some(event) => {
                    events.push(event);
                    of.push(Some(at));
                }
                None => unopened += 1,
            }
        }
    }
    if unopened > 0 {
        // More of them are looked at less often: each look costs a file.
        until = until.min(Instant::now() + OFTEN * (1 + unopened / 50));
    }
    let happened = wait_for_one(&events, &drain.live.interrupts, until);
    let mut touched: Vec<usize> =
        of.iter().zip(happened).filter(|(_, happened)| *happened).filter_map(|(at, _)| *at).collect();
    if unopened > 0 {
        let ended = |one: &One| one.watched().any(|w| w.event().is_none() && w.has_ended());
        touched.extend((0..all.len()).filter(|at| !all[*at].is_over() && ended(&all[*at])));
    }
    for (at, answer) in drain.work.answers() {
        if let Some(one) = all.get_mut(at) {
            one.answered(drain, answer);
        }
    }
    for at in touched {
        all[at].look(drain);
    }
}

#[cfg(test)]
mod tests;
