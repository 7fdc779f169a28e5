//! The words of the exact schema are those of the program: none is missing, and none is left of an earlier version.

use std::collections::BTreeSet;

use serde::Deserialize;
use serde_json::{Value, json};
use snap_teardown::testing::{
    Ability, BystanderKind, Command, Effort, Evidence, Gate, HowAttached, NetnsEvidence, NoteKind, PathKind,
    StepName, TableOf, Witness, ending,
};

/// All words that the program reads as one of these, by its own account: what it says of a word that is none.
fn known<T: for<'de> Deserialize<'de>>() -> BTreeSet<String> {
    let error = serde_json::from_value::<T>(json!("no such word")).err().unwrap().to_string();
    let (_, words) = error.split_once(", expected ").unwrap_or_else(|| panic!("{error}"));
    words.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

#[test]
fn the_schema_has_the_words_of_the_program() {
    let schema: Value = serde_json::from_str(super::REPORT).unwrap();
    let step_names: BTreeSet<String> = known::<StepName>();
    assert!(step_names.contains("drain") && step_names.len() == 9, "{step_names:?}");
    for (place, known) in [
        ("document/properties/command", known::<Command>()),
        ("gate", known::<Gate>()),
        ("ability", known::<Ability>()),
        ("left/properties/effort", known::<Effort>()),
        ("witness", known::<Witness>()),
        ("bystander/properties/kind", known::<BystanderKind>()),
        ("note/properties/kind", known::<NoteKind>()),
        ("ending/properties/end", known::<ending::End>()),
        ("ending/properties/hook/properties/outcome", known::<ending::Outcome>()),
        ("residue/oneOf/10/properties/table", known::<TableOf>()),
        ("residue/oneOf/12/properties/how", known::<HowAttached>()),
        ("residue/oneOf/14/properties/what", known::<PathKind>()),
        ("scope/properties/devices/items/properties/how", known::<HowAttached>()),
        ("scope/properties/network/properties/namespaces/items/properties/because", known::<NetnsEvidence>()),
        ("container/properties/evidence/items", known::<Evidence>()),
    ] {
        let words = schema.pointer(&format!("/$defs/{place}/enum"));
        let words = words.unwrap_or_else(|| panic!("{place} has no words")).as_array().unwrap();
        let words: BTreeSet<String> = words.iter().map(|word| word.as_str().unwrap().to_owned()).collect();
        assert_eq!(words, known, "{place}");
    }
}
