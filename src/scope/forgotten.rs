//! Sandboxes of which nothing but their network is left: CNI's result says for whom a namespace was made, and a process of
//! ours is in it.

use std::collections::{BTreeMap, BTreeSet};

use crate::error::Blind;
use crate::order;
use crate::reason::Reason;
use crate::residue::witness::Witness;
use crate::runtime::{ContainerId, cni, shim};
use crate::scope::cni_ids::CniIds;
use crate::scope::netns::Machine;
use crate::scope::network::NetnsEvidence;
use crate::scope::{Container, Evidence, Scope};
use crate::text::escape;
use crate::view::View;

/// Adds the sandboxes that CNI's results name for network namespaces in which processes of ours are, and nobody else is. Their
/// IDs lead to all else that was made for them: addresses, rules, sockets. `foreign` are IDs of others.
pub(super) fn sandboxes(view: &View, scope: &mut Scope, foreign: &BTreeSet<ContainerId>) {
    let Ok(table) = view.own_mounts() else { return };
    if !scope.containers.iter().any(is_forgotten) {
        return;
    }
    let mut machine = Machine::of(view, table);
    let claims = machine.claims(scope, &[]);
    let (strangers, hidden) = machine.strangers(scope, &claims, &mut BTreeSet::new());
    let lived_in = claims.iter().filter(|c| c.by == NetnsEvidence::Process && is_forgotten(c.container));
    let lived_in = order::set(lived_in.map(|c| c.inode).filter(|inode| !strangers.contains_key(inode)));
    let mut named: BTreeMap<u64, BTreeSet<String>> = BTreeMap::new();
    for attachment in cni::results(view.host, &scope.roots.cni, &CniIds::sole(scope).names()).others {
        let inode = attachment.netns.as_ref().and_then(|path| machine.bound_at(path));
        let id = attachment.sandbox.as_ref().and_then(|id| shim::name(id.as_bytes()));
        if let (Some(inode), Some(id)) = (inode.filter(|inode| lived_in.contains(inode)), id) {
            named.entry(inode).or_default().insert(id);
        }
    }
    for ids in named.into_values() {
        let known = |id: &String| scope.containers.iter().find(|c| c.id.id == *id);
        let other = |id: &String| {
            let is_foreign = foreign.iter().any(|other| other.id == *id);
            is_foreign || known(id).is_some_and(|container| !container.is_proven())
        };
        let why = match ids.first() {
            // One of ours that has joined a namespace proves nothing while others who are in it cannot be seen.
            _ if hidden => "a process of ours is in the namespace, and who else is cannot be told",
            Some(id) if ids.len() == 1 && !other(id) => {
                if known(id).is_none() {
                    scope.containers.push(sandbox(id));
                }
                continue;
            }
            _ => "a process of ours is in the namespace, and the results do not tell for whom that was made",
        };
        let all: Vec<_> = ids.iter().map(|id| escape(id.as_bytes())).collect();
        let what = format!("CNI's results of {}", all.join(", "));
        scope.blind.push(Blind::new(what, (Reason::Unproven, why)));
    }
}

/// True for a proven container of which only processes were found, and no file that tells its ID.
fn is_forgotten(container: &Container) -> bool {
    let tells_no_id = |found| matches!(found, Evidence::RootFs | Evidence::ParentShim);
    container.is_proven() && container.evidence.iter().all(tells_no_id)
}

fn sandbox(id: &str) -> Container {
    // CNI's results name no namespace of containerd's. Only CRI makes sandboxes, and this is its own.
    let id = ContainerId { namespace: "k8s.io".into(), id: id.into() };
    Container {
        sandbox: true,
        evidence: [Evidence::CniResult].into(),
        witnesses: [Witness::NetworkNamespace].into(),
        ..Container::of_id(id)
    }
}
