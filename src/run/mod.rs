//! The story of a run: scope, survey, rounds, last look, report.

mod disks;
pub mod facts;
mod lock;
mod notes;
mod places;
pub mod rounds;
mod scripts;
mod settings;
mod sizes;
pub mod subject;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::engine::History;
use crate::error::{Blind, Error, Result, Why, errno_of};
use crate::linux::cgroup;
use crate::linux::host::Host;
use crate::linux::interrupts::Interrupts;
use crate::order;
use crate::reason::Reason;
use crate::remove::ability::Ability;
use crate::remove::hold;
use crate::remove::live::Live;
use crate::remove::ourselves;
use crate::remove::thaw::thaw;
use crate::report::script::Script;
use crate::report::{Command, Report, file};
use crate::residue::Residue;
use crate::run::disks::Before;
use crate::run::facts::{Removal, StartedRun};
use crate::run::rounds::{Rounds, Watch, look_once, still_held};
use crate::run::subject::Subject;
use crate::scope::decide::{gather, gather_after};
use crate::scope::{Scope, roots};
use crate::steps;
use crate::view::View;

pub use lock::is_held as is_running;

/// Looks, and touches nothing.
pub fn survey(host: &Host, subject: &Subject) -> Result<Report> {
    let started = StartedRun::now(Command::Survey, subject);
    let view = View::of_snap(host, &subject.snap);
    let scope = Arc::new(gather(&view, &subject.snap, &subject.profile)?);
    let plan = steps::plan(subject.profile.patience.grace());
    let history = look_once(&plan, &view, &scope, None);
    let sizes = sizes::of(host, &scope, &history);
    let mut report = started.report(&plan, &history, &scope, &view);
    report.sizes = sizes;
    Ok(report)
}

/// Looks for what an earlier run was to remove: by its result, or by a copy of that. Without that run's scope, what is known
/// only by a container's ID cannot be looked for, and is blind.
pub fn verify(host: &Host, subject: &Subject, saved: Option<&Path>) -> Result<Report> {
    let started = StartedRun::now(Command::Verify, subject);
    // First: who is to bring it may take his time, and what is looked at is to be as it is then.
    let earlier = match saved {
        Some(copy) => Ok(Some(file::read_copy(host, copy, &subject.snap)?)),
        None => file::read(host, &subject.snap),
    };
    let view = View::of_snap(host, &subject.snap);
    let now = started.host(&view);
    let then = earlier.as_ref().ok().and_then(|earlier| Some(&earlier.as_ref()?.host));
    if then.is_some_and(|then| now.is_another_machine(then)) {
        return Err(Error::NotStarted("the result is another machine's (host.machine-id)".into()));
    }
    let booted = then.is_some_and(|then| now.booted_between(then));
    // Of a boot that is over, no link is there any more.
    let known =
        earlier.as_ref().ok().and_then(|earlier| earlier.as_ref()?.scope.as_deref()).filter(|_| !booted);
    let scope = gather_after(&view, &subject.snap, &subject.profile, known)?;
    let (mut scope, detached) = with_earlier_result(earlier, booted, scope);
    // The shims that told where containerd worked have ended; the earlier result knows.
    if scope.told_by_shims.is_some() {
        let told = scope.told_by_shims.clone();
        (scope.roots, scope.inside) = roots::resolve_as_told(host, &subject.snap, &subject.profile, told)?;
    }
    let plan = steps::plan(subject.profile.patience.grace());
    let scope = Arc::new(scope);
    let mut history = look_once(&plan, &view, &scope, None);
    rounds::add_remembered(&plan, &mut history, detached);
    Ok(started.report_of_verify(&plan, &history, &scope, &view, booted))
}

/// The scope with what an earlier run's result knows, and the mounts which that run detached and which are still held.
fn with_earlier_result(
    earlier: Result<Option<Report>>,
    booted: bool,
    mut scope: Scope,
) -> (Scope, Vec<Residue>) {
    let mut hidden = |what: &str, why: Why| scope.blind.push(Blind::new(what, why));
    let earlier = match earlier {
        Ok(Some(earlier)) => earlier,
        Ok(None) => {
            let what = "network namespaces, groups and sockets of containers that are known only by their ID";
            hidden(what, (Reason::NoResult, "there is no result file of an earlier run").into());
            return (scope, Vec::new());
        }
        Err(e) => {
            hidden("the result of the earlier run", e.into());
            return (scope, Vec::new());
        }
    };
    let left = earlier.steps.iter().flat_map(|s| &s.left).map(|l| &*l.residue);
    // What was detached then is gone with that boot, whoever has the holders' numbers now.
    let detached = left.filter(|r| !booted && matches!(r, Residue::Detached(_)) && still_held(r));
    let detached = detached.cloned().collect();
    match earlier.scope {
        Some(old) => {
            let old = Arc::unwrap_or_clone(old);
            scope = scope.union(if booted { old.after_another_boot() } else { old });
        }
        None => hidden(
            "containers of the removed snap",
            (Reason::NoResult, "the result file holds no scope, or lies where containers may write").into(),
        ),
    }
    (scope, detached)
}

