//! Findings 1 to 6: forged evidence that had the hook harm others.

use serde_json::json;

use crate::attackers::{Container, User};
use crate::bystanders::{Bystander, Containerd, Pod, Process, Same, lease, result};
use crate::podman::Podman;
use crate::trial::{Attack, Trial};
use support::hook::WITHOUT_KILL;
use support::{Result, sh};

pub const ALL: &[Attack] = &[
    Attack {
        finding: "1",
        name: "f01_a_bundle_names_a_login_session",
        by: 'A',
        run: |t| group(t, "3", "/user.slice/user-1000.slice/session-3.scope"),
    },
    Attack {
        finding: "1",
        name: "f01_a_bundle_names_a_guest_of_lxc",
        by: 'A',
        run: |t| group(t, "web", "/lxc/web"),
    },
    Attack { finding: "1", name: "f01_a_bundle_names_podmans_container", by: 'A', run: podman_group },
    Attack { finding: "1", name: "f01_a_bundle_names_a_container_of_another_containerd", by: 'A', run: moby },
    Attack {
        finding: "1",
        name: "f01_refused_signals_are_not_sent_through_a_foreign_shim",
        by: 'A',
        run: refused,
    },
    Attack { finding: "2", name: "f02_a_bundle_names_the_network_of_a_foreign_pod", by: 'A', run: netns },
    Attack { finding: "3", name: "f03_a_bundle_names_the_socket_of_a_foreign_shim", by: 'A', run: socket },
    Attack { finding: "4", name: "f04_a_directory_called_like_an_interface", by: 'A', run: interface },
    Attack {
        finding: "4",
        name: "f04_a_directory_called_like_podmans_container",
        by: 'A',
        run: podman_network,
    },
    Attack { finding: "4", name: "f04_a_users_process_poses_as_a_shim_of_ours", by: 'B', run: posing },
    Attack { finding: "4", name: "f04_a_container_of_ours_called_k8s", by: 'C', run: called_k8s },
    Attack {
        finding: "5",
        name: "f05_a_profile_names_a_state_directory_that_others_share",
        by: 'D',
        run: shared_state,
    },
    Attack { finding: "6", name: "f06_another_clusters_cilium_links", by: 'C', run: cilium },
];

/// An ID of the usual shape that nobody else has.
const OTHERS: &str = "1111aaaa1111aaaa1111aaaa1111aaaa1111aaaa1111aaaa1111aaaa1111aaaa";

fn group(trial: &mut Trial, id: &str, group: &str) -> Result<()> {
    trial.bystander(Process::of_user(group.trim_start_matches('/'))?);
    trial.ours()?;
    Container::of(trial).plants(id)?.group(group)?;
    trial.hook()?.doubts(&[group, &format!("k8s.io/{id}")])
}

fn podman_group(trial: &mut Trial) -> Result<()> {
    let podman = Podman::new()?;
    let id = podman.id.clone();
    trial.bystander(podman);
    trial.ours()?;
    Container::of(trial).plants(&id)?.group(&format!("/libpod_parent/libpod-{id}"))?;
    trial.hook()?.doubts(&[&id])
}

fn moby(trial: &mut Trial) -> Result<()> {
    let other = Containerd::with("docker1", &[])?;
    let group = other.group()?;
    trial.bystander(other);
    trial.ours()?;
    Container::of(trial).plants("docker1")?.group(&group)?;
    trial.hook()?.doubts(&["docker1"])
}

