//! Tables of nf_tables that CNI's plugins make once for all sandboxes, and never take away: for mapped ports, and for
//! masquerading.

use std::collections::HashSet;

use super::Judged;
use crate::error::Blind;
use crate::linux::firewall::{Firewall, MASQUERADE, PORTS, SPOOFS};
use crate::linux::nft::{BRIDGE, Rule};
use crate::order;
use crate::reason::Reason;
use crate::scope::Scope;
use crate::scope::cni_ids::CniIds;
use crate::text::{escape, few};

/// Rules that bear an ID of ours go by themselves. The table stays, and is told, unless it is another's as well.
pub(super) fn judge(firewall: &Firewall, scope: &Scope, others_run: &dyn Fn() -> bool, judged: &mut Judged) {
    let ids = CniIds::proven(scope);
    let ids = ids.names();
    // In a table for masquerading a rule says `HASHES, net: NAME, if: NAME, id: ID`, and may be cut.
    let is_ours = |comment: &str| {
        let told = comment.rsplit_once("id: ").map_or(comment, |(_, id)| id);
        !told.is_empty() && ids.iter().any(|id| id.starts_with(told))
    };
    spoofs(firewall, &ids, judged);
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

/// What the bridge plugin makes for each sandbox whose addresses it guards (`macspoofchk`), in a table that everybody may have. The
/// comments bear the sandbox's ID and its interface.
fn spoofs(firewall: &Firewall, ids: &HashSet<&str>, judged: &mut Judged) {
    let is_ours = |rule: &&Rule| {
        let id = rule.comment.strip_prefix("macspoofchk-").and_then(|rest| rest.rsplit_once('-'));
        (rule.family.as_str(), rule.table.as_str()) == (BRIDGE, SPOOFS)
            && id.is_some_and(|(id, _)| ids.contains(id))
    };
    let (own, of_all): (Vec<&Rule>, _) =
        firewall.nft.iter().filter(is_ours).partition(|rule| rule.chain.starts_with("cni-"));
    let mut chains: Vec<_> = own.iter().map(|rule| escape(rule.chain.as_bytes())).collect();
    order::sort(&mut chains);
    chains.dedup();
    for rule in of_all {
        let Rule { chain, handle, comment, .. } = rule;
        let what =
            format!("rule {handle} of chain {} of the nft table bridge {SPOOFS}", escape(chain.as_bytes()));
        let why = format!(
            "CNI made it for a pod of this snap ({}); 'nft delete rule bridge {SPOOFS} {chain} handle {handle}' ends it",
            escape(comment.as_bytes()),
            chain = escape(chain.as_bytes())
        );
        judged.blind.push(Blind::new(what, (Reason::Unproven, why)));
    }
    if !chains.is_empty() {
        let why = format!(
            "CNI made them for pods of this snap; 'nft flush chain bridge {SPOOFS} NAME' and 'nft delete chain bridge {SPOOFS} NAME' \
             end one: {}",
            few(&chains, 20)
        );
        judged
            .blind
            .push(Blind::new(format!("chains of the nft table bridge {SPOOFS}"), (Reason::Unproven, why)));
    }
}
