//! What people type and read, through the program: in namespaces of its own, with a snap "microk8s" that is installed and
//! has a store of images.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "typed/disks.rs"]
mod disks;
#[path = "typed/journal.rs"]
mod journal;
#[path = "typed/kept.rs"]
mod kept;
#[path = "typed/survey.rs"]
mod survey;

use serde_json::Value;

/// Nothing of the machine's control groups either: what other tests do in theirs is no business of this snap.
const SNAP: &str = "ST=$PROGRAM; for d in /run /var /snap /root /sys/fs/cgroup; do mkdir -p $d; mount -t tmpfs tmpfs $d; done; \
    common=/var/snap/microk8s/common; mkdir -p $common/var/lib/containerd $common/default-storage /snap/microk8s/7 /var/snap/microk8s/7; \
    ln -s 7 /snap/microk8s/current; ln -s 7 /var/snap/microk8s/current;";

/// Runs lines of shell beside that snap. Returns what they print, and their status.
fn typed(lines: &str) -> (i32, String) {
    let script = format!("{SNAP} exec 2>&1; set +e; {lines}");
    let output =
        support::alone(&script).env("PROGRAM", env!("CARGO_BIN_EXE_snap-teardown")).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    (output.status.code().unwrap_or(-1), text)
}

/// With these words in what is printed, whatever the line breaks.
#[track_caller]
fn says(text: &str, words: &str) {
    let plain = text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(plain.contains(words), "'{words}' is not in:\n{text}");
}

#[test]
fn the_result_is_printed_as_its_file_has_it() {
    let (status, text) = typed(
        "$ST remove --yes --snap microk8s > /dev/null; $ST report --snap microk8s --json; cat /run/snap.microk8s/teardown.json",
    );
    assert_eq!(status, 0, "{text}");
    let documents: Vec<Value> =
        serde_json::Deserializer::from_str(&text).into_iter().map(Result::unwrap).collect();
    assert_eq!(documents[0], documents[1]);
    let mut schema: Value = serde_json::from_str(include_str!("../src/report/schema.json")).unwrap();
    schema.as_object_mut().unwrap().remove("anyOf");
    schema["$ref"] = "#/$defs/document".into();
    jsonschema::draft202012::new(&schema).unwrap().validate(&documents[0]).unwrap();
}

#[test]
fn without_a_result_nothing_is_known_and_the_call_was_right() {
    let (status, text) = typed("$ST report --snap microk8s");
    assert_eq!(status, 3, "{text}");
    says(&text, "there is no result of snap 'microk8s'");
}

#[test]
fn what_cannot_be_written_is_an_error_and_what_nobody_reads_is_none() {
    for call in [
        "--help",
        "profile schema",
        "profile show --snap microk8s",
        "survey --snap microk8s",
        "verify --snap microk8s --json",
    ] {
        let (status, text) = typed(&format!("$ST {call} > /dev/full"));
        assert_eq!(status, 2, "{call}: {text}");
        says(&text, "cannot write to standard output: No space left");
    }
    let (status, text) = typed("$ST remove --yes --snap microk8s > /dev/full; echo $?; ls $common/var/lib");
    assert_eq!(status, 0, "{text}");
    says(&text, "No space left on device (os error 28) 0");
    let (_, text) = typed("set -o pipefail; $ST profile schema | true; echo $?");
    assert_eq!(text, "0\n");
}

#[test]
fn a_run_that_goes_on_is_told_from_one_that_was_killed() {
    let unfinished = "$ST remove --yes --snap microk8s > /dev/null; cd /run/snap.microk8s; \
        sed -i 's/\"complete\":true/\"complete\":false/' teardown.json;";
    let (_, text) = typed(&format!("{unfinished} $ST report --snap microk8s"));
    says(
        &text,
        "the run was killed before its end; run 'snap-teardown remove --snap microk8s' to do the rest",
    );
    let (_, text) = typed(&format!("{unfinished} flock teardown.lock $ST report --snap microk8s"));
    says(&text, "A run works on this snap at this moment: ask again when it is done.");
}

