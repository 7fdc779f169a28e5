//! What people read of a report, and what fits into a hook's output.

use std::fmt::Write as _;
use std::sync::Arc;

use crate::report::note::Note;
use crate::report::{Command, Counts, Left, Minimal, Outcome, Report, SCHEMA, StepReport};
use crate::residue::Residue;
use crate::text::{json, printable, printable_json};

/// snapd keeps the last 100 lines and 10 KiB of a hook's output; we stay well below.
const OUTPUT_LIMIT: usize = 8 << 10;

impl Report {
    /// The same without what does not fit into so many bytes of JSON; counts stay whole.
    fn cut(&self, limit: usize) -> String {
        let mut cut = self.without_bulk();
        cut.scripts.truncate(10);
        for most in [100, 30, 10, 3, 1, 0] {
            for step in &mut cut.steps {
                step.left.truncate(most);
                step.blind.truncate(most);
                step.left.iter_mut().for_each(|l| shorten(l, most));
            }
            cut.notes.iter_mut().for_each(|n| n.items.truncate(most));
            cut.disks.truncate(most);
            let json = json(&cut);
            let json = printable_json(&json);
            if json.len() <= limit {
                return json.into_owned();
            }
            if most <= 3 {
                cut.advice.iter_mut().for_each(|a| a.shorten(most.max(1)));
            }
        }
        let minimal = Minimal {
            schema: SCHEMA,
            truncated: true,
            outcome: self.outcome,
            exit_status: self.exit_status,
            needs: self.needs.clone(),
            counts: self.counts,
        };
        json(&minimal)
    }

    /// A copy without what is never in the cut form; thousands of mounts are not copied to be dropped.
    pub(super) fn without_bulk(&self) -> Report {
        const MAX_LISTED: usize = 100;
        // No later look sees what was detached.
        let is_listed =
            |(at, left): &(usize, &Left)| *at < MAX_LISTED || matches!(*left.residue, Residue::Detached(_));
        let step = |s: &StepReport| StepReport {
            name: s.name,
            elapsed_ms: s.elapsed_ms,
            counts: s.counts,
            closed: s.closed.clone(),
            left: s.left.iter().enumerate().filter(is_listed).map(|(_, left)| left.clone()).collect(),
            removed: Vec::new(),
            blind: s.blind.iter().take(MAX_LISTED).cloned().collect(),
        };
        Report {
            truncated: true,
            version: self.version.clone(),
            needs: self.needs.clone(),
            snap: self.snap.clone(),
            profile: self.profile.clone(),
            host: self.host.clone(),
            abilities: self.abilities.clone(),
            steps: self.steps.iter().map(step).collect(),
            advice: self.advice.clone(),
            notes: self.notes.clone(),
            scripts: self.scripts.clone(),
            endings: Vec::new(),
            sizes: Vec::new(),
            disks: self.disks.clone(),
            scope: None,
            file: self.file.clone(),
            ..*self
        }
    }

    /// What goes to the hook's output: a summary for people, then the cut document in one line.
    pub fn output(&self) -> String {
        let mut summary = self.summary();
        let room = OUTPUT_LIMIT / 2;
        if summary.len() > room {
            let end = (0..=room).rev().find(|i| summary.is_char_boundary(*i)).unwrap_or(0);
            summary.truncate(summary[..end].rfind('\n').unwrap_or(0));
            summary.push_str("\n  …\n");
        }
        let json = self.cut(OUTPUT_LIMIT - summary.len() - 2);
        format!("{summary}{json}\n")
    }

