//! Whose a link is that many pods share (a bridge, a tunnel), or that a profile names.
//!
//! Names say nothing: cni0 and flannel.1 are called so on every node. A link is ours by a tie to a pod of ours, and never
//! because nothing foreign was seen; another's by what is another's; and where neither is there, that is a doubt.

use std::collections::HashSet;
use std::net::IpAddr;

use crate::linux::links::{Block, Link, leads_to, shares};
use crate::runtime::cni::Attachment;
use crate::scope::docker_links::{Maker, Records, SHARED};
use crate::scope::link_facts::Facts;
use crate::scope::network::OwnedLink;
use crate::text::escape;

/// In every distribution a cluster's pods share the first 16 bits of their addresses (48 for IPv6).
const CLUSTER: (u8, u8) = (16, 48);

/// Links by which network plugins lead from node to node. A bridge or a VLAN of the user's may well have an address of a network
/// as large as that of all pods.
const TUNNELS: [&str; 12] = [
    "ipip",
    "sit",
    "ip6tnl",
    "gre",
    "gretap",
    "ip6gre",
    "ip6gretap",
    "erspan",
    "vxlan",
    "geneve",
    "wireguard",
    "tun",
];

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Ours(String),
    Others(String),
    Doubt(String),
}

/// What links are judged by.
pub(super) struct Judge<'a> {
    pub facts: &'a Facts,
    /// Ends of our sandboxes' links.
    pub ends: HashSet<u32>,
    /// CNI's results of our sandboxes.
    pub attachments: &'a [(String, Attachment)],
    /// Others' results.
    pub others: &'a [Attachment],
    /// Addresses that our pods were given, and nobody else.
    pub addresses: Vec<IpAddr>,
    /// The networks that our pods are in, as far as is known.
    pub networks: Vec<(IpAddr, u8)>,
    /// Another kubelet that is alive.
    pub kubelet: Option<String>,
    /// What docker wrote down, if containers of ours are docker's, which knows no CNI.
    pub docker: Option<&'a Records>,
    /// Another docker's daemon that is alive.
    pub dockerd: Option<&'a str>,
}

