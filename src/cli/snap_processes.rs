//! What the processes of a running snap tell of where they work: their arguments, their configuration, their mounts.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::linux::child::{ChildEnd, in_child};
use crate::linux::host::Host;
use crate::linux::mountinfo;
use crate::order;
use crate::runtime::bundle::ALL_TASKS;
use crate::runtime::told::{option, words};
use crate::snap::Snap;
use crate::text;
use crate::view::View;

/// A process of the snap: its service and its arguments.
pub struct SnapProcess {
    pub pid: i32,
    pub service: Option<String>,
    pub arguments: Vec<String>,
}

pub fn processes(view: &View, snap: &Snap) -> Vec<SnapProcess> {
    let Ok(all) = view.processes() else { return Vec::new() };
    let mut pids: Vec<i32> = all.iter().map(|p| p.id.pid).collect();
    pids.retain(|pid| view.unit_of(*pid) == Some(snap.instance.as_str()));
    order::sort(&mut pids);
    let read = |pid: i32| {
        let bytes = command_line(view.host, pid)?;
        let arguments = bytes.split(|b| *b == 0).map(|a| String::from_utf8_lossy(a).into_owned()).collect();
        Some(SnapProcess { pid, service: service(&view.membership(pid), snap), arguments })
    };
    pids.into_iter().filter_map(read).collect()
}

/// It lies in the process's own memory, and may never come: read in a child.
fn command_line(host: &Host, pid: i32) -> Option<Vec<u8>> {
    let read = in_child(Instant::now() + Duration::from_secs(1), |out| {
        let bytes = host.read(&PathBuf::from(format!("/proc/{pid}/cmdline")));
        let _ = out.write_all(&bytes.unwrap_or_default());
    });
    match read {
        Ok(ChildEnd::Finished(bytes)) if !bytes.is_empty() => Some(bytes),
        _ => None,
    }
}

/// `daemon` of a group `…/snap.NAME.daemon.service`.
fn service(groups: &[PathBuf], snap: &Snap) -> Option<String> {
    let before = format!("snap.{}.", snap.instance);
    groups
        .iter()
        .flat_map(|g| g.iter())
        .find_map(|part| Some(part.to_str()?.strip_prefix(&before)?.strip_suffix(".service")?.to_owned()))
}

pub fn program(seen: &SnapProcess) -> &str {
    let first = seen.arguments.first().map_or("", String::as_str);
    first.rsplit('/').next().unwrap_or(first)
}

/// The `ctr` that lies beside the snap's containerd.
pub fn ctr(host: &Host, daemon: Option<&SnapProcess>, snap: &Snap) -> Option<String> {
    let file = Path::new(daemon?.arguments.first()?).parent()?.join("ctr");
    let there = host.exists(&file).unwrap_or(false);
    let below = file.strip_prefix(&snap.dir).ok().filter(|_| there)?;
    Some(format!("$SNAP/{}", below.to_str()?))
}

/// The address and the state directory that the snap's shims know.
pub fn shims(view: &View, snap: &Snap) -> (Option<String>, Option<String>) {
    let Ok(all) = view.processes() else { return (None, None) };
    let homes = [snap.home.clone(), snap.inside().home];
    let shims = || all.iter().filter_map(|p| Some((p.id.pid, all.shim(p.id.pid)?)));
    // Its unit is a better proof than its address, which a guest's shims share.
    let in_unit = shims().find(|(pid, _)| view.unit_of(*pid) == Some(snap.instance.as_str()));
    let by_address = || shims().find(|(_, shim)| homes.iter().any(|home| shim.address.starts_with(home)));
    let shim = in_unit.or_else(by_address);
    let Some((pid, shim)) = shim else { return (None, None) };
    let bundle = std::fs::read_link(view.host.path(&PathBuf::from(format!("/proc/{pid}/cwd")))).ok();
    let bundle = bundle.as_ref().and_then(|bundle| bundle.to_str());
    let mut below = ALL_TASKS.iter().map(|tasks| format!("/{tasks}/"));
    let state = bundle.and_then(|b| below.find_map(|below| Some(b.split_once(&below)?.0.to_owned())));
    (Some(text::show(&shim.address).into_owned()), state)
}

/// One string of a TOML file: enough for containerd's, whose keys of interest stand one to a line.
pub fn toml(config: &str, section: &str, key: &str) -> Option<String> {
    let mut within = String::new();
    config.lines().map(str::trim).find_map(|line| {
        if let Some(name) = line.strip_prefix('[') {
            within = name.trim_end_matches(']').trim().to_owned();
            return None;
        }
        let value = line.strip_prefix(key)?.trim_start().strip_prefix('=')?.trim();
        let quote = value.chars().next().filter(|c| matches!(c, '"' | '\''))?;
        let value = value[1..].split(quote).next()?;
        (within == section && !value.is_empty()).then(|| value.to_owned())
    })
}

/// `--root-dir` in a file of arguments, as MicroK8s keeps them (`--kubelet-args-file=FILE`).
pub fn root_dir_in(host: &Host, snap: &Snap, argument: &str) -> Option<String> {
    let (name, file) = argument.split_once('=')?;
    if !name.ends_with("-args-file") {
        return None;
    }
    option(&words(host, snap, Path::new(file)), &["--root-dir"])
}

/// The directory below which pods' volumes are mounted.
pub fn root_of_mounts(host: &Host, snap: &Snap, pid: i32) -> Option<String> {
    let table = mountinfo::parse(&host.read(&PathBuf::from(format!("/proc/{pid}/mountinfo"))).ok()?);
    table.mounts.iter().filter(|m| m.point().starts_with(&snap.home)).find_map(|m| {
        let (root, below) = m.point().to_str()?.split_once("/pods/")?;
        below.contains("/volumes/").then(|| root.to_owned())
    })
}
