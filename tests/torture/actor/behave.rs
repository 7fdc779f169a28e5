//! What processes do once they are what they are: descend, end at a signal or not, come again.

use std::fs::{self, File};
use std::os::unix::net::UnixListener;

use nix::sched::{CloneFlags, setns};
use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal, raise};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{chdir, setgid, setgroups, setsid, setuid};

use super::{Behaviour, PART, Part, command, ready, start};
use support::Result;

pub(super) fn name(name: &str) -> Result<()> {
    let short = name.rsplit('/').next().unwrap_or_default();
    if !short.is_empty() {
        prctl::set_name(&std::ffi::CString::new(short.chars().take(15).collect::<String>())?)?;
    }
    Ok(())
}

pub(super) fn be(part: Part) -> Result<()> {
    name(&part.name)?;
    if let Some(directory) = &part.directory {
        chdir(directory)?;
    }
    let _held = part.holds.as_ref().map(File::open).transpose()?;
    let _socket = part.socket.as_ref().map(UnixListener::bind).transpose()?;
    if let Some(network) = &part.network {
        setns(File::open(network)?, CloneFlags::CLONE_NEWNET)?;
    }
    if part.uid != 0 {
        setgroups(&[])?;
        setgid(part.uid.into())?;
        setuid(part.uid.into())?;
        // As after an exec: others of this user may look at it.
        prctl::set_dumpable(true)?;
    }
    let signals = SigSet::from_iter([Signal::SIGTERM, Signal::SIGCHLD]);
    signals.thread_block()?;
    let children = descend(&part)?;
    if fs::metadata("/layer").is_ok() {
        fs::write("/ready", "it runs")?;
    }
    ready("up")?;
    loop {
        match signals.wait()? {
            Signal::SIGTERM if part.behaviour != Behaviour::Stubborn => break,
            Signal::SIGCHLD => reap(children, &part)?,
            _ => {}
        }
    }
    Ok(())
}

/// The part's descendants; how many of them come again.
fn descend(part: &Part) -> Result<usize> {
    let plain = |behaviour| Part { behaviour, name: part.name.clone(), ..Part::default() };
    let line = std::slice::from_ref(&part.name);
    match part.behaviour {
        Behaviour::Obedient | Behaviour::Stubborn => {}
        Behaviour::Daemon => {
            // The one in between ends as soon as its child runs.
            let mut between = command("be-between", &plain(Behaviour::Stubborn), line)?;
            between.env("TORTURE_BETWEEN", "1");
            start(between)?.0.wait()?;
        }
        Behaviour::Stopped | Behaviour::Traced => {
            let mut child = command("be-still", &plain(part.behaviour), line)?;
            child
                .env("TORTURE_STILL", if part.behaviour == Behaviour::Traced { "traced" } else { "stopped" });
            let (child, _) = start(child)?;
            let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id())?);
            if !matches!(waitpid(pid, Some(WaitPidFlag::WUNTRACED))?, WaitStatus::Stopped(..)) {
                return Err("a child did not stop".into());
            }
        }
        Behaviour::Bomb => {
            for _ in 0..2 {
                bomb(part)?;
            }
            return Ok(2);
        }
    }
    Ok(0)
}

/// One more descendant of a bomb: as many as there may be, or down to the fourth generation.
fn bomb(part: &Part) -> Result<()> {
    let generation = std::env::var("TORTURE_GENERATION").ok().and_then(|n| n.parse().ok()).unwrap_or(0);
    let limited = part.limited;
    if generation < 3 || limited {
        let part = Part { behaviour: Behaviour::Bomb, name: part.name.clone(), limited, ..Part::default() };
        let mut child = command("be", &part, std::slice::from_ref(&part.name))?;
        child.env("TORTURE_GENERATION", (generation + 1).to_string());
        // A limit on processes, or death in between, may refuse it.
        let _ = start(child);
    }
    Ok(())
}

fn reap(children: usize, part: &Part) -> Result<()> {
    while let Ok(status) = waitpid(None, Some(WaitPidFlag::WNOHANG)) {
        if status == WaitStatus::StillAlive {
            break;
        }
        if children > 0 {
            bomb(part)?;
        }
    }
    Ok(())
}

/// For a part of `be` that is no end in itself.
pub fn in_between() -> Option<Result<()>> {
    if std::env::var_os("TORTURE_BETWEEN").is_some() {
        return Some(between());
    }
    let still = std::env::var("TORTURE_STILL").ok()?;
    Some(be_still(&still))
}

fn between() -> Result<()> {
    setsid()?;
    let part: Part = serde_json::from_str(&std::env::var(PART)?)?;
    let child = command("be", &part, std::slice::from_ref(&part.name))?;
    start(child)?;
    ready("up")
}

fn be_still(how: &str) -> Result<()> {
    if how == "traced" {
        nix::sys::ptrace::traceme()?;
    }
    ready("up")?;
    raise(Signal::SIGSTOP)?;
    Ok(())
}
