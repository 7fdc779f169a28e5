//! What on the host comes from the snap's files, or holds them, and is of none of the kinds that the plan ends: namespaces that
//! somebody has bound, programs that run, what the kernel serves to others, interpreters. It is told, and not touched.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use crate::error::Blind;
use crate::linux::identity::is_same_file;
use crate::linux::proc::Proc;
use crate::reason::Reason;
use crate::scope::{Scope, pinned};
use crate::steps::{apps, skeleton, wide};
use crate::text::{escape, show, unescape};
use crate::view::View;

/// The disks that the kernel serves by iSCSI and its like, and by NVMe.
const TARGETS: [&str; 2] = ["/sys/kernel/config/target/core", "/sys/kernel/config/nvmet/subsystems"];

/// The directories that the kernel's NFS server holds.
const EXPORTS: &str = "/proc/fs/nfsd/exports";

/// Programs that the kernel starts for files of other kinds.
const INTERPRETERS: &str = "/proc/sys/fs/binfmt_misc";

pub fn find(view: &View, scope: &Scope) -> Vec<Blind> {
    let mut found = namespaces(view, scope);
    found.extend(programs(view, scope));
    found.extend(targets(view, scope));
    found.extend(exports(view, scope));
    found.extend(interpreters(view, scope));
    found
}

fn namespaces(view: &View, scope: &Scope) -> Vec<Blind> {
    let mounts = view.own_mounts().as_ref().ok().into_iter().flat_map(|table| &table.mounts);
    let ours = mounts.filter(|m| pinned::kind(m).is_some() && scope.pinned.contains(m.root()));
    let told = |at: &Path| {
        let (what, command) =
            (format!("the namespace bound at {}", show(at)), format!("umount {}", show(at)));
        Blind::new(what, (Reason::Busy, format!("a container of this snap was in it; '{command}' ends it")))
    };
    ours.map(|m| told(m.point())).collect()
}

/// Processes of others whose program is a file of the snap's. The file says so, and not its name, which may be one of a guest's.
fn programs(view: &View, scope: &Scope) -> Vec<Blind> {
    let Ok(processes) = view.processes() else { return Vec::new() };
    let us = apps::ourselves_and_above(view, processes);
    let own = std::process::id();
    let is_of_us = |p: &Proc| us.contains(&p.id.pid) || p.parent.unsigned_abs() == own;
    // What another's shim has started is a container's: if that has a file of ours, the last look tells of the mount.
    let is_anothers_shim =
        |p: &Proc| processes.is_shim(p.id.pid) && scope.shims.iter().all(|own| own.process.pid != p.id.pid);
    let is_contained = |p: &Proc| processes.up_from(Some(p)).any(is_anothers_shim);
    let may_be = |p: &&Proc| !p.kernel && p.alive() && !is_of_us(p) && !processes.is_shim(p.id.pid);
    let others = processes.iter().filter(may_be).filter(|p| !is_contained(p));
    let told = |process: &Proc| {
        let pid = process.id.pid;
        let exe = PathBuf::from(format!("/proc/{pid}/exe"));
        let path = view.host.link(&exe).ok().filter(|path| scope.snap.owns_on_host(path))?;
        // In mounts of its own it may have any path, and there a server that never answers.
        if wide::is_ours(view, scope, pid) || !is_same_file(view.host, &exe, &path) {
            return None;
        }
        let what = format!("process {pid} ({})", escape(process.comm.as_bytes()));
        let why =
            format!("it runs {}, and is in no group of this snap; look, then 'kill {pid}'", show(&path));
        Some(Blind::new(what, (Reason::Unproven, why)))
    };
    others.filter_map(told).collect()
}

