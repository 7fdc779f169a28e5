//! What our teardown is measured against: the floor, the pass and the wide look, each a program of its own with nothing but
//! the system calls that are printed here. They share no code with the program under test.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::thread;

use nix::mount::{MntFlags, umount2};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use support::Result;

/// What the floor does, for people.
pub const FLOOR: &str = "\
floor, for each pod, with every name and number known beforehand; each line for all pods before the next one:
  2 containers: openat(cgroup.kill) write(\"1\") close
  2 containers: openat(cgroup.events) pread, then poll and pread until \"populated 0\", close
  1 shim:       pidfd_open pidfd_send_signal(SIGKILL)
  1 shim:       poll until it has ended, close
  5 mounts:     umount2 (two root file systems, /dev/shm, two volumes)
  3 groups:     rmdir (two containers, the pod)
pass: getdents64(/proc), for each process: openat read close of stat and of cmdline;
  then openat read close of the mount table. Nothing is parsed.
wide: a pass; then in two threads, for each process: readlink of ns/mnt;
  then in two threads, for the first process in each mount namespace but our own: openat read close of its mount table.";

/// The work of a floor, one item in a line, in the order of the work.
#[derive(Default)]
pub struct Work {
    pub leaves: Vec<PathBuf>,
    pub shims: Vec<i32>,
    pub mounts: Vec<PathBuf>,
    pub groups: Vec<PathBuf>,
}

impl Work {
    /// Everything that pods are made of, found before the time is taken.
    pub fn find(shims: Vec<i32>, roots: &[&Path]) -> Result<Work> {
        let mut work = Work { shims, ..Work::default() };
        for line in fs::read_to_string("/proc/self/mountinfo")?.lines().rev() {
            let point = Path::new(line.split(' ').nth(4).ok_or("a mount without a place")?);
            if roots.iter().any(|root| point.starts_with(root)) {
                work.mounts.push(point.to_path_buf());
            }
        }
        work.find_groups(Path::new("/sys/fs/cgroup/kubepods"))?;
        Ok(work)
    }

    fn find_groups(&mut self, group: &Path) -> Result<()> {
        let mut leaf = true;
        for entry in fs::read_dir(group)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                leaf = false;
                self.find_groups(&entry.path())?;
            }
        }
        if leaf {
            self.leaves.push(group.to_path_buf());
        }
        self.groups.push(group.to_path_buf());
        Ok(())
    }

    pub fn write(&self, to: &Path) -> Result<()> {
        let mut text = String::new();
        for (verb, paths) in [("kill", &self.leaves), ("umount", &self.mounts), ("rmdir", &self.groups)] {
            paths.iter().for_each(|path| text.push_str(&format!("{verb} {}\n", path.display())));
        }
        self.shims.iter().for_each(|pid| text.push_str(&format!("shim {pid}\n")));
        Ok(fs::write(to, text)?)
    }

    fn read(from: &str) -> Result<Work> {
        let mut work = Work::default();
        for line in fs::read_to_string(from)?.lines() {
            let (verb, what) = line.split_once(' ').ok_or("a line without a verb")?;
            match verb {
                "kill" => work.leaves.push(what.into()),
                "umount" => work.mounts.push(what.into()),
                "rmdir" => work.groups.push(what.into()),
                _ => work.shims.push(what.parse()?),
            }
        }
        Ok(work)
    }
}

/// The floor itself.
pub fn floor(work: &str) -> Result<()> {
    let work = Work::read(work)?;
    for leaf in &work.leaves {
        File::options().write(true).open(leaf.join("cgroup.kill"))?.write_all(b"1")?;
    }
    for leaf in &work.leaves {
        wait_until_empty(&File::open(leaf.join("cgroup.events"))?)?;
    }
    let shims: Vec<OwnedFd> = work.shims.iter().map(|pid| kill(*pid)).collect::<Result<_>>()?;
    for shim in shims {
        poll(&mut [PollFd::new(shim.as_fd(), PollFlags::POLLIN)], PollTimeout::NONE)?;
    }
    for mount in &work.mounts {
        umount2(mount, MntFlags::UMOUNT_NOFOLLOW)?;
    }
    for group in &work.groups {
        fs::remove_dir(group)?;
    }
    Ok(())
}

fn wait_until_empty(events: &File) -> Result<()> {
    let mut text = [0; 64];
    loop {
        let length = events.read_at(&mut text, 0)?;
        if text[..length].starts_with(b"populated 0") {
            return Ok(());
        }
        poll(&mut [PollFd::new(events.as_fd(), PollFlags::POLLPRI)], PollTimeout::NONE)?;
    }
}

fn kill(pid: i32) -> Result<OwnedFd> {
    let pid = Pid::from_raw(pid).ok_or("no process has this number")?;
    let process = pidfd_open(pid, PidfdFlags::empty())?;
    pidfd_send_signal(&process, Signal::KILL)?;
    Ok(process)
}

/// One pass over the processes and the mount table, as cheap as reading can be.
pub fn pass() -> Result<()> {
    pass_over().map(drop)
}

fn pass_over() -> Result<Vec<PathBuf>> {
    let mut buffer = vec![0; 64 << 10];
    let mut processes = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        if !name.as_encoded_bytes()[0].is_ascii_digit() {
            continue;
        }
        let process = Path::new("/proc").join(&name);
        for file in ["stat", "cmdline"] {
            // One that has ended meanwhile is not there.
            let _ = File::open(process.join(file)).and_then(|mut file| file.read(&mut buffer));
        }
        processes.push(process);
    }
    read_table(Path::new("/proc/self"), &mut buffer)?;
    Ok(processes)
}

fn read_table(process: &Path, buffer: &mut [u8]) -> std::io::Result<()> {
    let mut table = File::open(process.join("mountinfo"))?;
    while table.read(buffer)? > 0 {}
    Ok(())
}

/// A pass, and the mount table of each mount namespace: what the kernel takes for a look at everything.
pub fn wide() -> Result<()> {
    let processes = pass_over()?;
    let name = |process: &PathBuf| fs::read_link(process.join("ns/mnt")).ok().map(PathBuf::into_os_string);
    let names = |some: &[PathBuf]| some.iter().map(name).collect::<Vec<_>>();
    let names: Vec<Option<OsString>> = in_two(&processes, names).into_iter().flatten().collect();
    let mut known: HashSet<Option<OsString>> = HashSet::from([None, name(&"/proc/self".into())]);
    let each = processes.iter().zip(names).filter(|(_, name)| known.insert(name.clone()));
    let each: Vec<&PathBuf> = each.map(|(process, _)| process).collect();
    in_two(&each, |some: &[&PathBuf]| {
        let mut buffer = vec![0; 64 << 10];
        // As of a process, one that has gone has no table.
        some.iter().filter(|process| read_table(process, &mut buffer).is_ok()).count()
    });
    Ok(())
}

/// Does it with both halves at once.
fn in_two<T: Sync, R: Send>(all: &[T], work: impl Fn(&[T]) -> R + Sync) -> [R; 2] {
    let (first, second) = all.split_at(all.len() / 2);
    thread::scope(|scope| {
        let other = scope.spawn(|| work(first));
        let second = work(second);
        // A panic in one of them is the program's.
        [other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)), second]
    })
}
