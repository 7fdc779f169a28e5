//! Cutting a document until it fits into a file.

use std::fs::File;
use std::io::{self, ErrorKind, Seek, Write};
use std::sync::Arc;

use crate::report::Report;
use crate::report::note::{Note, NoteKind};
use crate::report::summary::shorten;
use crate::scope::{self, Scope};
use crate::text::write_printable_json;

/// As many of a list stay where a list is cut.
const MANY: usize = 1000;
const SOME: usize = 100;

/// What is cut, one after the other: first what is of most and says least. Never a count.
const CUTS: [fn(&mut Report); 7] = [
    |report| report.steps.iter_mut().for_each(|step| step.removed.clear()),
    |report| {
        report.without_binds = true;
        cut_scope(
            report,
            |scope| scope.bystanders.len().max(scope.nonsense.len()),
            |scope| {
                scope.bystanders.truncate(SOME);
                scope.nonsense.truncate(SOME);
            },
        );
    },
    |report| {
        report.endings.iter_mut().filter_map(|ending| ending.hook.as_mut()).for_each(|hook| hook.error = None)
    },
    |report| {
        report.endings.truncate(MANY);
        report.steps.iter_mut().for_each(|step| step.blind.truncate(SOME));
        report.notes.iter_mut().for_each(|note| note.items.truncate(SOME));
        cut_scope(report, |scope| scope.blind.len(), |scope| scope.blind.truncate(SOME));
    },
    |report| cut_left(report, MANY),
    |report| cut_left(report, SOME),
    |report| report.scope = None,
];

/// The run goes on with the scope: what is cut is a copy, of megabytes, so none is made for nothing.
fn cut_scope(report: &mut Report, longest: fn(&Scope) -> usize, cut: fn(&mut Scope)) {
    let long = report.scope.as_mut().filter(|scope| longest(scope) > SOME);
    long.map(Arc::make_mut).into_iter().for_each(cut);
}

fn cut_left(report: &mut Report, most: usize) {
    for step in &mut report.steps {
        step.left.truncate(most);
        step.left.iter_mut().for_each(|left| shorten(left, SOME));
    }
    report.advice.iter_mut().for_each(|advice| advice.shorten(most));
}

impl Report {
    /// Writes it, cut until it is no longer than so many bytes of JSON, and says so in it. Most documents fit: none is
    /// measured before it is written.
    pub(super) fn write_within(&mut self, most: u64, to: &mut File) -> io::Result<()> {
        for cut in CUTS {
            match self.write_to(&mut Room { to, left: most }) {
                Err(e) if e.kind() == ErrorKind::FileTooLarge => {}
                done => return done,
            }
            to.set_len(0)?;
            to.rewind()?;
            if !self.truncated {
                self.truncated = true;
                let text =
                    "this document was cut: there was more to tell than fits into it; its counts are whole";
                self.notes.insert(0, Note::of(NoteKind::Cut, text, []));
            }
            cut(self);
        }
        self.write_to(to)
    }

    /// Its JSON in one line, if that is no longer.
    pub(super) fn json_within(&self, most: u64) -> Option<String> {
        let mut json = Vec::new();
        self.write_to(&mut Room { to: &mut json, left: most }).ok()?;
        String::from_utf8(json).ok()
    }

    fn write_to(&self, to: &mut dyn Write) -> io::Result<()> {
        if self.without_binds {
            return scope::without_binds(|| write_printable_json(to, self));
        }
        write_printable_json(to, self)
    }
}

/// A writer that takes no more than there is room for.
struct Room<'a> {
    to: &'a mut dyn Write,
    left: u64,
}

impl Write for Room<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.left = self.left.checked_sub(bytes.len() as u64).ok_or(ErrorKind::FileTooLarge)?;
        self.to.write_all(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}
