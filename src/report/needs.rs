//! What has to be done now, in one word: for scripts that act by it.

use crate::reason::Reason;
use crate::report::note::NoteKind;
use crate::report::{Command, Left, Needs, Outcome, RunFacts, StepReport, What};
use crate::residue::{self, Residue, TableOf};
use crate::scope::Scope;
use crate::scope::held::goes_with;

/// Where nothing outlives a boot.
const VOLATILE: [&str; 2] = ["/run", "/dev/shm"];

impl Needs {
    pub(super) fn of(outcome: Outcome, steps: &[StepReport], facts: &RunFacts, scope: &Scope) -> Needs {
        let left = || steps.iter().flat_map(|s| &s.left);
        let hidden = || steps.iter().flat_map(|s| &s.blind).map(|blind| blind.reason);
        let needs = |what, because: &mut dyn Iterator<Item = Reason>| {
            let because = Reason::each_once(because);
            Needs { what, because }
        };
        if facts.command == Command::Survey {
            // What is there is no fault; what stands in the way of a removal is.
            let at_own = facts.notes.iter().any(|note| note.kind == NoteKind::OwnMounts);
            let on_host = (at_own || left().any(|l| is_on_host(&l.residue))).then_some(Reason::OnHost);
            let found = needs(What::Human, &mut hidden().chain(on_host));
            let what = if found.because.is_empty() { What::None } else { What::Human };
            return Needs { what, ..found };
        }
        let only_reboot = |l: &&Left| l.only_a_reboot_ends(&facts.stuck);
        let of_reboot = || left().filter(only_reboot).map(|l| l.reason);
        let all_end = || left().all(|l| ends_with_the_boot(&l.residue, facts, scope));
        match outcome {
            Outcome::Clean => needs(What::None, &mut std::iter::empty()),
            Outcome::Residue if hidden().next().is_none() && of_reboot().next().is_some() && all_end() => {
                needs(What::Reboot, &mut of_reboot())
            }
            _ => {
                let cut = (outcome == Outcome::Interrupted).then_some(Reason::Interrupted);
                needs(What::Human, &mut left().map(|l| l.reason).chain(hidden()).chain(cut))
            }
        }
    }
}

impl Left {
    /// True if nothing else ends it: it cannot be killed, or who would have to be ended is not known. `stuck` are the
    /// processes that wait in the kernel.
    pub(super) fn only_a_reboot_ends(&self, stuck: &[i32]) -> bool {
        match &*self.residue {
            Residue::Detached(mount) => {
                mount.holders_unknown || mount.holders.iter().any(|h| stuck.contains(&h.process.pid))
            }
            other => other.processes().iter().any(|p| stuck.contains(&p.pid)),
        }
    }
}

fn is_on_host(residue: &Residue) -> bool {
    matches!(residue, Residue::Mount(residue::Mount { table: TableOf::Host, .. }))
}

