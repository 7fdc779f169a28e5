//! Cutting a document until it fits into a file.

use std::fs::File;
use std::io::{self, ErrorKind, Seek, Write};
use std::sync::Arc;

use crate::report::left::Left;
use crate::report::note::{Note, NoteKind};
use crate::report::summary::shorten;
use crate::report::{Report, StepReport};
use crate::residue::Residue;
use crate::scope::{self, Scope};
use crate::text::write_printable_json;

/// As many of a list stay where a list is cut.
const MANY: usize = 1000;
const SOME: usize = 100;

/// What is cut, and how.
type Cut = (&'static str, fn(&mut Report));

/// What is cut, one after the other: first what is of most and says least. Never a count. A mount that was detached no later
/// look sees: where it cannot be told, the scope has gone before, so a later run that relies on the document reports a blind spot.
const CUTS: [Cut; 8] = [
    ("steps.removed", |report| report.steps.iter_mut().for_each(|step| step.removed.clear())),
    ("scope.containers.binds, scope.bystanders, scope.nonsense", |report| {
        report.without_binds = true;
        let longest = |scope: &Scope| scope.bystanders.len().max(scope.nonsense.len());
        cut_scope(report, longest, |scope| {
            scope.bystanders.truncate(SOME);
            scope.nonsense.truncate(SOME);
        });
    }),
    ERRORS,
    ("endings, hooks, steps.blind, notes, scope.blind", |report| {
        report.endings.truncate(MANY);
        report.scripts.retain(|script| !script.went_well());
        report.steps.iter_mut().for_each(|step| step.blind.truncate(SOME));
        report.notes.iter_mut().for_each(|note| note.items.truncate(SOME));
        cut_scope(report, |scope| scope.blind.len(), |scope| scope.blind.truncate(SOME));
    }),
    ("steps.left", |report| cut_left(report, MANY)),
    ("steps.left", |report| cut_left(report, SOME)),
    ("scope", |report| report.scope = None),
    // What stays has a bound: numbers, words, names that snapd has checked, and what the kernel says of itself.
    ("steps.left, steps.blind, steps.closed, notes, advice, hooks, endings, disks", |report| {
        for step in &mut report.steps {
            step.left.clear();
            step.blind.clear();
            step.closed = None;
        }
        report.notes.truncate(1);
        report.advice.clear();
        report.scripts.clear();
        report.endings.clear();
        report.disks.clear();
    }),
];

/// What shims and pods have said.
const ERRORS: Cut = ("endings.hook.error", |report| {
    report.endings.iter_mut().filter_map(|ending| ending.hook.as_mut()).for_each(|hook| hook.error = None)
});

/// What is there for people alone.
const WHYS: Cut = ("steps.left.why", |report| {
    report.steps.iter_mut().flat_map(|step| &mut step.left).for_each(Left::forget_why)
});

/// The run goes on with the scope: what is cut is a copy, of megabytes, so none is made for nothing.
fn cut_scope(report: &mut Report, longest: fn(&Scope) -> usize, cut: fn(&mut Scope)) {
    let long = report.scope.as_mut().filter(|scope| longest(scope) > SOME);
    long.map(Arc::make_mut).into_iter().for_each(cut);
}

fn cut_left(report: &mut Report, most: usize) {
    for step in &mut report.steps {
        let mut kept = 0;
        step.left.retain(|left| {
            kept += 1;
            kept <= most || matches!(*left.residue, Residue::Detached(_))
        });
        step.left.iter_mut().for_each(|left| shorten(left, SOME));
    }
    report.advice.iter_mut().for_each(|advice| advice.shorten(most));
}

impl Report {
    /// Writes it, cut until it is no longer than so many bytes of JSON, and says so in it. Most documents fit: none is
    /// measured before it is written.
    pub(super) fn write_within(&mut self, most: u64, to: &mut File) -> io::Result<()> {
        self.fit(&mut CUTS.iter(), &mut |report| {
            to.set_len(0)?;
            to.rewind()?;
            report.write_to(&mut Room { to, left: most })
        })
    }

    /// Its JSON in one line, cut until it fits: first long lists, then prose, the scope late.
    pub(super) fn json_within(&self, most: u64) -> Option<String> {
        let mut json = Vec::new();
        let mut write = |report: &Report| {
            json.clear();
            report.write_to(&mut Room { to: &mut json, left: most })
        };
        if write(self).is_err() {
            let (endings, scope) = (self.endings.clone(), self.scope.clone());
            let mut cut = Report { endings, scope, ..self.without_bulk() };
            cut.note_cut(&self.missing_in(&cut).join(", "));
            cut.fit(&mut [ERRORS, WHYS].iter().chain(&CUTS), &mut write).ok()?;
        }
        String::from_utf8(json).ok()
    }

    /// The lists that are shorter in a copy.
    fn missing_in(&self, copy: &Report) -> Vec<&'static str> {
        type Length = fn(&StepReport) -> usize;
        let of_steps: [(&str, Length); 3] = [
            ("steps.removed", |step| step.removed.len()),
            ("steps.left", |step| step.left.len()),
            ("steps.blind", |step| step.blind.len()),
        ];
        let mut missing = if self.sizes.is_empty() { vec![] } else { vec!["sizes"] };
        for (key, length) in of_steps {
            if self.steps.iter().zip(&copy.steps).any(|(own, its)| length(its) < length(own)) {
                missing.push(key);
            }
        }
        missing
    }

    fn fit(
        &mut self,
        cuts: &mut dyn Iterator<Item = &Cut>,
        write: &mut dyn FnMut(&Report) -> io::Result<()>,
    ) -> io::Result<()> {
        loop {
            match write(self) {
                Err(e) if e.kind() == ErrorKind::FileTooLarge => {}
                done => return done,
            }
            let Some((what, cut)) = cuts.next() else { return Err(ErrorKind::FileTooLarge.into()) };
            cut(self);
            self.note_cut(what);
        }
    }

    fn note_cut(&mut self, what: &str) {
        if !matches!(self.notes.first(), Some(note) if note.kind == NoteKind::Cut) {
            let text =
                "this document was cut: there was more to tell than fits into it; its counts are whole";
            self.notes.insert(0, Note::of(NoteKind::Cut, text, []));
        }
        self.truncated = true;
        let items = &mut self.notes[0].items;
        for key in what.split(", ").filter(|key| !key.is_empty()) {
            if !items.iter().any(|known| known == key) {
                items.push(key.to_owned());
            }
        }
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

#[cfg(test)]
mod tests;
