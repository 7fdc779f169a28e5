//! The open schema of results, for readers: the exact one without what forbids a later version to say more. It is a file of
//! its own, and this shows that it is what follows from the exact one (`UPDATE=1` writes it).

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use serde_json::{Map, Value, json};

const EXACT: &str = include_str!("../src/report/schema.json");
const OPEN: &str = include_str!("../src/report/open-schema.json");

/// Definitions whose words are all: no version 1 has another.
const WHOLE: [&str; 2] = ["outcome", "needed"];

/// Keys that the first documents of version 1 did not have.
const LATER: [&str; 2] = ["needs", "reason"];

/// What a schema is for readers.
fn open(exact: &Value) -> Value {
    let mut schema = exact.clone();
    for (name, definition) in schema["$defs"].as_object_mut().unwrap() {
        if !WHOLE.contains(&name.as_str()) {
            loosen(definition);
        }
    }
    schema["$id"] = json!("urn:snap-teardown:result:1");
    schema["description"] = json!(
        "For readers: whatever a later program adds within version 1 passes, too. Ignore keys and words that you do not know."
    );
    schema
}

fn loosen(schema: &mut Value) {
    let Value::Object(map) = schema else {
        if let Value::Array(list) = schema {
            list.iter_mut().for_each(loosen);
        }
        return;
    };
    if map.get("additionalProperties") == Some(&json!(false)) {
        map.remove("additionalProperties");
        map.remove("maxProperties");
    }
    if let Some(Value::Array(words)) = map.remove("enum") {
        let kind = if words.iter().all(Value::is_string) { "string" } else { "integer" };
        map.insert("type".into(), json!(kind));
    }
    if map.get("const").is_some_and(Value::is_string) {
        map.remove("const");
        map.insert("type".into(), json!("string"));
    }
    if let Some(Value::Array(keys)) = map.get_mut("required") {
        keys.retain(|key| !LATER.contains(&key.as_str().unwrap()));
    }
    let branches = map.remove("oneOf");
    // The names of keys are no schemas.
    for (key, value) in map.iter_mut() {
        match value {
            Value::Object(of) if key == "properties" => of.values_mut().for_each(loosen),
            value => loosen(value),
        }
    }
    if let Some(branches) = branches {
        map.insert("anyOf".into(), any_of(branches));
    }
}

/// Branches of which a later version may add one. Where a word tells them apart, those that are known stay as strict as they
/// are, and one is added for all other words.
fn any_of(mut branches: Value) -> Value {
    let list = branches.as_array_mut().unwrap();
    let told_by = |branch: &Value| {
        let keys = branch.get("properties")?.as_object()?;
        keys.iter().find(|(_, value)| value.get("const").is_some()).map(|(key, _)| key.clone())
    };
    let Some(key) = told_by(&list[0]) else {
        loosen(&mut branches);
        return branches;
    };
    let words: Vec<Value> = list.iter().map(|branch| branch["properties"][&key]["const"].clone()).collect();
    for (branch, word) in list.iter_mut().zip(&words) {
        loosen(branch);
        branch["properties"][&key] = json!({"const": word});
    }
    let mut other = Map::new();
    other.insert(key.clone(), json!({"type": "string", "not": {"enum": words}}));
    list.push(json!({"type": "object", "required": [key], "properties": other}));
    branches
}

#[test]
fn the_open_schema_follows_from_the_exact_one() {
    let exact: Value = serde_json::from_str(EXACT).unwrap();
    let expected = open(&exact).to_string() + "\n";
    if std::env::var_os("UPDATE").is_some() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/src/report/open-schema.json");
        std::fs::write(file, expected).unwrap();
    } else {
        assert!(expected == OPEN, "run: UPDATE=1 cargo test --test open_schema");
    }
}

/// What the program prints is this schema, to people.
#[test]
fn it_is_printed() {
    let program = env!("CARGO_BIN_EXE_snap-teardown");
    let output = std::process::Command::new(program).args(["report", "schema"]).output().unwrap();
    assert!(output.status.success());
    let printed: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(printed, serde_json::from_str::<Value>(OPEN).unwrap());
    assert!(output.stdout.iter().filter(|b| **b == b'\n').count() > 500, "nobody can read that");
}

/// What a reader meets is explained, or is one fixed word.
#[test]
fn every_property_is_described() {
    fn look(schema: &Value, place: &str, lacking: &mut Vec<String>) {
        let Value::Object(map) = schema else {
            if let Value::Array(list) = schema {
                list.iter().for_each(|one| look(one, place, lacking));
            }
            return;
        };
        for (key, value) in map {
            if key == "properties" {
                for (name, property) in value.as_object().into_iter().flatten() {
                    let place = format!("{place}/{name}");
                    let explained = property["description"].as_str().is_some_and(|text| text.ends_with('.'));
                    if !explained && property.get("const").is_none() {
                        lacking.push(place.clone());
                    }
                    look(property, &place, lacking);
                }
            } else {
                look(value, &format!("{place}/{key}"), lacking);
            }
        }
    }
    let mut lacking = Vec::new();
    look(&serde_json::from_str(EXACT).unwrap(), "", &mut lacking);
    assert!(lacking.is_empty(), "{lacking:#?}");
}
