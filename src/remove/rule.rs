//! One firewall rule or chain.

use nix::errno::Errno;

use crate::engine::done::{Done, Rung};
use crate::error::is_refusal;
use crate::linux::{firewall, nft};
use crate::remove::ability::Ability;
use crate::remove::live::Live;
use crate::residue::{NftRule, Rule};

/// Deletes exactly this rule, or this chain if it is empty. Never flushes and never restores: both would undo
/// what others do meanwhile.
pub fn remove(live: &Live, Rule { program, table, rule, chain }: &Rule) -> Done {
    let delete = if *chain { "-X" } else { "-D" };
    // Other users of the legacy backend hold its lock for a moment at a time.
    let mut arguments = vec!["-w", "5", "-t", table, delete];
    arguments.extend(rule.iter().map(String::as_str));
    let result = firewall::run(&live.snap.dir, program, &arguments);
    let started = result.as_ref().map(drop).map_err(|failure| failure.errno.unwrap_or(Errno::UnknownErrno));
    live.tried(
        Ability::ChangeRules,
        started.or_else(|e| if e == Errno::UnknownErrno { Ok(()) } else { Err(e) }),
    );
    match result {
        Ok(_) => Done::Gone,
        Err(firewall::Failure { errno: Some(errno), .. }) if is_refusal(errno) => {
            Done::Refused { rung: Rung::Remove, errno }
        }
        Err(firewall::Failure { why, errno }) => Done::Failed { error: why, errno },
    }
}

/// Deletes exactly this rule of nf_tables.
pub fn remove_nft(live: &Live, rule: &NftRule) -> Done {
    let NftRule { family, table, chain, comment, .. } = rule.clone();
    let result = nft::delete(&nft::Rule { family, table, chain, handle: rule.handle, comment });
    live.tried(Ability::ChangeRules, result);
    Done::of(result, || format!("delete rule {} of nft table {}", rule.handle, rule.table))
}
