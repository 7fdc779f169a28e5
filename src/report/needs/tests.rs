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
