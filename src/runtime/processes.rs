//! All processes of the machine, with what the command lines of shims say.

use std::collections::HashMap;
use std::path::Path;

use crate::error::{Context, Result, gone};
use crate::linux::host::Host;
use crate::linux::proc::{Directory, ENOUGH, Proc, ProcessId, Reading};
use crate::runtime::shim::{self, ShimArgs};

/// All processes, by PID.
#[derive(Debug, Clone, Default)]
pub struct Processes {
    by_pid: HashMap<i32, Proc>,
    shims: HashMap<i32, ShimArgs>,
    /// PIDs of root's processes whose command lines could not be read.
    pub hidden: Vec<i32>,
    /// Processes whose state could not be read, with the reason. Not those that vanished meanwhile.
    pub unreadable: Vec<(i32, String)>,
}

impl Processes {
    /// Reads all that this `/proc` shows.
    pub fn read(host: &Host) -> Result<Processes> {
        let path = Path::new("/proc");
        let mut all = Processes::default();
        let proc = Directory::open(&host.path(path)).context("open", path)?;
        for entry in std::fs::read_dir(host.path(path)).context("list", path)? {
            let entry = entry.context("list", path)?;
            let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse::<i32>().ok()) else { continue };
            match proc.read(pid).and_then(|reading| all.add(&proc, reading)) {
                Ok(()) => {}
                Err(e) if e.raw_os_error().is_some_and(gone) => {}
                Err(e) => all.unreadable.push((pid, e.to_string())),
            }
        }
        Ok(all)
    }

    fn add(&mut self, proc: &Directory, reading: Reading) -> std::io::Result<()> {
        let pid = reading.proc.id.pid;
        // A kernel thread has no command line, and a zombie has lost its own.
        if !reading.proc.kernel && reading.proc.alive() && may_be_a_shims(reading.command_line_length) {
            match proc.command_line(&reading, &mut [0; ENOUGH]).map(shim::parse) {
                Ok(None) => {}
                Ok(Some(shim)) => drop(self.shims.insert(pid, shim)),
                // It ended between the two reads: gone is not hidden.
                Err(e) if e.raw_os_error().is_some_and(gone) => return Err(e),
                Err(_) if proc.owner(pid)? == 0 => self.hidden.push(pid),
                Err(_) => {}
            }
        }
        self.by_pid.insert(pid, reading.proc);
        Ok(())
    }

    /// The process with this PID now.
    pub fn get(&self, pid: i32) -> Option<&Proc> {
        self.by_pid.get(&pid)
    }

    /// The process with this PID and start time, if it still lives.
    pub fn alive(&self, id: ProcessId) -> Option<&Proc> {
        self.get(id.pid).filter(|p| p.id == id && p.alive())
    }

    /// All that live.
    pub fn iter(&self) -> impl Iterator<Item = &Proc> {
        self.by_pid.values().filter(|p| p.alive())
    }

    /// What a process's command line says, if it reads like a shim's.
    pub fn shim(&self, pid: i32) -> Option<&ShimArgs> {
        self.shims.get(&pid)
    }

    /// True if a process's command line reads like a shim's.
    pub fn is_shim(&self, pid: i32) -> bool {
        self.shims.contains_key(&pid)
    }
}

/// False if a command line is too short for a shim's, as those of most processes in pods are.
fn may_be_a_shims(length: Option<u64>) -> bool {
    length.is_none_or(|length| length >= shim::SHORTEST.len() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_line_that_cannot_be_a_shims_is_not_read() {
        assert!(!may_be_a_shims(Some(7)));
        assert!(may_be_a_shims(Some(shim::SHORTEST.len() as u64)));
        assert!(may_be_a_shims(None), "the kernel does not tell");
    }

    #[test]
    fn we_are_no_shim() {
        let pid = std::process::id() as i32;
        let all = Processes::read(&Host::live()).unwrap();
        assert!(all.get(pid).unwrap().alive() && !all.is_shim(pid) && !all.hidden.contains(&pid));
    }
}
