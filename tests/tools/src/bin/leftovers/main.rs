//! What is left of the test snap on a whole machine, found without any help of snap-teardown.
//!
//! Three ways of looking are joined. What was not there before the first thing of the snap existed (`before`) and is not the
//! machine's own doing; what was there while its pods ran (`record`) and still is; and what carries the snap's marks.

mod force;
mod left;

use std::collections::BTreeSet;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use left::{Left, look};
use serde::{Deserialize, Serialize};
use support::look::{Item, Look};

const USAGE: &str = "\
usage: leftovers before       remember what is there before the snap is
       leftovers record       remember what is there while its pods run
       leftovers list         print what is left now, a line each: kind, then what it is
       leftovers kinds        print the kinds of what is left, sorted, in one line
       leftovers check        fail if a kind is left that $LEFT does not name (words separated by blanks)
       leftovers force        take everything away, unconfined and without manners, for the next task";

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const NOTES: &str = "/run/teardown-test";
/// What ran once: the names of all of it, and what tasks read.
#[derive(Default, Serialize, Deserialize)]
struct Record {
    known: BTreeSet<String>,
    /// Of the pods, deepest first, as a process names its group.
    cgroups: Vec<String>,
    /// Of the shims.
    sockets: Vec<String>,
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let done = match words.first().map(String::as_str).filter(|_| words.len() == 1) {
        Some("before") => before(),
        Some("record") => record(),
        Some("list") => look().map(|left| lines(&left).iter().for_each(|line| println!("{line}"))),
        Some("kinds") => look().map(|left| println!("{}", kinds(&left))),
        Some("check") => check(),
        Some("force") => force::force(),
        _ => Err(USAGE.into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn snap() -> String {
    std::env::var("TEST_INSTANCE").unwrap_or_else(|_| "microk8s".into())
}

fn is_installed() -> bool {
    Path::new("/snap").join(snap()).join("current").is_symlink()
}

fn note(name: &str) -> PathBuf {
    Path::new(NOTES).join(format!("{name}.json"))
}

/// What was noted earlier, if it was.
fn noted<T: for<'a> Deserialize<'a>>(name: &str) -> Result<Option<T>> {
    let path = note(name);
    if !path.exists() {
        return Ok(None);
    }
    Ok(Some(serde_json::from_slice(&fs::read(path)?)?))
}

fn before() -> Result<()> {
    let names: Vec<_> =
        Look::of_machine(&left::processes()?)?.items().map(|(name, _)| name.clone()).collect();
    fs::create_dir_all(NOTES)?;
    Ok(fs::write(note("before"), serde_json::to_vec(&names)?)?)
}

fn lines(left: &Left) -> BTreeSet<String> {
    let line = |(word, item): &(&str, Item)| format!("{word} {} {}", item.what, item.looks).trim().to_owned();
    left.values().map(line).collect()
}

fn kinds(left: &Left) -> String {
    let words: BTreeSet<&str> = left.values().map(|(word, _)| *word).collect();
    if words.is_empty() { "nothing".into() } else { words.into_iter().collect::<Vec<_>>().join(" ") }
}

fn check() -> Result<()> {
    let declared = std::env::var("LEFT").unwrap_or_default();
    let allowed: Vec<&str> = declared.split_whitespace().collect();
    let mut extra = look()?;
    extra.retain(|_, (word, _)| !allowed.contains(word));
    if extra.is_empty() {
        return Ok(());
    }
    lines(&extra).iter().for_each(|line| println!("{line}"));
    Err(format!("more is left than the task declares (LEFT='{}')", allowed.join(" ")).into())
}

fn record() -> Result<()> {
    let left = look()?;
    let of = |word: &str| -> BTreeSet<&str> {
        left.values().filter(|(is, _)| *is == word).map(|(_, item)| item.what.as_str()).collect()
    };
    let groups = of("cgroup").into_iter().rev().filter_map(|path| path.strip_prefix("/sys/fs/cgroup"));
    let sockets = of("socket").into_iter().filter(|path| path.starts_with("/run/containerd/s/"));
    let record = Record {
        known: left.keys().cloned().collect(),
        cgroups: groups.map(str::to_owned).collect(),
        sockets: sockets.map(str::to_owned).collect(),
    };
    fs::create_dir_all(NOTES)?;
    let text = serde_json::to_string_pretty(&record)?;
    fs::write(note("record"), &text)?;
    println!("{text}");
    Ok(())
}
