//! Cutting a document until it fits into a file.

use std::io::{self, Write};

use crate::report::Report;
use crate::report::note::{Note, NoteKind};
use crate::report::summary::shorten;
use crate::text::{PrintableJson, json, printable_json, write_json};

/// As many of a list stay where a list is cut.
const MANY: usize = 1000;
const SOME: usize = 100;

/// What is cut, one after the other: first what is of most and says least. Never a count.
const CUTS: [fn(&mut Report); 6] = [
    |report| report.steps.iter_mut().for_each(|step| step.removed.clear()),
    |report| {
        let Some(scope) = &mut report.scope else { return };
        scope.containers.iter_mut().for_each(|container| container.binds.clear());
        scope.bystanders.truncate(SOME);
        scope.nonsense.truncate(SOME);
    },
    |report| {
        report.steps.iter_mut().for_each(|step| step.blind.truncate(SOME));
        report.notes.iter_mut().for_each(|note| note.items.truncate(SOME));
        report.scope.iter_mut().for_each(|scope| scope.blind.truncate(SOME));
    },
    |report| cut_left(report, MANY),
    |report| cut_left(report, SOME),
    |report| report.scope = None,
];

fn cut_left(report: &mut Report, most: usize) {
    for step in &mut report.steps {
        step.left.truncate(most);
        step.left.iter_mut().for_each(|left| shorten(left, SOME));
    }
    report.advice.iter_mut().for_each(|advice| advice.shorten(most));
}

impl Report {
    /// Cuts it to so many bytes of JSON, and says so.
    pub(super) fn fit(&mut self, most: u64) {
        for cut in CUTS {
            if self.length() <= most {
                return;
            }
            if !self.truncated {
                self.truncated = true;
                let text =
                    "this document was cut: there was more to tell than fits into it; its counts are whole";
                self.notes.insert(0, Note::of(NoteKind::Cut, text, []));
            }
            cut(self);
        }
    }

    /// Its JSON in one line, if that is no longer.
    pub(super) fn json_within(&self, most: u64) -> Option<String> {
        (self.length() <= most).then(|| printable_json(&json(self)).into_owned())
    }

    /// How long its JSON is. It is written away, and not held.
    fn length(&self) -> u64 {
        let mut counter = Counter(0);
        let _ = write_json(&mut PrintableJson(&mut counter), self);
        counter.0
    }
}

struct Counter(u64);

impl Write for Counter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
