//! The floors of `src/`: a file imports only from floors below its own. Of two rooms on one floor neither knows the other,
//! and inside a folder files make no circle. The map is in `src/lib.rs`.

#![allow(clippy::unwrap_used)] // a source that cannot be read is a failure

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// From the ground up; rooms in one line share a floor.
const FLOORS: [&[&str]; 12] = [
    &["text", "json", "order", "bits", "reason"],
    &["error"],
    &["linux"],
    &["snap"],
    &["runtime"],
    &["view", "residue"],
    &["scope", "engine"],
    &["steps", "remove"],
    &["report"],
    &["run"],
    &["program"],
    &["cli"],
];

/// They put the rooms together, and stand on no floor.
const OUTSIDE: [&str; 4] = ["lib", "main", "testing", "fixture"];

const ADVICE: &str = "What both need belongs on a floor below both. What the lower one wants from the upper one is \
    handed to it: as an argument, as a closure, or by the caller who knows both.";

fn floor(room: &str) -> usize {
    FLOORS
        .iter()
        .position(|floor| floor.contains(&room))
        .unwrap_or_else(|| panic!("src/{room} is on no floor: give it a place in {}", file!()))
}

fn files(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => files(&path, found),
            false if path.extension().is_some_and(|e| e == "rs") && !path.ends_with("tests.rs") => {
                found.push(path)
            }
            false => {}
        }
    }
}

/// A file's module path ("linux::cgroup::walk"), and what it names of the crate, without its unit tests.
fn read(file: &Path, src: &Path) -> (String, BTreeSet<String>) {
    let module = file.strip_prefix(src).unwrap().with_extension("");
    let module = module.to_str().unwrap().replace('/', "::");
    let module = module.strip_suffix("::mod").unwrap_or(&module).to_owned();
    let text = fs::read_to_string(file).unwrap();
    let text = text.split("#[cfg(test)]").next().unwrap_or_default();
    let parent = module.rsplit_once("::").map_or("", |(parent, _)| parent);
    let of_super =
        if file.ends_with("mod.rs") { parent } else { module.rsplit_once("::").map_or("", |(p, _)| p) };
    let mut named = BTreeSet::new();
    let code =
        text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
    for (marker, prefix) in [("crate::", String::new()), ("super::", format!("{of_super}::"))] {
        for (at, _) in code.match_indices(marker) {
            let rest = &code[at + marker.len()..];
            // In a file of the ground floor it is an inline module's word for the file itself.
            if marker == "super::" && of_super.is_empty() {
                continue;
            }
            named.extend(expand(rest).into_iter().map(|tail| format!("{prefix}{tail}")));
        }
    }
    (module, named)
}

/// The paths at the start of a text: `a::b`, or `a::{b, c::d}`, one level deep.
fn expand(text: &str) -> Vec<String> {
    let end = text.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':')).unwrap_or(text.len());
    let head = text[..end].trim_end_matches(':');
    let Some(list) = text[end..].strip_prefix('{') else { return vec![head.to_owned()] };
    let list = list.split('}').next().unwrap_or_default();
    let words = list.split(',').map(|word| word.trim().split([' ', ':', '{']).next().unwrap_or_default());
    let join = |word: &str| if head.is_empty() { word.to_owned() } else { format!("{head}::{word}") };
    words.filter(|word| !word.is_empty() && *word != "self").map(join).chain([head.to_owned()]).collect()
}

#[test]
fn nothing_is_imported_from_above_or_from_beside() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut all = Vec::new();
    files(&src, &mut all);
    let modules: BTreeMap<String, BTreeSet<String>> = all.iter().map(|file| read(file, &src)).collect();
    let room = |path: &str| path.split("::").next().unwrap_or_default().to_owned();
    let mut wrong = Vec::new();
    for (module, named) in modules.iter().filter(|(m, _)| !OUTSIDE.contains(&room(m).as_str())) {
        for path in named.iter().filter(|p| !p.is_empty()) {
            let (own, other) = (room(module), room(path));
            if own != other && floor(&other) >= floor(&own) {
                wrong.push(format!("src/{} imports {path}", module.replace("::", "/")));
            }
        }
    }
    assert!(wrong.is_empty(), "imports from above or from beside:\n  {}\n{ADVICE}", wrong.join("\n  "));
    let circle = circle(&modules);
    assert!(circle.is_none(), "files in a circle: {}\n{ADVICE}", circle.unwrap_or_default().join(" -> "));
}

#[test]
fn only_scope_says_what_is_proven() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut all = Vec::new();
    files(&src, &mut all);
    let says = |file: &&PathBuf| fs::read_to_string(file).unwrap().contains("Proven::by(");
    let (scope, others): (Vec<_>, Vec<_>) =
        all.iter().filter(says).partition(|file| file.starts_with(src.join("scope")));
    assert!(others.is_empty(), "whose a thing is, src/scope decides, by its witness: {others:?}");
    assert!(!scope.is_empty(), "nothing is proven any more");
}

/// Files that import each other in a circle, if there are any. A file that names its folder's own module file is one too.
fn circle(modules: &BTreeMap<String, BTreeSet<String>>) -> Option<Vec<String>> {
    let target = |path: &str| {
        let mut path = path;
        loop {
            if modules.contains_key(path) {
                return Some(path.to_owned());
            }
            path = path.rsplit_once("::")?.0;
        }
    };
    let mut arrows: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for (module, named) in modules.iter().filter(|(m, _)| !OUTSIDE.contains(&m.as_str())) {
        let to = named.iter().filter_map(|path| target(path)).filter(|to| to != module);
        arrows.insert(module, to.filter(|to| !OUTSIDE.contains(&to.as_str())).collect());
    }
    // What imports nothing that is left is on no circle.
    loop {
        let free: Vec<&str> = arrows
            .iter()
            .filter(|(_, to)| to.iter().all(|t| !arrows.contains_key(t.as_str())))
            .map(|(m, _)| *m)
            .collect();
        if free.is_empty() {
            break;
        }
        free.iter().for_each(|module| drop(arrows.remove(module)));
    }
    let mut at = arrows.keys().next()?.to_string();
    let mut way = vec![at.clone()];
    loop {
        at = arrows[at.as_str()].iter().find(|to| arrows.contains_key(to.as_str()))?.clone();
        if let Some(start) = way.iter().position(|known| *known == at) {
            way.push(at);
            return Some(way.split_off(start));
        }
        way.push(at.clone());
    }
}
