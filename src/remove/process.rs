//! One process.

use nix::errno::Errno;
use nix::libc::{SIGKILL, SIGTERM};

use crate::engine::done::{Done, Rung};
use crate::engine::step::Effort;
use crate::linux::proc::ProcessId;
use crate::linux::process;
use crate::remove::ability::Ability;
use crate::remove::live::Live;

/// Signals exactly this process, and notes what confinement said.
pub fn signal(live: &Live, process: ProcessId, effort: Effort, ability: Ability) -> Done {
    signal_by_number(live, process, signal_of(effort), ability)
}

/// The same by a signal's number.
pub fn signal_by_number(live: &Live, process: ProcessId, number: i32, ability: Ability) -> Done {
    if is_untouchable(process) {
        return Done::NotPossible { why: "never pid 1, never ourselves".into() };
    }
    let result = send(live, process, number);
    // One that may not be killed after all is still to go on.
    if result == Ok(true) {
        live.forget_held(process);
    }
    if result != Ok(false) {
        live.tried(ability, result.map(drop));
    }
    match result {
        Ok(true) => Done::Asked { rung: Rung::Signal },
        Ok(false) => Done::Gone,
        Err(errno) => Done::Refused { rung: Rung::Signal, errno },
    }
}

/// Signals a process, through its descriptor if it was kept open.
pub fn send(live: &Live, process: ProcessId, number: i32) -> Result<bool, Errno> {
    let Some(opened) = live.take_open(process) else { return process::signal(process, number) };
    let result = process::signal_opened(process, Some(&opened), number);
    live.keep_open(process, opened);
    result
}

/// True for pid 1 and for ourselves.
pub fn is_untouchable(process: ProcessId) -> bool {
    process.pid <= 1 || process.pid.unsigned_abs() == std::process::id()
}

/// Signals all of them. What came of it is the worst of it.
pub fn signal_all(live: &Live, processes: &[ProcessId], effort: Effort, ability: Ability) -> Done {
    let all = processes.iter().map(|process| signal(live, *process, effort, ability));
    all.fold(Done::Gone, Done::worse_of)
}

pub fn signal_of(effort: Effort) -> i32 {
    match effort {
        Effort::Ask => SIGTERM,
        Effort::Force | Effort::Last => SIGKILL,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;
    use crate::linux::proc;
    use crate::remove::ability::Answer;

    #[test]
    fn who_had_gone_shows_no_ability() {
        let live = fixture::live();
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let process = proc::identity(child.id() as i32).unwrap();
        let other = ProcessId { start: process.start + 1, ..process };
        let signal = |process| signal(&live, process, Effort::Force, Ability::SignalShim);
        assert_eq!(signal(other), Done::Gone);
        assert!(live.abilities().is_empty());
        assert_eq!(signal(process), Done::Asked { rung: Rung::Signal });
        assert_eq!(live.abilities().get(&Ability::SignalShim), Some(&Answer::Granted));
        assert!(!child.wait().unwrap().success());
    }
}
