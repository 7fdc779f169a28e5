//! Which links are ours, and what our pods' network looked like. Decided with the rest of the scope, before
//! the network namespaces go, which know whose a link is.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs::File;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use crate::error::Blind;
use crate::linux::identity::owner_of_process;
use crate::linux::links::{Block, Link, netns_id, shares};
use crate::linux::netns;
use crate::linux::proc::Proc;
use crate::order;
use crate::reason::Reason;
use crate::runtime::cni::{self, Attachment};
use crate::runtime::short;
use crate::scope::cni_ids::CniIds;
use crate::scope::docker_links::{self, Records};
use crate::scope::lent;
use crate::scope::link_facts::Facts;
use crate::scope::link_verdict::{Judge, Verdict, is_link_local, pod_networks};
use crate::scope::netns::Namespaces;
use crate::scope::network::{DOCKERD, KUBELETS, Network, OwnedLink};
use crate::scope::{Bystander, BystanderKind, Scope};
use crate::snap::units;
use crate::text::{escape, show};
use crate::view::View;

/// Programs that manage the network of a whole node, in pods of their own. One that is not ours may use links, chains and servers
/// by the same well-known names; so may a kubelet, and docker's daemon.
const IN_PODS: &[&str] = &[
    "kube-proxy",
    "flanneld",
    "calico-node",
    "calico-felix",
    "cilium-agent",
    "kube-router",
    "weaver",
    "weave-npc",
    "antrea-agent",
    "kube-ovn-daemon",
    "ovnkube",
];

#[derive(Debug, Default)]
pub struct Gathered {
    /// What is ours.
    pub network: Network,
    /// What looks like it and is not.
    pub bystanders: Vec<Bystander>,
}

/// What CNI wrote down.
#[derive(Default)]
struct Recorded {
    /// Of our sandboxes.
    ours: Vec<(String, Attachment)>,
    /// Of others, and of containers that nothing proves ours.
    others: Vec<Attachment>,
}

/// Gathers what of the network is ours. What an `earlier` run had proven of a link is still true of it, if it is the
/// same one.
pub fn gather(view: &View, scope: &mut Scope, earlier: Option<&Network>) -> Gathered {
    let mut gathered = Gathered::default();
    gathered.network.own = netns::of_process(view.host, "self").ok();
    // Where nothing of ours is, nobody's results are read.
    let any = !scope.containers.is_empty()
        || !scope.shims.is_empty()
        || earlier.is_some_and(Network::is_known)
        || scope.idle;
    let recorded = match any {
        true => read_results(view, scope, &mut gathered.network),
        false => Recorded::default(),
    };
    remember_networks(&recorded, earlier, &mut gathered.network);
    let mut namespaces = super::netns::gather(view, scope, &recorded.ours, &recorded.others, earlier);
    gathered.network.blind.extend(lent::leave(&mut namespaces, &recorded.ours));
    gathered.network.namespaces = namespaces.ours.clone();
    gathered.network.lost = namespaces.lost.clone();
    gathered.network.blind.extend(namespaces.blind.iter().cloned());
    gathered.bystanders.extend(namespaces.bystanders.iter().cloned());
    let of_docker = docker_links::records(view, scope);
    if !view.host.is_live() || !any && of_docker.is_empty() {
        return gathered;
    }
    let mut facts = match Facts::read(&namespaces) {
        Ok(facts) => Facts { proven: earlier.map(|e| e.links.clone()).unwrap_or_default(), ..facts },
        Err(e) => {
            gathered.network.blind.push(Blind::new("network links", e));
            return gathered;
        }
    };
    gathered.network.links = host_ends(&facts, &recorded.ours);
    gathered.network.blind.extend(orphaned_namespaces(&facts, &gathered.network.links, &namespaces));
    let ends: HashSet<u32> = gathered.network.links.iter().map(|l| l.index).collect();
    // A port of a bridge of ours that nobody knows is worth a look at where it leads.
    if !namespaces.hidden && facts.links.iter().any(|l| l.master.is_some() && !ends.contains(&l.index)) {
        facts.learn_deserted(&namespaces);
    }
    gathered.network.rivals = rivals(view, scope);
    let of_docker = Records::read(view, &of_docker);
    if !any {
        gathered.network.blind.extend(docker_links::left(&of_docker, &facts.links, &gathered.network));
        return gathered;
    }
    let networks = pod_networks(&facts, &ends, &recorded.ours);
    let rivals = gathered.network.rivals.clone();
    let judge = Judge {
        facts: &facts,
        ends,
        attachments: &recorded.ours,
        others: &recorded.others,
        addresses: gathered.network.addresses.iter().copied().collect(),
        networks,
        kubelet: gathered.network.other_kubelet().map(str::to_owned),
        docker: scope.docker_has_run().then_some(&of_docker),
        dockerd: rivals.get(DOCKERD).map(String::as_str),
    };
    shared_links(&judge, &scope.links, &mut gathered);
    gathered.network.blind.extend(docker_links::left(&of_docker, &facts.links, &gathered.network));
    gathered.network.blocks = blocks_of(&facts, &gathered.network.links);
    if let Some(earlier) = earlier {
        let known = known_blocks(&facts, &gathered.network.links, earlier);
        gathered.network.blocks.extend(known);
    }
    gathered
}

