//! Firewall rules that pods' proxies and networks keep for a whole node: kube-proxy's and kubelet's chains, flannel's,
//! Calico's, docker's, those that CNI's plugins share; tables of nf_tables, ipsets and virtual servers.
//!
//! No rule of these says whose it is. A family of rules is ours where nobody else lives that makes the like, where
//! something ties it to us, and where all that it leads to is ours: then it goes, rule by rule. Else it stays, and is told.

mod docker;
mod ipvs;
mod known;
mod plugin_tables;
pub mod traces;
mod words;

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::error::Blind;
use crate::linux::firewall::{Firewall, Table};
use crate::linux::links::{Block, addresses, shares};
use crate::order;
use crate::reason::Reason;
use crate::residue::{Ipset, Residue, Rule};
use crate::scope::Scope;
use crate::scope::cni_ids::CniIds;
use crate::steps::skeleton;
use crate::text::{escape, few};
use crate::view::View;

pub(super) use known::rival_of;
use known::{FAMILIES, Family};
pub(super) use words::tagged_id;
use words::{block, destination, values};

/// As many chains are named.
const MAX_NAMED: usize = 8;

/// What became clear of them.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Judged {
    /// Rules and chains to be removed, in this order.
    pub ours: Vec<Residue>,
    /// What may be ours and stays.
    pub blind: Vec<Blind>,
    /// What is left, and why: another's.
    pub others: Vec<String>,
}

/// What a family's rules lead to.
#[derive(Debug, Default, PartialEq, Eq)]
struct Leads {
    ours: Option<String>,
    others: Option<String>,
}

/// Judges all families that are there.
pub fn judge(view: &View, scope: &Scope) -> Judged {
    let firewall = view.firewall(&scope.programs());
    let node = || order::set(addresses().unwrap_or_default().iter().filter_map(|b: &Block| b.address));
    let mut judged = of_families(firewall, scope, &node, &|| skeleton::others_run(view, scope));
    ipvs::judge(view, scope, &mut judged);
    judged
}

