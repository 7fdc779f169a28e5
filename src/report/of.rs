//! From the course of a run to its report.

use std::collections::HashSet;

use super::{
    Advice, Closed, Command, Counts, Done, HostFacts, Left, Outcome, Report, SCHEMA, ScopeCounts, SnapName,
    StepReport,
};
use crate::engine::{Course, Seen, StepCourse};
use crate::error::errno_name;
use crate::live::Abilities;
use crate::notes::{Note, NoteKind};
use crate::residue::{Residue, TableOf};
use crate::scope::Scope;
use crate::step::{Blind, Step};
use crate::text;

/// What is known of a run besides its course.
pub struct Frame<'a> {
    /// What was asked for.
    pub command: Command,
    /// The plan that the course followed.
    pub plan: &'a [Step],
    /// Where the profile came from.
    pub profile: &'a str,
    /// The machine.
    pub host: HostFacts,
    /// What confinement granted.
    pub abilities: Abilities,
    /// Seconds since 1970 at the start.
    pub started_at: u64,
    /// How long it has taken.
    pub elapsed_ms: u64,
    /// False for the document that is written before anything is removed.
    pub complete: bool,
    /// PIDs that are in uninterruptible sleep.
    pub stuck: Vec<i32>,
    /// What to know besides.
    pub notes: Vec<Note>,
}

impl Report {
    /// Puts a course into words.
    pub fn of(frame: Frame, course: &Course, scope: &Scope) -> Report {
        // Put together once: of a node's pods there are thousands.
        let keys: Vec<Keys> =
            course.steps.iter().map(|s| s.left.iter().map(Residue::key).collect()).collect();
        let reported = frame.plan.iter().zip(course.steps.iter().zip(&keys));
        let steps: Vec<StepReport> =
            reported.map(|(step, (course, left))| step_report(step, course, left, &frame.stuck)).collect();
        let counts = totals(course, &keys);
        let outcome = outcome(&frame, course, counts);
        Report {
            schema: SCHEMA,
            version: env!("CARGO_PKG_VERSION").into(),
            command: frame.command,
            truncated: false,
            complete: frame.complete,
            started_at: frame.started_at,
            elapsed_ms: frame.elapsed_ms,
            outcome,
            exit_status: exit_status(outcome, counts),
            out_of_time: course.out_of_time,
            rounds: course.rounds,
            snap: SnapName {
                name: scope.snap.name.clone(),
                instance: scope.snap.instance.clone(),
                revision: scope.snap.revision.clone(),
            },
            profile: frame.profile.to_owned(),
            advice: advice(&steps, &frame),
            notes: frame.notes,
            host: frame.host,
            abilities: frame.abilities,
            counts,
            steps,
            hooks: Vec::new(),
            scope_counts: ScopeCounts {
                containers: scope.containers.len(),
                shims: scope.shims.len(),
                bystanders: scope.bystanders.len(),
            },
            scope: Some(scope.clone()),
            file: None,
        }
    }
}

/// The keys of a step's residues, in their order.
type Keys = Vec<String>;

fn step_report(step: &Step, course: &StepCourse, keys: &Keys, stuck: &[i32]) -> StepReport {
    let left: Vec<Left> =
        course.left.iter().zip(keys).map(|(r, key)| left_of(r, key, course, stuck)).collect();
    let there: HashSet<&String> = keys.iter().collect();
    let removed: Vec<Residue> =
        course.seen.iter().filter(|(k, _)| !there.contains(k)).map(|(_, s)| s.residue.clone()).collect();
    StepReport {
        name: step.name.into(),
        elapsed_ms: u64::try_from(course.elapsed.as_millis()).unwrap_or(u64::MAX),
        counts: Counts {
            found: course.seen.len(),
            removed: removed.len(),
            left: left.len(),
            blind: course.blind.len(),
        },
        closed: course
            .closed
            .as_ref()
            .filter(|_| !left.is_empty())
            .map(|(gate, why)| Closed { gate: *gate, why: why.clone() }),
        left,
        removed,
        blind: course.blind.clone(),
    }
}

