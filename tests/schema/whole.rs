//! A document with one of everything that a document can hold.

use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use snap_teardown::testing::ConfiguredRoots;
use snap_teardown::testing::ending::{self, Ending, HookEnding, Outcome};
use snap_teardown::testing::{
    Abilities, Ability, Advice, Answer, Blind, BlockDevice, Bystander, BystanderKind, Command, Container,
    ContainerId, Disk, Done, Effort, End, Evidence, Gate, Goes, History, Holder, Holds, Host, HostFacts,
    HowAttached, NetnsEvidence, Note, NoteKind, OwnedLink, OwnedNetns, OwnedShim, PathKind, Pod, ProcessId,
    Profile, Reason, Report, Residue, RunFacts, Rung, Scope, Script, Size, Snap, StepHistory, Subject,
    TableOf, Tracked, Tried, View, Witness, Witnesses, Word, gather, of_rows, plan, residue,
};

fn endings() -> Vec<Ending> {
    let hook = |outcome, status, why: Option<&str>| {
        let told = why.map(str::to_owned);
        let (reason, error) = if outcome == Outcome::Failed { (None, told) } else { (told, None) };
        Some(HookEnding { kind: "exec".into(), outcome, status, reason, error, elapsed_ms: 3 })
    };
    let ending = |end, hook: Option<HookEnding>| Ending {
        container: ContainerId { namespace: "k8s.io".into(), id: "abc".into() },
        pod: Some("default/web".into()),
        name: Some("app".into()),
        end,
        elapsed_ms: 3000,
        asked: 300,
        grace: 180,
        signal: Some("SIGQUIT".into()),
        hook,
    };
    vec![
        ending(ending::End::AfterHook, hook(Outcome::ContainerEnded, None, None)),
        ending(ending::End::AfterSignal, hook(Outcome::Done, Some(0), None)),
        ending(ending::End::AfterSignal, hook(Outcome::Failed, Some(3), None)),
        ending(ending::End::AfterSignal, hook(Outcome::Failed, None, Some("exec: no such file"))),
        ending(ending::End::Killed, hook(Outcome::NotRun, None, Some("no-shim"))),
        ending(ending::End::Killed, hook(Outcome::GraceOver, None, None)),
    ]
}

pub fn subject() -> Subject {
    let profile = Profile::built_in("microk8s").unwrap().unwrap();
    Subject { snap: Snap::stand_in("microk8s"), profile, profile_from: "built in".into() }
}

/// A report with one of everything that a report can hold.
pub fn whole() -> Report {
    let empty = tempfile::tempdir().unwrap();
    let host = Host::at(empty.path());
    let subject = subject();
    let rows = plan(Duration::from_secs(1));
    let mut scope = gather(&View::new(&host, None), &subject.snap, &subject.profile).unwrap();
    fill(&mut scope);

    let residues = one_of_each();
    let answers = every_answer();
    let mut step =
        StepHistory { left: residues.iter().cloned().map(Into::into).collect(), ..StepHistory::default() };
    let told = Blind::new("processes", (Reason::Refused, "not to be read"));
    step.blind.push(Blind { mount: Some("/srv".into()), ..told });
    step.closed = Some((Gate::NoOwnedProcess, "3 of ours still run".into()));
    let efforts = [Effort::Ask, Effort::Force, Effort::Last];
    for (i, residue) in residues.into_iter().enumerate() {
        let tried = answers.get(i).map(|done| Tried::new(efforts[i % 3], done.clone()));
        step.seen.add(residue.key(), Tracked { residue: residue.into(), tried });
    }
    let gone = Residue::RuntimeLeftRunning(residue::RuntimeLeftRunning { name: "gone".into() });
    step.seen.add(gone.key(), Tracked { residue: gone.into(), tried: None });
    let mut history = History { steps: vec![StepHistory::default(); rows.len()], ..History::default() };
    history.steps[0] = step;

    let facts = facts();
    let mut report = Report::build(facts, &of_rows(&rows), &history, &scope.into());
    assert!(report.advice.iter().any(|a| matches!(a, Advice::KubeProxyRules { .. })));
    report.file = Some("/run/snap.microk8s/teardown.json".into());
    report.notes.push(Note {
        kind: NoteKind::Cluster,
        text: "leave it first".into(),
        items: vec!["a".into()],
    });
    let ends = [End::Exited(7), End::Killed(9), End::TookTooLong, End::NotRun("no".into())];
    report.scripts.extend(ends.map(|end| Script { name: "10-own".into(), elapsed_ms: 5, end }));
    report.sizes.push(Size {
        what: Holds::Volumes,
        goes: Goes::WithTheSnap,
        path: "/var/snap/microk8s/common/default-storage".into(),
        bytes: 4096,
        files: 1,
        more: false,
    });
    let path = "/var/snap".into();
    report.disks.push(Disk { path, free_bytes_before: 4096, free_bytes_after: 1024 });
    let advised = |of: fn(&Advice) -> bool| report.advice.iter().any(of);
    assert!(advised(|a| matches!(a, Advice::Reboot { .. })), "{:?}", report.advice);
    assert!(advised(|a| matches!(a, Advice::UnmountOnHost { .. })));
    assert!(advised(|a| matches!(a, Advice::Allow { .. })));
    report
}

