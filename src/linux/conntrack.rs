//! Tracked connections, asked of the kernel over ctnetlink: of those that lead to an address that is gone, packets go on
//! being sent there, and no rule is asked again.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;

use netlink_packet_core::{NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST};
use nix::errno::Errno;
use nix::sys::socket::SockProtocol;

use crate::error::errno_of;
use crate::linux::host::Host;
use crate::linux::netlink::{ask, attributes, exchange, message, push};

// linux/netfilter/nfnetlink_conntrack.h.
const SUBSYSTEM: u16 = 1;
const GET: u16 = SUBSYSTEM << 8 | 1;
const DELETE: u16 = SUBSYSTEM << 8 | 2;
const TUPLE_ORIG: u16 = 1;
const TUPLE_REPLY: u16 = 2;
const ID: u16 = 12;
const ZONE: u16 = 18;
const TUPLE_IP: u16 = 1;
const IP_V4_SRC: u16 = 1;
const IP_V6_SRC: u16 = 3;
const NESTED: u16 = 1 << 15;

/// How many connections the kernel tracks; it has the file only if it tracks any.
const COUNT: &str = "/proc/sys/net/netfilter/nf_conntrack_count";

/// More are never kept in mind at a time.
const MAX_FLOWS: usize = 65_536;

/// One tracked connection: what identifies it, as the kernel wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flow {
    family: u8,
    original: Vec<u8>,
    id: Option<Vec<u8>>,
    zone: Option<Vec<u8>>,
}

/// The connections whose answers come from one of these addresses.
pub fn from(host: &Host, addresses: &BTreeSet<IpAddr>) -> io::Result<Vec<Flow>> {
    // Asking loads the kernel's module, where it is not loaded.
    if addresses.is_empty() || !host.is_live() || !tracks(host) {
        return Ok(Vec::new());
    }
    let mut flows = Vec::new();
    let request = message(GET, NLM_F_REQUEST | NLM_F_DUMP, &[0; 4]);
    // Read as it comes: a busy host tracks hundreds of thousands.
    exchange(SockProtocol::NetlinkNetFilter, &request, NLM_F_DUMP, &mut |_, payload| {
        if flows.len() < MAX_FLOWS {
            flows.extend(flow(payload, addresses));
        }
    })?;
    Ok(flows)
}

fn tracks(host: &Host) -> bool {
    match host.read_text(COUNT.as_ref()) {
        Ok(text) => text.trim() != "0",
        Err(e) => !e.is_gone(),
    }
}

fn flow(payload: &[u8], addresses: &BTreeSet<IpAddr>) -> Option<Flow> {
    let (mut original, mut source, mut id, mut zone) = (None, None, None, None);
    for (kind, value) in attributes(payload.get(4..)?) {
        match kind & !NESTED {
            TUPLE_ORIG => original = Some(value.to_vec()),
            TUPLE_REPLY => source = source_of(value),
            ID => id = Some(value.to_vec()),
            ZONE => zone = Some(value.to_vec()),
            _ => {}
        }
    }
    addresses.contains(&source?).then_some(())?;
    Some(Flow { family: *payload.first()?, original: original?, id, zone })
}

fn source_of(tuple: &[u8]) -> Option<IpAddr> {
    let (_, ip) = attributes(tuple).find(|(kind, _)| kind & !NESTED == TUPLE_IP)?;
    attributes(ip).find_map(|(kind, value)| match kind & !NESTED {
        IP_V4_SRC => <[u8; 4]>::try_from(value).ok().map(IpAddr::from),
        IP_V6_SRC => <[u8; 16]>::try_from(value).ok().map(IpAddr::from),
        _ => None,
    })
}

/// Forgets exactly this connection.
pub fn forget(flow: &Flow) -> Result<(), Errno> {
    let mut body = vec![flow.family, 0, 0, 0];
    push(&mut body, TUPLE_ORIG | NESTED, flow.original.clone());
    // The same addresses and ports may be another connection's by now.
    flow.id.iter().for_each(|id| push(&mut body, ID, id.clone()));
    flow.zone.iter().for_each(|zone| push(&mut body, ZONE, zone.clone()));
    ask(SockProtocol::NetlinkNetFilter, DELETE, NLM_F_ACK, &body, &mut |_, _| {}).map_err(|e| errno_of(&e))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linux::netlink::GARBAGE;

    fn tuple(source: [u8; 4]) -> Vec<u8> {
        let (mut ip, mut tuple) = (Vec::new(), Vec::new());
        push(&mut ip, IP_V4_SRC, source.to_vec());
        push(&mut ip, IP_V4_SRC + 1, vec![192, 0, 2, 1]);
        push(&mut tuple, TUPLE_IP | NESTED, ip);
        tuple
    }

    #[test]
    fn a_connection_is_known_by_where_its_answers_come_from() {
        let mut payload = vec![2, 0, 0, 0];
        push(&mut payload, TUPLE_ORIG | NESTED, tuple([10, 1, 0, 3]));
        push(&mut payload, TUPLE_REPLY | NESTED, tuple([10, 1, 0, 2]));
        push(&mut payload, ID, vec![0, 0, 0, 7]);
        let of = |address: [u8; 4]| flow(&payload, &[address.into()].into());
        let found = of([10, 1, 0, 2]).unwrap();
        assert_eq!(
            (found.family, found.original, found.id),
            (2, tuple([10, 1, 0, 3]), Some(vec![0, 0, 0, 7]))
        );
        assert_eq!(of([10, 1, 0, 3]), None, "where it comes from says nothing");
        for cut in 0..payload.len() {
            let _ = flow(&payload[..cut], &[[10, 1, 0, 2].into()].into());
        }
        for garbage in GARBAGE {
            assert_eq!(flow(garbage, &[[10, 1, 0, 2].into()].into()), None);
        }
    }
}
