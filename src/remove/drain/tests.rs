use std::collections::HashMap;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use super::ending::{End, Ending, Outcome};
use super::*;
use crate::fixture;
use crate::linux::proc::identity;
use crate::runtime::ContainerId;
use crate::runtime::hook_plan::{Hook, Patience, Plan, Why};
use crate::scope::graceful::Manner;

/// Ends at SIGTERM, or at a signal of its own, or at none.
fn child(script: &str) -> Child {
    let child = Command::new("sh").args(["-c", script]).spawn().unwrap();
    // Until the shell has become what it is to be: it has the signals' dispositions by then.
    let comm = format!("/proc/{}/comm", child.id());
    while std::fs::read_to_string(&comm).unwrap() != "sleep\n" {
        std::thread::yield_now();
    }
    child
}

fn task(name: &str, child: &Child) -> Task {
    Task {
        container: ContainerId { namespace: "k8s.io".into(), id: name.into() },
        pod: None,
        sandbox: false,
        processes: vec![identity(child.id() as i32).unwrap()],
        paused: false,
        groups: vec![],
        socket: None,
        witnesses: Default::default(),
    }
}

fn manner(name: &str, limit: u64, signal: i32, kind: Option<&'static str>, hook: Hook) -> Manner {
    Manner {
        container: ContainerId { namespace: "k8s.io".into(), id: name.into() },
        name: None,
        serves_others: name == "serves",
        hook: kind,
        plan: Plan { asked: limit, limit, hook, signal },
    }
}

#[test]
fn each_has_its_own_end() {
    let mut manners = vec![
        manner("kills", 3, 15, None, Hook::None),
        manner("none", 0, 15, Some("exec"), Hook::NotRun("exec", Why::NoGrace)),
        manner("realtime", 20, 37, None, Hook::None),
        manner("serves", 20, 15, None, Hook::None),
        manner("shimless", 20, 15, Some("exec"), Hook::Exec("{}".into())),
        manner("sleeps", 20, 15, Some("sleep"), Hook::Sleep(1)),
    ];
    manners.sort_by(|a, b| a.container.cmp(&b.container));
    let patience = Patience { default: 20, most: 20, hooks: true };
    let graceful = Graceful { manners, unread: None, patience };
    let stubborn = "trap '' TERM; exec sleep 60";
    let mut children: Vec<(&str, Child)> = [
        ("kills", stubborn),
        ("none", stubborn),
        ("realtime", stubborn),
        ("serves", "exec sleep 60"),
        ("shimless", "exec sleep 60"),
        ("sleeps", "exec sleep 60"),
        ("unknown", "exec sleep 60"),
    ]
    .map(|(name, script)| (name, child(script)))
    .into();
    // From now on we take SIGTERM for ourselves, and children would have inherited that.
    let live = fixture::live();
    let tasks: Vec<Task> = children.iter().map(|(name, child)| task(name, child)).collect();
    let tasks: Vec<&Task> = tasks.iter().collect();
    let done = drain(&live, &tasks, &graceful, Instant::now() + Duration::from_secs(240));

    let endings: HashMap<String, Ending> =
        live.endings().into_iter().map(|e| (e.container.id.to_string(), e)).collect();
    let of =
        |name: &str| (endings[name].end, endings[name].elapsed_ms / 1000, endings[name].signal.as_deref());
    assert_eq!(of("unknown"), (End::AfterSignal, 0, Some("SIGTERM")));
    assert_eq!(of("realtime"), (End::AfterSignal, 0, Some("SIGRTMIN+3")));
    assert_eq!(of("sleeps"), (End::AfterSignal, 1, Some("SIGTERM")));
    assert_eq!(of("none"), (End::Killed, 2, Some("SIGTERM")));
    assert_eq!(of("kills"), (End::Killed, 3, Some("SIGTERM")));
    // After the last of the others, and not before.
    assert_eq!(of("serves"), (End::AfterSignal, 3, Some("SIGTERM")));
    let hook = |name: &str| endings[name].hook.as_ref().map(|hook| (hook.outcome, hook.reason.as_deref()));
    assert_eq!(hook("sleeps"), Some((Outcome::Done, None)));
    assert_eq!(hook("shimless"), Some((Outcome::NotRun, Some("no-shim"))));
    assert_eq!(hook("none"), Some((Outcome::NotRun, Some("no-grace"))));
    assert_eq!(hook("unknown"), None);
    assert_eq!(done.iter().filter(|done| **done == Done::Gone).count(), 5, "{done:?}");

    // What had its grace does not get it again.
    let started = Instant::now();
    drain(&live, &tasks[..2], &graceful, Instant::now() + Duration::from_secs(240));
    assert!(started.elapsed() < Duration::from_secs(1) && live.endings().len() == 7);
    children.iter_mut().for_each(|(_, child)| drop((child.kill(), child.wait())));
}

#[test]
fn a_short_time_is_not_used_up() {
    let mut stubborn = child("trap '' TERM; exec sleep 60");
    let task = task("a", &stubborn);
    let live = fixture::live();
    let patience = Patience { default: 100, most: 100, hooks: true };
    let graceful = Graceful { patience, ..Graceful::default() };
    let started = Instant::now();
    drain(&live, &[&task], &graceful, started + Duration::from_secs(4));
    let took = started.elapsed();
    assert!((2900..3900).contains(&took.as_millis()), "{took:?}");
    stubborn.kill().unwrap();
    stubborn.wait().unwrap();
}

#[test]
fn who_is_waited_for_is_shown_with_what_is_left_of_their_time() {
    static SHOWN: std::sync::Mutex<Vec<String>> = std::sync::Mutex::new(Vec::new());
    let mut children =
        [child("exec sleep 60"), child("trap '' TERM; exec sleep 60"), child("trap '' TERM; exec sleep 60")];
    let mut live = fixture::live();
    live.show_waiting = Some(|line| SHOWN.lock().unwrap().push(line.to_owned()));
    let mut tasks = [task("a", &children[0]), task("b", &children[1]), task("c", &children[2])];
    tasks[1].pod = Some("prod/db-0".into());
    let patience = Patience { default: 4, most: 4, hooks: true };
    let graceful =
        Graceful { patience, manners: vec![manner("c", 2, 15, None, Hook::None)], ..Graceful::default() };
    drain(&live, &tasks.each_ref(), &graceful, Instant::now() + Duration::from_secs(240));
    let shown = SHOWN.lock().unwrap().join("\n");
    let expected = ["waiting for c, prod/db-0, 3 s more at most", "waiting for prod/db-0, 1 s more at most"];
    assert!(expected.iter().all(|line| shown.contains(line)), "{shown}");
    children.iter_mut().for_each(|child| drop((child.kill(), child.wait())));
}
