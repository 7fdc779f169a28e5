//! The rules that hold after every attack.

use std::fs;
use std::os::unix::fs::MetadataExt;

use serde_json::Value;

use crate::trial::{PEAK, Trial};
use support::Result;
use support::hook::{self, Ended, Snap};
use support::look::{Kind, Look};

/// What a hook may need at most, in kilobytes, and how long its result may be.
const MEMORY: u64 = 32 << 10;
const RESULT: u64 = 4 << 20;

/// How many things a complaint lists.
const SHOWN: usize = 8;

/// What came of a run.
pub struct Came {
    pub status: Option<i32>,
    pub output: String,
    pub document: Value,
    complaints: Vec<String>,
}

impl Trial {
    /// The rules that hold after every attack.
    pub fn judge(&mut self, ended: Ended, mut complaints: Vec<String>) -> Result<Came> {
        for bystander in &mut self.bystanders {
            if let Some(harm) = bystander.harm()? {
                complaints.push(format!("HARMED: {}: {harm}", bystander.name()));
            }
        }
        let now = Look::now()?;
        let is_attackers = |thing: &str| self.attackers.iter().any(|part| thing.contains(part.as_str()));
        let things = |look: Look| {
            let all: Vec<String> =
                format!("{:.500}", look.without(&[Kind::Report])).lines().map(str::to_owned).collect();
            all.into_iter().skip(1).filter(|line| !is_attackers(line)).collect::<Vec<_>>()
        };
        let lost = things(self.before.minus(&now));
        let left = things(now.minus(&self.before));
        for (word, things) in [("LOST of others", &lost), ("LEFT of ours", &left)] {
            complaints.extend(things.iter().take(SHOWN).map(|thing| format!("{word}: {}", thing.trim())));
            if things.len() > SHOWN {
                complaints.push(format!("{word}: and {} more", things.len() - SHOWN));
            }
        }
        if ended.status == Some(0) && !left.is_empty() {
            complaints.push("LIE: status 0, and something of ours is left".into());
        }
        let document = self.document(&ended, &mut complaints);
        self.bounds(&mut complaints);
        Ok(Came { status: ended.status, output: ended.output, document, complaints })
    }

    /// There is always a report, and it agrees with the status.
    fn document(&self, ended: &Ended, complaints: &mut Vec<String>) -> Value {
        // What is far too long would take minutes to check; `bounds` complains.
        if fs::metadata(self.snap.result_file()).is_ok_and(|found| found.len() > 2 * RESULT) {
            return Value::Null;
        }
        let elsewhere = |error| match document_elsewhere(&self.snap) {
            Ok(document) => Ok(document),
            Err(_) => Err(error),
        };
        let document = match self.snap.document().or_else(elsewhere) {
            Ok(document) => document,
            Err(error) => {
                complaints.push(format!("NO REPORT: {error}"));
                return Value::Null;
            }
        };
        if document["exit-status"].as_i64() != ended.status.map(i64::from) {
            complaints
                .push(format!("LIE: status {:?}, the report says {}", ended.status, document["exit-status"]));
        }
        let elapsed = document["elapsed-ms"].as_u64().unwrap_or(u64::MAX);
        if elapsed > (self.deadline + 1) * 1000 {
            complaints.push(format!("late: {elapsed} ms, the deadline is {} s", self.deadline));
        }
        if let Err(error) = ended.cut_document() {
            complaints.push(format!("OUTPUT: {error}"));
        }
        if ended.output.chars().any(|c| c.is_control() && c != '\n') {
            complaints.push(format!("OUTPUT: control characters: {:?}", ended.output));
        }
        document
    }

    fn bounds(&self, complaints: &mut Vec<String>) {
        match fs::read_to_string(PEAK).ok().and_then(|text| text.parse::<u64>().ok()) {
            Some(peak) if peak <= MEMORY => println!("peak: {peak} KiB"),
            peak => complaints.push(format!("MEMORY: {peak:?} KiB of {MEMORY}")),
        }
        let length = fs::metadata(self.snap.result_file()).map_or(0, |m| m.len());
        if length > RESULT {
            complaints.push(format!("RESULT: {length} bytes of {RESULT}"));
        }
    }
}

impl Came {
    /// Another rule of this attack alone.
    pub fn must(&mut self, fact: bool, what: impl Into<String>) {
        if !fact {
            self.complaints.push(what.into());
        }
    }

    /// A doubtful thing is blind: never clean, and named.
    pub fn doubts(self, names: &[&str]) -> Result<()> {
        self.ends(&[3], names)
    }

    /// What was planted proves nothing, and hides nothing: whether it is told is the hook's choice.
    pub fn clean_or_doubts(self, names: &[&str]) -> Result<()> {
        if self.status == Some(3) { self.ends(&[3], names) } else { self.ends(&[0, 3], &[]) }
    }

    pub fn clean(self) -> Result<()> {
        self.ends(&[0], &[])
    }

    /// The last word: one of these statuses, and one of these names in what the report says of doubts and of what is left.
    pub fn ends(mut self, statuses: &[i32], names: &[&str]) -> Result<()> {
        if !self.status.is_some_and(|status| statuses.contains(&status)) {
            self.complaints.push(format!("STATUS: {:?}, not of {statuses:?}", self.status));
        }
        let told = self.told();
        if !names.is_empty() && !names.iter().any(|name| told.contains(name)) {
            self.complaints.push(format!("UNTOLD: none of {names:?} is in blind, left or notes"));
        }
        if self.complaints.is_empty() {
            return Ok(());
        }
        let first = self.output.lines().next().unwrap_or_default();
        println!("told: {told:.3000}");
        Err(format!(
            "complaint: {}\nstatus {:?}: {first:?}",
            self.complaints.join("\ncomplaint: "),
            self.status
        )
        .into())
    }

    /// What the report says of doubts, of what is left, and besides.
    pub fn told(&self) -> String {
        let steps = self.document["steps"].as_array().cloned().unwrap_or_default();
        let mut told: Vec<Value> =
            steps.iter().flat_map(|s| [s["left"].clone(), s["blind"].clone()]).collect();
        let scope = &self.document["scope"];
        told.extend([
            self.document["notes"].clone(),
            scope["blind"].clone(),
            scope["network"]["blind"].clone(),
        ]);
        Value::from(told).to_string()
    }
}

/// The document where it goes if it cannot go where it belongs: root's, and nobody else's to read.
fn document_elsewhere(snap: &Snap) -> Result<Value> {
    let path = snap.common.join("teardown.json");
    let found = fs::symlink_metadata(&path)?;
    if !found.is_file() || found.uid() != 0 || found.mode() & 0o777 != 0o600 {
        return Err(format!("'{}' is not root's alone", path.display()).into());
    }
    let document = serde_json::from_slice(&fs::read(path)?)?;
    hook::check(&document)?;
    Ok(document)
}
