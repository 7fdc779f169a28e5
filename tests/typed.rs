//! What people type and read, through the program: in namespaces of its own, with a snap "microk8s" that is installed and
//! has a store of images.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use serde_json::Value;

const SNAP: &str = "ST=$PROGRAM; for d in /run /var /snap /root; do mkdir -p $d; mount -t tmpfs tmpfs $d; done; \
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
        "$ST remove --snap microk8s > /dev/null; $ST report --snap microk8s --json; cat /run/snap.microk8s/teardown.json",
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
    let (status, text) = typed("$ST remove --snap microk8s > /dev/full; echo $?; ls $common/var/lib");
    assert_eq!(status, 0, "{text}");
    says(&text, "No space left on device (os error 28) 0");
    let (_, text) = typed("set -o pipefail; $ST profile schema | true; echo $?");
    assert_eq!(text, "0\n");
}

#[test]
fn a_run_that_goes_on_is_told_from_one_that_was_killed() {
    let unfinished = "$ST remove --snap microk8s > /dev/null; cd /run/snap.microk8s; \
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
        "$ST remove --snap microk8s > /dev/null; cd /run/snap.microk8s; before=$(cat teardown.json); \
         flock teardown.lock sleep 1 & sleep 0.3; $ST remove --snap microk8s; echo $?; \
         [ \"$before\" = \"$(cat teardown.json)\" ]",
    );
    says(&text, "snap-teardown: another run works on snap 'microk8s'; waiting for it");
    assert_eq!(status, 0, "the result was replaced:\n{text}");
}
