//! The fuzz targets' corpus, as it is and changed in many small ways, through a plain test: no nightly compiler needed.

#![allow(clippy::unwrap_used)] // of the test's own files

#[path = "torture/dice.rs"]
mod dice;
#[path = "fuzz/targets.rs"]
mod targets;

use std::fs;
use std::path::{Path, PathBuf};

use dice::Dice;
use snap_teardown::testing::{Profile, Snap, mountinfo};

/// So many changes of each file; the one target that needs a socket for each gets fewer.
fn changes(target: &str) -> u64 {
    match target {
        "ttrpc" => 20,
        "bootstrap" => 200,
        _ => 3000,
    }
}

#[test]
fn no_file_of_the_corpus_and_no_change_of_one_breaks_a_parser() {
    let mut inputs = 0;
    for (name, target) in targets::ALL {
        let files = corpus(name);
        assert!(files.len() >= 5, "{name}: {} files", files.len());
        for file in files {
            let bytes = fs::read(&file).unwrap();
            target(&bytes);
            let mut dice = Dice::new(bytes.len() as u64);
            for _ in 0..changes(name) {
                let changed = change(&bytes, &mut dice);
                let run = std::panic::AssertUnwindSafe(|| target(&changed));
                if let Err(panic) = std::panic::catch_unwind(run) {
                    eprintln!("{}, changed: {}", file.display(), changed.escape_ascii());
                    std::panic::resume_unwind(panic);
                }
                inputs += 1;
            }
        }
    }
    println!("{inputs} inputs");
}

fn corpus(name: &str) -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(name);
    let mut files: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

fn change(bytes: &[u8], dice: &mut Dice) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let words: [&[u8]; 12] = [
        b"..",
        b"/",
        b"\0",
        b"\n",
        b"\\040",
        b"\xff",
        b"-1",
        b"{",
        b"\"",
        b"99999999999999999999",
        b" - ",
        b"/../",
    ];
    for _ in 0..1 + dice.below(3) {
        let at = dice.below(bytes.len() as u64 + 1) as usize;
        match dice.below(5) {
            0 => bytes.truncate(at),
            1 if at < bytes.len() => bytes[at] = dice.next() as u8,
            2 if at < bytes.len() => drop(bytes.remove(at)),
            3 => {
                let end = (at + dice.below(40) as usize).min(bytes.len());
                let part = bytes[at.min(end)..end].to_vec();
                bytes.splice(at..at, part);
            }
            _ => {
                let word = *dice.one_of(&words);
                bytes.splice(at..at, word.iter().copied());
            }
        }
    }
    bytes
}

#[test]
fn no_profile_makes_anything_but_the_snaps_own_removable() {
    let bad = [
        "/",
        "/etc",
        "/home",
        "/home/user",
        "/root",
        "/var",
        "/var/snap",
        "/var/snap/other/common/x",
        "/var/snap/microk8s",
        "$SNAP_COMMON",
        "$SNAP_DATA",
        "$SNAP_COMMON/",
        "$SNAP_COMMON/.",
        "$SNAP_COMMON/..",
        "$SNAP_COMMON/../../other/common/x",
        "$SNAP_COMMON/x/../..",
        "$SNAP_COMMON/x/../../..",
        "$SNAP_COMMON2/x",
        "$SNAP",
        "$SNAP/x",
        "$HOME",
        "$SNAP_USER_COMMON/x",
        "~",
        "x",
        "",
        ".",
        "..",
        "//",
        "//etc",
        "/var/snap/microk8s/common",
        "/var/snap/microk8s/common2/x",
        "/var/snap/microk8s_two/common/x",
        "/run/containerd",
        "/var/lib/kubelet",
        "$SNAP_COMMON/a\u{0}b",
        "$SNAP_COMMON//",
        "/proc",
        "/sys/fs/cgroup",
        "/dev",
    ];
    for path in bad {
        for key in ["data", "mounts"] {
            let mut profile = microk8s();
            profile[key] = serde_json::json!([path]);
            refused(&profile, path);
        }
        // Nothing is kubelet's for lying in a directory that runtimes share, so a profile may name that.
        if !["/run/containerd", "/var/lib/kubelet"].contains(&path) {
            let mut profile = microk8s();
            profile["kubelet"]["root"] = path.into();
            refused(&profile, path);
        }
        let mut profile = microk8s();
        profile["hooks"] = path.into();
        refused(&profile, path);
    }
    for path in ["/etc/passwd", "/var/lib/kubelet/x", "/etc/cni", "$SNAP_COMMON/x", "/"] {
        let mut profile = microk8s();
        profile["host-symlinks"] = serde_json::json!([path]);
        refused(&profile, path);
    }
}

#[test]
fn random_paths_in_profiles_stay_within_the_snap() {
    let parts = [
        "..",
        ".",
        "",
        "etc",
        "var",
        "snap",
        "common",
        "microk8s",
        "other",
        "x",
        "$SNAP_COMMON",
        "$SNAP_DATA",
        "$SNAP",
        "$HOME",
        "current",
        "x1",
    ];
    let mut dice = Dice::new(5);
    let mut taken = 0;
    for _ in 0..20_000 {
        let mut path = String::from(*dice.one_of::<&str>(&[
            "/",
            "",
            "$SNAP_COMMON/",
            "$SNAP_DATA/",
            "/var/snap/microk8s/",
        ]));
        for _ in 0..1 + dice.below(5) {
            path.push_str(dice.one_of::<&str>(&parts));
            path.push('/');
        }
        if dice.percent(80) {
            path.pop();
        }
        let mut profile = microk8s();
        profile["data"] = serde_json::json!([path]);
        profile["mounts"] = serde_json::json!([path]);
        let Ok(profile) = Profile::parse(profile.to_string().as_bytes(), "a test") else { continue };
        let snap = Snap::stand_in("microk8s");
        if let Ok(roots) = profile.resolve(&snap) {
            targets::check_roots(&roots, &snap);
            taken += 1;
        }
    }
    // A check that refuses all would pass as well.
    assert!(taken > 1000, "{taken} paths were taken");
}

#[test]
fn whatever_a_mount_point_is_called_the_table_gives_it_back() {
    let mut dice = Dice::new(6);
    for _ in 0..5000 {
        let name: Vec<u8> =
            (0..1 + dice.below(20)).map(|_| dice.next() as u8).filter(|b| !matches!(b, 0 | b'/')).collect();
        let mut point = b"/r/".to_vec();
        point.extend(&name);
        let mut line = b"7 1 0:1 / ".to_vec();
        for byte in &point {
            // As the kernel does it (seq_path, " \t\n\\").
            match byte {
                b' ' | b'\t' | b'\n' | b'\\' => line.extend(format!("\\{byte:03o}").bytes()),
                _ => line.push(*byte),
            }
        }
        line.extend(b" rw - tmpfs t rw\n");
        let table = mountinfo::parse(&line);
        assert_eq!(table.mounts.len(), 1, "{}", line.escape_ascii());
        use std::os::unix::ffi::OsStrExt;
        assert_eq!(table.mounts[0].point().as_os_str().as_bytes(), point);
    }
}

fn microk8s() -> serde_json::Value {
    serde_json::from_str(include_str!("../src/snap/profile/microk8s.json")).unwrap()
}

fn refused(profile: &serde_json::Value, path: &str) {
    let parsed = Profile::parse(profile.to_string().as_bytes(), "a test");
    let resolved = parsed.and_then(|profile| profile.resolve(&Snap::stand_in("microk8s")));
    assert!(resolved.is_err(), "taken: {path:?} in {profile}");
}
