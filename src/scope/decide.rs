//! The order in which evidence of ownership is gathered.

use std::collections::{BTreeSet, HashSet};
use std::hash::Hash;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::{Blind, Result};
use crate::runtime::told::ConfiguredRoots;
use crate::runtime::{Name, bundle, docker};
use crate::scope::gather::Gather;
use crate::scope::network::Network;
use crate::scope::shims::{address_by_shims, told_by_shims};
use crate::scope::{
    Container, Scope, builds, dead, dead_sockets, deserted, devices, exited, forgotten, images, ipc, links,
    manners, outside, pinned, roots, shared, told_groups,
};
use crate::snap::Snap;
use crate::snap::profile::{Profile, Roots};
use crate::text;
use crate::view::View;

/// Gathers the evidence. Reads only.
pub fn gather(view: &View, snap: &Snap, profile: &Profile) -> Result<Scope> {
    gather_after(view, snap, profile, None)
}

/// The same after an earlier run that left something.
pub fn gather_after(view: &View, snap: &Snap, profile: &Profile, earlier: Option<&Scope>) -> Result<Scope> {
    let (mut roots, mut inside) = roots::resolve(view.host, snap, profile)?;
    let address = address_by_shims(view, snap, &roots, &inside);
    let by_address = address.is_some().then(|| ConfiguredRoots { address, ..ConfiguredRoots::default() });
    if by_address.is_some() {
        (roots, inside) = roots::resolve_as_told(view.host, snap, profile, by_address.clone())?;
    }
    // Where containerd works in the usual place by now, the snap was installed anew since.
    let is_back = view.host.exists(&roots.state.join(bundle::TASKS)).unwrap_or(false);
    let known = || earlier.and_then(|earlier| earlier.told_by_shims.clone()).filter(|_| !is_back);
    // The file that tells where docker's data are goes with the state.
    let by_docker = roots.docker.is_some().then(|| roots.root.clone());
    let by_docker = by_docker.map(|root| ConfiguredRoots { root: Some(root), ..ConfiguredRoots::default() });
    let mut told_by_shims = told_by_shims(view, snap, &roots, &inside).or(by_docker).or_else(known);
    if let Some(ConfiguredRoots { address, .. }) = by_address {
        told_by_shims.get_or_insert_default().address = address;
    }
    if told_by_shims.is_some() {
        (roots, inside) = roots::resolve_as_told(view.host, snap, profile, told_by_shims.clone())?;
    }
    let of_docker = docker_is_anothers(view, snap, &mut roots, &mut inside);
    let of_links = outside::give_up(view, snap, &mut roots, &mut inside);
    let mut gather = Gather::new(view, snap, &roots, &inside);
    gather.blind.extend(of_docker.into_iter().chain(of_links));
    gather.bundles();
    gather.runc_states();
    gather.runc_states_elsewhere();
    gather.shims();
    gather.children_of_shims();
    gather.empty_groups();
    gather.prove_groups();
    gather.orphans();
    gather.empty_siblings();
    gather.contradicted_ids();
    let chosen = gather.refused_groups();
    earlier.into_iter().for_each(|earlier| gather.known_before(&earlier.containers));
    let rule_comments = gather.rule_comments(&profile.network.rule_comments);
    let groups_above = gather.groups_above();
    let streams = gather.streams();
    let Gather {
        containers,
        shims,
        foreign: others,
        foreign_ids,
        mut bystanders,
        blind,
        doubts,
        nonsense,
        anothers,
        states,
        sibling,
        ..
    } = gather;
    let ids: HashSet<Name> = containers.keys().map(|own| own.id.clone()).collect();
    let foreign = others.iter().filter(|other| ids.contains(&other.id)).cloned().collect();
    // containerd makes its directories when it starts.
    let is_kept = |made: &PathBuf| roots.mounts.contains(made) || roots.shared.contains(made);
    let has_run = [&roots.root, &roots.state]
        .into_iter()
        .any(|made| is_kept(made) && roots.may_have_made(view.host, snap, made));
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
        foreign,
        containers: containers.into_values().filter(|c| c.is_proven() || !anothers.contains(&c.id)).collect(),
        damaged: false,
        network: Network::default(),
        streams,
        states,
        docker_places: BTreeSet::new(),
        told_groups: Default::default(),
        builds: Default::default(),
        staged: BTreeSet::new(),
        deserted: Vec::new(),
        pinned: HashSet::new(),
        graceful: Default::default(),
        devices: Vec::new(),
        groups_above,
        recorded: Vec::new(),
        exited: Default::default(),
        ipc: BTreeSet::new(),
        idle,
        bystanders: Vec::new(),
        blind,
        doubts,
        nonsense,
    };
    outside::untie(view, &mut scope);
    scope.docker_places = docker_places(view, &scope);
    scope.builds = builds::gather(view, &mut scope, sibling.as_deref());
    scope.told_groups = told_groups::gather(view, &mut scope, &chosen);
    forgotten::sandboxes(view, &mut scope, &others);
    dead::sandboxes(view, &mut scope, &others);
    let found = links::gather(view, &mut scope, earlier.map(|e| &e.network));
    bystanders.extend(found.bystanders);
    scope.network = found.network;
    scope.network.docker = manners::reached(view, &scope);
    scope.deserted = deserted::gather(view, &scope);
    scope.pinned = pinned::gather(view, &mut scope);
    scope.staged = shared::staged(view, &scope);
    scope.devices = devices::gather(view, &scope);
    let known = earlier.into_iter().flat_map(|e| &e.devices).filter(|d| !scope.devices.contains(d)).cloned();
    let known: Vec<_> = known.collect();
    scope.devices.extend(known);
    scope.bystanders = bystanders;
    (scope.graceful, scope.recorded) = manners::gather(view, &scope, profile);
    scope.recorded.retain(|id| !foreign_ids.contains(&id.id));
    scope.exited = exited::gather(view, &mut scope, &foreign_ids);
    scope.exited.sockets = dead_sockets::gather(view, &mut scope, &foreign_ids);
    let known = earlier.map(|earlier| earlier.exited.clone().without(&foreign_ids));
    scope.exited = std::mem::take(&mut scope.exited).union(known.unwrap_or_default());
    scope.ipc = ipc::gather(view, &mut scope);
    scope.ipc.extend(earlier.into_iter().flat_map(|earlier| earlier.ipc.iter().cloned()));
    scope.containers.iter_mut().for_each(Container::shrink);
    share_names(&mut scope);
    Ok(scope)
}

