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

use crate::residue::ProcessId;
use crate::shim::{self, ShimArgs};

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
    /// What its command line says if it is a shim's.
    pub shim: Option<ShimArgs>,
    /// True if it is root's and its command line could not be read.
    pub hidden: bool,
    /// True for a thread of the kernel.
    pub kernel: bool,
}

impl Proc {
    /// A zombie is not alive: it holds nothing, and waits only for its parent.
    pub fn alive(&self) -> bool {
        !matches!(self.state, 'Z' | 'X' | 'x')
    }
}

/// Both files are far shorter for whatever concerns us: a shim's command line is short; a long one belongs to
/// somebody else, and its start tells as much.
const ENOUGH: usize = 4096;

/// A `/proc` that is open.
pub struct Directory(OwnedFd);

impl Directory {
    /// Opens the one that lies there.
    pub fn open(path: &Path) -> io::Result<Directory> {
        Ok(Directory(openat(CWD, path, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?))
    }

    /// Reads one process.
    pub fn read(&self, pid: i32) -> io::Result<Proc> {
        let mut buffer = [0; ENOUGH];
        let open = |name: &str| open(&self.0, &format!("{pid}/{name}"));
        let file = open("stat")?;
        let stat = parse_stat(read_once(&file, &mut buffer)?)
            .ok_or_else(|| io::Error::other("its stat makes no sense"))?;
        let mut process = Proc {
            id: ProcessId { pid, start: stat.starttime },
            parent: stat.ppid,
            state: stat.state,
            shim: None,
            hidden: false,
            kernel: stat.flags & PF_KTHREAD != 0,
            comm: stat.comm,
        };
        // A kernel thread has no command line, and a zombie has lost its own.
        if process.kernel || !process.alive() || is_too_short(stat.arg_start, stat.arg_end) {
            return Ok(process);
        }
        let cmdline = open("cmdline").and_then(|file| Ok(shim::parse(read_once(&file, &mut buffer)?)));
        match cmdline {
            Ok(None) => return Ok(process),
            Ok(shim) => process.shim = shim,
            // It ended between the two reads: gone is not hidden.
            Err(e) if e.raw_os_error().is_some_and(crate::error::gone) => return Err(e),
            Err(_) => process.hidden = self.owner(pid)? == 0,
        }
        // An open file of a process that has ended says ESRCH, whoever has its number by now: where `stat` can be read
        // again, both are of one process.
        pread(&file, &mut buffer, 0)?;
        Ok(process)
    }

    /// The effective user of a process. Files in its directory may be root's all the same.
    pub fn owner(&self, pid: i32) -> io::Result<u32> {
        Ok(statat(&self.0, pid.to_string(), AtFlags::SYMLINK_NOFOLLOW)?.st_uid)
    }
}

/// True if the kernel tells where the command line lies, and it is too short for a shim's: as those of most processes
/// in pods are. To whom it does not tell that (proc_pid_stat(5)), it gives zeros.
fn is_too_short(start: Option<u64>, end: Option<u64>) -> bool {
    let length = end.unwrap_or(0).saturating_sub(start.unwrap_or(0));
    length > 0 && length < shim::SHORTEST.len() as u64
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
    fn a_command_line_that_cannot_be_a_shims_is_not_read() {
        assert!(is_too_short(Some(4096), Some(4096 + 7)));
        assert!(!is_too_short(Some(4096), Some(4096 + shim::SHORTEST.len() as u64)));
        for untold in [(Some(0), Some(0)), (None, None), (Some(7), Some(0))] {
            assert!(!is_too_short(untold.0, untold.1), "{untold:?}");
        }
    }

    #[test]
    fn we_are_a_process() {
        let pid = std::process::id() as i32;
        let proc = Directory::open(Path::new("/proc")).unwrap();
        let own = proc.read(pid).unwrap();
        assert_eq!(Some(own.id), identity(pid));
        assert_eq!(own.parent as u32, std::os::unix::process::parent_id());
        assert_eq!(proc.owner(pid).unwrap(), nix::unistd::geteuid().as_raw());
        assert!(own.alive() && !own.kernel && !own.hidden && own.shim.is_none());
        assert!(proc.read(0).is_err_and(|e| e.kind() == io::ErrorKind::NotFound));
    }
}
