//! One process, read from `/proc/PID`.
//!
//! A look reads every process of the machine, so what is read of each is kept to what finders need: two small
//! files, each in one system call. Nothing in the result comes from a process that got the PID later.

use std::io;
use std::path::Path;

use procfs::FromRead;
use procfs::process::{Stat, StatFlags};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, openat, statat};
use rustix::io::pread;
use serde::{Deserialize, Serialize};

/// A process, safe against PID reuse: a PID alone may belong to somebody else a moment later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ProcessId {
    /// The PID in our own PID namespace.
    pub pid: i32,
    /// Start time in clock ticks since boot (field 22 of `/proc/PID/stat`).
    pub start: u64,
}

/// What of a process every finder needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proc {
    /// PID and start time.
    pub id: ProcessId,
    /// Its parent.
    pub parent: i32,
    /// State letter of proc_pid_stat(5).
    pub state: char,
    /// Name.
    pub comm: String,
    /// True for a thread of the kernel.
    pub kernel: bool,
}

impl Proc {
    /// A zombie is not alive: it holds nothing, and waits only for its parent.
    pub fn alive(&self) -> bool {
        !matches!(self.state, 'Z' | 'X' | 'x')
    }
}

/// As much as is read of a file: a stat line is far shorter, and the start of a long command line tells enough.
pub const ENOUGH: usize = 4096;

/// A `/proc` that is open.
pub struct Directory(OwnedFd);

/// A process that was read, and the file by which it can be told later whether it is still the same one.
pub struct Reading {
    /// The process.
    pub proc: Proc,
    /// How many bytes its command line has. None where the kernel does not say: it reports zeros to readers who may not
    /// see the addresses (proc_pid_stat(5)).
    pub command_line_length: Option<u64>,
    stat: OwnedFd,
}

impl Directory {
    /// Opens the one that lies there.
    pub fn open(path: &Path) -> io::Result<Directory> {
        Ok(Directory(openat(CWD, path, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?))
    }

    /// Reads one process.
    pub fn read(&self, pid: i32) -> io::Result<Reading> {
        let mut buffer = [0; ENOUGH];
        let file = open(&self.0, &format!("{pid}/stat"))?;
        let stat = parse_stat(read_once(&file, &mut buffer)?)
            .ok_or_else(|| io::Error::other("its stat makes no sense"))?;
        let length = stat.arg_end.unwrap_or(0).saturating_sub(stat.arg_start.unwrap_or(0));
        Ok(Reading {
            command_line_length: (length > 0).then_some(length),
            stat: file,
            proc: Proc {
                id: ProcessId { pid, start: stat.starttime },
                parent: stat.ppid,
                state: stat.state,
                kernel: stat.flags & PF_KTHREAD != 0,
                comm: stat.comm,
            },
        })
    }

    /// The start of a process's command line; an error also if the process has ended meanwhile.
    pub fn command_line<'a>(&self, process: &Reading, buffer: &'a mut [u8; ENOUGH]) -> io::Result<&'a [u8]> {
        let file = open(&self.0, &format!("{}/cmdline", process.proc.id.pid))?;
        let length = rustix::io::read(&file, &mut buffer[..])?;
        // An open file of a process that has ended says ESRCH, whoever has its number by now: where `stat` can be read
        // again, both are of one process.
        pread(&process.stat, &mut [0; 1], 0)?;
        Ok(&buffer[..length])
    }

    /// The effective user of a process. Files in its directory may be root's all the same.
    pub fn owner(&self, pid: i32) -> io::Result<u32> {
        Ok(statat(&self.0, pid.to_string(), AtFlags::SYMLINK_NOFOLLOW)?.st_uid)
    }
}

/// Reads one process's identity now, from the machine itself; none if it is gone or a zombie.
pub fn identity(pid: i32) -> Option<ProcessId> {
    let mut buffer = [0; ENOUGH];
    let file = open(CWD, &format!("/proc/{pid}/stat")).ok()?;
    let stat = parse_stat(read_once(&file, &mut buffer).ok()?)?;
    (!matches!(stat.state, 'Z' | 'X' | 'x')).then_some(ProcessId { pid, start: stat.starttime })
}

fn read_once<'a>(file: &OwnedFd, buffer: &'a mut [u8]) -> io::Result<&'a [u8]> {
    let length = rustix::io::read(file, &mut *buffer)?;
    Ok(&buffer[..length])
}

fn open(directory: impl AsFd, file: &str) -> io::Result<OwnedFd> {
    Ok(openat(directory, file, OFlags::CLOEXEC, Mode::empty())?)
}

/// Field 9 of proc_pid_stat(5): the process is a thread of the kernel.
const PF_KTHREAD: u32 = StatFlags::PF_KTHREAD.bits();

/// The crate slices between the parentheses unchecked, and would panic where they stand the wrong way round.
fn parse_stat(line: &[u8]) -> Option<Stat> {
    let open = line.iter().position(|b| *b == b'(')?;
    let close = line.iter().rposition(|b| *b == b')')?;
    if open < close { Stat::from_read(line).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_pretend_to_be_other_fields() {
        let line = b"7 (a) Z 1 (b) S 42 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 9876 11 22 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n";
        let stat = parse_stat(line).unwrap();
        assert_eq!((stat.comm.as_str(), stat.state, stat.ppid, stat.starttime), ("a) Z 1 (b", 'S', 42, 9876));
        assert_eq!(stat.flags & PF_KTHREAD, 0);
    }

    #[test]
    fn a_cut_or_garbled_line_is_no_process() {
        let line = b"7 (a) S 42 7 7 0 -1 2129984 1 2 3 4 5 6 7 8 20 0 1 0 9876 11 22 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0";
        assert_ne!(parse_stat(line).unwrap().flags & PF_KTHREAD, 0);
        for bad in [&line[..60], b"", b"7 a S 1", b"7 )a( S 1", b"7 (a) S x 7 7"] {
            assert!(parse_stat(bad).is_none(), "{}", String::from_utf8_lossy(bad));
        }
    }

    #[test]
    fn we_are_a_process() {
        let pid = std::process::id() as i32;
        let proc = Directory::open(Path::new("/proc")).unwrap();
        let reading = proc.read(pid).unwrap();
        let own = &reading.proc;
        assert_eq!(Some(own.id), identity(pid));
        assert_eq!(own.parent as u32, std::os::unix::process::parent_id());
        assert_eq!(proc.owner(pid).unwrap(), nix::unistd::geteuid().as_raw());
        assert!(own.alive() && !own.kernel);
        let mut buffer = [0; ENOUGH];
        let line = proc.command_line(&reading, &mut buffer).unwrap();
        assert!(reading.command_line_length.unwrap() as usize >= line.len().min(ENOUGH) && !line.is_empty());
        assert!(proc.read(0).is_err_and(|e| e.kind() == io::ErrorKind::NotFound));
    }
}
