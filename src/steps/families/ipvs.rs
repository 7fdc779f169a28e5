//! Virtual servers of IPVS, as kube-proxy makes them.

use std::net::IpAddr;
use std::path::Path;

use super::{FAMILIES, Family, Judged};
use crate::error::Blind;
use crate::linux::links::addresses;
use crate::reason::Reason;
use crate::scope::Scope;
use crate::view::View;

/// Judges them all at once. They are listed in one file, and left: an address of ours in them is told.
pub(super) fn judge(view: &View, scope: &Scope, judged: &mut Judged) {
    let file = Path::new("/proc/self/net/ip_vs");
    let text = match view.host.read_text(file) {
        Ok(text) => text,
        Err(e) if e.is_gone() => return,
        Err(e) => return judged.blind.push(Blind::new("virtual servers (IPVS)", e)),
    };
    let servers = parse_ip_vs(&text);
    if servers.count == 0 {
        return;
    }
    let rival = FAMILIES
        .iter()
        .filter(|family| family.of_kubelet)
        .flat_map(Family::makers)
        .find_map(|maker| scope.network.rivals.get(maker));
    let kubes = || {
        let owned = scope.network.links.iter().any(|own| own.name == DUMMY);
        let is_on_it = || on_dummy(view).is_none_or(|its| servers.at.iter().any(|a| its.contains(a)));
        scope.roots.kubelet.is_some() && (owned || is_on_it())
    };
    let ours = servers.to.iter().filter(|a| scope.network.addresses.contains(a)).count();
    match verdict(&servers, ours, rival.map(String::as_str), kubes) {
        Ok(others) => judged.others.push(others),
        Err(told) => judged.blind.push(told),
    }
}

/// The link on which kube-proxy has the addresses of all its servers, and nobody else any.
const DUMMY: &str = "kube-ipvs0";

/// Nothing if that cannot be read.
fn on_dummy(view: &View) -> Option<Vec<IpAddr>> {
    let links = view.links().as_ref().ok()?;
    let Some(dummy) = links.iter().find(|l| l.name == DUMMY) else { return Some(Vec::new()) };
    let of_it = addresses().ok()?.into_iter().filter(|block| block.link == dummy.index);
    Some(of_it.filter_map(|block| block.address).collect())
}

/// An administrator may balance among hosts of his own on the same machine.
fn verdict(
    servers: &Servers,
    ours: usize,
    rival: Option<&str>,
    kubes: impl FnOnce() -> bool,
) -> Result<String, Blind> {
    let what = format!("{} virtual servers (IPVS)", servers.count);
    match (ours, rival) {
        (0, Some(rival)) => Ok(format!("{what}: {rival}")),
        (0, None) if !kubes() => Ok(format!("{what}: nothing ties them to a pod of ours")),
        (n, _) => {
            let all = servers.to.len();
            let ends = if n > 0 && n == all {
                "'ipvsadm -C' or a reboot removes all"
            } else {
                "'ipvsadm -ln' lists them, and 'ipvsadm -D' removes one"
            };
            let why = format!("{n} of their {all} targets are pods of ours; {ends}");
            Err(Blind::new(what, (Reason::Contradicted, why)))
        }
    }
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Servers {
    count: usize,
    /// Their own addresses.
    at: Vec<IpAddr>,
    /// Where they lead.
    to: Vec<IpAddr>,
}

/// `TCP  0A98B705:0050 rr`, `FWM  00000001 rr`, `  -> 0A010002:0050 Masq 1 0 0`.
fn parse_ip_vs(text: &str) -> Servers {
    let mut servers = Servers::default();
    let place = |place: &str| match place.strip_prefix('[') {
        Some(rest) => rest.split(']').next()?.parse().ok(),
        None => {
            let (address, _) = place.split_once(':')?;
            Some(IpAddr::from(u32::from_str_radix(address, 16).ok()?.to_be_bytes()))
        }
    };
    for line in text.lines() {
        let mut words = line.split_whitespace();
        match (words.next(), words.next()) {
            (Some("TCP" | "UDP" | "SCTP" | "FWM"), Some(at)) => {
                servers.count += 1;
                servers.at.extend(place(at));
            }
            (Some("->"), Some(to)) => servers.to.extend(place(to)),
            _ => {}
        }
    }
    servers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_and_targets_are_read() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let text = "IP Virtual Server version 1.2.1 (size=4096)\nProt LocalAddress:Port Scheduler Flags\n  -> RemoteAddress:Port Forward Weight\n\
            TCP  0A98B705:0050 rr \n  -> 0A010002:0050      Masq    1      0          0\nTCP  [fd00::1]:0050 rr\n  -> [fd00::2]:0050 Masq 1\n";
        let expected = Servers {
            count: 2,
            at: vec![ip("10.152.183.5"), ip("fd00::1")],
            to: vec![ip("10.1.0.2"), ip("fd00::2")],
        };
        assert_eq!(parse_ip_vs(text), expected);
        let marked = parse_ip_vs("FWM  00000001 rr\n  -> 0A010002:0000 Masq 1 0 0\n");
        assert_eq!((marked.count, marked.at.len(), marked.to), (1, 0, vec![ip("10.1.0.2")]));
    }

    #[test]
    fn an_administrators_servers_are_his_and_nobody_is_told_to_remove_them() {
        let servers =
            |targets| Servers { count: 1, at: Vec::new(), to: vec![[192, 168, 1, 11].into(); targets] };
        let told = |targets, ours, rival, kubes| match verdict(&servers(targets), ours, rival, || kubes) {
            Ok(_) => "another's",
            Err(told) if told.why.contains("ipvsadm -C") => "all",
            Err(_) => "told",
        };
        assert_eq!(told(1, 0, None, false), "another's");
        assert_eq!(told(1, 0, Some("a kubelet"), true), "another's");
        assert_eq!(told(1, 0, None, true), "told");
        assert_eq!(told(0, 0, None, true), "told");
        assert_eq!(told(2, 1, None, false), "told");
        assert_eq!(told(2, 1, Some("a kubelet"), false), "told");
        assert_eq!(told(2, 2, None, false), "all");
    }
}
