//! The page that explains the result has every key and every word of the schema, and no other key.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::{Value, json};
use snap_teardown::testing::{Report, plan};

use super::{root, typed};

/// The section of the page that explains an object of the schema. Objects that are not named here are explained where they stand:
/// `snap.name`.
const SECTIONS: [(&str, &str); 17] = [
    ("document", "KEYS"),
    ("needs", "NEEDS"),
    ("counts", "COUNTS"),
    ("step", "STEPS"),
    ("left", "LEFT"),
    ("blind", "BLIND"),
    ("residue", "RESIDUE"),
    ("process", "A process"),
    ("holder", "A holder"),
    ("container-id", "A container's ID"),
    ("advice", "ADVICE"),
    ("note", "NOTES"),
    ("hook", "HOOKS"),
    ("ending", "ENDINGS"),
    ("scope", "SCOPE"),
    ("container", "CONTAINERS"),
    ("roots", "ROOTS"),
];

fn page() -> String {
    std::fs::read_to_string(root().join("snap/local/man/snap-teardown-result.5")).unwrap()
}

fn schema() -> Value {
    serde_json::from_str(include_str!("../../src/report/schema.json")).unwrap()
}

/// Each section by its title.
fn sections(page: &str) -> BTreeMap<String, &str> {
    let parts = page.split("\n.SH ").skip(1).flat_map(|section| section.split("\n.SS "));
    parts.filter_map(|part| part.split_once('\n')).map(|(title, text)| (title.to_owned(), text)).collect()
}

/// What stands in bold in these lines: where keys and words are explained, they do.
fn bold(text: &str) -> BTreeSet<String> {
    text.lines().flat_map(bold_of_line).collect()
}

fn bold_of_line(line: &str) -> Vec<String> {
    let (macro_name, rest) = line.split_once(' ').unwrap_or((line, ""));
    // Words in quotation marks are one.
    let words = rest.split('"').enumerate().flat_map(|(i, part)| match i % 2 {
        0 => part.split_whitespace().collect(),
        _ => vec![part],
    });
    let plain = |word: &str| typed(word).replace("\\(dq", "");
    match macro_name {
        ".B" => vec![plain(rest)],
        ".BR" => words.step_by(2).map(plain).collect(),
        ".RB" => words.skip(1).step_by(2).map(plain).collect(),
        _ => Vec::new(),
    }
}

/// Compares one page with the schema.
struct Comparison<'a> {
    definitions: &'a Value,
    sections: BTreeMap<String, &'a str>,
    /// All that stands in bold.
    everywhere: BTreeSet<String>,
    lacking: Vec<String>,
    /// The section that is looked at, and which keys of it the schema has.
    section: String,
    known: BTreeSet<String>,
}

/// What the page does not explain, and what it explains that is not there.
fn compare(page: &str, schema: &Value) -> Vec<String> {
    let mut comparison = Comparison {
        definitions: &schema["$defs"],
        sections: sections(page),
        everywhere: bold(page),
        lacking: Vec::new(),
        section: String::new(),
        known: BTreeSet::new(),
    };
    for (definition, section) in SECTIONS {
        comparison.compare(definition, section);
    }
    comparison.lacking
}

