//! A snap whose containerd and kubelet have run, and of which nothing runs when it is removed (31, 42).
//!
//! RIGHT: what they have made for all pods goes as it does with the last pod: directories in /run, the groups of kubelet. Of pods
//! that containerd's database still names, and that are dead, all goes. Status 0. Where the pods' network is all that is left, it
//! may be another's, for nothing is there that it leads to: it is named, and the status is 3.

use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::moved::kill_shims;
use crate::network::{a_bridge, is_of_all_sandboxes, start};
use crate::stage::{Right, Stage, demand, sh};
use support::picture::{Kind, Thing};
use support::runtime::{Layout, Runtime};
use support::scenes::Scene;
use support::{Result, built};

pub const ALL: &[Scene] = &[
    ("nothing_is_left_where_no_pod_ever_was", || never("1.7")),
    ("nothing_is_left_where_no_pod_ever_was_1_6", || never("1.6")),
    ("nothing_is_left_where_no_pod_ever_was_2_1", || never("2.1")),
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
];

/// When kubelet starts it writes its state, and makes a group for each QoS class in each hierarchy.
pub const KUBELET: &str = "mkdir -p /var/snap/microk8s/common/var/lib/kubelet
    echo '{}' > /var/snap/microk8s/common/var/lib/kubelet/cpu_manager_state
    for d in $(find /sys/fs/cgroup -maxdepth 2 -name kubepods); do mkdir -p $d/burstable $d/besteffort; done";

fn never(version: &'static str) -> Result<()> {
    let mut stage = Stage::new(version)?;
    stage.start_usual()?;
    stage.stop()?;
    sh("mkdir /sys/fs/cgroup/kubepods")?;
    sh(KUBELET)?;
    stage.must_show(&[(Kind::Cgroup, 3), (Kind::File, 2)])?;
    stage.judge(&Right::Clean, 0)?;
    Ok(())
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
    let mut stranger = Command::new("sh");
    stranger.args(["-c", "exec nsenter --net=$(ls -d /run/netns/cni-*) sleep 600"]);
    let pid = stage.keep(stranger)?;
    let named: fn(&Thing) -> bool = |thing| thing.kind == Kind::Mount && thing.path.starts_with("/run/netns");
    stage.judge(&Right::Doubt(named), 0)?;
    demand(Path::new(&format!("/proc/{pid}/ns/net")).exists(), "the process in the namespace was ended")?;
    sh("ls /run/netns/cni-*; ls /var/lib/cni/networks/pods/10.*").map(drop)
}

fn kill_tasks(stage: &mut Stage) -> Result<()> {
    pods(stage)?;
    let runtime = stage.runtime()?;
    let tasks = String::from_utf8_lossy(&runtime.ctr(&["-n", "k8s.io", "tasks", "ls", "-q"])?).into_owned();
    for task in tasks.lines() {
        runtime.ctr(&["-n", "k8s.io", "tasks", "kill", "-a", "-s", "SIGKILL", task])?;
    }
    // containerd 2.1 keeps a sandbox's shim.
    let until = Instant::now() + Duration::from_secs(3);
    while !runtime.shims()?.is_empty() && Instant::now() < until {
        sleep(Duration::from_millis(50));
    }
    stage.stop()
}

/// The machine has booted, and no kubelet has come to its pods again: what is on disks is left.
fn booted() -> Result<()> {
    let mut stage = Stage::new("1.7")?;
    pods(&mut stage)?;
    stage.stop()?;
    kill_shims(&stage)?;
    sh("for p in $(cat $(find /sys/fs/cgroup -path '*kubepods*' -name cgroup.procs)); do kill -KILL $p; done; sleep 1
        for n in /run/netns/*; do umount $n; rm $n; done
        awk '$5 ~ \"^(/run/containerd|/var/snap)\" {print $5}' /proc/self/mountinfo | tac | xargs -r umount
        find /sys/fs/cgroup -depth -path '*kubepods*' -type d -exec rmdir {} +
        rm -rf /run/containerd; ip link del cni0; iptables -t nat -F; iptables -t nat -X")?;
    stage.must_show(&[(Kind::File, 6)])?;
    stage.judge(&Right::Clean, 0)?;
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