impl Judge<'_> {
    pub fn judge(&self, link: &Link) -> Verdict {
        use Verdict::{Doubt, Others, Ours};
        if link.kind.is_empty() {
            return Others("it is not a virtual link".into());
        }
        // With one end of a veth goes the other.
        let ends: Vec<&Link> = [Some(link), self.facts.other_end(link)].into_iter().flatten().collect();
        for end in &ends {
            if let Some(verdict) = self.against(end) {
                return verdict;
            }
        }
        if let Some(tie) = ends.iter().find_map(|end| self.tie(end)) {
            return Ours(tie);
        }
        let weak = ends.iter().find_map(|end| self.weak_tie(end));
        match (weak, &self.kubelet) {
            (Some(tie), None) => Ours(tie),
            (Some(tie), Some(kubelet)) => Doubt(format!("{tie}; but {kubelet}")),
            (None, Some(kubelet)) => Others(kubelet.clone()),
            (None, None) => Doubt("nothing ties it to a pod of ours, and nothing to another's".into()),
        }
    }

    /// What is another's about it.
    fn against(&self, link: &Link) -> Option<Verdict> {
        if let Some(why) = link.peer_netns.and_then(|nsid| self.facts.others.get(&nsid)) {
            return Some(Verdict::Others(format!("it leads to another's network namespace: {why}")));
        }
        let foreign = |port: &&Link| !self.ends.contains(&port.index);
        let ports: Vec<&Link> = self.facts.ports(link).filter(foreign).collect();
        let deserted = |port: &Link| port.peer_netns.and_then(|nsid| self.facts.deserted.get(&nsid));
        if let Some(port) = ports.iter().find(|port| deserted(port).is_none()) {
            let name = escape(port.name.as_bytes());
            return Some(Verdict::Others(format!("a port of it, {name}, is not ours")));
        }
        if let Some(place) = ports.first().and_then(|port| deserted(port)) {
            return Some(Verdict::Doubt(format!(
                "a port of it leads to {place}, where nobody is and which nothing proves ours"
            )));
        }
        if let Some(verdict) = self.of_docker(link) {
            return Some(verdict);
        }
        if let Some(verdict) = self.own_address(link).filter(|_| !self.facts.is_proven(link)) {
            return Some(verdict);
        }
        let block = self.foreign_block(link).filter(|_| !self.facts.is_proven(link))?;
        let text = block.address.map_or("a default route".into(), |a| format!("{a}/{}", block.prefix));
        Some(Verdict::Others(format!("{text} over it is not of our pods' network")))
    }

    /// A bridge with ports, all of them ours, that no result of CNI lists.
    fn of_docker(&self, link: &Link) -> Option<Verdict> {
        let listed = |(_, a): &(String, Attachment)| a.host_links.iter().any(|(name, _)| *name == link.name);
        let records =
            self.docker.filter(|_| link.kind == "bridge" && !self.attachments.iter().any(listed))?;
        self.facts.ports(link).next()?;
        const SAYS: &str = "docker's own record says that it was there before";
        let proven = self.facts.is_proven(link);
        match (records.maker(&link.name), self.dockerd) {
            (_, Some(rival)) if SHARED.contains(&link.name.as_str()) => Some(Verdict::Doubt(format!(
                "containers of ours are in it; but {rival}, and any two dockers share one"
            ))),
            (Maker::Another, _) => Some(Verdict::Others(SAYS.into())),
            (Maker::Either, _) if !proven => Some(Verdict::Doubt(format!("{SAYS}, and that docker made it"))),
            (Maker::Nobody, Some(rival)) if !proven => {
                Some(Verdict::Doubt(format!("docker's own record does not name it, and {rival}")))
            }
            _ => None,
        }
    }

    /// An address of a bridge that CNI did not give to it. A user may have pods put on a bridge of his own.
    fn own_address(&self, link: &Link) -> Option<Verdict> {
        let on_it = |a: &&Attachment| a.host_links.iter().any(|(name, _)| *name == link.name);
        let results: Vec<&Attachment> = self.attachments.iter().map(|(_, a)| a).filter(on_it).collect();
        // The oldest format of results has neither addresses nor gateways.
        if link.kind != "bridge" || results.iter().all(|a| a.addresses.is_empty()) {
            return None;
        }
        let addresses = self.facts.addresses.iter().filter(|b| b.link == link.index);
        let mut addresses = addresses.filter(|b| b.address.is_some_and(|a| !is_link_local(a))).peekable();
        let text = |b: &Block| b.address.map_or_else(String::new, |a| format!("{a}/{}", b.prefix));
        if results.iter().all(|a| a.config.plain_bridges.contains(&link.name)) {
            let first = addresses.peek()?;
            return Some(Verdict::Others(format!("CNI gives it no address, and it has {}", text(first))));
        }
        let given = |b: &&Block| results.iter().flat_map(|a| &a.gateways).any(|g| b.address == Some(*g));
        let own = addresses.find(|b| !given(b))?;
        Some(Verdict::Doubt(format!(
            "{} on it is no gateway of our pods', so somebody else gave it",
            text(own)
        )))
    }

    /// An address or a route over the link that is not of our pods' network. A dummy link's addresses reach nobody.
    fn foreign_block(&self, link: &Link) -> Option<&Block> {
        let of_pods =
            |block: &&Block| self.networks.iter().any(|(network, bits)| block.is_in(*network, *bits));
        let of_others = |block: &&Block| {
            let given = self.others.iter().flat_map(|a| &a.addresses);
            given.map(|(a, bits)| wide(*a, *bits)).any(|(network, bits)| block.is_in(network, bits))
        };
        let is_foreign = |block: &&Block| match self.networks.is_empty() {
            true => of_others(block),
            false => link.kind != "dummy" && !of_pods(block),
        };
        let blocks = self.facts.addresses.iter().chain(&self.facts.routes).filter(|b| b.link == link.index);
        blocks.filter(|b| !b.address.is_some_and(is_link_local)).find(is_foreign)
    }

    /// What makes it ours whoever else may be there.
    fn tie(&self, link: &Link) -> Option<String> {
        if self.facts.is_proven(link) {
            return Some("an earlier run knew it".into());
        }
        if let Some(port) = self.facts.ports(link).find(|port| self.ends.contains(&port.index)) {
            return Some(format!("a port of it, {}, is ours", escape(port.name.as_bytes())));
        }
        let is_it =
            |(name, mac): &(String, String)| *name == link.name && *mac == link.mac && !mac.is_empty();
        let made = |a: &&(String, Attachment)| a.1.host_links.iter().any(is_it);
        if let Some((id, _)) = self.attachments.iter().find(made) {
            return Some(format!("CNI made it for sandbox {}", crate::runtime::short(id)));
        }
        let leads_to =
            |b: &&Block, a: &IpAddr| b.address.is_some_and(|network| leads_to(network, b.prefix, *a));
        let reached = |b: &&Block| self.addresses.iter().any(|a| leads_to(b, a));
        let block = self.facts.blocks(link).find(reached)?;
        Some(format!("{}/{} over it is our pods'", block.address?, block.prefix))
    }

    /// What may be another node's or cluster's as well.
    fn weak_tie(&self, link: &Link) -> Option<String> {
        // Where the results are gone, an earlier run's addresses tell.
        let networks = self.networks.iter().copied().chain(self.addresses.iter().map(|a| wide(*a, u8::MAX)));
        let networks: Vec<_> = networks.collect();
        let of_pods = |b: &&Block| networks.iter().any(|(network, bits)| b.is_in(*network, *bits));
        let block = self.facts.blocks(link).find(of_pods)?;
        Some(format!("{}/{} over it is of our pods' network", block.address?, block.prefix))
    }

    /// A tunnel without an address, a route or a port, as Cilium's is: it goes with a link of ours that has the same maker by its
    /// name, if a profile names both, and no other kubelet may have made it.
    pub fn goes_with(&self, link: &Link, names: &[String], ours: &[OwnedLink]) -> Option<String> {
        let nothing_on_it = self.facts.blocks(link).all(|b| b.address.is_some_and(is_link_local));
        let alone = nothing_on_it && self.facts.ports(link).next().is_none() && self.kubelet.is_none();
        if !alone || !matches!(link.kind.as_str(), "vxlan" | "geneve") || !names.contains(&link.name) {
            return None;
        }
        let maker = |name: &str| name.split_once('_').map(|(maker, _)| maker.to_owned());
        let same = |own: &&OwnedLink| names.contains(&own.name) && maker(&own.name) == maker(&link.name);
        let with = ours.iter().filter(|_| maker(&link.name).is_some()).find(same)?;
        Some(format!("it has no address, and {}, which the profile names with it, is ours", with.name))
    }

    /// A virtual link that nobody names and that is tied to our pods all the same: to their addresses; or, if it is a tunnel and
    /// nothing says that it is another's, to the networks that these are in.
    pub fn reaches_our_pods(&self, link: &Link) -> Option<String> {
        if link.kind.is_empty() {
            return None;
        }
        let may_be = || {
            TUNNELS.contains(&link.kind.as_str()) && self.kubelet.is_none() && self.against(link).is_none()
        };
        self.tie(link).or_else(|| self.weak_tie(link).filter(|_| may_be()))
    }
}

