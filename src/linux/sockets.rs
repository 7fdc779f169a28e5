//! Sockets in the file system, and whether anybody listens at one.

use std::os::fd::AsRawFd;
use std::path::Path;

use nix::errno::Errno;
use nix::sys::socket::sockopt::PeerCredentials;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, getsockopt, socket};

/// True if nobody listens there any more. Of what cannot be asked nobody knows, and it counts as alive. One that takes connections
/// says EPROTOTYPE to a datagram and hears nothing of it: systemd would start the service that it listens for.
pub fn is_dead(path: &Path) -> bool {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let own = socket(AddressFamily::Unix, SockType::Datagram, flags, None);
    let (Ok(own), Ok(address)) = (own, UnixAddr::new(path)) else { return false };
    connect(own.as_raw_fd(), &address) == Err(Errno::ECONNREFUSED)
}

/// The process that listens there, of those that take connections.
pub fn listener(path: &Path) -> Option<i32> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let own = socket(AddressFamily::Unix, SockType::Stream, flags, None).ok()?;
    connect(own.as_raw_fd(), &UnixAddr::new(path).ok()?).ok()?;
    getsockopt(&own, PeerCredentials).ok().map(|peer| peer.pid()).filter(|pid| *pid > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::{UnixDatagram, UnixListener};

    #[test]
    fn dead_is_what_nobody_has_bound() {
        let dir = tempfile::tempdir_in("/tmp").unwrap();
        let (stream, datagram) = (dir.path().join("s"), dir.path().join("d"));
        let listener = UnixListener::bind(&stream).unwrap();
        listener.set_nonblocking(true).unwrap();
        let bound = UnixDatagram::bind(&datagram).unwrap();
        assert!(!is_dead(&stream) && !is_dead(&datagram));
        assert!(listener.accept().is_err(), "who listens is not woken");
        assert_eq!(super::listener(&stream), i32::try_from(std::process::id()).ok());
        drop((listener, bound));
        assert_eq!(super::listener(&stream), None);
        assert!(is_dead(&stream) && is_dead(&datagram));
        assert!(!is_dead(&dir.path().join("none")), "nothing is no dead socket");
    }
}