impl Comparison<'_> {
    fn compare(&mut self, definition: &str, section: &str) {
        let Some(text) = self.sections.get(section).copied() else {
            return self.lacking.push(format!("section {section}"));
        };
        self.section = section.to_owned();
        self.known.clear();
        let definitions = self.definitions;
        self.look(&definitions[definition], "", text);
        // What an entry begins with is a key, or a word that has been asked for.
        let entries = text.split(".TP\n").skip(1).filter_map(|entry| entry.lines().next());
        for word in entries.flat_map(bold_of_line).filter(|word| !self.known.contains(word)) {
            self.lacking.push(format!("{section}: the schema has no '{word}'"));
        }
    }

    fn demand(&mut self, word: &str, there: bool) {
        self.known.insert(word.to_owned());
        if !there {
            self.lacking.push(format!("{}: {word}", self.section));
        }
    }

    /// Looks for all of a schema's keys and words in this text.
    fn look(&mut self, schema: &Value, key: &str, text: &str) {
        if !schema.is_object() {
            return;
        }
        let definitions = self.definitions;
        let words = bold(text);
        if let Some(name) = schema["$ref"].as_str() {
            let name = name.trim_start_matches("#/$defs/");
            if let Some(all) = definitions[name]["enum"].as_array() {
                for word in all.iter().filter_map(Value::as_str) {
                    self.demand(word, self.everywhere.contains(word));
                }
            } else if !SECTIONS.iter().any(|(definition, _)| *definition == name) {
                self.look(&definitions[name], key, text);
            }
        }
        let listed = schema["enum"].as_array().into_iter().flatten().chain([&schema["const"]]);
        for word in listed.filter_map(Value::as_str) {
            self.demand(word, words.contains(word));
        }
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            let key = if key.is_empty() { name.clone() } else { format!("{key}.{name}") };
            let below = format!("{key}.");
            self.demand(&key, words.iter().any(|word| *word == key || word.starts_with(&below)));
            self.look(property, &key, text);
        }
        for branch in schema["oneOf"].as_array().into_iter().flatten() {
            self.branch(branch, key, text);
        }
        for part in ["items", "additionalProperties", "propertyNames"] {
            // Names of programs are no words of ours.
            if part != "propertyNames" || schema[part]["enum"].is_null() {
                self.look(&schema[part], key, text);
            }
        }
        for part in schema["anyOf"].as_array().into_iter().flatten() {
            self.look(part, key, text);
        }
    }

    /// One of several kinds of an object. Where a word tells which, its keys stand in that word's own entry.
    fn branch(&mut self, branch: &Value, key: &str, text: &str) {
        let properties = branch["properties"].as_object();
        let told = properties.into_iter().flatten().find(|(_, value)| value["const"].is_string());
        let Some((name, word)) = told else { return self.look(branch, key, text) };
        let word = word["const"].as_str().unwrap();
        let (before, entries) = text.split_once(".TP\n").unwrap_or((text, ""));
        self.demand(name, bold(before).contains(name));
        let entry =
            entries.split(".TP\n").find(|entry| bold_of_line(entry.lines().next().unwrap()) == [word]);
        self.demand(word, entry.is_some());
        let mut others = branch.clone();
        others["properties"].as_object_mut().unwrap().remove(name);
        self.look(&others, key, entry.unwrap_or_default());
    }
}

#[test]
fn the_page_of_the_result_has_every_key_and_every_word() {
    let (page, schema) = (page(), schema());
    let lacking = compare(&page, &schema);
    assert!(lacking.is_empty(), "{lacking:#?}");
    // Every object of the schema has been met: it has a section, or stands where it is used. The minimal form is a part.
    let document = schema["$defs"]["document"]["properties"].as_object().unwrap();
    let minimal = schema["$defs"]["minimal"]["properties"].as_object().unwrap();
    assert!(minimal.keys().all(|key| document.contains_key(key)));
    let steps = sections(&page)["STEPS"];
    for step in plan(Duration::ZERO) {
        assert!(steps.contains(&step.name.to_string()), "STEPS: {}", step.name);
    }
}

#[test]
fn a_key_or_a_word_that_the_page_has_not_got_would_be_noticed() {
    let (page, schema) = (page(), schema());
    let without = |words: &str| compare(&page.replacen(words, "", 1), &schema);
    for (words, lacking) in [
        (".BR rounds \"", "KEYS: rounds"),
        (", \" snap.instance ", "KEYS: snap.instance"),
        (".B there-again\n", "LEFT: there-again"),
        (".BR held-by ,", "RESIDUE: held-by"),
        (".B holders-unknown\n", "RESIDUE: holders-unknown"),
        (", \" unresolved.why", "ROOTS: unresolved.why"),
        (".B booted\n", "NOTES: booted"),
        (".SH HOOKS\n", "section HOOKS"),
    ] {
        assert!(page.contains(words), "{words}");
        let found = without(words);
        assert!(found.iter().any(|one| one == lacking), "{words}: {found:#?}");
    }
    let mut larger = schema.clone();
    larger["$defs"]["step"]["properties"]["colour"] = json!({"type": "string"});
    assert_eq!(compare(&page, &larger), ["STEPS: colour"]);
    let stale = page.replacen(".BR rounds \"", ".BR laps \"", 1);
    assert_eq!(compare(&stale, &schema), ["KEYS: rounds", "KEYS: the schema has no 'laps'"]);
}

/// The document that the page shows is one, for the schema and for the program that reads it.
#[test]
fn the_example_of_the_result_is_one() {
    let page = page();
    let sample = sections(&page)["EXAMPLE"].split(".nf\n").nth(1).unwrap().split(".fi").next().unwrap();
    let sample: Value = serde_json::from_str(sample).unwrap();
    let mut schema = schema();
    schema.as_object_mut().unwrap().remove("anyOf");
    schema["$ref"] = json!("#/$defs/document");
    jsonschema::draft202012::new(&schema).unwrap().validate(&sample).unwrap();
    let read: Report = serde_json::from_value(sample.clone()).unwrap();
    assert_eq!(serde_json::to_value(&read).unwrap(), sample);
    // By the arithmetic that the page explains.
    assert_eq!(read.ended_at, Some(read.started_at + read.elapsed_ms / 1000));
    assert_eq!((read.exit_status, read.counts.found), (1, read.counts.removed + read.counts.left));
}
