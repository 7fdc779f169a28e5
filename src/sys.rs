//! The few system calls that no library we use offers in a safe form, and waiting.
//!
//! The only file in which `unsafe` is allowed.
#![allow(unsafe_code)]

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::{ForkResult, Pid, dup2_stderr, dup2_stdin, dup2_stdout, fork, pipe2};

use crate::proc;
use crate::residue::ProcessId;

/// The signals that ask us to stop, taken as readable events, so that a wait never misses one.
pub struct Interrupts {
    descriptor: SignalFd,
    seen: AtomicBool,
}

impl Interrupts {
    /// From now on SIGTERM, SIGINT and SIGHUP no longer kill us.
    pub fn take() -> io::Result<Interrupts> {
        let mut set = SigSet::empty();
        [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP].into_iter().for_each(|s| set.add(s));
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

/// Waits for a descriptor to become readable. False if the time is up, or if we are interrupted.
fn wait_readable(descriptor: BorrowedFd, interrupts: &Interrupts, until: Instant) -> bool {
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

/// Lets a little time pass, less if we are interrupted: for what has no event (a mount that stops being busy).
pub fn pause(interrupts: &Interrupts, length: Duration) {
    let mut fds = [PollFd::new(interrupts.descriptor.as_fd(), PollFlags::POLLIN)];
    let _ = poll(&mut fds, timeout(Instant::now() + length));
}

fn timeout(until: Instant) -> PollTimeout {
    let left = until.saturating_duration_since(Instant::now());
    // Rounded up, or the last millisecond would be spent spinning.
    PollTimeout::try_from(left.as_millis() + u128::from(!left.subsec_nanos().is_multiple_of(1_000_000)))
        .unwrap_or(PollTimeout::MAX)
}

/// Opens a process for waiting and signalling; none if it is gone, or if its PID is somebody else's by now.
fn open_process(id: ProcessId) -> Result<Option<OwnedFd>, Errno> {
    let descriptor = open_pid(id.pid)?;
    Ok(descriptor.filter(|_| proc::identity(id.pid) == Some(id)))
}

/// The same of whoever has this PID.
///
/// Not everywhere it can be done: snapd's seccomp profiles refuse it up to 2.68, and kernels before 5.3 have not got it.
fn open_pid(pid: i32) -> Result<Option<OwnedFd>, Errno> {
    let Some(pid) = rustix::process::Pid::from_raw(pid) else { return Ok(None) };
    match rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()) {
        Ok(descriptor) => Ok(Some(descriptor)),
        Err(rustix::io::Errno::SRCH) => Ok(None),
        Err(e) => Err(Errno::from_raw(e.raw_os_error())),
    }
}

/// How often a process is looked at that cannot be opened.
const OFTEN: Duration = Duration::from_millis(20);

/// Waits until a process has ended. False if it still runs then, or if we are interrupted.
pub fn wait_for_end(process: ProcessId, interrupts: &Interrupts, until: Instant) -> bool {
    match open_process(process) {
        Ok(None) => true,
        Ok(Some(descriptor)) => wait_readable(descriptor.as_fd(), interrupts, until),
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

/// Signals exactly this process, or nobody. `Ok(false)` if it is gone.
///
/// Through a descriptor where that is allowed; snapd's seccomp profiles refuse `pidfd_send_signal` with the
/// same EPERM that the kernel uses, so that answer is checked by the older call, right after a look at who
/// owns the PID.
pub fn signal(id: ProcessId, signal: Signal) -> Result<bool, Errno> {
    match open_process(id) {
        Ok(None) => return Ok(false),
        Ok(Some(descriptor)) => {
            if let Some(raw) = rustix::process::Signal::from_named_raw(signal as i32) {
                match rustix::process::pidfd_send_signal(&descriptor, raw) {
                    Ok(()) => return Ok(true),
                    Err(rustix::io::Errno::SRCH) => return Ok(false),
                    Err(_) => {}
                }
            }
        }
        Err(_) => {}
    }
    if proc::identity(id.pid) != Some(id) {
        return Ok(false);
    }
    match nix::sys::signal::kill(Pid::from_raw(id.pid), signal) {
        Ok(()) => Ok(true),
        Err(Errno::ESRCH) => Ok(false),
        Err(e) => Err(e),
    }
}

/// How a bounded child ended.
#[derive(Debug, PartialEq, Eq)]
pub enum ChildEnd {
    /// It finished; this is what it wrote.
    Finished(Vec<u8>),
    /// It took too long and was killed.
    Killed,
    /// It took too long and cannot be killed: it waits in the kernel for something that does not come.
    Abandoned(i32),
}

/// Does something that may hang in a child of our own, so that only the child hangs.
pub fn in_child(until: Instant, work: impl FnOnce(&mut File)) -> io::Result<ChildEnd> {
    Ok(Child::start(work)?.attend(until))
}

/// A child that does something that may hang, while we do something else.
pub struct Child {
    pid: Pid,
    reader: File,
}

impl Child {
    /// Starts it. It has /dev/null on all three descriptors (snapd waits for whoever holds the hook's output), and dies
    /// with us.
    pub fn start(work: impl FnOnce(&mut File)) -> io::Result<Child> {
        let (reader, writer) = pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
        let null = File::options().read(true).write(true).open("/dev/null")?;
        let parent = nix::unistd::getpid();
        // SAFETY: the child runs `work` and leaves by _exit. Threads exist only while shims are asked, which never
        // overlaps with this; glibc's fork leaves its allocator usable in the child.
        match unsafe { fork() }? {
            ForkResult::Child => {
                drop(reader);
                let _ = (dup2_stdin(&null), dup2_stdout(&null), dup2_stderr(&null));
                // One that cannot be ended must not keep what we have open: the lock against a second run, above all.
                close_all_but(writer.as_raw_fd());
                let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL));
                let _ = SigSet::empty().thread_set_mask();
                if nix::unistd::getppid() == parent {
                    let mut writer = File::from(writer);
                    work(&mut writer);
                    let _ = writer.flush();
                }
                // SAFETY: ends the child at once; no destructor of the parent's may run twice.
                unsafe { nix::libc::_exit(0) }
            }
            ForkResult::Parent { child } => Ok(Child { pid: child, reader: File::from(reader) }),
        }
    }

    /// Waits until it has finished, until then at most.
    pub fn attend(self, until: Instant) -> ChildEnd {
        let mut output = Vec::new();
        if !drain(self.reader, &mut output, until) {
            return end(self.pid);
        }
        let _ = nix::sys::wait::waitpid(self.pid, None);
        ChildEnd::Finished(output)
    }
}

/// Ends a child that took too long. One in uninterruptible sleep is left behind, to be reaped by init.
fn end(child: Pid) -> ChildEnd {
    let _ = nix::sys::signal::kill(child, Signal::SIGKILL);
    wait_for_child(child, Instant::now() + Duration::from_millis(500));
    match nix::sys::wait::waitpid(child, Some(nix::sys::wait::WaitPidFlag::WNOHANG)) {
        Ok(nix::sys::wait::WaitStatus::StillAlive) => ChildEnd::Abandoned(child.as_raw()),
        _ => ChildEnd::Killed,
    }
}

/// How a program ended.
#[derive(Debug)]
pub enum ProgramEnd {
    /// By itself.
    Exited(std::process::ExitStatus),
    /// It took too long and was killed, or could not be waited for.
    TookTooLong,
}

/// Runs a program to its end, until then at most. It gets this environment and no other, and /dev/null; it
/// dies with us, and what it has started dies with it. What it prints is returned if `capture` asks for it.
pub fn run(
    program: &std::path::Path,
    arguments: &[&std::ffi::OsStr],
    environment: &[(&str, std::ffi::OsString)],
    capture: bool,
    until: Instant,
) -> io::Result<(ProgramEnd, Vec<u8>)> {
    use std::os::unix::process::CommandExt;
    use std::process::{Command, Stdio};
    let mut command = Command::new(program);
    command.args(arguments).env_clear().envs(environment.iter().map(|(k, v)| (k, v))).current_dir("/");
    command.stdin(Stdio::null()).stderr(Stdio::null()).process_group(0);
    command.stdout(if capture { Stdio::piped() } else { Stdio::null() });
    // SAFETY: only system calls between fork and exec, no allocation and no lock.
    unsafe {
        command.pre_exec(|| {
            rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
            Ok(SigSet::empty().thread_set_mask()?)
        });
    }
    let mut child = command.spawn()?;
    let pid = Pid::from_raw(child.id() as i32);
    // Its process group is its own, and while it is not waited for nobody else can get that number.
    let end_group = || nix::sys::signal::killpg(pid, Signal::SIGKILL);
    let mut output = Vec::new();
    if let Some(stdout) = child.stdout.take()
        && !drain(File::from(OwnedFd::from(stdout)), &mut output, until)
    {
        let _ = end_group();
        end(pid);
        return Ok((ProgramEnd::TookTooLong, output));
    }
    if wait_for_child(pid, until) {
        let _ = end_group();
        return Ok((ProgramEnd::Exited(child.wait()?), output));
    }
    let _ = end_group();
    end(pid);
    Ok((ProgramEnd::TookTooLong, output))
}

/// Waits until a child of ours has ended, and leaves it to be reaped: until then nobody else gets its number. False if
/// it still runs then.
fn wait_for_child(child: Pid, until: Instant) -> bool {
    use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
    if let Some(descriptor) = open_pid(child.as_raw()).ok().flatten() {
        let mut fds = [PollFd::new(descriptor.as_fd(), PollFlags::POLLIN)];
        loop {
            match poll(&mut fds, timeout(until)) {
                Err(Errno::EINTR) => {}
                ended => return ended != Ok(0),
            }
        }
    }
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    while matches!(waitid(Id::Pid(child), flags), Ok(WaitStatus::StillAlive) | Err(Errno::EINTR)) {
        let now = Instant::now();
        if now >= until {
            return false;
        }
        std::thread::sleep(OFTEN.min(until - now));
    }
    true
}

/// Reads to the end; false if that took too long.
fn drain(mut reader: File, output: &mut Vec<u8>, until: Instant) -> bool {
    let mut chunk = [0; 8192];
    loop {
        let mut fds = [PollFd::new(reader.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, timeout(until)) {
            Err(Errno::EINTR) => continue,
            Ok(n) if n > 0 => {}
            _ => return false,
        }
        match reader.read(&mut chunk) {
            Ok(0) => return true,
            Ok(n) => output.extend_from_slice(&chunk[..n]),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return true,
        }
    }
}

/// Takes the backing file from a loop device (LOOP_CLR_FD of linux/loop.h). The kernel may put it off until
/// the last user closes the device, and says nothing of that.
pub fn clear_loop(device: &File) -> Result<(), Errno> {
    const LOOP_CLR_FD: nix::libc::c_ulong = 0x4C01;
    // SAFETY: the request takes no argument and touches no memory of ours.
    let result = unsafe { nix::libc::ioctl(device.as_raw_fd(), LOOP_CLR_FD as _, 0) };
    Errno::result(result).map(drop)
}

/// Which file is behind a loop device: its device number and inode (LOOP_GET_STATUS64 of linux/loop.h).
pub fn loop_file(device: &File) -> Result<(u64, u64), Errno> {
    const LOOP_GET_STATUS64: nix::libc::c_ulong = 0x4C05;
    // `struct loop_info64` is 232 bytes long and begins with lo_device and lo_inode.
    let mut info = [0u64; 29];
    // SAFETY: the kernel writes a `struct loop_info64`, and the buffer is exactly as long as one.
    let result = unsafe { nix::libc::ioctl(device.as_raw_fd(), LOOP_GET_STATUS64 as _, info.as_mut_ptr()) };
    Errno::result(result).map(|_| (info[0], info[1]))
}

/// Stands in for glibc's own, which std calls to say where a stack that overflowed had its end. It reads
/// /proc/self/maps by sscanf, and with that links 85 KB of number parsers. Without an answer std does not say it,
/// and the overflow still ends us by SIGSEGV.
// SAFETY: glibc's name and signature; takes nothing, gives nothing, and says so.
#[cfg(all(target_env = "gnu", not(debug_assertions)))]
#[unsafe(no_mangle)]
extern "C" fn pthread_getattr_np(
    _thread: nix::libc::pthread_t,
    _attributes: *mut nix::libc::pthread_attr_t,
) -> nix::libc::c_int {
    nix::libc::ENOSYS
}

/// Stands in for the unwinder's own: released programs carry no unwind tables (see build.rs), so a backtrace of a
/// panic would be empty in any case. That it is known to be empty takes std's readers of debug information out of
/// the programs, an eighth of them. The panic's message and place are still told.
// SAFETY: the unwinder's name and signature (Itanium C++ ABI, 1.6); calls nothing back, and says "end of stack".
#[cfg(all(target_arch = "x86_64", target_env = "gnu", panic = "abort", not(debug_assertions)))]
#[unsafe(no_mangle)]
extern "C" fn _Unwind_Backtrace(
    _trace: extern "C" fn(*mut nix::libc::c_void, *mut nix::libc::c_void) -> nix::libc::c_int,
    _argument: *mut nix::libc::c_void,
) -> nix::libc::c_int {
    5
}

/// In a child of ours, which has no use for any other: closes every descriptor but the first three and this one.
fn close_all_but(kept: std::os::fd::RawFd) {
    let kept = kept.unsigned_abs();
    for (first, last) in [(3, kept.saturating_sub(1)), (kept + 1, u32::MAX)] {
        if first <= last {
            // SAFETY: the child leaves by _exit, so that no owner of one of these closes it a second time.
            unsafe {
                nix::libc::syscall(nix::libc::SYS_close_range, first, last, 0u32);
            }
        }
    }
}

/// Closes every descriptor that we inherited besides the first three: an open file pins what it lies on.
pub fn close_inherited() {
    // SAFETY: called first thing in main, before we have opened anything of our own.
    unsafe {
        nix::libc::syscall(nix::libc::SYS_close_range, 3u32, u32::MAX, 0u32);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn soon(millis: u64) -> Instant {
        Instant::now() + Duration::from_millis(millis)
    }

    #[test]
    fn a_child_returns_what_it_wrote() {
        let end = in_child(soon(5000), |out| drop(out.write_all(b"done"))).unwrap();
        assert_eq!(end, ChildEnd::Finished(b"done".to_vec()));
    }

    #[test]
    fn a_child_that_hangs_is_ended() {
        let started = Instant::now();
        let end = in_child(soon(50), |_| std::thread::sleep(Duration::from_secs(60))).unwrap();
        assert_eq!(end, ChildEnd::Killed);
        assert!(started.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn a_child_has_nothing_open_that_is_ours() {
        let (_reader, ours) = pipe2(nix::fcntl::OFlag::O_CLOEXEC).unwrap();
        let link = format!("/proc/self/fd/{}", ours.as_raw_fd());
        let end =
            in_child(soon(5000), |out| drop(out.write_all(&[u8::from(std::fs::read_link(&link).is_ok())])));
        assert_eq!(end.unwrap(), ChildEnd::Finished(vec![0]));
        assert!(std::fs::read_link(&link).is_ok());
    }

    #[test]
    fn a_process_that_cannot_be_opened_is_looked_at_until_it_ends() {
        let interrupts = Interrupts::take().unwrap();
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let id = proc::identity(child.id() as i32).unwrap();
        assert!(!look_for_end(id, &interrupts, soon(50)));
        let killer = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(50));
            signal(id, Signal::SIGKILL)
        });
        // It has ended for us when it waits for its parent.
        assert!(look_for_end(id, &interrupts, soon(20_000)));
        assert_eq!(killer.join().unwrap(), Ok(true));
        child.wait().unwrap();
    }

    #[test]
    fn a_pid_with_another_start_time_is_nobody() {
        let pid = std::process::id() as i32;
        let own = proc::identity(pid).unwrap();
        assert_eq!(signal(ProcessId { start: own.start + 1, ..own }, Signal::SIGKILL), Ok(false));
        assert!(open_process(own).unwrap().is_some());
    }
}
