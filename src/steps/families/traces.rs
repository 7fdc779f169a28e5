//! What network plugins leave on a node besides rules of the firewall: links without an address, routes to the pods of other
//! nodes, routing tables with the rules that lead there, programs on links.
//!
//! All clusters call theirs alike, and they lead to nobody's pods here. They are told where the like of them has run for us and
//! no other lives that makes them; else they are somebody's.

use super::known::{FAMILIES, Family};
use crate::error::Blind;
use crate::linux::classifiers;
use crate::linux::links::shares;
use crate::linux::policy::{self, Lookup};
use crate::linux::routes::{self, Route};
use crate::reason::Reason;
use crate::residue::finding::Finding;
use crate::scope::Scope;
use crate::steps::blackholes::{BIRD, other_bird, other_daemon};
use crate::text::{escape, few};
use crate::view::View;

/// The kernel's own table of the machine's addresses, and at which place Cilium has it looked up, so that its own come first
/// (`pkg/datapath/linux/linux_defaults/linux_defaults.go`, RulePriorityLocalLookup).
const LOCAL: (u32, u32) = (255, 100);

/// As many routes are named.
const MAX_NAMED: usize = 3;

/// Adds what is there.
pub fn find(view: &View, scope: &Scope, finding: &mut Finding) {
    if !view.host.is_live() {
        return;
    }
    let lives = |family: &Family| {
        family.rival(scope).is_some()
            || !family.daemons.is_empty() && other_daemon(view, scope, family.daemons).is_some()
    };
    let ran: Vec<&Family> =
        FAMILIES.iter().filter(|family| family.has_run(scope) && !lives(family)).collect();
    if ran.is_empty() {
        return;
    }
    let before = finding.blind.len();
    links(view, scope, &ran, finding);
    lookups(&ran, finding);
    programs(view, scope, &ran, finding);
    // His cluster may have the same plugin, whose agent does not happen to run.
    if let Some(other) = scope.network.other_kubelet() {
        for blind in &mut finding.blind[before..] {
            blind.why = format!("{}; but {other}", blind.why);
        }
    }
}

fn told(family: &Family, what: String, command: &str) -> Blind {
    let why = format!("{} has run for this snap and makes such; '{command}' ends it", family.of);
    Blind::new(what, (Reason::Unproven, why))
}

/// Links that nothing else tells of, then the routes over others.
fn links(view: &View, scope: &Scope, ran: &[&Family], finding: &mut Finding) {
    // Whoever judges links has said that they cannot be listed.
    let Ok(there) = view.links() else { return };
    let mut known: Vec<u32> = scope.network.links.iter().map(|own| own.index).collect();
    for link in there.iter().filter(|link| !known.contains(&link.index)).collect::<Vec<_>>() {
        let name = escape(link.name.as_bytes());
        let what = format!("the link {name}");
        if finding.blind.iter().any(|blind| blind.what == what) {
            known.push(link.index);
        }
        let by = ran.iter().find(|family| family.makes(&link.name));
        // The kernel has a tunnel of this name by itself, and none of its own is in use while it is down.
        let idle = link.name == "tunl0" && !link.up;
        let Some(family) = by.filter(|_| !link.kind.is_empty() && !idle && !known.contains(&link.index))
        else {
            continue;
        };
        if scope.bystanders.iter().all(|bystander| bystander.what != what) {
            known.push(link.index);
            // Of Open vSwitch's the kernel lets nobody but itself delete any.
            let command = match link.kind.as_str() {
                "openvswitch" => "reboot".to_owned(),
                _ => format!("ip link set {name} down; ip link delete {name}"),
            };
            finding.blind.push(told(family, what, &command));
        }
    }
    routes_over_others(view, scope, ran, &known, finding);
}

