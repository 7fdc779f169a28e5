//! One process, read from `/proc/PID`.
//!
//! A look reads every process of the machine, so what is read of each is kept to what finders need: two small
//! files, each in one system call. Nothing in the result comes from a process that got the PID later.

use std::ffi::OsStr;
use std::io;
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use procfs::process::StatFlags;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, RawDir, openat, statat};
use serde::{Deserialize, Serialize};

use crate::error::gone;

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
    pub parent: i32,
    /// State letter of proc_pid_stat(5).
    pub state: char,
    /// Name.
    pub comm: String,
    /// True for a thread of the kernel.
    pub kernel: bool,
    /// True if its first thread has ended and others go on. The kernel then calls it a zombie, and it is none.
    pub leaderless: bool,
}

impl Proc {
    /// A zombie is not alive: it holds nothing, and waits only for its parent.
    pub fn alive(&self) -> bool {
        self.leaderless || !is_dead(self.state)
    }
}

/// True if a process has a controlling terminal, by its stat line; also where that makes no sense.
pub fn has_terminal(stat: &[u8]) -> bool {
    parse_stat(stat).is_none_or(|stat| stat.terminal != 0)
}

fn is_dead(state: char) -> bool {
    matches!(state, 'Z' | 'X' | 'x')
}

/// The directory below `/proc` of a process's first thread that lives. The process's own directory is that of its leader,
/// which has lost its root, its namespaces and its program when it has ended before the others.
pub fn living_thread(pid: i32) -> Option<PathBuf> {
    let proc = Directory::open(Path::new("/proc")).ok()?;
    Some(Path::new("/proc").join(proc.living_thread(pid)?))
}

/// As much as is read of a file: a stat line is far shorter, and the start of a long command line tells enough.
pub const ENOUGH: usize = 4096;

/// A `/proc` that is open.
pub struct Directory(OwnedFd);

/// A process that was read.
pub struct Reading {
    /// The process.
    pub proc: Proc,
    /// How many bytes its command line has. None where the kernel does not say: it reports zeros to readers who may not
    /// see the addresses (proc_pid_stat(5)).
    pub command_line_length: Option<u64>,
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
        let length = stat.arg_end.saturating_sub(stat.arg_start);
        let leaderless = is_dead(stat.state) && self.goes_on(&stat);
        Ok(Reading {
            command_line_length: (length > 0).then_some(length),
            proc: Proc {
                leaderless,
                id: ProcessId { pid, start: stat.starttime },
                parent: stat.ppid,
                state: stat.state,
                kernel: stat.flags & PF_KTHREAD != 0,
                comm: stat.comm,
            },
        })
    }

    /// The start of the command line of whoever has this PID. It lies in that process's own memory, which others may
    /// keep from being read for as long as they like: only ever asked in a child.
    pub fn command_line<'a>(&self, pid: i32, buffer: &'a mut [u8; ENOUGH]) -> io::Result<&'a [u8]> {
        read_once(&open(&self.0, &format!("{pid}/cmdline"))?, buffer)
    }

    /// True if whoever has this PID now is this process.
    pub fn is_still(&self, process: ProcessId) -> bool {
        let mut buffer = [0; ENOUGH];
        let stat = open(&self.0, &format!("{}/stat", process.pid))
            .and_then(|file| Ok(parse_stat(read_once(&file, &mut buffer)?)));
        stat.ok().flatten().is_some_and(|stat| stat.starttime == process.start)
    }

    /// True if a process whose first thread has ended has another one that has not. The count says at once that most
    /// have none; one that is traced is counted until its tracer has seen it end.
    fn goes_on(&self, stat: &Stat) -> bool {
        stat.num_threads > 1 && self.living_thread(stat.pid).is_some()
    }

    /// Where a thread of this process that lives has its directory, the leader's first; none if all have ended. Threads
    /// that hide count as one.
    fn living_thread(&self, pid: i32) -> Option<PathBuf> {
        let tasks = PathBuf::from(format!("{pid}/task"));
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = match openat(&self.0, &tasks, flags, Mode::empty()) {
            Ok(directory) => directory,
            Err(e) => return (!gone(e.raw_os_error())).then(|| pid.to_string().into()),
        };
        let mut names = vec![MaybeUninit::uninit(); 4 << 10];
        let mut entries = RawDir::new(&directory, &mut names);
        while let Some(Ok(entry)) = entries.next() {
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            let Some(thread) = name.to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
            let mut buffer = [0; ENOUGH];
            let stat = open(&directory, &format!("{thread}/stat"))
                .and_then(|file| Ok(parse_stat(read_once(&file, &mut buffer)?)));
            if stat.ok().flatten().is_some_and(|stat| !is_dead(stat.state)) {
                return Some(tasks.join(name));
            }
        }
        None
    }

    /// The effective user of a process. Files in its directory may be root's all the same.
    pub fn owner(&self, pid: i32) -> io::Result<u32> {
        Ok(statat(&self.0, pid.to_string(), AtFlags::SYMLINK_NOFOLLOW)?.st_uid)
    }
}