/// What is known of a run besides its history.
pub fn facts() -> RunFacts {
    RunFacts {
        command: Command::Remove,
        profile: "built in".into(),
        snap_version: Some("1.36.1".into()),
        containerd: Some("v2.1.6".into()),
        host: HostFacts {
            kernel: "6.1".into(),
            cgroup: "v2".into(),
            label: Some("snap.microk8s.hook.remove".into()),
            boot_id: Some("0a1b2c3d-0000-4000-8000-000000000000".into()),
            hostname: Some("node-1".into()),
            machine_id: Some("0123456789abcdef0123456789abcdef".into()),
        },
        abilities: abilities(),
        started_at: 1,
        elapsed_ms: 2,
        complete: true,
        stuck: vec![],
        in_hook: false,
        mounts: None,
        scripts: vec![],
        endings: endings(),
        notes: vec![Note {
            kind: NoteKind::KubeProxyRules,
            text: "left".into(),
            items: vec!["iptables-nft nat: 3 chains".into()],
        }],
    }
}

fn every_witness() -> Witnesses {
    Witness::ALL.iter().copied().collect()
}

fn fill(scope: &mut Scope) {
    let id = ContainerId { namespace: "k8s.io".into(), id: "abc".into() };
    let process = ProcessId { pid: 7, start: 8 };
    scope.containers.push(Container {
        id: id.clone(),
        shim_id: "abc".into(),
        sandbox: true,
        pod: Some(Pod { namespace: "default".into(), name: "web".into(), uid: "1-2".into() }),
        pod_proven: true,
        cgroups: vec!["/kubepods/abc".into()],
        init: Some(process),
        netns: Some("/run/netns/cni-1".into()),
        netns_of_state: None,
        socket: Some(Path::new("/run/containerd/s/1").into()),
        binds: vec!["/mnt\n".into()].into(),
        shares: false,
        passed_on: Default::default(),
        privileged: false,
        host_ipc: false,
        evidence: Evidence::ALL.iter().copied().collect(),
        witnesses: every_witness(),
        contradicted: true,
        proven_cgroups: vec![],
        strays: vec![],
    });
    scope.shims.push(OwnedShim {
        process,
        namespace: "k8s.io".into(),
        id: Some("abc".into()),
        socket: Some(Path::new("/run/containerd/s/1").into()),
        witness: Witness::Unit,
    });
    scope.groups_above.push("/odd".into());
    scope.told_groups = serde_json::from_str(r#"["/own"]"#).unwrap();
    scope.recorded.push(id.clone());
    scope.exited.ids.insert("def".into());
    scope.exited.pods.insert("default_job_uid".into());
    scope.exited.doubtful.insert("default_other_uid".into());
    scope.exited.sockets.insert("1".repeat(64).as_str().into());
    scope.ipc.insert("shm 3 812 9876".into());
    scope.idle = true;
    scope.told_by_shims = Some(ConfiguredRoots {
        state: Some("/mnt/big/run".into()),
        address: Some("/mnt/c.sock".into()),
        ..ConfiguredRoots::default()
    });
    scope.foreign.push(id);
    scope.network.links.push(OwnedLink {
        index: 3,
        name: "veth1".into(),
        r#type: "veth".into(),
        because: "its other end is in a sandbox".into(),
    });
    scope.network.networks.insert("k8s-pod-network".into());
    scope.network.interfaces.insert("eth0".into());
    scope.network.plugins.insert("calico".into());
    scope.network.addresses.insert("10.1.0.2".parse().unwrap());
    scope.network.namespaces.push(OwnedNetns {
        inode: Some(4_026_532_000),
        paths: vec!["/run/netns/cni-1".into()],
        sandbox: "abc".into(),
        because: NetnsEvidence::CniResult,
    });
    scope.network.results.push("/var/lib/cni/results/net-abc-eth0".into());
    scope.network.blocks.insert(("10.1.0.1".parse().unwrap(), 24));
    scope.network.rivals.insert("kubelet".into(), "another kubelet is alive".into());
    scope.network.blind.push(Blind::new("the link cni0", (Reason::Unproven, "EPERM")));
    scope.bystanders.push(Bystander {
        kind: BystanderKind::Shim,
        what: "a shim".into(),
        reason: Reason::Anothers,
        why: "elsewhere".into(),
    });
    scope.blind.push(Blind::new("bundles", (Reason::Refused, "EACCES")));
    scope.nonsense.push("odd".into());
}

fn abilities() -> Abilities {
    let refused = Answer::Refused("EPERM".into());
    [
        (Ability::SignalShim, Answer::Granted),
        (Ability::SignalSandbox, refused.clone()),
        (Ability::SignalApplication, refused.clone()),
        (Ability::SignalService, refused.clone()),
        (Ability::AskShim, refused.clone()),
        (Ability::WriteCgroups, refused.clone()),
        (Ability::RuntimeState, refused.clone()),
        (Ability::Unmount, refused.clone()),
        (Ability::Snapctl, refused.clone()),
        (Ability::RemoveLinks, refused.clone()),
        (Ability::ChangeRules, refused),
    ]
    .into()
}

fn every_answer() -> Vec<Done> {
    let holder = Holder { process: ProcessId { pid: 7, start: 8 }, comm: "sh".into(), uid: 0 };
    vec![
        Done::Gone,
        Done::Asked { rung: Rung::Shim },
        Done::Detached { holders: vec![holder] },
        Done::HeldBack { by: vec!["abc".into()] },
        Done::Refused { rung: Rung::CgroupKill, errno: Errno::EACCES },
        Done::NeedsShim { errno: Errno::EPERM },
        Done::of_path("unmount", Path::new("/x"), Err(Errno::EBUSY)),
        // An errno that has no name.
        Done::of_path("unmount", Path::new("/x"), Err(Errno::UnknownErrno)),
        Done::NotPossible { why: "no way".into() },
    ]
}

fn one_of_each() -> Vec<Residue> {
    let process = ProcessId { pid: 7, start: 8 };
    let holder = Holder { process, comm: "sh".into(), uid: 0 };
    let path = PathBuf::from("/var/snap/microk8s/common/odd\\\n");
    let id = ContainerId { namespace: "k8s.io".into(), id: "abc".into() };
    let mount = |id, table| {
        Residue::Mount(residue::Mount {
            id,
            point: path.clone().into(),
            fstype: "tmpfs".into(),
            table,
            may_hang: false,
        })
    };
    let mut all = vec![
        Residue::Service(residue::Service { name: "daemon".into(), processes: vec![process] }.into()),
        Residue::Task(Box::new(residue::Task {
            container: id,
            pod: Some("default/web".into()),
            sandbox: false,
            processes: vec![process],
            paused: true,
            groups: vec!["/sys/fs/cgroup/a".into()],
            socket: Some(Path::new("/run/containerd/s/1").into()),
            witnesses: every_witness(),
        })),
        Residue::Shim(Box::new(residue::Shim {
            process,
            namespace: "k8s.io".into(),
            id: None,
            socket: None,
            containers: vec!["abc".into()],
            held_by: vec!["abc".into()],
            witnesses: every_witness(),
        })),
        Residue::Netns(Box::new(residue::Netns {
            path: "/run/netns/cni-1".into(),
            mounts: 2,
            inode: Some(4_026_532_000),
            sandbox: "abc".into(),
        })),
        Residue::Link(residue::Link { index: 3, name: "cni0".into(), r#type: "bridge".into() }.into()),
        Residue::Rule(Box::new(residue::Rule {
            program: "/sbin/iptables-legacy".into(),
            table: "nat".into(),
            rule: vec!["CNI-1".into()],
            chain: true,
        })),
        mount(1, TableOf::Own),
        mount(2, TableOf::Snap),
        mount(3, TableOf::Host),
        Residue::NftRule(Box::new(residue::NftRule {
            family: "ip".into(),
            table: "cni_hostport".into(),
            chain: "hostports".into(),
            handle: 9,
            comment: "abc".into(),
        })),
        Residue::Ipset(residue::Ipset { name: "cali40all-ipam-pools".into() }),
        Residue::Flows(residue::Flows { addresses: ["10.1.0.2".parse().unwrap()].into(), count: 2 }),
        Residue::Blackhole(Box::new(residue::Blackhole {
            destination: "10.1.5.64".parse().unwrap(),
            prefix: 26,
            table: 254,
            protocol: 80,
            priority: 1024,
        })),
        Residue::Loop(residue::Loop { device: "/dev/loop1".into(), backing: path.clone() }.into()),
        Residue::Device(Box::new(residue::Device {
            device: BlockDevice { device: "dm-0".into(), name: "vol-1".into(), how: HowAttached::Crypt },
            ours: false,
            command: "cryptsetup close vol-1".into(),
        })),
        Residue::group("/sys/fs/cgroup/a".into(), Some("abc".into())),
        Residue::Detached(Box::new(residue::Detached {
            point: path,
            fstype: "nfs".into(),
            holders: vec![holder],
            holders_unknown: true,
        })),
        Residue::RuntimeLeftRunning(residue::RuntimeLeftRunning { name: "daemon".into() }),
    ];
    use PathKind::*;
    let kinds = [
        Bundle,
        RuncState,
        RuntimeState,
        ShimSocket,
        RuntimeSocket,
        Fifo,
        CniResult,
        CniLease,
        PluginSocket,
        HostSymlink,
        PodLogs,
        PodLogLink,
        EmptyDirectory,
        Data,
        Moved,
    ];
    all.extend(kinds.map(|what| Residue::path(format!("/p/{what:?}").into(), what)));
    all
}
