//! All processes of the machine, with what the command lines of shims say.

use std::cell::{OnceCell, RefCell};
use std::collections::HashMap;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use nix::unistd::geteuid;

use crate::error::{Context, Result, Why, gone};
use crate::linux::child::{self, Child};
use crate::linux::host::Host;
use crate::linux::in_two::in_two_beside;
use crate::linux::proc::{Directory, ENOUGH, Proc, ProcessId, Reading};
use crate::order;
use crate::runtime::shim::{self, ShimArgs};

/// All processes.
#[derive(Debug)]
pub struct Processes {
    host: Host,
    /// By PID, in ascending order.
    by_pid: Vec<Proc>,
    /// Those that may be shims.
    candidates: Vec<ProcessId>,
    /// What their command lines say, once somebody has asked: between two steps of a round mostly nobody does.
    lines: OnceCell<Lines>,
    /// The child that reads them, where somebody is sure to ask.
    begun: RefCell<Option<Child>>,
    /// Processes whose state could not be read, with the reason. Not those that vanished meanwhile.
    pub unreadable: Vec<(i32, Why)>,
}

/// What command lines say.
#[derive(Debug, Default)]
struct Lines {
    shims: HashMap<i32, ShimArgs>,
    hidden: Vec<i32>,
}

/// How long one command line may take before its process counts as stalled: this twice, so that a machine that is merely
/// busy is told from it.
const READ_TIMEOUT: Duration = Duration::from_millis(400);
/// Once as many have stalled, nobody more is waited for long.
const MAX_STALLED: usize = 3;
const SHORT_READ_TIMEOUT: Duration = Duration::from_millis(50);

impl Processes {
    /// Reads all that this `/proc` shows.
    pub fn read(host: &Host) -> Result<Processes> {
        Processes::read_beside(host, || {})
    }

    /// The same, while our own thread does something else first.
    pub fn read_beside(host: &Host, first: impl FnOnce()) -> Result<Processes> {
        let mut all = Processes {
            host: host.clone(),
            by_pid: Vec::new(),
            candidates: Vec::new(),
            lines: OnceCell::new(),
            begun: RefCell::default(),
            unreadable: Vec::new(),
        };
        let listed = pids(host);
        let (proc, pids) = match listed {
            Ok(listed) => listed,
            Err(e) => {
                first();
                return Err(e);
            }
        };
        in_two_beside(first, &pids, |pid| (*pid, proc.read(*pid)), |(pid, read)| all.take(pid, read));
        order::sort_by_key(&mut all.by_pid, |process| process.id.pid);
        all.by_pid.shrink_to_fit();
        order::sort(&mut all.candidates);
        order::sort_by_key(&mut all.unreadable, |(pid, _)| *pid);
        Ok(all)
    }

    fn take(&mut self, pid: i32, read: std::io::Result<Reading>) {
        match read {
            Ok(reading) => {
                if may_be_a_shims(&reading) {
                    self.candidates.push(reading.proc.id);
                }
                self.by_pid.push(reading.proc);
            }
            Err(e) if e.raw_os_error().is_some_and(gone) => {}
            Err(e) => self.unreadable.push((pid, e.into())),
        }
    }

    /// Begins to read the command lines, which will be needed soon, while we look at something else.
    pub fn begin_lines(&self) {
        let child = Child::start(|out| tell_command_lines(&self.host, &self.candidates, true, out));
        *self.begun.borrow_mut() = child.ok();
    }

    fn lines(&self) -> &Lines {
        self.lines.get_or_init(|| Lines::read(&self.host, self.candidates.clone(), self.begun.take()))
    }

    /// The process with this PID now.
    pub fn get(&self, pid: i32) -> Option<&Proc> {
        let at = self.by_pid.binary_search_by_key(&pid, |process| process.id.pid).ok()?;
        Some(&self.by_pid[at])
    }

    /// The process with this PID and start time, if it still lives.
    pub fn alive(&self, id: ProcessId) -> Option<&Proc> {
        self.get(id.pid).filter(|p| p.id == id && p.alive())
    }

    /// All that live.
    pub fn iter(&self) -> impl Iterator<Item = &Proc> {
        self.by_pid.iter().filter(|p| p.alive())
    }

    /// What a process's command line says, if it reads like a shim's.
    pub fn shim(&self, pid: i32) -> Option<&ShimArgs> {
        self.lines().shims.get(&pid)
    }

    /// True if a process's command line reads like a shim's.
    pub fn is_shim(&self, pid: i32) -> bool {
        self.shim(pid).is_some()
    }

    /// A process and those above it.
    pub fn up_from<'p>(&'p self, process: Option<&'p Proc>) -> impl Iterator<Item = &'p Proc> {
        const MAX_ABOVE: usize = 100;
        std::iter::successors(process, |p| self.get(p.parent)).take(MAX_ABOVE)
    }

    /// PIDs of root's processes whose command lines could not be read, in ascending order.
    pub fn hidden(&self) -> &[i32] {
        &self.lines().hidden
    }
}

