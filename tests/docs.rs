//! What the documents tell people to type works, and what they point to is there.
//!
//! Every command of every document is known here: it is run, in private namespaces, or it is named with the file
//! that runs it and the words by which it is run there. A command that is not known fails the test.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "docs/guide.rs"]
mod guide;
#[path = "docs/manuals.rs"]
mod manuals;
#[path = "docs/names.rs"]
mod names;
#[path = "docs/playbook.rs"]
mod playbook;
#[path = "docs/result_page.rs"]
mod result_page;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Who runs a command.
enum By {
    /// We do, in the order of the documents; one of these is its exit status.
    Us(&'static [i32]),
    /// A file of this repository that holds these words.
    File(&'static str, &'static str),
    /// Nobody here, for this reason; so these are few.
    Nobody(&'static str),
}

use By::{File, Nobody, Us};

/// Every command that is not run as it stands, or whose status may be another than 0.
const COMMANDS: &[(&str, By)] = &[
    ("grep snap-teardown-0.1.0.tar.gz SHA256SUMS", File("tests/docs/guide.rs", "guide_tool(&[\"source\"")),
    ("sha256sum --check --ignore-missing SHA256SUMS", File("tests/docs/guide.rs", "guide_tool(&[\"source\"")),
    (
        "echo 60 | sudo tee /var/snap/NAME/common/teardown.grace",
        File("tests/typed.rs", "echo 5 > $common/teardown.grace"),
    ),
    ("tests/demo", File(".ci/run", "tests/demo")),
    ("sudo tests/run", File(".ci/run", "tests/run")),
    ("tests/run", File(".ci/run", "tests/run")),
    ("sudo tests/vm/run suite", File(".ci/run", "tests/vm/run suite")),
    ("tests/vm/run suite", File(".ci/run", "tests/vm/run suite")),
    ("sudo tests/vm/run kubelet", Nobody("takes too long for CI: a kubelet is built, and four removals")),
    ("tests/vm/run kubelet", Nobody("as with sudo")),
    ("tests/vm/run build-kubelet", Nobody("a part of tests/vm/run kubelet")),
    ("sudo tests/vm/run docker", Nobody("takes too long for CI")),
    ("tests/vm/run docker", Nobody("as with sudo")),
    ("sudo tests/vm/run nested", Nobody("takes too long for CI")),
    ("tests/vm/run nested", Nobody("as with sudo")),
    (
        "sudo MICROK8S=CLONE tests/vm/run table",
        Nobody("takes too long for CI, and a clone of MicroK8s; its numbers need a machine to itself"),
    ),
    ("tests/vm/run --help", File("tests/vm/run", "argparse")),
    ("tests/vm/run --hook no-op suite", File("tests/vm/run", "--hook")),
    ("tests/vm/run --hook shims-first suite", File("tests/vm/run", "--hook")),
    ("sudo tests/noop-proof", File(".ci/run", "tests/noop-proof")),
    ("sudo .ci/run", File(".github/workflows/ci.yml", ".ci/run")),
    ("cargo build --release", File(".ci/run", "cargo build --locked --release")),
    ("tests/check-static", File(".ci/run", "tests/check-static")),
    ("cargo test --lib", File("tests/tools/run-lib", "cargo test --locked --no-run")),
    ("cargo test --test NAME", File("tests/tools/run-lib", "cargo test --locked --no-run")),
    ("cargo test --lib moment", File("tests/tools/run-lib", "cargo test --locked --no-run")),
    ("sudo tests/run containers NAME", File(".ci/run", "sudo tests/run schema profiles")),
    ("sudo tests/run attacks NAME", File("tests/tools/run-lib", "attacks")),
    ("sudo tests/run reality NAME", File("tests/tools/run-lib", "reality")),
    ("tests/setup", File("tests/run", "tests/setup")),
    ("sudo tests/run --all", File("tests/run", "--all) more=(--include-ignored)")),
    ("tests/run --list", File(".ci/run", "tests/run --list")),
    ("sudo tests/run torture", File(".ci/run", "sudo tests/run")),
    ("tests/demo --picture tests/demo.svg", File(".ci/run", "tests/demo --picture")),
    ("sudo .ci/bare tests/demo \"sudo tests/run\"", File(".ci/run", ".ci/bare")),
    ("sudo CARGO_TARGET_DIR=DIR tests/run", File(".ci/run", "sudo CARGO_TARGET_DIR=")),
    (
        "sudo snap/release",
        Nobody("compiles for four architectures, twice: half an hour; .ci/run builds from its source"),
    ),
    ("sudo apt-get install --yes gcc libc6-dev", File(".ci/bare", "named=gcc,libc6-dev")),
    (
        "sudo -E cargo run --release -p test-tools --bin bench -- --help",
        File("tests/tools/Cargo.toml", "path = \"../bench/bench.rs\""),
    ),
    ("tests/bench/guard", File(".ci/run", "tests/bench/guard")),
    ("sudo tests/uml/run", File(".ci/run", "tests/uml/run")),
    ("cargo test --test corpus", File("tests/tools/run-lib", "cargo test --locked --no-run")),
    (
        "tests/fuzz/run",
        Nobody("building it anew with a sanitizer takes minutes; the same corpus runs in tests/run"),
    ),
    ("tests/vm/run --system debian-trixie pack", File("spread.yaml", "tests/vm/run pack")),
    ("tests/fuzz/run 600 spec", Nobody("as tests/fuzz/run")),
    ("cargo doc --open", Nobody("opens a browser; .ci/run builds the same")),
    ("sudo snap remove microk8s", File("tests/spread/main/pods-get-their-grace/task.yaml", "snap remove")),
    ("snap changes", File("spread.yaml", "snap changes")),
    ("snap tasks --last=remove", File("spread.yaml", "snap change --last=remove")),
    (
        "journalctl -t snap-teardown",
        File("tests/spread/main/pods-get-their-grace/task.yaml", "-t snap-teardown"),
    ),
    (
        "journalctl -t snap-teardown -p warning --since -7d -o json",
        File("tests/spread/main/pods-get-their-grace/task.yaml", "-t snap-teardown"),
    ),
    (
        "journalctl -t snap-teardown SNAP_TEARDOWN_NEEDS=human --since -7d -o json | jq -r '[._HOSTNAME, .SNAP_TEARDOWN_SNAP] | @tsv'",
        File("tests/typed/journal.rs", "the_page_says_how_to_find_the_machines_that_need_somebody"),
    ),
    (
        "journalctl -k --grep 'apparmor=\"DENIED\".*snap.NAME.hook.remove'",
        File("tests/spread/lib/tools/denials", "_TRANSPORT=kernel"),
    ),
    (
        "sudo cp /snap/NAME/current/bin/snap-teardown /usr/local/sbin/",
        File(
            "tests/spread/main/disabled-snap-is-ended-from-outside/task.yaml",
            "snap-teardown remove --snap",
        ),
    ),
    (
        "sudo cp /snap/NAME/current/bin/snap-teardown /root/",
        File(
            "tests/spread/main/disabled-snap-is-ended-from-outside/task.yaml",
            "snap-teardown remove --snap",
        ),
    ),
    (
        "sudo /root/snap-teardown remove --snap NAME",
        File(
            "tests/spread/main/disabled-snap-is-ended-from-outside/task.yaml",
            "snap-teardown remove --snap",
        ),
    ),
    (
        "ansible-playbook -i machines snap/local/fleet.yaml -e snap=microk8s",
        File("tests/docs/playbook.rs", "ansible-playbook -i machines {playbook} -e snap=microk8s"),
    ),
    ("sudo snap-teardown survey --snap microk8s", Us(&[0, 1, 3])),
    ("snap-teardown survey --snap microk8s", Us(&[0, 1, 3])),
    // After the removal below, which has nothing to remove.
    ("sudo snap-teardown report --snap microk8s", Us(&[0])),
    ("sudo snap-teardown verify --snap microk8s", Us(&[0])),
    ("sudo /usr/local/sbin/snap-teardown verify --snap microk8s --json", Us(&[0])),
    ("sudo snap-teardown report --snap NAME", Us(&[0])),
];

/// Programs by which a command in the middle of a sentence or a table is known as one.
const PROGRAMS: &[&str] = &["sudo ", "tests/", "cargo ", ".ci/", "journalctl ", "ansible-playbook "];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// All documents, and their text.
fn documents() -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    list(&root(), &mut found);
    assert!(found.len() >= 10, "only {} documents", found.len());
    let read = |path: PathBuf| {
        let text = std::fs::read_to_string(&path).unwrap();
        (path.strip_prefix(root()).unwrap().to_path_buf(), text)
    };
    found.into_iter().map(read).collect()
}

/// Without git, which root distrusts in another's clone. Cargo marks what it builds into.
fn list(dir: &Path, found: &mut Vec<PathBuf>) {
    if dir.join("CACHEDIR.TAG").exists() || dir.ends_with("target") {
        return;
    }
    for entry in std::fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.file_type().unwrap().is_dir() {
            if !name.starts_with('.') {
                list(&path, found);
            }
        } else if [".md", ".5", ".8"].iter().any(|end| name.ends_with(end)) {
            found.push(path);
        }
    }
}

