//! A snap whose containerd and kubelet have run, and of which nothing runs when it is removed (31, 42).
//!
//! RIGHT: what they have made for all pods goes as it does with the last pod: directories in /run, the groups of kubelet. Of pods
//! that containerd's database still names, and that are dead, all goes. Status 0. Where the pods' network is all that is left, it
//! may be another's, for nothing is there that it leads to: it is named, and the status is 3. So is what no database tells of any
//! more. Nothing goes of another runtime's dead pods, nor anything that only a forged result calls ours.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::moved::kill_shims;
use crate::network::{a_bridge, is_of_all_sandboxes, start};
use crate::stage::{COMMON, Right, Stage, demand, sh};
use support::picture::{Kind, Thing};
use support::runtime::{Layout, Runtime};
use support::scenes::Scene;
use support::{Result, built};

pub const ALL: &[Scene] = &[
    ("nothing_is_left_where_no_pod_ever_was", || never("1.7")),
    ("nothing_is_left_where_no_pod_ever_was_1_6", || never("1.6")),
    ("nothing_is_left_where_no_pod_ever_was_2_1", || never("2.1")),
    ("nothing_is_left_of_the_interface_for_plugins", || with_plugins(false, false)),
    ("nothing_is_left_of_the_interface_for_plugins_after_pods", || with_plugins(true, false)),
    ("the_interface_for_plugins_at_which_another_listens_stays", || with_plugins(true, true)),
    ("networks_of_pods_that_were_removed_before_are_told", || removed("1.7")),
    ("networks_of_pods_that_were_removed_before_are_told_1_6", || removed("1.6")),
    ("networks_of_pods_that_were_removed_before_are_told_2_1", || removed("2.1")),
    ("networks_of_pods_that_were_removed_before_are_told_hybrid", || removed("1.7")),
    ("nothing_is_left_of_pods_whose_tasks_were_killed", || killed("1.7", || Ok(vec![]))),
    ("nothing_is_left_of_pods_whose_tasks_were_killed_1_6", || killed("1.6", || Ok(vec![]))),
    ("nothing_is_left_of_pods_whose_tasks_were_killed_2_1", || killed("2.1", || Ok(vec![]))),
    ("nothing_is_left_of_pods_whose_tasks_were_killed_hybrid", || killed("1.7", || Ok(vec![]))),
    ("nothing_is_left_of_pods_whose_tasks_were_killed_beside_another_runtime", || killed("1.7", another)),
    ("a_namespace_of_a_dead_pod_in_which_somebody_is_stays", entered),
    ("nothing_is_left_of_pods_of_an_earlier_boot", booted),
    ("a_namespace_that_a_forged_result_names_stays", forged),
    ("nothing_is_left_of_dead_pods_whose_results_name_no_namespace", || unnamed(false)),
    ("a_link_into_a_namespace_that_no_result_names_and_somebody_is_in_stays", || unnamed(true)),
    ("what_no_database_tells_of_is_named", no_database),
    ("what_a_damaged_database_does_not_tell_beside_living_pods_is_named", || damaged(|| Ok(()))),
    ("what_a_damaged_database_does_not_tell_is_named_whose_results_name_no_namespace", || {
        damaged(call_it_eth0)
    }),
    ("what_cni_alone_tells_of_is_named", forgotten),
    ("what_a_kubelet_has_left_and_nothing_knows_is_named", lost),
    ("nothing_is_left_of_a_pod_that_never_got_a_container", waiting),
    ("a_users_program_that_is_called_containerd_keeps_nothing", users_program),
    ("dead_pods_of_a_stopped_runtime_in_the_same_directories_stay", || stopped(true, false)),
    ("what_may_be_of_a_stopped_runtime_in_the_same_directories_is_told", || stopped(false, false)),
    ("a_bundle_does_not_tell_whose_the_dead_pods_in_the_same_directories_are", || stopped(false, true)),
    ("dead_pods_of_another_snap_stay", of_another_snap),
];

