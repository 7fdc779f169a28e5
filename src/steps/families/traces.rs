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
    let lives = |family: &&Family| family.makers().any(|maker| scope.network.rivals.contains_key(maker));
    let ran: Vec<&Family> =
        FAMILIES.iter().filter(|family| family.has_run(scope) && !lives(family)).collect();
    if ran.is_empty() {
        return;
    }
    links(view, scope, &ran, finding);
    lookups(&ran, finding);
    programs(view, scope, &ran, finding);
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
    let all = match routes::all() {
        Ok(all) => all,
        Err(e) => return finding.blind.push(Blind::new("routes", e)),
    };
    let all: Vec<&Route> =
        all.iter().filter(|route| route.link.is_none_or(|link| !known.contains(&link))).collect();
    for family in ran {
        let to_pods = |route: &&&Route| {
            family.protocols.contains(&route.protocol) && leads_to_other_nodes(route, scope)
        };
        let names: Vec<String> = all
            .iter()
            .filter(to_pods)
            .filter_map(|r| Some(format!("{}/{}", r.destination?, r.prefix)))
            .collect();
        if let Some(first) = names.first() {
            let what = format!("routes to pods of other nodes ({})", few(&names, MAX_NAMED));
            finding.blind.push(told(family, what, &format!("ip route delete {first}")));
        }
        for table in family.lookups {
            let mut inside = all.iter().filter(|route| route.table == *table);
            if let Some(route) = inside.next() {
                let what = format!("{} routes in table {table}", 1 + inside.count());
                finding.blind.push(told(
                    family,
                    what,
                    &format!("ip {} route flush table {table}", version(route.v6)),
                ));
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
            finding.blind.push(told(family, what, &format!("{first}{ip} del priority {priority}")));
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
