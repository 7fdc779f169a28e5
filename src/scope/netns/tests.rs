use std::os::unix::fs::symlink;
use std::path::Path;

use super::*;
use crate::fixture::scope_of;
use crate::linux::host::Host;
use crate::linux::proc::ProcessId;
use crate::scope::{Container, Evidence};

const STAT: &str = "(x) S 1 1 1 0 -1 4194560 0 0 0 0 0 0 0 0 20 0 1 0 100 0 0 184 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n";

/// A machine with these binds, and these processes in these namespaces. The host's own is number 1.
fn machine(binds: &[(u64, &str)], processes: &[(i32, u64)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let process = |pid: &str, inode: u64| {
        let at = dir.path().join("proc").join(pid);
        std::fs::create_dir_all(at.join("ns")).unwrap();
        symlink(format!("net:[{inode}]"), at.join("ns/net")).unwrap();
        at
    };
    let line = |(inode, at): &(u64, &str)| format!("1 0 0:4 net:[{inode}] {at} rw - nsfs nsfs rw\n");
    let table: String = binds.iter().map(line).collect();
    std::fs::write(process("self", 1).join("mountinfo"), table).unwrap();
    for (pid, inode) in processes {
        let at = process(&pid.to_string(), *inode);
        std::fs::write(at.join("stat"), format!("{pid} {STAT}")).unwrap();
        std::fs::write(at.join("cmdline"), "x\0").unwrap();
        std::fs::write(at.join("cgroup"), "0::/elsewhere\n").unwrap();
    }
    dir
}

fn judged(machine: &tempfile::TempDir, scope: &Scope, others: &[Attachment]) -> Namespaces {
    gather(&View::new(&Host::at(machine.path()), None), scope, &[], others, None)
}

fn with(change: impl Fn(&mut Container)) -> Scope {
    let mut scope = scope_of(&["a"]);
    change(&mut scope.containers[0]);
    scope
}

fn init(pid: i32) -> Option<ProcessId> {
    Some(ProcessId { pid, start: 100 })
}

#[test]
fn the_namespace_that_a_proven_process_is_in_is_ours_whatever_it_is_called() {
    let machine =
        machine(&[(5, "/run/docker/netns/ab"), (5, "/run/netns/x"), (6, "/run/netns/cni-other")], &[(50, 5)]);
    let recorded = |c: &mut Container| (c.init, c.evidence) = (init(50), [Evidence::RuncState].into());
    let found = judged(&machine, &with(recorded), &[]);
    let [owned] = &found.ours[..] else { panic!("{found:?}") };
    assert_eq!((owned.inode, owned.because), (Some(5), NetnsEvidence::Process));
    assert_eq!(owned.paths, [Path::new("/run/docker/netns/ab"), Path::new("/run/netns/x")]);
    assert!(found.blind.is_empty() && found.bystanders.is_empty(), "{found:?}");
    assert_eq!(found.unclaimed.into_keys().collect::<Vec<_>>(), [6]);
    assert!(found.elsewhere.is_empty());
    // A bundle proves no process.
    let hinted = with(|c| {
        c.init = init(50);
        c.witnesses = Default::default();
    });
    assert!(judged(&machine, &hinted, &[]).ours.is_empty());
}

#[test]
fn the_hosts_own_namespace_is_never_a_pods() {
    let machine = machine(&[(1, "/run/netns/host")], &[(50, 1)]);
    let scope = with(|c| (c.init, c.netns_of_state) = (init(50), Some("/run/netns/host".into())));
    assert!(judged(&machine, &scope, &[]).ours.is_empty());
}

#[test]
fn where_somebody_else_is_nobody_is_cut_off() {
    let machine = machine(&[(5, "/run/netns/cni-a")], &[(50, 5), (77, 5)]);
    let scope = with(|c| (c.init, c.netns_of_state) = (init(50), Some("/var/run/netns/cni-a".into())));
    let found = judged(&machine, &scope, &[]);
    assert!(found.ours.is_empty() && found.others.contains_key(&5), "{found:?}");
    assert!(found.bystanders[0].why.contains("process 77 (x) of group /elsewhere"), "{found:?}");
    // It is ours all the same by root's word, so it is left; one that a container of ours has only joined is not.
    assert_eq!(found.blind[0].what, "the network namespace /run/netns/cni-a", "{found:?}");
    let joined = judged(&machine, &with(|c| c.init = init(50)), &[]);
    assert!(joined.blind.is_empty() && joined.others.contains_key(&5), "{joined:?}");
}

#[test]
fn a_bundle_that_says_otherwise_is_told_and_changes_nothing() {
    let machine = machine(&[(5, "/run/netns/cni-real"), (6, "/run/netns/cni-forged")], &[]);
    let names = |bundle: &'static str| {
        with(move |c| (c.netns, c.netns_of_state) = (Some(bundle.into()), Some("/run/netns/cni-real".into())))
    };
    let found = judged(&machine, &names("/run/netns/cni-forged"), &[]);
    assert_eq!(
        found.ours.iter().map(|n| (n.inode, n.because)).collect::<Vec<_>>(),
        [(Some(5), NetnsEvidence::RuncState)]
    );
    assert!(found.blind[0].what.contains("cni-forged"), "{found:?}");
    let found = judged(&machine, &names("/run/netns/cni-nothing"), &[]);
    assert!(found.ours.iter().any(|n| n.inode == Some(5)) && found.blind.is_empty(), "{found:?}");
}