#[test]
fn a_second_run_says_that_it_waits_and_leaves_the_first_ones_result() {
    let (status, text) = typed(
        "$ST remove --yes --snap microk8s > /dev/null; cd /run/snap.microk8s; before=$(cat teardown.json); \
         flock teardown.lock sleep 1 & sleep 0.3; $ST remove --yes --snap microk8s; echo $?; \
         [ \"$before\" = \"$(cat teardown.json)\" ]",
    );
    says(&text, "snap-teardown: another run works on snap 'microk8s'; waiting for it");
    assert_eq!(status, 0, "the result was replaced:\n{text}");
}

#[test]
fn an_installed_snap_is_not_ended_by_a_word() {
    let (status, text) = typed("$ST remove --snap microk8s; echo $?; ls -d $common/var/lib/*");
    says(&text, "Type 'snap remove microk8s', whose hook does this");
    assert!(status == 0 && text.ends_with("\n2\n/var/snap/microk8s/common/var/lib/containerd\n"), "{text}");
    let (status, text) = typed("$ST remove --dry-run --snap microk8s; ls -d $common/var/lib/*");
    assert!(status == 0 && text.ends_with("/var/lib/containerd\n"), "{text}");
    for meant in
        ["$ST remove --yes", "rm /snap/microk8s/current; $ST remove", "SNAP_NAME=microk8s $ST remove"]
    {
        let (_, text) = typed(&format!("{meant} --snap microk8s; ls $common/var/lib"));
        says(&text, "clean: 1 found, 1 removed");
    }
}

#[test]
fn a_grace_is_not_above_the_deadline() {
    let (status, text) = typed("$ST survey --snap microk8s --grace 1000");
    assert_eq!(status, 2, "{text}");
    says(&text, "--grace: 1000 s is more than the profile's deadline, 240 s");
}

#[test]
fn an_administrator_says_in_a_file_how_patient_snap_remove_is() {
    let patience = |make: &str| {
        let (_, text) = typed(&format!("umask 022; {make}; $ST profile show --snap microk8s"));
        let profile: Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"));
        profile["patience"].clone()
    };
    let usual = patience("true");
    let told = patience("echo 5 > $common/teardown.grace");
    assert!(told["drain"] == 5 && told["maximum-grace"] == 5 && usual.is_null(), "{told} {usual}");
    for wrong in [
        "echo 1000 > $common/teardown.grace",
        "echo five > $common/teardown.grace",
        "echo 5 > $common/teardown.grace; chown 1000 $common/teardown.grace",
        "echo 5 > $common/teardown.grace; chmod 666 $common/teardown.grace",
        "mkdir $common/teardown.grace",
        "head -c 100 /dev/zero > $common/teardown.grace",
        "echo 5 > /run/5; ln -s /run/5 $common/teardown.grace",
    ] {
        assert_eq!(patience(wrong), usual, "{wrong}");
    }
}

#[test]
fn who_is_not_root_is_told_so_first() {
    let user = "cp $ST /run/st; mkdir -p /run/snap.microk8s; touch /run/snap.microk8s/teardown.json; \
        chmod 600 /run/snap.microk8s/teardown.json; setpriv --reuid 65534 --clear-groups /run/st";
    for command in ["survey", "verify"] {
        let (_, text) = typed(&format!("{user} {command} --snap microk8s"));
        assert!(text.starts_with("Not run as root"), "{command}: {text}");
    }
    let (status, text) = typed(&format!("{user} report --snap microk8s"));
    says(&text, "run it as root (sudo)");
    assert_eq!(status, 2, "{text}");
    let (status, text) = typed(&format!("{user} profile init --snap microk8s"));
    says(&text, "profile init needs root");
    assert_eq!(status, 2, "{text}");
}

#[test]
fn before_a_removal_verify_says_that_it_is_too_early() {
    let (_, text) = typed("$ST verify --snap microk8s");
    assert!(
        text.starts_with(
            "snap-teardown: snap 'microk8s' is installed, and nothing was removed yet: 'survey'"
        ),
        "{text}"
    );
}

