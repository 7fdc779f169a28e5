//! Takes everything away, for the next task.

use std::fs;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::mount::{MntFlags, umount2};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use support::machine;

use crate::left::look;
use crate::{Result, is_installed, snap};

/// How long to wait for the end of what was killed.
const PATIENCE: Duration = Duration::from_secs(20);

/// Unconfined and in the order that works: groups, processes, mounts, namespaces, links, files.
pub fn force() -> Result<()> {
    let left = look()?;
    let of = |word: &'static str| left.values().filter(move |(is, _)| *is == word).map(|(_, item)| item);
    for group in of("cgroup") {
        let _ = fs::write(Path::new(&group.what).join("cgroup.kill"), "1");
    }
    end_processes()?;
    // Newest first, as they lie above each other.
    let table = fs::read_to_string("/proc/self/mountinfo")?;
    let data = format!("/var/snap/{}", snap());
    for mount in machine::mounts(&table).iter().rev() {
        let is_netns = of("netns").any(|item| Path::new(&item.what) == mount.at);
        if is_netns || mount.at.starts_with(&data) && mount.at != Path::new(&data) {
            let _ = umount2(&mount.at, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW);
        }
    }
    for file in of("netns").chain(of("socket")) {
        let _ = fs::remove_file(&file.what);
    }
    for link in of("link") {
        let mut delete = Command::new("ip");
        delete.args(["link", "del", &link.what]).stderr(Stdio::null()).status()?;
    }
    for state in of("state") {
        let path = Path::new(&state.what);
        let _ = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    }
    let groups: Vec<_> = of("cgroup").map(|item| &item.what).collect();
    groups.iter().rev().for_each(|group| drop(fs::remove_dir(group)));
    if !is_installed() {
        Command::new("rm").args(["-rf", "--one-file-system", &data]).status()?;
    }
    Ok(())
}

/// Kills what runs of the snap, until nothing does or the time is over.
fn end_processes() -> Result<()> {
    let end = Instant::now() + PATIENCE;
    while Instant::now() < end {
        let running = look()?;
        let pids = running.values().filter(|(word, _)| ["shim", "pod-process", "process"].contains(word));
        let mut open = Vec::new();
        for pid in pids.filter_map(|(_, item)| Pid::from_raw(item.what.parse().ok()?)) {
            // One that cannot be opened has ended.
            if let Ok(process) = pidfd_open(pid, PidfdFlags::empty()) {
                let _ = pidfd_send_signal(&process, Signal::KILL);
                open.push(process);
            }
        }
        if open.is_empty() {
            return Ok(());
        }
        for process in &open {
            let rest = end.saturating_duration_since(Instant::now());
            let mut ended = [PollFd::new(process.as_fd(), PollFlags::POLLIN)];
            match poll(&mut ended, PollTimeout::try_from(rest)?) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(())
}