/// Removes. Writes the result file when the survey is done and again at the end.
pub fn remove(subject: &Subject, watch: Watch, show_waiting: Option<fn(&str)>) -> Result<Report> {
    let started = StartedRun::now(Command::Remove, subject);
    let deadline = started.at + Duration::from_secs(subject.profile.patience.deadline);
    let mut live = start(subject)?;
    let lock = lock::take(&live.snap, &live.interrupts, deadline)?;
    let scripts = run_scripts(&live, deadline);

    let host = live.host.clone();
    let mut view = View::of_snap(&host, &subject.snap);
    live.snap_namespace = view.snap_namespace.clone();
    live.show_waiting = show_waiting;
    let live = &live;
    let (earlier, unread) = unfinished(live);
    let scope = Arc::new(gather_after(&view, &subject.snap, &subject.profile, earlier.as_ref())?);
    let plan = &steps::plan(subject.profile.patience.grace());
    let removal = Removal { live, plan, notes: &notes::before(&view, &scope), scripts: &scripts };

    let surveyed = look_once(plan, &view, &scope, Some(live));
    let first = started.report_of_removal(&removal, false, &surveyed, &scope, &view);
    leave_behind(first, live);
    let disks = Before::of(&view, &surveyed);
    // Before applications are asked to end: they may have to write to these file systems first.
    thaw(&steps::loops::file_systems(&view, &scope));
    prepare(live, &scope, &view);
    view.forget_mounts();
    let rounds = Rounds { live, plan, deadline };
    let torn_down = until_nothing_new(&rounds, subject, scope, surveyed, view, watch);
    hold::release_all(live);
    let (mut history, scope, view) = torn_down?;
    // The run that was waited for ended clean, and left nothing to do: its result is the one that tells something.
    let nothing_new = lock.waited && earlier.is_none() && unread.is_none() && history.rounds == 0;
    rounds::add_blind(plan, &mut history, unread.into_iter().collect());
    let mut last = started.report_of_removal(&removal, true, &history, &scope, &view);
    last.disks = disks.and_after();
    if nothing_new && last.exit_status == 0 && file::is_there(&live.snap) {
        return Ok(last);
    }
    if let Err(e) = file::write(&host, &mut last, &live.snap) {
        log::warn!("{e}");
    }
    Ok(last)
}

fn start(subject: &Subject) -> Result<Live> {
    let interrupts =
        Interrupts::take().map_err(|e| Error::NotStarted(format!("cannot take signals: {e}")))?;
    let roots = subject.profile.resolve(&subject.snap)?;
    Live::new(interrupts, &subject.snap, roots, &subject.profile.services)
}

/// Runs the user's own scripts: before the first look, which must see what they do.
fn run_scripts(live: &Live, deadline: Instant) -> Vec<Script> {
    let Some(directory) = &live.roots.scripts else { return Vec::new() };
    // To wait for no file server, scripts must know what is mounted.
    live.host.learn_mounts();
    scripts::run(live, directory, deadline)
}

/// The scope of an earlier run that left something. What that one removed was often the last evidence of what it could
/// not remove; and what it detached no look can see. Or why its result cannot be read: what it left may be there unseen.
fn unfinished(live: &Live) -> (Option<Scope>, Option<Blind>) {
    let earlier = match file::earlier(&live.snap) {
        Ok(earlier) => earlier,
        Err(e) => return (None, Some(Blind::new("what an earlier run has left", e))),
    };
    let Some((detached, scope)) = earlier.and_then(|earlier| earlier.unfinished()) else {
        return (None, None);
    };
    detached.into_iter().filter(still_held).for_each(|residue| live.remember(residue));
    let unknown =
        || Blind::new("what an earlier run has left", (Reason::NoResult, "its result holds no scope"));
    let unread = scope.is_none().then(unknown);
    (scope, unread)
}

