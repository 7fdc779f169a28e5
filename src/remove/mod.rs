//! Residue → remover: one exhaustive match. A remover acts on one residue; it does not decide what is ours,
//! nor when its turn is.

pub mod ability;
pub mod blackhole;
pub mod cgroup;
pub mod device;
pub mod drain;
pub mod flows;
pub mod hold;
pub mod ipset;
pub mod last_resort;
pub mod link;
pub mod live;
pub mod loop_device;
pub mod mount;
pub mod netns;
pub mod ourselves;
pub mod path;
pub mod process;
pub mod rule;
pub mod service;
pub mod shim;
pub mod task;
pub mod thaw;

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use crate::engine::done::Done;
use crate::engine::step::Effort;
use crate::linux::interrupts::wait_readable;
use crate::linux::process::wait_for_end;
use crate::linux::{interrupts, tree};
use crate::remove::live::Live;
use crate::residue::{self, PathKind, Residue, Task};
use crate::scope::Scope;
use crate::scope::graceful::Graceful;

/// How many shims are asked at a time: each takes milliseconds, mostly waiting for its runc.
const MAX_SHIMS_AT_ONCE: usize = 8;

/// How long what is busy is tried again before it counts as stuck.
const BUSY_TIMEOUT: Duration = Duration::from_secs(2);

/// Removes each residue, or tries to; one answer for each, in the same order.
pub fn remove(
    live: &Live,
    residues: &[Residue],
    effort: Effort,
    deadline: Instant,
    scope: &Scope,
    is_stopped: &dyn Fn(&str) -> bool,
) -> Vec<Done> {
    let by = Removal { live, effort, deadline, parent: tree::Parent::default() };
    let mut done: Vec<Done> = Vec::with_capacity(residues.len());
    let mut clock = Clock::new();
    // Directories of data are deleted by children: all of them are begun, then waited for in their turn.
    let mut begun = Vec::with_capacity(residues.len());
    for residue in residues {
        begun.push(match residue {
            Residue::Path(residue::Path { path, what: PathKind::Data }) if !clock.is_up(live, deadline) => {
                Some(path::begin_data(path))
            }
            _ => None,
        });
    }
    if effort == Effort::Force && !clock.is_up(live, deadline) {
        hold::hold(live, scope, residues);
    }
    for (residue, begun) in residues.iter().zip(begun) {
        done.push(match (begun, clock.is_up(live, deadline)) {
            (Some(begun), _) => begun.finish(deadline),
            // Containers are asked all at once, below.
            (None, false) if effort == Effort::Ask && matches!(residue, Residue::Task(_)) => Done::Gone,
            (None, false) if matches!(residue, Residue::Rule(_)) && clock.rules_are_up(deadline) => {
                not_possible("rules had a third of the time that was left; the rest is for mounts and data")
            }
            (None, false) => by.directly(residue),
            (None, true) => not_possible("the run was over before its turn came"),
        });
    }
    match effort {
        Effort::Ask => ask_containers(live, residues, &scope.graceful, deadline, &mut done),
        Effort::Force | Effort::Last => by_shims(live, residues, effort, deadline, &mut done),
    }
    retry_busy(&by, residues, &mut done);
    if effort == Effort::Last {
        last_resort::resort(live, residues, &mut done, deadline, is_stopped);
    }
    done
}

/// Of hundreds of things each may take seconds (a server that does not answer, a lock that somebody holds), so the
/// end is looked for between them; after one that took no time nothing new can have come.
struct Clock {
    up: bool,
    asked: Option<Instant>,
    rules_until: Option<Instant>,
}

impl Clock {
    const CHECK_INTERVAL: Duration = Duration::from_millis(50);

    fn new() -> Clock {
        Clock { up: false, asked: None, rules_until: None }
    }

    /// A proxy of a thousand services has more rules than can be deleted in a run, each by a program that reads all of them first,
    /// and they come before the mounts. What is left of them gets its turn in the next round.
    fn rules_are_up(&mut self, deadline: Instant) -> bool {
        let now = Instant::now();
        now >= *self.rules_until.get_or_insert_with(|| now + deadline.saturating_duration_since(now) / 3)
    }

    fn is_up(&mut self, live: &Live, deadline: Instant) -> bool {
        let now = Instant::now();
        if !self.up && self.asked.is_none_or(|asked| now - asked >= Clock::CHECK_INTERVAL) {
            self.asked = Some(now);
            self.up = live.interrupts.seen();
        }
        self.up || now >= deadline
    }
}

/// What one removal after another goes by.
struct Removal<'a> {
    live: &'a Live,
    effort: Effort,
    deadline: Instant,
    parent: tree::Parent,
}

impl Removal<'_> {
    fn directly(&self, residue: &Residue) -> Done {
        let Removal { live, effort, deadline, ref parent } = *self;
        match residue {
            Residue::Service(it) => service::remove(live, it, effort, deadline),
            Residue::Task(it) => task::remove(live, it, effort),
            Residue::Shim(it) => shim::remove(live, it, deadline),
            Residue::Netns(it) => netns::remove(live, it),
            Residue::Link(it) => link::remove(live, it),
            Residue::Rule(it) => rule::remove(live, it),
            Residue::NftRule(it) => rule::remove_nft(live, it),
            Residue::Ipset(it) => ipset::remove(live, it),
            Residue::Flows(it) => flows::remove(live, it),
            Residue::Blackhole(it) => blackhole::remove(live, it),
            Residue::Mount(it) => mount::remove(live, parent, it, effort, deadline),
            Residue::Loop(it) => loop_device::remove(live, it),
            Residue::Device(it) => device::remove(live, it),
            Residue::Cgroup(it) => cgroup::remove(live, it, deadline),
            Residue::Path(it) => path::remove(live, parent, it, deadline),
            Residue::Detached(_) => not_possible("it is no longer in any mount table"),
            Residue::RuntimeLeftRunning(_) => not_possible("it was already asked to stop"),
        }
    }
}

