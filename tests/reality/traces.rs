//! What network plugins leave on a node besides their firewall rules (49): policy rules, routes, programs on links, links without
//! an address; and the chains and sets of plugins that no scene of network.rs knows.
//!
//! RIGHT: told, with status 3, where a pod of ours used such a plugin or was such an agent, and no other agent of it lives;
//! else they are somebody's, stay, and nobody hears of them.

use std::fs;

use serde_json::{Value, json};

use crate::network::{a_bridge, start_with};
use crate::stage::{Right, Stage, demand, sh};
use support::Result;
use support::picture::{Kind, Thing};
use support::scenes::Scene;

pub const ALL: &[Scene] = &[
    ("traces_of_cilium_are_told", || told("cilium-cni", CILIUM)),
    ("traces_of_cilium_are_told_by_its_agent", || of_agent("/run/cilium", CILIUM)),
    ("traces_of_cilium_stay_where_it_never_ran_for_us", || others("calico", CILIUM)),
    ("traces_of_cilium_stay_where_another_agent_lives", || another_lives(&["cilium-agent"])),
    ("traces_of_cilium_stay_where_another_cluster_has_it", || another_lives(&["kubelet", "cilium-agent"])),
    ("traces_of_cilium_are_told_beside_another_cluster", || told_beside(&["kubelet", "calico-node"])),
    ("traces_of_calico_are_told", || told("calico", CALICO)),
    ("traces_of_calico_stay_where_it_never_ran_for_us", || others("cilium-cni", CALICO)),
    ("routes_stay_where_another_routing_daemon_lives", || beside("bird", "calico", CALICO, "10.77.3.0/26")),
    ("traces_of_flannel_are_told", || told("flannel", FLANNEL)),
    ("traces_of_flannel_stay_where_it_never_ran_for_us", || others("calico", FLANNEL)),
    ("traces_of_kube_router_are_told", || of_agent("/var/lib/kube-router", KUBE_ROUTER)),
    ("traces_of_kube_router_stay_where_it_never_ran_for_us", || others("calico", KUBE_ROUTER)),
    ("traces_of_weave_are_told", || told("weave-net", WEAVE)),
    ("traces_of_weave_stay_where_it_never_ran_for_us", || others("calico", WEAVE)),
    ("traces_of_antrea_are_told", || told("antrea", ANTREA)),
    ("traces_of_antrea_stay_where_it_never_ran_for_us", || others("calico", ANTREA)),
    ("traces_of_ovn_are_told", || told("kube-ovn", OVN)),
    ("traces_of_ovn_stay_where_it_never_ran_for_us", || others("calico", OVN)),
    ("switches_stay_where_another_open_vswitch_lives", || beside("ovs-vswitchd", "kube-ovn", OVN, "br-int")),
];

/// What a plugin left: how it is made, how much of it the picture has, and what the report has to say of each.
struct Left {
    made: &'static str,
    kinds: &'static [(Kind, usize)],
    told: &'static [&'static str],
}

/// The host's own way to its neighbours.
const UPLINK: &str =
    "ip link add uplink0 type bridge; ip addr add 192.0.2.1/24 dev uplink0; ip link set uplink0 up";

