//! Reports as people read them.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::cli::page::Page;
use crate::cli::sizes;
use crate::cli::table::Table;
use crate::engine::step::StepName;
use crate::order;
use crate::remove::ability::Answer;
use crate::report::advice::Advice;
use crate::report::{Command, Counts, Left, Outcome, Report, StepReport};
use crate::residue::{self, PathKind, Residue};
use crate::runtime::short;
use crate::snap::profile::Profile;
use crate::text;

/// More rows of a kind than this are for machines to read.
const MAX_NAMED: usize = 60;
/// Of what has no name that people know (mounts, rules, groups), a few show what they are like.
const MAX_OTHERS: usize = 8;

/// What is there, in the order in which it would go, and what to know before.
pub fn survey(report: &Report, profile: &Profile, page: &Page) -> String {
    let mut out = head(report, page);
    out.push_str(&before(report, profile, page));
    let mut shown = BTreeSet::new();
    for step in report.steps.iter().filter(|s| !s.left.is_empty()) {
        let keys = order::set(step.left.iter().map(|l| l.residue.key()));
        out.push_str(&format!("\n{}", page.bold(&step.name.to_string())));
        out.push_str(&format!(": {}\n", would(step.name, profile.patience.maximum_grace())));
        if keys.is_subset(&shown) {
            out.push_str(&format!("  ({} of the above)\n", keys.len()));
        } else {
            out.push_str(&found(report, step, page));
        }
        shown.extend(keys);
    }
    out.push_str(&blind(report, page));
    out.push_str(&bystanders(report, page));
    out
}

