//! Which links are ours, and what our pods' network looked like. Decided with the rest of the scope, before
//! the network namespaces go, which know whose a link is.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::net::IpAddr;
use std::path::PathBuf;

use crate::linux::links::{Block, Link, shares};
use crate::runtime::cni::{self, Attachment};
use crate::runtime::short;
use crate::scope::link_facts::Facts;
use crate::scope::network::{Network, OwnedLink};
use crate::scope::{Bystander, BystanderKind, Container, Scope, netns_of};
use crate::snap::Snap;
use crate::view::View;

/// Programs that manage pods. One that is not ours may use links by the same well-known names.
const KUBELETS: &[&str] = &["kubelet", "kubelite", "k3s-server", "k3s-agent", "k3s", "rke2", "k0s"];

/// In every distribution a cluster's pods share the first 16 bits of their addresses (48 for IPv6).
const CLUSTER: (u8, u8) = (16, 48);

/// What was gathered.
#[derive(Debug, Default)]
pub struct Gathered {
    /// What is ours.
    pub network: Network,
    /// What looks like it and is not.
    pub bystanders: Vec<Bystander>,
}

/// Gathers what of the network is ours; a container whose bundle is gone gets its network namespace from CNI.
/// What an `earlier` run had proven of a link is still true of it, if it is the same one.
pub fn gather(view: &View, scope: &mut Scope, earlier: Option<&Network>) -> Gathered {
    let mut gathered = Gathered::default();
    let attachments = read_results(view, scope);
    let roots = &scope.roots;
    for container in scope.containers.iter_mut().filter(|c| c.netns.is_none()) {
        let recorded = attachments.iter().find(|(id, _)| *id == container.id.id);
        let netns = recorded.and_then(|(_, a)| a.netns.clone());
        container.netns = netns.filter(|path| cni::is_netns(path, roots));
    }
    let attached: Vec<&Container> =
        scope.containers.iter().filter(|c| netns_of(c, roots).is_some()).collect();
    let known =
        |of: fn(&Network) -> &BTreeSet<String>| earlier.into_iter().flat_map(move |e| of(e).iter().cloned());
    let found = |of: fn(&Attachment) -> &String| attachments.iter().map(move |(_, a)| of(a).clone());
    gathered.network.networks = found(|a| &a.network).chain(known(|e| &e.networks)).collect();
    gathered.network.interfaces = found(|a| &a.interface).chain(known(|e| &e.interfaces)).collect();
    let ids = scope.sole_ids();
    let others = cni::addresses_of_others(view.host, &scope.roots.cni, |id| ids.contains(id));
    let given = attachments.iter().flat_map(|(_, a)| a.addresses.iter().map(|(address, _)| *address));
    let given = given.chain(earlier.into_iter().flat_map(|e| e.addresses.iter().copied()));
    gathered.network.addresses = given.filter(|address| !others.contains(address)).collect();
    if !view.host.is_live() || (attached.is_empty() && attachments.is_empty()) {
        return gathered;
    }
    let facts = match Facts::read(view, &attached, roots) {
        Ok(facts) => Facts { proven: earlier.map(|e| e.links.clone()).unwrap_or_default(), ..facts },
        Err(e) => {
            gathered.network.blind = Some(e.to_string());
            return gathered;
        }
    };
    gathered.network.links = host_ends(&facts, &attachments);
    let kubelet = foreign_kubelet(view, &scope.snap);
    well_known(&facts, &attachments, &scope.links, kubelet, &mut gathered);
    gathered
}

/// CNI's results of our containers. Where they cannot be read, the network namespaces tell which links are ours,
/// and the step that removes the files says that it cannot see them.
fn read_results(view: &View, scope: &Scope) -> Vec<(String, Attachment)> {
    let ids = scope.sole_ids();
    let (files, _) = cni::results(view.host, &scope.roots.cni, |id| ids.get(id).copied());
    let read = |(file, id): (PathBuf, &str)| {
        let bytes = view.host.read(&file).ok()?;
        Some((id.to_owned(), cni::parse(&bytes, id)?))
    };
    files.into_iter().filter_map(read).collect()
}

