//! Rules of nf_tables itself, as CNI's plugins make them without iptables: asked of the kernel, and deleted one by
//! one, by their handles. No program is needed, and none is in most snaps.

use std::io;

use netlink_packet_core::{NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST};
use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::SockProtocol;

use crate::error::errno_of;
use crate::linux::netlink::{ask, attribute, attributes, message, push, text};

// linux/netfilter/nf_tables.h and linux/netfilter/nfnetlink.h.
const TABLE_NAME: u16 = 1;
const RULE_TABLE: u16 = 1;
const RULE_CHAIN: u16 = 2;
const RULE_HANDLE: u16 = 3;
const RULE_USERDATA: u16 = 7;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
/// libnftnl's number of a rule's comment among what it keeps with a rule (udata.h).
const COMMENT: u8 = 0;

/// Families of the tables that are read, by the names that people use.
const FAMILIES: [(u8, &str); 4] = [(1, "inet"), (2, "ip"), (7, BRIDGE), (10, "ip6")];
/// That of what passes a bridge.
pub const BRIDGE: &str = "bridge";

/// A rule that carries a comment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rule {
    /// `ip`, `ip6`, `inet` or `bridge`.
    pub family: String,
    pub table: String,
    pub chain: String,
    /// The kernel's number of it, which no other rule of the table ever gets.
    pub handle: u64,
    pub comment: String,
}

/// The tables of nf_tables, as address family and name.
pub fn tables() -> io::Result<Vec<(u8, String)>> {
    let mut tables = Vec::new();
    let get = of_subsystem(libc::NFT_MSG_GETTABLE);
    let asked = ask(SockProtocol::NetlinkNetFilter, get, NLM_F_DUMP, &[0; 4], &mut |_, payload| {
        let name = payload.get(4..).and_then(|body| attribute(body, TABLE_NAME));
        tables.extend(name.map(|name| (payload[0], text(name))));
    });
    match asked {
        // The kernel has no nf_tables.
        Err(e)
            if matches!(e.raw_os_error(), Some(libc::EINVAL | libc::EOPNOTSUPP | libc::EPROTONOSUPPORT)) =>
        {
            Ok(Vec::new())
        }
        other => other.map(|()| tables),
    }
}

/// The rules of one table that carry a comment.
pub fn rules(family: u8, table: &str) -> io::Result<Vec<Rule>> {
    let mut body = vec![family, 0, 0, 0];
    push(&mut body, RULE_TABLE, name(table));
    let mut rules = Vec::new();
    let get = of_subsystem(libc::NFT_MSG_GETRULE);
    ask(SockProtocol::NetlinkNetFilter, get, NLM_F_DUMP, &body, &mut |_, payload| {
        rules.extend(rule(payload))
    })?;
    // Kernels before 4.12 list all tables, whatever they are asked for.
    rules.retain(|rule| rule.table == table && number(&rule.family) == Some(family));
    Ok(rules)
}

fn rule(payload: &[u8]) -> Option<Rule> {
    let family = payload.first()?;
    let family = FAMILIES.iter().find(|(number, _)| number == family)?.1.to_owned();
    let mut rule = Rule { family, ..Rule::default() };
    let mut commented = None;
    for (kind, value) in attributes(payload.get(4..)?) {
        match kind {
            RULE_TABLE => rule.table = text(value),
            RULE_CHAIN => rule.chain = text(value),
            RULE_HANDLE => rule.handle = u64::from_be_bytes(*value.first_chunk()?),
            RULE_USERDATA => commented = comment(value),
            _ => {}
        }
    }
    rule.comment = commented?;
    Some(rule)
}

/// The comment in what nft keeps with a rule: kind, length, value; one after the other.
fn comment(mut data: &[u8]) -> Option<String> {
    while let Some((&[kind, length], rest)) = data.split_first_chunk::<2>() {
        let value = rest.get(..usize::from(length))?;
        if kind == COMMENT {
            return Some(text(value));
        }
        data = &rest[value.len()..];
    }
    None
}

/// Deletes exactly this rule, if it is still the same one.
pub fn delete(rule: &Rule) -> Result<(), Errno> {
    let errno = |e: io::Error| errno_of(&e);
    let family = number(&rule.family).ok_or(Errno::EAFNOSUPPORT)?;
    // A table that was deleted and made again numbers its rules anew.
    if !rules(family, &rule.table).map_err(errno)?.contains(rule) {
        return Err(Errno::ENOENT);
    }
    let mut body = vec![family, 0, 0, 0];
    push(&mut body, RULE_TABLE, name(&rule.table));
    push(&mut body, RULE_CHAIN, name(&rule.chain));
    push(&mut body, RULE_HANDLE, rule.handle.to_be_bytes().to_vec());
    let subsystem = (libc::NFNL_SUBSYS_NFTABLES as u16).to_be_bytes();
    let bracket = [0, 0, subsystem[0], subsystem[1]];
    let delete = of_subsystem(libc::NFT_MSG_DELRULE);
    // Changes come in brackets, and hold all together or not at all.
    let batch = [
        message(BATCH_BEGIN, NLM_F_REQUEST, &bracket),
        message(delete, NLM_F_REQUEST | NLM_F_ACK, &body),
        message(BATCH_END, NLM_F_REQUEST, &bracket),
    ];
    crate::linux::netlink::exchange(
        SockProtocol::NetlinkNetFilter,
        &batch.concat(),
        NLM_F_ACK,
        &mut |_, _| {},
    )
    .map_err(errno)
}

fn of_subsystem(message: i32) -> u16 {
    (libc::NFNL_SUBSYS_NFTABLES as u16) << 8 | message as u16
}

/// The name of an address family.
pub fn family(number: u8) -> &'static str {
    const OTHERS: [(u8, &str); 2] = [(3, "arp"), (5, "netdev")];
    FAMILIES.iter().chain(&OTHERS).find(|(own, _)| *own == number).map_or("?", |(_, name)| name)
}

fn number(family: &str) -> Option<u8> {
    FAMILIES.iter().find(|(_, name)| *name == family).map(|(number, _)| *number)
}

fn name(text: &str) -> Vec<u8> {
    [text.as_bytes(), b"\0"].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_is_read_and_garbage_is_none() {
        let mut payload = vec![2, 0, 0, 0];
        push(&mut payload, RULE_TABLE, name("cni_hostport"));
        push(&mut payload, RULE_CHAIN, name("hostports"));
        push(&mut payload, RULE_HANDLE, 9_u64.to_be_bytes().to_vec());
        assert_eq!(rule(&payload), None, "no comment");
        push(&mut payload, RULE_USERDATA, [&[7, 1, 0, COMMENT, 4][..], b"abc\0"].concat());
        let expected = Rule {
            family: "ip".into(),
            table: "cni_hostport".into(),
            chain: "hostports".into(),
            handle: 9,
            comment: "abc".into(),
        };
        assert_eq!(rule(&payload), Some(expected));
        for cut in 0..payload.len() {
            let _ = rule(&payload[..cut]);
        }
        assert_eq!(rule(&[5, 0, 0, 0]), None, "a family that has no such tables");
        for garbage in [&b""[..], b"\0", b"\0\x09abc", b"\x01\x01x\0\xff"] {
            assert_eq!(comment(garbage), None);
        }
    }
}
