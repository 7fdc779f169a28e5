//! A whole run: scope, survey, rounds, last look, report.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::engine::{self, Acts, Course};
use crate::error::{Error, Result};
use crate::holders;
use crate::host::Host;
use crate::live::{Ability, Live, lock};
use crate::namespace::SnapNamespace;
use crate::notes;
use crate::profile::Profile;
use crate::remove;
use crate::report::{Command, Frame, HostFacts, Report, pids};
use crate::residue::Residue;
use crate::result;
use crate::scope::Scope;
use crate::scripts;
use crate::snap::Snap;
use crate::step::{Blind, Effort, Finding, Gate, Step};
use crate::steps;
use crate::sys;
use crate::view::View;

/// Told what happens, for whoever watches.
pub type Watch<'a> = &'a mut dyn FnMut(&Step, usize, Effort);

/// What a run works on.
pub struct Subject {
    /// The snap.
    pub snap: Snap,
    /// Its profile.
    pub profile: Profile,
    /// Where the profile came from.
    pub profile_from: String,
}

/// Looks, and touches nothing.
pub fn survey(host: &Host, subject: &Subject) -> Result<Report> {
    let started = Instant::now();
    let started_at = now();
    let view = View::new(host, None);
    let namespace = SnapNamespace::find(&view, &subject.snap);
    let view = view.with_snap_namespace(namespace);
    let scope = Scope::gather(&view, &subject.snap, &subject.profile)?;
    let plan = steps::plan(subject.profile.patience.grace());
    let course = look_once(&plan, &view, &scope, None);
    Ok(report(
        Command::Survey,
        &plan,
        &course,
        &scope,
        &view,
        Told { subject, started, started_at, complete: true, live: None },
    ))
}

/// Looks for what an earlier run was to remove. Without that run's scope, what is known only by a container's
/// ID cannot be looked for, and is blind.
pub fn verify(host: &Host, subject: &Subject) -> Result<Report> {
    let started = Instant::now();
    let started_at = now();
    let view = View::new(host, None);
    let namespace = SnapNamespace::find(&view, &subject.snap);
    let view = view.with_snap_namespace(namespace);
    let mut scope = Scope::gather(&view, &subject.snap, &subject.profile)?;
    let earlier = result::read(host, &subject.snap);
    let mut remembered = Vec::new();
    match earlier {
        Ok(Some(earlier)) => {
            let left = earlier.steps.iter().flat_map(|s| &s.left).map(|l| l.residue.clone());
            remembered = left.filter(|r| matches!(r, Residue::Detached { .. })).collect();
            match earlier.scope {
                Some(old) => scope = scope.union(old),
                None => scope
                    .blind
                    .push(Blind::new("containers of the removed snap", "the result file holds no scope")),
            }
        }
        Ok(None) => scope.blind.push(Blind::new(
            "network namespaces, groups and sockets of containers that are known only by their ID",
            "there is no result file of an earlier run",
        )),
        Err(e) => scope.blind.push(Blind::new("the result of the earlier run", e)),
    }
    let plan = steps::plan(subject.profile.patience.grace());
    let mut course = look_once(&plan, &view, &scope, None);
    let held = remembered.into_iter().filter(still_held);
    add_remembered(&plan, &mut course, held.collect());
    Ok(report(
        Command::Verify,
        &plan,
        &course,
        &scope,
        &view,
        Told { subject, started, started_at, complete: true, live: None },
    ))
}

/// Removes. Writes the result file when the survey is done and again at the end.
pub fn remove(live: &mut Live, subject: &Subject, watch: Watch) -> Result<Report> {
    let started = Instant::now();
    let started_at = now();
    let deadline = started + Duration::from_secs(subject.profile.patience.deadline);
    let _lock = wait_for_lock(live, &subject.snap, deadline)?;
    // Before the first look: what they do must be seen.
    let hooks = subject.profile.resolve(&subject.snap)?.hooks;
    let run = |directory: PathBuf| {
        // What is mounted is needed before that, to wait for no server.
        drop(View::new(&live.host, None));
        scripts::run(live, &directory, deadline)
    };
    let hooks = hooks.map(run).unwrap_or_default();
    let host = live.host.clone();
    let view = View::new(&host, None);
    live.snap_namespace = SnapNamespace::find(&view, &subject.snap);
    let live = &*live;
    let view = view.with_snap_namespace(live.snap_namespace.clone());
    let plan = steps::plan(subject.profile.patience.grace());
    let told = |complete| Told { subject, started, started_at, complete, live: Some(live) };

    let earlier = unfinished(live, &subject.snap);
    let mut scope = Scope::gather_after(&view, &subject.snap, &subject.profile, earlier.as_ref())?;
    notes::before(&view, &scope).into_iter().for_each(|note| live.note(note));
    let mut surveyed = look_once(&plan, &view, &scope, Some(live));
    {
        let mut first = report(Command::Remove, &plan, &surveyed, &scope, &view, told(false));
        first.hooks = hooks.clone();
        if first.counts.left > 0
            && let Err(e) = result::write(&host, &mut first, &subject.snap)
        {
            log::warn!("{e}");
        }
    }
    remove::ourselves::leave(live, &scope, &view);
    try_abilities(live, &scope, &view);

    let mut whole = Course::default();
    let mut view = view;
    loop {
        let (course, last) = remove_scope(live, &plan, &scope, surveyed, view, watch, deadline);
        whole = course.after(whole);
        view = last;
        // There was nothing to do.
        if whole.rounds == 0 {
            break;
        }
        // What started while we worked is not in the scope, and would be left without a word.
        let newer = Scope::gather(&view, &subject.snap, &subject.profile)?;
        if !scope.lacks(&newer) || live.interrupts.seen() || Instant::now() >= deadline {
            add_blind(&plan, &mut whole, newer.blind);
            break;
        }
        scope = newer.union(scope);
        surveyed = look_once(&plan, &view, &scope, Some(live));
    }
    let mut last = report(Command::Remove, &plan, &whole, &scope, &view, told(true));
    last.hooks = hooks;
    Ok(last)
}