/// The commands of a document: behind a prompt in a block, those that stand as code in a line, and the lines that a manual
/// page shows as they are typed.
fn commands(text: &str) -> Vec<String> {
    let mut commands = Vec::new();
    let mut block: Option<&str> = None;
    for line in text.lines() {
        if let Some(language) = line.strip_prefix("```") {
            block = if block.is_some() { None } else { Some(language) };
        } else if line == ".nf" || line == ".fi" {
            block = (line == ".nf").then_some("manual");
        } else if block == Some("manual") {
            let command = typed(line);
            let known = PROGRAMS.iter().chain(&["snap-teardown "]).any(|p| command.starts_with(p));
            commands.extend(known.then_some(command));
        } else if block == Some("console") {
            commands.extend(line.strip_prefix("$ ").map(str::to_owned));
        } else if block.is_none() && line.starts_with("    ") {
            let command = line.trim().split(" #").next().unwrap_or_default().trim();
            commands.extend(command.starts_with("tests/").then(|| command.to_owned()));
        } else if block.is_none() {
            let code = line.split('`').skip(1).step_by(2);
            let whole = |c: &&str| PROGRAMS.iter().any(|p| c.starts_with(p)) && !c.ends_with('/');
            // A path alone names a file, not a call of it; one with a verb behind it is a call.
            let call = |c: &&str| {
                c.contains(' ') || root().join(c).is_file() && c.starts_with("tests/") && !c.contains('.')
            };
            commands.extend(code.filter(whole).filter(call).map(str::to_owned));
        }
    }
    commands
}

