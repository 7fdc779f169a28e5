//! Routes that lead nowhere, asked of the kernel over rtnetlink(7). Network plugins make one for each block of addresses that
//! a node's pods have (Calico's Felix `calc/l3_route_resolver.go` and its routing daemon), so that what is for none of them
//! does not leave the node.

use std::io;
use std::net::IpAddr;

use netlink_packet_core::{NLM_F_ACK, NLM_F_DUMP};
use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::SockProtocol;
use serde::Serialize;

use crate::error::errno_of;
use crate::linux::netlink::{ask, attributes, push, u32_at};

/// A route of the type `blackhole`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Blackhole {
    pub destination: IpAddr,
    /// How many bits of it name the network.
    pub prefix: u8,
    /// The routing table.
    pub table: u32,
    /// The kernel's number of who made it.
    pub protocol: u8,
    /// Of several routes to one destination the lowest counts.
    pub priority: u32,
}

// The fields of `struct rtmsg` (linux/rtnetlink.h).
const FAMILY: usize = 0;
const PREFIX: usize = 1;
const TABLE: usize = 4;
const PROTOCOL: usize = 5;
const TYPE: usize = 7;
const LENGTH: usize = 12;

/// All of them that a program made by itself: what people and their network configuration make has another number.
pub fn of_programs() -> io::Result<Vec<Blackhole>> {
    let mut found = Vec::new();
    ask(SockProtocol::NetlinkRoute, libc::RTM_GETROUTE, NLM_F_DUMP, &[0; LENGTH], |_, payload| {
        found.extend(blackhole(payload).filter(|route| route.protocol > libc::RTPROT_STATIC));
    })?;
    Ok(found)
}

fn blackhole(payload: &[u8]) -> Option<Blackhole> {
    let body = payload.get(LENGTH..).filter(|_| payload[TYPE] == libc::RTN_BLACKHOLE)?;
    let of = |wanted| attributes(body).find(|(kind, _)| *kind == wanted).map(|(_, value)| value);
    let number = |wanted| of(wanted).and_then(|value| u32_at(value, 0));
    Some(Blackhole {
        destination: of(libc::RTA_DST).and_then(super::links::ip)?,
        prefix: payload[PREFIX],
        table: number(libc::RTA_TABLE).unwrap_or(payload[TABLE].into()),
        protocol: payload[PROTOCOL],
        priority: number(libc::RTA_PRIORITY).unwrap_or(0),
    })
}

/// Deletes exactly this route.
pub fn delete(route: &Blackhole) -> Result<(), Errno> {
    let mut body = vec![0; LENGTH];
    let (family, address) = match route.destination {
        IpAddr::V4(address) => (libc::AF_INET, address.octets().to_vec()),
        IpAddr::V6(address) => (libc::AF_INET6, address.octets().to_vec()),
    };
    body[FAMILY] = family as u8;
    body[PREFIX] = route.prefix;
    body[PROTOCOL] = route.protocol;
    body[TYPE] = libc::RTN_BLACKHOLE;
    push(&mut body, libc::RTA_DST, address);
    push(&mut body, libc::RTA_TABLE, route.table.to_ne_bytes().to_vec());
    push(&mut body, libc::RTA_PRIORITY, route.priority.to_ne_bytes().to_vec());
    ask(SockProtocol::NetlinkRoute, libc::RTM_DELROUTE, NLM_F_ACK, &body, |_, _| {}).map_err(|e| errno_of(&e))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linux::links::leads_to;
    use crate::linux::netlink::GARBAGE;

    #[test]
    fn a_route_is_read_as_it_was_written() {
        let mut payload = vec![0; LENGTH];
        (payload[PREFIX], payload[TABLE], payload[PROTOCOL], payload[TYPE]) =
            (26, 254, 80, libc::RTN_BLACKHOLE);
        push(&mut payload, libc::RTA_DST, vec![10, 1, 5, 64]);
        let route = blackhole(&payload).unwrap();
        let destination = "10.1.5.64".parse().unwrap();
        assert_eq!(route, Blackhole { destination, prefix: 26, table: 254, protocol: 80, priority: 0 });
        let takes = |address: &str| leads_to(route.destination, route.prefix, address.parse().unwrap());
        assert!(takes("10.1.5.127") && !takes("10.1.5.128"));
        payload[TYPE] = libc::RTN_UNICAST;
        assert_eq!(blackhole(&payload), None);
        assert!(GARBAGE.iter().all(|garbage| blackhole(garbage).is_none()));
        of_programs().unwrap();
    }
}