/// The ends on the host of our sandboxes' links: by the namespace that the other end is in; or, where that
/// namespace is no longer bound, by CNI's result or by the route to the sandbox's own address.
fn host_ends(facts: &Facts, attachments: &[(String, Attachment)]) -> Vec<OwnedLink> {
    let mut owned: BTreeMap<u32, OwnedLink> = BTreeMap::new();
    let mut own = |link: &Link, because: String| {
        let (index, name, r#type) = (link.index, link.name.clone(), link.kind.clone());
        owned.entry(index).or_insert(OwnedLink { index, name, r#type, because });
    };
    for link in facts.links.iter().filter(|l| l.kind == "veth") {
        if let Some(id) = link.peer_netns.and_then(|nsid| facts.sandboxes.get(&nsid)) {
            own(link, format!("it leads to sandbox {}", short(id)));
        } else if facts.is_proven(link) {
            own(link, "an earlier run knew it".into());
        }
    }
    for (id, attachment) in attachments.iter().filter(|(id, _)| facts.unbound.contains(id)) {
        for (name, mac) in &attachment.host_links {
            if let Some(link) = facts.by_name(name).filter(|l| l.kind == "veth" && l.mac == *mac) {
                own(link, format!("CNI made it for sandbox {}", short(id)));
            }
        }
        let to_pod = |r: &&Block| {
            let host = |a: IpAddr| if a.is_ipv4() { 32 } else { 128 };
            attachment.addresses.iter().any(|(a, _)| r.address == Some(*a) && r.prefix == host(*a))
        };
        for route in facts.routes.iter().filter(to_pod) {
            if let Some(link) = facts.links.iter().find(|l| l.index == route.link && l.kind == "veth") {
                own(link, format!("the route to sandbox {} leads over it", short(id)));
            }
        }
    }
    owned.into_values().collect()
}

/// Judges the links that the profile names.
fn well_known(
    facts: &Facts,
    attachments: &[(String, Attachment)],
    names: &[String],
    kubelet: Option<String>,
    gathered: &mut Gathered,
) {
    let ends: HashSet<u32> = gathered.network.links.iter().map(|l| l.index).collect();
    let ours = match attachments {
        [] => networks_of_bridges(facts, names, &ends),
        _ => pod_networks(attachments),
    };
    for link in names.iter().filter_map(|name| facts.by_name(name)) {
        let foreign = kubelet
            .clone()
            .or_else(|| foreign_port(facts, link, &ends))
            .or_else(|| foreign_block(facts, link, &ours).filter(|_| !facts.is_proven(link)));
        match foreign {
            None => gathered.network.links.push(OwnedLink {
                index: link.index,
                name: link.name.clone(),
                r#type: link.kind.clone(),
                because: "the profile names it, and nothing foreign uses it".into(),
            }),
            Some(why) => gathered.bystanders.push(Bystander {
                kind: BystanderKind::Link,
                what: format!("the link {}", link.name),
                why,
            }),
        }
    }
}

fn foreign_port(facts: &Facts, link: &Link, ends: &HashSet<u32>) -> Option<String> {
    if link.kind.is_empty() {
        return Some("it is not a virtual link".into());
    }
    let port = facts.links.iter().find(|l| l.master == Some(link.index) && !ends.contains(&l.index))?;
    Some(format!("a port of it, {}, is not ours", port.name))
}

/// An address or a route over the link that is not of our pods' network. A dummy link's addresses reach nobody.
fn foreign_block(facts: &Facts, link: &Link, ours: &[(IpAddr, u8)]) -> Option<String> {
    if link.kind == "dummy" {
        return None;
    }
    let of_pods = |block: &Block| {
        ours.iter().any(|(network, bits)| block.is_in(*network, *bits))
            || block.address.is_some_and(is_link_local)
    };
    let blocks = facts.addresses.iter().chain(&facts.routes).filter(|b| b.link == link.index);
    let block = blocks.into_iter().find(|b| !of_pods(b))?;
    let text = block.address.map_or("a default route".into(), |a| format!("{a}/{}", block.prefix));
    Some(format!("{text} over it is not of our pods' network"))
}

/// The networks that our pods were in, as far as CNI's results tell: their own, those that they were given
/// routes to, and the cluster's, of which each node has a part.
fn pod_networks(attachments: &[(String, Attachment)]) -> Vec<(IpAddr, u8)> {
    let all = attachments.iter().map(|(_, a)| a);
    all.flat_map(|a| a.addresses.iter().map(|(a, bits)| wide(*a, *bits)).chain(a.routes.iter().copied()))
        .collect()
}

/// The same where CNI's results are hidden from us: of bridges that the profile names and that have a port of
/// ours, the first address.
fn networks_of_bridges(facts: &Facts, names: &[String], ends: &HashSet<u32>) -> Vec<(IpAddr, u8)> {
    let has_port = |bridge: &&Link| {
        facts.links.iter().any(|l| l.master == Some(bridge.index) && ends.contains(&l.index))
    };
    let bridges = names.iter().filter_map(|name| facts.by_name(name)).filter(has_port);
    let first = |bridge: &Link, v4: bool| {
        let of_family = |b: &&Block| b.link == bridge.index && b.address.is_some_and(|a| a.is_ipv4() == v4);
        let block = facts.addresses.iter().find(of_family)?;
        Some(wide(block.address?, block.prefix))
    };
    bridges.flat_map(|bridge| [first(bridge, true), first(bridge, false)]).flatten().collect()
}

fn wide(address: IpAddr, bits: u8) -> (IpAddr, u8) {
    let cluster = if address.is_ipv4() { CLUSTER.0 } else { CLUSTER.1 };
    (address, cluster.min(bits))
}

fn is_link_local(address: IpAddr) -> bool {
    let (v4, v6) = ([169, 254, 0, 0].into(), [0xfe80, 0, 0, 0, 0, 0, 0, 0].into());
    shares(address, v4, 16) || shares(address, v6, 10) || address.is_multicast()
}

/// A living kubelet that is not ours and that may share our network namespace.
fn foreign_kubelet(view: &View, snap: &Snap) -> Option<String> {
    let processes = view.processes().as_ref().ok()?;
    let netns = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/net")).ok();
    let own = netns("self");
    let mut found = processes.iter().filter(|p| KUBELETS.contains(&p.comm.as_str()));
    let foreign = found.find(|p| {
        let elsewhere = netns(&p.id.pid.to_string()).is_some_and(|its| Some(its) != own);
        view.unit_of(p.id.pid) != Some(snap.instance.as_str()) && !elsewhere
    })?;
    Some(format!("another kubelet is alive: process {} ({})", foreign.id.pid, foreign.comm))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(index: u32, name: &str, kind: &str, master: Option<u32>, peer: Option<i32>) -> Link {
        Link { index, name: name.into(), kind: kind.into(), mac: String::new(), master, peer_netns: peer }
    }

    fn block(link: u32, text: &str) -> Block {
        let (address, prefix) = text.split_once('/').unwrap();
        Block { link, address: Some(address.parse().unwrap()), prefix: prefix.parse().unwrap() }
    }

    fn facts() -> Facts {
        Facts {
            links: vec![
                link(1, "lo", "", None, None),
                link(5, "cni0", "bridge", None, None),
                link(6, "veth1", "veth", Some(5), Some(7)),
                link(8, "veth2", "veth", None, Some(9)),
                link(9, "cali1", "veth", None, None),
            ],
            addresses: vec![block(5, "10.1.0.1/24"), block(5, "fe80::1/64")],
            routes: vec![block(5, "10.1.0.0/24"), block(9, "10.1.5.5/32")],
            sandboxes: [(7, "ours".to_string())].into(),
            unbound: BTreeSet::new(),
            proven: Vec::new(),
        }
    }

    fn attachments() -> Vec<(String, Attachment)> {
        let address = |text: &str| (text.parse().unwrap(), 24);
        let mut a =
            Attachment { addresses: vec![address("10.1.0.2"), address("10.1.5.5")], ..Default::default() };
        a.host_links.push(("veth2".into(), String::new()));
        vec![("ours".into(), a)]
    }

    fn names(facts: &Facts, kubelet: Option<String>) -> (Vec<String>, Vec<String>) {
        let mut g = Gathered::default();
        g.network.links = host_ends(facts, &attachments());
        well_known(facts, &attachments(), &["cni0".into(), "none".into()], kubelet, &mut g);
        let links = g.network.links.into_iter().map(|l| l.name).collect();
        (links, g.bystanders.into_iter().map(|b| b.why).collect())
    }

    #[test]
    fn host_ends_and_the_bridge_that_has_no_other_port() {
        assert_eq!(names(&facts(), None), (vec!["veth1".into(), "cni0".into()], vec![]));
    }

    #[test]
    fn an_unbound_namespace_leaves_results_and_routes_to_tell() {
        let mut facts = facts();
        facts.unbound.insert("ours".into());
        assert_eq!(names(&facts, None).0, ["veth1", "veth2", "cali1", "cni0"]);
    }

    #[test]
    fn anything_foreign_keeps_the_bridge() {
        let mut port = facts();
        port.links.push(link(20, "tap0", "tun", Some(5), None));
        assert_eq!(names(&port, None).1, ["a port of it, tap0, is not ours"]);
        for (address, keeps) in [("192.0.2.1/24", true), ("10.1.7.0/24", false), ("10.0.0.0/8", true)] {
            let mut facts = facts();
            facts.routes.push(block(5, address));
            assert_eq!(names(&facts, None).1.len(), usize::from(keeps), "{address}");
        }
        let (links, why) = names(&facts(), Some("a kubelet".into()));
        assert_eq!((links, why), (vec!["veth1".into()], vec!["a kubelet".into()]));
    }

    #[test]
    fn what_an_earlier_run_had_proven_needs_no_result_and_no_namespace_any_more() {
        let mut facts = facts();
        facts.sandboxes.clear();
        let judged = |facts: &Facts| {
            let mut g = Gathered::default();
            g.network.links = host_ends(facts, &[]);
            well_known(facts, &[], &["cni0".into()], None, &mut g);
            g.network.links.into_iter().map(|l| l.name).collect::<Vec<_>>()
        };
        assert!(judged(&facts).is_empty());
        let proven = |index, name: &str, kind: &str| OwnedLink {
            index,
            name: name.into(),
            r#type: kind.into(),
            because: String::new(),
        };
        facts.proven =
            vec![proven(5, "cni0", "bridge"), proven(6, "veth1", "veth"), proven(80, "veth2", "veth")];
        assert_eq!(judged(&facts), ["veth1", "cni0"]);
        facts.links.push(link(20, "tap0", "tun", Some(5), None));
        assert_eq!(judged(&facts), ["veth1"], "a foreign port came since");
    }
}