fn targets(view: &View, scope: &Scope) -> Vec<Blind> {
    let list = |path: &Path| {
        let names = view.host.list(path).unwrap_or_default();
        names.into_iter().map(|name| path.join(name)).collect::<Vec<_>>()
    };
    let mut found = Vec::new();
    for all in TARGETS.map(Path::new) {
        for at in list(all).iter().flat_map(|one| list(one).into_iter().chain(list(&one.join("namespaces"))))
        {
            let file = match view.host.read(&at.join("device_path")) {
                Ok(path) => path,
                Err(_) => file_in(&view.host.read(&at.join("info")).unwrap_or_default()).to_vec(),
            };
            let file = PathBuf::from(OsString::from_vec(file.trim_ascii().to_vec()));
            if is_ours(scope, &file) {
                let why =
                    format!("the kernel serves {} to others and holds it; look, then end it", show(&file));
                found.push(Blind::new(format!("the target {}", show(&at)), (Reason::Busy, why)));
            }
        }
    }
    found
}

/// `TCM FILEIO ID: 0        File: /path  Size: 8  Mode: …`
fn file_in(info: &[u8]) -> &[u8] {
    let find = |text: &[u8], word: &[u8]| text.windows(word.len()).position(|part| part == word);
    let rest = find(info, b" File: ").and_then(|at| info.get(at + 7..)).unwrap_or_default();
    find(rest, b"  Size: ").and_then(|end| rest.get(..end)).unwrap_or_default()
}

fn exports(view: &View, scope: &Scope) -> Vec<Blind> {
    let list = view.host.read(Path::new(EXPORTS)).unwrap_or_default();
    let paths =
        list.split(|b| *b == b'\n').filter_map(|line| unescape(line.split(u8::is_ascii_whitespace).next()?));
    let ours = paths.map(|path| PathBuf::from(OsString::from_vec(path))).filter(|path| is_ours(scope, path));
    let told = |path: PathBuf| {
        let path = show(&path);
        let why = "the kernel's NFS server holds it; take it out of /etc/exports, then 'exportfs -ra'";
        Blind::new(format!("the export of {path}"), (Reason::Busy, why))
    };
    ours.map(told).collect()
}

/// Interpreters that the kernel keeps open (`F`) and that this machine does not have: a container has registered them with files of
/// its own, and keeps these so.
fn interpreters(view: &View, scope: &Scope) -> Vec<Blind> {
    let mut ours = scope.containers.iter().filter(|c| c.privileged && scope.counts_as_ours(c));
    if ours.next().is_none() {
        return Vec::new();
    }
    let all = Path::new(INTERPRETERS);
    let entries = view.host.list(all).unwrap_or_default().into_iter().map(|name| all.join(name));
    let is_theirs = |at: &PathBuf| {
        let text = view.host.read(at).unwrap_or_default();
        let line = |key: &[u8]| text.split(|b| *b == b'\n').find_map(|line| line.strip_prefix(key));
        let stays = line(b"flags: ").is_some_and(|flags| flags.contains(&b'F'));
        let program = line(b"interpreter ").map(|path| Path::new(std::ffi::OsStr::from_bytes(path)));
        stays && program.is_some_and(|program| view.host.exists(program).is_ok_and(|there| !there))
    };
    let told = |at: PathBuf| {
        let at = show(&at);
        let why = format!(
            "its program is not on this machine: a container has registered it, and may be one of this snap; look, then \
             'echo -1 > {at}'"
        );
        Blind::new(format!("the interpreter {at}"), (Reason::Unproven, why))
    };
    let is_younger = |at: &PathBuf| scope.snap.is_younger_than(view.host, at);
    let found: Vec<PathBuf> = entries.filter(is_theirs).filter(|at| !is_younger(at)).collect();
    if found.is_empty() || skeleton::others_run(view, scope) {
        return Vec::new();
    }
    found.into_iter().map(told).collect()
}

fn is_ours(scope: &Scope, path: &Path) -> bool {
    scope.snap.owns_on_host(path) || scope.roots.is_own(&scope.snap, path)
}

#[cfg(test)]
mod tests;