/// When kubelet starts it writes its state, and makes a group for each QoS class in each hierarchy.
pub const KUBELET: &str = "mkdir -p /var/snap/microk8s/common/var/lib/kubelet
    echo '{}' > /var/snap/microk8s/common/var/lib/kubelet/cpu_manager_state
    for d in $(find /sys/fs/cgroup -maxdepth 2 -name kubepods); do mkdir -p $d/burstable $d/besteffort; done";

pub const DATABASE: &str =
    "/var/snap/microk8s/common/var/lib/containerd/io.containerd.metadata.v1.bolt/meta.db";

/// containerd and kubelet have run, and no pod ever was.
fn without_pods(version: &'static str) -> Result<Stage> {
    let mut stage = Stage::new(version)?;
    stage.start_usual()?;
    stage.stop()?;
    sh("mkdir /sys/fs/cgroup/kubepods")?;
    sh(KUBELET)?;
    Ok(stage)
}

fn never(version: &'static str) -> Result<()> {
    let mut stage = without_pods(version)?;
    stage.must_show(&[(Kind::Cgroup, 3), (Kind::File, 2)])?;
    stage.judge(&Right::Clean, 0)?;
    Ok(())
}

/// As containerd 2.0 and later are by default: they make a socket for plugins at a place that the whole host has once.
fn with_plugins(pods: bool, another: bool) -> Result<()> {
    let mut stage = Stage::new("2.1")?;
    let (root, state) = (format!("{COMMON}/var/lib/containerd"), format!("{COMMON}/run/containerd"));
    stage.start(Stage::layout(), &["--root", &root, "--state", &state], |config| {
        Ok(config.replace("disable = true", "disable = false"))
    })?;
    if pods {
        stage.runtime()?.make_pods("plain", &[], &["/app", "obedient"])?;
    }
    stage.stop()?;
    demand(Path::new("/run/nri/nri.sock").exists(), "containerd has made no socket for plugins")?;
    let _listener = stage.also(|_| {
        let listen = || {
            fs::remove_file("/run/nri/nri.sock")?;
            std::os::unix::net::UnixListener::bind("/run/nri/nri.sock")
        };
        Ok(another.then(listen).transpose()?)
    })?;
    stage.must_show(&[(Kind::File, 3)])?;
    let own: fn(&Thing) -> bool = |thing| thing.path.starts_with("/run/nri");
    if another {
        stage.shared(own)?;
    }
    stage.judge(&Right::Clean, 0)?;
    demand(Path::new("/run/nri").exists() == another, "the directory is not as it should be")
}

fn removed(version: &'static str) -> Result<()> {
    let mut stage = Stage::new(version)?;
    pods(&mut stage)?;
    stage.runtime()?.podmaker(&["stop"])?;
    sh("find /sys/fs/cgroup -depth -type d -path '*kubepods*/pod*' -exec rmdir {} +")?;
    sh(KUBELET)?;
    stage.stop()?;
    stage.must_show(&[(Kind::Cgroup, 3), (Kind::File, 2), (Kind::Link, 1)])?;
    let named: fn(&Thing) -> bool =
        |thing| thing.kind == Kind::Link || thing.path.starts_with("/var/lib/cni/networks/pods");
    stage.judge(&Right::Doubt(named), 0)?;
    // Nor does a later look forget it, when the snap's directories are gone and with them what told of its containerd.
    let looked =
        Command::new(built("snap-teardown")?).args(["verify", "--snap", "microk8s"]).env_clear().output()?;
    let said = String::from_utf8_lossy(&looked.stdout);
    demand(
        looked.status.code() == Some(3) && said.contains("cni0"),
        format!("verify: {:?}: {said}", looked.status),
    )
}

/// Every task was killed, as programs do that stop a node: only containerd's database and CNI's notes know the pods by now.
fn killed(version: &'static str, others: fn() -> Result<Vec<Runtime>>) -> Result<()> {
    let mut stage = Stage::beside(version, others)?;
    kill_tasks(&mut stage)?;
    stage.must_show(&[(Kind::File, 2), (Kind::Link, 2), (Kind::Cgroup, 2)])?;
    if !stage.others.is_empty() {
        stage.shared(is_of_all_sandboxes)?;
    }
    stage.judge(&Right::Clean, 0)?;
    Ok(())
}

