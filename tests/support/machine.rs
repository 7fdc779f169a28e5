//! What the kernel says of the machine: processes, mounts, sockets, loop devices. Read without any code of the program
//! under test.

use std::fs;
use std::path::{Path, PathBuf};

use super::Result;

/// Of a thread of the kernel (PF_KTHREAD, include/linux/sched.h).
const KERNEL_THREAD: u32 = 0x0020_0000;

pub struct Process {
    pub pid: i32,
    /// In ticks since the machine's start: with the number, it is that process.
    pub start: String,
    pub parent: String,
    pub comm: String,
    pub state: String,
    pub words: Vec<String>,
    /// The control group of version 2, else the last one that the kernel names.
    pub group: String,
    /// The AppArmor label, without its mode; empty if there is none.
    pub label: String,
}

impl Process {
    pub fn is_shim(&self) -> bool {
        self.comm.starts_with("containerd-shim")
    }

    /// Ended, and not yet collected.
    pub fn is_zombie(&self) -> bool {
        self.state == "Z"
    }

    /// A name that no other process has or will have.
    pub fn name(&self) -> String {
        format!("process {} started {}", self.pid, self.start)
    }
}

/// Every process but the kernel's own. One that ends while we look is not there.
pub fn processes() -> Result<Vec<Process>> {
    let numbers = names("/proc")?.into_iter().filter_map(|name| name.parse().ok());
    Ok(numbers.filter_map(process).collect())
}

fn process(pid: i32) -> Option<Process> {
    let read = |file: &str| fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
    let text = |file: &str| String::from_utf8_lossy(&read(file)).into_owned();
    let stat = text("stat");
    let (head, tail) = stat.rsplit_once(')')?;
    let fields: Vec<_> = tail.split_whitespace().collect();
    let flags: u32 = fields.get(6)?.parse().ok()?;
    if flags & KERNEL_THREAD != 0 {
        return None;
    }
    Some(Process {
        pid,
        start: (*fields.get(19)?).to_owned(),
        parent: fields[1].to_owned(),
        comm: head.split_once('(')?.1.to_owned(),
        state: fields[0].to_owned(),
        words: text("cmdline").split('\0').filter(|word| !word.is_empty()).map(str::to_owned).collect(),
        group: text("cgroup")
            .lines()
            .last()
            .and_then(|line| line.splitn(3, ':').nth(2))
            .unwrap_or_default()
            .to_owned(),
        label: text("attr/current").split(" (").next()?.trim().to_owned(),
    })
}

pub struct Mount {
    pub id: String,
    pub at: PathBuf,
    pub kind: String,
}

/// The lines of a mount table.
pub fn mounts(table: &str) -> Vec<Mount> {
    let mount = |line: &str| {
        let fields: Vec<_> = line.split(' ').collect();
        let kind = fields.iter().position(|field| *field == "-").and_then(|at| fields.get(at + 1))?;
        Some(Mount {
            id: fields[0].to_owned(),
            at: unescape(fields.get(4)?).into(),
            kind: (*kind).to_owned(),
        })
    };
    table.lines().filter_map(mount).collect()
}

/// Blanks and the like stand in a mount table as three octal digits after a backslash.
fn unescape(text: &str) -> String {
    let mut parts = text.split('\\');
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        match part.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(code) => plain.extend([char::from(code)].into_iter().chain(part[3..].chars())),
            None => plain.extend(["\\", part]),
        }
    }
    plain
}

/// The paths at which unix sockets are bound, also where the file is gone.
pub fn bound_sockets() -> Result<Vec<String>> {
    let table = fs::read_to_string("/proc/net/unix")?;
    let paths = table.lines().filter_map(|line| line.split_whitespace().nth(7));
    Ok(paths.filter(|path| path.starts_with('/')).map(str::to_owned).collect())
}

/// Loop devices that are in use: (name, the file behind it).
pub fn loops() -> Result<Vec<(String, String)>> {
    let devices = names("/sys/block")?.into_iter().filter(|name| name.starts_with("loop"));
    let behind = |name: String| {
        let file = fs::read_to_string(format!("/sys/block/{name}/loop/backing_file")).ok()?;
        Some((name, file.trim().to_owned()))
    };
    Ok(devices.filter_map(behind).collect())
}

/// What a directory holds; nothing, if it is not there.
pub fn names(dir: impl AsRef<Path>) -> Result<Vec<String>> {
    let Ok(entries) = fs::read_dir(dir) else { return Ok(Vec::new()) };
    entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
}
