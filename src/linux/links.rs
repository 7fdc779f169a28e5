//! Links, addresses and routes, asked of the kernel itself over rtnetlink(7).
//!
//! `ip` is not in every base, and its output is made for people.

use std::fs::File;
use std::io;
use std::net::IpAddr;
use std::os::fd::AsRawFd;

use netlink_packet_core::{NLM_F_ACK, NLM_F_DUMP};
use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::SockProtocol;

use crate::error::errno_of;
use crate::linux::netlink::{ask, attribute, attributes, push, text, u32_at};

// linux/if_link.h and linux/net_namespace.h; libc has them for some targets only.
const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_LINK: u16 = 5;
const IFLA_MASTER: u16 = 10;
const IFLA_LINKINFO: u16 = 18;
const IFLA_LINK_NETNSID: u16 = 37;
const IFLA_INFO_KIND: u16 = 1;
const NETNSA_NSID: u16 = 1;
const NETNSA_FD: u16 = 3;

/// A network interface.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Link {
    /// The kernel's index.
    pub index: u32,
    pub name: String,
    /// What kind of virtual link it is ("veth", "bridge"); empty for a real one.
    pub kind: String,
    /// Its hardware address as people write it.
    pub mac: String,
    /// True if it has been set up.
    pub up: bool,
    /// The bridge (or the like) that it is a port of.
    pub master: Option<u32>,
    /// The link that it is the other end of, or stands on, by its index.
    pub peer: Option<u32>,
    /// The ID by which our network namespace knows its peer's, if that is another one.
    pub peer_netns: Option<i32>,
}

/// A block of addresses, of one link: an address with its network, or the destination of a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Block {
    pub link: u32,
    /// Its address, or the first of its destinations; none for a default route.
    pub address: Option<IpAddr>,
    /// How many bits of it name the network.
    pub prefix: u8,
}

/// All links of our network namespace.
pub fn links() -> io::Result<Vec<Link>> {
    let mut links = Vec::new();
    ask(SockProtocol::NetlinkRoute, libc::RTM_GETLINK, NLM_F_DUMP, &[0; 16], &mut |_, payload| {
        links.extend(link(payload));
    })?;
    Ok(links)
}

/// The link with this index; none if there is none.
pub fn link_at(index: u32) -> io::Result<Option<Link>> {
    let mut body = vec![0; 16];
    body[4..8].copy_from_slice(&index.to_ne_bytes());
    let mut found = None;
    match ask(SockProtocol::NetlinkRoute, libc::RTM_GETLINK, 0, &body, &mut |_, payload| {
        found = link(payload)
    }) {
        Err(e) if e.raw_os_error() == Some(libc::ENODEV) => Ok(None),
        other => other.map(|()| found),
    }
}

fn link(payload: &[u8]) -> Option<Link> {
    let up = u32_at(payload, 8)? & libc::IFF_UP as u32 != 0;
    let mut link = Link { index: u32_at(payload, 4)?, up, ..Link::default() };
    for (kind, value) in attributes(payload.get(16..)?) {
        match kind {
            IFLA_IFNAME => link.name = text(value),
            IFLA_ADDRESS => {
                link.mac = value.iter().map(|b| format!("{b:02x}")).collect::<Vec<_>>().join(":");
            }
            IFLA_LINK => link.peer = u32_at(value, 0).filter(|index| *index > 0),
            IFLA_MASTER => link.master = u32_at(value, 0),
            IFLA_LINK_NETNSID => link.peer_netns = u32_at(value, 0).map(|id| id as i32).filter(|id| *id >= 0),
            IFLA_LINKINFO => link.kind = attribute(value, IFLA_INFO_KIND).map(text).unwrap_or_default(),
            _ => {}
        }
    }
    Some(link)
}