/// A manual page's line, as somebody types it who reads it.
fn typed(line: &str) -> String {
    line.replace("\\-", "-").replace("\\(aq", "'")
}

/// In namespaces of its own, in which no process and no link of anybody else is seen, and with a /run, a working
/// directory and a home of its own.
fn alone(script: &str, directory: &Path) -> Output {
    let program = Path::new(env!("CARGO_BIN_EXE_snap-teardown"));
    let prepare = "mount -t tmpfs tmpfs /run; mount -t tmpfs tmpfs /var; mkdir -p /run/bin; cp \"$0\" /run/bin/snap-teardown; PATH=/run/bin:$PATH; set -o pipefail;";
    support::alone(&format!("{prepare} {script}")).arg(program).current_dir(directory).output().unwrap()
}

fn runs(script: &str, directory: &Path) -> (i32, String) {
    let output = alone(script, directory);
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output.status.code().unwrap_or(-1), text)
}

/// As it is run here: without sudo, with a name for NAME, with our program wherever it is said to be.
fn here(command: &str) -> String {
    let command = command.strip_prefix("sudo ").unwrap_or(command);
    command.replace("/usr/local/sbin/snap-teardown", "snap-teardown").replace("NAME", "own-snap")
}

#[test]
fn every_command_is_known_and_those_that_can_be_run_here_work() {
    let scratch = tempfile::tempdir().unwrap();
    // A snap "own-snap" whose shim runs, for what wants to see one; and results of removals with nothing to remove.
    let scene = "python3 -c 'import time; time.sleep(600)' -namespace k8s.io -id a \
                 -address /var/snap/own-snap/common/run/containerd.sock & \
                 while [ \"$(cat /proc/$!/comm)\" = bash ]; do :; done; \
                 profile='{\"schema\": 1, \"snap\": \"own-snap\", \"containerd\": {\"address\": \"$SNAP_COMMON/c.sock\", \
                 \"state\": \"$SNAP_COMMON/state\", \"root\": \"$SNAP_COMMON/root\"}}'; \
                 echo \"$profile\" > /run/own.json; \
                 snap-teardown remove --snap microk8s > /dev/null; \
                 snap-teardown remove --snap own-snap --profile /run/own.json > /dev/null;";
    let mut seen = BTreeSet::new();
    let mut unknown = Vec::new();
    let mut ran = 0;
    for (document, text) in documents() {
        for command in commands(&text) {
            let place = format!("{}: {command}", document.display());
            seen.insert(command.clone());
            let statuses = match COMMANDS.iter().find(|(known, _)| *known == command) {
                Some((_, File(file, words))) => {
                    let holds = std::fs::read_to_string(root().join(file)).unwrap().contains(words);
                    assert!(holds, "{place}: {file} has no '{words}'");
                    continue;
                }
                Some((_, Nobody(reason))) => {
                    println!("{place}: not run: {reason}");
                    continue;
                }
                Some((_, Us(statuses))) => statuses,
                None if command.contains("snap-teardown") => &[0][..],
                None => {
                    unknown.push(place);
                    continue;
                }
            };
            let (status, output) = runs(&format!("{scene} {}", here(&command)), scratch.path());
            assert!(statuses.contains(&status), "{place}: status {status}\n{output}");
            ran += 1;
        }
    }
    assert!(unknown.is_empty(), "nobody runs these; say who does: {unknown:#?}");
    for (command, _) in COMMANDS {
        assert!(seen.contains(*command), "no document has '{command}' any more");
    }
    assert!(ran >= 10, "only {ran} commands were run");
}

