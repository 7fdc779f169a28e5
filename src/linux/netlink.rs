//! Netlink messages: one request, its answers.
//!
//! Answers are read attribute by attribute. An unknown attribute is passed over; a message that is cut short ends the
//! reading.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use netlink_packet_core::{
    DefaultNla, Emitable, NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR, NetlinkBuffer,
    NetlinkHeader, NlasIterator,
};
use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket};

// linux/netlink.h: the table has changed since the listing began.
const NLM_F_DUMP_INTR: u16 = 0x10;

/// A table that changes while it is listed is listed again, so many times.
const TRIES: usize = 20;

/// Sends one request, and hands each answer to it on.
pub(crate) fn ask(
    protocol: SockProtocol,
    kind: u16,
    flags: u16,
    body: &[u8],
    answer: &mut dyn FnMut(u16, &[u8]),
) -> io::Result<()> {
    let request = message(kind, NLM_F_REQUEST | flags, body);
    if flags & NLM_F_DUMP != NLM_F_DUMP {
        return exchange(protocol, &request, flags, answer);
    }
    for _ in 0..TRIES {
        let mut listed = Vec::new();
        match exchange(protocol, &request, flags, &mut |kind, payload| listed.push((kind, payload.to_vec())))
        {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
            Ok(()) => {
                listed.iter().for_each(|(kind, payload)| answer(*kind, payload));
                return Ok(());
            }
        }
    }
    Err(io::ErrorKind::Interrupted.into())
}

/// One message with its header; bodies are whole words.
pub(crate) fn message(kind: u16, flags: u16, body: &[u8]) -> Vec<u8> {
    let mut message = vec![0; 16 + body.len()];
    let mut header = NetlinkHeader::default();
    header.length = u32::try_from(message.len()).unwrap_or(0);
    header.message_type = kind;
    header.flags = flags;
    header.sequence_number = 1;
    header.emit(&mut message);
    message[16..].copy_from_slice(body);
    message
}

/// Sends messages and takes what comes back. The kernel answers at once; five seconds are for one that is busy
/// beyond reason.
pub(crate) fn exchange(
    protocol: SockProtocol,
    request: &[u8],
    flags: u16,
    answer: &mut dyn FnMut(u16, &[u8]),
) -> io::Result<()> {
    let socket = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)?;
    let patience = nix::sys::time::TimeVal::new(5, 0);
    nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::ReceiveTimeout, &patience)?;
    send(socket.as_raw_fd(), request, MsgFlags::empty())?;
    while !take(&receive(&socket)?, flags, answer)? {}
    Ok(())
}

/// A datagram of whatever size: its length is asked first.
fn receive(socket: &OwnedFd) -> io::Result<Vec<u8>> {
    let peek = MsgFlags::MSG_PEEK | MsgFlags::MSG_TRUNC;
    let length = again(|| recv(socket.as_raw_fd(), &mut [], peek))?;
    let mut buffer = vec![0; length];
    let length = again(|| recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty()))?;
    buffer.truncate(length);
    Ok(buffer)
}

fn again(mut call: impl FnMut() -> Result<usize, Errno>) -> io::Result<usize> {
    loop {
        match call() {
            Err(Errno::EINTR) => {}
            other => return Ok(other?),
        }
    }
}

/// Reads the messages of a datagram; true if the last one was among them.
fn take(mut datagram: &[u8], flags: u16, answer: &mut dyn FnMut(u16, &[u8])) -> io::Result<bool> {
    let dump = flags & NLM_F_DUMP == NLM_F_DUMP;
    let cut = || io::Error::from_raw_os_error(libc::EBADMSG);
    while !datagram.is_empty() {
        let message = NetlinkBuffer::new_checked(datagram).map_err(|_| cut())?;
        // The kernel lists in pieces; what changed in between may be missing, or there twice (netlink(7)).
        if dump && message.flags() & NLM_F_DUMP_INTR != 0 {
            return Err(io::ErrorKind::Interrupted.into());
        }
        match message.message_type() {
            NLMSG_DONE => return Ok(true),
            NLMSG_ERROR => {
                let code = u32_at(message.payload(), 0).ok_or_else(cut)? as i32;
                return if code == 0 { Ok(true) } else { Err(io::Error::from_raw_os_error(-code)) };
            }
            kind => answer(kind, message.payload()),
        }
        let length = (message.length() as usize).next_multiple_of(4);
        datagram = datagram.get(length..).unwrap_or_default();
    }
    Ok(!dump && flags & NLM_F_ACK == 0)
}

pub(crate) fn attributes(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    // The iterator goes on after an attribute that is cut short; what follows that is noise.
    NlasIterator::new(bytes).map_while(|nla| nla.ok()).map(|nla| {
        let (kind, length) = (nla.kind(), usize::from(nla.length()));
        (kind, nla.into_inner().get(4..length).unwrap_or_default())
    })
}

/// The first attribute of this kind.
pub(crate) fn attribute(bytes: &[u8], wanted: u16) -> Option<&[u8]> {
    attributes(bytes).find(|(kind, _)| *kind == wanted).map(|(_, value)| value)
}

pub(crate) fn push(body: &mut Vec<u8>, kind: u16, value: Vec<u8>) {
    let attribute = DefaultNla::new(kind, value);
    let at = body.len();
    body.resize(at + attribute.buffer_len(), 0);
    attribute.emit(&mut body[at..]);
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|four| u32::from_ne_bytes(*four))
}

pub(crate) fn text(value: &[u8]) -> String {
    String::from_utf8_lossy(value.strip_suffix(b"\0").unwrap_or(value)).into_owned()
}

#[cfg(test)]
pub(crate) const GARBAGE: [&[u8]; 5] = [b"", b"\0", b"\xff\xff\xff\xff\xff", b"\x04\0\x03\0\x01\0", &[0; 40]];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn garbled_messages_are_errors_and_not_panics() {
        let mut seen = 0;
        let mut dump = vec![0; 16];
        let mut header = NetlinkHeader::default();
        (header.length, header.message_type) = (16, 99);
        header.emit(&mut dump);
        for length in 0..16 {
            assert!(length == 0 || take(&dump[..length], NLM_F_DUMP, &mut |_, _| ()).is_err());
        }
        assert!(!take(&dump, NLM_F_DUMP, &mut |_, _| seen += 1).unwrap());
        assert_eq!(seen, 1);
        for garbage in GARBAGE {
            let _ = attributes(garbage).count();
        }
    }

    #[test]
    fn a_table_that_changed_while_it_was_listed_is_no_answer() {
        let mut dump = message(libc::RTM_NEWLINK, 0, &[0; 16]);
        dump.extend(message(libc::RTM_NEWLINK, NLM_F_DUMP_INTR, &[0; 16]));
        let interrupted = take(&dump, NLM_F_DUMP, &mut |_, _| ()).unwrap_err();
        assert_eq!(interrupted.kind(), io::ErrorKind::Interrupted);
    }
}