/// The programs are real ones; `tc` calls each by the file at which it is pinned.
const CILIUM: &Left = &Left {
    made: r#"ip rule add fwmark 0x200/0xf00 lookup 2004 priority 9; ip rule add fwmark 0xa00/0xf00 lookup 2005 priority 10
        ip rule add from all lookup local priority 100; ip rule del priority 0
        ip route add local 0.0.0.0/0 dev lo table 2004; ip route add default via 192.0.2.9 dev uplink0 table 2005
        ip route add 10.77.7.0/24 via 192.0.2.9 dev uplink0 proto kernel
        mkdir -p /run/pins; mount -t bpf bpf /run/pins
        /usr/bin/python3 -c '
import ctypes, struct
call = ctypes.CDLL(None, use_errno=True).syscall
def bpf(command, *parts):
    words = b"".join(parts)
    return call({"x86_64": 321, "aarch64": 280}[__import__("os").uname().machine], command, ctypes.create_string_buffer(words, len(words)), len(words))
at = lambda text: struct.pack("Q", ctypes.addressof(text))
code, licence = ctypes.create_string_buffer(bytes([0xb7] + [0] * 7 + [0x95] + [0] * 7)), ctypes.create_string_buffer(b"GPL")
program = bpf(5, struct.pack("II", 3, 2), at(code), at(licence), bytes(48))
for name in b"/run/pins/cil_from_netdev", b"/run/pins/users_own":
    path = ctypes.create_string_buffer(name)
    assert bpf(6, at(path), struct.pack("II", program, 0)) == 0, ctypes.get_errno()
'
        tc qdisc add dev uplink0 clsact; tc filter add dev uplink0 ingress pref 1 bpf da object-pinned /run/pins/cil_from_netdev
        tc filter add dev uplink0 egress pref 7 bpf da object-pinned /run/pins/users_own; umount /run/pins; rmdir /run/pins
        iptables-nft -t mangle -N CILIUM_PRE_mangle; iptables-nft -t mangle -A PREROUTING -m comment --comment 'cilium: feeder' -j CILIUM_PRE_mangle"#,
    kinds: &[(Kind::Route, 6), (Kind::Neighbour, 1), (Kind::Rule, 2)],
    told: &[
        "lookup 2004",
        "lookup 2005",
        "priority 0 lookup local; ip -4 rule del priority 100",
        "route flush table 2004",
        "10.77.7.0/24",
        "tc filter del dev uplink0 ingress pref 1",
        "CILIUM_PRE_mangle",
    ],
};

const CALICO: &Left = &Left {
    made: "ip route add 10.77.3.0/26 via 192.0.2.9 dev uplink0 proto bird; ip route add 10.77.4.0/26 via 192.0.2.8 dev uplink0 proto 80
        ip link add wg-v6.cali type ifb; iptables-nft -N cali-FORWARD; iptables-nft -A FORWARD -m comment --comment 'cali:wUHhoiAYhphO9Mso' -j cali-FORWARD",
    kinds: &[(Kind::Route, 2), (Kind::Link, 1), (Kind::Rule, 2)],
    told: &["10.77.3.0/26", "10.77.4.0/26", "ip link delete wg-v6.cali", "cali-FORWARD"],
};

const FLANNEL: &Left = &Left {
    made: "ip route add 10.77.3.0/24 via 192.0.2.9 dev uplink0; ip link add flannel-wg-v6 type ifb",
    kinds: &[(Kind::Route, 1), (Kind::Link, 1)],
    told: &["10.77.3.0/24", "flannel-wg-v6"],
};

const KUBE_ROUTER: &Left = &Left {
    made: "ip route add 10.77.3.0/24 via 192.0.2.9 dev uplink0 proto 17; ip rule add from 10.77.0.0/24 lookup 77 priority 32700
        ip link add kube-dummy-if type ifb; ipset create kube-router-pod-subnets hash:net
        iptables-legacy -t nat -A POSTROUTING -m set --match-set kube-router-pod-subnets src -j MASQUERADE",
    kinds: &[(Kind::Route, 2), (Kind::Link, 1), (Kind::Rule, 2)],
    told: &["10.77.3.0/24", "lookup 77", "kube-dummy-if", "kube-router-pod-subnets"],
};

const WEAVE: &Left = &Left {
    made: "ip link add weave type bridge; ip link add vxlan-6784 type vxlan id 5 dstport 6784 dev lo; ip link add vethwe-bridge type ifb
        iptables-nft -t nat -N WEAVE; iptables-nft -t nat -A POSTROUTING -j WEAVE; iptables-nft -t nat -A WEAVE -s 10.77.0.0/16 -j MASQUERADE
        iptables-nft -N WEAVE-NPC; iptables-nft -A FORWARD -o weave -j WEAVE-NPC; ipset create weave-local-pods hash:ip",
    kinds: &[(Kind::Link, 3), (Kind::Rule, 6)],
    told: &["ip link delete weave'", "vxlan-6784", "vethwe-bridge", "WEAVE-NPC", "weave-local-pods"],
};

