//! Routes that lead nowhere, asked of the kernel over rtnetlink(7). Network plugins make one for each block of addresses that
//! a node's pods have (Calico's Felix `calc/l3_route_resolver.go` and its routing daemon), so that what is for none of them
//! does not leave the node.

use std::io;
use std::net::IpAddr;

use netlink_packet_core::NLM_F_ACK;
use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::SockProtocol;
use serde::Serialize;

use crate::error::errno_of;
use crate::linux::netlink::{ask, push};
use crate::linux::routes::{self, FAMILY, KIND, LENGTH, PREFIX, PROTOCOL, Route};

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

/// All of them that a program made by itself: what people and their network configuration make has another number.
pub fn of_programs() -> io::Result<Vec<Blackhole>> {
    let mut found = Vec::new();
    routes::each(&mut |route| found.extend(blackhole(&route)))?;
    Ok(found)
}

fn blackhole(route: &Route) -> Option<Blackhole> {
    let Route { kind, destination, prefix, table, protocol, priority, .. } = *route;
    (kind == libc::RTN_BLACKHOLE && protocol > libc::RTPROT_STATIC).then_some(Blackhole {
        destination: destination?,
        prefix,
        table,
        protocol,
        priority,
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
    body[KIND] = libc::RTN_BLACKHOLE;
    push(&mut body, libc::RTA_DST, address);
    push(&mut body, libc::RTA_TABLE, route.table.to_ne_bytes().to_vec());
    push(&mut body, libc::RTA_PRIORITY, route.priority.to_ne_bytes().to_vec());
    ask(SockProtocol::NetlinkRoute, libc::RTM_DELROUTE, NLM_F_ACK, &body, &mut |_, _| {})
        .map_err(|e| errno_of(&e))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linux::links::leads_to;

    #[test]
    fn of_a_program_and_of_this_kind() {
        let destination = "10.1.5.64".parse().unwrap();
        let kind = libc::RTN_BLACKHOLE;
        let route = Route {
            destination: Some(destination),
            prefix: 26,
            table: 254,
            protocol: 80,
            kind,
            ..Route::default()
        };
        let found = Blackhole { destination, prefix: 26, table: 254, protocol: 80, priority: 0 };
        assert_eq!(blackhole(&route), Some(found));
        for other in [
            Route { kind: libc::RTN_UNICAST, ..route.clone() },
            Route { protocol: libc::RTPROT_STATIC, ..route.clone() },
            Route { destination: None, ..route },
        ] {
            assert_eq!(blackhole(&other), None);
        }
        of_programs().unwrap();
        let takes = |address: &str| leads_to(destination, 26, address.parse().unwrap());
        assert!(takes("10.1.5.127") && !takes("10.1.5.128"));
    }
}