/// The networks of links that an earlier run had, as long as no link of somebody else's has an address in them: of two
/// dockers each takes the same ones.
fn known_blocks(facts: &Facts, links: &[OwnedLink], earlier: &Network) -> Vec<(IpAddr, u8)> {
    let others = |b: &&Block| !links.iter().any(|own| own.index == b.link);
    let others: Vec<IpAddr> = facts.addresses.iter().filter(others).filter_map(|b| b.address).collect();
    let taken = |(network, bits): (IpAddr, u8)| others.iter().any(|a| shares(*a, network, bits));
    earlier.blocks.iter().copied().filter(|block| !taken(*block)).collect()
}

/// The networks that these links are in.
fn blocks_of(facts: &Facts, links: &[OwnedLink]) -> BTreeSet<(IpAddr, u8)> {
    let owned: HashSet<u32> = links.iter().map(|l| l.index).collect();
    let blocks = facts.addresses.iter().filter(|b| owned.contains(&b.link));
    let blocks = blocks.filter_map(|b| Some((b.address?, b.prefix)));
    order::set(blocks.filter(|(a, _)| !is_link_local(*a)))
}

/// CNI's results of our containers. Where they cannot be read, the network namespaces tell which links are ours,
/// and the step that removes the files says that it cannot see them.
fn read_results(view: &View, scope: &Scope, network: &mut Network) -> Recorded {
    let (sole, proven) = (CniIds::sole(scope), CniIds::proven(scope));
    let found = cni::results(view.host, &scope.roots.cni, &sole.names());
    let mut recorded = Recorded { ours: Vec::new(), others: found.others };
    for (file, id, attachment) in found.ours {
        if let Some(own) = proven.container(&id) {
            // Where the ID is any word, the configuration does not lead to files of that name.
            if cni::is_whole_id(own) {
                network.leases.extend(attachment.config.leases.iter().cloned());
                network.notes.extend(attachment.config.notes.iter().cloned());
            }
            // A later look has to know, too.
            network.results.extend((!attachment.config.lends).then_some(file));
            recorded.ours.push((own.to_owned(), attachment));
        } else {
            let why = format!("it is of container {}, which nothing proves ours", short(&id));
            network.blind.push(Blind::new(format!("CNI's result {}", show(&file)), (Reason::Unproven, why)));
            recorded.others.push(attachment);
        }
    }
    network.blind.extend(recorded.others.iter().filter_map(|result| {
        let name = result.sandbox.as_ref()?;
        let container = &sole.ambiguous(name)?.id;
        let file = format!("results/{}-{name}-{}", result.network, result.interface);
        let why = format!(
            "it is of {} in containerd's namespace {}, or of another that is called so together; what CNI made for it stays, too",
            container.id, container.namespace
        );
        let file = scope.roots.cni.join(file);
        Some(Blind::new(format!("CNI's result {}", show(&file)), (Reason::Unproven, why)))
    }));
    recorded
}

