//! Virtual servers of IPVS, as kube-proxy makes them.

use std::net::IpAddr;
use std::path::Path;

use super::{FAMILIES, Family, Judged};
use crate::error::Blind;
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
    let (servers, real) = parse_ip_vs(&text);
    if servers == 0 {
        return;
    }
    let ours = real.iter().filter(|a| scope.network.addresses.contains(a)).count();
    let what = format!("{servers} virtual servers (IPVS)");
    let rival = FAMILIES
        .iter()
        .filter(|family| family.of_kubelet)
        .flat_map(Family::makers)
        .find_map(|maker| scope.network.rivals.get(maker));
    match (ours, rival) {
        (0, Some(rival)) => judged.others.push(format!("{what}: {rival}")),
        (0, None) if scope.roots.kubelet.is_none() => {
            judged.others.push(format!("{what}: nothing ties them to a pod of ours"));
        }
        (n, _) => {
            let why = format!(
                "{n} of their {} targets are pods of ours; 'ipvsadm -C' or a reboot removes all",
                real.len()
            );
            judged.blind.push(Blind::new(what, (Reason::Contradicted, why)));
        }
    }
}

/// How many virtual servers there are, and where they lead: `TCP  0A98B705:0050 rr`, `  -> 0A010002:0050 Masq 1 0 0`.
fn parse_ip_vs(text: &str) -> (usize, Vec<IpAddr>) {
    let lines = || text.lines().filter(|l| !l.contains("LocalAddress:") && !l.contains("RemoteAddress:"));
    let is_server = |l: &&str| ["TCP ", "UDP ", "SCTP ", "FWM "].iter().any(|p| l.starts_with(p));
    let target = |l: &str| {
        let place = l.trim_start().strip_prefix("-> ")?.split_whitespace().next()?;
        match place.strip_prefix('[') {
            Some(rest) => rest.split(']').next()?.parse().ok(),
            None => {
                let number = u32::from_str_radix(place.split(':').next()?, 16).ok()?;
                Some(IpAddr::from(number.to_be_bytes()))
            }
        }
    };
    (lines().filter(is_server).count(), lines().filter_map(target).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_and_targets_are_read() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let text = "IP Virtual Server version 1.2.1 (size=4096)\nProt LocalAddress:Port Scheduler Flags\n  -> RemoteAddress:Port Forward Weight\n\
            TCP  0A98B705:0050 rr \n  -> 0A010002:0050      Masq    1      0          0\nTCP  [fd00::1]:0050 rr\n  -> [fd00::2]:0050 Masq 1\n";
        assert_eq!(parse_ip_vs(text), (2, vec![ip("10.1.0.2"), ip("fd00::2")]));
    }
}
