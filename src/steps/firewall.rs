//! Which firewall rules and chains are ours.

use std::cell::LazyCell;
use std::collections::HashSet;
use std::net::IpAddr;

use sha2::{Digest, Sha512};

use crate::linux::firewall::{Firewall, MASQUERADE, PORTS};
use crate::linux::nft;
use crate::order;
use crate::residue::finding::Finding;
use crate::residue::{Keys, NftRule, Residue, Rule};
use crate::scope::Scope;
use crate::scope::cni_ids::CniIds;
use crate::steps::families::{self, tagged_id};
use crate::view::View;

/// Those that are ours: rules first, then the chains that hold nothing but rules of ours.
fn ours(firewall: &Firewall, scope: &Scope) -> Vec<Residue> {
    let ids = CniIds::proven(scope);
    let ids = ids.names();
    let named: HashSet<String> = scope
        .network
        .networks
        .iter()
        .flat_map(|network| ids.iter().flat_map(|id| chains_of(network, id)))
        .collect();
    let mut found = Vec::new();
    for table in &firewall.tables {
        let of_sandbox = |rule: &&Vec<String>| tagged_id(rule).is_some_and(|id| ids.contains(id));
        let led_to = table.rules.iter().filter(of_sandbox).filter_map(|r| value(r, "-j"));
        let mut chains = order::set(led_to.filter(|c| is_hash(c)));
        chains.extend(table.chains.iter().map(String::as_str).filter(|c| named.contains(*c)));
        let ours = |rule: &&Vec<String>| {
            let comment = value(rule, "--comment");
            of_sandbox(rule)
                || comment.is_some_and(|c| scope.rule_comments.iter().any(|own| own == c))
                || (table.name == "filter" && lets_through(rule, scope))
                || chains.contains(rule[0].as_str())
                || value(rule, "-j").is_some_and(|target| chains.contains(target))
        };
        let residue = |rule: Vec<String>, chain| {
            Residue::Rule(Box::new(Rule {
                program: table.program.clone(),
                table: table.name.clone(),
                rule,
                chain,
            }))
        };
        found.extend(table.rules.iter().filter(ours).map(|rule| residue(rule.clone(), false)));
        let there = table.chains.iter().filter(|c| chains.contains(c.as_str()));
        found.extend(there.map(|chain| residue(vec![chain.clone()], true)));
    }
    let attachments = LazyCell::new(|| attachments(scope, &ids));
    let of_plugins = firewall.nft.iter().filter(|rule| is_of_sandbox(rule, &ids, &attachments));
    found.extend(of_plugins.map(|rule| {
        Residue::NftRule(Box::new(NftRule {
            family: rule.family.clone(),
            table: rule.table.clone(),
            chain: rule.chain.clone(),
            handle: rule.handle,
            comment: rule.comment.clone(),
        }))
    }));
    found
}

/// True for what CNI's firewall plugin adds for an address of a sandbox of ours: all that comes from it, and the
/// answers to it.
fn lets_through(rule: &[String], scope: &Scope) -> bool {
    let rule: Vec<&str> = rule.iter().map(String::as_str).collect();
    let block = match rule[..] {
        [FORWARD, "-s", block, "-j", "ACCEPT"] => block,
        [FORWARD, "-d", block, "-m", "conntrack", "--ctstate", "RELATED,ESTABLISHED", "-j", "ACCEPT"] => {
            block
        }
        _ => return false,
    };
    let Some((address, bits)) = block.split_once('/') else { return false };
    let address: Option<IpAddr> = address.parse().ok();
    let whole = address.is_some_and(|a| bits == if a.is_ipv4() { "32" } else { "128" });
    whole && address.is_some_and(|a| scope.network.addresses.contains(&a))
}

/// True if the comment is a sandbox's: its ID; or, where a rule is about an attachment, the hashes of its network
/// and of its interface with the ID. The rest of such a comment is for people, and may be cut off.
fn is_of_sandbox<F: FnOnce() -> HashSet<String>>(
    rule: &nft::Rule,
    ids: &HashSet<&str>,
    attachments: &LazyCell<HashSet<String>, F>,
) -> bool {
    match (rule.table.as_str(), rule.family.as_str()) {
        (PORTS, "ip" | "ip6") => ids.contains(rule.comment.as_str()),
        (MASQUERADE, "inet") => {
            rule.comment.split(',').next().is_some_and(|hashes| attachments.contains(hashes))
        }
        _ => false,
    }
}

/// How CNI's plugins begin the comments on masquerading rules.
fn attachments(scope: &Scope, ids: &HashSet<&str>) -> HashSet<String> {
    const LENGTH: usize = 16;
    let interfaces = &scope.network.interfaces;
    let ends = interfaces.iter().flat_map(|interface| ids.iter().map(move |id| format!("{interface}:{id}")));
    let ends: Vec<String> = ends.map(|end| hash(&end, LENGTH)).collect();
    let networks = scope.network.networks.iter().map(|network| hash(network, LENGTH));
    networks.flat_map(|network| ends.iter().map(move |end| format!("{network}-{end}"))).collect()
}

/// The names of the chains that CNI's plugins make for an attachment: for masquerading, and for mapped ports.
fn chains_of(network: &str, id: &str) -> [String; 3] {
    let hash = hash(&format!("{network}{id}"), CHAIN_NAME_LEN);
    ["CNI-", "CNI-DN-", "CNI-SN-"].map(|prefix| format!("{prefix}{}", &hash[..CHAIN_NAME_LEN - prefix.len()]))
}

/// The first digits of the hash that CNI's plugins take.
fn hash(text: &str, digits: usize) -> String {
    Sha512::digest(text).iter().take(digits / 2).map(|b| format!("{b:02x}")).collect()
}

fn is_hash(chain: &str) -> bool {
    let tail =
        chain.strip_prefix("CNI-").map(|t| t.strip_prefix("DN-").or(t.strip_prefix("SN-")).unwrap_or(t));
    chain.len() == CHAIN_NAME_LEN
        && tail.is_some_and(|t| t.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')))
}

fn value<'a>(rule: &'a [String], option: &str) -> Option<&'a str> {
    let at = rule.iter().position(|word| word == option)?;
    rule.get(at + 1).map(String::as_str)
}

/// The length of a chain's name as CNI's plugins make it.
const CHAIN_NAME_LEN: usize = 28;

/// The chain in which CNI's firewall plugin lets pods' addresses through.
const FORWARD: &str = "CNI-FORWARD";

/// True if there may be firewall rules of ours.
pub fn wants_rules(scope: &Scope) -> bool {
    let network = &scope.network;
    // A kubelet makes chains before any pod has a network.
    network.is_known()
        || scope.kubelet_has_run()
        || scope.docker_has_run()
        || !network.blind.is_empty()
        || !scope.rule_comments.is_empty()
}

/// Rules and chains of ours.
pub fn rules(view: &View, scope: &Scope, finding: &mut Finding) {
    if !wants_rules(scope) {
        return;
    }
    let firewall = view.firewall(&scope.programs());
    finding.residues.extend(ours(firewall, scope));
    finding.blind.extend(firewall.blind.iter().cloned());
    let families = families::judge(view, scope);
    let known = Keys::of(&mut finding.residues.iter().map(Residue::key));
    finding.residues.extend(families.ours.into_iter().filter(|rule| !known.has(&rule.key())));
    finding.blind.extend(families.blind);
}

#[cfg(test)]
mod tests;
