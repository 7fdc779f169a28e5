//! Routes as whoever made them left them, in all tables (rtnetlink(7)).

use std::io;
use std::net::IpAddr;

use netlink_packet_core::NLM_F_DUMP;
use nix::libc;
use nix::sys::socket::SockProtocol;

use crate::linux::links::{Block, ip};
use crate::linux::netlink::{ask, attribute, u32_at};

/// A route to somewhere.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Route {
    pub v6: bool,
    /// What becomes of packets, in the kernel's numbers.
    pub kind: u8,
    /// None of a default route.
    pub destination: Option<IpAddr>,
    /// How many bits of it name the network.
    pub prefix: u8,
    /// The routing table.
    pub table: u32,
    /// The kernel's number of who made it.
    pub protocol: u8,
    /// Of several routes to one destination the lowest counts.
    pub priority: u32,
    /// The links by which it leads.
    pub links: Vec<u32>,
    /// True if it leads by way of another machine.
    pub by_gateway: bool,
}

// The fields of `struct rtmsg` (linux/rtnetlink.h).
pub(super) const FAMILY: usize = 0;
pub(super) const PREFIX: usize = 1;
pub(super) const TABLE: usize = 4;
pub(super) const PROTOCOL: usize = 5;
pub(super) const KIND: usize = 7;
pub(super) const LENGTH: usize = 12;

/// Hands each of them on: a router has a million.
pub fn each(take: &mut dyn FnMut(Route)) -> io::Result<()> {
    ask(SockProtocol::NetlinkRoute, libc::RTM_GETROUTE, NLM_F_DUMP, &[0; LENGTH], &mut |_, payload| {
        if let Some(route) = route(payload) {
            take(route);
        }
    })
}

/// Where the links lead; routes to our own addresses and to broadcast and multicast ones come with these.
pub fn elsewhere() -> io::Result<Vec<Block>> {
    let mut found = Vec::new();
    each(&mut |Route { kind, destination: address, prefix, links, .. }| {
        let links = links.into_iter().filter(|_| kind == libc::RTN_UNICAST);
        found.extend(links.map(|link| Block { link, address, prefix }));
    })?;
    Ok(found)
}

fn route(payload: &[u8]) -> Option<Route> {
    let body = payload.get(LENGTH..)?;
    let of = |wanted| attribute(body, wanted);
    let number = |wanted| of(wanted).and_then(|value| u32_at(value, 0));
    let several = of(libc::RTA_MULTIPATH).map(next_hops).unwrap_or_default();
    Some(Route {
        v6: i32::from(payload[FAMILY]) == libc::AF_INET6,
        kind: payload[KIND],
        destination: of(libc::RTA_DST).and_then(ip),
        prefix: payload[PREFIX],
        table: number(libc::RTA_TABLE).unwrap_or(payload[TABLE].into()),
        protocol: payload[PROTOCOL],
        priority: number(libc::RTA_PRIORITY).unwrap_or(0),
        by_gateway: !several.is_empty() || of(libc::RTA_GATEWAY).or_else(|| of(libc::RTA_VIA)).is_some(),
        links: number(libc::RTA_OIF).into_iter().chain(several).collect(),
    })
}

/// The links in a list of `struct rtnexthop` (linux/rtnetlink.h).
fn next_hops(mut list: &[u8]) -> Vec<u32> {
    let mut links = Vec::new();
    while let (Some(&[low, high]), Some(link)) = (list.first_chunk::<2>(), u32_at(list, 4)) {
        links.push(link);
        let length = usize::from(u16::from_ne_bytes([low, high])).next_multiple_of(4);
        list = list.get(length.max(8)..).unwrap_or_default();
    }
    links
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
        let read =
            Route { destination, prefix: 26, table: 254, protocol: 12, links: vec![7], ..Route::default() };
        assert_eq!(route(&payload), Some(read.clone()));
        push(&mut payload, libc::RTA_GATEWAY, vec![192, 0, 2, 9]);
        assert_eq!(route(&payload), Some(Route { by_gateway: true, ..read }));
        let hop = |link: u32| [&[8, 0, 0, 0][..], &link.to_ne_bytes()].concat();
        let mut payload = vec![0; LENGTH];
        push(&mut payload, libc::RTA_MULTIPATH, [hop(3), hop(5)].concat());
        assert_eq!(route(&payload), Some(Route { by_gateway: true, links: vec![3, 5], ..Route::default() }));
        for garbage in GARBAGE {
            assert!(route(garbage).is_none_or(|route| route.destination.is_none()));
            let _ = next_hops(garbage);
        }
        let mut local = 0;
        each(&mut |route| local += usize::from(route.kind == libc::RTN_LOCAL)).unwrap();
        assert!(local > 0 && elsewhere().is_ok(), "of every machine");
    }
}
