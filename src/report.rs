//! The result: one versioned JSON document, and the few lines that people read of it.
//!
//! The outcome is that of the last look, plus what was detached and cannot be looked at. What removers said of
//! themselves is told as the reason why something is left, and decides nothing.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use crate::engine::{Course, Seen, StepCourse};
use crate::error::errno_name;
use crate::live::Abilities;
use crate::notes::{Note, NoteKind};
use crate::residue::{Holder, Residue, TableOf};
use crate::scope::Scope;
use crate::scripts::Script;
use crate::step::{Blind, Effort, Gate, Step};
use crate::text;

/// Version of the document; it changes when a key changes its meaning or goes.
pub const SCHEMA: u32 = 1;

/// snapd keeps the last 100 lines and 10 KiB of a hook's output; we stay well below.
const OUTPUT_LIMIT: usize = 8 << 10;

/// The way by which something was removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rung {
    /// A signal from us.
    Signal,
    /// The shim, asked over ttrpc.
    Shim,
    /// `cgroup.kill`.
    CgroupKill,
    /// The freezer, so that nothing could fork meanwhile.
    Freezer,
    /// snapd, asked through snapctl.
    Snapctl,
    /// The runtime, started for this.
    Runtime,
    /// The system call for it.
    Remove,
}

/// What came of one attempt. Evidence for the report, never the verdict.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "result", rename_all = "kebab-case", rename_all_fields = "kebab-case")]
pub enum Done {
    /// It was removed, or was no longer there.
    Gone,
    /// It was asked or told to end.
    Asked {
        /// By which way.
        rung: Rung,
    },
    /// It was taken out of the mount table while in use.
    Detached {
        /// By whom.
        holders: Vec<Holder>,
    },
    /// It stays while something depends on it.
    HeldBack {
        /// What.
        by: Vec<String>,
    },
    /// Confinement said no.
    Refused {
        /// To which way.
        rung: Rung,
        /// With which errno.
        errno: i32,
    },
    /// We may not; its shim might.
    NeedsShim {
        /// What the direct way was refused with.
        errno: i32,
    },
    /// It did not work.
    Failed {
        /// Why, in words.
        error: String,
        /// The errno, 0 if there was none.
        errno: i32,
    },
    /// There is no way here.
    NotPossible {
        /// Why.
        why: String,
    },
}

impl Done {
    /// A refusal.
    pub fn refused(rung: Rung, errno: i32) -> Done {
        Done::Refused { rung, errno }
    }

    /// A failed system call.
    pub fn failed(verb: &str, path: &std::path::Path, errno: i32) -> Done {
        let reason = std::io::Error::from_raw_os_error(errno);
        Done::Failed { error: format!("cannot {verb} '{}': {reason}", text::show(path)), errno }
    }

    /// The direct way was refused, and the shim was no way either.
    pub fn without_shim(self, reason: &str) -> Done {
        match self {
            Done::NeedsShim { errno } => {
                let error = format!(
                    "a signal is refused ({}), and so is the way through the shim: {reason}",
                    errno_name(errno)
                );
                Done::Failed { error, errno }
            }
            other => other,
        }
    }

    /// True if trying again in a moment may help.
    pub fn is_busy(&self) -> bool {
        matches!(self, Done::Failed { errno: nix::libc::EBUSY, .. })
    }

    fn why(&self) -> (String, Option<i32>) {
        match self {
            Done::Gone => ("it was removed, and is there again".into(), None),
            Done::Asked { rung } => (format!("it did not end ({})", name(rung)), None),
            Done::Detached { .. } => ("it was detached".into(), None),
            Done::HeldBack { by } => {
                (format!("held back by {} containers that run or could not be looked at", by.len()), None)
            }
            Done::Refused { rung, errno } => (format!("refused ({})", name(rung)), Some(*errno)),
            Done::NeedsShim { errno } => ("a signal is refused".into(), Some(*errno)),
            Done::Failed { error, errno } => (error.clone(), (*errno != 0).then_some(*errno)),
            Done::NotPossible { why } => (why.clone(), None),
        }
    }
}

