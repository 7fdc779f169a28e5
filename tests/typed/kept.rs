//! `verify` by a result that was kept: after a reboot, of another snap, from standard input.

use super::{says, typed};

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
    says(&text, "far too large: more than 4096 KiB");
    assert_eq!(status, 2, "{text}");
}

/// One that was cut until it had no scope does not know what it has left.
#[test]
fn the_removal_after_a_result_without_a_scope_is_blind() {
    let after = |scope: &str| {
        let changed = format!(
            "import json; r = json.load(open(\"teardown.json\")); r[\"outcome\"] = \"residue\"; {scope}; \
             json.dump(r, open(\"teardown.json\", \"w\"))"
        );
        typed(&format!(
            "$ST remove --yes --snap microk8s > /dev/null; cd /run/snap.microk8s; python3 -c '{changed}'
            COLUMNS=200 $ST remove --yes --snap microk8s"
        ))
    };
    let (status, text) = after("assert r[\"scope\"]");
    assert_eq!(status, 0, "{text}");
    let (status, text) = after("r[\"scope\"] = None");
    assert_eq!(status, 3, "{text}");
    says(&text, "what an earlier run has left");
    says(&text, "its result holds no scope");
}