/// No kernel is sure to have geneve and Open vSwitch, so other kinds have their names.
const ANTREA: &Left = &Left {
    made: "ip link add genev_sys_6081 type vxlan id 6 dstport 6081 dev lo; ip link add antrea-gw0 type ifb; ip link add ovs-system type ifb
        ip route add 10.77.3.0/24 via 192.0.2.9 dev uplink0; iptables-nft -N ANTREA-FORWARD; ipset create ANTREA-POD-IP hash:net
        iptables-nft -A FORWARD -m comment --comment 'Antrea: jump to Antrea forwarding rules' -j ANTREA-FORWARD",
    kinds: &[(Kind::Link, 3), (Kind::Route, 1), (Kind::Rule, 3)],
    told: &["genev_sys_6081", "antrea-gw0", "ovs-system", "10.77.3.0/24", "ANTREA-FORWARD", "ANTREA-POD-IP"],
};

const OVN: &Left = &Left {
    made: "ip link add ovn0 type ifb; ip link add br-int type bridge; nft add table ip kube-ovn
        iptables-nft -t nat -N OVN-POSTROUTING; iptables-nft -t nat -A POSTROUTING -j OVN-POSTROUTING
        iptables-nft -t nat -A OVN-POSTROUTING -d 10.77.0.0/16 -j MASQUERADE; ipset create ovn40subnets hash:net",
    kinds: &[(Kind::Link, 2), (Kind::Rule, 5)],
    told: &["the link ovn0", "br-int", "OVN-POSTROUTING", "ovn40subnets", "nft table ip kube-ovn"],
};

/// A network that this plugin has a part in: it does what CNI's portmap does where no port is mapped, which is nothing.
fn network(stage: &mut Stage, plugin: &str) -> Result<()> {
    sh(&format!(
        "mkdir -p /opt/runtimes/plugins; cp /opt/containerd/1.6/cni/* /opt/runtimes/plugins
         cp /opt/containerd/1.6/cni/portmap /opt/runtimes/plugins/{plugin}"
    ))?;
    let elsewhere = |config: String| Ok(config.replace("/opt/containerd/1.6/cni", "/opt/runtimes/plugins"));
    start_with(stage, &json!([a_bridge("podbr7"), {"type": plugin}]), elsewhere)
}

/// As somebody has it who has nothing to do with clusters: rules by a mark, ways, a qdisc and a tunnel of his own.
fn users() -> Result<()> {
    sh(&format!(
        "{UPLINK}; ip link add lan0 type bridge; ip link set lan0 up; tc qdisc add dev lan0 clsact
         ip rule add fwmark 0x200/0xf00 lookup 2006 priority 200; ip route add local 0.0.0.0/0 dev lo table 2006
         ip route add 10.99.3.0/26 via 192.0.2.9 dev uplink0 proto bird; ip route add 10.98.0.0/24 via 192.0.2.9 dev uplink0
         ip route add 10.77.9.0/24 dev lan0; ip link add users-tunnel type vxlan id 77 dstport 7777 dev lo"
    ))
    .map(drop)
}

fn pods(stage: &Stage, options: &[&str]) -> Result<()> {
    stage.runtime()?.make_pods("pod", options, &["/app", "obedient"]).map(drop)
}

fn must_tell(stage: &mut Stage, left: &Left) -> Result<()> {
    told_by(stage, left, &[]).map(drop)
}

/// What is in doubt; all but these has to be.
fn told_by(stage: &mut Stage, left: &Left, but: &[&str]) -> Result<String> {
    stage.stop()?;
    stage.must_show(left.kinds)?;
    // The program of the user's is on the link as it was, and is in no picture.
    let of_it: fn(&Thing) -> bool =
        |thing| matches!(thing.kind, Kind::Route | Kind::Neighbour | Kind::Rule | Kind::Link);
    let report = stage.judge(&Right::Told(of_it, &[3]), 0)?;
    let blind = blind(&report);
    for told in left.told.iter().filter(|told| !but.contains(told)) {
        demand(blind.contains(told), format!("{told} is not told: {blind}"))?;
    }
    for users in ["users_own", "2006", "10.99.3.0", "10.98.0.0", "10.77.9.0", "lan0", "users-tunnel"] {
        demand(!blind.contains(users), format!("{users} is told: {blind}"))?;
    }
    Ok(blind)
}

/// What is in doubt, and why.
fn blind(report: &Value) -> String {
    let steps = report["steps"].as_array().into_iter().flatten();
    steps.map(|step| step["blind"].to_string()).collect()
}

