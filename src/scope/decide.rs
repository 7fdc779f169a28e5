//! The order in which evidence of ownership is gathered.

use std::collections::HashSet;
use std::hash::Hash;
use std::path::Path;
use std::sync::Arc;

use crate::error::Result;
use crate::runtime::{Name, bundle};
use crate::scope::gather::Gather;
use crate::scope::network::Network;
use crate::scope::shims::told_by_shims;
use crate::scope::{Container, Scope, dead, devices, forgotten, links, manners, roots};
use crate::snap::Snap;
use crate::snap::profile::Profile;
use crate::view::View;

/// Gathers the evidence. Reads only.
pub fn gather(view: &View, snap: &Snap, profile: &Profile) -> Result<Scope> {
    gather_after(view, snap, profile, None)
}

/// The same after an earlier run that left something.
pub fn gather_after(view: &View, snap: &Snap, profile: &Profile, earlier: Option<&Scope>) -> Result<Scope> {
    let (mut roots, mut inside) = roots::resolve(view.host, snap, profile)?;
    // Where containerd works in the usual place by now, the snap was installed anew since.
    let is_back = view.host.exists(&roots.state.join(bundle::TASKS)).unwrap_or(false);
    let known = || earlier.and_then(|earlier| earlier.told_by_shims.clone()).filter(|_| !is_back);
    let told_by_shims = told_by_shims(view, snap, &roots, &inside).or_else(known);
    if told_by_shims.is_some() {
        (roots, inside) = roots::resolve_as_told(view.host, snap, profile, told_by_shims.clone())?;
    }
    let mut gather = Gather::new(view, snap, &roots, &inside);
    gather.bundles();
    gather.runc_states();
    gather.shims();
    gather.children_of_shims();
    gather.empty_groups();
    gather.prove_groups();
    gather.orphans();
    gather.empty_siblings();
    gather.contradicted_ids();
    gather.refused_groups();
    earlier.into_iter().for_each(|earlier| gather.known_before(&earlier.containers));
    let rule_comments = gather.rule_comments(&profile.network.rule_comments);
    let groups_above = gather.groups_above();
    let streams = gather.streams();
    let Gather {
        containers, shims, mut foreign, foreign_ids, mut bystanders, blind, doubts, nonsense, ..
    } = gather;
    let ids: HashSet<Name> = containers.keys().map(|own| own.id.clone()).collect();
    let others = foreign.clone();
    foreign.retain(|other| ids.contains(&other.id));
    // containerd makes its directories when it starts.
    let has_run =
        [&roots.root, &roots.state].into_iter().any(|made| roots.may_have_made(view.host, snap, made));
    let idle = containers.is_empty() && (has_run || earlier.is_some_and(|earlier| earlier.idle));
    let mut scope = Scope {
        snap: snap.clone(),
        roots,
        inside,
        told_by_shims,
        services: profile.services.clone(),
        links: profile.network.links.clone(),
        rule_comments,
        shims,
        foreign: foreign.into_iter().collect(),
        containers: containers.into_values().collect(),
        network: Network::default(),
        streams,
        graceful: Default::default(),
        devices: Vec::new(),
        groups_above,
        recorded: Vec::new(),
        idle,
        bystanders: Vec::new(),
        blind,
        doubts,
        nonsense,
    };
    forgotten::sandboxes(view, &mut scope, &others);
    dead::sandboxes(view, &mut scope, &others);
    let found = links::gather(view, &mut scope, earlier.map(|e| &e.network));
    bystanders.extend(found.bystanders);
    scope.network = found.network;
    scope.devices = devices::gather(view, &scope);
    let known = earlier.into_iter().flat_map(|e| &e.devices).filter(|d| !scope.devices.contains(d)).cloned();
    let known: Vec<_> = known.collect();
    scope.devices.extend(known);
    scope.bystanders = bystanders;
    (scope.graceful, scope.recorded) = manners::gather(view, &scope, profile);
    scope.recorded.retain(|id| !foreign_ids.contains(&id.id));
    scope.containers.iter_mut().for_each(Container::shrink);
    share_names(&mut scope);
    Ok(scope)
}

/// What was read in many places and is called alike shares one text.
fn share_names(scope: &mut Scope) {
    let names: HashSet<Name> =
        scope.containers.iter().flat_map(|c| [&c.id.namespace, &c.id.id]).cloned().collect();
    let sockets: HashSet<Arc<Path>> = scope.containers.iter().flat_map(|c| c.socket.clone()).collect();
    for container in &mut scope.containers {
        share(&names, &mut container.id.namespace);
        share(&names, &mut container.shim_id);
        container.socket.iter_mut().for_each(|socket| share(&sockets, socket));
    }
    for shim in &mut scope.shims {
        share(&names, &mut shim.namespace);
        shim.id.iter_mut().for_each(|id| share(&names, id));
        shim.socket.iter_mut().for_each(|socket| share(&sockets, socket));
    }
}

fn share<T: Clone + Eq + Hash>(known: &HashSet<T>, one: &mut T) {
    if let Some(known) = known.get(one) {
        *one = known.clone();
    }
}
