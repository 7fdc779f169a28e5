use super::*;
use rustix::fs::mkdirat;
use std::fs;
use std::os::unix::fs::symlink;

fn delete(path: &Path) -> Deleted {
    delete_in(&Parent::default(), path)
}

#[test]
fn deletes_all_and_follows_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().canonicalize().unwrap();
    let (doomed, kept) = (dir.join("doomed"), dir.join("kept"));
    fs::create_dir_all(doomed.join("a/b/c")).unwrap();
    fs::create_dir(&kept).unwrap();
    fs::write(kept.join("f"), "x").unwrap();
    fs::write(doomed.join("a/f"), "x").unwrap();
    symlink(&kept, doomed.join("a/link")).unwrap();
    let deleted = delete(&doomed);
    assert!(deleted.failures.is_empty(), "{deleted:?}");
    assert_eq!(deleted.entries, 6);
    assert!(!doomed.exists() && kept.join("f").exists());
    assert!(delete(&doomed).failures.is_empty(), "already gone is done");
}

#[test]
fn a_symlink_on_the_way_is_refused_and_one_at_the_end_is_only_unlinked() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().canonicalize().unwrap();
    fs::create_dir_all(dir.join("kept/x")).unwrap();
    symlink("kept", dir.join("link")).unwrap();
    assert!(!delete(&dir.join("link/x")).failures.is_empty());
    assert!(delete(&dir.join("link")).failures.is_empty());
    assert!(dir.join("kept/x").exists() && !dir.join("link").exists());
}

#[test]
fn many_entries() {
    let dir = tempfile::tempdir().unwrap();
    let doomed = dir.path().canonicalize().unwrap().join("d");
    fs::create_dir(&doomed).unwrap();
    (0..3000).for_each(|n| fs::write(doomed.join(n.to_string()), "").unwrap());
    assert_eq!(delete(&doomed).entries, 3001);
}

#[test]
fn no_more_than_was_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let doomed = dir.path().canonicalize().unwrap().join("d");
    fs::create_dir_all(doomed.join("a/b")).unwrap();
    (0..300).for_each(|n| fs::write(doomed.join("a").join(n.to_string()), "").unwrap());
    let some = delete_some_in(&Parent::default(), &doomed, 100);
    assert!(some.cut && some.entries == 100 && doomed.exists(), "{some:?}");
    let rest = delete_some_in(&Parent::default(), &doomed, 203);
    assert!(!rest.cut && rest.failed == 0 && !doomed.exists(), "{rest:?}");
}

#[test]
fn a_wrong_guess_costs_calls_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().canonicalize().unwrap();
    let parent = Parent::default();
    let full = |name: &str| {
        fs::create_dir_all(dir.join(name).join("sub/full")).unwrap();
        fs::write(dir.join(name).join("sub/full/f"), "").unwrap();
    };
    let empty = |name: &str| fs::create_dir_all(dir.join(name)).unwrap();
    // The same shapes, full and empty by turns; and other things by such names.
    for n in 0..4 {
        [format!("full{n}"), format!("none{n}"), format!("half{n}/sub")].iter().for_each(|d| empty(d));
        full(&format!("full{n}"));
        fs::write(dir.join(format!("file{n}")), "").unwrap();
        symlink(&dir, dir.join(format!("link{n}"))).unwrap();
        for name in ["full", "full", "none", "half", "file", "full", "link", "none"] {
            let deleted = delete_in(&parent, &dir.join(format!("{name}{n}")));
            assert!(deleted.failed == 0, "{name}{n}: {deleted:?}");
        }
    }
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 0);
}

#[test]
fn the_parents_mount_is_asked_again_when_the_parent_is_another() {
    let parent = Parent::default();
    let mount = |path: &str| {
        let open = parent.open(Path::new(path)).unwrap();
        (parent.mount_of(&open).unwrap(), mount_id(&open).unwrap())
    };
    for path in ["/proc", "/", "/proc/self/nowhere", "/proc/sys", "/dev", "/proc"] {
        if parent.open(Path::new(path)).is_ok() {
            let (known, its) = mount(path);
            assert_eq!(known, its, "{path}");
        }
    }
    assert_ne!(mount("/proc").0, mount("/").0);
    // One that cannot be opened leaves the one above it as the last.
    mount("/proc");
    assert!(parent.open(Path::new("/nowhere/x")).is_err());
    assert_eq!(mount("/").0, mount("/").1);
}

/// Makes so many directories one in another, with a file and two more in each hundredth.
fn nest(top: &Path, depth: usize) {
    let open = |at: &OwnedFd, name: &str| openat(at, name, OFlags::DIRECTORY, Mode::empty()).unwrap();
    let mut here = openat(CWD, top, OFlags::DIRECTORY, Mode::empty()).unwrap();
    for n in 0..depth {
        let names = if n % 100 == 99 { &["side", "side/full", "deep"][..] } else { &["deep"] };
        names.iter().for_each(|name| mkdirat(&here, *name, Mode::RWXU).unwrap());
        if n % 100 == 99 {
            drop(openat(&here, "file", OFlags::CREATE | OFlags::WRONLY, Mode::RUSR).unwrap());
        }
        here = open(&here, "deep");
    }
}

#[test]
fn however_deep() {
    for depth in [63, 64, 65, 66, 600, 100_000] {
        let dir = tempfile::tempdir_in("/dev/shm").unwrap();
        let doomed = dir.path().canonicalize().unwrap().join("doomed");
        fs::create_dir(&doomed).unwrap();
        nest(&doomed, depth);
        let deleted = delete(&doomed);
        assert!(deleted.failed == 0 && !doomed.exists(), "{depth}: {deleted:?}");
        assert_eq!(deleted.entries, (1 + depth + 3 * (depth / 100)) as u64);
    }
}
