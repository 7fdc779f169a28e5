//! Sets of addresses and ports that firewall rules name (ipset(8)), asked of the kernel over netlink. No program is needed.

use std::io;
use std::path::Path;

use netlink_packet_core::{NLM_F_ACK, NLM_F_DUMP};
use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::SockProtocol;

use crate::error::errno_of;
use crate::linux::host::Host;
use crate::linux::netlink::{ask, attribute, push, text};

// linux/netfilter/ipset/ip_set.h.
const DESTROY: u16 = 3;
const LIST: u16 = 7;
const PROTOCOL: u16 = 1;
const SET_NAME: u16 = 2;
const FLAGS: u16 = 6;
const NAMES_ALONE: u32 = 1 << 1;
/// The oldest version that kernels still speak, and all of them do.
const VERSION: u8 = 6;
/// What the kernel says of a set that a rule or another set names.
const BUSY: i32 = 4100;

/// The names of all sets. To ask would load the kernel's module; where that is not loaded, there are none.
pub fn names(host: &Host) -> io::Result<Vec<String>> {
    if matches!(host.exists(Path::new("/sys/module/ip_set")), Ok(false)) {
        return Ok(Vec::new());
    }
    let mut body = start();
    push(&mut body, FLAGS, NAMES_ALONE.to_be_bytes().to_vec());
    let mut names = Vec::new();
    let list = of_subsystem(LIST);
    let asked = ask(SockProtocol::NetlinkNetFilter, list, NLM_F_DUMP, &body, &mut |_, payload| {
        names.extend(name(payload));
    });
    match asked {
        // The kernel has no sets.
        Err(e)
            if matches!(e.raw_os_error(), Some(libc::EINVAL | libc::EOPNOTSUPP | libc::EPROTONOSUPPORT)) =>
        {
            Ok(Vec::new())
        }
        other => other.map(|()| names),
    }
}

fn name(payload: &[u8]) -> Option<String> {
    attribute(payload.get(4..)?, SET_NAME).map(text)
}

/// Destroys this set, unless something still names it.
pub fn destroy(name: &str) -> Result<(), Errno> {
    // Without a name all would go.
    if name.is_empty() || name.contains('\0') {
        return Err(Errno::EINVAL);
    }
    let mut body = start();
    push(&mut body, SET_NAME, [name.as_bytes(), b"\0"].concat());
    let asked = ask(SockProtocol::NetlinkNetFilter, of_subsystem(DESTROY), NLM_F_ACK, &body, &mut |_, _| {});
    asked.map_err(|e| if e.raw_os_error() == Some(BUSY) { Errno::EBUSY } else { errno_of(&e) })
}

fn start() -> Vec<u8> {
    let mut body = vec![0; 4];
    push(&mut body, PROTOCOL, vec![VERSION]);
    body
}

fn of_subsystem(message: u16) -> u16 {
    (libc::NFNL_SUBSYS_IPSET as u16) << 8 | message
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linux::netlink::GARBAGE;

    #[test]
    fn a_name_is_read_and_garbage_is_none() {
        let mut payload = start();
        assert_eq!(name(&payload), None);
        push(&mut payload, SET_NAME, b"cali40all-ipam-pools\0".to_vec());
        assert_eq!(name(&payload).as_deref(), Some("cali40all-ipam-pools"));
        assert!(GARBAGE.iter().all(|garbage| name(garbage).is_none()));
        for none in ["", "\0", "a\0b"] {
            assert_eq!(destroy(none), Err(Errno::EINVAL));
        }
    }

    #[test]
    fn where_the_kernels_module_is_not_loaded_there_are_none() {
        let dir = tempfile::tempdir().unwrap();
        assert!(names(&Host::at(dir.path())).unwrap().is_empty());
    }
}