fn remember_networks(recorded: &Recorded, earlier: Option<&Network>, network: &mut Network) {
    let known =
        |of: fn(&Network) -> &BTreeSet<String>| earlier.into_iter().flat_map(move |e| of(e).iter().cloned());
    let found = |of: fn(&Attachment) -> &String| recorded.ours.iter().map(move |(_, a)| of(a).clone());
    network.networks = order::set(found(|a| &a.network).chain(known(|e| &e.networks)));
    network.interfaces = order::set(found(|a| &a.interface).chain(known(|e| &e.interfaces)));
    let told = recorded.ours.iter().flat_map(|(_, a)| a.config.plugins.iter().cloned());
    network.plugins = order::set(told.chain(known(|e| &e.plugins)));
    let others: HashSet<IpAddr> =
        recorded.others.iter().flat_map(|a| &a.addresses).map(|(address, _)| *address).collect();
    let given = recorded.ours.iter().flat_map(|(_, a)| a.addresses.iter().map(|(address, _)| *address));
    let given = given.chain(earlier.into_iter().flat_map(|e| e.addresses.iter().copied()));
    network.addresses = order::set(given.filter(|address| !others.contains(address)));
}

/// The ends on the host of our sandboxes' links: by the namespace that the other end is in, by CNI's result, or by the
/// route to the sandbox's own address.
fn host_ends(facts: &Facts, attachments: &[(String, Attachment)]) -> Vec<OwnedLink> {
    let mut owned: BTreeMap<u32, OwnedLink> = BTreeMap::new();
    let mut own = |link: &Link, because: String| {
        owned.entry(link.index).or_insert_with(|| owned_link(link, because));
    };
    let is_others = |link: &Link| link.peer_netns.is_some_and(|nsid| facts.others.contains_key(&nsid));
    for link in facts.links.iter().filter(|l| l.kind == "veth" && !is_others(l)) {
        if let Some(id) = link.peer_netns.and_then(|nsid| facts.sandboxes.get(&nsid)) {
            own(link, format!("it leads to sandbox {id}"));
        } else if facts.is_proven(link) {
            own(link, "an earlier run knew it".into());
        }
    }
    for (id, attachment) in attachments {
        for (name, mac) in attachment.host_links.iter().filter(|(_, mac)| !mac.is_empty()) {
            // The bandwidth plugin shapes what leaves a pod on a device of its own.
            let made =
                |l: &&Link| matches!(l.kind.as_str(), "veth" | "ifb") && l.mac == *mac && !is_others(l);
            if let Some(link) = facts.by_name(name).filter(made) {
                own(link, format!("CNI made it for sandbox {}", short(id)));
            }
        }
        let to_pod = |r: &&Block| {
            let host = |a: IpAddr| if a.is_ipv4() { 32 } else { 128 };
            attachment.addresses.iter().any(|(a, _)| r.address == Some(*a) && r.prefix == host(*a))
        };
        for route in facts.routes.iter().filter(to_pod) {
            let made = |l: &&Link| l.index == route.link && l.kind == "veth" && !is_others(l);
            if let Some(link) = facts.links.iter().find(made) {
                own(link, format!("the route to sandbox {} leads over it", short(id)));
            }
        }
    }
    owned.into_values().collect()
}

/// Namespaces that nobody claims and into which a link of ours leads. They are told in the first look, since with the link
/// goes the last thing that ties them to us.
fn orphaned_namespaces(facts: &Facts, links: &[OwnedLink], namespaces: &Namespaces) -> Vec<Blind> {
    let ends = facts.links.iter().filter(|l| links.iter().any(|own| own.index == l.index));
    let leads = ends.filter_map(|l| Some((l.peer_netns?, escape(l.name.as_bytes()).into_owned())));
    let is_claimed = |nsid: &i32| facts.sandboxes.contains_key(nsid) || facts.others.contains_key(nsid);
    let leads = order::map(leads.filter(|(nsid, _)| !is_claimed(nsid)));
    let mut found = Vec::new();
    for path in namespaces.unclaimed.values().chain(namespaces.elsewhere.values()) {
        if leads.is_empty() {
            break;
        }
        let Ok(Some(nsid)) = File::open(path).and_then(|netns| netns_id(&netns)) else { continue };
        if let Some(link) = leads.get(&nsid) {
            let why = format!("{link}, a link of ours, leads into it, and nothing else says whose it is");
            found.push(Blind::new(format!("the network namespace {}", show(path)), (Reason::Unproven, why)));
        }
    }
    found
}