/// Routes but those over links that are known: they go with these.
fn routes_over_others(view: &View, scope: &Scope, ran: &[&Family], known: &[u32], finding: &mut Finding) {
    let mut all = Vec::new();
    let wanted = |route: &Route| {
        let of_its = |family: &&Family| {
            family.lookups.contains(&route.table)
                || family.protocols.contains(&route.protocol) && leads_to_other_nodes(route, scope)
        };
        !route.links.iter().any(|link| known.contains(link)) && ran.iter().any(of_its)
    };
    let asked = routes::each(&mut |route| all.extend(Some(route).filter(&wanted)));
    // Whoever looks for routes to nowhere has said so.
    if let Err(e) = asked {
        if finding.blind.iter().all(|blind| blind.what != "routes") {
            finding.blind.push(Blind::new("routes", e));
        }
        return;
    }
    // An administrator's routing daemon has routes of the same number.
    if all.iter().any(|route| route.protocol == BIRD) && other_bird(view, scope).is_some() {
        all.retain(|route| route.protocol != BIRD);
    }
    for family in ran {
        let to_pods =
            |route: &&Route| family.protocols.contains(&route.protocol) && leads_to_other_nodes(route, scope);
        let mut names = Vec::new();
        let mut command = String::new();
        for Route { v6, destination, prefix, table, .. } in all.iter().filter(to_pods) {
            let Some(destination) = destination else { continue };
            names.push(format!("{destination}/{prefix}"));
            if command.is_empty() {
                command = format!("ip {} route delete {} table {table}", version(*v6), names[0]);
            }
        }
        if !names.is_empty() {
            let what = format!("routes to pods of other nodes ({})", few(&names, MAX_NAMED));
            finding.blind.push(told(family, what, &command));
        }
        for table in family.lookups {
            for v6 in [false, true] {
                let inside = all.iter().filter(|r| (r.table, r.v6) == (*table, v6)).count();
                if inside > 0 {
                    let command = format!("ip {} route flush table {table}", version(v6));
                    let what = format!("routes of ip {} in table {table}: {inside}", version(v6));
                    finding.blind.push(told(family, what, &command));
                }
            }
        }
    }
}

/// True for a way by another machine to the network that our pods are in.
fn leads_to_other_nodes(route: &Route, scope: &Scope) -> bool {
    let near = |network| {
        let cluster = if route.v6 { 48 } else { 16 };
        route.prefix >= cluster && scope.network.addresses.iter().any(|own| shares(network, *own, cluster))
    };
    route.by_gateway && route.destination.is_some_and(near)
}

fn version(v6: bool) -> &'static str {
    if v6 { "-6" } else { "-4" }
}

/// Rules that lead to tables of theirs.
fn lookups(ran: &[&Family], finding: &mut Finding) {
    let all = match policy::lookups() {
        Ok(all) => all,
        Err(e) => return finding.blind.push(Blind::new("policy rules", e)),
    };
    for Lookup { v6, table, priority } in all {
        let ip = format!("ip {} rule", version(v6));
        let moved = (table, priority) == LOCAL;
        let by = |family: &&&Family| family.lookups.contains(&table) || moved && family.of == "Cilium";
        if let Some(family) = ran.iter().find(by) {
            let first = if moved { format!("{ip} add priority 0 lookup local; ") } else { String::new() };
            let what = format!("the policy rule {priority} of {ip}, lookup {table}");
            finding.blind.push(told(
                family,
                what,
                &format!("{first}{ip} del priority {priority} lookup {table}"),
            ));
        }
    }
}

/// Programs on links that stay. One that somebody else has on them bears another name.
fn programs(view: &View, scope: &Scope, ran: &[&Family], finding: &mut Finding) {
    if ran.iter().all(|family| family.programs.is_empty()) {
        return;
    }
    let all = match classifiers::programs() {
        Ok(all) => all,
        Err(e) => return finding.blind.push(Blind::new("programs on links", e)),
    };
    for program in
        all.iter().filter(|program| scope.network.links.iter().all(|own| own.index != program.link))
    {
        let is_its = |family: &&&Family| family.programs.iter().any(|begin| program.name.starts_with(begin));
        let link = view.links().iter().flatten().find(|link| link.index == program.link);
        if let Some((family, link)) = ran.iter().find(is_its).zip(link) {
            let link = escape(link.name.as_bytes());
            let what = format!("the program {} on {link}", escape(program.name.as_bytes()));
            let command = format!("tc filter del dev {link} {} pref {}", program.way, program.priority);
            finding.blind.push(told(family, what, &command));
        }
    }
}
