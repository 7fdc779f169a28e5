//! The two JSON Schemas say what the program writes and reads: every document that the library makes passes,
//! and every single change of one that a reader would stumble over is rejected.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "schema/profile.rs"]
mod profile;
#[path = "schema/whole.rs"]
mod whole;
#[path = "schema/words.rs"]
mod words;

use std::time::Duration;

use jsonschema::Validator;
use serde_json::{Value, json};
use snap_teardown::testing::{
    History, Holder, Host, ProcessId, Reason, Report, Residue, RunFacts, StepHistory, View, gather, of_rows,
    plan, residue, survey,
};
use whole::{facts, subject, whole};

const REPORT: &str = include_str!("../src/report/schema.json");
const OPEN: &str = include_str!("../src/report/open-schema.json");

fn validator(schema: &str) -> Validator {
    let schema: Value = serde_json::from_str(schema).unwrap();
    jsonschema::draft202012::meta::validate(&schema).expect("the schema is none");
    jsonschema::draft202012::new(&schema).unwrap()
}

fn accept(validator: &Validator, document: &Value) {
    let errors: Vec<_> =
        validator.iter_errors(document).map(|e| format!("{}: {e}", e.instance_path())).collect();
    assert!(errors.is_empty(), "{errors:#?}\n{document:#}");
}

/// The schema's part for whole documents: of an "anyOf", an error says little.
fn accept_whole(document: &Value) {
    let mut schema: Value = serde_json::from_str(REPORT).unwrap();
    schema.as_object_mut().unwrap().remove("anyOf");
    schema["$ref"] = json!("#/$defs/document");
    accept(&validator(&schema.to_string()), document);
    accept(&validator(REPORT), document);
}

#[test]
fn a_survey_of_a_tree_and_of_this_machine_are_valid() {
    let tree = tempfile::tempdir().unwrap();
    let state = tree.path().join("var/snap/microk8s/common/run/containerd");
    support::fixture::Bundle::new("abc", "/kubepods/pod1/abc").write(&state).unwrap();
    let report = survey(&Host::at(tree.path()), &subject()).unwrap();
    assert_eq!(report.scope_counts.containers, 1, "the fixture is not seen");
    accept_whole(&serde_json::to_value(&report).unwrap());

    let report = survey(&Host::live(), &subject()).unwrap();
    accept_whole(&serde_json::to_value(&report).unwrap());
}

#[test]
fn every_kind_of_residue_and_answer_is_valid() {
    let document = serde_json::to_value(whole()).unwrap();
    accept_whole(&document);
    let kinds: std::collections::BTreeSet<_> = document["steps"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|s| s["left"].as_array().unwrap())
        .map(|l| l["residue"]["kind"].as_str().unwrap())
        .collect();
    let schema: Value = serde_json::from_str(REPORT).unwrap();
    assert_eq!(kinds.len(), schema["$defs"]["residue"]["oneOf"].as_array().unwrap().len());
}

#[test]
fn what_a_hook_prints_is_valid_whole_cut_and_minimal() {
    let validator = validator(REPORT);
    let mut report = whole();
    for many in [1, 20, 2000] {
        let step = &mut report.steps[0];
        step.left = step.left.iter().cycle().take(many * 13).cloned().collect();
        let cut = last_line(&report);
        assert_eq!(cut["truncated"], json!(true));
        assert_eq!(cut["counts"], serde_json::to_value(report.counts).unwrap());
        accept(&validator, &cut);
    }
    report.host.kernel = "k".repeat(9000);
    let minimal = last_line(&report);
    assert_eq!(minimal.as_object().unwrap().len(), 6);
    assert_eq!(minimal["needs"]["what"], "human");
    accept(&validator, &minimal);
}

#[test]
fn every_change_of_a_document_is_rejected() {
    let validator = validator(REPORT);
    let document = serde_json::to_value(whole()).unwrap();
    // What a document may do without; "scope" only in a cut one, which is another change.
    let optional = [
        "closed",
        "errno",
        "effort",
        "holders",
        "file",
        "items",
        "hooks",
        "runtime",
        "supervisors",
        "endings",
        "sizes",
        "disks",
        "hook",
        "error",
        "status",
        "reason",
        "unread",
        "ended-at",
        "hostname",
        "boot-id",
        "machine-id",
        "mount",
        "containerd",
        "idle",
        "exited",
        "plugins",
        "sockets",
        "ipc",
        "told-groups",
    ];
    let changes = changes(&document, &optional);
    assert!(changes.len() > 500, "{} changes only", changes.len());
    for (what, changed) in changes {
        assert!(!validator.is_valid(&changed), "accepted although {what}");
    }
}

