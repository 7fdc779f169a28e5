use super::*;
use crate::engine::History;
use crate::engine::step::StepName;
use crate::fixture::{microk8s, scope_of};
use crate::report::size::{Holds, Size};
use crate::report::{Counts, RunFacts, StepReport};

/// Of a node with so many pods, and all else that there is to say.
fn busy(pods: usize) -> Report {
    let mut report = Report::build(RunFacts::of_a_removal(), &[], &History::default(), &scope_of(&[]).into());
    report.command = crate::report::Command::Survey;
    report.outcome = Outcome::Residue;
    let named = |text: fn(usize) -> String| (0..pods).map(text);
    report.notes = vec![
        Note::of(NoteKind::Graces, "", named(|n| format!("prod/db-{n} db: 30 s, SIGTERM, preStop exec"))),
        Note::of(NoteKind::Pods, "", named(|n| format!("prod/db-{n}"))),
        Note::of(NoteKind::HostVolumes, "", ["/srv/db (prod/db-0)".to_owned()]),
        Note::of(NoteKind::Listeners, "ports", ["tcp 0.0.0.0:1".to_owned()]),
    ];
    let size = |what, goes| Size { what, goes, path: "/x".into(), bytes: 2 << 30, files: 9, more: false };
    report.sizes = vec![
        size(Holds::Volumes, Goes::WithTheSnap),
        size(Holds::EmptyDirs, Goes::WithTheSnap),
        size(Holds::Other, Goes::WithTheSnap),
        size(Holds::Images, Goes::WithTheRun),
        size(Holds::Snapshots, Goes::WithTheRun),
    ];
    report
}

fn told(report: &Report) -> String {
    answers(report, &microk8s().1, &Page { width: 80, colour: false, all: false })
}

#[test]
fn all_that_was_asked_is_in_ten_lines() {
    let report = busy(40);
    let text = told(&report);
    assert!(text.lines().count() <= 10, "{text}");
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let answers = [
        "ends 40 pods (0 containers), in 240 s at most: prod/db-0 db: 30 s, SIGTERM, preStop exec; ",
        "prod/db-1 db: 30 s, SIGTERM, preStop exec; ",
        "; and 37 more",
        "lost images 2.0 GiB, snapshots 2.0 GiB; with the snap: volumes 2.0 GiB, emptyDirs 2.0 GiB, other data 2.0 GiB",
        "stays ",
        "/srv/db (prod/db-0)",
        "first Nothing was seen that would stand in the way",
    ];
    let places: Vec<Option<usize>> = answers.iter().map(|answer| words.find(answer)).collect();
    assert!(places.is_sorted() && !places.contains(&None), "{places:?}\n{text}");
    let told: Vec<bool> = report.notes.iter().map(has_told).collect();
    assert_eq!(told, [false, true, true, false], "what is not told here is told below");
    assert!(busy(3).notes.iter().take(3).all(has_told));
}

#[test]
fn commands_are_whole_lines_and_what_is_many_is_cut() {
    let mut report = busy(1);
    let points = (0..9).map(|n| format!("/var/snap/microk8s/common/a b/{n}")).collect();
    report.advice = vec![Advice::UnmountOnHost { points }];
    report.counts.blind = 2;
    let text = told(&report);
    assert!(
        text.contains("\n           umount '/var/snap/microk8s/common/a b/2'\n           … (all"),
        "{text}"
    );
    assert!(text.contains("\n         2 places could not be looked at"), "{text}");
    assert!(!is_free(&report) && !text.contains("Nothing was seen"), "{text}");
}

fn in_doubt(blind: Vec<Blind>) -> StepReport {
    let counts = Counts { blind: blind.len(), ..Counts::default() };
    let (left, removed) = (vec![], vec![]);
    StepReport { name: StepName::Mounts, elapsed_ms: 0, counts, closed: None, left, removed, blind }
}

#[test]
fn what_is_in_doubt_is_known_by_its_field_and_never_by_its_words() {
    let mut report = busy(1);
    let words = |what: &str| Blind::new(what, (Reason::Unproven, "it may be another's 'umount /etc'"));
    let of = |mount: &str| Blind { mount: Some(mount.into()), ..words(mount) };
    let blind = vec![words("x mounted at /etc"), of("/data"), of("/data/in it"), of("/data")];
    report.counts.blind = 3;
    report.steps = vec![in_doubt(blind)];
    let text = told(&report);
    let commands = ":\n           umount '/data/in it'\n           umount /data\n         1 place could";
    assert!(text.contains(commands), "{text}");
}

#[test]
fn a_mount_that_does_not_answer_has_what_to_type() {
    let mut report = busy(1);
    let (path, mount) = ("/srv/nfs/x".into(), "/srv/nfs".into());
    let silent = Blind::new("x", crate::error::Error::Silent { path, mount });
    report.steps = vec![in_doubt(vec![silent.clone(), Blind { what: "y".into(), ..silent }])];
    report.counts.blind = 2;
    let text = told(&report);
    assert!(text.ends_with(":\n           umount -f -l /srv/nfs\n"), "{text}");
}