/// All addresses of our links.
pub fn addresses() -> io::Result<Vec<Block>> {
    let mut found = Vec::new();
    ask(SockProtocol::NetlinkRoute, libc::RTM_GETADDR, NLM_F_DUMP, &[0; 8], &mut |_, payload| {
        let of = |wanted| attribute(payload.get(8..)?, wanted);
        // IFA_ADDRESS is the other end's on a point-to-point link.
        let local = of(libc::IFA_LOCAL).or_else(|| of(libc::IFA_ADDRESS));
        if let (Some(link), Some(prefix), Some(value)) = (u32_at(payload, 4), payload.get(1), local) {
            found.push(Block { link, address: ip(value), prefix: *prefix });
        }
    })?;
    Ok(found)
}

/// The ID by which our network namespace knows another one; none if it has none, so that no link leads there.
pub fn netns_id(netns: &File) -> io::Result<Option<i32>> {
    let fd = netns.as_raw_fd().to_ne_bytes().to_vec();
    let mut body = vec![0; 4];
    push(&mut body, NETNSA_FD, fd);
    let mut id = None;
    ask(SockProtocol::NetlinkRoute, libc::RTM_GETNSID, 0, &body, &mut |_, payload| {
        let found = payload.get(4..).and_then(|body| u32_at(attribute(body, NETNSA_NSID)?, 0));
        id = found.map(|id| id as i32).filter(|id| *id >= 0);
    })?;
    Ok(id)
}

/// Deletes a link, and with a veth its other end.
pub fn delete_link(index: u32) -> Result<(), Errno> {
    let mut body = vec![0; 16];
    body[4..8].copy_from_slice(&index.to_ne_bytes());
    ask(SockProtocol::NetlinkRoute, libc::RTM_DELLINK, NLM_F_ACK, &body, &mut |_, _| {})
        .map_err(|e| errno_of(&e))
}

pub(super) fn ip(value: &[u8]) -> Option<IpAddr> {
    <[u8; 4]>::try_from(value)
        .map(IpAddr::from)
        .or_else(|_| <[u8; 16]>::try_from(value).map(IpAddr::from))
        .ok()
}

impl Block {
    /// True if the address lies in this block.
    pub fn holds(&self, address: IpAddr) -> bool {
        self.address.is_some_and(|network| shares(network, address, self.prefix))
    }

    /// True if this block lies in the other one.
    pub fn is_in(&self, network: IpAddr, prefix: u8) -> bool {
        self.address.is_some_and(|address| self.prefix >= prefix && shares(address, network, prefix))
    }
}

/// True if a route to a network leads to this address. One to half of the world says nothing of an address in it.
pub fn leads_to(network: IpAddr, prefix: u8, address: IpAddr) -> bool {
    let least = if address.is_ipv4() { 16 } else { 48 };
    prefix >= least && shares(network, address, prefix)
}

/// True if two addresses have so many bits in common.
pub fn shares(one: IpAddr, other: IpAddr, bits: u8) -> bool {
    let differ = match (one, other) {
        (IpAddr::V4(a), IpAddr::V4(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros(),
        (IpAddr::V6(a), IpAddr::V6(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros(),
        _ => return false,
    };
    differ >= u32::from(bits)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linux::netlink::GARBAGE;

    #[test]
    fn our_own_loopback_is_found() {
        let all = links().unwrap();
        let lo = all.iter().find(|l| l.name == "lo").unwrap();
        assert!(lo.kind.is_empty() && lo.master.is_none() && lo.mac == "00:00:00:00:00:00");
        assert!(addresses().unwrap().iter().all(|a| a.address.is_some()));
    }

    #[test]
    fn blocks_lie_in_networks() {
        let block = |text: &str, prefix| Block { link: 1, address: Some(text.parse().unwrap()), prefix };
        let network = "10.1.0.0".parse().unwrap();
        assert!(block("10.1.7.1", 24).is_in(network, 16));
        assert!(!block("10.0.0.0", 8).is_in(network, 16));
        assert!(!block("10.2.0.1", 32).is_in(network, 16));
        assert!(!block("fd00::1", 128).is_in(network, 0));
        assert!(!Block { link: 1, address: None, prefix: 0 }.is_in(network, 16));
    }

    #[test]
    fn garbage_is_no_link() {
        for garbage in GARBAGE {
            let _ = link(garbage);
        }
    }
}