/// The word that JSON has for a unit variant.
pub fn name(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default().trim_matches('"').to_owned()
}

/// What the last look says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Nothing of ours is left, and everything could be looked at.
    Clean,
    /// Something of ours is left.
    Residue,
    /// Nothing was seen, and something could not be looked at.
    Blind,
    /// The run did not come to its end.
    Interrupted,
}

/// The document.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Report {
    /// Version of this document.
    pub schema: u32,
    /// Version of the program.
    pub version: String,
    /// What was asked for.
    pub command: Command,
    /// True if parts were left out for want of room; counts are always whole.
    pub truncated: bool,
    /// False while the run goes on: a document that stays so was left by a run that was killed.
    pub complete: bool,
    /// Seconds since 1970 at the start, by the wall clock.
    pub started_at: u64,
    /// How long it took.
    pub elapsed_ms: u64,
    /// What the last look says.
    pub outcome: Outcome,
    /// The exit status that goes with it.
    pub exit_status: u8,
    /// True if the deadline ended the run.
    pub out_of_time: bool,
    /// Rounds over the plan.
    pub rounds: u32,
    /// The snap.
    pub snap: SnapName,
    /// Where the profile came from.
    pub profile: String,
    /// The machine.
    pub host: HostFacts,
    /// What confinement granted and refused.
    pub abilities: Abilities,
    /// Totals over all steps, each residue once.
    pub counts: Counts,
    /// Step by step.
    pub steps: Vec<StepReport>,
    /// What to do about what is left.
    pub advice: Vec<Advice>,
    /// What to know besides.
    #[serde(default)]
    pub notes: Vec<Note>,
    /// How the user's own scripts ended.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hooks: Vec<Script>,
    /// How much is ours.
    pub scope_counts: ScopeCounts,
    /// All that is ours; only in the file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<Scope>,
    /// Where the whole document is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
}

/// What is left of the document where nothing else fits.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Minimal {
    schema: u32,
    truncated: bool,
    outcome: Outcome,
    exit_status: u8,
    counts: Counts,
}

/// What was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Command {
    /// Look, touch nothing.
    Survey,
    /// Remove.
    Remove,
    /// Look for what an earlier run was to remove.
    Verify,
}

/// The snap's names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct SnapName {
    /// Its name.
    pub name: String,
    /// The instance.
    pub instance: String,
    /// The revision, where it is known.
    pub revision: Option<String>,
}

/// What the machine is like.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct HostFacts {
    /// Kernel release.
    pub kernel: String,
    /// `v1`, `v2`, `hybrid` or `none`.
    pub cgroup: String,
    /// Our own AppArmor label; none where it cannot be read.
    pub label: Option<String>,
}

/// Totals.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Counts {
    /// Seen at any time.
    pub found: usize,
    /// Seen, and not there at the last look.
    pub removed: usize,
    /// There at the last look.
    pub left: usize,
    /// Places that could not be looked at.
    pub blind: usize,
}

/// How much is ours.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ScopeCounts {
    /// Containers.
    pub containers: usize,
    /// Shims.
    pub shims: usize,
    /// Things that look like ours and are not.
    pub bystanders: usize,
}

/// One step.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct StepReport {
    /// Its name.
    pub name: String,
    /// Time spent in it.
    pub elapsed_ms: u64,
    /// How many of what it looks for.
    pub counts: Counts,
    /// Why it did not act, if a gate kept it from acting.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closed: Option<Closed>,
    /// What is left.
    pub left: Vec<Left>,
    /// What was seen and is gone.
    pub removed: Vec<Residue>,
    /// Where it could not look.
    pub blind: Vec<Blind>,
}

/// A closed gate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Closed {
    /// Which.
    pub gate: Gate,
    /// What keeps it closed.
    pub why: String,
}

