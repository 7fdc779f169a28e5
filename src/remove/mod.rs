//! Residue → remover: one exhaustive match. A remover acts on one residue; it does not decide what is ours,
//! nor when its turn is.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::live::Live;
use crate::nft;
use crate::report::Done;
use crate::residue::{PathKind, ProcessId, Residue};
use crate::scope::Scope;
use crate::step::Effort;
use crate::sys;

mod cgroup;
mod link;
mod loop_device;
mod mount;
pub mod netns;
pub mod ourselves;
mod path;
mod process;
mod rule;
mod runtime;
mod service;
mod shim;
mod task;
pub mod tree;
pub mod ttrpc;

/// How many shims are asked at a time: each takes milliseconds, mostly waiting for its runc.
const AT_ONCE: usize = 8;

/// How long what is busy is tried again before it counts as stuck.
const BUSY: Duration = Duration::from_secs(2);

/// Removes each residue, or tries to; one answer for each, in the same order.
pub fn remove(
    live: &Live,
    scope: &Scope,
    residues: &[Residue],
    effort: Effort,
    deadline: Instant,
) -> Vec<Done> {
    let by = By { live, scope, effort, deadline, parent: tree::Parent::default() };
    let mut done: Vec<Done> = Vec::with_capacity(residues.len());
    let mut clock = Clock::new();
    // Directories of data are deleted by children: all of them are begun, then waited for in their turn.
    let mut begun = Vec::with_capacity(residues.len());
    for residue in residues {
        begun.push(match residue {
            Residue::Path { path, what: PathKind::Data } if !clock.is_up(live, deadline) => {
                Some(path::begin_data(path))
            }
            _ => None,
        });
    }
    for (residue, begun) in residues.iter().zip(begun) {
        done.push(match (begun, clock.is_up(live, deadline)) {
            (Some(begun), _) => begun.finish(deadline),
            (None, false) => by.directly(residue),
            (None, true) => Done::NotPossible { why: "the run was over before its turn came".into() },
        });
    }
    by_shims(live, residues, effort, deadline, &mut done);
    retry_busy(&by, residues, &mut done);
    if effort == Effort::Last {
        runtime::resort(live, scope, residues, &mut done, deadline);
    }
    done
}

/// Of hundreds of things each may take seconds (a server that does not answer, a lock that somebody holds), so the
/// end is looked for between them; after one that took no time nothing new can have come.
struct Clock {
    up: bool,
    asked: Option<Instant>,
}

impl Clock {
    const OFTEN: Duration = Duration::from_millis(20);

    fn new() -> Clock {
        Clock { up: false, asked: None }
    }

    fn is_up(&mut self, live: &Live, deadline: Instant) -> bool {
        let now = Instant::now();
        if !self.up && self.asked.is_none_or(|asked| now - asked >= Clock::OFTEN) {
            self.asked = Some(now);
            self.up = live.interrupts.seen();
        }
        self.up || now >= deadline
    }
}

/// What one removal after another goes by.
struct By<'a> {
    live: &'a Live,
    scope: &'a Scope,
    effort: Effort,
    deadline: Instant,
    parent: tree::Parent,
}

impl By<'_> {
    fn directly(&self, residue: &Residue) -> Done {
        let By { live, scope, effort, deadline, ref parent } = *self;
        match residue {
            Residue::Service { name, processes } => {
                service::remove(live, scope, name, processes, effort, deadline)
            }
            Residue::Task { .. } => task::remove(live, residue, effort),
            Residue::Shim { .. } => shim::remove(live, residue, deadline),
            Residue::Mount { .. } => mount::remove(live, parent, residue, effort, deadline),
            Residue::Cgroup { path, .. } => cgroup::remove(live, path),
            Residue::Path { path, what } => path::remove(live, parent, path, *what, deadline),
            Residue::Netns { path, .. } => netns::remove(live, path),
            Residue::Link { index, name, r#type } => link::remove(live, *index, name, r#type),
            Residue::Rule { program, table, rule, chain } => {
                rule::remove(live, scope, program, table, rule, *chain)
            }
            Residue::NftRule { family, table, chain, handle, comment } => {
                let [family, table, chain, comment] = [family, table, chain, comment].map(String::clone);
                rule::remove_nft(live, &nft::Rule { family, table, chain, handle: *handle, comment })
            }
            Residue::Loop { device, backing } => loop_device::remove(device, backing),
            Residue::Detached { .. } => {
                Done::NotPossible { why: "it is no longer in any mount table".into() }
            }
            Residue::RuntimeLeftRunning { .. } => {
                Done::NotPossible { why: "it was already asked to stop".into() }
            }
        }
    }
}

/// What a direct act could not do and a shim can: asked of several shims at a time.
fn by_shims(live: &Live, residues: &[Residue], effort: Effort, deadline: Instant, done: &mut [Done]) {
    let mut open: Vec<(&Residue, &mut Done)> =
        residues.iter().zip(done).filter(|(_, d)| matches!(d, Done::NeedsShim { .. })).collect();
    let chunk = open.len().div_ceil(AT_ONCE).max(1);
    std::thread::scope(|threads| {
        for part in open.chunks_mut(chunk) {
            threads.spawn(move || {
                for (residue, done) in part {
                    **done = task::remove_by_shim(live, residue, effort, deadline, done);
                }
            });
        }
    });
}

/// Right after their processes died, mounts and groups may be busy for a moment that no event announces.
fn retry_busy(by: &By, residues: &[Residue], done: &mut [Done]) {
    let until = by.deadline.min(Instant::now() + BUSY);
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
        sys::pause(&by.live.interrupts, pause);
        pause = (pause * 2).min(Duration::from_millis(100));
    }
}

/// Waits until the processes of these residues have ended, until then at most.
pub fn settle(live: &Live, residues: &[Residue], until: Instant) {
    for process in residues.iter().flat_map(processes) {
        if !sys::wait_for_end(process, &live.interrupts, until) {
            return;
        }
    }
}

/// The processes whose end a residue's removal waits for.
fn processes(residue: &Residue) -> Vec<ProcessId> {
    match residue {
        Residue::Service { processes, .. } | Residue::Task { processes, .. } => processes.clone(),
        Residue::Shim { process, .. } => vec![*process],
        _ => Vec::new(),
    }
}

/// The signal of an effort.
fn signal_of(effort: Effort) -> Signal {
    match effort {
        Effort::Ask => Signal::SIGTERM,
        Effort::Force | Effort::Last => Signal::SIGKILL,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_touched_after_the_deadline() {
        let live = Live::new(sys::Interrupts::take().unwrap()).unwrap();
        let scope = crate::scope::tests::scope_of(&[]);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().canonicalize().unwrap().join("file");
        std::fs::write(&path, "").unwrap();
        let residues = [Residue::Path { path: path.clone(), what: PathKind::CniResult }];
        let done = remove(&live, &scope, &residues, Effort::Force, Instant::now());
        assert!(matches!(done[..], [Done::NotPossible { .. }]) && path.exists(), "{done:?}");
        let later = Instant::now() + Duration::from_secs(60);
        assert_eq!(remove(&live, &scope, &residues, Effort::Force, later), [Done::Gone]);
        assert!(!path.exists());
    }
}
