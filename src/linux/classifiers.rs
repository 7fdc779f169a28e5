//! Programs on links that look at each packet (tc-bpf(8)), asked of the kernel over rtnetlink(7).

use std::io;

use netlink_packet_core::NLM_F_DUMP;
use nix::libc;
use nix::sys::socket::SockProtocol;

use crate::linux::netlink::{ask, attribute, text, u32_at};

/// A program on a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// The link's index.
    pub link: u32,
    /// `ingress` or `egress`.
    pub way: &'static str,
    /// Its place among others.
    pub priority: u32,
    /// What whoever attached it calls it.
    pub name: String,
}

// The fields of `struct tcmsg`, and attributes (linux/rtnetlink.h, linux/pkt_cls.h).
const LINK: usize = 4;
const PARENT: usize = 12;
const INFO: usize = 16;
const LENGTH: usize = 20;
const KIND: u16 = 1;
const OPTIONS: u16 = 2;
const BPF_NAME: u16 = 7;

/// Where a clsact(8) has them (TC_H_CLSACT with TC_H_MIN_INGRESS and TC_H_MIN_EGRESS).
const WAYS: [(u32, &str); 2] = [(0xffff_fff2, "ingress"), (0xffff_fff3, "egress")];

/// All that bear a name.
pub fn programs() -> io::Result<Vec<Program>> {
    let mut links = Vec::new();
    let asked = dump(libc::RTM_GETQDISC, &[0; LENGTH], &mut |payload| {
        let is_place = of(payload, KIND).is_some_and(|kind| text(kind) == "clsact");
        links.extend(u32_at(payload, LINK).filter(|_| is_place));
    });
    match asked {
        // The kernel has nothing of the kind.
        Err(e) if e.raw_os_error() == Some(libc::EOPNOTSUPP) => return Ok(Vec::new()),
        other => other?,
    }
    let mut found = Vec::new();
    for (link, (parent, way)) in links.into_iter().flat_map(|link| WAYS.map(|way| (link, way))) {
        let mut body = [0; LENGTH];
        body[LINK..][..4].copy_from_slice(&link.to_ne_bytes());
        body[PARENT..][..4].copy_from_slice(&parent.to_ne_bytes());
        dump(libc::RTM_GETTFILTER, &body, &mut |payload| {
            let program = named(payload).map(|(priority, name)| Program { link, way, priority, name });
            found.extend(program);
        })?;
    }
    Ok(found)
}

fn named(payload: &[u8]) -> Option<(u32, String)> {
    let name = attribute(of(payload, OPTIONS)?, BPF_NAME)?;
    Some((u32_at(payload, INFO)? >> 16, text(name)))
        .filter(|_| of(payload, KIND).is_some_and(|kind| text(kind) == "bpf"))
}

fn of(payload: &[u8], wanted: u16) -> Option<&[u8]> {
    attribute(payload.get(LENGTH..)?, wanted)
}

fn dump(kind: u16, body: &[u8], take: &mut dyn FnMut(&[u8])) -> io::Result<()> {
    ask(SockProtocol::NetlinkRoute, kind, NLM_F_DUMP, body, &mut |_, payload| take(payload))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linux::netlink::{GARBAGE, push};

    #[test]
    fn a_program_is_known_by_its_name() {
        let payload = |kind: &[u8]| {
            let mut payload = vec![0; LENGTH];
            payload[INFO..].copy_from_slice(&(9_u32 << 16 | 3).to_ne_bytes());
            push(&mut payload, KIND, kind.to_vec());
            let mut options = Vec::new();
            push(&mut options, BPF_NAME, b"cil_from_netdev-eth0\0".to_vec());
            push(&mut payload, OPTIONS, options);
            payload
        };
        assert_eq!(named(&payload(b"bpf\0")), Some((9, "cil_from_netdev-eth0".to_owned())));
        assert_eq!(named(&payload(b"flower\0")), None, "where the number means something else");
        assert!(GARBAGE.iter().all(|garbage| named(garbage).is_none()));
        programs().unwrap();
    }
}