/// docker's data that were moved out of the snap's directories may be another docker's by now: then nothing there is ours but
/// what is found otherwise. Told where nobody can say.
fn docker_is_anothers(view: &View, snap: &Snap, roots: &mut Roots, inside: &mut Roots) -> Option<Blind> {
    let data = roots.docker.as_ref()?;
    let locked = images::is_other_dockers(view, snap, data);
    let told = match locked.map(|locked| locked || has_others_shims(view, snap, roots, inside)) {
        Ok(false) => return None,
        Ok(true) => None,
        Err(e) => Some(Blind::new(format!("docker's data in {}", text::show(data)), e)),
    };
    (roots.docker, inside.docker) = (None, None);
    told
}

/// True if a shim serves docker's containerd at a place out of the snap's directories, and in no unit of the snap's: another docker
/// has that place by now, whether its daemon runs or not.
fn has_others_shims(view: &View, snap: &Snap, roots: &Roots, inside: &Roots) -> bool {
    let Ok(processes) = view.processes() else { return true };
    let serves = |pid: i32| processes.shim(pid).is_some_and(|args| args.address == inside.address);
    let is_ours = |pid: i32| view.unit_of(pid) == Some(snap.instance.as_str());
    roots.moved.iter().any(|place| roots.address.starts_with(place))
        && processes.iter().any(|p| serves(p.id.pid) && !is_ours(p.id.pid))
}

/// What there is of proven containers, with the volumes that they have.
fn docker_places(view: &View, scope: &Scope) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let Some(data) = &scope.roots.docker else { return found };
    let volumes = data.join("volumes");
    for container in scope.containers.iter().filter(|c| c.is_proven() && !scope.is_foreign(&c.id)) {
        docker::places(view.host, data, &container.id.id, &mut found);
        let binds = container.binds.list().into_iter().map(|bind| scope.roots.place_of(&bind));
        found.extend(binds.filter(|bind| bind.starts_with(&volumes) && bind.ends_with("_data")));
    }
    found
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