/// The same, and by now somebody is in the network namespace. Whose it is the database alone says: it stays, and is named.
fn entered() -> Result<()> {
    let mut stage = Stage::new("1.7")?;
    kill_tasks(&mut stage)?;
    let pid = enter(&mut stage)?;
    stage.judge(&Right::Doubt(is_netns), 0)?;
    demand(Path::new(&format!("/proc/{pid}/ns/net")).exists(), "the process in the namespace was ended")?;
    sh("ls /run/netns/cni-*; ls /var/lib/cni/networks/pods/10.*").map(drop)
}

/// A stranger, in the only sandbox's network namespace.
fn enter(stage: &mut Stage) -> Result<i32> {
    let mut stranger = Command::new("sh");
    stranger.args(["-c", "exec nsenter --net=$(ls -d /run/netns/cni-*) sleep 600"]);
    let pid = stage.keep(stranger)?;
    let own = fs::read_link("/proc/self/ns/net")?;
    let until = Instant::now() + Duration::from_secs(10);
    while fs::read_link(format!("/proc/{pid}/ns/net"))? == own {
        demand(Instant::now() < until, "the stranger is still outside")?;
        sleep(Duration::from_millis(20));
    }
    Ok(pid)
}

fn kill_tasks(stage: &mut Stage) -> Result<()> {
    pods(stage)?;
    kill_all(stage)
}

fn kill_all(stage: &mut Stage) -> Result<()> {
    kill(stage.runtime()?)?;
    stage.stop()
}

