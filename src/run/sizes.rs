//! How much lies in the directories of the snap, and what becomes of it: for whoever is about to remove it.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::engine::History;
use crate::linux::child::Child;
use crate::linux::host::Host;
use crate::linux::usage::{Count, Usage, mount_at};
use crate::report::size::{Goes, Holds, Size};
use crate::residue::{self, PathKind, Residue};
use crate::scope::Scope;

/// For all of it. Images are hundreds of thousands of files: counting them may take longer than anybody waits for.
const TIMEOUT: Duration = Duration::from_secs(2);

/// How containerd calls the directories of its snapshotters.
const SNAPSHOTS: &[u8] = b"io.containerd.snapshotter.";

/// docker's own.
const LAYERS: &str = "var-lib-docker/overlay2";

/// Something to count: what it is, what becomes of it, and where.
type Place = (Holds, Goes, PathBuf);

/// How much lies where. What there was no time for has more than was counted.
pub fn of(host: &Host, scope: &Scope, history: &History) -> Vec<Size> {
    let places = places(scope, history);
    let until = Instant::now() + TIMEOUT;
    // In a child: a directory may hold a mount whose server does not answer.
    let child = Child::start(|out| count(host, scope, &places, until, out));
    let output = child.map_or_else(|_| Vec::new(), |child| child.written_until(until + TIMEOUT / 4));
    told(&String::from_utf8_lossy(&output), places)
}

/// What the child has said of each place. It may have been ended, or have ended, before it was through.
fn told(output: &str, places: Vec<Place>) -> Vec<Size> {
    let mut lines = output.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n'));
    let of_line = |(what, goes, path): Place| {
        let mut numbers = lines.next().unwrap_or("0 0 1").split(' ').map_while(|number| number.parse().ok());
        let (bytes, files, more) = (numbers.next()?, numbers.next()?, numbers.next()?);
        Some(Size { what, goes, path, bytes, files, more: more > 0 })
    };
    places.into_iter().filter_map(of_line).collect()
}

/// The directories that the profile gives up, and that are there.
pub fn given_up(history: &History) -> Vec<&Path> {
    let all = history.steps.iter().flat_map(|step| &step.left);
    all.filter_map(|residue| match &**residue {
        Residue::Path(residue::Path { path, what: PathKind::Data }) => Some(&**path),
        _ => None,
    })
    .collect()
}

/// First what cannot be had again, and last of what there is most: when time is up, it is that which was not counted whole.
fn places(scope: &Scope, history: &History) -> Vec<Place> {
    let (roots, common) = (&scope.roots, &scope.snap.common);
    let goes = |path: &Path| match roots.is_own(&scope.snap, path) {
        true => Goes::WithTheSnap,
        false => Goes::Stays,
    };
    let data = given_up(history);
    let mut places: Vec<Place> = Vec::new();
    let mut place = |what, goes, path| places.push((what, goes, path));
    for volumes in &roots.volumes {
        // In a directory that the profile gives up, volumes go with it.
        let goes = match data.iter().any(|data| volumes.starts_with(data)) {
            true => Goes::WithTheRun,
            false => Goes::WithTheSnap,
        };
        place(Holds::Volumes, goes, volumes.clone());
    }
    if let Some(root) = &roots.kubelet {
        place(Holds::EmptyDirs, goes(root), root.join("pods"));
    }
    place(Holds::Other, Goes::WithTheSnap, scope.snap.home.clone());
    let mut stores: Vec<(Goes, &Path)> = Vec::new();
    for path in data {
        match path.starts_with(&roots.root) || roots.root.starts_with(path) {
            true => stores.push((Goes::WithTheRun, path)),
            false if roots.volumes.iter().any(|volumes| volumes == path) => {}
            false => place(Holds::Other, Goes::WithTheRun, path.to_owned()),
        }
    }
    if stores.is_empty() {
        stores.push((goes(&roots.root), &roots.root));
    }
    for what in [Holds::Images, Holds::Snapshots] {
        stores.iter().for_each(|(goes, path)| place(what, *goes, path.to_path_buf()));
    }
    place(Holds::Snapshots, Goes::WithTheSnap, common.join(LAYERS));
    places
}

/// One line for each place: bytes, files, and whether there is more; nothing in it for one that is not there.
fn count(host: &Host, scope: &Scope, places: &[Place], until: Instant, out: &mut fs::File) {
    let snap = &scope.snap;
    // A disk at one of the snap's own directories is emptied with it; one elsewhere is nothing of the snap's.
    let own = [&snap.home, &snap.common, &snap.data].map(|path| mount_at(&host.path(path)));
    let goes_too = |top: &Path, mount: u64| {
        own.contains(&Some(mount)) && fs::canonicalize(top).is_ok_and(|place| place == top)
    };
    let mut count = Count::new(until, HashSet::new());
    // Volumes are counted before other directories are listed: some server may not answer there.
    let (volumes, others) = places.split_at(scope.roots.volumes.len());
    for places in [volumes, others] {
        let mut all: Vec<Vec<PathBuf>> =
            places.iter().map(|(what, _, path)| tops(host, *what, path)).collect();
        // The others of its own directories may be on a disk of their own, where a count of the one above them does not go.
        for (_, tops) in places.iter().zip(&mut all).filter(|((.., path), _)| *path == snap.home) {
            tops.extend([&snap.common, &snap.data].map(|path| host.path(path)));
        }
        count.apart.extend(all.iter().flatten().cloned());
        for ((_, goes, _), tops) in places.iter().zip(&all) {
            let mut usage = None;
            for top in tops {
                let Some(mount) = mount_at(top) else { continue };
                if *goes != Goes::WithTheSnap || goes_too(top, mount) {
                    count.add(top, mount, usage.get_or_insert_default());
                }
            }
            let line = match usage {
                Some(Usage { bytes, files, more }) => format!("{bytes} {files} {}\n", u64::from(more)),
                None => "\n".to_owned(),
            };
            let _ = out.write_all(line.as_bytes());
        }
    }
}

/// The directories that hold it.
fn tops(host: &Host, what: Holds, path: &Path) -> Vec<PathBuf> {
    let is_store = |name: &OsStr| name.as_encoded_bytes().starts_with(SNAPSHOTS);
    let is_snapshots = path.file_name().is_some_and(is_store) || path.ends_with(LAYERS);
    let mut tops = Vec::new();
    let several = what == Holds::EmptyDirs || what == Holds::Snapshots && !is_snapshots;
    if !several && (what != Holds::Images || !is_snapshots) {
        tops.push(host.path(path));
    }
    let names = if several { host.list(path).unwrap_or_default() } else { Vec::new() };
    for name in names {
        match what {
            Holds::EmptyDirs => {
                tops.push(host.path(&path.join(name).join("volumes/kubernetes.io~empty-dir")))
            }
            _ if is_store(&name) => tops.push(host.path(&path.join(name))),
            _ => {}
        }
    }
    tops
}

#[cfg(test)]
mod tests;