/// What a run did, and what is left.
pub fn result(report: &Report, page: &Page) -> String {
    let mut out = head(report, page);
    if !report.complete {
        let why = "This was written before anything was removed: the run goes on, or it was killed.";
        out.push_str(&page.yellow(&page.paragraph("", why)));
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

/// Commands are not broken where the page ends: they are there to be copied.
fn what_to_do(advice: &Advice, page: &Page) -> String {
    let (sentence, commands) = advice.in_commands();
    let mut out = page.paragraph("  - ", &sentence);
    commands.iter().for_each(|command| out.push_str(&format!("    {}\n", text::printable(command))));
    out
}

fn section(page: &Page, title: &str, body: &str) -> String {
    if body.is_empty() { String::new() } else { format!("\n{}\n{body}", page.bold(title)) }
}

/// The outcome, and where and when.
fn head(report: &Report, page: &Page) -> String {
    let line = page.paragraph("", &report.headline());
    let line = match (report.command, report.outcome) {
        (Command::Survey, _) => page.bold(line.trim_end()) + "\n",
        (_, Outcome::Clean) => page.green(&line),
        (_, Outcome::Residue) => page.red(&line),
        (_, Outcome::Blind | Outcome::Interrupted) => page.yellow(&line),
    };
    let host = &report.host;
    let facts = [
        Some(moment(report.started_at)),
        report.snap.revision.as_ref().map(|r| format!("revision {r}")),
        Some(format!("profile {}", report.profile)),
        Some(format!("cgroup {}", host.cgroup)),
        Some(format!("kernel {}", host.kernel)),
        host.label.as_ref().map(|l| format!("AppArmor {l}")),
    ];
    let facts: Vec<String> = facts.into_iter().flatten().collect();
    line + &page.paragraph("", &facts.join(", "))
}

/// What people ought to know before they remove the snap.
fn before(report: &Report, profile: &Profile, page: &Page) -> String {
    let mut lines = Vec::new();
    let all = || report.steps.iter().flat_map(|s| &s.left);
    let tasks = order::set(all().filter(|l| matches!(l.residue, Residue::Task(_))).map(|l| l.residue.key()));
    if !tasks.is_empty() {
        lines.push(format!(
            "{} containers are stopped: each by its preStop hook and its stop signal, with its own grace up to {} s ({} s if it \
             names none), all at once, then SIGKILL. The whole of it ends after {} s at the latest.",
            tasks.len(),
            profile.patience.maximum_grace(),
            profile.patience.drain,
            profile.patience.deadline
        ));
    }
    let data = |l: &&Left| matches!(l.residue, Residue::Path(residue::Path { what: PathKind::Data, .. }));
    if all().any(|l| data(&l)) {
        lines.push("What the directories of the step \"data\" hold is deleted for good.".into());
    }
    if all().any(|l| matches!(l.residue, Residue::Mount(_))) {
        let snap = &report.snap.instance;
        lines.push(format!(
            "Mounts are taken off, not emptied: what is on a disk, a server or the host stays there. What lies below \
             /var/snap/{snap} goes with the snap; snapd keeps a snapshot of it unless it is told to --purge."
        ));
    }
    if report.advice.is_empty() && report.counts.blind == 0 && report.outcome != Outcome::Clean {
        lines.push("Nothing was seen that would stand in the way of the removal.".into());
    }
    lines.extend(report.notes.iter().map(ToString::to_string));
    if let Some(directory) = profile.scripts.as_ref().filter(|_| report.outcome != Outcome::Clean) {
        lines.push(format!("Executable files in {directory} are run before anything else."));
    }
    let body: String = lines.iter().map(|l| page.paragraph("  - ", l)).collect();
    section(page, "before you remove it", &body)
}

/// What a step would do, in words.
fn would(step: StepName, most: u64) -> String {
    let fixed = match step {
        StepName::Drain => {
            return format!(
                "applications are asked to end, each as it wants to be, and waited for, up to {most} s"
            );
        }
        StepName::Services => "services that still run are stopped",
        StepName::Containers => "what still runs in containers is killed",
        StepName::Shims => "shims end, each once its containers have",
        StepName::Network => "network namespaces, links and firewall rules go",
        StepName::Mounts => "mounts are taken off, deepest first",
        StepName::Cgroups => "empty control groups are removed",
        StepName::State => "what the runtime wrote down is deleted",
        StepName::Data => {
            "directories are deleted with all they hold, if nothing runs or is mounted any more"
        }
    };
    fixed.into()
}

/// What a step found, each kind in its own table.
fn found(report: &Report, step: &StepReport, page: &Page) -> String {
    let mut tasks = Table::new(&["POD", "CONTAINER", "ROLE", "PROCESSES"]);
    let mut shims = Table::new(&["POD", "SHIM", "SERVES", "STILL RUNNING"]);
    let mut others = Table::new(&["WHAT", ""]);
    let key = |l: &Left| match &l.residue {
        Residue::Task(residue::Task { pod, sandbox, .. }) => (pod.clone(), *sandbox),
        other => (pod_of_shim(report, other), false),
    };
    let mut sorted: Vec<_> = step.left.iter().map(|l| (key(l), l)).collect();
    order::sort_by(&mut sorted, |a, b| a.0.cmp(&b.0));
    let mut of_kind = HashMap::new();
    let mut hidden = 0;
    for (_, left) in sorted {
        let shown = of_kind.entry(std::mem::discriminant(&left.residue)).or_insert(0);
        let named = matches!(left.residue, Residue::Task(_) | Residue::Shim(_));
        if *shown == if named { MAX_NAMED } else { MAX_OTHERS } {
            hidden += 1;
            continue;
        }
        *shown += 1;
        match &left.residue {
            Residue::Task(residue::Task { container, pod, sandbox, processes, paused, .. }) => {
                let pids: Vec<String> = processes.iter().take(5).map(|p| p.pid.to_string()).collect();
                let more = if processes.len() > 5 { " …" } else { "" };
                let paused = if *paused { ", paused" } else { "" };
                tasks.row([
                    pod.as_deref().map(printable).unwrap_or_else(|| "-".into()),
                    short(&container.id).to_owned(),
                    if *sandbox { "sandbox" } else { "application" }.into(),
                    format!("{}: {}{more}{paused}", processes.len(), pids.join(" ")),
                ]);
            }
            Residue::Shim(residue::Shim { process, containers, held_by, .. }) => shims.row([
                pod_of_shim(report, &left.residue).unwrap_or_else(|| "-".into()),
                format!("pid {}", process.pid),
                containers.len().to_string(),
                held_by.len().to_string(),
            ]),
            Residue::Path(residue::Path { path, what: PathKind::Data }) => {
                others.row([text::show(path).into_owned(), sizes::of(path)]);
            }
            other => {
                let why = left.why.as_ref().map_or(String::new(), |_| left.reason());
                others.row([other.to_string(), why]);
            }
        }
    }
    let mut out = tasks.render(page) + &shims.render(page) + &others.render(page);
    if hidden > 0 {
        out.push_str(&format!("  … and {hidden} more (all of them: --json)\n"));
    }
    out
}

fn pod_of_shim(report: &Report, residue: &Residue) -> Option<String> {
    let Residue::Shim(residue::Shim { id: Some(id), .. }) = residue else { return None };
    let containers = &report.scope.as_ref()?.containers;
    containers.iter().find(|c| c.id.id == *id)?.pod.as_ref().map(ToString::to_string)
}

fn printable(word: &str) -> String {
    text::escape(word.as_bytes()).into_owned()
}

fn steps(report: &Report, page: &Page) -> String {
    let mut table = Table::new(&["STEP", "FOUND", "REMOVED", "LEFT", "BLIND", "TIME"]);
    for step in &report.steps {
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
    let running = order::set(left.filter_map(|l| match &l.residue {
        Residue::Task(residue::Task { container, .. }) => {
            Some(format!("{}/{}", container.namespace, container.id))
        }
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
    for (name, (all, left)) in pods.iter().take(MAX_NAMED) {
        table.row([name.clone(), all.to_string(), left.to_string()]);
    }
    let mut out = table.render(page);
    if pods.len() > MAX_NAMED {
        out.push_str(&format!("  … and {} more\n", pods.len() - MAX_NAMED));
    }
    out
}

/// How containers ended: first those that did not end well.
fn endings(report: &Report, page: &Page) -> String {
    let mut sorted: Vec<_> = report.endings.iter().collect();
    order::sort_by_key(&mut sorted, |ending| !ending.is_to_be_told());
    let shown = sorted.iter().take(MAX_NAMED);
    let mut out: String = shown.map(|ending| page.paragraph("  ", &ending.to_string())).collect();
    if sorted.len() > MAX_NAMED {
        out.push_str(&format!("  … and {} more (all of them: --json)\n", sorted.len() - MAX_NAMED));
    }
    out
}

fn left(report: &Report, page: &Page) -> String {
    let mut table = Table::new(&["WHAT", "WHY", "HELD BY"]);
    let mut seen = BTreeSet::new();
    let each = report.steps.iter().flat_map(|s| &s.left).filter(|l| seen.insert(l.residue.key()));
    let each: Vec<&Left> = each.collect();
    for left in each.iter().take(MAX_NAMED) {
        let holders = left.holders.iter().take(5);
        let holders: Vec<String> =
            holders.map(|h| format!("{} {} (uid {})", h.process.pid, printable(&h.comm), h.uid)).collect();
        table.row([left.residue.to_string(), left.reason(), holders.join(", ")]);
    }
    let mut out = table.render(page);
    if each.len() > MAX_NAMED {
        out.push_str(&format!("  … and {} more (all of them: --json)\n", each.len() - MAX_NAMED));
    }
    out
}

fn blind(report: &Report, page: &Page) -> String {
    let mut table = Table::new(&["WHAT", "WHY"]);
    let all = order::set(report.steps.iter().flat_map(|s| &s.blind).map(|b| (&b.what, &b.why)));
    all.iter().take(MAX_NAMED).for_each(|(what, why)| table.row([(*what).clone(), (*why).clone()]));
    section(page, "could not be looked at", &table.render(page))
}

/// Many look alike for the same reason: one row for each reason.
fn bystanders(report: &Report, page: &Page) -> String {
    const NAMED: usize = 5;
    let mut reasons: BTreeMap<&String, Vec<&str>> = BTreeMap::new();
    for bystander in report.scope.iter().flat_map(|s| &s.bystanders) {
        reasons.entry(&bystander.why).or_default().push(&bystander.what);
    }
    let mut table = Table::new(&["WHAT", "WHY"]);
    for (why, what) in reasons {
        let mut named = what[..what.len().min(NAMED)].join(", ");
        if what.len() > NAMED {
            named.push_str(&format!(" and {} more", what.len() - NAMED));
        }
        table.row([named, why.clone()]);
    }
    section(page, "looks like the snap's, is not, and is left alone", &table.render(page))
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

/// A moment of the wall clock, in UTC: no time zone files are read.
fn moment(unix: u64) -> String {
    let (days, second) = (unix / 86_400, unix % 86_400);
    // Days are counted from 1 March of year 0, so that the day that some years have more is a year's last.
    let since = days + 719_468;
    let (era, day) = (since / 146_097, since % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let shifted = (5 * day + 2) / 153;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = era * 400 + year + u64::from(month <= 2);
    let day = day - (153 * shifted + 2) / 5 + 1;
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_those_of_the_calendar() {
        assert_eq!(moment(0), "1970-01-01 00:00:00 UTC");
        assert_eq!(moment(951_782_400), "2000-02-29 00:00:00 UTC");
        assert_eq!(moment(4_107_542_399), "2100-02-28 23:59:59 UTC");
        assert_eq!(moment(1_795_467_600), "2026-11-23 21:00:00 UTC");
    }

    #[test]
    fn a_command_stays_one_line_however_narrow_the_page() {
        let points = vec![format!("/{}/reboot", "long".repeat(30)), "/x y".into()];
        let page = Page { width: 40, colour: false };
        let text = what_to_do(&Advice::UnmountOnHost { points: points.clone() }, &page);
        assert!(text.ends_with(&format!("\n    umount {}\n    umount '/x y'\n", points[0])), "{text}");
    }
}