fn kill(runtime: &Runtime) -> Result<()> {
    let tasks = String::from_utf8_lossy(&runtime.ctr(&["-n", "k8s.io", "tasks", "ls", "-q"])?).into_owned();
    for task in tasks.lines() {
        runtime.ctr(&["-n", "k8s.io", "tasks", "kill", "-a", "-s", "SIGKILL", task])?;
    }
    // containerd 2.1 keeps a sandbox's shim.
    let until = Instant::now() + Duration::from_secs(3);
    while !runtime.shims()?.is_empty() && Instant::now() < until {
        sleep(Duration::from_millis(50));
    }
    // Of those that have ended it puts the bundles away, but not at once.
    let bundles = runtime.layout.state.join("io.containerd.runtime.v2.task/k8s.io");
    let until = Instant::now() + Duration::from_secs(20);
    while runtime.shims()?.is_empty() && fs::read_dir(&bundles)?.next().is_some() {
        demand(Instant::now() < until, "containerd has not put the bundles away")?;
        sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// The machine has booted, and no kubelet has come to its pods again: what is on disks is left.
fn booted() -> Result<()> {
    let mut stage = Stage::new("1.7")?;
    boot(&mut stage)?;
    stage.must_show(&[(Kind::File, 6)])?;
    stage.judge(&Right::Clean, 0)?;
    Ok(())
}

fn boot(stage: &mut Stage) -> Result<()> {
    pods(stage)?;
    stage.stop()?;
    kill_shims(stage)?;
    sh("for p in $(cat $(find /sys/fs/cgroup -path '*kubepods*' -name cgroup.procs)); do kill -KILL $p; done; sleep 1
        for n in /run/netns/*; do umount $n; rm $n; done
        awk '$5 ~ \"^(/run/containerd|/var/snap)\" {print $5}' /proc/self/mountinfo | tac | xargs -r umount
        find /sys/fs/cgroup -depth -path '*kubepods*' -type d -exec rmdir {} +
        rm -rf /run/containerd; ip link del cni0; iptables -t nat -F; iptables -t nat -X")?;
    Ok(())
}

/// One with an address and a port of the host.
fn pods(stage: &mut Stage) -> Result<()> {
    let portmap = json!({"type": "portmap", "capabilities": {"portMappings": true}});
    start(stage, &json!([a_bridge("cni0"), portmap]))?;
    stage.runtime()?.make_pods("served", &["--host-port", "18081:80"], &["/app", "obedient"])?;
    Ok(())
}

/// Somebody else's containerd, with a pod that runs.
fn another() -> Result<Vec<Runtime>> {
    let other = Runtime::start(Layout::of_host(), "1.7")?;
    other.pods("other", 1, &["/app", "obedient"])?;
    Ok(vec![other])
}

/// A hostPath volume may reach CNI's results: what they name is an administrator's.
fn forged() -> Result<()> {
    let mut stage = Stage::beside("1.7", || sh("ip netns add blue").map(|_| vec![]))?;
    kill_tasks(&mut stage)?;
    sh("sed -i -E 's,/(var/)?run/netns/cni-[0-9a-f-]*,/run/netns/blue,g' /var/lib/cni/results/*
        grep -q netns/blue /var/lib/cni/results/*")?;
    stage.judge(&Right::Doubt(is_netns), 0)?;
    Ok(())
}

fn unnamed(lived_in: bool) -> Result<()> {
    let mut stage = Stage::new("1.7")?;
    routed(&mut stage)?;
    kill_all(&mut stage)?;
    call_it_eth0()?;
    if !lived_in {
        stage.must_show(&[(Kind::File, 2), (Kind::Link, 1), (Kind::Mount, 1)])?;
        stage.judge(&Right::Clean, 0)?;
        return Ok(());
    }
    enter(&mut stage)?;
    stage.judge(&Right::Doubt(is_netns), 0)?;
    sh("ip link show type veth | grep veth").map(drop)
}

/// Calico's results name the link on the host, and for its sandbox no path (cmdAdd in its cni-plugin: `Spec.Endpoint`).
fn call_it_eth0() -> Result<()> {
    sh("sed -i -E 's#\"sandbox\":\"[^\"]*\"#\"sandbox\":\"eth0\"#g' /var/lib/cni/results/*
        grep -q '\"eth0\"}' /var/lib/cni/results/*")
    .map(drop)
}

fn no_database() -> Result<()> {
    let mut stage = Stage::new("1.7")?;
    routed(&mut stage)?;
    kill_all(&mut stage)?;
    sh(&format!("rm {DATABASE}"))?;
    stage.must_show(&[(Kind::File, 2), (Kind::Link, 1), (Kind::Mount, 1)])?;
    stage.judge(&Right::Doubt(is_netns), 0)?;
    Ok(())
}

fn damaged(results: fn() -> Result<()>) -> Result<()> {
    let mut stage = Stage::new("1.7")?;
    routed(&mut stage)?;
    let runtime = stage.runtime()?;
    kill(runtime)?;
    runtime.make_pods("alive", &[], &["/app", "obedient"])?;
    stage.stop()?;
    sh(&format!("echo nonsense > {DATABASE}"))?;
    results()?;
    stage.must_show(&[(Kind::Process, 3), (Kind::Link, 2), (Kind::Mount, 2)])?;
    stage.judge(&Right::Doubt(is_netns), 0)?;
    Ok(())
}

/// Nothing but CNI's notes is left.
fn forgotten() -> Result<()> {
    let mut stage = Stage::new("1.7")?;
    boot(&mut stage)?;
    sh(&format!("rm -r {COMMON}/run/containerd {COMMON}/var/lib/containerd/*"))?;
    stage.must_show(&[(Kind::File, 6)])?;
    stage.judge(&Right::Doubt(|thing| thing.path.starts_with("/var/lib/cni/results")), 0)?;
    Ok(())
}

/// kubelet waits for its volumes, say.
fn waiting() -> Result<()> {
    let mut stage = without_pods("1.7")?;
    sh(
        "mkdir /sys/fs/cgroup/kubepods/burstable/pod11111111-2222-4333-8444-555555555555
        mkdir -p /var/snap/microk8s/common/var/lib/kubelet/pods/11111111-2222-4333-8444-555555555555/volumes",
    )?;
    stage.must_show(&[(Kind::Cgroup, 4), (Kind::File, 2)])?;
    stage.judge(&Right::Clean, 0)?;
    Ok(())
}

/// A pod's group, and an address that no result names any more.
fn lost() -> Result<()> {
    let mut stage = without_pods("1.7")?;
    sh("mkdir /sys/fs/cgroup/kubepods/burstable/pod11111111-2222-4333-8444-555555555555
        mkdir -p /var/lib/cni/networks/pods; cd /var/lib/cni/networks/pods
        printf '%064d\r\neth0' 7 > 10.77.0.9; echo 10.77.0.9 > last_reserved_ip.0; : > lock")?;
    let named: fn(&Thing) -> bool = |thing| {
        thing.path.starts_with("/var/lib/cni/networks/pods")
            || thing.path.to_string_lossy().contains("/pod11111111-")
    };
    stage.must_show(&[(Kind::Cgroup, 4), (Kind::File, 4)])?;
    stage.judge(&Right::Doubt(named), 0)?;
    Ok(())
}

/// His containerd works in directories of his own, and what a program is called says nothing.
fn users_program() -> Result<()> {
    let mut stage = Stage::new("1.7")?;
    stage.start_usual()?;
    stage.stop()?;
    let pid = stage.also(|_| {
        sh("cp /bin/sleep /tmp/containerd; chmod 755 /tmp/containerd")?;
        let mut program = Command::new("setpriv");
        program.args(["--reuid=65534", "--regid=65534", "--clear-groups", "/tmp/containerd", "600"]);
        let child = program.spawn()?;
        sleep(Duration::from_millis(100));
        Ok(child.id())
    })?;
    stage.must_show(&[(Kind::File, 2)])?;
    stage.judge(&Right::Clean, 0)?;
    demand(Path::new(&format!("/proc/{pid}")).exists(), "the user's program was ended")
}

/// The distribution's containerd is stopped and its pods are dead. The snap would keep its things in the same directories, and
/// nothing of it has run.
fn stopped(before: bool, bundles: bool) -> Result<()> {
    let pods = move || {
        let mut other = Runtime::start(Layout::of_host(), "1.7")?;
        other.pods("other", 1, &["/app", "obedient"])?;
        let tasks = "/run/containerd/io.containerd.runtime.v2.task";
        sh(&format!("cp --archive --one-file-system {tasks} /root/tasks"))?;
        kill(&other)?;
        other.kill()?;
        // As when it had no time to put them away.
        if bundles {
            sh(&format!("cp --archive /root/tasks/. {tasks}"))?;
        }
        sh("rm -r /root/tasks")?;
        Ok(other)
    };
    let mut stage = Stage::beside("1.7", || if before { Ok(vec![pods()?]) } else { Ok(vec![]) })?;
    stage.profile(|profile| {
        profile["containerd"] = json!({
            "address": "/run/containerd/containerd.sock", "state": "/run/containerd", "root": "/var/lib/containerd"
        });
        profile["data"] = json!([]);
    })?;
    if !before {
        let other = stage.also(|_| pods())?;
        stage.others.push(other);
    }
    // What was there before the snap was is not of it; what came later may be anybody's.
    stage.judge(&Right::Told(|_| false, if before { &[0] } else { &[3] }), 0)?;
    Ok(())
}

fn of_another_snap() -> Result<()> {
    let mut stage = Stage::beside("1.7", || {
        let mut other = Runtime::start(Layout::of_snap("rival"), "1.7")?;
        other.pods("other", 1, &["/app", "obedient"])?;
        kill(&other)?;
        other.kill()?;
        Ok(vec![other])
    })?;
    start(&mut stage, &json!([a_bridge("cni7")]))?;
    stage.runtime()?.make_pods("served", &[], &["/app", "obedient"])?;
    kill_all(&mut stage)?;
    stage.must_show(&[(Kind::File, 2), (Kind::Link, 2), (Kind::Mount, 1)])?;
    // Its bridge has the name that our profile has.
    stage.judge(&Right::Told(|_| false, &[3]), 0)?;
    Ok(())
}

/// One with an address that nothing but a route leads to.
fn routed(stage: &mut Stage) -> Result<()> {
    let ipam = json!({"type": "host-local", "subnet": "10.77.0.0/16"});
    start(stage, &json!([{"type": "ptp", "ipam": ipam}]))?;
    stage.runtime()?.make_pods("served", &[], &["/app", "obedient"])?;
    Ok(())
}

pub fn is_netns(thing: &Thing) -> bool {
    thing.kind == Kind::Mount && thing.path.starts_with("/run/netns")
}