/// One thing that is left.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Left {
    /// What.
    pub residue: Residue,
    /// Why.
    pub why: String,
    /// The errno, where there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub errno: Option<String>,
    /// The last effort that was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effort: Option<Effort>,
    /// Who holds it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub holders: Vec<Holder>,
}

/// What to do about what is left.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case", rename_all_fields = "kebab-case")]
pub enum Advice {
    /// Only a reboot ends these.
    Reboot {
        /// Which, and why.
        because: Vec<String>,
    },
    /// Only the host can unmount these; until then snapd 2.77 and later fail to remove the snap.
    UnmountOnHost {
        /// Where.
        points: Vec<String>,
    },
    /// Confinement refused this; these plugs or lines would allow it.
    Allow {
        /// What was refused.
        refused: String,
        /// What would allow it.
        with: String,
    },
    /// kube-proxy's rules stay until its own program removes them, or until a reboot.
    KubeProxyRules {
        /// In which tables.
        tables: Vec<String>,
    },
}

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
        let steps: Vec<StepReport> =
            frame.plan.iter().zip(&course.steps).map(|(s, c)| step_report(s, c, &frame.stuck)).collect();
        let counts = totals(course);
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

    /// The same without what does not fit into so many bytes of JSON; counts stay whole.
    fn cut(&self, limit: usize) -> String {
        let mut cut = self.without_bulk();
        cut.hooks.truncate(10);
        for most in [100, 30, 10, 3, 1, 0] {
            for step in &mut cut.steps {
                step.left.truncate(most);
                step.blind.truncate(most);
                step.left.iter_mut().for_each(|l| shorten(l, most));
            }
            cut.notes.iter_mut().for_each(|n| n.items.truncate(most));
            let json = serde_json::to_string(&cut).unwrap_or_default();
            if json.len() <= limit {
                return json;
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
            counts: self.counts,
        };
        serde_json::to_string(&minimal).unwrap_or_default()
    }

    /// A copy without what is never in the cut form; thousands of mounts are not copied to be dropped.
    fn without_bulk(&self) -> Report {
        const MOST: usize = 100;
        let step = |s: &StepReport| StepReport {
            name: s.name.clone(),
            elapsed_ms: s.elapsed_ms,
            counts: s.counts,
            closed: s.closed.clone(),
            left: s.left.iter().take(MOST).cloned().collect(),
            removed: Vec::new(),
            blind: s.blind.iter().take(MOST).cloned().collect(),
        };
        Report {
            truncated: true,
            version: self.version.clone(),
            snap: self.snap.clone(),
            profile: self.profile.clone(),
            host: self.host.clone(),
            abilities: self.abilities.clone(),
            steps: self.steps.iter().map(step).collect(),
            advice: self.advice.clone(),
            notes: self.notes.clone(),
            hooks: self.hooks.clone(),
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
        const MOST: usize = 20;
        let mut out = String::new();
        let c = self.counts;
        let _ = writeln!(out, "{}", self.headline());
        let left: Vec<_> = self.steps.iter().flat_map(|s| &s.left).collect();
        for item in left.iter().take(MOST) {
            let _ = writeln!(out, "  left: {}: {}", item.residue, item.reason());
        }
        if left.len() > MOST {
            let _ = writeln!(out, "  … and {} more", left.len() - MOST);
        }
        for step in &self.steps {
            if let Some(closed) = &step.closed {
                let _ = writeln!(out, "  {} did nothing: {}", step.name, closed.why);
            }
        }
        for blind in self.steps.iter().flat_map(|s| &s.blind).take(MOST) {
            let _ = writeln!(out, "  could not look at {}: {}", blind.what, blind.why);
        }
        for script in self.hooks.iter().filter(|s| !s.went_well()) {
            let _ = writeln!(out, "  script {script}");
        }
        for advice in &self.advice {
            let _ = writeln!(out, "  {advice}");
        }
        // A person who has removed the snap wants to know how it went, not what was to be known before.
        let shown =
            self.notes.iter().filter(|n| self.command != Command::Remove || n.kind.is_of_the_result());
        for note in shown {
            let _ = writeln!(out, "  note: {note}");
        }
        if let Some(file) = self.file.as_ref().filter(|_| c.left + c.blind > 0) {
            let _ = writeln!(out, "  all of it: {file}");
        }
        out
    }

    /// One line.
    pub fn headline(&self) -> String {
        let Counts { found, removed, left, blind } = self.counts;
        // In whole numbers: printing one fraction would link 20 KB.
        let seconds = format!("{}.{}", self.elapsed_ms / 1000, self.elapsed_ms / 100 % 10);
        let snap = &self.snap.instance;
        let what = match (self.command, self.outcome) {
            (Command::Survey, Outcome::Clean) => {
                return format!("snap-teardown: nothing of snap \"{snap}\" is there");
            }
            (Command::Survey, _) => {
                return format!(
                    "snap-teardown: {left} leftovers of snap \"{snap}\" are there ({blind} places could not be looked at)"
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
    pub fn reason(&self) -> String {
        match &self.errno {
            Some(errno) if !self.why.contains(errno.as_str()) => format!("{} [{errno}]", self.why),
            _ => self.why.clone(),
        }
    }
}

/// Lists within a residue are cut too: thousands of processes do not fit into a line.
fn shorten(left: &mut Left, most: usize) {
    left.holders.truncate(most);
    match &mut left.residue {
        Residue::Task { processes, groups, .. } => {
            processes.truncate(most);
            groups.truncate(most);
        }
        Residue::Service { processes, .. } => processes.truncate(most),
        Residue::Shim { containers, held_by, .. } => {
            containers.truncate(most);
            held_by.truncate(most);
        }
        Residue::Detached { holders, .. } => holders.truncate(most),
        _ => {}
    }
}

impl Advice {
    fn shorten(&mut self, most: usize) {
        match self {
            Advice::Reboot { because: list }
            | Advice::UnmountOnHost { points: list }
            | Advice::KubeProxyRules { tables: list } => list.truncate(most),
            Advice::Allow { .. } => {}
        }
    }
}

impl std::fmt::Display for Advice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Advice::Reboot { because } => write!(f, "reboot: only that ends {}", because.join(", ")),
            Advice::UnmountOnHost { points } => {
                write!(
                    f,
                    "unmount on the host (else snapd may fail to remove the snap): umount {}",
                    points.join(" ")
                )
            }
            Advice::KubeProxyRules { tables } => write!(
                f,
                "kube-proxy's firewall rules are there ({}); where no other kubelet runs, 'kube-proxy --cleanup' or a reboot removes them",
                tables.join(", ")
            ),
            Advice::Allow { refused, with } => write!(f, "{refused} was refused; allow it with {with}"),
        }
    }
}

fn step_report(step: &Step, course: &StepCourse, stuck: &[i32]) -> StepReport {
    let left: Vec<Left> = course.left.iter().map(|r| left_of(r, course, stuck)).collect();
    let there: std::collections::HashSet<String> = course.left.iter().map(Residue::key).collect();
    let removed: Vec<Residue> =
        course.seen.iter().filter(|(k, _)| !there.contains(*k)).map(|(_, s)| s.residue.clone()).collect();
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

fn left_of(residue: &Residue, course: &StepCourse, stuck: &[i32]) -> Left {
    let tried = course.seen.get(&residue.key()).and_then(|s: &Seen| s.tried.as_ref());
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
fn totals(course: &Course) -> Counts {
    use std::collections::HashSet;
    let found: HashSet<&String> = course.steps.iter().flat_map(|s| s.seen.keys()).collect();
    let left: HashSet<String> = course.steps.iter().flat_map(|s| s.left.iter().map(Residue::key)).collect();
    let blind: HashSet<&Blind> = course.steps.iter().flat_map(|s| &s.blind).collect();
    let removed = found.iter().filter(|key| !left.contains(**key)).count();
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
    let mut seen = std::collections::HashSet::new();
    list.retain(|item| seen.insert(item.clone()));
    list
}
