//! What people type and read, through the program: in namespaces of its own, with a snap "microk8s" that is installed and
//! has a store of images.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "typed/journal.rs"]
mod journal;

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
fn a_disk_of_the_administrators_below_the_data_is_announced() {
    let mounted = "mkdir /run/disk; mount --bind /run/disk $common/default-storage;";
    for command in ["survey", "remove --yes", "verify"] {
        let (_, text) = typed(&format!(
            "{mounted} COLUMNS=200 $ST {command} --snap microk8s; mountpoint $common/default-storage"
        ));
        says(&text, "umount /var/snap/microk8s/common/default-storage");
        says(&text, "is a mountpoint");
        assert!(!text.contains("Nothing was seen that would stand"), "{text}");
    }
    let (_, text) = typed("$ST survey --snap microk8s");
    says(&text, "Nothing was seen that would stand in the way");
}

#[test]
fn a_disk_at_the_snaps_own_directory_is_announced_and_counted() {
    let mounted = "mount -t tmpfs disk $common; mkdir -p $common/default-storage; \
        dd if=/dev/zero of=$common/default-storage/claim bs=1M count=3 status=none; cp $common/default-storage/claim $common/own;";
    let (_, text) = typed(&format!("{mounted} COLUMNS=200 $ST survey --snap microk8s"));
    says(&text, "with the snap: volumes 3.0 MiB, other data 3.0 MiB");
    says(&text, "and then fail): umount /var/snap/microk8s/common");
    says(
        &text,
        "it can be unmounted once 'snap disable' and then 'snap-teardown remove' have ended what uses it",
    );
    assert!(!text.contains("Nothing was seen"), "{text}");
    let (_, json) = typed(&format!("{mounted} $ST survey --snap microk8s --json"));
    let document: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(document["needs"], serde_json::json!({"what": "human", "because": ["on-host"]}));
    assert_eq!(document["advice"][0]["points"][0], "/var/snap/microk8s/common");
    // What is there to delete is deleted, and the disk stays: it is no leftover.
    let (status, text) = typed(&format!("{mounted} $ST remove --yes --snap microk8s; ls $common"));
    assert!(status == 0 && text.contains("clean") && text.contains("default-storage"), "{text}");
}

