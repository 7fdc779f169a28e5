//! More of the same kinds: what ties things of the network, sockets and other runtimes to containers.

use std::fs;
use std::os::unix::fs::symlink;

use serde_json::json;

use crate::attackers::Container;
use crate::bystanders::{Containerd, Listener, Pod, Process, Same, lease, result, write};
use crate::kinds::ID;
use crate::trial::{Attack, Trial};
use support::runtime::in_group;
use support::{Result, sh};

pub const ALL: &[Attack] = &[
    Attack {
        finding: "+2",
        name: "more_a_cni_result_of_ours_that_names_anothers_link",
        by: 'C',
        run: forged_result,
    },
    Attack { finding: "+3", name: "more_a_bundle_names_the_socket_of_some_service", by: 'A', run: listener },
    Attack { finding: "+4", name: "more_a_bundle_with_the_id_of_a_foreign_pod", by: 'A', run: foreign_id },
    Attack { finding: "+4", name: "more_a_lease_that_is_a_symlink", by: 'A', run: lease_link },
    Attack {
        finding: "+1",
        name: "more_a_bundle_of_a_foreign_container_in_its_own_namespace",
        by: 'A',
        run: same_namespace,
    },
    Attack { finding: "+2", name: "more_an_administrators_process_in_our_network", by: 'C', run: visitor },
    Attack { finding: "+5", name: "more_a_profile_names_the_hosts_containerd", by: 'D', run: hosts_address },
    Attack {
        finding: "+5",
        name: "more_a_profile_has_all_where_the_host_has_it",
        by: 'D',
        run: hosts_places,
    },
    Attack { finding: "+6", name: "more_a_foreign_pod_at_our_bridge", by: 'C', run: foreign_port },
];

/// Another plugin, or a pod with a volume at /var/lib/cni, as those of networks have.
fn forged_result(trial: &mut Trial) -> Result<()> {
    let name = "cni-33333333-3333-3333-3333-333333333333";
    trial.bystander(Pod::new(ID, name, "vethother")?);
    let id = trial.ours()?.id.clone();
    let interfaces =
        json!([{"name": "vethother"}, {"name": "eth0", "sandbox": format!("/var/run/netns/{name}")}]);
    let path = result("more", &id, "net1", interfaces)?;
    let text = fs::read_to_string(&path)?.replace("10.77.0.9/24", "10.1.0.200/24");
    fs::write(&path, text)?;
    trial.hook()?.clean_or_doubts(&["vethother", name])
}

fn listener(trial: &mut Trial) -> Result<()> {
    let hash = "f".repeat(64);
    let sockets = [
        "/run/dbus/system_bus_socket".to_owned(),
        format!("/run/containerd/s/{hash}"),
        "/run/crio/crio.sock".into(),
    ];
    for socket in &sockets {
        trial.bystander(Listener::at(socket)?);
    }
    trial.ours()?;
    for (number, socket) in sockets.iter().enumerate() {
        Container::of(trial).plants(&format!("evil{number}"))?.address(&format!("unix://{socket}"))?;
    }
    trial.hook()?.clean_or_doubts(&["evil1", &hash])
}

fn foreign_id(trial: &mut Trial) -> Result<()> {
    trial.bystander(Pod::new(ID, "cni-33333333-3333-3333-3333-333333333333", "vethother")?);
    lease("k3s", "10.77.0.10", "k3s")?;
    trial.bystander(Same::of("find /var/lib/cni -type f | xargs grep -l 3333cccc | sort")?);
    trial.ours()?;
    for name in [ID, "k3s", "results", "networks", "cni0", "vethother"] {
        Container::of(trial).plants(name)?;
    }
    trial.hook()?.clean_or_doubts(&[ID])
}

