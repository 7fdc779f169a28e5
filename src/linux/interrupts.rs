//! Signals that ask us to stop, and waiting that notices them.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// The signals that ask us to stop, taken as readable events, so that a wait never misses one.
pub struct Interrupts {
    descriptor: SignalFd,
    seen: AtomicBool,
}

impl Interrupts {
    /// From now on SIGTERM, SIGINT, SIGQUIT and SIGHUP no longer kill us.
    pub fn take() -> io::Result<Interrupts> {
        let mut set = SigSet::empty();
        [Signal::SIGTERM, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGHUP]
            .into_iter()
            .for_each(|s| set.add(s));
        set.thread_block()?;
        let descriptor = SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        Ok(Interrupts { descriptor, seen: AtomicBool::new(false) })
    }

    /// True once one of them has come.
    pub fn seen(&self) -> bool {
        if matches!(self.descriptor.read_signal(), Ok(Some(_))) {
            self.seen.store(true, Ordering::Relaxed);
        }
        self.seen.load(Ordering::Relaxed)
    }
}

/// True if a descriptor is readable now.
pub fn is_readable(descriptor: BorrowedFd) -> bool {
    poll(&mut [PollFd::new(descriptor, PollFlags::POLLIN)], PollTimeout::ZERO) == Ok(1)
}

/// Waits for a descriptor to become readable. False if the time is up, or if we are interrupted.
pub fn wait_readable(descriptor: BorrowedFd, interrupts: &Interrupts, until: Instant) -> bool {
    loop {
        if interrupts.seen() {
            return false;
        }
        let mut fds = [
            PollFd::new(descriptor, PollFlags::POLLIN),
            PollFd::new(interrupts.descriptor.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut fds, timeout(until)) {
            Ok(0) => return false,
            Ok(_) if fds[0].any() == Some(true) => return true,
            Ok(_) | Err(Errno::EINTR) => {}
            Err(_) => return false,
        }
    }
}

/// Waits for one of several descriptors. True for each that is readable; none is if the time is up, or if we are
/// interrupted.
pub fn wait_for_one(descriptors: &[BorrowedFd], interrupts: &Interrupts, until: Instant) -> Vec<bool> {
    let of = |descriptor| PollFd::new(descriptor, PollFlags::POLLIN);
    let mut fds: Vec<PollFd> = descriptors.iter().map(|descriptor| of(*descriptor)).collect();
    fds.push(of(interrupts.descriptor.as_fd()));
    let polled = poll(&mut fds, timeout(until));
    fds.truncate(descriptors.len());
    fds.iter().map(|fd| polled.is_ok() && fd.any() == Some(true)).collect()
}

/// Lets a little time pass, less if we are interrupted: for what has no event (a mount that stops being busy).
pub fn pause(interrupts: &Interrupts, length: Duration) {
    let mut fds = [PollFd::new(interrupts.descriptor.as_fd(), PollFlags::POLLIN)];
    let _ = poll(&mut fds, timeout(Instant::now() + length));
}

/// Until then, as poll(2) takes it.
pub fn timeout(until: Instant) -> PollTimeout {
    let left = until.saturating_duration_since(Instant::now());
    // Rounded up, or the last millisecond would be spent spinning.
    PollTimeout::try_from(left.as_millis() + u128::from(!left.subsec_nanos().is_multiple_of(1_000_000)))
        .unwrap_or(PollTimeout::MAX)
}