#[test]
fn who_holds_a_detached_mount_is_to_end_and_a_reboot_is_for_the_rest() {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let start = stat.rsplit_once(") ").unwrap().1.split(' ').nth(19).unwrap().parse().unwrap();
    let holder = |start| Holder {
        process: ProcessId { pid: i32::try_from(std::process::id()).unwrap(), start },
        comm: "me".into(),
        uid: 0,
    };
    let (empty, subject) = (tempfile::tempdir().unwrap(), subject());
    let scope = gather(&View::new(&Host::at(empty.path()), None), &subject.snap, &subject.profile).unwrap();
    let advice = |stuck: &[i32], unknown| {
        let detached = residue::Detached {
            point: "/x".into(),
            fstype: "tmpfs".into(),
            holders: vec![holder(start), holder(start + 1)],
            holders_unknown: unknown,
        };
        let mut history = History { steps: vec![StepHistory::default(); 9], ..History::default() };
        history.steps[5].left.push(Residue::Detached(detached.into()).into());
        let facts = RunFacts { stuck: stuck.to_vec(), ..facts() };
        let report = Report::build(facts, &of_rows(&plan(Duration::ZERO)), &history, &scope.clone().into());
        assert_eq!(report.steps[5].left[0].holders, [holder(start)], "who has ended holds nothing");
        report.advice.iter().map(|a| serde_json::to_value(a).unwrap()["do"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(advice(&[], false)[0], "end-holders");
    assert_eq!(advice(&[], true)[0], "reboot");
    assert_eq!(advice(&[holder(start).process.pid], false)[0], "reboot");
}

/// The document in the last line of a hook's output.
fn last_line(report: &Report) -> Value {
    let output = report.output();
    assert!(output.len() <= 8 << 10, "{} bytes", output.len());
    serde_json::from_str(output.lines().last().unwrap()).unwrap()
}

/// The document with one change at a time: each key gone, each object with a key more, each value of another
/// type. Maps with free keys get a key more too: it is no known one.
fn changes(document: &Value, optional: &[&str]) -> Vec<(String, Value)> {
    let mut changes = Vec::new();
    let mut places = Vec::new();
    collect(document, String::new(), &mut places);
    for place in places {
        let mut with = |what: String, edit: &dyn Fn(&mut Value)| {
            let mut changed = document.clone();
            edit(changed.pointer_mut(&place).unwrap());
            changes.push((what, changed));
        };
        let value = document.pointer(&place).unwrap();
        if let Some(object) = value.as_object() {
            with(format!("{place} has an unknown key"), &|v| v["colour"] = json!("green"));
            // Abilities are a map: each of its keys may be absent.
            let gone = object.keys().filter(|k| {
                let is_map = place.ends_with("/abilities") || place.ends_with("/rivals");
                let is_optional = optional.contains(&k.as_str()) || (place == "/snap" && *k == "version");
                !is_map && !is_optional
            });
            for key in gone {
                with(format!("{place}/{key} is gone"), &|v| {
                    v.as_object_mut().unwrap().remove(key);
                });
            }
        }
        with(format!("{place} is of another type"), &|v| {
            *v = if v.is_number() { json!("7") } else { json!(-7.5) };
        });
        if value.is_number() {
            with(format!("{place} is a fraction"), &|v| *v = json!(7.5));
        }
        if value.is_string() && !place.ends_with("/why") {
            with(format!("{place} is a list"), &|v| *v = json!([v]));
        }
    }
    changes
}

fn collect(value: &Value, place: String, places: &mut Vec<String>) {
    match value {
        Value::Object(map) => map.iter().for_each(|(k, v)| collect(v, format!("{place}/{k}"), places)),
        Value::Array(list) => {
            list.iter().enumerate().for_each(|(i, v)| collect(v, format!("{place}/{i}"), places));
        }
        _ => {}
    }
    places.push(place);
}

/// Each word of the program is in the schema, each of the schema explained, and a document of before them is read.
#[test]
fn reasons_are_words_and_older_documents_have_none() {
    let document = serde_json::to_value(whole()).unwrap();
    let left = document["steps"][0]["left"].as_array().unwrap();
    let words: Vec<&str> = left.iter().map(|l| l["reason"].as_str().unwrap()).collect();
    let expected = [
        "there-again",
        "did-not-end",
        "detached",
        "held-back",
        "refused",
        "refused",
        "busy",
        "failed",
        "not-possible",
        "gate-closed",
    ];
    let at_least = expected.iter().filter(|word| words.contains(word)).count();
    assert_eq!(at_least, expected.len(), "{words:?}");
    let schema: Value = serde_json::from_str(REPORT).unwrap();
    let reason = &schema["$defs"]["reason"];
    let guide = include_str!("../snap/local/fleets.md");
    for word in reason["enum"].as_array().unwrap() {
        let explained = format!("{}: ", word.as_str().unwrap());
        assert!(reason["description"].as_str().unwrap().contains(&explained), "{explained}");
        assert!(guide.contains(&format!("`{}`", word.as_str().unwrap())), "{word} is not in fleets.md");
        let read: Reason = serde_json::from_value(word.clone()).unwrap();
        assert_eq!(serde_json::to_value(read).unwrap(), *word);
    }
    let mut older = document.clone();
    forget(&mut older);
    assert!(!older.to_string().contains("\"reason\":\"there-again\""));
    let older: Report = serde_json::from_value(older).unwrap();
    assert_eq!((older.needs, older.steps[0].left[0].reason), (None, Reason::NotTold));
}

/// A reader that has the open schema lives through what a later version may add, and through older documents; and is told of
/// what no version 1 is.
#[test]
fn the_open_schema_lets_additions_pass_and_nothing_else() {
    let open = validator(OPEN);
    let report = whole();
    let document = serde_json::to_value(&report).unwrap();
    accept(&open, &document);
    accept(&open, &last_line(&report));
    let mut older = document.clone();
    forget(&mut older);
    accept(&open, &older);
    for (what, changed) in changes(&document, &["needs", "reason"]) {
        let added = what.ends_with("has an unknown key");
        // Of text it does not say what it is, of a minimal document not that it is none.
        let wrong = what.ends_with("is of another type") || what.ends_with("is a list");
        assert!(!added || open.is_valid(&changed), "rejected because {what}");
        assert!(!wrong || !open.is_valid(&changed), "accepted although {what}");
    }
    let with = |place: &str, value: Value| {
        let mut changed = document.clone();
        *changed.pointer_mut(place).unwrap_or_else(|| panic!("{place}")) = value;
        open.is_valid(&changed)
    };
    for place in [
        "/command",
        "/steps/0/name",
        "/steps/0/closed/gate",
        "/steps/0/left/0/reason",
        "/steps/0/left/0/residue/kind",
        "/steps/0/left/0/effort",
        "/advice/0/do",
        "/notes/0/kind",
        "/needs/because/0",
        "/abilities/snapctl",
        "/endings/0/end",
        "/sizes/0/what",
        "/sizes/0/goes",
        "/hooks/2/end",
        "/scope/containers/0/evidence/0",
    ] {
        assert!(with(place, json!("of-tomorrow")), "{place}");
    }
    assert!(with("/exit-status", json!(4)));
    let all_of_a_kind = json!({"kind": "link", "name": "cni0"});
    for (place, value) in [
        ("/schema", json!(2)),
        ("/outcome", json!("of-tomorrow")),
        ("/needs/what", json!("of-tomorrow")),
        ("/steps/0/left/0/residue", all_of_a_kind),
        ("/counts/left", json!(-1)),
    ] {
        assert!(!with(place, value.clone()), "{place} = {value}");
    }
}

/// Takes out of a document what the first ones did not have.
fn forget(value: &mut Value) {
    match value {
        Value::Object(map) => {
            let is_hook = map.contains_key("outcome") && map.contains_key("kind");
            map.retain(|key, _| key != "needs" && (key != "reason" || is_hook));
            map.values_mut().for_each(forget);
        }
        Value::Array(list) => list.iter_mut().for_each(forget),
        _ => {}
    }
}