fn owned_link(link: &Link, because: String) -> OwnedLink {
    OwnedLink { index: link.index, name: link.name.clone(), r#type: link.kind.clone(), because }
}

/// Judges the links that the profile names, the bridges that CNI's results list (or, where there are none, those that our
/// sandboxes are in), and whatever else leads to our pods.
fn shared_links(judge: &Judge, names: &[String], gathered: &mut Gathered) {
    let listed = judge.attachments.iter().flat_map(|(_, a)| a.host_links.iter().map(|(name, _)| name));
    let is_bridge = |name: &&String| judge.facts.by_name(name).is_some_and(|l| l.kind == "bridge");
    let none_listed = judge.attachments.iter().all(|(_, a)| a.host_links.is_empty());
    let used = judge
        .facts
        .links
        .iter()
        .filter(|l| none_listed && judge.facts.ports(l).any(|port| judge.ends.contains(&port.index)));
    let wanted = order::set(names.iter().chain(listed.filter(is_bridge)).chain(used.map(|l| &l.name)));
    let mut judged: HashSet<u32> = judge.ends.clone();
    let mut doubts = Vec::new();
    for link in wanted.into_iter().filter_map(|name| judge.facts.by_name(name)) {
        if !judged.insert(link.index) {
            continue;
        }
        let what = format!("the link {}", escape(link.name.as_bytes()));
        match judge.judge(link) {
            Verdict::Ours(because) => gathered.network.links.push(owned_link(link, because)),
            Verdict::Others(why) => {
                gathered.bystanders.push(Bystander::anothers(BystanderKind::Link, what, why));
            }
            Verdict::Doubt(why) => doubts.push((link, Blind::new(what, (Reason::Unproven, why)))),
        }
    }
    for (link, told) in doubts {
        match judge.goes_with(link, names, &gathered.network.links) {
            Some(because) => gathered.network.links.push(owned_link(link, because)),
            None => gathered.network.blind.push(told),
        }
    }
    for link in judge.facts.links.iter().filter(|l| !judged.contains(&l.index)) {
        let goes_along = judge.facts.other_end(link).is_some_and(|end| judged.contains(&end.index));
        if let Some(tie) = judge.reaches_our_pods(link).filter(|_| !goes_along) {
            let what = format!("the link {}", escape(link.name.as_bytes()));
            let why = format!("{tie}, and nothing says whose it is");
            gathered.network.blind.push(Blind::new(what, (Reason::Unproven, why)));
        }
    }
}

/// Living programs that manage pods or a node's network, that are not ours and that share our network namespace, or may share
/// it. What a user's process is called says nothing: it has to be root's, of our own PID namespace or a pod's, and in a group
/// that only root puts processes in, for a user may start programs that are root's (setuid) by any name.
fn rivals(view: &View, scope: &Scope) -> BTreeMap<String, String> {
    let Ok(processes) = view.processes() else { return BTreeMap::new() };
    let own = netns::of_process(view.host, "self").ok();
    let depth = view.pid_namespace_depth(None);
    let of_others = |group: &PathBuf| {
        let of_ours = scope.containers.iter().filter(|c| c.is_proven()).flat_map(|c| &c.cgroups);
        let roots_alone = group != Path::new("/") && !group.starts_with("/user.slice");
        roots_alone
            && !of_ours.into_iter().any(|own| group.starts_with(own))
            && units::snap_of(group) != Some(scope.snap.instance.as_str())
    };
    let is_rival = |p: &&Proc| {
        let pid = p.id.pid;
        let root = !view.host.is_live() || owner_of_process(view.host, pid).is_ok_and(|owner| owner == 0);
        let its = netns::of_process(view.host, &pid.to_string());
        let here = netns::is_hidden(&its) || its.is_ok_and(|its| own.is_none_or(|own| its == own));
        let deeper = usize::from(IN_PODS.contains(&p.comm.as_str()));
        let its = view.pid_namespace_depth(Some(pid));
        let near = its.zip(depth).is_some_and(|(its, own)| (own..=own + deeper).contains(&its));
        let shim_of_ours = scope.shims.iter().any(|shim| shim.process.pid == p.parent);
        root && here
            && near
            && !shim_of_ours
            && view.unit_of(pid) != Some(scope.snap.instance.as_str())
            && view.membership(pid).iter().any(of_others)
    };
    let named = processes
        .iter()
        .filter(|p| KUBELETS.iter().chain([&DOCKERD]).chain(IN_PODS).any(|name| *name == p.comm));
    let told = |p: &Proc| (p.comm.clone(), format!("another {} is alive: process {}", p.comm, p.id.pid));
    order::map(named.filter(is_rival).map(told))
}

#[cfg(test)]
mod tests;