/// The networks that our pods were in, as far as CNI's results tell: their own, those that they were given
/// routes to, and the cluster's, of which each node has a part. Where they tell nothing, the bridges do.
pub(super) fn pod_networks(
    facts: &Facts,
    ends: &HashSet<u32>,
    attachments: &[(String, Attachment)],
) -> Vec<(IpAddr, u8)> {
    let all = attachments.iter().map(|(_, a)| a);
    let told =
        all.flat_map(|a| a.addresses.iter().map(|(a, bits)| wide(*a, *bits)).chain(a.routes.iter().copied()));
    // A pod that was being made may have no more than that.
    let told: Vec<_> = told.filter(|(address, _)| !address.is_loopback()).collect();
    if told.is_empty() { networks_of_bridges(facts, ends) } else { told }
}

/// Of links that have a port of ours, the first address.
fn networks_of_bridges(facts: &Facts, ends: &HashSet<u32>) -> Vec<(IpAddr, u8)> {
    let has_port = |bridge: &&Link| facts.ports(bridge).any(|port| ends.contains(&port.index));
    let first = |bridge: &Link, v4: bool| {
        let of_family = |b: &&Block| b.link == bridge.index && b.address.is_some_and(|a| a.is_ipv4() == v4);
        let block = facts.addresses.iter().find(of_family)?;
        Some(wide(block.address?, block.prefix))
    };
    let bridges = facts.links.iter().filter(has_port);
    bridges.flat_map(|bridge| [first(bridge, true), first(bridge, false)]).flatten().collect()
}

fn wide(address: IpAddr, bits: u8) -> (IpAddr, u8) {
    let cluster = if address.is_ipv4() { CLUSTER.0 } else { CLUSTER.1 };
    (address, cluster.min(bits))
}

/// An address that every link may have.
pub(super) fn is_link_local(address: IpAddr) -> bool {
    let (v4, v6) = ([169, 254, 0, 0].into(), [0xfe80, 0, 0, 0, 0, 0, 0, 0].into());
    shares(address, v4, 16) || shares(address, v6, 10) || address.is_multicast()
}