/// Mounts a file system there whose server takes requests, and answers none.
const SILENT: &str = "mkdir -p $at; python3 -c '
import ctypes, os, sys, time
fd = os.open(\"/dev/fuse\", os.O_RDWR)
options = \"fd=%d,rootmode=40000,user_id=0,group_id=0\" % fd
if ctypes.CDLL(None, use_errno=True).mount(b\"silent\", sys.argv[1].encode(), b\"fuse\", 0, options.encode()):
    sys.exit(os.strerror(ctypes.get_errno()))
open(\"/run/mounted\", \"w\")
time.sleep(100)
' $at & server=$!; until [ -e /run/mounted ] || ! kill -0 $server; do sleep 0.05; done;";

#[test]
fn a_mount_that_does_not_answer_is_named_with_what_to_type() {
    let at = "at=$common/var/lib/kubelet;";
    let (_, text) = typed(&format!("{at} {SILENT} COLUMNS=200 $ST survey --snap microk8s; kill $server"));
    says(&text, "first a mount does not answer: bring its server back");
    says(&text, "yet: umount -f -l /var/snap/microk8s/common/var/lib/kubelet");
    assert!(!text.contains("Nothing was seen"), "{text}");
}

#[test]
fn a_survey_is_no_failed_removal_and_begins_and_ends_with_what_was_asked() {
    let full = "dd if=/dev/zero of=$common/var/lib/containerd/image bs=1M count=3 status=none; \
        snapshot=$common/var/lib/containerd/io.containerd.snapshotter.v1.overlayfs/snapshots/1; mkdir -p $snapshot; \
        cp $common/var/lib/containerd/image $snapshot; ln $snapshot/image $common/var/lib/containerd/again; \
        cp $common/var/lib/containerd/image $common/default-storage/claim;";
    let (status, text) = typed(&format!("{full} COLUMNS=80 $ST survey --snap microk8s"));
    assert_eq!(status, 1, "{text}");
    says(&text, "snap \"microk8s\": a removal would end or remove 1 thing; 0 places could not be looked at");
    let (head, _) = text.split_once("\n\n").unwrap();
    assert!(head.lines().count() <= 10, "{head}");
    let order = [
        "\n  ends   no container runs",
        "\n  lost   images 6.0 MiB; ",
        "\n  stays  ",
        "\n  first  Nothing was seen",
    ];
    let places: Vec<Option<usize>> = order.iter().map(|words| head.find(words)).collect();
    assert!(places.is_sorted() && !places.contains(&None), "{places:?} {head}");
    // A file of two names is counted where it is met first.
    let lost = "with the snap: volumes 3.0 MiB";
    says(head, lost);
    assert!(!text.contains("leftover"), "{text}");
    let (_, json) = typed(&format!("{full} $ST survey --snap microk8s --json"));
    let document: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(document["needs"]["what"], "none");
    let left = document["steps"].as_array().unwrap().iter().flat_map(|s| s["left"].as_array().unwrap());
    assert!(
        left.into_iter().all(|left| left["reason"] == "survey" && left["why"] == "a survey removes nothing"),
        "{json}"
    );
    let volumes = &document["sizes"][0];
    assert!(
        volumes["what"] == "volumes" && volumes["bytes"] == 3 << 20 && volumes["more"] == false,
        "{volumes}"
    );
    let last = &text[text.rfind("in short").unwrap()..];
    says(last, "lost images 6.0 MiB; with the snap: volumes 3.0 MiB");
    assert!(!last.contains("at the top"), "{last}");
}

#[test]
fn what_stands_in_the_way_is_said_first_with_what_to_type() {
    // A name that ends in a quote is the name of another directory without it.
    let quote = r#"mkdir "$common/x'"; mount -t tmpfs x "$common/x'";"#;
    let ways = "mkdir -p /snap/microk8s_a /snap/microk8s-x /var/disk $common/../7/var/lock; mount --bind /var/disk $common/default-storage; \
        dd if=/dev/zero of=/var/disk/theirs bs=1M count=3 status=none; touch $common/../7/var/lock/clustered.lock;";
    let (_, text) = typed(&format!("{ways} {quote} COLUMNS=80 $ST survey --snap microk8s"));
    let (head, rest) = text.split_once("\n\n").unwrap();
    let first = &head[head.find("\n  first  ").unwrap()..];
    assert!(first.contains("\n           umount /var/snap/microk8s/common/default-storage\n"), "{head}");
    says(first, "'microk8s leave'");
    says(first, r"umount '/var/snap/microk8s/common/x'\'''");
    says(head, "other instances: microk8s_a");
    assert!(!rest.contains("'microk8s leave'") && !text.contains("Nothing was seen"), "{text}");
    assert!(!head.contains("volumes"), "a disk of his own is no data of the snap's: {head}");
    says(&text[text.rfind("in short").unwrap()..], "Before that: what stands at the top, after 'first'.");
}

#[test]
fn what_is_many_is_folded_and_all_of_it_is_shown_where_that_is_asked_for() {
    let mounts = "for n in $(seq 12); do d=$common/var/lib/kubelet/pods/u/volumes/v$n; mkdir -p $d; mount -t tmpfs x $d; done;";
    let shown = |text: &str| (1..=12).filter(|n| text.contains(&format!("/volumes/v{n} "))).count();
    let (_, text) = typed(&format!("{mounts} COLUMNS=200 $ST survey --snap microk8s"));
    says(&text, "… and 4 more (all of them: --all)");
    assert_eq!(shown(&text), 8, "{text}");
    let (_, text) = typed(&format!("{mounts} COLUMNS=200 $ST survey --snap microk8s --all"));
    assert!(shown(&text) == 12 && !text.contains("more (all"), "{text}");
    let (status, text) = typed("$ST remove --all --yes --snap microk8s");
    assert_eq!(status, 2, "{text}");
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

/// A removal whose result was kept, with words of it changed; then a look by that copy.
fn kept(changes: &str, before: &str) -> (i32, String) {
    typed(&format!(
        "$ST remove --yes --snap microk8s > /dev/null; cp /run/snap.microk8s/teardown.json /root/kept.json; rm -r /run/snap.microk8s
        python3 -c 'import json; r = json.load(open(\"/root/kept.json\")); {changes}; json.dump(r, open(\"/root/kept.json\", \"w\"))'
        {before}
        COLUMNS=200 $ST verify --snap microk8s --result /root/kept.json"
    ))
}

#[test]
fn after_a_reboot_a_kept_result_says_what_was_there() {
    let (status, text) = typed(
        "$ST remove --yes --snap microk8s > /dev/null; rm -r /run/snap.microk8s; $ST verify --snap microk8s",
    );
    assert_eq!(status, 3, "{text}");
    let (status, text) = kept("assert r[\"host\"][\"boot-id\"] and r[\"ended-at\"] >= r[\"started-at\"]", "");
    assert!(status == 0 && !text.contains("booted"), "{text}");

    // A container of then, whose first process's number is somebody's now, and a mount that was detached then.
    let container = "r[\"scope\"][\"containers\"] = [{\"namespace\": \"k8s.io\", \"id\": \"a\" * 64, \"group\": \"a\" * 64, \"sandbox\": True, \
        \"pod\": None, \"groups\": [], \"init\": {\"pid\": 1, \"start\": int(open(\"/proc/1/stat\").read().split()[21])}, \
        \"netns\": None, \"socket\": None, \"binds\": [], \"evidence\": [], \"witnesses\": [\"runc-state\"]}]; \
        r[\"steps\"][5][\"left\"] = [{\"residue\": {\"kind\": \"detached\", \"point\": \"/x\", \"fstype\": \"tmpfs\", \"holders\": [], \"holders-unknown\": True}, \"why\": \"detached\", \"reason\": \"detached\"}]";
    let boot = "r[\"host\"][\"boot-id\"] = \"0a1b2c3d-0000-4000-8000-000000000000\"";
    let (status, text) = kept(container, "");
    assert_eq!(status, 1, "the same boot: {text}");
    let (status, text) = kept(&format!("{container}; {boot}"), "");
    assert_eq!(status, 0, "another boot: {text}");
    says(&text, "the machine was booted since the removal: what ends with a boot is not looked for");
}

#[test]
fn a_result_of_another_snap_or_version_is_refused() {
    for (change, words) in [
        ("r[\"snap\"][\"instance\"] = \"microk8s_a\"", "the result of snap 'microk8s_a', not of 'microk8s'"),
        ("r[\"schema\"] = 2", "it is of version 2; this program knows 1 only"),
        ("r[\"command\"] = \"verify\"", "the result of a look, not of a removal"),
    ] {
        let (status, text) = kept(change, "");
        says(&text, words);
        assert_eq!(status, 2, "{text}");
    }
}

#[test]
fn a_result_may_come_from_standard_input() {
    let remove =
        "$ST remove --yes --snap microk8s > /dev/null; cd /run/snap.microk8s; mv teardown.json ../kept;";
    let verify = "$ST verify --snap microk8s --result -";
    let (status, text) = typed(&format!("{remove} {verify} < /run/kept"));
    assert_eq!(status, 0, "{text}");
    let (status, text) = typed(&format!("{remove} (cat ../kept; sleep 0.2; echo ' ') | {verify}"));
    assert_eq!(status, 0, "a pipe: {text}");
    let (_, text) = typed(&format!(
        "{remove} cp ../kept ./-; {verify} < /dev/null; echo $?; $ST verify --snap microk8s --result ./-"
    ));
    says(&text, "standard input': it is empty; the journal has no result");
    says(&text, "2 snap-teardown: snap \"microk8s\": clean");
    let (status, text) = typed(&format!("{remove} head -c 5000000 /dev/zero | {verify}"));
    says(&text, "standard input");
    says(&text, "far too large");
    assert_eq!(status, 2, "{text}");
}
