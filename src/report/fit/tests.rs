use std::io::Read;

use super::*;
use crate::engine::History;
use crate::engine::step::StepName;
use crate::error::Blind;
use crate::fixture::scope_of;
use crate::json;
use crate::reason::Reason;
use crate::remove::drain::ending::{self, End, Ending, HookEnding};
use crate::report::advice::Advice;
use crate::report::file::LARGEST;
use crate::report::left::{Because, NOT_TRIED};
use crate::report::script::{self, Script};
use crate::report::{Counts, Left, Outcome, RunFacts};
use crate::residue::{Detached, RuntimeLeftRunning};
use crate::runtime::ContainerId;

fn left(residue: Residue, why: String) -> Left {
    let (reason, why) = (Reason::Failed, Some(why));
    Left::new(residue.into(), Because { reason, why, ..NOT_TRIED })
}

fn named(name: String) -> Residue {
    Residue::RuntimeLeftRunning(RuntimeLeftRunning { name })
}

fn ending(pod: String, error: String) -> Ending {
    let (kind, outcome) = ("exec".into(), ending::Outcome::Failed);
    let hook = HookEnding { kind, outcome, status: None, reason: None, error: Some(error), elapsed_ms: 1 };
    Ending {
        container: ContainerId { namespace: "k8s.io".into(), id: "a".into() },
        pod: Some(pod),
        name: None,
        end: End::Killed,
        elapsed_ms: 1,
        asked: 1,
        grace: 1,
        signal: None,
        hook: Some(hook),
    }
}

fn plain() -> Report {
    let mut report =
        Report::build(RunFacts::of_a_removal(), &[], &History::default(), &scope_of(&["a"]).into());
    report.counts = Counts { found: 9, removed: 1, left: 8, blind: 7 };
    (report.outcome, report.exit_status) = (Outcome::Residue, 1);
    let (name, counts) = (StepName::Mounts, report.counts);
    let (left, removed, blind) = (vec![], vec![], vec![]);
    report.steps = vec![StepReport { name, elapsed_ms: 1, counts, closed: None, left, removed, blind }];
    report
}

fn written(report: &mut Report, most: u64) -> Report {
    let mut file = tempfile::tempfile().unwrap();
    report.write_within(most, &mut file).unwrap();
    let mut bytes = Vec::new();
    file.rewind().unwrap();
    file.read_to_end(&mut bytes).unwrap();
    assert!(bytes.len() as u64 <= most, "{}", bytes.len());
    json::parse(&bytes).unwrap()
}

#[test]
fn whatever_the_lengths_a_document_fits_and_keeps_outcome_and_counts() {
    fn long() -> String {
        "x\u{9b}".repeat(700_000)
    }
    let hostile: [fn(&mut Report); 6] = [
        |report| report.steps[0].left = vec![left(named(long()), String::new()); 2],
        |report| report.steps[0].left = vec![left(named("a".into()), long())],
        |report| report.steps[0].blind = vec![Blind::new(long(), (Reason::Failed, "x"))],
        |report| report.notes = vec![Note::of(NoteKind::Links, "x", [long()])],
        |report| report.endings = vec![ending(long(), String::new())],
        |report| {
            let script = |end| Script { name: "x".repeat(200), elapsed_ms: 1, end };
            report.scripts = vec![script(script::End::Exited(0)); 40_000];
            report.scripts.push(script(script::End::Exited(1)));
        },
    ];
    for (at, make) in hostile.iter().enumerate() {
        let mut report = plain();
        report.advice = vec![Advice::Reboot { because: vec!["a".into()] }];
        make(&mut report);
        let mut read = vec![json::parse(report.json_within(128 << 10).unwrap().as_bytes()).unwrap()];
        read.push(written(&mut report, LARGEST));
        for read in read {
            let Report { outcome, counts, exit_status, needs, steps, .. } = read;
            assert_eq!((outcome, counts, exit_status), (report.outcome, report.counts, 1), "{at}");
            assert_eq!((needs, steps[0].counts), (report.needs.clone(), report.counts), "{at}");
            assert!(read.truncated && !read.notes[0].items.is_empty(), "{at}: {:?}", read.notes);
            assert!(at != 5 || read.scripts.len() == 1, "who failed is told: {:?}", read.scripts);
        }
    }
}

#[test]
fn the_journal_gets_the_document_without_prose_before_it_gets_none() {
    let mut report = plain();
    report.endings = vec![ending("d/p".into(), "e".repeat(500)); 300];
    report.steps[0].left = vec![left(named("a".into()), "y".repeat(1000)); 90];
    let told: Report = json::parse(report.json_within(200 << 10).unwrap().as_bytes()).unwrap();
    assert_eq!((told.endings.len(), told.steps[0].left.len(), told.notes[0].items.len()), (300, 90, 1));
    assert_eq!(told.steps[0].left[0].why.as_deref(), report.steps[0].left[0].why.as_deref());
    let told: Report = json::parse(report.json_within(128 << 10).unwrap().as_bytes()).unwrap();
    assert_eq!((told.endings.len(), told.steps[0].left.len(), told.notes[0].items.len()), (300, 90, 2));
    assert!(told.scope.is_some() && !report.truncated);
}

#[test]
fn a_mount_that_was_detached_is_told_or_the_document_knows_no_scope() {
    let (point, fstype, holders) = ("/x".into(), "nfs".into(), vec![]);
    let detached = Residue::Detached(Detached { point, fstype, holders, holders_unknown: true }.into());
    for most in [100_000, 20_000, 6_000, 2_000] {
        let mut report = plain();
        report.steps[0].left = vec![left(named("a".into()), "w".repeat(50)); 3000];
        report.steps[0].left.push(left(detached.clone(), String::new()));
        let read = written(&mut report, most);
        let told = read.steps[0].left.iter().any(|left| *left.residue == detached);
        assert!(told || read.scope.is_none(), "{most}");
    }
}