#[test]
fn a_snap_that_is_not_there_is_told_from_one_without_a_profile() {
    let (status, text) = typed("$ST survey --snap microk9s");
    assert_eq!(status, 2, "{text}");
    says(
        &text,
        "snap 'microk9s' is not installed, and no profile is built in for it; did you mean 'microk8s'?",
    );
    let (_, text) = typed("mkdir -p /snap/own/1; ln -s 1 /snap/own/current; $ST survey --snap own");
    says(&text, "ship one as /snap/own/1/teardown.json");
}

/// Such a name once took what is another instance's.
#[test]
fn an_instance_of_which_nothing_is_there_is_refused() {
    let (_, text) = typed(
        "$ST remove --snap microk8s_a; echo $?; ls $common/var/lib; mkdir -p /var/snap/microk8s_a; $ST survey --snap microk8s_a",
    );
    says(
        &text,
        "there is no instance 'microk8s_a' on this machine, and nothing of one 2 containerd snap-teardown:",
    );
}

#[test]
fn a_snap_that_is_not_there_has_nothing_and_is_said_not_to_be_installed() {
    let (status, text) = typed("$ST survey --snap docker");
    assert_eq!(status, 0, "{text}");
    says(&text, "snap-teardown: snap 'docker' is not installed");
    let (_, text) = typed("$ST survey --snap microk8s; $ST survey --snap docker --json");
    assert!(!text.contains("is not installed"), "{text}");
}

#[test]
fn metrics_are_such_and_tell_what_is_left() {
    let (status, text) =
        typed("$ST remove --yes --snap microk8s > /dev/null; $ST report --snap microk8s --metrics");
    assert_eq!(status, 0, "{text}");
    for line in [
        "# TYPE snap_teardown_outcome gauge",
        "# TYPE snap_teardown_killed_containers gauge",
        "# TYPE snap_teardown_start_time_seconds gauge",
        "# TYPE snap_teardown_duration_seconds gauge",
        "snap_teardown_outcome{snap=\"microk8s\",outcome=\"clean\"} 1",
        "snap_teardown_outcome{snap=\"microk8s\",outcome=\"residue\"} 0",
        "snap_teardown_needs{snap=\"microk8s\",what=\"none\"} 1",
        "snap_teardown_residues{snap=\"microk8s\",state=\"removed\"} 1",
        "snap_teardown_complete{snap=\"microk8s\"} 1",
    ] {
        assert!(text.lines().any(|l| l == line), "no {line} in\n{text}");
    }
    let mut known = std::collections::BTreeSet::new();
    for line in text.lines() {
        match line.strip_prefix("# HELP ") {
            Some(help) => assert!(known.insert(help.split(' ').next().unwrap().to_owned()), "twice: {help}"),
            None if line.starts_with("# TYPE ") => {}
            None => {
                let (name, rest) = line.split_once('{').unwrap();
                let (_, value) = rest.rsplit_once("} ").unwrap();
                assert!(known.contains(name) && value.parse::<f64>().is_ok(), "{line}");
            }
        }
    }
    assert!(text.ends_with('\n'));
    // What is left is told, and is no failure of telling.
    let (status, text) = typed(
        "$ST remove --yes --snap microk8s > /dev/null; cd /run/snap.microk8s; \
         sed -i 's/\"outcome\":\"clean\",\"exit-status\":0,\"needs\":{\"what\":\"none\"/\"outcome\":\"residue\",\"exit-status\":1,\"needs\":{\"what\":\"human\"/' teardown.json; \
         $ST report --snap microk8s --metrics",
    );
    assert_eq!(status, 0, "{text}");
    assert!(text.contains("needs{snap=\"microk8s\",what=\"human\"} 1\n"), "{text}");
    // Where containers may have written it, it is none.
    let (status, text) = typed(
        "$ST remove --yes --snap microk8s > /dev/null; mv /run/snap.microk8s/teardown.json $common; \
         $ST report --snap microk8s --metrics",
    );
    assert!(status == 3 && !text.contains("outcome"), "{status}: {text}");
    let (status, text) = typed("$ST report --snap microk8s --metrics");
    assert!(status == 3 && !text.contains("TYPE"), "{status}: {text}");
}
