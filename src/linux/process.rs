//! Waiting for a process, and signalling it, safe against reuse of its PID.

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;

use crate::linux::interrupts::{Interrupts, is_readable, pause, wait_readable};
use crate::linux::proc::{self, ProcessId};
use crate::linux::sys;

/// Opens a process for waiting and signalling; none if it is gone, or if its PID is somebody else's by now.
pub fn open_process(id: ProcessId) -> Result<Option<OwnedFd>, Errno> {
    let descriptor = open_pid(id.pid)?;
    Ok(descriptor.filter(|_| proc::identity(id.pid) == Some(id)))
}

/// The same of whoever has this PID.
///
/// Not everywhere it can be done: snapd's seccomp profiles refuse it up to 2.68, and kernels before 5.3 have not got it.
pub fn open_pid(pid: i32) -> Result<Option<OwnedFd>, Errno> {
    let Some(pid) = rustix::process::Pid::from_raw(pid) else { return Ok(None) };
    match rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()) {
        Ok(descriptor) => Ok(Some(descriptor)),
        Err(rustix::io::Errno::SRCH) => Ok(None),
        Err(e) => Err(Errno::from_raw(e.raw_os_error())),
    }
}

/// How often a process is looked at that cannot be opened.
pub const OFTEN: Duration = Duration::from_millis(20);

/// Waits until a process has ended, with all its threads: only then its descriptor becomes readable, whichever of them
/// ended first (pidfd_open(2)). False if it still runs then, or if we are interrupted.
pub fn wait_for_end(process: ProcessId, interrupts: &Interrupts, until: Instant) -> bool {
    match open_pid(process.pid) {
        Ok(None) => true,
        // Who has its PID by now is asked only if he lives: of many that were killed, most have ended when it is their turn.
        Ok(Some(descriptor)) => {
            is_readable(descriptor.as_fd())
                || proc::identity(process.pid) != Some(process)
                || wait_readable(descriptor.as_fd(), interrupts, until)
        }
        Err(_) => look_for_end(process, interrupts, until),
    }
}

fn look_for_end(process: ProcessId, interrupts: &Interrupts, until: Instant) -> bool {
    while proc::identity(process.pid) == Some(process) {
        let now = Instant::now();
        if now >= until || interrupts.seen() {
            return false;
        }
        pause(interrupts, OFTEN.min(until - now));
    }
    true
}

/// Signals exactly this process, or nobody. `Ok(false)` if it is gone. Real-time signals have a number and no name.
///
/// Through a descriptor where that is allowed; snapd's seccomp profiles refuse `pidfd_send_signal` with the
/// same EPERM that the kernel uses, so that answer is checked by the older call, right after a look at who
/// owns the PID.
pub fn signal(id: ProcessId, number: i32) -> Result<bool, Errno> {
    let opened = match open_process(id) {
        Ok(None) => return Ok(false),
        other => other.ok().flatten(),
    };
    signal_opened(id, opened.as_ref(), number)
}

/// The same of one that was opened, if that could be done.
pub fn signal_opened(id: ProcessId, opened: Option<&OwnedFd>, number: i32) -> Result<bool, Errno> {
    match opened.map(|descriptor| sys::signal_through(descriptor.as_fd(), number)) {
        Some(Ok(())) => return Ok(true),
        Some(Err(Errno::ESRCH)) => return Ok(false),
        _ => {}
    }
    if proc::identity(id.pid) != Some(id) {
        return Ok(false);
    }
    match sys::signal(id.pid, number) {
        Ok(()) => Ok(true),
        Err(Errno::ESRCH) => Ok(false),
        Err(e) => Err(e),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::libc::SIGKILL;

    fn soon(millis: u64) -> Instant {
        Instant::now() + Duration::from_millis(millis)
    }

    #[test]
    fn a_process_that_cannot_be_opened_is_looked_at_until_it_ends() {
        let interrupts = Interrupts::take().unwrap();
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let id = proc::identity(child.id() as i32).unwrap();
        assert!(!look_for_end(id, &interrupts, soon(50)));
        let killer = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(50));
            signal(id, SIGKILL)
        });
        // It has ended for us when it waits for its parent.
        assert!(look_for_end(id, &interrupts, soon(20_000)));
        assert_eq!(killer.join().unwrap(), Ok(true));
        child.wait().unwrap();
    }

    #[test]
    fn a_process_without_its_first_thread_is_waited_for_and_signalled() {
        let interrupts = Interrupts::take().unwrap();
        let mut child = proc::leaderless();
        let id = proc::identity(child.id() as i32).unwrap();
        assert!(!wait_for_end(id, &interrupts, soon(50)), "its descriptor tells an end that was none");
        assert!(!look_for_end(id, &interrupts, soon(50)));
        assert_eq!(signal(id, SIGKILL), Ok(true));
        assert!(wait_for_end(id, &interrupts, soon(20_000)) && look_for_end(id, &interrupts, soon(20_000)));
        child.wait().unwrap();
    }

    #[test]
    fn a_pid_with_another_start_time_is_nobody() {
        let pid = std::process::id() as i32;
        let own = proc::identity(pid).unwrap();
        assert_eq!(signal(ProcessId { start: own.start + 1, ..own }, SIGKILL), Ok(false));
        assert!(open_process(own).unwrap().is_some());
    }
}