fn left_of(residue: &Residue, key: &str, course: &StepCourse, stuck: &[i32]) -> Left {
    let tried = course.seen.get(key).and_then(|s: &Seen| s.tried.as_ref());
    let mut left = Left {
        residue: residue.clone(),
        why: String::new(),
        errno: None,
        effort: tried.map(|(e, _)| *e),
        holders: vec![],
    };
    match (residue, tried) {
        (Residue::Detached { holders, .. }, _) => {
            left.why = "it was detached while in use, and is still there for whoever uses it".into();
            left.holders = holders.clone();
        }
        (_, Some((_, done))) => {
            let (why, errno) = done.why();
            left.why = why;
            left.errno = errno.map(errno_name);
            if let Done::Detached { holders } = done {
                left.holders = holders.clone();
            }
        }
        (Residue::Mount { table: TableOf::Host, .. }, None) => {
            left.why = "only the host can unmount it".into()
        }
        (_, None) => {
            left.why = course.closed.as_ref().map_or("not tried".into(), |(_, why)| why.clone());
        }
    }
    if pids(residue).iter().any(|pid| stuck.contains(pid)) {
        left.why = "it waits in the kernel and cannot be killed (uninterruptible sleep)".into();
    }
    left
}

/// The PIDs of a residue.
pub fn pids(residue: &Residue) -> Vec<i32> {
    match residue {
        Residue::Task { processes, .. } | Residue::Service { processes, .. } => {
            processes.iter().map(|p| p.pid).collect()
        }
        Residue::Shim { process, .. } => vec![process.pid],
        _ => Vec::new(),
    }
}

/// Totals in which a residue that two steps look for (drain and containers do) counts once.
fn totals(course: &Course, keys: &[Keys]) -> Counts {
    let found: HashSet<&String> = course.steps.iter().flat_map(|s| s.seen.keys()).collect();
    let left: HashSet<&String> = keys.iter().flatten().collect();
    let blind: HashSet<&Blind> = course.steps.iter().flat_map(|s| &s.blind).collect();
    let removed = found.difference(&left).count();
    Counts { found: found.len(), removed, left: left.len(), blind: blind.len() }
}

fn outcome(frame: &Frame, course: &Course, counts: Counts) -> Outcome {
    let unfinished = course.interrupted || !frame.complete;
    match (unfinished, counts) {
        (true, _) => Outcome::Interrupted,
        (_, Counts { left: 1.., .. }) => Outcome::Residue,
        (_, Counts { blind: 1.., .. }) => Outcome::Blind,
        _ => Outcome::Clean,
    }
}

fn exit_status(outcome: Outcome, counts: Counts) -> u8 {
    match outcome {
        _ if counts.left > 0 => 1,
        Outcome::Clean => 0,
        Outcome::Residue => 1,
        Outcome::Blind | Outcome::Interrupted => 3,
    }
}

fn advice(steps: &[StepReport], frame: &Frame) -> Vec<Advice> {
    let left: Vec<&Left> = steps.iter().flat_map(|s| &s.left).collect();
    let mut advice = Vec::new();
    let because: Vec<String> = left
        .iter()
        .filter(|l| {
            matches!(l.residue, Residue::Detached { .. })
                || pids(&l.residue).iter().any(|p| frame.stuck.contains(p))
        })
        .map(|l| l.residue.to_string())
        .collect();
    if !because.is_empty() && frame.command != Command::Survey {
        advice.push(Advice::Reboot { because: dedup(because) });
    }
    let on_host = left.iter().filter_map(|l| match &l.residue {
        Residue::Mount { table: TableOf::Host, point, .. } => Some(text::show(point).into_owned()),
        _ => None,
    });
    let points: Vec<String> = on_host.collect();
    if !points.is_empty() {
        advice.push(Advice::UnmountOnHost { points });
    }
    let of_kube_proxy = frame.notes.iter().find(|n| n.kind == NoteKind::KubeProxyRules);
    advice.extend(of_kube_proxy.map(|note| Advice::KubeProxyRules { tables: note.items.clone() }));
    if !left.is_empty() {
        advice.extend(frame.abilities.iter().filter_map(|(ability, answer)| ability.allowed_with(answer)));
    }
    advice
}

fn dedup(mut list: Vec<String>) -> Vec<String> {
    let mut seen = HashSet::new();
    list.retain(|item| seen.insert(item.clone()));
    list
}
