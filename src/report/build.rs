//! From the history of a run to its report.

use std::collections::HashSet;
use std::sync::Arc;

use crate::engine::done::Done;
use crate::engine::step::Step;
use crate::engine::{History, StepHistory, Tracked, Tried};
use crate::error::{Blind, errno_name};
use crate::order;
use crate::reason::Reason;
use crate::remove::ability::{Ability, Answer};
use crate::report::advice::Advice;
use crate::report::left::{Because, NOT_TRIED};
use crate::report::note::NoteKind;
use crate::report::{
    Closed, Command, Counts, Left, Needs, Outcome, Report, RunFacts, SCHEMA, ScopeCounts, SnapName,
    StepReport,
};
use crate::residue::{Key, Keys, Mount, Residue, TableOf};
use crate::scope::Scope;
use crate::text::show;

impl Report {
    /// Puts a history into words.
    pub fn build(facts: RunFacts, plan: &[Step], history: &History, scope: &Arc<Scope>) -> Report {
        let gone = Gone::of(history);
        let counts = totals(history, &gone);
        let reported = plan.iter().zip(&history.steps).enumerate();
        let steps: Vec<StepReport> = reported
            .map(|(at, (step, history))| step_report(step, history, |key| gone.is_from_step(at, key), &facts))
            .collect();
        let outcome = outcome(&facts, history, counts);
        let advice = advice(&steps, &facts);
        let needs = Some(Needs::of(outcome, &steps, &facts, scope));
        Report {
            schema: SCHEMA,
            version: env!("CARGO_PKG_VERSION").into(),
            command: facts.command,
            truncated: false,
            complete: facts.complete,
            started_at: facts.started_at,
            elapsed_ms: facts.elapsed_ms,
            ended_at: Some(facts.started_at + facts.elapsed_ms / 1000),
            outcome,
            exit_status: exit_status(outcome, counts),
            needs,
            out_of_time: history.out_of_time,
            rounds: history.rounds,
            snap: SnapName {
                name: scope.snap.name.clone(),
                instance: scope.snap.instance.clone(),
                revision: scope.snap.revision.clone(),
                version: facts.snap_version,
                containerd: facts.containerd,
            },
            profile: facts.profile,
            advice,
            notes: facts.notes,
            host: facts.host,
            abilities: facts.abilities,
            counts,
            steps,
            scripts: facts.scripts,
            endings: facts.endings,
            sizes: Vec::new(),
            disks: Vec::new(),
            scope_counts: ScopeCounts {
                containers: scope.containers.len(),
                shims: scope.shims.len(),
                bystanders: scope.bystanders.len(),
            },
            scope: Some(scope.clone()),
            file: None,
            without_binds: false,
        }
    }
}

/// Why something is there after a survey.
pub const A_SURVEY: &str = "a survey removes nothing";

/// What was seen and is not there any more.
struct Gone {
    /// What each step's last look still saw. Before the first round that is all that was seen: in a large world much, which need
    /// not be told apart.
    left: Option<Vec<Keys>>,
}

impl Gone {
    fn of(history: &History) -> Gone {
        let keys = |step: &StepHistory| Keys::of(&mut step.left.iter().map(|residue| residue.key()));
        Gone { left: (history.rounds > 0).then(|| history.steps.iter().map(keys).collect()) }
    }

    /// True for what this step had seen.
    fn is_from_step(&self, at: usize, key: &Key) -> bool {
        self.left.as_ref().is_some_and(|left| !left[at].has(key))
    }

    /// True for what no step sees any more.
    fn has(&self, key: &Key) -> bool {
        self.left.as_ref().is_some_and(|left| left.iter().all(|there| !there.has(key)))
    }
}

fn step_report(
    step: &Step,
    history: &StepHistory,
    is_gone: impl Fn(&Key) -> bool,
    facts: &RunFacts,
) -> StepReport {
    let left: Vec<Left> = history.left.iter().map(|residue| left_of(residue, history, facts)).collect();
    let gone = history.seen.iter().filter(|(key, _)| is_gone(key));
    let mut removed: Vec<Arc<Residue>> = gone.map(|(_, s)| s.residue.clone()).collect();
    order::sort_by(&mut removed, |a, b| a.compare_names(b));
    StepReport {
        name: step.name,
        elapsed_ms: u64::try_from(history.elapsed.as_millis()).unwrap_or(u64::MAX),
        counts: Counts {
            found: history.seen.len(),
            removed: removed.len(),
            left: left.len(),
            blind: history.blind.len(),
        },
        closed: history
            .closed
            .as_ref()
            .filter(|_| !left.is_empty())
            .map(|(gate, why)| Closed { gate: *gate, why: why.clone() }),
        left,
        removed,
        blind: history.blind.clone(),
    }
}

