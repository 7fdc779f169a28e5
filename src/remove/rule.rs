//! One firewall rule or chain.

use std::path::Path;

use nix::errno::Errno;

use crate::firewall;
use crate::live::{Ability, Live, is_refusal};
use crate::nft;
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

/// Deletes exactly this rule of nf_tables.
pub fn remove_nft(live: &Live, rule: &nft::Rule) -> Done {
    let result = nft::delete(rule);
    live.tried(Ability::ChangeRules, result.map_err(|e| e as i32));
    match result {
        Ok(()) | Err(Errno::ENOENT) => Done::Gone,
        Err(e) if is_refusal(e as i32) => Done::refused(Rung::Remove, e as i32),
        Err(e) => {
            let what =
                format!("cannot delete rule {} of nft table {}: {}", rule.handle, rule.table, e.desc());
            Done::Failed { error: what, errno: e as i32 }
        }
    }
}
