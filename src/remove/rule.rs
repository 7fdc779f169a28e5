//! One firewall rule or chain.

use std::path::Path;

use crate::firewall;
use crate::live::{Ability, Live, is_refusal};
use crate::report::{Done, Rung};
use crate::scope::Scope;

/// Deletes exactly this rule, or this chain if it is empty. Never flushes and never restores: both would undo
/// what others do meanwhile.
pub fn remove(live: &Live, scope: &Scope, program: &Path, table: &str, rule: &[String], chain: bool) -> Done {
    let delete = if chain { "-X" } else { "-D" };
    // Other users of the legacy backend hold its lock for a moment at a time.
    let mut arguments = vec!["-w", "5", "-t", table, delete];
    arguments.extend(rule.iter().map(String::as_str));
    let result = firewall::run(&scope.snap, program, &arguments);
    let refused = result.as_ref().err().map_or(0, |(_, errno)| *errno);
    live.tried(Ability::ChangeRules, if refused == 0 { Ok(()) } else { Err(refused) });
    match result {
        Ok(_) => Done::Gone,
        Err((_, errno)) if is_refusal(errno) => Done::refused(Rung::Remove, errno),
        Err((error, errno)) => Done::Failed { error, errno },
    }
}
