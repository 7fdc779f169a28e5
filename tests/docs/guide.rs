//! The packager's guide does what it says.

use super::*;

/// Every line of the guide can be applied to a snap, and there are as few of them as it says.
#[test]
fn the_guide_needs_no_more_lines_than_it_says() {
    let guide = std::fs::read_to_string(root().join("snap/local/README.md")).unwrap();
    for title in ["MicroK8s, from its hook of today", "Any snap with containerd"] {
        let lines = guide_tool(&["lines", title]).lines().count();
        assert!((1..=15).contains(&lines), "{title}: {lines} lines");
        let entry = format!("* [{title}](#{}): {lines} lines\n", anchor_of(title));
        assert!(guide.contains(&entry), "the guide does not begin with: {entry}");
    }
}

/// The source is the file that a release of this version has, and only with its checksum.
#[test]
fn the_guide_takes_the_release_and_nothing_else() {
    let scratch = tempfile::tempdir().unwrap();
    let package = concat!(env!("CARGO_PKG_NAME"), "-", env!("CARGO_PKG_VERSION"));
    let script = format!(
        "mkdir -p {package}/src release; echo a > {package}/src/lib.rs; tar czf release/{package}.tar.gz {package}; \
         cd release; sha256sum {package}.tar.gz > SHA256SUMS"
    );
    let made = Command::new("bash").args(["-euc", &script]).current_dir(scratch.path()).status().unwrap();
    assert!(made.success());
    let (release, to) = (scratch.path().join("release"), scratch.path().join("to"));
    for title in ["MicroK8s, from its hook of today", "Any snap with containerd"] {
        guide_tool(&["source", title, release.to_str().unwrap(), to.to_str().unwrap()]);
        assert_eq!(std::fs::read_to_string(to.join("src/lib.rs")).unwrap(), "a\n");
        std::fs::remove_dir_all(&to).unwrap();
    }

    std::fs::write(release.join(format!("{package}.tar.gz")), "another").unwrap();
    let tool = root().join("tests/spread/lib/tools/guide");
    let arguments = ["source", "Any snap with containerd", release.to_str().unwrap(), to.to_str().unwrap()];
    let output = Command::new("/usr/bin/python3").arg(tool).args(arguments).output().unwrap();
    assert!(!output.status.success() && !to.exists(), "another file was taken");
}

fn guide_tool(arguments: &[&str]) -> String {
    let tool = root().join("tests/spread/lib/tools/guide");
    let output = Command::new("/usr/bin/python3").arg(tool).args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// What a packager gets who follows the guide: the hook in its place, its plugs, the line, and a valid profile. (That such
/// a snap leaves nothing is shown by tests/spread/main/a-new-packager-follows-the-guide.)
#[test]
fn the_guide_makes_a_snap_with_a_hook() {
    let scratch = tempfile::tempdir().unwrap();
    let (tree, programs) = (scratch.path().join("tree"), scratch.path().join("programs"));
    std::fs::create_dir_all(tree.join("meta")).unwrap();
    std::fs::create_dir(&programs).unwrap();
    for name in ["remove", "snap-teardown"] {
        std::fs::write(programs.join(name), name).unwrap();
    }
    std::fs::write(tree.join("meta/snap.yaml"), "name: own\nplugs:\n  own-plug: null\nlayout: {}\n").unwrap();
    std::fs::write(tree.join("pods.apparmor"), "profile x {\n  file,\n}\n").unwrap();
    let arguments = [tree.to_str().unwrap(), programs.to_str().unwrap()];
    guide_tool(&["apply", "Any snap with containerd", arguments[0], arguments[1]]);

    let read = |name: &str| std::fs::read_to_string(tree.join(name)).unwrap();
    assert_eq!(
        (read("meta/hooks/remove"), read("bin/snap-teardown")),
        ("remove".into(), "snap-teardown".into())
    );
    assert!(!tree.join("bin/remove").exists());
    assert_eq!(
        read("pods.apparmor"),
        "profile x {\n  file,\n  signal (receive) peer=snap.own.hook.remove,\n}\n"
    );
    let profile =
        snap_teardown::testing::Profile::parse(read("teardown.json").as_bytes(), "the guide's").unwrap();
    assert_eq!(profile.snap, "own");
    let plugs = "import sys, yaml\n\
                 snap, ours = (yaml.safe_load(open(f)) for f in sys.argv[1:])\n\
                 assert sorted(snap['hooks']['remove']['plugs']) == sorted(ours['hooks']['remove']['plugs'])\n\
                 assert {'own-plug', 'k8s-kubelet', 'docker-privileged'} == set(snap['plugs']), snap['plugs']\n\
                 assert all(snap['plugs'][p] == ours['plugs'][p] for p in ours['plugs'])\n\
                 print(*snap['hooks']['remove']['plugs'])\n";
    let files = [tree.join("meta/snap.yaml"), root().join("snap/snapcraft.yaml")];
    let output = Command::new("/usr/bin/python3").arg("-c").arg(plugs).args(files).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let guide = std::fs::read_to_string(root().join("snap/local/README.md")).unwrap();
    for plug in String::from_utf8(output.stdout).unwrap().split_whitespace() {
        assert!(guide.contains(&format!("\n| `{plug}` | ")), "the guide does not say what {plug} is for");
    }

    guide_tool(&["apply", "As the last line of a hook that you keep", arguments[0], arguments[1]]);
    assert!(read("meta/hooks/remove").ends_with("exec \"$SNAP/bin/snap-teardown\" remove\n"));
}
