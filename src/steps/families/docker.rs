//! Rules of docker's over bridges of ours: those in its own chains and in the kernel's bear no name but the bridge's.

use std::collections::HashSet;

use super::{block, destination, is_in_our_networks, residue, values};
use crate::linux::firewall::{Firewall, Table};
use crate::residue::Residue;
use crate::runtime::docker;
use crate::scope::Scope;

/// What makes rules ours alone, whoever else uses the same chains.
pub(super) struct Own<'a> {
    scope: &'a Scope,
    /// All addresses and ports to which rules lead.
    targets: HashSet<&'a str>,
    /// Ports of the host that lead to containers of ours, and to nobody else's.
    ports: HashSet<Port<'a>>,
    /// Those that lead to others'.
    others: HashSet<Port<'a>>,
}

impl<'a> Own<'a> {
    pub(super) fn of(firewall: &'a Firewall, scope: &'a Scope) -> Own<'a> {
        let all = firewall.tables.iter().flat_map(|table| &table.rules);
        let targets = all.clone().flat_map(|rule| values(rule, "--to-destination")).collect();
        let (own, others): (Vec<_>, Vec<_>) = all
            .filter_map(|rule| Some((published(rule)?, names_our_links_alone(rule, scope))))
            .partition(|(_, ours)| *ours);
        let others: HashSet<Port> = others.into_iter().map(|(port, _)| port).collect();
        let ports = own.into_iter().map(|(port, _)| port).filter(|port| !others.contains(port)).collect();
        Own { scope, targets, ports, others }
    }

    pub(super) fn has(&self, table: &Table, rule: &[String]) -> bool {
        let is_guard = || table.name == "raw" && guarded(rule).is_some_and(|port| self.leads_to_us(&port));
        let is_useless = || looped(rule).is_some_and(|own| self.was_ours_alone(&own));
        names_our_links_alone(rule, self.scope) || is_guard() || is_useless()
    }

    /// By a rule, or where another docker has emptied the chain in which it was, by what ours wrote down.
    fn leads_to_us(&self, port: &Port) -> bool {
        self.ports.contains(port) || !self.others.contains(port) && self.is_written(port)
    }

    /// A port to which no rule leads any more: what lets its container reach itself by it has no effect, whoever has that address now.
    fn was_ours_alone(&self, own: &Port) -> bool {
        self.is_written(own) && !self.targets.contains(target(own).as_str())
    }

    fn is_written(&self, port: &Port) -> bool {
        let (_, protocol, number) = *port;
        let [address, protocol, number] = [address(port), protocol, number].map(str::to_owned);
        self.scope.network.docker.ports.contains(&docker::Port { address, protocol, number })
    }

    /// Rules that lead where ours wrote down that a container of ours was, over a link that another docker has by now, in which it may
    /// have given the same addresses again: either may have made them.
    pub(super) fn doubtful(&self, firewall: &Firewall) -> Vec<String> {
        let rest: Vec<(&Table, &Vec<String>)> =
            each(firewall).filter(|(table, rule)| !self.has(table, rule)).collect();
        let by_others = rest.iter().filter(|(_, rule)| !self.is_published_by_record(rule));
        let others: HashSet<&str> =
            by_others.flat_map(|(_, rule)| values(rule, "--to-destination")).collect();
        let may_be_ours = |table: &Table, rule: &[String]| {
            let inside = || accepted(rule).or_else(|| looped(rule)).filter(|own| self.is_written(own));
            let known = &self.scope.network.docker.addresses;
            let direct = || blocked(rule).filter(|own| table.name == "raw" && known.contains(*own));
            let is_others = |own: &str| {
                others.iter().any(|to| to.strip_prefix(own).is_some_and(|rest| rest.starts_with(':')))
            };
            self.is_published_by_record(rule)
                || inside().is_some_and(|own| !others.contains(target(&own).as_str()))
                || direct().is_some_and(|own| !is_others(own))
        };
        let found = rest.iter().filter(|(table, rule)| may_be_ours(table, rule));
        found.map(|(table, rule)| format!("{} -A {}", table.name, rule.join(" "))).collect()
    }

    /// True for a rule from a port of the host to one of a container that docker wrote down both.
    fn is_published_by_record(&self, rule: &[String]) -> bool {
        let (Some(to), Some(protocol)) = (values(rule, "--to-destination").next(), values(rule, "-p").next())
        else {
            return false;
        };
        let Some((address, inside)) = to.rsplit_once(':') else { return false };
        let known = &self.scope.network.docker.ports;
        let outside = |number: &str| known.iter().any(|p| p.protocol == protocol && p.number == number);
        rule[0] == "DOCKER"
            && self.is_written(&(address, protocol, inside))
            && values(rule, "--dport").next().is_some_and(outside)
    }

    pub(super) fn rules(&self, firewall: &Firewall) -> Vec<Residue> {
        let own = each(firewall).filter(|(table, rule)| self.has(table, rule));
        own.map(|(table, rule)| residue(table, rule.clone(), false)).collect()
    }
}

