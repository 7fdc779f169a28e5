use super::*;
use crate::engine::done::{Done, Rung};
use crate::engine::step::Effort;
use crate::fixture;
use crate::linux::proc::{Directory, identity};
use crate::remove::{remove, shim};
use crate::residue;
use crate::residue::witness::Witness;
use std::path::Path;
use std::process::{Child, Command};
use std::time::Instant;

fn state(of: ProcessId) -> char {
    // The kernel has a moment to act on a signal.
    std::thread::sleep(Duration::from_millis(20));
    Directory::open(Path::new("/proc")).unwrap().read(of.pid).unwrap().proc.state
}

/// A program in place of a shim, of the container "c1", which is about to be killed.
fn world() -> (Child, Live, Scope, [Residue; 1]) {
    let child = Command::new("sleep").arg("60").spawn().unwrap();
    let process = identity(child.id() as i32).unwrap();
    let mut scope = fixture::scope_of(&["c1"]);
    let id = scope.containers[0].id.clone();
    let (namespace, witness) = (id.namespace.clone(), Witness::Unit);
    scope.shims = vec![OwnedShim { process, namespace, id: Some("c1".into()), socket: None, witness }];
    let (processes, groups, witnesses) = Default::default();
    let (pod, socket, sandbox, paused) = (None, None, true, false);
    let task = residue::Task { container: id, pod, sandbox, processes, paused, groups, socket, witnesses };
    (child, fixture::live(), scope, [Residue::Task(task.into())])
}

#[test]
fn it_is_still_until_the_run_is_over() {
    let (mut child, live, scope, residues) = world();
    let process = scope.shims[0].process;
    let soon = Instant::now() + Duration::from_secs(60);
    let kill = |residues| drop(remove(&live, residues, Effort::Force, soon, &scope, &|_| true));
    kill(&residues);
    assert_eq!(state(process), 'S', "nobody knows whether its container can be killed without it");
    live.tried(Ability::WriteCgroups, Ok(()));
    kill(&[]);
    assert_eq!(state(process), 'S', "its container is not one of those");
    kill(&residues);
    assert_eq!(state(process), 'T');
    drop(live);
    assert_eq!(state(process), 'S');
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn one_that_a_killed_run_has_left_stopped_goes_on() {
    let (mut child, live, scope, residues) = world();
    let process = scope.shims[0].process;
    live.tried(Ability::WriteCgroups, Ok(()));
    hold(&live, &scope, &residues);
    assert!(live.forget_held(process), "as if the run had been killed");
    assert_eq!(state(process), 'T');
    resume_stopped(&scope, &View::new(&live.host, None));
    assert_eq!(state(process), 'S');
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn it_is_killed_as_it_is_and_goes_on_where_it_is_held_back() {
    let (mut child, live, scope, residues) = world();
    live.tried(Ability::WriteCgroups, Ok(()));
    let OwnedShim { process, namespace, id, socket, witness } = scope.shims[0].clone();
    let (containers, witnesses) = (vec!["c1".into()], [witness].into());
    let held_by = containers.clone();
    let mut it = residue::Shim { process, namespace, id, socket, held_by, containers, witnesses };
    let soon = Instant::now() + Duration::from_secs(10);
    hold(&live, &scope, &residues);
    assert!(matches!(shim::remove(&live, &it, soon), Done::HeldBack { .. }));
    assert_eq!(state(process), 'S');
    hold(&live, &scope, &residues);
    it.held_by.clear();
    assert_eq!(shim::remove(&live, &it, soon), Done::Asked { rung: Rung::Signal });
    assert!(!child.wait().unwrap().success() && live.held().is_empty());
}
