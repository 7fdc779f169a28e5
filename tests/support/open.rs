//! Tests of a suite that are known not to hold yet: tests/SUITE/open names them, one in a line, each with a short reason.
//!
//! They are run with the others and must fail, at what they demand and not on the way there; so none is forgotten, and
//! whoever makes one hold is told to remove its line. The runner shows them as `[open]`, and tests/run counts them.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::sync::Arc;

use libtest_mimic::Trial;

use super::hook::OTHER_HOOK;
use super::scenes::failed;
use super::{Result, sources};

/// What a test prints when all is there that it needs: from here on, it judges.
const COMPLETE: &str = "scene: ";

pub struct Open {
    file: String,
    names: BTreeSet<String>,
}

impl Open {
    /// Of tests/`suite`, whose tests are `all`.
    pub fn of(suite: &str, all: &[&str]) -> Result<Open> {
        let mut open = Open { file: format!("tests/{suite}/open"), names: BTreeSet::new() };
        // The list is about our hook; tests/noop-proof demands of another one that every test fails.
        if std::env::var_os(OTHER_HOOK).is_some() {
            return Ok(open);
        }
        let text = match fs::read_to_string(sources().join(&open.file)) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(open),
            text => text?,
        };
        for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let wrong = |what| format!("{}: {what}: '{line}'", open.file);
            let (name, _) = line.split_once(' ').ok_or_else(|| wrong("no reason"))?;
            if !all.contains(&name) {
                return Err(wrong("there is no such test").into());
            }
            open.names.insert(name.to_owned());
        }
        Ok(open)
    }

    /// The test of this name, which must fail if it is open.
    pub fn trial(
        self: &Arc<Open>,
        name: &str,
        kind: &str,
        act: impl FnOnce() -> Result<()> + Send + 'static,
    ) -> Trial {
        let (open, own) = (self.clone(), name.to_owned());
        let is_open = self.names.contains(name);
        let run = move || match act().map_err(|error| error.to_string()) {
            Ok(()) if is_open => {
                Err(failed(&own, &format!("it holds now: remove its line from {}", open.file)))
            }
            Err(reason) if is_open && !reason.contains(COMPLETE) => {
                Err(failed(&own, &format!("open, but its scene was not complete: {reason}")))
            }
            Err(_) if is_open => Ok(()),
            ended => ended.map_err(|reason| failed(&own, &reason)),
        };
        Trial::test(name, run).with_kind(if is_open { "open" } else { kind })
    }
}
