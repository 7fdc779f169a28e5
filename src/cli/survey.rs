//! A survey, as people read it: what would go, in which order, and what to know before.

use std::collections::HashMap;

use crate::cli::asked;
use crate::cli::page::Page;
use crate::cli::sections::{
    MAX_NAMED, blind, bystanders, facts, headline, more, printable, section, what_to_do,
};
use crate::cli::sizes;
use crate::cli::table::Table;
use crate::engine::step::StepName;
use crate::order;
use crate::report::advice::Advice;
use crate::report::build::A_SURVEY;
use crate::report::note::USUAL_ITEMS;
use crate::report::{Left, Outcome, Report, StepReport};
use crate::residue::{self, Keys, PathKind, Residue};
use crate::runtime::short;
use crate::snap::profile::Profile;
use crate::text::{self, many};

/// Of what has no name that people know (mounts, rules, groups), a few show what they are like.
const MAX_OTHERS: usize = 8;

/// Control groups are many and all alike.
const MAX_CGROUPS: usize = 2;

/// What is there, in the order in which it would go, and what to know before.
pub fn of(report: &Report, profile: &Profile, page: &Page) -> String {
    let mut out = headline(report, page) + &asked::answers(report, profile, page);
    out.push_str(&format!("\n{}", facts(report, page)));
    out.push_str(&before(report, profile, page));
    let mut shown: Vec<Keys> = Vec::new();
    for step in report.steps.iter().filter(|s| !s.left.is_empty()) {
        let keys = Keys::of(&mut step.left.iter().map(|l| l.residue.key()));
        out.push_str(&format!("\n{}", page.bold(&step.name.to_string())));
        out.push_str(&format!(": {}\n", would(step.name, profile.patience.maximum_grace())));
        if keys.as_slice().iter().all(|key| shown.iter().any(|step| step.has(key))) {
            out.push_str(&format!("  ({} of the above)\n", keys.as_slice().len()));
        } else {
            out.push_str(&found(report, step, page));
        }
        shown.push(keys);
    }
    out.push_str(&blind(report, page));
    out.push_str(&bystanders(report, page));
    // What is to be unmounted stands at the top.
    let advice = report.advice.iter().filter(|a| !matches!(a, Advice::UnmountOnHost { .. }));
    let advice: String = advice.map(|a| what_to_do(a, page)).collect();
    out.push_str(&section(page, "what to do first", &advice));
    out.push_str(&section(page, "in short", &in_short(report, page)));
    out
}

/// Last, since it is the last lines that a terminal still shows.
fn in_short(report: &Report, page: &Page) -> String {
    let all = || report.steps.iter().flat_map(|s| &s.left).map(|l| &*l.residue);
    let number = |of| asked::number(report, of);
    let pods = order::set(all().filter_map(|r| match r {
        Residue::Task(task) => task.pod.as_ref(),
        _ => None,
    }));
    let kinds = [
        (pods.len() as u64, "pod"),
        (number(|r| matches!(r, Residue::Task(_))), "container"),
        (number(|r| matches!(r, Residue::Mount(_))), "mount"),
        (number(|r| matches!(r, Residue::Cgroup(_))), "control group"),
    ];
    let ended: Vec<String> =
        kinds.into_iter().filter(|(n, _)| *n > 0).map(|(n, kind)| many(n, kind)).collect();
    let mut out = String::new();
    for (label, what) in
        [("  ends  ", ended.join(", ")), ("  lost  ", asked::lost(report).unwrap_or_default())]
    {
        if !what.is_empty() {
            out.push_str(&page.paragraph(label, &what));
        }
    }
    if !asked::is_free(report) {
        out.push_str("  Before that: what stands at the top, after 'first'.\n");
    }
    out
}

/// What people ought to know before they remove the snap, after what they have asked.
fn before(report: &Report, profile: &Profile, page: &Page) -> String {
    let mut lines = Vec::new();
    let there =
        |of: fn(&Residue) -> bool| report.steps.iter().flat_map(|s| &s.left).any(|left| of(&left.residue));
    if there(|r| matches!(r, Residue::Task(_))) {
        lines.push(format!(
            "Containers are stopped all at once: each by its preStop hook and its stop signal, within its own grace ({} s if it \
             names none, {} s at most), then by SIGKILL. The whole run ends after {} s at the latest.",
            profile.patience.drain,
            profile.patience.maximum_grace(),
            profile.patience.deadline
        ));
    }
    if there(|r| matches!(r, Residue::Path(residue::Path { what: PathKind::Data, .. }))) {
        lines.push("The directories of the step \"data\" are deleted for good, with all they hold.".into());
    }
    if there(|r| matches!(r, Residue::Mount(_))) {
        lines.push(
            "What is mounted is unmounted, and not emptied: what is on a disk, a server or the host stays there.".into(),
        );
    }
    if !report.sizes.is_empty() {
        lines.push(format!(
            "What else lies below {} goes with the snap, volumes on this node's own disk included; snapd may keep a snapshot of \
             it, but not with --purge.",
            text::printable(&format!("/var/snap/{}", report.snap.instance))
        ));
    }
    let notes = report.notes.iter().filter(|note| page.all || !asked::has_told(note));
    lines.extend(notes.map(|note| note.told(page.most(USUAL_ITEMS))));
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
        StepName::Network => "network namespaces, links and firewall rules are removed",
        StepName::Mounts => "what is mounted is unmounted, deepest first",
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
    let key = |l: &Left| match &*l.residue {
        Residue::Task(task) => (task.pod.clone(), task.sandbox),
        other => (pod_of_shim(report, other), false),
    };
    let mut sorted: Vec<_> = step.left.iter().map(|l| (key(l), l)).collect();
    order::sort_by(&mut sorted, |a, b| a.0.cmp(&b.0));
    let mut of_kind = HashMap::new();
    let mut hidden = 0;
    for (_, left) in sorted {
        let shown = of_kind.entry(std::mem::discriminant(&*left.residue)).or_insert(0);
        let named = matches!(*left.residue, Residue::Task(_) | Residue::Shim(_));
        let most = match *left.residue {
            _ if named => MAX_NAMED,
            Residue::Cgroup(_) => MAX_CGROUPS,
            _ => MAX_OTHERS,
        };
        if *shown == page.most(most) {
            hidden += 1;
            continue;
        }
        *shown += 1;
        match &*left.residue {
            Residue::Task(task) => {
                let residue::Task { container, pod, sandbox, processes, paused, .. } = &**task;
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
            Residue::Shim(shim) => shims.row([
                pod_of_shim(report, &left.residue).unwrap_or_else(|| "-".into()),
                format!("pid {}", shim.process.pid),
                shim.containers.len().to_string(),
                shim.held_by.len().to_string(),
            ]),
            Residue::Path(residue::Path { path, what: PathKind::Data }) => {
                others.row([text::show(path).into_owned(), sizes::of(&report.sizes, path)]);
            }
            other => {
                let why =
                    left.why.as_ref().filter(|why| *why != A_SURVEY).map_or(String::new(), |_| left.told());
                others.row([other.to_string(), why]);
            }
        }
    }
    tasks.render(page) + &shims.render(page) + &others.render(page) + &more(hidden, 0)
}

fn pod_of_shim(report: &Report, residue: &Residue) -> Option<String> {
    let Residue::Shim(shim) = residue else { return None };
    let id = shim.id.as_ref()?;
    let containers = &report.scope.as_ref()?.containers;
    containers.iter().find(|c| c.id.id == *id)?.pod.as_ref().map(ToString::to_string)
}