    /// A few lines for people.
    pub fn summary(&self) -> String {
        const MAX_LISTED: usize = 20;
        let mut out = String::new();
        let c = self.counts;
        // What a line says may come from anywhere: it stays one line, and does nothing but to be read.
        let mut line = |text: std::fmt::Arguments| {
            let _ = writeln!(out, "{}", printable(&text.to_string()));
        };
        line(format_args!("{}", self.headline()));
        let left: Vec<_> = self.steps.iter().flat_map(|s| &s.left).collect();
        for item in left.iter().take(MAX_LISTED) {
            line(format_args!("  left: {}: {}", item.residue, item.told()));
        }
        if left.len() > MAX_LISTED {
            line(format_args!("  … and {} more", left.len() - MAX_LISTED));
        }
        for step in &self.steps {
            if let Some(closed) = &step.closed {
                line(format_args!("  {} did nothing: {}", step.name, closed.why));
            }
        }
        for blind in self.steps.iter().flat_map(|s| &s.blind).take(MAX_LISTED) {
            line(format_args!("  could not look at {}: {}", blind.what, blind.why));
        }
        for script in self.scripts.iter().filter(|s| !s.went_well()) {
            line(format_args!("  script {script}"));
        }
        let to_tell: Vec<_> = self.endings.iter().filter(|ending| ending.is_to_be_told()).collect();
        for ending in to_tell.iter().take(MAX_LISTED / 2) {
            line(format_args!("  {ending}"));
        }
        if to_tell.len() > MAX_LISTED / 2 {
            line(format_args!("  … and {} more containers", to_tell.len() - MAX_LISTED / 2));
        }
        for advice in &self.advice {
            line(format_args!("  {advice}"));
        }
        for note in self.notes_to_show() {
            line(format_args!("  note: {note}"));
        }
        if let Some(file) = self.file.as_ref().filter(|_| c.left + c.blind > 0) {
            line(format_args!("  all of it: {file}"));
        }
        out
    }

    /// Who has removed the snap wants to know how it went, not what was to be known before.
    pub fn notes_to_show(&self) -> impl Iterator<Item = &Note> {
        let removed = self.command == Command::Remove && self.complete;
        self.notes.iter().filter(move |n| !removed || n.kind.is_of_the_result())
    }

    /// One line.
    pub fn headline(&self) -> String {
        let Counts { found, removed, left, blind } = self.counts;
        // In whole numbers: printing one fraction would link 20 KB.
        let seconds = format!("{}.{}", self.elapsed_ms / 1000, self.elapsed_ms / 100 % 10);
        let snap = &self.snap.instance;
        let what = match (self.command, self.outcome) {
            (Command::Survey, Outcome::Clean) => {
                let but = if self.sizes.iter().any(|size| size.bytes > 0) { " but its data" } else { "" };
                return format!("snap-teardown: nothing of snap \"{snap}\" is there{but}");
            }
            (Command::Survey, _) => {
                let s = |number| if number == 1 { "" } else { "s" };
                return format!(
                    "snap-teardown: snap \"{snap}\": a removal would end or remove {left} thing{}; {blind} place{} could not be looked at",
                    s(left),
                    s(blind)
                );
            }
            (_, Outcome::Clean) => "clean",
            (_, Outcome::Residue) if self.out_of_time => "out of time, leftovers remain",
            (_, Outcome::Residue) => "leftovers remain",
            (_, Outcome::Blind) => "nothing was seen to be left, but not everything could be looked at",
            (_, Outcome::Interrupted) => "interrupted",
        };
        format!(
            "snap-teardown: snap \"{snap}\": {what}: {found} found, {removed} removed, {left} left, {blind} not looked at ({seconds} s)"
        )
    }
}

impl Left {
    /// The reason with its errno.
    pub fn told(&self) -> String {
        let why = self.why.as_deref().unwrap_or("not tried");
        match &self.errno {
            Some(errno) if !why.contains(errno.as_str()) => format!("{why} [{errno}]"),
            _ => why.to_owned(),
        }
    }
}

/// Lists within a residue are cut too: thousands of processes do not fit into a line. The run holds the same residue: what
/// has nothing to cut is not copied.
pub(super) fn shorten(left: &mut Left, most: usize) {
    left.shorten(most);
    let longest = match &*left.residue {
        Residue::Task(task) => task.processes.len().max(task.groups.len()),
        Residue::Shim(shim) => shim.containers.len().max(shim.held_by.len()),
        Residue::Detached(mount) => mount.holders.len(),
        other => other.processes().len(),
    };
    if longest <= most {
        return;
    }
    match Arc::make_mut(&mut left.residue) {
        Residue::Task(task) => {
            task.processes.truncate(most);
            task.groups.truncate(most);
        }
        Residue::Service(service) => service.processes.truncate(most),
        Residue::Shim(shim) => {
            shim.containers.truncate(most);
            shim.held_by.truncate(most);
        }
        Residue::Detached(mount) => mount.holders.truncate(most),
        _ => {}
    }
}
