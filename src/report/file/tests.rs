use std::sync::Arc;

use super::*;
use crate::engine::History;
use crate::remove::drain::ending::{self, End, Ending, HookEnding};
use crate::report::RunFacts;
use crate::runtime::ContainerId;
use crate::scope::{Bystander, BystanderKind};

fn report(bystanders: usize) -> Report {
    let mut scope = crate::fixture::scope_of(&["a"]);
    let odd = Bystander {
        kind: BystanderKind::Link,
        what: "a\u{9b}31m\u{202e}".into(),
        reason: Default::default(),
        why: "b".repeat(1000),
    };
    scope.bystanders = vec![odd; bystanders];
    Report::build(RunFacts::of_a_removal(), &[], &History::default(), &scope.into())
}

fn written(report: &mut Report) -> (tempfile::TempDir, Vec<u8>) {
    let dir = tempfile::tempdir().unwrap();
    write_in(report, dir.path(), false).unwrap();
    let bytes = fs::read(dir.path().join(NAME)).unwrap();
    (dir, bytes)
}

#[test]
fn a_document_is_cut_and_says_so_and_keeps_its_counts() {
    let mut large = report(10_000);
    let counts = large.scope_counts;
    let (dir, bytes) = written(&mut large);
    assert!(bytes.len() as u64 <= LARGEST, "{}", bytes.len());
    let read = read_trusted(&Host::live(), dir.path()).and_then(|bytes| parse::<Report>(dir.path(), &bytes));
    let read = read.unwrap();
    assert!(read.truncated && read.notes.iter().any(|n| n.kind == NoteKind::Cut));
    assert_eq!((read.scope_counts, read.scope.unwrap().containers.len()), (counts, 1));
    let mut small = report(3);
    let (_dir, bytes) = written(&mut small);
    assert!(!small.truncated && small.notes.is_empty());
    let text = String::from_utf8(bytes).unwrap();
    assert!(text.contains("a\\u009b31m\\u202e"), "{text}");
}

#[test]
fn what_is_bound_is_cut_without_a_copy_of_the_scope() {
    let mut scope = crate::fixture::scope_of(&["a", "b"]);
    scope.containers[0].binds = vec![format!("/{}", "b".repeat(1000)).into(); 5000].into();
    let scope = Arc::new(scope);
    let mut large = Report::build(RunFacts::of_a_removal(), &[], &History::default(), &scope);
    let (dir, bytes) = written(&mut large);
    assert!(large.truncated && bytes.len() as u64 <= LARGEST, "{}", bytes.len());
    assert!(large.scope.is_some_and(|told| Arc::ptr_eq(&told, &scope)), "the run's own scope is told");
    let read: Report = parse(dir.path(), &bytes).unwrap();
    let containers = &read.scope.as_ref().unwrap().containers;
    assert!(containers.len() == 2 && containers.iter().all(|c| c.binds.is_empty()));
    // The next document has them again.
    let mut small = crate::fixture::scope_of(&["a"]);
    small.containers[0].binds = vec!["/b".into()].into();
    let mut small = Report::build(RunFacts::of_a_removal(), &[], &History::default(), &small.into());
    let (_dir, bytes) = written(&mut small);
    assert!(String::from_utf8(bytes).unwrap().contains(r#""binds":["/b"]"#));
}

#[test]
fn many_that_ended_badly_fit_too() {
    let container = ContainerId { namespace: "k8s.io".into(), id: "c".repeat(64).into() };
    let hook = HookEnding {
        kind: "exec".into(),
        outcome: ending::Outcome::Failed,
        status: None,
        reason: None,
        error: Some("\u{9b}".repeat(500)),
        elapsed_ms: 1,
    };
    let (asked, grace, elapsed_ms, signal) = (30, 30, 1, Some("SIGTERM".into()));
    let (pod, name, end) = (Some("d/p".into()), Some("a".into()), End::AfterSignal);
    let ending = Ending { container, pod, name, end, elapsed_ms, asked, grace, signal, hook: Some(hook) };
    for many in [2000, 20_000] {
        let mut large = report(0);
        large.endings = vec![ending.clone(); many];
        let (_dir, bytes) = written(&mut large);
        assert!(large.truncated && bytes.len() as u64 <= LARGEST, "{many}: {}", bytes.len());
    }
}

#[test]
fn of_another_version_nothing_is_read() {
    let mut plain = report(1);
    let (dir, bytes) = written(&mut plain);
    let snap = Snap { common: dir.path().to_path_buf(), ..Snap::stand_in("no-such-snap-here") };
    assert!(read(&Host::live(), &snap).unwrap().is_some());
    let next = String::from_utf8(bytes).unwrap().replacen("\"schema\":1", "\"schema\":2", 1);
    fs::write(dir.path().join(NAME), next).unwrap();
    let error = read(&Host::live(), &snap).unwrap_err().to_string();
    assert!(error.contains("version 2"), "{error}");
}

#[test]
fn only_what_root_alone_can_have_written_is_believed() {
    use std::os::unix::fs::{PermissionsExt, chown};
    let mut plain = report(1);
    let mut snap = Snap::stand_in("no-such-snap-on-this-machine");
    let (dir, _) = written(&mut plain);
    snap.common = dir.path().to_path_buf();
    let host = Host::live();
    let file = dir.path().join(NAME);
    let fallback = read(&host, &snap).unwrap().unwrap();
    assert!(fallback.scope.is_none(), "where containers may write, nothing names a scope");
    assert!(fallback.notes.iter().any(|n| n.kind == NoteKind::Unproven));
    let mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    mode(&file, 0o666);
    assert!(read(&host, &snap).is_err());
    mode(&file, 0o600);
    chown(&file, Some(1000), None).unwrap();
    assert!(read(&host, &snap).is_err());
    chown(&file, Some(0), None).unwrap();
    mode(dir.path(), 0o777);
    assert!(read(&host, &snap).is_err());
    mode(dir.path(), 0o755);
    assert!(read(&host, &snap).unwrap().is_some());
    fs::rename(&file, dir.path().join("other")).unwrap();
    std::os::unix::fs::symlink("other", &file).unwrap();
    assert!(read(&host, &snap).is_err());
}