/// Writes the survey down, so that a run that is killed leaves it behind.
fn leave_behind(mut survey: Report, live: &Live) {
    if survey.counts.left > 0
        && let Err(e) = file::write(&live.host, &mut survey, &live.snap)
    {
        log::warn!("{e}");
    }
}

/// Leaves the groups that are to be ended, and finds out what confinement grants where that decides how to go about
/// things. Shims that a killed run has left stopped go on. Changes nothing else.
fn prepare(live: &Live, scope: &Scope, view: &View) {
    hold::resume_stopped(scope, view);
    let listed = live.host.list(&scope.roots.runc).map(drop);
    live.tried(Ability::RuntimeState, listed.map_err(|e| e.errno_or_unknown()));
    let Ok(tree) = view.cgroups() else { return };
    let owned = order::set(scope.containers.iter().flat_map(|c| c.cgroups.iter().map(PathBuf::as_path)));
    let own = i32::try_from(std::process::id()).unwrap_or(0);
    let is_owned = |group: &Path| group.ancestors().any(|above| owned.contains(above));
    let ours: Vec<PathBuf> = view.membership(own).into_iter().filter(|group| is_owned(group)).collect();
    ourselves::leave(live, &tree.hierarchies, &ours);
    let Some((hierarchy, group)) = tree.each().find(|(_, g)| owned.contains(g)) else { return };
    let file = cgroup::full(&hierarchy.point, group).join("cgroup.procs");
    let opened = std::fs::OpenOptions::new().write(true).open(file);
    live.tried(Ability::WriteCgroups, opened.map(drop).map_err(|e| errno_of(&e)));
}

/// Tears the scope down, and what has started meanwhile: that is not in the scope, and would be left without a word.
fn until_nothing_new<'a>(
    rounds: &Rounds<'a>,
    subject: &Subject,
    mut scope: Arc<Scope>,
    mut surveyed: History,
    mut view: View<'a>,
    watch: Watch,
) -> Result<(History, Arc<Scope>, View<'a>)> {
    let mut whole = History::default();
    loop {
        let (history, last) = rounds.teardown(&scope, surveyed, view, watch);
        whole = history.continuing(whole);
        view = last;
        let nothing_to_do = whole.rounds == 0;
        if nothing_to_do {
            break;
        }
        let newer = gather(&view, &subject.snap, &subject.profile)?;
        let over = rounds.live.interrupts.seen() || Instant::now() >= rounds.deadline;
        if !scope.lacks(&newer) || over {
            rounds::add_blind(rounds.plan, &mut whole, newer.blind);
            break;
        }
        // The roots stay as they were first found: the shims that told them may have ended by now.
        let (roots, inside) = (scope.roots.clone(), scope.inside.clone());
        scope = Scope { roots, inside, ..newer.union(Arc::unwrap_or_clone(scope)) }.into();
        surveyed = look_once(rounds.plan, &view, &scope, Some(rounds.live));
    }
    Ok((whole, scope, view))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{file, microk8s};
    use crate::report::note::NoteKind;
    use crate::text;

    #[test]
    fn a_result_is_looked_for_on_its_own_machine_and_knows_its_own_boot() {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::at(dir.path());
        let machine = |id: &str| file(dir.path(), "etc/machine-id", id);
        let boot = |id: &str| file(dir.path(), "proc/sys/kernel/random/boot_id", id);
        let (snap, profile) = microk8s();
        let subject = Subject { snap, profile, profile_from: "built in".into() };
        let look = |copy: Option<&str>| verify(&host, &subject, copy.map(Path::new));
        let booted = |report: &Report| report.notes.iter().any(|note| note.kind == NoteKind::Booted);

        machine("0123\n");
        boot("a-b\n");
        let mut removal = look(None).unwrap();
        file(dir.path(), "look.json", text::json(&removal));
        assert!(look(Some("/look.json")).is_err());
        removal.command = Command::Remove;
        file(dir.path(), "kept.json", text::json(&removal));
        assert!(!booted(&look(Some("/kept.json")).unwrap()));
        boot("c-d\n");
        assert!(booted(&look(Some("/kept.json")).unwrap()));
        machine("4567\n");
        let error = look(Some("/kept.json")).unwrap_err().to_string();
        assert!(error.contains("another machine's"), "{error}");
        // Where one of them is not known, nobody knows whether it is another boot of the same machine.
        machine("");
        assert!(!booted(&look(Some("/kept.json")).unwrap()));
    }
}