#[test]
fn a_bundle_alone_counts_for_a_proven_container_and_cnis_names_only() {
    let machine = machine(&[(5, "/run/netns/cni-a"), (6, "/run/netns/blue")], &[]);
    let by = |path: &'static str, proven: bool| {
        let scope = with(|c| {
            c.netns = Some(path.into());
            if !proven {
                c.witnesses = Default::default();
            }
        });
        let found = judged(&machine, &scope, &[]);
        (found.ours.iter().filter(|n| n.inode.is_some()).count(), found.blind.len())
    };
    assert_eq!(by("/run/netns/cni-a", true), (1, 0));
    assert_eq!(by("/run/netns/cni-a", false), (0, 1));
    assert_eq!(by("/run/netns/blue", true), (0, 1));
    assert_eq!(by("/run/netns/gone", false), (0, 0));
    // Somebody else's result names it, too.
    let others = [Attachment { netns: Some("/var/run/netns/cni-a".into()), ..Attachment::default() }];
    let found = judged(&machine, &with(|c| c.netns = Some("/run/netns/cni-a".into())), &others);
    assert!(found.ours.is_empty() && found.blind.len() == 1, "{found:?}");
}

#[test]
fn what_an_earlier_run_knew_counts_where_it_is_still_the_same() {
    let machine = machine(&[(5, "/run/netns/cni-a"), (6, "/run/netns/cni-b")], &[]);
    let old = |inode, path: &str| OwnedNetns {
        inode: Some(inode),
        paths: vec![path.into()],
        sandbox: "a".into(),
        because: NetnsEvidence::Process,
    };
    let earlier = Network {
        namespaces: vec![old(5, "/run/netns/cni-a"), old(7, "/run/netns/cni-b")],
        ..Network::default()
    };
    let host = Host::at(machine.path());
    let found = gather(&View::new(&host, None), &scope_of(&[]), &[], &[], Some(&earlier));
    assert_eq!(found.ours.iter().map(|n| n.inode).collect::<Vec<_>>(), [Some(5)]);
    assert_eq!(found.ours[0].because, NetnsEvidence::EarlierRun);
}

#[test]
fn a_namespace_that_a_container_has_joined_is_somebodys() {
    let machine = machine(
        &[(5, "/run/netns/users"), (6, "/run/netns/cni-a"), (6, "/run/netns/x")],
        &[(50, 5), (60, 6)],
    );
    let users = || Some("/var/run/netns/users".into());
    let state = judged(&machine, &with(|c| (c.init, c.netns_of_state) = (init(50), users())), &[]);
    assert!(state.ours.is_empty() && state.others.contains_key(&5) && state.blind.is_empty(), "{state:?}");
    assert_eq!(state.bystanders[0].what, "the network namespace /run/netns/users");
    // A bundle may be forged, and where there is no record nobody knows.
    for change in [|c: &mut Container| c.netns = Some("/run/netns/users".into()), |_: &mut Container| ()] {
        let found = judged(&machine, &with(|c| (c.init, ()) = (init(50), change(c))), &[]);
        assert!(
            found.ours.is_empty() && found.others.contains_key(&5) && found.bystanders.is_empty(),
            "{found:?}"
        );
        assert_eq!(found.blind.len(), 1, "{found:?}");
    }
    // What CNI has made is CNI's under any further name.
    let found = judged(&machine, &with(|c| (c.init, c.netns) = (init(60), Some("/run/netns/x".into()))), &[]);
    assert_eq!(found.ours.iter().map(|n| n.inode).collect::<Vec<_>>(), [Some(6)], "{found:?}");
}