fn lease_link(trial: &mut Trial) -> Result<()> {
    let id = trial.ours()?.id.clone();
    write("/srv/precious/lease", &format!("{id}\r\neth0"))?;
    trial.bystander(Same::of("cat /srv/precious/lease")?);
    let network = sh("ls /var/lib/cni/networks")?.trim().to_owned();
    symlink("/srv/precious/lease", format!("/var/lib/cni/networks/{network}/10.1.0.222"))?;
    symlink("/srv/precious", "/var/lib/cni/networks/precious")?;
    trial.attackers_own("10.1.0.222");
    trial.attackers_own("networks/precious");
    trial.attackers_own("networks/cni0-pods/l"); // what goes with the last lease
    trial.hook()?.clean_or_doubts(&["10.1.0.222"])
}

/// Somebody looks at a pod's traffic. He is told of, and lives; his namespace stays with him.
fn visitor(trial: &mut Trial) -> Result<()> {
    let pid = trial.ours()?.pid;
    let mut command = in_group("user.slice/user-0.slice/session-1.scope", "nsenter")?;
    let visitor = Process::start(
        "our pod's network",
        command.args([&format!("--net=/proc/{pid}/ns/net"), "sleep", "9999"]),
    )?;
    let process = format!("process {} ", visitor.pid());
    trial.bystander(visitor);
    for own in [process.as_str(), "user.slice", "/run/netns/cni-", "veth", "cni0", "10.1."] {
        trial.attackers_own(own);
    }
    trial.hook()?.ends(&[0, 1, 3], &[process.trim(), "netns", "network namespace"])
}

/// An administrator's own container, put on the bridge of our pods.
fn foreign_port(trial: &mut Trial) -> Result<()> {
    trial.bystander(Pod::new(ID, "cni-33333333-3333-3333-3333-333333333333", "vethother")?);
    trial.ours()?;
    sh("ip link set vethother master cni0")?;
    for own in ["cni0", "10.1."] {
        trial.attackers_own(own);
    }
    trial.hook()?.clean_or_doubts(&["vethother", "cni0"])
}

/// What is ours, by words of it.
const OUR_OWN: [&str; 10] = [
    "/microk8s/common/",
    "/run/containerd/",
    "group ",
    "kubepods",
    "cni",
    "veth",
    "10.1.",
    "app ",
    "CNI-",
    "Shim",
];

fn hosts_address(trial: &mut Trial) -> Result<()> {
    trial.bystander(Containerd::with("docker1", &[])?);
    trial.ours()?;
    trial.profile(|profile| profile["containerd"]["address"] = "/run/containerd/containerd.sock".into());
    // What only our own shims' address tells of may be left, and is told.
    for own in OUR_OWN {
        trial.attackers_own(own);
    }
    trial.hook()?.ends(&[0, 1, 3], &[])
}

/// As the k8s snap's: and a host that had a containerd before, so that the snap's own never came up.
fn hosts_places(trial: &mut Trial) -> Result<()> {
    trial.bystander(Containerd::with("docker1", &[])?);
    trial.ours()?;
    trial.profile(|profile| {
        let containerd = &mut profile["containerd"];
        containerd["address"] = "/run/containerd/containerd.sock".into();
        containerd["state"] = "/run/containerd".into();
        containerd["root"] = "/var/lib/containerd".into();
        profile["data"] = json!([]);
    });
    for own in OUR_OWN {
        trial.attackers_own(own);
    }
    trial.hook()?.ends(&[0, 1, 3], &[])
}

/// runc keeps the states of all containerds of the host in one place, by namespace and ID.
fn same_namespace(trial: &mut Trial) -> Result<()> {
    let other = Containerd::with("docker1", &[])?;
    let (group, socket) = (other.group()?, other.socket()?);
    trial.bystander(other);
    trial.bystander(Same::of("ls /run/containerd/runc/moby /run/containerd/runc/moby/docker1")?);
    trial.ours()?;
    let at = trial.tasks().join("moby/docker1").display().to_string();
    write(&format!("{at}/config.json"), &json!({"linux": {"cgroupsPath": group}}).to_string())?;
    write(&format!("{at}/address"), &format!("unix://{}", socket.display()))?;
    trial.hook()?.clean_or_doubts(&["docker1"])
}
