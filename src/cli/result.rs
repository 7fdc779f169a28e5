//! The result of a run, as people read it: what it did, and what is left.

use std::collections::BTreeMap;

use crate::cli::page::Page;
use crate::cli::sections::{MAX_NAMED, blind, bystanders, head, more, section, what_to_do};
use crate::cli::sizes;
use crate::cli::table::Table;
use crate::order;
use crate::remove::ability::Answer;
use crate::report::{Counts, Left, Report};
use crate::residue::{Keys, Residue};
use crate::text;

/// What a run did, and what is left.
pub fn of(report: &Report, page: &Page) -> String {
    of_file(report, false, page)
}

/// The same, read from its file, perhaps while the run goes on that writes it.
pub fn of_file(report: &Report, goes_on: bool, page: &Page) -> String {
    let mut out = match goes_on {
        true => page.yellow(
            &page.paragraph("", "A run works on this snap at this moment: ask again when it is done."),
        ),
        false => head(report, page),
    };
    if !report.complete {
        let end = match goes_on {
            true => String::new(),
            false => format!(
                ", and the run was killed before its end; run 'snap-teardown remove --snap {}' to do the rest",
                report.snap.instance
            ),
        };
        let why = format!("This was written before anything was removed{end}.");
        out.push_str(&page.yellow(&page.paragraph("", &why)));
    }
    let came_back = sizes::came_back(&report.disks);
    if !came_back.is_empty() {
        out.push_str(&page.paragraph("", &format!("{came_back} while this ran.")));
    }
    out.push_str(&notes(report, page));
    out.push_str(&scripts(report, page));
    out.push_str(&section(page, "steps", &steps(report, page)));
    out.push_str(&section(page, "pods", &pods(report, page)));
    out.push_str(&section(page, "how containers ended", &endings(report, page)));
    out.push_str(&section(page, "left", &left(report, page)));
    out.push_str(&blind(report, page));
    out.push_str(&refused(report, page));
    let advice: String = report.advice.iter().map(|a| what_to_do(a, page)).collect();
    out.push_str(&section(page, "what to do", &advice));
    out.push_str(&bystanders(report, page));
    if let Some(file) = &report.file {
        out.push_str(&format!("\nAll of it: {}\n", text::printable(file)));
    }
    out
}

fn steps(report: &Report, page: &Page) -> String {
    let mut table = Table::new(&["STEP", "FOUND", "REMOVED", "LEFT", "BLIND", "TIME"]);
    for step in report.steps.iter().filter(|step| step.counts != Counts::default()) {
        let Counts { found, removed, left, blind } = step.counts;
        let counts = [found, removed, left, blind].map(|n| n.to_string());
        table.row(std::iter::once(step.name.to_string()).chain(counts).chain([seconds(step.elapsed_ms)]));
    }
    let mut out = table.render(page);
    for step in &report.steps {
        if let Some(closed) = &step.closed {
            out.push_str(&page.paragraph("  ", &format!("{} did nothing: {}", step.name, closed.why)));
        }
    }
    out
}

/// The pods of the scope, and how many of their containers the last look still saw.
fn pods(report: &Report, page: &Page) -> String {
    let Some(scope) = &report.scope else { return String::new() };
    let left = report.steps.iter().flat_map(|s| &s.left);
    let running = order::set(left.filter_map(|l| match &*l.residue {
        Residue::Task(task) => Some(format!("{}/{}", task.container.namespace, task.container.id)),
        _ => None,
    }));
    let mut pods: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    for container in &scope.containers {
        let name = container.pod.as_ref().map_or("(no pod)".into(), ToString::to_string);
        let (all, left) = pods.entry(name).or_default();
        *all += 1;
        *left += usize::from(running.contains(&format!("{}/{}", container.id.namespace, container.id.id)));
    }
    let mut table = Table::new(&["POD", "CONTAINERS", "STILL RUNNING"]);
    for (name, (all, left)) in pods.iter().take(page.most(MAX_NAMED)) {
        table.row([name.clone(), all.to_string(), left.to_string()]);
    }
    table.render(page) + &more(pods.len(), page.most(MAX_NAMED))
}

/// How containers ended: first those that did not end well.
fn endings(report: &Report, page: &Page) -> String {
    let mut sorted: Vec<_> = report.endings.iter().collect();
    order::sort_by_key(&mut sorted, |ending| !ending.is_to_be_told());
    let shown = sorted.iter().take(page.most(MAX_NAMED));
    let out: String = shown.map(|ending| page.paragraph("  ", &ending.to_string())).collect();
    out + &more(sorted.len(), page.most(MAX_NAMED))
}

fn left(report: &Report, page: &Page) -> String {
    let mut table = Table::new(&["WHAT", "WHY", "HELD BY"]);
    let all = || report.steps.iter().flat_map(|s| &s.left);
    // Each once, where it comes first.
    let keys = Keys::of(&mut all().map(|left| left.residue.key()));
    let mut shown = vec![false; keys.as_slice().len()];
    let is_first =
        |l: &&Left| keys.place(&l.residue.key()).is_some_and(|at| !std::mem::replace(&mut shown[at], true));
    let each: Vec<&Left> = all().filter(is_first).collect();
    for left in each.iter().take(page.most(MAX_NAMED)) {
        let holders = left.holders.iter().take(5);
        let mut holders: Vec<String> = holders.map(ToString::to_string).collect();
        if matches!(&*left.residue, Residue::Detached(mount) if mount.holders_unknown) {
            holders.push("others that could not be looked at".into());
        }
        table.row([left.residue.to_string(), left.told(), holders.join(", ")]);
    }
    table.render(page) + &more(each.len(), page.most(MAX_NAMED))
}

fn refused(report: &Report, page: &Page) -> String {
    let mut table = Table::new(&["WAY", "ANSWER"]);
    for (ability, answer) in &report.abilities {
        if let Answer::Refused(errno) = answer {
            table.row([text::name(ability), errno.clone()]);
        }
    }
    section(page, "refused by the kernel or its security modules", &table.render(page))
}

fn notes(report: &Report, page: &Page) -> String {
    let body: String = report.notes_to_show().map(|n| page.paragraph("  - ", &n.to_string())).collect();
    section(page, "notes", &body)
}

fn scripts(report: &Report, page: &Page) -> String {
    let body: String = report.scripts.iter().map(|h| page.paragraph("  - ", &h.to_string())).collect();
    section(page, "scripts that were run first", &body)
}

fn seconds(ms: u64) -> String {
    format!("{}.{} s", ms / 1000, ms / 100 % 10)
}
