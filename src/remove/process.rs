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
    live.tried(ability, result.map(drop).map_err(|e| e as i32));
    match result {
        Ok(true) => Done::Asked { rung: Rung::Signal },
        Ok(false) => Done::Gone,
        Err(e) => Done::refused(Rung::Signal, e as i32),
    }
}