/// The numbers of all processes, and the directory that has them.
fn pids(host: &Host) -> Result<(Directory, Vec<i32>)> {
    let path = Path::new("/proc");
    let proc = Directory::open(&host.path(path)).context("open", path)?;
    let mut pids: Vec<i32> = Vec::new();
    for entry in std::fs::read_dir(host.path(path)).context("list", path)? {
        let name = entry.context("list", path)?.file_name();
        pids.extend(name.to_str().and_then(|name| name.parse::<i32>().ok()));
    }
    Ok((proc, pids))
}

impl Lines {
    /// Reads command lines, all in one child as long as none stalls. Whoever can keep a process's memory from being read
    /// (with a FUSE file mapped into it, any user can his own's) keeps only that child from going on.
    fn read(host: &Host, mut rest: Vec<ProcessId>, mut begun: Option<Child>) -> Lines {
        let mut lines = Lines::default();
        let stalled = host.stalled();
        rest.retain(|id| {
            let known = stalled.contains(id);
            if known {
                lines.hidden.push(id.pid);
            }
            !known
        });
        while !rest.is_empty() {
            // As long as nobody is known to stall, the child tells much at a time. When one does, what it has not told is
            // read once more, and told one by one.
            let (few, at_once) = (host.stalled().len() < MAX_STALLED, host.stalled().is_empty());
            let patience = if few { READ_TIMEOUT } else { SHORT_READ_TIMEOUT };
            let start = || Child::start(|out| tell_command_lines(host, &rest, at_once, out));
            let started = begun.take().map_or_else(start, Ok);
            let (said, at) = match started {
                Ok(child) => child.attend_while_moving(patience),
                Err(_) => (Vec::new(), Some(0)),
            };
            lines.take(&said);
            let Some(at) = at else { break };
            let Some(position) = rest.iter().position(|id| id.pid == at).filter(|_| few) else {
                // Whether there is a shim among the rest, nobody knows.
                let proc = Directory::open(&host.path(Path::new("/proc")));
                let readable = |pid| proc.as_ref().map_or(true, |proc| may_be_read(host, proc, pid));
                let unread = |pid: &i32| !lines.shims.contains_key(pid) && readable(*pid);
                let unread: Vec<i32> = rest.iter().map(|id| id.pid).filter(unread).collect();
                lines.hidden.extend(unread);
                break;
            };
            host.note_stalled(rest[position]);
            lines.hidden.push(at);
            rest.drain(if at_once { position } else { 0 }..=position);
        }
        order::sort(&mut lines.hidden);
        lines.hidden.dedup();
        lines
    }

    /// What the child told: for each process of interest its PID, and how long its command line is, none for one that
    /// could not be read.
    fn take(&mut self, mut said: &[u8]) {
        while let Some((head, rest)) = said.split_at_checked(HEAD) {
            let [pid, length] =
                [&head[..4], &head[4..]].map(|b| i32::from_ne_bytes(b.try_into().unwrap_or_default()));
            let Ok(length) = usize::try_from(length) else {
                self.hidden.push(pid);
                said = rest;
                continue;
            };
            let Some((line, rest)) = rest.split_at_checked(length) else { return };
            if let Some(shim) = shim::parse(line) {
                self.shims.insert(pid, shim);
            }
            said = rest;
        }
    }
}

/// The bytes before each command line that the child tells: two numbers.
const HEAD: usize = 8;

/// As much is told at once.
const MUCH: usize = 32 << 10;

/// In a child: tells the command lines that are shims', and which could not be read.
fn tell_command_lines(host: &Host, of: &[ProcessId], at_once: bool, out: &mut File) {
    let mut told = Vec::new();
    // A child has nothing open that is ours.
    let Ok(proc) = Directory::open(&host.path(Path::new("/proc"))) else { return };
    for id in of.iter().filter(|id| may_be_read(host, &proc, id.pid)) {
        child::at(id.pid);
        let mut buffer = [0; ENOUGH];
        let line = match proc.command_line(id.pid, &mut buffer) {
            Ok(line) if shim::parse(line).is_none() => continue,
            Ok(line) => Some(line),
            Err(e) if e.raw_os_error().is_some_and(gone) => continue,
            Err(_) => None,
        };
        // Where it is still the same process now, what was read is of that one.
        if !proc.is_still(*id) {
            continue;
        }
        let length = line.map_or(-1, |line| line.len() as i32);
        let head = [id.pid.to_ne_bytes(), length.to_ne_bytes()].concat();
        told.extend([&head, line.unwrap_or_default()].concat());
        if !at_once || told.len() >= MUCH {
            let _ = out.write_all(&told);
            told.clear();
        }
    }
    let _ = out.write_all(&told);
}

/// Only root's processes can be shims of ours, and only root's memory is not in anybody's hands. A fixture's are whose the
/// fixture is.
fn may_be_read(host: &Host, proc: &Directory, pid: i32) -> bool {
    let is_roots = |owner| owner == 0 || (!host.is_live() && owner == geteuid().as_raw());
    proc.owner(pid).is_ok_and(is_roots)
}

/// False if a command line cannot be a shim's: a kernel thread has none, a zombie has lost its own, and those of most
/// processes in pods are too short.
fn may_be_a_shims(reading: &Reading) -> bool {
    let long = |length: Option<u64>| length.is_none_or(|length| length >= shim::SHORTEST.len() as u64);
    !reading.proc.kernel && reading.proc.alive() && long(reading.command_line_length)
}

#[cfg(test)]
mod tests;