fn of_families(
    firewall: &Firewall,
    scope: &Scope,
    node: &dyn Fn() -> BTreeSet<IpAddr>,
    others_run: &dyn Fn() -> bool,
) -> Judged {
    let mut judged = Judged::default();
    let kubelet = scope.network.other_kubelet();
    for family in &FAMILIES {
        let places = places(family, firewall);
        let own = (family.by_link && scope.docker_has_run()).then(|| docker::Own::of(firewall, scope));
        let own_rules = own.as_ref().map(|own| own.rules(firewall)).unwrap_or_default();
        let has_own = !own_rules.is_empty();
        if places.is_empty() {
            judged.ours.extend(own_rules);
            continue;
        }
        let what = format!("firewall rules of {} ({})", family.of, places.join(", "));
        let leads = leads(family, firewall, scope, &node());
        let sets: Vec<&String> = family.sets(&firewall.sets).collect();
        let native = firewall.nft_tables.iter().any(|(_, name)| family.tables.contains(&name.as_str()));
        let tied = leads.ours.clone().or_else(|| {
            let with_kubelet = family.of_kubelet || family.of_plugins;
            (with_kubelet && scope.kubelet_has_run()).then(|| "the snap has a kubelet".to_owned())
        });
        let runtime =
            (family.of_plugins && others_run()).then(|| "another container runtime runs".to_owned());
        let rival = family.rival(scope).or(runtime.as_ref());
        if let Some((own, rival)) = own.as_ref().zip(rival) {
            judged.blind.extend(own.doubtful(firewall).into_iter().map(|rule| {
                let why = format!("docker wrote down that a container of this snap was there, but {rival}");
                Blind::new(format!("the firewall rule {rule}"), (Reason::Contradicted, why))
            }));
        }
        // These go also where the others stay, and where another docker has emptied the chains when it was started.
        if leads.ours.is_none() || leads.others.is_some() || rival.is_some() {
            judged.ours.extend(own_rules);
        }
        match (tied, leads.others, rival) {
            (tied, _, None) if (family.only_told || tied.is_none()) && family.has_run(scope) => {
                let whom = kubelet.unwrap_or("nothing says for whom else");
                let why = format!(
                    "{} has run for this snap, and {whom}; without rules that lead there, '-F CHAIN' and '-X CHAIN' end \
                     a chain, then 'ipset destroy NAME' a set, 'nft delete table FAMILY NAME' a table",
                    family.of
                );
                judged.blind.push(Blind::new(what, (Reason::Unproven, why)));
            }
            (_, _, rival) if family.only_told => {
                let why = rival.map_or("it has not run for this snap", String::as_str);
                judged.others.push(format!("{what}: {why}"));
            }
            // By the last look, the rules that tied this table to our pods are gone. It is told all the same.
            (None, _, None) if native && had_network(family, scope) => {
                let why = "pods of this snap had a network here; what a table of nf_tables leads to is not looked at, and it is left";
                judged.blind.push(Blind::new(what, (Reason::Unproven, why)));
            }
            (None, _, None) if !sets.is_empty() && had_network(family, scope) => {
                let why = "pods of this snap had a network here, and no rule tells whose the sets are; 'ipset destroy NAME' ends one";
                judged.blind.push(Blind::new(what, (Reason::Unproven, why)));
            }
            (None, _, None) if family.by_link && had_network(family, scope) => {
                let why = "docker of this snap had networks here, and no bridge of ours tells whose they are";
                judged.blind.push(Blind::new(what, (Reason::Unproven, why)));
            }
            (None, _, rival) => {
                let why = rival.map_or("nothing ties them to a pod of ours", String::as_str);
                judged.others.push(format!("{what}: {why}"));
            }
            (Some(_), _, Some(rival)) if leads.ours.is_none() => {
                judged.others.push(format!("{what}: {rival}"))
            }
            // Both dockers use the same chains; a rule over links of ours is ours alone.
            (Some(_), _, Some(_)) if has_own => {}
            (Some(_), _, Some(rival)) if family.of_plugins => judged.others.push(format!("{what}: {rival}")),
            (Some(tie), _, Some(rival)) => {
                let why = format!("{tie}; but {rival}");
                judged.blind.push(Blind::new(what, (Reason::Contradicted, why)))
            }
            // What is for sandboxes of ours bears their IDs, and goes in any case.
            (Some(_), Some(others), None) if family.of_plugins => {
                judged.others.push(format!("{what}: {others}"));
            }
            (Some(tie), Some(others), None) => {
                let why = format!("{tie}; but {others}, and they are left");
                judged.blind.push(Blind::new(what, (Reason::Contradicted, why)));
            }
            (Some(tie), None, None) => {
                judged.ours.extend(firewall.tables.iter().flat_map(|t| members(family, t, own.as_ref())));
                // Last: what a rule still names is not destroyed.
                judged.ours.extend(sets.into_iter().map(|name| Residue::Ipset(Ipset { name: name.clone() })));
                if native {
                    let why =
                        format!("{tie}; what a table of nf_tables leads to is not looked at, and it is left");
                    judged.blind.push(Blind::new(what, (Reason::Unproven, why)));
                }
            }
        }
    }
    plugin_tables::judge(firewall, scope, others_run, &mut judged);
    judged
}

/// True if something of ours had a network that this family may have served: pods, or containers of docker's.
fn had_network(family: &Family, scope: &Scope) -> bool {
    match family.by_link {
        true => scope.docker_has_run(),
        false => scope.network.is_known(),
    }
}

/// Where the family is: `iptables-nft nat: 50 chains KUBE-…`, or the chains' names if they are few.
fn places(family: &Family, firewall: &Firewall) -> Vec<String> {
    let mut found = Vec::new();
    for table in &firewall.tables {
        let program = table.program.file_name().unwrap_or_default().to_string_lossy();
        let chains: Vec<&str> = table.chains.iter().filter(|c| family.has(c)).map(String::as_str).collect();
        let rules = table.rules.iter().filter(|rule| is_commented(family, rule)).count();
        match (chains.len(), rules) {
            (0, 0) => {}
            (0, n) => found.push(format!("{program} {}: {n} rules", table.name)),
            (n, _) if n <= MAX_NAMED => {
                found.push(format!(
                    "{program} {}: chains {}",
                    table.name,
                    escape(chains.join(" ").as_bytes())
                ));
            }
            (n, _) => found.push(format!("{program} {}: {n} chains {}…", table.name, family.chains[0])),
        }
    }
    let native = firewall.nft_tables.iter().filter(|(_, name)| family.tables.contains(&name.as_str()));
    found.extend(native.map(|(of, name)| format!("nft table {of} {}", escape(name.as_bytes()))));
    let sets: Vec<String> =
        family.sets(&firewall.sets).map(|name| escape(name.as_bytes()).into_owned()).collect();
    if !sets.is_empty() {
        found.push(format!("ipset {}", few(&sets, MAX_NAMED)));
    }
    found
}