/// All rules, each with its table.
fn each(firewall: &Firewall) -> impl Iterator<Item = (&Table, &Vec<String>)> {
    firewall.tables.iter().flat_map(|table| table.rules.iter().map(move |rule| (table, rule)))
}

/// A block of one address, a protocol and a port.
type Port<'a> = (&'a str, &'a str, &'a str);

/// The port that leads to a container, where it is one of a certain address.
fn published(rule: &[String]) -> Option<Port<'_>> {
    values(rule, "--to-destination").next()?;
    port(rule)
}

/// The port of the loopback device that nobody outside may reach: a rule before all others that names neither the bridge nor
/// the container.
fn guarded(rule: &[String]) -> Option<Port<'_>> {
    let words: Vec<&str> = rule.iter().map(String::as_str).collect();
    match words[..] {
        ["PREROUTING", "-d", _, "!", "-i", "lo", "-p", one, "-m", two, "--dport", _, "-j", "DROP"]
            if one == two =>
        {
            port(rule)
        }
        _ => None,
    }
}

/// A container's own port that may be reached over its link.
fn accepted(rule: &[String]) -> Option<Port<'_>> {
    let accepts = rule[0] == "DOCKER" && values(rule, "-j").any(|to| to == "ACCEPT");
    port(rule).filter(|_| accepts)
}

/// A container's own port by which it may reach itself, through the host's that is published for it.
fn looped(rule: &[String]) -> Option<Port<'_>> {
    let words: Vec<&str> = rule.iter().map(String::as_str).collect();
    match words[..] {
        ["POSTROUTING", "-s", from, "-d", to, "-p", one, "-m", two, "--dport", _, "-j", "MASQUERADE"]
            if from == to && one == two =>
        {
            port(rule)
        }
        _ => None,
    }
}

/// The address of a container that nobody reaches but over its link.
fn blocked(rule: &[String]) -> Option<&str> {
    let words: Vec<&str> = rule.iter().map(String::as_str).collect();
    match words[..] {
        ["PREROUTING", "-d", block, "!", "-i", _, "-j", "DROP"] => block.split('/').next(),
        _ => None,
    }
}

fn target(port: &Port) -> String {
    format!("{}:{}", address(port), port.2)
}

/// Without how many bits of it count, which for one machine are all.
fn address<'a>(port: &Port<'a>) -> &'a str {
    port.0.split('/').next().unwrap_or_default()
}

fn port(rule: &[String]) -> Option<Port<'_>> {
    Some((values(rule, "-d").next()?, values(rule, "-p").next()?, values(rule, "--dport").next()?))
}

/// True for a rule over links of ours, from and to their networks; for the one that lets a container reach itself by its
/// published port, which names its address twice and no link; and for one that publishes a port where docker has no program for
/// that (`userland-proxy=false`), which names nothing but where it leads.
fn names_our_links_alone(rule: &[String], scope: &Scope) -> bool {
    let network = &scope.network;
    let mut links = ["-i", "-o"].iter().flat_map(|o| values(rule, o)).peekable();
    let mut targets = values(rule, "--to-destination").filter_map(destination).peekable();
    // Of a published port, the address before the translation is the host's.
    let addresses: &[&str] = if targets.peek().is_some() { &["-s"] } else { &["-s", "-d"] };
    let mut blocks = addresses.iter().flat_map(|o| values(rule, o)).filter_map(block);
    let (source, target) = (values(rule, "-s").next(), values(rule, "-d").next());
    let to_itself = source.is_some() && source == target && values(rule, "-j").any(|to| to == "MASQUERADE");
    let publishes = rule[0] == "DOCKER" && targets.peek().is_some();
    (links.peek().is_some() || to_itself || publishes)
        && is_written_by_docker(rule)
        && links.all(|name| network.links.iter().any(|own| own.name == name && own.r#type == "bridge"))
        && blocks.all(|b| b.address.is_some_and(|a| is_in_our_networks(a, scope)))
        && targets.all(|target| is_in_our_networks(target, scope))
}

/// docker has rules in its own chains and in four of the kernel's, and no comments on them; DOCKER-USER is for users. What
/// names its links elsewhere, as ufw's chains do, a user has written.
fn is_written_by_docker(rule: &[String]) -> bool {
    let shared = ["FORWARD", "POSTROUTING", "PREROUTING", "OUTPUT"].contains(&rule[0].as_str());
    let its_own = rule[0].starts_with("DOCKER") && rule[0] != "DOCKER-USER";
    (shared || its_own) && values(rule, "--comment").next().is_none()
}