/// A hook that may not signal others' processes, as under AppArmor, and a `cgroup.kill` that it may not write.
fn refused(trial: &mut Trial) -> Result<()> {
    let other = Containerd::with("docker1", &["--user", "1000:1000"])?;
    let (group, socket) = (other.group()?, other.socket()?);
    sh("for f in $(find /sys/fs/cgroup -path '*docker1/cgroup.kill'); do
        mount --bind $f $f; mount -o remount,bind,ro $f; done")?;
    trial.bystander(other);
    trial.ours()?;
    let bundle = Container::of(trial).plants("docker1")?.group(&group)?;
    bundle.address(&format!("unix://{}", socket.display()))?;
    trial.wrapper = WITHOUT_KILL.map(str::to_owned).to_vec();
    trial.hook()?.ends(&[1, 3], &["docker1"])
}

fn netns(trial: &mut Trial) -> Result<()> {
    let name = "cni-11111111-1111-1111-1111-111111111111";
    trial.bystander(Pod::new(OTHERS, name, "vethother")?);
    trial.ours()?;
    Container::of(trial).plants("evil")?.netns(&format!("/run/netns/{name}"))?;
    trial.hook()?.doubts(&[name, "k8s.io/evil"])
}

fn socket(trial: &mut Trial) -> Result<()> {
    let mut other = Containerd::with("docker1", &[])?;
    let socket = other.socket()?;
    if let Some(harm) = other.harm()? {
        return Err(harm.into());
    }
    trial.bystander(other);
    trial.ours()?;
    let bundle = Container::of(trial).plants("evil")?.address(&format!("unix://{}", socket.display()))?;
    bundle.annotation("io.containerd.runc.v2.group", "evil")?;
    trial.hook()?.clean_or_doubts(&["k8s.io/evil", &socket.display().to_string()])
}

/// Results of three other runtimes, whose names all end alike.
fn others_results() -> Result<Same> {
    for network in ["k3s", "podman", "bridge"] {
        result(network, OTHERS, "eth0", json!([]))?;
        lease(network, "10.77.0.9", OTHERS)?;
    }
    Same::of(
        "find /var/lib/cni -type f ! -name '*pods*' -path '*/k3s*' -o -path '*/podman*' -o -path '*/bridge*' | xargs sha256sum | sort",
    )
}

fn interface(trial: &mut Trial) -> Result<()> {
    trial.bystander(others_results()?);
    trial.ours()?;
    Container::of(trial).plants("eth0")?;
    trial.hook()?.clean_or_doubts(&["eth0"])
}

fn podman_network(trial: &mut Trial) -> Result<()> {
    let podman = Podman::new()?;
    let id = podman.id.clone();
    trial.bystander(Same::of(&format!(
        "grep -rl {id} /var/lib/cni; for f in $(grep -rl {id} /var/lib/cni); do sha256sum $f; done
         iptables-save -t nat | grep -e 'dnat name.*{id}' -e 'CNI-DN-.*dport' | sed 's/^\\[.*\\]//'"
    ))?);
    trial.bystander(podman);
    trial.ours()?;
    Container::of(trial).plants(&id)?;
    trial.hook()?.clean_or_doubts(&[&id])
}

fn posing(trial: &mut Trial) -> Result<()> {
    trial.bystander(others_results()?);
    trial.ours()?;
    let pid = User::poses_as_shim(trial, "", "eth0")?;
    trial.attackers_own(format!("process {pid} "));
    trial.attackers_own("user.slice");
    trial.hook()?.clean_or_doubts(&["eth0", &pid.to_string()])
}

/// Nothing hostile: one of our own containers has a name that is a part of another's CNI network.
fn called_k8s(trial: &mut Trial) -> Result<()> {
    result("k8s-pod-network", OTHERS, "eth0", json!([]))?;
    lease("k8s-pod-network", "10.77.0.9", OTHERS)?;
    trial.bystander(Same::of("grep -r . /var/lib/cni | grep k8s-pod-network")?);
    trial.ours()?;
    trial.runtime()?.ctr(&[
        "-n",
        "k8s.io",
        "run",
        "-d",
        "docker.io/library/app:1",
        "k8s",
        "/app",
        "obedient",
    ])?;
    trial.hook()?.clean()
}

fn shared_state(trial: &mut Trial) -> Result<()> {
    let other = Containerd::with("docker1", &[])?;
    trial.bystander(Same::of("ls /run/containerd/io.containerd.runtime.v2.task/moby")?);
    trial.bystander(other);
    trial.ours()?;
    trial.profile(|profile| profile["containerd"]["state"] = "/run/containerd".into());
    let mut came = trial.hook()?;
    let path = trial.snap.dir.join("teardown.json").display().to_string();
    let (status, said) = trial.program(&["profile", "check", &path])?;
    came.must(
        said.contains("/run/containerd") && said.contains("shared"),
        format!("profile check warns of nothing: {status:?}: {said}"),
    );
    // Our own containers' bundles are elsewhere now; their shims still prove them.
    came.ends(&[0, 1, 3], &[])
}

fn cilium(trial: &mut Trial) -> Result<()> {
    sh("ip link add cilium_host type veth peer name cilium_net; ip addr add 10.0.0.77/32 dev cilium_host
        ip link set cilium_host up; ip link set cilium_net up")?;
    trial.bystander(Same::of(
        "ip -o addr show cilium_host | awk '{print $2,$3,$4}'; ls -d /sys/class/net/cilium_net",
    )?);
    trial.bystander(Process::in_group("system.slice/snap.microshift.service")?);
    trial.ours()?;
    trial.hook()?.clean_or_doubts(&["cilium_host", "cilium_net"])
}
