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
        sizes
            .iter()
            .all(|size| !size.more && size.path.starts_with(Path::new("/").join(COMMON).parent().unwrap()))
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