fn left_of(residue: &Arc<Residue>, history: &StepHistory, facts: &RunFacts) -> Left {
    let tried = history.seen.get(&residue.key()).and_then(|s: &Tracked| s.tried.as_ref());
    let mut left = Because { effort: tried.map(|tried| tried.effort), ..NOT_TRIED };
    match (&**residue, tried.map(Tried::done)) {
        (Residue::Detached(mount), _) => {
            left.reason = Reason::Detached;
            left.why = Some("it was detached while in use, and is still there for whoever uses it".into());
            left.holders = mount.holders.iter().filter(|h| h.is_alive()).cloned().collect();
        }
        (_, Some(done)) => {
            let (why, errno) = done.why_left();
            left.why = Some(why);
            left.reason = done.reason();
            left.errno = errno.map(errno_name);
            if let Done::Detached { holders } = done {
                left.holders = holders.clone();
            }
        }
        (Residue::Mount(Mount { table: TableOf::Host, .. }), None) => {
            left.reason = Reason::OnHost;
            left.why = Some("only the host can unmount it".into());
        }
        (_, None) => {
            if let Some((_, why)) = &history.closed {
                left.reason = Reason::GateClosed;
                left.why = Some(why.clone());
            }
        }
    }
    if facts.command == Command::Survey {
        left.reason = Reason::Survey;
        left.why.get_or_insert(A_SURVEY.into());
    } else if residue.processes().iter().any(|process| facts.stuck.contains(&process.pid)) {
        left.reason = Reason::Stuck;
        left.why = Some("it waits in the kernel and cannot be killed (uninterruptible sleep)".into());
    }
    Left::new(residue.clone(), left)
}

/// Totals in which a residue that two steps look for (drain and containers do) counts once, for the first of them.
fn totals(history: &History, gone: &Gone) -> Counts {
    let blind: HashSet<&Blind> = history.steps.iter().flat_map(|s| &s.blind).collect();
    let mut counts = Counts { blind: blind.len(), ..Counts::default() };
    for (at, step) in history.steps.iter().enumerate() {
        let is_new = |key: &&Key| history.steps[..at].iter().all(|earlier| earlier.seen.get(key).is_none());
        for key in step.seen.iter().map(|(key, _)| key).filter(is_new) {
            let total = if gone.has(key) { &mut counts.removed } else { &mut counts.left };
            *total += 1;
            counts.found += 1;
        }
    }
    counts
}

fn outcome(facts: &RunFacts, history: &History, counts: Counts) -> Outcome {
    let unfinished = history.interrupted || !facts.complete;
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

/// What to do about what these steps left.
fn advice(steps: &[StepReport], facts: &RunFacts) -> Vec<Advice> {
    let left = || steps.iter().flat_map(|s| &s.left);
    let mut advice = Vec::new();
    let because: Vec<String> =
        left().filter(|l| l.only_a_reboot_ends(&facts.stuck)).map(|l| l.residue.to_string()).collect();
    if !because.is_empty() && facts.command != Command::Survey {
        advice.push(Advice::Reboot { because: dedup(because) });
    }
    let known = left().filter(|l| matches!(&*l.residue, Residue::Detached(m) if !m.holders_unknown));
    let holders: Vec<String> = known.flat_map(|l| &l.holders).map(ToString::to_string).collect();
    if !holders.is_empty() {
        advice.push(Advice::EndHolders { holders: dedup(holders) });
    }
    let on_host = left().filter_map(|l| match &*l.residue {
        Residue::Mount(Mount { table: TableOf::Host, point, .. }) => Some(show(point).into_owned()),
        _ => None,
    });
    let at_own = facts.notes.iter().filter(|note| note.kind == NoteKind::OwnMounts);
    let points: Vec<String> =
        on_host.chain(at_own.flat_map(|note| note.items.iter().rev().cloned())).collect();
    if !points.is_empty() {
        advice.push(Advice::UnmountOnHost { points });
    }
    let of_kube_proxy = facts.notes.iter().find(|n| n.kind == NoteKind::KubeProxyRules);
    advice.extend(of_kube_proxy.map(|note| Advice::KubeProxyRules { tables: note.items.clone() }));
    if left().next().is_some() {
        advice.extend(facts.abilities.iter().filter_map(|(ability, answer)| allowed_with(*ability, answer)));
    }
    advice
}

fn dedup(mut list: Vec<String>) -> Vec<String> {
    let mut seen = HashSet::new();
    list.retain(|item| seen.insert(item.clone()));
    list
}

/// What would allow something, if it was refused.
fn allowed_with(ability: Ability, answer: &Answer) -> Option<Advice> {
    let Answer::Refused(errno) = answer else { return None };
    let (what, with) = match ability {
        Ability::SignalShim | Ability::SignalSandbox | Ability::SignalService => {
            ("signalling", "the plug process-control on the hook")
        }
        Ability::SignalApplication => (
            "signalling applications",
            "the line 'signal (receive) peer=snap.<name>.hook.remove,' in the pods' AppArmor profile",
        ),
        Ability::AskShim => ("asking shims", "the plug docker-support on the hook"),
        Ability::AskPod => ("requests to pods", "the plug network-control on the hook"),
        Ability::WriteCgroups => {
            ("writing control groups", "the plug docker-support (privileged-containers) on the hook")
        }
        Ability::RuntimeState => ("/run/containerd", "the plug docker-support on the hook"),
        Ability::Unmount => ("unmounting", "the plug kubernetes-support or docker-support on the hook"),
        Ability::Snapctl => ("snapctl", "a run within the snap's hook"),
        Ability::RemoveLinks => ("removing links", "the plug network-control on the hook"),
        Ability::ChangeRules => ("changing firewall rules", "the plug firewall-control on the hook"),
    };
    Some(Advice::Allow { refused: format!("{what} ({errno})"), with: with.into() })
}