#[test]
fn a_command_that_does_not_work_would_be_noticed() {
    let scratch = tempfile::tempdir().unwrap();
    assert_ne!(runs("snap-teardown surve --snap microk8s", scratch.path()).0, 0);
    assert_eq!(runs("snap-teardown report --snap microk8s", scratch.path()).0, 3, "/run is not private");
    assert_eq!(
        commands(
            "`sudo snap-teardown x`\n```console\n$ a b\n```\n    tests/x y   # z\n.nf\nsnap-teardown \\-\\-v\n{\n.fi\n"
        ),
        ["sudo snap-teardown x", "a b", "tests/x y", "snap-teardown --v"]
    );
}

#[test]
fn every_link_leads_somewhere() {
    for (document, text) in documents() {
        let mut rest = text.as_str();
        while let Some((_, after)) = rest.split_once("](") {
            let (target, tail) = after.split_once(')').unwrap();
            rest = tail;
            if target.contains("://") {
                continue;
            }
            let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
            let path = match file {
                "" => root().join(&document),
                file => root().join(&document).parent().unwrap().join(file),
            };
            assert!(path.exists(), "{}: {target} leads nowhere", document.display());
            if !anchor.is_empty() {
                let target_text = std::fs::read_to_string(&path).unwrap();
                let anchors: BTreeSet<String> =
                    target_text.lines().filter(|l| l.starts_with('#')).map(anchor_of).collect();
                assert!(anchors.contains(anchor), "{}: no heading for #{anchor}", document.display());
            }
        }
    }
}

/// A heading's anchor, as GitHub makes it.
fn anchor_of(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = text.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

/// Which Rust builds it is said where people read, as Cargo.toml says it.
#[test]
fn the_readme_names_the_oldest_rust() {
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    assert!(readme.contains(&format!("Rust {} or later", env!("CARGO_PKG_RUST_VERSION"))));
}

/// No address is given that somebody else may own one day.
#[test]
fn the_documents_name_no_repository_of_ours() {
    for (document, text) in documents() {
        assert!(!text.contains("/snap-teardown.git"), "{}", document.display());
    }
}