/// The scope of an earlier run that left something. What that one removed was often the last evidence of what it could
/// not remove; and what it detached no look can see.
fn unfinished(live: &Live, snap: &Snap) -> Option<Scope> {
    let earlier = match result::earlier(snap) {
        Ok(earlier) => earlier?,
        Err(e) => {
            log::warn!("{e}");
            return None;
        }
    };
    let (detached, scope) = earlier.unfinished()?;
    detached.into_iter().filter(still_held).for_each(|residue| live.remember(residue));
    scope
}

/// One teardown of one scope, after a survey of it. Returns its course and the view of its last look.
fn remove_scope<'a>(
    live: &'a Live,
    plan: &[Step],
    scope: &Scope,
    surveyed: Course,
    first: View<'a>,
    watch: Watch,
    deadline: Instant,
) -> (Course, View<'a>) {
    let view = RefCell::new(first);
    let stale = Cell::new(false);
    let current = |fresh: bool| {
        if stale.replace(false) || fresh {
            let next = view.borrow().again(fresh);
            *view.borrow_mut() = next;
        }
    };
    let course = engine::teardown(
        plan,
        surveyed,
        &mut Acts {
            look: &mut |step, fresh| {
                current(fresh);
                find(step, &view.borrow(), scope, Some(live))
            },
            remove: &mut |residues, effort, until| {
                stale.set(true);
                remove::remove(live, scope, residues, effort, until)
            },
            settle: &mut |residues, until| remove::settle(live, residues, until),
            closed: &mut |gate| {
                current(false);
                closed(live, gate, &view.borrow(), scope)
            },
            interrupted: &mut || live.interrupts.seen(),
            progress: watch,
        },
        deadline,
    );
    (course, view.into_inner())
}

/// What a step sees, and what no look can see any more.
fn find(step: &Step, view: &View, scope: &Scope, live: Option<&Live>) -> Finding {
    let mut finding = (step.find)(view, scope);
    finding.residues.extend(live.into_iter().flat_map(|live| remembered_for(live, step)));
    finding
}

fn look_once(plan: &[Step], view: &View, scope: &Scope, live: Option<&Live>) -> Course {
    let mut acts = Acts {
        look: &mut |step, _| find(step, view, scope, live),
        remove: &mut |_, _, _| Vec::new(),
        settle: &mut |_, _| {},
        closed: &mut |_| None,
        interrupted: &mut || false,
        progress: &mut |_, _, _| {},
    };
    engine::survey(plan, &mut acts)
}

/// Why a gate is closed, as far as the last look can tell.
fn closed(live: &Live, gate: Gate, view: &View, scope: &Scope) -> Option<String> {
    let blocked = |finding: Finding, what: &str| match (finding.residues.len(), finding.blind.first()) {
        (0, None) => None,
        (0, Some(blind)) => Some(format!("could not look at {}: {}", blind.what, blind.why)),
        (n, _) => Some(format!("{n} {what}, the first: {}", finding.residues[0])),
    };
    match gate {
        Gate::NoOwnedProcess => blocked(steps::owned_processes(view, scope), "of ours still run"),
        Gate::EvidenceUnneeded => blocked(steps::in_need_of_evidence(view, scope), "of ours still need it"),
        Gate::MountTableClear => {
            let mut finding = steps::owned_mounts(view, scope);
            finding.residues.extend(lock(&live.remembered).iter().filter(|r| still_held(r)).cloned());
            blocked(finding, "mounts of ours are left")
        }
    }
}