/// True if this process goes on without its first thread.
pub fn is_leaderless(id: ProcessId) -> bool {
    now(id.pid).is_some_and(|(its, leaderless)| leaderless == Some(true) && its == id)
}

/// Reads one process's identity now, from the machine itself; none if it is gone or a zombie.
pub fn identity(pid: i32) -> Option<ProcessId> {
    now(pid).filter(|(_, leaderless)| *leaderless != Some(false)).map(|(id, _)| id)
}

/// Who has this PID now; if its first thread has ended, with whether it goes on without. /proc is opened for that only.
fn now(pid: i32) -> Option<(ProcessId, Option<bool>)> {
    let mut buffer = [0; ENOUGH];
    let file = open(CWD, &format!("/proc/{pid}/stat")).ok()?;
    let stat = parse_stat(read_once(&file, &mut buffer).ok()?)?;
    let goes_on = || Directory::open(Path::new("/proc")).is_ok_and(|all| all.goes_on(&stat));
    let leaderless = is_dead(stat.state).then(|| stat.num_threads > 1 && goes_on());
    Some((ProcessId { pid, start: stat.starttime }, leaderless))
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

/// What of a stat line is used here.
struct Stat {
    pid: i32,
    comm: String,
    state: char,
    ppid: i32,
    terminal: i32,
    flags: u32,
    num_threads: i64,
    starttime: u64,
    arg_start: u64,
    arg_end: u64,
}

/// By hand, for the program's size: the crate procfs reads all 52 fields, each with an error of its own, in 10 KB. Every
/// kernel writes at least 37 fields, so a line with fewer was cut, and is refused.
fn parse_stat(line: &[u8]) -> Option<Stat> {
    let open = line.iter().position(|b| *b == b'(')?;
    let close = line.iter().rposition(|b| *b == b')')?;
    let comm = String::from_utf8_lossy(line.get(open + 1..close)?).into_owned();
    let fields: Vec<&str> = std::str::from_utf8(&line[close + 1..]).ok()?.split_ascii_whitespace().collect();
    // As proc_pid_stat(5) counts them.
    let field = |number: usize| fields.get(number - 3).copied();
    let number = |of: usize| field(of)?.parse::<u64>().ok();
    field(37)?;
    Some(Stat {
        pid: std::str::from_utf8(&line[..open]).ok()?.trim_end().parse().ok()?,
        comm,
        state: field(3)?.parse().ok()?,
        ppid: field(4)?.parse().ok()?,
        terminal: field(7)?.parse().ok()?,
        flags: field(9)?.parse().ok()?,
        num_threads: field(20)?.parse().ok()?,
        starttime: number(22)?,
        arg_start: number(48).unwrap_or(0),
        arg_end: number(49).unwrap_or(0),
    })
}

/// A process whose first thread has ended while another goes on.
#[cfg(test)]
pub fn leaderless() -> std::process::Child {
    let program = "import ctypes, threading, time
threading.Thread(target=lambda: time.sleep(9999)).start()
ctypes.CDLL(None).syscall(60 if __import__('os').uname().machine == 'x86_64' else 93, 0)";
    let child = std::process::Command::new("/usr/bin/python3").args(["-c", program]).spawn().unwrap();
    let proc = Directory::open(Path::new("/proc")).unwrap();
    while proc.read(child.id() as i32).unwrap().proc.state != 'Z' {
        std::thread::yield_now();
    }
    child
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_without_its_first_thread_lives() {
        let mut child = leaderless();
        let pid = child.id() as i32;
        let proc = Directory::open(Path::new("/proc")).unwrap();
        let own = proc.read(pid).unwrap().proc;
        assert!(own.alive() && own.leaderless && own.state == 'Z');
        assert_eq!(identity(pid), Some(own.id));
        assert!(is_leaderless(own.id) && !is_leaderless(identity(std::process::id() as i32).unwrap()));
        let thread = living_thread(pid).unwrap();
        assert_ne!(thread, Path::new("/proc").join(pid.to_string()).join("task").join(pid.to_string()));
        assert!(std::fs::read_link(thread.join("root")).is_ok(), "its own directory has lost it");
        child.kill().unwrap();
        while proc.read(pid).unwrap().proc.alive() {
            std::thread::yield_now();
        }
        assert_eq!((identity(pid), living_thread(pid)), (None, None), "a zombie, and nothing else");
        child.wait().unwrap();
    }

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
        let line = proc.command_line(pid, &mut buffer).unwrap();
        assert!(proc.is_still(own.id) && !proc.is_still(ProcessId { start: own.id.start + 1, ..own.id }));
        assert_eq!(living_thread(pid), Some(format!("/proc/{pid}/task/{pid}").into()));
        assert!(reading.command_line_length.unwrap() as usize >= line.len().min(ENOUGH) && !line.is_empty());
        assert!(proc.read(0).is_err_and(|e| e.kind() == io::ErrorKind::NotFound));
    }
}
