//! What a report says besides the history of the run.

use std::cell::OnceCell;
use std::path::Path;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::engine::History;
use crate::linux::host::Host;
use crate::remove::live::Live;
use crate::report::note::{Note, NoteKind};
use crate::report::script::Script;
use crate::report::{Command, HostFacts, Report, RunFacts};
use crate::run::notes;
use crate::run::places;
use crate::run::subject::Subject;
use crate::scope::Scope;
use crate::snap::bom;
use crate::steps::{self, Row};
use crate::text;
use crate::view::View;

/// A run that has begun.
pub struct StartedRun<'a> {
    command: Command,
    subject: &'a Subject,
    /// When, by the monotonic clock.
    pub at: Instant,
    /// When, in seconds since 1970.
    unix: u64,
    /// The machine, read once.
    host: OnceCell<HostFacts>,
}

impl<'a> StartedRun<'a> {
    /// Begins a run now.
    pub fn now(command: Command, subject: &'a Subject) -> StartedRun<'a> {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
        StartedRun { command, subject, at: Instant::now(), unix, host: OnceCell::new() }
    }

    /// The report of a run that only looks.
    pub fn report(&self, plan: &[Row], history: &History, scope: &Arc<Scope>, view: &View) -> Report {
        let mut notes = match self.command {
            Command::Survey => notes::before(view, scope),
            Command::Remove | Command::Verify => Vec::new(),
        };
        if self.command == Command::Survey {
            notes.extend(notes::other_instances(view, scope));
            notes.extend(places::of_own_mounts(view, scope));
        }
        notes.extend(notes::standing(view, scope));
        Report::build(self.facts(view, notes), &steps::of_rows(plan), history, scope)
    }

    /// The report of a run that looks for what an earlier one was to remove; `booted` if the machine was booted in between.
    pub fn report_of_verify(
        &self,
        plan: &[Row],
        history: &History,
        scope: &Arc<Scope>,
        view: &View,
        booted: bool,
    ) -> Report {
        let mut report = self.report(plan, history, scope, view);
        if booted {
            let text = "the machine was booted since the removal: what ends with a boot is not looked for";
            report.notes.push(Note::of(NoteKind::Booted, text, []));
        }
        report
    }

    /// The report of a run that removes: before it has removed anything, and again at its end.
    pub fn report_of_removal(
        &self,
        removal: &Removal,
        complete: bool,
        history: &History,
        scope: &Arc<Scope>,
        view: &View,
    ) -> Report {
        let mut notes = removal.notes.to_vec();
        notes.extend(removal.live.held_namespaces().iter().map(|held| {
            let text = format!(
                "{} was unmounted and unlinked, and stays alive as long as they do",
                text::show(&held.path)
            );
            Note { kind: NoteKind::NetnsHeld, text, items: held.users.clone() }
        }));
        if complete {
            notes.extend(notes::standing(view, scope));
        }
        let facts = RunFacts {
            complete,
            abilities: removal.live.abilities(),
            scripts: removal.scripts.to_vec(),
            endings: removal.live.endings(),
            ..self.facts(view, notes)
        };
        Report::build(facts, &steps::of_rows(removal.plan), history, scope)
    }

    /// The machine. It is read once: what a run decides by is what its report says.
    pub fn host(&self, view: &View) -> &HostFacts {
        let layout = || view.cgroups().as_ref().map_or("none", |tree| tree.layout());
        self.host.get_or_init(|| host_facts(view.host, layout()))
    }

    fn facts(&self, view: &View, notes: Vec<Note>) -> RunFacts {
        let processes = view.processes().as_ref().ok();
        let stuck = processes.into_iter().flat_map(|all| all.iter()).filter(|p| p.state == 'D');
        RunFacts {
            command: self.command,
            profile: self.subject.profile_from.clone(),
            snap_version: self.subject.snap.version(view.host),
            containerd: bom::containerd(view.host, &self.subject.snap.dir),
            host: self.host(view).clone(),
            abilities: Default::default(),
            started_at: self.unix,
            elapsed_ms: u64::try_from(self.at.elapsed().as_millis()).unwrap_or(u64::MAX),
            complete: true,
            stuck: stuck.map(|p| p.id.pid).collect(),
            in_hook: self.subject.snap.runs_us(),
            mounts: view.own_mounts().as_ref().ok().cloned(),
            notes,
            scripts: Vec::new(),
            endings: Vec::new(),
        }
    }
}

/// What a run that removes knows besides its history.
pub struct Removal<'a> {
    /// The machine.
    pub live: &'a Live,
    pub plan: &'a [Row],
    /// What was to be known before.
    pub notes: &'a [Note],
    /// How the user's own scripts ended.
    pub scripts: &'a [Script],
}

/// The machine, with the layout of its control groups.
fn host_facts(host: &Host, cgroup: &str) -> HostFacts {
    let read = |path: &str| host.read_text(Path::new(path)).ok();
    let word = |path: &str| read(path).map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
    let label = read("/proc/self/attr/current");
    HostFacts {
        kernel: read("/proc/sys/kernel/osrelease").unwrap_or_default(),
        cgroup: cgroup.into(),
        label: label.map(|l| l.trim_end_matches('\0').to_owned()).filter(|l| !l.is_empty()),
        hostname: word("/proc/sys/kernel/hostname"),
        boot_id: word("/proc/sys/kernel/random/boot_id"),
        machine_id: word("/etc/machine-id"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{file, microk8s, scope_of};

    #[test]
    fn the_machine_is_read_once() {
        let dir = tempfile::tempdir().unwrap();
        let boot = |id: &str| file(dir.path(), "proc/sys/kernel/random/boot_id", id);
        let (snap, profile) = microk8s();
        let subject = Subject { snap, profile, profile_from: "built in".into() };
        let host = Host::at(dir.path());
        let view = View::new(&host, None);
        let started = StartedRun::now(Command::Verify, &subject);
        boot("a-b\n");
        file(dir.path(), "proc/sys/kernel/hostname", "node-1\n");
        assert_eq!(started.host(&view).hostname.as_deref(), Some("node-1"));
        assert_eq!(started.host(&view).boot_id.as_deref(), Some("a-b"));
        boot("c-d\n");
        let report = started.report(&[], &History::default(), &scope_of(&[]).into(), &view);
        assert_eq!(report.host.boot_id.as_deref(), Some("a-b"));
    }
}
