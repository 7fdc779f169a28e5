//! What a shim that was killed long ago and a program that `ctr` ran in a container have left in directories that runtimes share,
//! and of which no container that is known tells: sockets at which nobody listens, streams that nobody has open.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use crate::error::Blind;
use crate::linux::sockets;
use crate::reason::Reason;
use crate::residue::finding::Finding;
use crate::residue::{PathKind, Residue};
use crate::runtime::streams::container_of;
use crate::scope::Scope;
use crate::steps::skeleton;
use crate::text::show;
use crate::view::View;

/// So many are named.
const MOST_NAMED: usize = 4;

/// Adds those that the steps before have not found. Where another runtime runs they may be its; what was there before the snap was
/// is not of it.
pub fn find(view: &View, scope: &Scope, finding: &mut Finding) {
    if !scope.has_run() || !view.host.is_live() {
        return;
    }
    let going = finding.residues.iter().filter_map(|residue| match residue {
        Residue::Path(it) => Some(it.path.as_os_str()),
        _ => None,
    });
    let going: HashSet<&OsStr> = going.collect();
    let of_living: HashSet<&Path> = scope.shims.iter().filter_map(|shim| shim.socket.as_deref()).collect();
    let unknown = |directory: &Path| -> Vec<PathBuf> {
        let names = view.host.list(directory).unwrap_or_default();
        let all = names.into_iter().map(|name| directory.join(name));
        all.filter(|path| !going.contains(path.as_os_str()) && !of_living.contains(path.as_path())).collect()
    };
    let mut sockets = unknown(&scope.roots.shim_sockets);
    sockets.retain(|path| is_shims(view, path));
    let mut streams = unknown(&scope.roots.fifos);
    streams.retain(|path| are_streams(view, path));
    if sockets.is_empty() && streams.is_empty() || skeleton::others_run(view, scope) {
        return;
    }
    for all in [&mut sockets, &mut streams] {
        all.retain(|path| !scope.snap.is_younger_than(view.host, path));
    }
    let (dead, answering): (Vec<_>, Vec<_>) = sockets.into_iter().partition(|path| sockets::is_dead(path));
    let open = (!streams.is_empty()).then(|| open_streams(view, &scope.roots.fifos));
    let (closed, used): (Vec<_>, Vec<_>) = streams
        .into_iter()
        .partition(|path| matches!(&open, Some(Some(open)) if !open.contains(path.as_path())));
    let residues = dead.into_iter().map(|path| Residue::path(path, PathKind::ShimSocket));
    finding
        .residues
        .extend(residues.chain(closed.into_iter().map(|path| Residue::path(path, PathKind::Fifo))));
    finding.blind.extend(told(
        &answering,
        "sockets of shims",
        "somebody may listen there, and no shim is seen",
    ));
    finding.blind.extend(told(
        &used,
        "streams of containers",
        "somebody has them open, or that cannot be seen",
    ));
}

/// containerd calls a shim's socket by a hash of its name (`pkg/shim/util_unix.go`, `SocketAddress`).
fn is_shims(view: &View, path: &Path) -> bool {
    let is_hash =
        |name: &str| name.len() == 64 && name.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    path.file_name().and_then(OsStr::to_str).is_some_and(is_hash)
        && view.host.stat(path).is_ok_and(|it| it.file_type().is_socket())
}

fn are_streams(view: &View, directory: &Path) -> bool {
    let is_stream = |name: &std::ffi::OsString| {
        let is_fifo = || view.host.stat(&directory.join(name)).is_ok_and(|it| it.file_type().is_fifo());
        container_of(name).is_some() && is_fifo()
    };
    view.host.list(directory).is_ok_and(|names| !names.is_empty() && names.iter().all(is_stream))
}

/// The directories of streams in which somebody has one open; nothing where a process cannot be asked.
fn open_streams(view: &View, fifos: &Path) -> Option<HashSet<PathBuf>> {
    let mut found = HashSet::new();
    for process in view.processes().as_ref().ok()?.iter().filter(|p| p.alive() && !p.kernel) {
        let open = PathBuf::from(format!("/proc/{}/fd", process.id.pid));
        let names = match view.host.list(&open) {
            Ok(names) => names,
            Err(e) if e.is_gone() => continue,
            Err(_) => return None,
        };
        for name in names {
            let Ok(file) = view.host.link(&open.join(name)) else { continue };
            found.extend(file.parent().filter(|d| d.parent() == Some(fifos)).map(Path::to_path_buf));
        }
    }
    Some(found)
}

fn told(paths: &[PathBuf], what: &str, why: &str) -> Option<Blind> {
    let named: Vec<_> = paths.iter().take(MOST_NAMED).map(|path| show(path)).collect();
    let more = match paths.len().saturating_sub(MOST_NAMED) {
        0 => String::new(),
        n => format!(" and {n} more"),
    };
    (!paths.is_empty())
        .then(|| Blind::new(format!("{what}: {}{more}", named.join(", ")), (Reason::Unproven, why)))
}