fn told(plugin: &'static str, left: &'static Left) -> Result<()> {
    let mut stage = Stage::beside("1.7", || users().map(|()| Vec::new()))?;
    network(&mut stage, plugin)?;
    pods(&stage, &[])?;
    sh(left.made)?;
    must_tell(&mut stage, left)
}

/// No result of CNI's tells of the plugin, and a pod of ours had its agent's directory, below the snap's own.
fn of_agent(directory: &'static str, left: &'static Left) -> Result<()> {
    let mut stage = Stage::beside("1.7", || users().map(|()| Vec::new()))?;
    network(&mut stage, "portmap")?;
    let own = format!("/var/snap/microk8s/1{directory}");
    fs::create_dir_all(&own)?;
    pods(&stage, &["--mount", &format!("{own}:/agent")])?;
    sh(left.made)?;
    must_tell(&mut stage, left)
}

/// The same things were there before, as another cluster has left them, and pods of ours used something else.
fn others(plugin: &'static str, left: &'static Left) -> Result<()> {
    let mut stage = Stage::beside("1.7", || users().and_then(|()| sh(left.made)).map(|_| Vec::new()))?;
    network(&mut stage, plugin)?;
    pods(&stage, &[])?;
    stage.stop()?;
    stage.must_show(&[(Kind::Process, 3), (Kind::Link, 2)])?;
    let report = stage.judge(&Right::Clean, 0)?;
    demand(blind(&report) == "[]".repeat(report["steps"].as_array().map_or(0, Vec::len)), blind(&report))
}

/// A program of another's service, under this name.
pub fn lives(program: &str) -> Result<()> {
    sh(&format!(
        "mkdir -p /opt/runtimes; cp /bin/sleep /opt/runtimes/{program}; mkdir -p /sys/fs/cgroup/system.slice/other.service
         sh -c 'echo 0 > /sys/fs/cgroup/system.slice/other.service/cgroup.procs; exec setsid --fork /opt/runtimes/{program} 1000' \
             </dev/null >/dev/null 2>&1"
    ))
    .map(drop)
}

/// An administrator's daemon makes one of these things; the others are told as ever.
fn beside(program: &'static str, plugin: &'static str, left: &'static Left, his: &'static str) -> Result<()> {
    let mut stage = Stage::beside("1.7", || users().and_then(|()| lives(program)).map(|()| Vec::new()))?;
    network(&mut stage, plugin)?;
    pods(&stage, &[])?;
    sh(left.made)?;
    stage.shared(|thing| thing.to_string().contains(his))?;
    let blind = told_by(&mut stage, left, &[his])?;
    demand(!blind.contains(his), format!("{his} is told: {blind}"))
}

/// Another cluster has another plugin, so what is left is of ours. It is named with the other that may miss it.
fn told_beside(programs: &'static [&'static str]) -> Result<()> {
    let mut stage = Stage::beside("1.7", || {
        users()?;
        programs.iter().try_for_each(|program| lives(program)).map(|()| Vec::new())
    })?;
    network(&mut stage, "cilium-cni")?;
    pods(&stage, &[])?;
    sh(CILIUM.made)?;
    let blind = told_by(&mut stage, CILIUM, &[])?;
    demand(blind.contains("it; but another "), blind)
}

/// Ours ran, and another's agent is alive: they are his, or it is he who would miss them.
fn another_lives(programs: &'static [&'static str]) -> Result<()> {
    let mut stage = Stage::beside("1.7", || {
        users()?;
        programs.iter().try_for_each(|program| lives(program))?;
        sh(CILIUM.made).map(|_| Vec::new())
    })?;
    network(&mut stage, "cilium-cni")?;
    pods(&stage, &[])?;
    stage.stop()?;
    stage.must_show(&[(Kind::Process, 3)])?;
    // The bridge may be his cluster's, too.
    let bridge: fn(&Thing) -> bool = |thing| matches!(thing.kind, Kind::Link | Kind::Address | Kind::Route);
    let report = stage.judge(&Right::Told(bridge, &[0, 3]), 0)?;
    let blind = blind(&report);
    demand(["2004", "cil_from", "10.77.7.0", "CILIUM_"].iter().all(|own| !blind.contains(own)), blind)
}
