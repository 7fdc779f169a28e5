//! What users set in containerd's configuration and in CNI's, besides the roots: where a plugin or a runtime keeps what it knows.
//!
//! RIGHT: wherever it is kept, it goes with the containers that it is about.

use std::path::Path;

use serde_json::json;

use crate::network::{a_bridge, start};
use crate::stage::{COMMON, Right, Stage, demand, sh};
use support::Result;
use support::picture::{Kind, Thing};
use support::scenes::Scene;

pub const ALL: &[Scene] = &[
    ("addresses_that_are_leased_elsewhere", leases),
    ("namespaces_in_the_state_directory", || netns("1.7")),
    ("namespaces_in_the_state_directory_2_1", || netns("2.1")),
    ("what_the_tuning_plugin_has_changed", tuning),
    ("a_pair_of_links_for_each_pod", ptp),
    ("a_users_bridge_without_a_port_of_his_stays", users_bridge),
    ("a_bridge_to_which_somebody_else_gave_an_address_is_told", shared_bridge),
    ("a_device_of_the_hosts_that_was_moved_into_a_pod_is_told", host_device),
];

fn leases() -> Result<()> {
    let mut stage = Stage::new("1.7")?;
    let mut bridge = a_bridge("cni0");
    bridge["ipam"]["dataDir"] = json!("/run/leases");
    start(&mut stage, &json!([bridge]))?;
    stage.polite_pods("polite", 2)?;
    stage.stop()?;
    demand(Path::new("/run/leases/pods").exists(), "addresses are leased elsewhere")?;
    stage.must_show(&[(Kind::Process, 6)])?;
    stage.judge(&Right::Clean, 2)?;
    Ok(())
}

fn netns(version: &'static str) -> Result<()> {
    let mut stage = Stage::new(version)?;
    let (root, state) = (format!("{COMMON}/var/lib/containerd"), format!("{COMMON}/run/containerd"));
    stage.start(Stage::layout(), &["--root", &root, "--state", &state], |config| {
        Ok(config.replace(
            "[plugins.\"io.containerd.grpc.v1.cri\"]\n",
            "[plugins.\"io.containerd.grpc.v1.cri\"]\nnetns_mounts_under_state_dir = true\n",
        ))
    })?;
    stage.polite_pods("polite", 2)?;
    stage.stop()?;
    sh(&format!("grep -q {COMMON}/run/containerd/.*netns /proc/self/mountinfo"))?;
    stage.must_show(&[(Kind::Process, 6)])?;
    stage.judge(&Right::Clean, 2)?;
    Ok(())
}

fn tuning() -> Result<()> {
    let mut stage = Stage::new("1.7")?;
    start(&mut stage, &json!([a_bridge("cni0"), {"type": "tuning", "mtu": 1400, "promisc": true}]))?;
    stage.polite_pods("polite", 2)?;
    stage.stop()?;
    demand(Path::new("/run/cni/tuning").exists(), "no backup")?;
    stage.must_show(&[(Kind::Process, 6)])?;
    stage.judge(&Right::Clean, 2)?;
    Ok(())
}

fn ptp() -> Result<()> {
    let mut stage = Stage::new("1.7")?;
    start(
        &mut stage,
        &json!([{"type": "ptp", "ipMasq": true, "ipam": {"type": "host-local", "subnet": "10.78.0.0/16"}}]),
    )?;
    stage.polite_pods("polite", 2)?;
    stage.stop()?;
    stage.must_show(&[(Kind::Process, 6), (Kind::Link, 2)])?;
    stage.judge(&Right::Clean, 2)?;
    Ok(())
}

/// A bridge for virtual machines, of which none runs now.
fn users_bridge() -> Result<()> {
    let mut stage = Stage::beside("1.7", || {
        sh("ip link add lan0 type bridge; ip link set lan0 address 02:00:00:00:00:07; ip addr add 10.77.0.1/16 dev lan0; ip link set lan0 up
            echo 0 > /proc/sys/net/ipv6/conf/lan0/accept_ra; ip link set lan0 promisc on")
        .map(|_| Vec::new())
    })?;
    let mut plugin = a_bridge("lan0");
    (plugin["isGateway"], plugin["ipMasq"]) = (json!(false), json!(false));
    start(&mut stage, &json!([plugin]))?;
    stage.polite_pods("polite", 1)?;
    stage.stop()?;
    stage.must_show(&[(Kind::Process, 3), (Kind::Link, 1)])?;
    stage.judge(&Right::Clean, 1)?;
    Ok(())
}

fn shared_bridge() -> Result<()> {
    let mut stage = Stage::new("1.7")?;
    start(&mut stage, &json!([a_bridge("podbr7")]))?;
    stage.polite_pods("polite", 1)?;
    stage.stop()?;
    sh("ip addr add 10.77.9.9/24 dev podbr7")?;
    stage.must_show(&[(Kind::Process, 3), (Kind::Link, 2)])?;
    stage.judge(&Right::Doubt(|thing| thing.kind == Kind::Link), 1)?;
    demand(Path::new("/sys/class/net/podbr7").exists(), "somebody has lost his address")
}

fn host_device() -> Result<()> {
    let mut stage = Stage::new("1.7")?;
    sh("ip link add lent0 type veth peer name lent1; ip link set lent1 up")?;
    let ipam = json!({"type": "host-local", "subnet": "10.78.0.0/16"});
    start(&mut stage, &json!([{"type": "host-device", "device": "lent0", "ipam": ipam}]))?;
    stage.polite_pods("polite", 1)?;
    stage.stop()?;
    stage.must_show(&[(Kind::Process, 3)])?;
    demand(!Path::new("/sys/class/net/lent0").exists(), "the device is not in the pod")?;
    let namespace: fn(&Thing) -> bool =
        |thing| thing.kind == Kind::Mount && thing.path.starts_with("/run/netns");
    let report = stage.judge(&Right::Doubt(namespace), 1)?;
    let said = report["steps"].to_string();
    demand(said.contains("ip link set eth0 netns 1"), "what gives it back is not told")?;
    demand(Path::new("/sys/class/net/lent1").exists(), "the user has lost his device")
}
