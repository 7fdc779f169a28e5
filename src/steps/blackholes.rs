//! Routes that take what is for pods of ours that are gone.

use std::path::{Path, PathBuf};

use crate::error::Blind;
use crate::linux::blackhole::{self, Blackhole};
use crate::linux::links::leads_to;
use crate::linux::netns;
use crate::reason::Reason;
use crate::residue::Residue;
use crate::residue::finding::Finding;
use crate::scope::Scope;
use crate::snap::units;
use crate::view::View;

/// The numbers by which Calico's routes are known: Felix's own (its `DeviceRouteProtocol`), and that of the routing daemon in its pod.
pub(super) const FELIX: u8 = 80;
pub(super) const BIRD: u8 = 12;

/// That daemon, which an administrator may have for himself.
const BIRDS: [&str; 2] = ["bird", "bird6"];

pub(super) fn find(view: &View, scope: &Scope, finding: &mut Finding) {
    let addresses = &scope.network.addresses;
    if addresses.is_empty() || !view.host.is_live() {
        return;
    }
    let routes = match blackhole::of_programs() {
        Ok(routes) => routes,
        Err(e) => return finding.blind.push(Blind::new("routes", e)),
    };
    let takes = |route: &Blackhole| addresses.iter().any(|a| leads_to(route.destination, route.prefix, *a));
    for route in routes.into_iter().filter(takes) {
        let verdict = verdict(&route, scope.network.other_kubelet(), || other_bird(view, scope));
        let residue = Residue::Blackhole(Box::new(route));
        match verdict {
            Verdict::Ours => finding.residues.push(residue),
            Verdict::Others => {}
            Verdict::Doubt(reason, why) => {
                let why = format!("addresses of pods of ours are in it; but {why}");
                finding.blind.push(Blind::new(residue.to_string(), (reason, why)));
            }
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Ours,
    Others,
    Doubt(Reason, String),
}

/// Whose a route for addresses of pods of ours is. Another kubelet's pods may have addresses of the same block.
fn verdict(route: &Blackhole, kubelet: Option<&str>, bird: impl FnOnce() -> Option<String>) -> Verdict {
    let is_calicos = matches!(route.protocol, FELIX | BIRD) && is_a_block(route);
    if !is_calicos && is_of_a_routing_daemon(route.protocol) {
        return Verdict::Others;
    }
    if !is_calicos {
        return Verdict::Doubt(Reason::Unproven, format!("protocol {} tells nobody's it is", route.protocol));
    }
    match kubelet.map(str::to_owned).or_else(|| (route.protocol == BIRD).then(bird).flatten()) {
        Some(other) => Verdict::Doubt(Reason::Contradicted, other),
        None => Verdict::Ours,
    }
}

/// True for as many addresses as Calico gives to a node at once (its `IPPool`'s `blockSize`): wider ones are somebody's who tells
/// routers of a whole network.
fn is_a_block(route: &Blackhole) -> bool {
    route.prefix >= if route.destination.is_ipv4() { 20 } else { 116 }
}

/// Numbers of linux/rtnetlink.h, and those that FRR has taken for its daemons (`zebra/rt_netlink.h`): what these are told to make,
/// they make anew.
fn is_of_a_routing_daemon(protocol: u8) -> bool {
    matches!(protocol, 8 | 10..=12 | 14 | 17 | 18 | 42 | 186..=198)
}

/// A routing daemon that is none of ours and has the same routes.
pub(super) fn other_bird(view: &View, scope: &Scope) -> Option<String> {
    other_daemon(view, scope, &BIRDS)
}

/// A program of these names that is alive here and none of ours. What a user calls his own program says nothing.
pub(super) fn other_daemon(view: &View, scope: &Scope, names: &[&str]) -> Option<String> {
    let processes = view.processes().as_ref().ok()?;
    let of_others = |group: &PathBuf| {
        let of_ours = scope.containers.iter().filter(|c| c.is_proven()).flat_map(|c| &c.cgroups);
        group != Path::new("/")
            && !group.starts_with("/user.slice")
            && !of_ours.into_iter().any(|own| group.starts_with(own))
            && units::snap_of(group) != Some(scope.snap.instance.as_str())
    };
    let here = |pid: i32| {
        let its = netns::of_process(view.host, &pid.to_string());
        netns::is_hidden(&its) || its.is_ok_and(|its| scope.network.own.is_none_or(|own| its == own))
    };
    let named = processes.iter().filter(|p| names.contains(&p.comm.as_str()) && p.alive());
    let mut others = named.filter(|p| here(p.id.pid) && view.membership(p.id.pid).iter().any(of_others));
    others.next().map(|p| format!("another {} is alive: process {}", p.comm, p.id.pid))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calicos_blocks_go_and_a_routing_daemons_networks_stay() {
        let judged = |text: &str, protocol, kubelet, bird: Option<&str>| {
            let (destination, prefix) = text.split_once('/').unwrap();
            let (destination, prefix) = (destination.parse().unwrap(), prefix.parse().unwrap());
            let route = Blackhole { destination, prefix, table: 254, protocol, priority: 0 };
            match verdict(&route, kubelet, || bird.map(str::to_owned)) {
                Verdict::Ours => "ours",
                Verdict::Others => "another's",
                Verdict::Doubt(..) => "doubt",
            }
        };
        for (block, wider) in [("10.1.0.0/20", "10.1.0.0/19"), ("fd00::/116", "fd00::/115")] {
            for protocol in [80, 12] {
                assert_eq!(judged(block, protocol, None, None), "ours");
                assert_eq!(judged(block, protocol, Some("a kubelet"), None), "doubt");
            }
            assert_eq!(judged(block, 80, None, Some("a bird")), "ours");
            assert_eq!(judged(block, 12, None, Some("a bird")), "doubt");
            assert_eq!(judged(wider, 80, None, None), "doubt");
            assert_eq!(judged(wider, 12, None, None), "another's");
            for network in [block, wider] {
                assert_eq!(judged(network, 196, Some("a kubelet"), Some("a bird")), "another's");
                assert_eq!(judged(network, 186, None, None), "another's");
                assert_eq!(judged(network, 99, None, None), "doubt");
            }
        }
    }
}
