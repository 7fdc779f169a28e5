//! Routes as whoever made them left them, in all tables (rtnetlink(7)).

use std::io;
use std::net::IpAddr;

use netlink_packet_core::NLM_F_DUMP;
use nix::libc;
use nix::sys::socket::SockProtocol;

use crate::linux::netlink::{ask, attributes, u32_at};

/// A route to somewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    pub v6: bool,
    /// None of a default route.
    pub destination: Option<IpAddr>,
    /// How many bits of it name the network.
    pub prefix: u8,
    /// The routing table.
    pub table: u32,
    /// The kernel's number of who made it.
    pub protocol: u8,
    /// The link by which it leads, if that is one.
    pub link: Option<u32>,
    /// True if it leads by way of another machine.
    pub by_gateway: bool,
}

// The fields of `struct rtmsg` (linux/rtnetlink.h).
const PREFIX: usize = 1;
const TABLE: usize = 4;
const PROTOCOL: usize = 5;
const LENGTH: usize = 12;

/// All of them.
pub fn all() -> io::Result<Vec<Route>> {
    let mut found = Vec::new();
    ask(SockProtocol::NetlinkRoute, libc::RTM_GETROUTE, NLM_F_DUMP, &[0; LENGTH], |_, payload| {
        found.extend(route(payload));
    })?;
    Ok(found)
}

fn route(payload: &[u8]) -> Option<Route> {
    let body = payload.get(LENGTH..)?;
    let of = |wanted| attributes(body).find(|(kind, _)| *kind == wanted).map(|(_, value)| value);
    let number = |wanted| of(wanted).and_then(|value| u32_at(value, 0));
    Some(Route {
        v6: i32::from(payload[0]) == libc::AF_INET6,
        destination: of(libc::RTA_DST).and_then(super::links::ip),
        prefix: payload[PREFIX],
        table: number(libc::RTA_TABLE).unwrap_or(payload[TABLE].into()),
        protocol: payload[PROTOCOL],
        link: number(libc::RTA_OIF),
        by_gateway: [libc::RTA_GATEWAY, libc::RTA_VIA, libc::RTA_MULTIPATH]
            .iter()
            .any(|kind| of(*kind).is_some()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linux::netlink::{GARBAGE, push};

    #[test]
    fn a_route_is_read_as_it_was_written() {
        let mut payload = vec![0; LENGTH];
        (payload[0], payload[PREFIX], payload[TABLE], payload[PROTOCOL]) = (2, 26, 254, 12);
        push(&mut payload, libc::RTA_DST, vec![10, 1, 5, 64]);
        push(&mut payload, libc::RTA_OIF, 7_u32.to_ne_bytes().to_vec());
        let destination = Some("10.1.5.64".parse().unwrap());
        let read = Route {
            v6: false,
            destination,
            prefix: 26,
            table: 254,
            protocol: 12,
            link: Some(7),
            by_gateway: false,
        };
        assert_eq!(route(&payload), Some(read.clone()));
        push(&mut payload, libc::RTA_GATEWAY, vec![192, 0, 2, 9]);
        assert_eq!(route(&payload), Some(Route { by_gateway: true, ..read }));
        assert!(GARBAGE.iter().all(|garbage| route(garbage).is_none_or(|r| r.destination.is_none())));
        all().unwrap();
    }
}
