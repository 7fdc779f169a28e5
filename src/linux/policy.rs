//! Rules that choose a routing table (ip-rule(8)): by one address, as network plugins make them for a pod; and which there are
//! at all.

use std::io;
use std::net::IpAddr;

use netlink_packet_core::NLM_F_DUMP;
use nix::libc;
use nix::sys::socket::SockProtocol;

use crate::linux::netlink::{ask, attribute, u32_at};

/// A rule for what comes from one address, or goes to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// `from` or `to`.
    pub way: &'static str,
    pub address: IpAddr,
    pub table: u32,
    pub priority: u32,
}

// The fields of `struct fib_rule_hdr`, and attributes (linux/fib_rules.h).
const TABLE: usize = 4;
const LENGTH: usize = 12;
const ENDS: [(u16, usize, &str); 2] = [(1, 1, "to"), (2, 2, "from")];
const PRIORITY: u16 = 6;
const TABLE_NUMBER: u16 = 15;

/// All of them.
pub fn of_one_address() -> io::Result<Vec<Policy>> {
    let mut found = Vec::new();
    list(&mut |payload| found.extend(policy(payload))).map(|()| found)
}

/// Which table is looked up, and when; whatever for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lookup {
    pub v6: bool,
    pub table: u32,
    pub priority: u32,
}

/// All rules, in the order in which they count.
pub fn lookups() -> io::Result<Vec<Lookup>> {
    let mut found = Vec::new();
    let lookup = |payload: &[u8]| {
        let of = |wanted| number(payload.get(LENGTH..)?, wanted);
        let v6 = i32::from(*payload.first()?) == libc::AF_INET6;
        let table = of(TABLE_NUMBER).or(payload.get(TABLE).map(|t| u32::from(*t)))?;
        Some(Lookup { v6, table, priority: of(PRIORITY).unwrap_or(0) })
    };
    list(&mut |payload| found.extend(lookup(payload))).map(|()| found)
}

fn list(take: &mut dyn FnMut(&[u8])) -> io::Result<()> {
    match ask(SockProtocol::NetlinkRoute, libc::RTM_GETRULE, NLM_F_DUMP, &[0; LENGTH], &mut |_, p| take(p)) {
        // The kernel has one table, and no rules.
        Err(e) if e.raw_os_error() == Some(libc::EOPNOTSUPP) => Ok(()),
        other => other,
    }
}

fn number(body: &[u8], wanted: u16) -> Option<u32> {
    u32_at(attribute(body, wanted)?, 0)
}

fn policy(payload: &[u8]) -> Option<Policy> {
    let body = payload.get(LENGTH..)?;
    let (way, address) = ENDS.iter().find_map(|(kind, length, way)| {
        let address = attribute(body, *kind).and_then(super::links::ip)?;
        let whole = if address.is_ipv4() { 32 } else { 128 };
        (payload[*length] == whole).then_some((*way, address))
    })?;
    let table = number(body, TABLE_NUMBER).unwrap_or(payload[TABLE].into());
    Some(Policy { way, address, table, priority: number(body, PRIORITY).unwrap_or(0) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linux::netlink::{GARBAGE, push};

    #[test]
    fn a_rule_for_one_address_is_read_and_no_other() {
        let mut payload = vec![0; LENGTH];
        (payload[2], payload[TABLE]) = (32, 100);
        push(&mut payload, 2, vec![10, 1, 7, 5]);
        push(&mut payload, PRIORITY, 1536_u32.to_ne_bytes().to_vec());
        let address = "10.1.7.5".parse().unwrap();
        assert_eq!(policy(&payload), Some(Policy { way: "from", address, table: 100, priority: 1536 }));
        payload[2] = 24;
        assert_eq!(policy(&payload), None, "a network");
        assert!(GARBAGE.iter().all(|garbage| policy(garbage).is_none()));
        of_one_address().unwrap();
        assert!(
            lookups().unwrap().contains(&Lookup { v6: false, table: 254, priority: 32766 }),
            "of every machine"
        );
    }
}
