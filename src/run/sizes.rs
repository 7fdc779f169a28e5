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
mod tests {
    use super::*;
    use crate::fixture::scope_of;

    const COMMON: &str = "var/snap/microk8s/common";

    fn tree() -> (tempfile::TempDir, Host) {
        let dir = tempfile::tempdir().unwrap();
        for (name, bytes) in [
            ("default-storage/claim/data", 50_000),
            ("var/lib/kubelet/pods/u/volumes/kubernetes.io~empty-dir/v/x", 60_000),
            ("var/lib/kubelet/pods/u/etc-hosts", 1000),
            ("var/lib/containerd/io.containerd.content.v1.content/blob", 70_000),
            ("var/lib/containerd/io.containerd.snapshotter.v1.overlayfs/snapshots/1/fs/x", 80_000),
            ("run/containerd/x", 90_000),
        ] {
            let file = dir.path().join(COMMON).join(name);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, vec![1; bytes]).unwrap();
        }
        let host = Host::at(dir.path());
        (dir, host)
    }

    #[test]
    fn each_kind_is_counted_by_itself_and_nothing_twice() {
        let (_dir, host) = tree();
        let scope = scope_of(&[]);
        let data = |path: &PathBuf| Residue::path(path.clone(), PathKind::Data);
        let mut history = History { steps: vec![Default::default()], ..History::default() };
        history.steps[0].left = scope.roots.data.iter().map(data).map(Into::into).collect();
        let sizes = of(&host, &scope, &history);
        let told: Vec<(Holds, Goes, u64, u64)> =
            sizes.iter().map(|s| (s.what, s.goes, s.bytes / 10_000, s.files)).collect();
        let (run, snap) = (Goes::WithTheRun, Goes::WithTheSnap);
        assert!(
            sizes.iter().all(
                |size| !size.more && size.path.starts_with(Path::new("/").join(COMMON).parent().unwrap())
            )
        );
        // What else there is are directories and one small file.
        let other = told[2];
        assert_eq!(
            [told[0].0, told[1].0, other.0, told[3].0, told[4].0, told[5].0],
            [Holds::Volumes, Holds::EmptyDirs, Holds::Other, Holds::Other, Holds::Images, Holds::Snapshots]
        );
        assert_eq!(told.iter().map(|t| t.1).collect::<Vec<_>>(), [snap, snap, snap, run, run, run]);
        assert_eq!(told.iter().map(|t| t.3).collect::<Vec<_>>(), [1, 1, 1, 1, 1, 1]);
        let at_least = [5, 6, 0, 9, 7, 8];
        assert!(told.iter().zip(at_least).all(|(t, least)| (least..least + 6).contains(&t.2)), "{told:?}");
    }

    #[test]
    fn what_the_child_did_not_come_to_is_told_as_not_counted() {
        let place = |name: &str| (Holds::Other, Goes::WithTheSnap, PathBuf::from(name));
        let sizes = told("10 2 0\n\n20 1 ", vec![place("/a"), place("/gone"), place("/b"), place("/c")]);
        let numbers: Vec<(u64, bool)> = sizes.iter().map(|size| (size.bytes, size.more)).collect();
        assert_eq!(numbers, [(10, false), (0, true), (0, true)]);
    }

    #[test]
    fn behind_a_link_nothing_goes_with_the_snap() {
        let (dir, host) = tree();
        let (common, elsewhere) = (dir.path().join(COMMON), dir.path().join("elsewhere"));
        fs::rename(&common, &elsewhere).unwrap();
        std::os::unix::fs::symlink(&elsewhere, &common).unwrap();
        let sizes = of(&host, &scope_of(&[]), &History::default());
        assert!(sizes.iter().all(|size| size.goes != Goes::WithTheSnap || size.bytes < 10_000), "{sizes:?}");
    }

    #[test]
    fn volumes_are_where_the_profile_says_and_go_with_what_it_gives_up() {
        let (_dir, host) = tree();
        let mut scope = scope_of(&[]);
        scope.roots.volumes = vec![scope.snap.common.join("run")];
        let told = |history: &History| {
            let sizes = of(&host, &scope, history);
            let volumes = sizes.iter().filter(|size| size.what == Holds::Volumes);
            volumes.map(|size| (size.goes, size.bytes / 10_000)).collect::<Vec<_>>()
        };
        assert_eq!(told(&History::default()), [(Goes::WithTheSnap, 9)]);
        let data = Residue::path(scope.snap.common.join("run"), PathKind::Data);
        let mut history = History { steps: vec![Default::default()], ..History::default() };
        history.steps[0].left.push(data.into());
        assert_eq!(told(&history), [(Goes::WithTheRun, 9)]);
        let all = of(&host, &scope, &history);
        assert_eq!(all.iter().filter(|size| size.goes == Goes::WithTheRun).count(), 1, "{all:?}");
    }

    #[test]
    fn what_does_not_go_with_the_snap_stays() {
        let (_dir, host) = tree();
        let mut scope = scope_of(&[]);
        scope.roots.root = "/srv/lib".into();
        fs::create_dir_all(host.path(Path::new("/srv/lib/io.containerd.content.v1.content"))).unwrap();
        let sizes = of(&host, &scope, &History::default());
        let store: Vec<Goes> = sizes.iter().filter(|s| s.what == Holds::Images).map(|s| s.goes).collect();
        assert_eq!(store, [Goes::Stays]);
    }
}
