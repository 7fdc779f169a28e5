//! Files and tests that documents name are there.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use super::{documents, root};

/// How the paths begin by which a document names files of this repository; the guide's own are of another tree.
const OURS: [&str; 5] = ["src/", "tests/", "hooks/", ".ci/", "snap/local/"];

/// What stands in a document as code: single words.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.lines().flat_map(|line| line.split('`').skip(1).step_by(2)).filter(|code| !code.contains(' '))
}

fn is_path(word: &str) -> bool {
    OURS.iter().any(|start| word.starts_with(start)) || word.ends_with(".rs")
}

/// True for `a_test_of_this_name`, which may begin with its module's name, and be shortened by an ellipsis or a star.
fn is_tests_name(word: &str) -> bool {
    word.matches('_').count() >= 2
        && word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "_…*:".contains(c))
}

/// All words in sources that could be names of tests.
fn names(directory: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with("target") {
            names(&path, found);
        } else if path.extension().is_some_and(|end| end == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            let words = text.split(|c: char| !c.is_ascii_lowercase() && !c.is_ascii_digit() && c != '_');
            found.extend(words.filter(|word| word.contains('_')).map(str::to_owned));
        }
    }
}

fn is_one_of(names: &BTreeSet<String>, word: &str) -> bool {
    let word = word.rsplit("::").next().unwrap_or_default();
    let (start, end) = word.split_once(['…', '*']).unwrap_or((word, ""));
    names.iter().any(|name| match start == word {
        true => name == word,
        false => name.starts_with(start) && name.ends_with(end),
    })
}

#[test]
fn every_file_and_every_test_that_is_named_is_there() {
    let mut known = BTreeSet::new();
    ["src", "tests"].iter().for_each(|directory| names(&root().join(directory), &mut known));
    let mut missing = Vec::new();
    for (document, text) in documents() {
        let beside = root().join(&document);
        let beside = beside.parent().unwrap();
        let there = |word: &&str| match is_path(word) {
            true => root().join(word).exists() || beside.join(word).exists(),
            false => !is_tests_name(word) || is_one_of(&known, word),
        };
        let gone = words(&text).filter(|word| !there(word));
        missing.extend(gone.map(|word| format!("{}: {word}", document.display())));
    }
    assert!(missing.is_empty(), "named, and not there: {missing:#?}");
}

#[test]
fn what_is_not_there_would_be_noticed() {
    let known = BTreeSet::from(["a_test_of_mine".to_owned()]);
    let found = |word: &str| is_tests_name(word) && is_one_of(&known, word);
    assert!(found("a_test_of_mine") && found("module::a_test_…") && found("*_of_mine"));
    assert!(!found("a_test_of_yours") && !found("a_test_of_mine_too") && !found("of_mine"));
    assert!(is_path("src/none.rs") && is_path("none.rs") && !is_path("/etc/fstab"));
    let code: Vec<&str> = words("`a b` and `c`\n`d`").collect();
    assert_eq!(code, ["c", "d"]);
}