/// True for what is gone after a boot: of files, those that lie in memory; and those in the snap's own directories if its own
/// hook has left them, or in what a layout shows of these, since with these snapd goes on.
fn ends_with_the_boot(residue: &Residue, facts: &RunFacts, scope: &Scope) -> bool {
    match residue {
        // systemd would start them again.
        Residue::Service(service) => service.is_scope(),
        Residue::RuntimeLeftRunning(_) => false,
        Residue::Mount(_) => !is_on_host(residue),
        Residue::Path(residue::Path { path, .. }) => {
            VOLATILE.iter().any(|top| path.starts_with(top))
                || facts.in_hook
                    && facts.command == Command::Remove
                    && (scope.snap.owns(path)
                        || facts
                            .mounts
                            .as_ref()
                            .is_some_and(|table| goes_with(table, &scope.snap.home, path)))
        }
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::step::StepName;
    use crate::error::Blind;
    use crate::linux::mountinfo;
    use crate::linux::proc::ProcessId;
    use crate::report::Counts;
    use crate::report::left::{Because, NOT_TRIED};
    use crate::report::note::Note;
    use crate::residue::PathKind;

    fn detached(unknown: bool) -> (Residue, Reason) {
        let (point, fstype) = ("/d".into(), "nfs".into());
        let mount = residue::Detached { point, fstype, holders: vec![], holders_unknown: unknown };
        (Residue::Detached(mount.into()), Reason::Detached)
    }

    fn path(path: &str) -> (Residue, Reason) {
        let what = PathKind::Data;
        (Residue::path(path.into(), what), Reason::GateClosed)
    }

    fn mount(table: TableOf) -> (Residue, Reason) {
        let (point, fstype) = (std::path::Path::new("/m").into(), "tmpfs".into());
        (Residue::Mount(residue::Mount { id: 1, point, fstype, table, may_hang: false }), Reason::Busy)
    }

    fn step(left: &[(Residue, Reason)], blind: &[Reason]) -> StepReport {
        let left = left
            .iter()
            .cloned()
            .map(|(residue, reason)| Left::new(residue.into(), Because { reason, ..NOT_TRIED }));
        StepReport {
            name: StepName::Mounts,
            elapsed_ms: 0,
            counts: Counts::default(),
            closed: None,
            left: left.collect(),
            removed: vec![],
            blind: blind.iter().map(|reason| Blind::new("x", (*reason, "y"))).collect(),
        }
    }

    fn said(facts: &RunFacts, outcome: Outcome, left: &[(Residue, Reason)], blind: &[Reason]) -> String {
        let scope = crate::fixture::scope_of(&[]);
        crate::text::json(&Needs::of(outcome, &[step(left, blind)], facts, &scope))
    }

    #[test]
    fn a_reboot_is_asked_for_only_where_it_ends_all_that_is_left() {
        let facts = RunFacts::of_a_removal();
        let of = |left: &[_], blind: &[_]| said(&facts, Outcome::Residue, left, blind);
        let reboot = r#"{"what":"reboot","because":["detached"]}"#;
        assert_eq!(of(&[detached(true)], &[]), reboot);
        assert_eq!(of(&[detached(true), mount(TableOf::Own), path("/run/x")], &[]), reboot);
        let human = |because: &str| format!(r#"{{"what":"human","because":[{because}]}}"#);
        // Who holds it is known, and may be ended.
        assert_eq!(of(&[detached(false)], &[]), human(r#""detached""#));
        assert_eq!(of(&[mount(TableOf::Own)], &[]), human(r#""busy""#));
        assert_eq!(of(&[detached(true), mount(TableOf::Host)], &[]), human(r#""detached","busy""#));
        assert_eq!(of(&[detached(true)], &[Reason::Silent]), human(r#""detached","silent""#));
        let data = "/var/snap/microk8s/common/var/lib/containerd";
        let both = human(r#""gate-closed","detached""#);
        assert_eq!(of(&[detached(true), path(data)], &[]), both);
        // Where snapd goes on to delete the snap's directories, that is no matter.
        let hook = RunFacts { in_hook: true, ..RunFacts::of_a_removal() };
        assert_eq!(said(&hook, Outcome::Residue, &[detached(true), path(data)], &[]), reboot);
        assert_eq!(said(&hook, Outcome::Residue, &[detached(true), path("/opt/x")], &[]), both);
        // So it is with what a layout shows of them, and not where something else is mounted there.
        let layout = "1 0 8:1 / / rw - ext4 d rw\n2 1 8:1 /var/snap /var/snap rw - ext4 d rw\n\
                      3 1 8:1 /var/snap/microk8s/common/var/lib/cni /var/lib/cni rw - ext4 d rw\n";
        let cni = [detached(true), path("/var/lib/cni/results/x")];
        let with = |more: &str| {
            let table = mountinfo::parse(format!("{layout}{more}").as_bytes());
            let facts = RunFacts { in_hook: true, mounts: Some(table.into()), ..RunFacts::of_a_removal() };
            said(&facts, Outcome::Residue, &cni, &[])
        };
        assert_eq!(with(""), reboot);
        for more in [
            "4 3 8:2 / /var/lib/cni/results rw - ext4 e rw\n",
            "4 3 8:1 /srv /var/lib/cni rw - ext4 d rw\n",
            "4 1 8:1 /var /var/lib rw - ext4 d rw\n",
            "4 1 8:2 / /var/snap/microk8s rw - ext4 e rw\n",
            "no line\n",
        ] {
            assert_eq!(with(more), both, "{more}");
        }
        assert_eq!(said(&hook, Outcome::Residue, &cni, &[]), both);
        let service = residue::RuntimeLeftRunning { name: "d".into() };
        let service = (Residue::RuntimeLeftRunning(service), Reason::Failed);
        assert_eq!(of(&[detached(true), service], &[]), human(r#""detached","failed""#));
    }

    #[test]
    fn a_process_that_waits_in_the_kernel_needs_a_reboot() {
        let shim = residue::Shim {
            process: ProcessId { pid: 7, start: 1 },
            namespace: "k8s.io".into(),
            id: None,
            socket: None,
            containers: vec![],
            held_by: vec![],
            witnesses: Default::default(),
        };
        let left = [(Residue::Shim(shim.into()), Reason::Stuck)];
        let facts = RunFacts { stuck: vec![7], ..RunFacts::of_a_removal() };
        assert_eq!(said(&facts, Outcome::Residue, &left, &[]), r#"{"what":"reboot","because":["stuck"]}"#);
        assert!(said(&RunFacts::of_a_removal(), Outcome::Residue, &left, &[]).contains("human"));
        assert!(said(&facts, Outcome::Interrupted, &left, &[]).ends_with(r#"["stuck","interrupted"]}"#));
    }

    #[test]
    fn a_survey_needs_somebody_only_for_what_stands_in_the_way() {
        let facts = RunFacts { command: Command::Survey, ..RunFacts::of_a_removal() };
        let of = |left: &[_], blind: &[_]| said(&facts, Outcome::Residue, left, blind);
        assert_eq!(of(&[mount(TableOf::Own), path("/x")], &[]), r#"{"what":"none","because":[]}"#);
        assert_eq!(of(&[mount(TableOf::Host)], &[]), r#"{"what":"human","because":["on-host"]}"#);
        assert_eq!(of(&[], &[Reason::Refused]), r#"{"what":"human","because":["refused"]}"#);
        let at_own = Note::of(NoteKind::OwnMounts, "", ["/var/snap/microk8s/common".to_owned()]);
        let facts = RunFacts { notes: vec![at_own], ..facts };
        let disk = said(&facts, Outcome::Residue, &[], &[]);
        assert_eq!(disk, r#"{"what":"human","because":["on-host"]}"#);
        let clean = said(&RunFacts::of_a_removal(), Outcome::Clean, &[], &[]);
        assert_eq!(clean, r#"{"what":"none","because":[]}"#);
    }
}
