//! Children of ours: work that may hang, and programs.

use std::ffi::{CString, OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::signal::{SigSet, Signal, kill, killpg};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::{Pid, dup2_stderr, dup2_stdin, dup2_stdout, getpid, getppid, pipe2};
use rustix::process::set_parent_process_death_signal;

use crate::linux::interrupts::timeout;
use crate::linux::proc;
use crate::linux::process::{OFTEN, open_pid};
use crate::linux::sys;

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
#[derive(Debug)]
pub struct Child {
    pid: Pid,
    reader: File,
}

impl Child {
    /// Starts it. It has /dev/null on all three descriptors (snapd waits for whoever holds the hook's output), and dies
    /// with us.
    pub fn start(work: impl FnOnce(&mut File)) -> io::Result<Child> {
        let (reader, writer) = pipe2(OFlag::O_CLOEXEC)?;
        let null = File::options().read(true).write(true).open("/dev/null")?;
        let parent = getpid();
        let pid = sys::fork(|| {
            let _ = (dup2_stdin(&null), dup2_stdout(&null), dup2_stderr(&null));
            // One that cannot be ended must not keep what we have open: the lock against a second run, above all.
            sys::close_all_but(writer.as_raw_fd());
            let _ = die_with_parent();
            if getppid() == parent {
                let mut writer = File::from(writer);
                work(&mut writer);
                let _ = writer.flush();
            }
        })?;
        Ok(Child { pid, reader: File::from(reader) })
    }

    /// Waits until it has finished, until then at most.
    pub fn attend(self, until: Instant) -> ChildEnd {
        let mut output = Vec::new();
        self.read_until(until, &mut output).unwrap_or(ChildEnd::Finished(output))
    }

    /// What it has written by then, whether it has ended or not.
    pub fn written_until(self, until: Instant) -> Vec<u8> {
        let mut output = Vec::new();
        self.read_until(until, &mut output);
        output
    }

    /// Reads until it has finished. How it was ended, if that took too long.
    fn read_until(&self, until: Instant, output: &mut Vec<u8>) -> Option<ChildEnd> {
        if !drain(&self.reader, output, until) {
            return Some(end(self.pid));
        }
        let _ = waitpid(self.pid, None);
        None
    }

    /// Waits as long as it gets on with its work, which it tells by [`at`]. What it wrote, and if it did not get on,
    /// with what.
    pub fn attend_while_moving(self, patience: Duration) -> (Vec<u8>, Option<i32>) {
        let mut output = Vec::new();
        let mut last = None;
        while !drain(&self.reader, &mut output, Instant::now() + patience) {
            let now = self.at();
            if now.is_none() || now == last {
                end(self.pid);
                return (output, Some(now.unwrap_or(0)));
            }
            last = now;
        }
        let _ = waitpid(self.pid, None);
        (output, None)
    }

    /// What the child is at: none if it has not said so yet.
    fn at(&self) -> Option<i32> {
        let proc = proc::Directory::open(Path::new("/proc")).ok()?;
        proc.read(self.pid.as_raw()).ok()?.proc.comm.parse().ok()
    }
}

/// In a child: tells whoever waits for it what it is at, without waking him. It does so by its name, which costs one
/// system call and needs no descriptor.
pub fn at(number: i32) {
    if let Ok(name) = CString::new(number.to_string()) {
        let _ = nix::sys::prctl::set_name(&name);
    }
}

/// In a child: SIGKILL when its parent ends, and no signal blocked.
fn die_with_parent() -> io::Result<()> {
    set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    Ok(SigSet::empty().thread_set_mask()?)
}

/// Ends a child that took too long. One in uninterruptible sleep is left behind, to be reaped by init.
fn end(child: Pid) -> ChildEnd {
    let _ = kill(child, Signal::SIGKILL);
    wait_for_child(child, Instant::now() + Duration::from_millis(500));
    match waitpid(child, Some(WaitPidFlag::WNOHANG)) {
        Ok(WaitStatus::StillAlive) => ChildEnd::Abandoned(child.as_raw()),
        _ => ChildEnd::Killed,
    }
}

/// How a program ended.
#[derive(Debug)]
pub enum ProgramEnd {
    /// By itself.
    Exited(ExitStatus),
    /// It took too long and was killed, or could not be waited for.
    TookTooLong,
}

/// Runs a program to its end, until then at most. It gets this environment and no other, and /dev/null; it
/// dies with us, and what it has started dies with it. What it prints is returned if `capture` asks for it.
pub fn run(
    program: &Path,
    arguments: &[&OsStr],
    environment: &[(&str, OsString)],
    capture: bool,
    until: Instant,
) -> io::Result<(ProgramEnd, Vec<u8>)> {
    let mut command = Command::new(program);
    command.args(arguments).env_clear().envs(environment.iter().map(|(k, v)| (k, v))).current_dir("/");
    command.stdin(Stdio::null()).stderr(Stdio::null()).process_group(0);
    command.stdout(if capture { Stdio::piped() } else { Stdio::null() });
    sys::before_exec(&mut command, die_with_parent);
    let mut child = command.spawn()?;
    let pid = Pid::from_raw(child.id() as i32);
    // Its process group is its own, and while it is not waited for nobody else can get that number.
    let end_group = || killpg(pid, Signal::SIGKILL);
    let mut output = Vec::new();
    if let Some(stdout) = child.stdout.take()
        && !drain(&File::from(OwnedFd::from(stdout)), &mut output, until)
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
fn drain(mut reader: &File, output: &mut Vec<u8>, until: Instant) -> bool {
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
    fn a_child_that_gets_on_is_waited_for_and_one_that_does_not_says_with_what() {
        let patience = Duration::from_millis(300);
        let work = |stop: i32| {
            move |out: &mut File| {
                for number in 1..=5 {
                    at(number);
                    std::thread::sleep(Duration::from_millis(if number == stop { 60_000 } else { 100 }));
                    let _ = out.write_all(&[number as u8]);
                }
            }
        };
        let (said, hung) = Child::start(work(0)).unwrap().attend_while_moving(patience);
        assert_eq!((said, hung), (vec![1, 2, 3, 4, 5], None));
        let (said, hung) = Child::start(work(3)).unwrap().attend_while_moving(patience);
        assert_eq!((said, hung), (vec![1, 2], Some(3)));
    }
}