fn is_commented(family: &Family, rule: &[String]) -> bool {
    values(rule, "--comment").any(|c| family.comments.iter().any(|begin| c.starts_with(begin)))
}

fn is_member(family: &Family, rule: &[String]) -> bool {
    let leads_in = ["-j", "-g"].iter().any(|o| values(rule, o).any(|chain| family.has(chain)));
    family.has(&rule[0]) || leads_in || is_commented(family, rule)
}

/// Rules in others' chains first: then nothing leads in any more; then the family's own; then its chains.
fn members(family: &Family, table: &Table, own: Option<&docker::Own>) -> Vec<Residue> {
    let is_own = |rule: &[String]| own.is_some_and(|own| own.has(table, rule));
    let members = table.rules.iter().filter(|rule| is_member(family, rule) || is_own(rule));
    let (inside, outside): (Vec<_>, Vec<_>) = members.partition(|rule| family.has(&rule[0]));
    let chains = table.chains.iter().filter(|c| family.has(c)).map(|c| (vec![c.clone()], true));
    let rules = outside.into_iter().chain(inside).map(|rule| (rule.clone(), false));
    rules.chain(chains).map(|(rule, chain)| residue(table, rule, chain)).collect()
}

fn residue(table: &Table, rule: Vec<String>, chain: bool) -> Residue {
    Residue::Rule(Box::new(Rule { program: table.program.clone(), table: table.name.clone(), rule, chain }))
}

fn is_in_our_networks(address: IpAddr, scope: &Scope) -> bool {
    scope.network.blocks.iter().any(|(network, bits)| shares(address, *network, *bits))
}

/// To whom the family's rules lead: where packets are sent, whose they are, over which links they go.
fn leads(family: &Family, firewall: &Firewall, scope: &Scope, node: &BTreeSet<IpAddr>) -> Leads {
    let mut leads = Leads::default();
    let sandboxes = CniIds::proven(scope);
    let sandboxes = sandboxes.names();
    let rules = firewall.tables.iter().flat_map(|t| &t.rules).filter(|rule| is_member(family, rule));
    for rule in rules {
        for target in values(rule, "--to-destination").filter_map(destination) {
            if scope.network.addresses.contains(&target) || is_in_our_networks(target, scope) {
                leads.ours.get_or_insert(format!("they lead to {target}, a pod of ours"));
            } else if !node.contains(&target) && !target.is_loopback() {
                leads.others.get_or_insert(format!("they lead to {target}, which is not known to be ours"));
            }
        }
        for block in ["-s", "-d"].iter().flat_map(|o| values(rule, o)).filter_map(block) {
            let ours = || block.address.is_some_and(|a| is_in_our_networks(a, scope));
            if scope.network.addresses.iter().any(|a| block.prefix > 0 && block.holds(*a)) || ours() {
                leads.ours.get_or_insert("they name our pods' addresses".into());
            } else if !family.of_kubelet && !block.address.is_some_and(|a| is_nobodys(a, node)) {
                let text = block.address.map_or_else(String::new, |a| format!("{a}/{}", block.prefix));
                leads.others.get_or_insert(format!("they name {text}, which is not known to be ours"));
            }
        }
        if rule[0] == family.users && rule[1..] != ["-j", "RETURN"] {
            leads.others.get_or_insert(format!("users have rules of their own in {}", family.users));
        }
        match tagged_id(rule).filter(|_| family.of_plugins) {
            Some(id) if sandboxes.contains(id) => {
                leads.ours.get_or_insert("they are for pods of ours".into());
            }
            Some(id) => {
                let id = escape(id.as_bytes());
                leads.others.get_or_insert(format!("they are for {id}, which is not known to be ours"));
            }
            None => {}
        }
        let links = ["-i", "-o"].iter().flat_map(|o| values(rule, o));
        for link in links.filter(|name| scope.network.links.iter().any(|own| own.name == **name)) {
            leads.ours.get_or_insert(format!("they name {}, a link of ours", escape(link.as_bytes())));
        }
    }
    leads
}

fn is_nobodys(address: IpAddr, node: &BTreeSet<IpAddr>) -> bool {
    let of_a_link = matches!(address, IpAddr::V6(six) if six.is_unicast_link_local());
    let special = address.is_loopback() || address.is_multicast() || address.is_unspecified();
    special || of_a_link || node.contains(&address)
}

#[cfg(test)]
mod tests;