/// What no look can see, under the step that would look for it.
fn remembered_for(live: &Live, step: &Step) -> Vec<Residue> {
    let of_step = |r: &&Residue| match r {
        Residue::Detached { .. } => step.name == "mounts" && still_held(r),
        Residue::RuntimeLeftRunning { .. } => step.name == "services",
        _ => false,
    };
    lock(&live.remembered).iter().filter(of_step).cloned().collect()
}

fn add_remembered(plan: &[Step], course: &mut Course, remembered: Vec<Residue>) {
    if let Some(at) = plan.iter().position(|s| s.name == "mounts") {
        course.steps[at].add(remembered);
    }
}

/// Evidence that hides by now, and did not when the scope was gathered, could be of something that has come since.
fn add_blind(plan: &[Step], course: &mut Course, hidden: Vec<Blind>) {
    let Some(at) = plan.iter().position(|s| s.name == "containers") else { return };
    let known = &mut course.steps[at].blind;
    let more: Vec<Blind> = hidden.into_iter().filter(|blind| !known.contains(blind)).collect();
    known.extend(more);
}

fn still_held(residue: &Residue) -> bool {
    match residue {
        Residue::Detached { holders, holders_unknown, .. } => holders::remain(holders, *holders_unknown),
        _ => true,
    }
}

/// Finds out what confinement grants where that decides how to go about things, without changing anything.
fn try_abilities(live: &Live, scope: &Scope, view: &View) {
    let listed = live.host.list(&scope.roots.runc).map(drop);
    live.tried(Ability::RuntimeState, listed.map_err(|e| e.errno().unwrap_or(0)));
    let Ok(tree) = view.cgroups() else { return };
    let groups: BTreeSet<&Path> =
        scope.containers.iter().flat_map(|c| c.groups.iter().map(PathBuf::as_path)).collect();
    let Some((hierarchy, group)) = tree.each().find(|(_, g)| groups.contains(g)) else { return };
    let file = crate::cgroup::full(&hierarchy.point, group).join("cgroup.procs");
    let opened = std::fs::OpenOptions::new().write(true).open(file);
    live.tried(Ability::WriteCgroups, opened.map(drop).map_err(|e| e.raw_os_error().unwrap_or(0)));
}

/// Waits while another run works on the same snap, and says so.
fn wait_for_lock(live: &Live, snap: &Snap, deadline: Instant) -> Result<result::Lock> {
    let mut said = false;
    loop {
        if let Some(held) = result::lock(snap)? {
            return Ok(held);
        }
        if !said {
            log::warn!("another run works on snap '{}'; waiting for it", snap.instance);
            said = true;
        }
        if Instant::now() >= deadline || live.interrupts.seen() {
            return Err(Error::Usage(format!(
                "another run works on snap '{}'; nothing was done",
                snap.instance
            )));
        }
        sys::pause(&live.interrupts, Duration::from_millis(100));
    }
}

/// What a report tells besides the course.
struct Told<'a> {
    subject: &'a Subject,
    started: Instant,
    started_at: u64,
    complete: bool,
    live: Option<&'a Live>,
}

fn report(
    command: Command,
    plan: &[Step],
    course: &Course,
    scope: &Scope,
    view: &View,
    told: Told,
) -> Report {
    let stuck =
        course.steps.iter().flat_map(|s| &s.left).flat_map(pids).filter(|pid| is_stuck(view, *pid)).collect();
    let mut notes = match told.live {
        Some(live) => lock(&live.notes).clone(),
        None if command == Command::Survey => notes::before(view, scope),
        None => Vec::new(),
    };
    if told.complete {
        notes.extend(notes::standing(view, scope));
    }
    let frame = Frame {
        command,
        plan,
        profile: &told.subject.profile_from,
        host: host_facts(view),
        abilities: told.live.map(|l| lock(&l.abilities).clone()).unwrap_or_default(),
        started_at: told.started_at,
        elapsed_ms: u64::try_from(told.started.elapsed().as_millis()).unwrap_or(u64::MAX),
        complete: told.complete,
        stuck,
        notes,
    };
    Report::of(frame, course, scope)
}

fn is_stuck(view: &View, pid: i32) -> bool {
    view.processes().as_ref().is_ok_and(|all| all.get(pid).is_some_and(|p| p.state == 'D'))
}

fn host_facts(view: &View) -> HostFacts {
    let label = view.host.read_text(Path::new("/proc/self/attr/current")).ok();
    HostFacts {
        kernel: view.host.read_text(Path::new("/proc/sys/kernel/osrelease")).unwrap_or_default(),
        cgroup: view.cgroups().as_ref().map_or("none", |t| t.layout()).into(),
        label: label.map(|l| l.trim_end_matches('\0').to_owned()).filter(|l| !l.is_empty()),
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}