fn not_possible(why: &str) -> Done {
    Done::NotPossible { why: why.into() }
}

/// Asks all containers to end, and waits for each as long as it may take.
fn ask_containers(
    live: &Live,
    residues: &[Residue],
    graceful: &Graceful,
    deadline: Instant,
    done: &mut [Done],
) {
    let (mut tasks, mut open): (Vec<&Task>, Vec<&mut Done>) = (Vec::new(), Vec::new());
    for (residue, done) in residues.iter().zip(done) {
        if let Residue::Task(task) = residue {
            tasks.push(task);
            open.push(done);
        }
    }
    if !tasks.is_empty() && !live.interrupts.seen() && Instant::now() < deadline {
        open.into_iter().zip(drain::drain(live, &tasks, graceful, deadline)).for_each(|(to, of)| *to = of);
    }
}

/// What a direct act could not do and a shim can: asked of several shims at a time.
fn by_shims(live: &Live, residues: &[Residue], effort: Effort, deadline: Instant, done: &mut [Done]) {
    let mut open: Vec<(&Task, &mut Done)> = Vec::new();
    for (residue, done) in residues.iter().zip(done) {
        if let (Residue::Task(task), Done::NeedsShim { .. }) = (residue, &done) {
            open.push((task, done));
        }
    }
    if !open.is_empty() {
        hold::release_all(live);
    }
    let chunk = open.len().div_ceil(MAX_SHIMS_AT_ONCE).max(1);
    std::thread::scope(|threads| {
        for part in open.chunks_mut(chunk) {
            threads.spawn(move || {
                for (task, done) in part {
                    **done = task::remove_by_shim(live, task, effort, deadline, done);
                }
            });
        }
    });
}

/// Right after their processes died, mounts and groups may be busy for a moment that no event announces.
fn retry_busy(by: &Removal, residues: &[Residue], done: &mut [Done]) {
    let until = by.deadline.min(Instant::now() + BUSY_TIMEOUT);
    let mut pause = Duration::from_millis(1);
    loop {
        let mut busy = false;
        for (residue, done) in residues.iter().zip(done.iter_mut()) {
            if done.is_busy() {
                *done = by.directly(residue);
                busy |= done.is_busy();
            }
        }
        if !busy || Instant::now() + pause > until || by.live.interrupts.seen() {
            return;
        }
        interrupts::pause(&by.live.interrupts, pause);
        pause = (pause * 2).min(Duration::from_millis(100));
    }
}

/// Waits until the processes of these residues have ended, until then at most.
pub fn settle(live: &Live, residues: &[&Residue], until: Instant) {
    for process in residues.iter().flat_map(|residue| residue.processes()) {
        let opened = live.take_open(*process);
        let has_ended = |until| match &opened {
            Some(opened) => wait_readable(opened.as_fd(), &live.interrupts, until),
            None => wait_for_end(*process, &live.interrupts, until),
        };
        if live.holds_any() && has_ended(until.min(Instant::now() + hold::PATIENCE)) {
            continue;
        }
        hold::release_all(live);
        if !has_ended(until) {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_touched_after_the_deadline() {
        let (live, scope) = (crate::fixture::live(), crate::fixture::scope_of(&[]));
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().canonicalize().unwrap().join("file");
        std::fs::write(&path, "").unwrap();
        let residues = [Residue::path(path.clone(), PathKind::CniResult)];
        let done = remove(&live, &residues, Effort::Force, Instant::now(), &scope, &|_| true);
        assert!(matches!(done[..], [Done::NotPossible { .. }]) && path.exists(), "{done:?}");
        let later = Instant::now() + Duration::from_secs(60);
        assert_eq!(remove(&live, &residues, Effort::Force, later, &scope, &|_| true), [Done::Gone]);
        assert!(!path.exists());
    }

    #[test]
    fn rules_leave_time_for_what_comes_after_them() {
        use std::os::unix::fs::PermissionsExt;
        let (live, scope) = (crate::fixture::live(), crate::fixture::scope_of(&[]));
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().canonicalize().unwrap();
        let (program, path) = (dir.join("iptables"), dir.join("file"));
        std::fs::write(&path, "").unwrap();
        std::fs::write(&program, "#!/bin/sh\nsleep 0.3\n").unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        let rule = |n: usize| residue::Rule {
            program: program.clone(),
            table: "nat".into(),
            rule: vec![format!("KUBE-{n}")],
            chain: true,
        };
        let mut residues: Vec<Residue> = (0..30).map(|n| Residue::Rule(Box::new(rule(n)))).collect();
        residues.push(Residue::path(path.clone(), PathKind::CniResult));
        let deadline = Instant::now() + Duration::from_secs(6);
        let done = remove(&live, &residues, Effort::Force, deadline, &scope, &|_| true);
        assert!(!path.exists() && done[0] == Done::Gone, "{done:?}");
        assert!(matches!(done[29], Done::NotPossible { .. }), "{done:?}");
    }
}
