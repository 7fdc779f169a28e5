//! Tables of nf_tables that CNI's plugins make once for all sandboxes, and never take away: for mapped ports, and for
//! masquerading.

use super::Judged;
use crate::error::Blind;
use crate::linux::firewall::{Firewall, MASQUERADE, PORTS};
use crate::reason::Reason;
use crate::scope::Scope;
use crate::scope::cni_ids::CniIds;
use crate::text::escape;

/// Rules that bear an ID of ours go by themselves. The table stays, and is told, unless it is another's as well.
pub(super) fn judge(firewall: &Firewall, scope: &Scope, others_run: &dyn Fn() -> bool, judged: &mut Judged) {
    let ids = CniIds::proven(scope);
    let ids = ids.names();
    // In a table for masquerading a rule says `HASHES, net: NAME, if: NAME, id: ID`, and may be cut.
    let is_ours = |comment: &str| {
        let told = comment.rsplit_once("id: ").map_or(comment, |(_, id)| id);
        !told.is_empty() && ids.iter().any(|id| id.starts_with(told))
    };
    let tables = firewall.nft_tables.iter().filter(|(_, name)| [PORTS, MASQUERADE].contains(&name.as_str()));
    for (family, name) in tables {
        let what = format!("the nft table {family} {name} of CNI's plugins");
        let mut rules = firewall.nft.iter().filter(|rule| rule.family == *family && rule.table == *name);
        if let Some(other) = rules.find(|rule| !is_ours(&rule.comment)) {
            let other = escape(other.comment.as_bytes());
            judged.others.push(format!("{what}: a rule in it is for {other}, which is not known to be ours"));
        } else if !scope.network.is_known() {
            judged.others.push(format!("{what}: nothing ties it to a pod of ours"));
        } else if others_run() {
            judged.others.push(format!("{what}: another container runtime runs"));
        } else {
            let why = format!(
                "pods of this snap had a network here, and no rule in it is for anybody else; 'nft delete table {family} {name}' \
                 ends it"
            );
            judged.blind.push(Blind::new(what, (Reason::Unproven, why)));
        }
    }
}
