//! One process.

use crate::live::{Ability, Live};
use crate::report::{Done, Rung};
use crate::residue::ProcessId;
use crate::step::Effort;
use crate::sys;

/// Signals exactly this process, and notes what confinement said.
pub fn signal(live: &Live, process: ProcessId, effort: Effort, ability: Ability) -> Done {
    if process.pid <= 1 || process.pid.unsigned_abs() == std::process::id() {
        return Done::NotPossible { why: "never pid 1, never ourselves".into() };
    }
    let result = sys::signal(process, super::signal_of(effort));
    if result != Ok(false) {
        live.tried(ability, result.map(drop).map_err(|e| e as i32));
    }
    match result {
        Ok(true) => Done::Asked { rung: Rung::Signal },
        Ok(false) => Done::Gone,
        Err(e) => Done::refused(Rung::Signal, e as i32),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::live::Answer;
    use crate::proc;
    use crate::sys::Interrupts;

    #[test]
    fn who_had_gone_shows_no_ability() {
        let live = Live::new(Interrupts::take().unwrap()).unwrap();
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let process = proc::identity(child.id() as i32).unwrap();
        let other = ProcessId { start: process.start + 1, ..process };
        let signal = |process| signal(&live, process, Effort::Force, Ability::SignalShim);
        assert_eq!(signal(other), Done::Gone);
        assert!(live.abilities.lock().unwrap().is_empty());
        assert_eq!(signal(process), Done::Asked { rung: Rung::Signal });
        assert_eq!(live.abilities.lock().unwrap().get(&Ability::SignalShim), Some(&Answer::Granted));
        assert!(!child.wait().unwrap().success());
    }
}
