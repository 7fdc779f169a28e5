//! The world in which the scenes play: others' things of every kind, ours beside them, and a look at both.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::rules::{given_away, let_through, nft_rules, nft_tables, node_rules, port_map};
use support::fixture::Bundle;
use support::hook::Snap;
use support::{Result, sh};

pub const BACKENDS: [&str; 4] = ["iptables-nft", "iptables-legacy", "ip6tables-nft", "ip6tables-legacy"];

/// A snap, and the look at the world before anything of ours was in it.
pub struct World {
    pub snap: Snap,
    /// The other pod's: a namespace with nobody in it, and a result of CNI, would be in doubt.
    _pause: Child,
    before: Look,
}

/// What is there, part by part: a name for each thing.
pub type Look = BTreeMap<&'static str, BTreeSet<String>>;

pub fn id(letter: char) -> String {
    letter.to_string().repeat(64)
}

pub fn look() -> Result<Look> {
    let mut look = Look::new();
    let mut add = |part, text: String| {
        // Whether a port has a peer that is up says nothing of whose it is.
        let lines = text.lines().map(|l| l.replace(" linkdown", "").trim().to_owned());
        let kept = lines.filter(|l| !l.is_empty() && !l.starts_with(['#', ':']) && !l.contains("fe80::"));
        look.entry(part).or_default().extend(kept);
        Ok::<(), Box<dyn std::error::Error>>(())
    };
    add(
        "links",
        sh("ip -o link | awk '{print $1, $2}'; bridge link | awk '{print $2, $0}' | sed 's/ state.*//'")?,
    )?;
    add("addresses", sh("ip -o addr | awk '{print $2, $3, $4}'")?)?;
    add("routes", sh("ip -4 route show table all; ip -6 route show | grep -v multicast || true")?)?;
    for program in BACKENDS {
        let text = sh(&format!("{program}-save"))?;
        add(
            "rules",
            text.lines()
                .map(|l| format!("{program} {l}\n"))
                .filter(|l| !l.contains(" :") && !l.contains(" #"))
                .collect(),
        )?;
        // Chains that somebody made; a built-in one has a policy, and stays once anything has looked.
        add(
            "rules",
            text.lines()
                .filter(|l| l.contains(" - "))
                .map(|l| format!("{program} chain {}\n", &l[1..]))
                .collect(),
        )?;
    }
    add(
        "rules",
        sh("nft -a list ruleset | grep -v '^table ip6\\? \\(nat\\|filter\\)' | grep comment || true")?,
    )?;
    add(
        "namespaces",
        sh(
            "ls /run/netns 2>/dev/null || true; grep ' nsfs ' /proc/self/mountinfo | awk '{print $5}' || true",
        )?,
    )?;
    add("cni", sh("find /var/lib/cni -type f | xargs -r sha256sum")?)?;
    add("snap", sh("find /var/snap /run/containerd /var/lib -mindepth 3 ! -type d 2>/dev/null || true")?)?;
    Ok(look)
}

impl World {
    /// The others' world: a bridge with a pod, results, leases, rules of every kind that ours will have too.
    pub fn new() -> Result<World> {
        let snap = Snap::install("microk8s")?;
        // Tables of the legacy backend are made by the first look at them.
        look()?;
        sh(
            "ip link add other0 type bridge && ip addr add 192.168.50.1/24 dev other0 && ip link set other0 up",
        )?;
        sandbox(None, 'f', "192.168.50.7/24", Some("other0"), "vethother")?;
        let _pause = spawn_in("cni-f")?;
        sh("ip netns add blue; ip netns add cni-unused; ip route add 203.0.113.0/24 dev other0")?;
        sh("ip link add califfffffffffe type ifb; ip link add mycali0 type veth peer name mycali1")?;
        for program in BACKENDS {
            sh(&format!(
                "{program} -A FORWARD -m comment --comment 'not generated for MicroK8s pods' -j ACCEPT
                 {program} -t nat -N CNI-HOSTPORT-DNAT; {program} -t nat -A PREROUTING -j CNI-HOSTPORT-DNAT
                 {program} -t mangle -N OTHERS; {program} -t nat -N KUBER-SERVICES; {program} -N KUBER; {program} -A FORWARD -j KUBER
                 {program} -t nat -A OUTPUT -p tcp --dport 1234 -j REDIRECT --to-ports 4321"
            ))?;
            port_map(program, &id('f'), "1111111111111111111ff", 8081)?;
            let address = if program.starts_with("ip6") { "fd00:50::7/128" } else { "192.168.50.7/32" };
            sh(&format!(
                "{program} -N CNI-ADMIN; {program} -N CNI-FORWARD; {program} -A CNI-FORWARD -j CNI-ADMIN
                 {program} -A FORWARD -m comment --comment 'CNI firewall plugin rules' -j CNI-FORWARD"
            ))?;
            let_through(program, address)?;
            // One that ours had once, and that has been given to another since.
            if program.starts_with("iptables") {
                let_through(program, "10.1.0.77/32")?;
            }
        }
        given_away("others", 'e')?;
        nft_tables()?;
        nft_rules(&id('f'), "others", "192.168.50.7", 8081)?;
        Ok(World { snap, _pause, before: look()? })
    }

    /// Three sandboxes of ours: two in a bridge, one by a route, as calico does it.
    pub fn add_ours(&self) -> Result<()> {
        sh("ip link add cni0 type bridge && ip addr add 10.1.0.1/24 dev cni0 && ip link set cni0 up")?;
        sh("ip link add flannel.1 type vxlan id 1 dev lo dstport 8472 && ip addr add 10.1.0.0/32 dev flannel.1
            ip link set flannel.1 up; ip route add 10.1.4.0/24 via 10.1.4.0 dev flannel.1 onlink")?;
        sandbox(Some(&self.snap), 'a', "10.1.0.2/24", Some("cni0"), "veth1")?;
        sandbox(Some(&self.snap), 'b', "10.1.0.3/24", Some("cni0"), "veth2")?;
        sandbox(Some(&self.snap), 'c', "10.1.9.9/32", None, "cali0123456789a")?;
        given_away("pods", 'b')?;
        for program in BACKENDS {
            port_map(program, &id('a'), "00000000000000000000a", 8080)?;
            node_rules(program, "10.1.0.2", "fd00::2")?;
            sh(&format!(
                "{program} -A FORWARD -m comment --comment 'generated for MicroK8s pods' -j ACCEPT"
            ))?;
            if program.starts_with("iptables") {
                let_through(program, "10.1.0.2/32")?;
            }
        }
        nft_rules(&id('a'), "pods", "10.1.0.2", 8080)
    }

    /// The control: the look shows ours in every part, or it would show nothing when they stay either.
    pub fn must_show(&self, parts: &[&str]) -> Result<()> {
        let full = look()?;
        for part in parts {
            if full[part].difference(&self.before[part]).next().is_none() {
                return Err(format!("the look is blind for {part}").into());
            }
        }
        Ok(())
    }

    /// Runs the hook; what is new afterwards, and what is missing.
    pub fn hook(&self) -> Result<(Option<i32>, Value, Vec<String>)> {
        let ended = self.snap.run_hook()?;
        let document = self.snap.document()?;
        let after = look()?;
        let mut changes = Vec::new();
        for (part, things) in &after {
            changes
                .extend(things.difference(&self.before[part]).map(|thing| format!("left: {part}: {thing}")));
            changes
                .extend(self.before[part].difference(things).map(|thing| format!("harmed: {part}: {thing}")));
        }
        Ok((ended.status, document, changes))
    }
}

/// What a sandbox is: bundle, network namespace, veth, CNI's result and lease. Without a snap it is another runtime's.
fn sandbox(
    snap: Option<&Snap>,
    letter: char,
    address: &str,
    bridge: Option<&str>,
    host_end: &str,
) -> Result<()> {
    let id = id(letter);
    let netns = format!("cni-{letter}");
    sh(&format!(
        "ip netns add {netns}; ip link add {host_end} type veth peer name eth0 netns {netns}; ip link set {host_end} up
         ip -n {netns} addr add {address} dev eth0; ip -n {netns} link set eth0 up"
    ))?;
    let ip = address.split('/').next().unwrap_or_default();
    match bridge {
        Some(bridge) => sh(&format!("ip link set {host_end} master {bridge}"))?,
        None => sh(&format!("ip route add {ip}/32 dev {host_end}"))?,
    };
    let network = if snap.is_some() { "pods" } else { "others" };
    let mac = fs::read_to_string(format!("/sys/class/net/{host_end}/address"))?;
    let result = json!({
        "kind": "cniCacheV1", "containerId": id, "networkName": network, "ifName": "eth0",
        "result": {"cniVersion": "0.3.1", "ips": [{"version": "4", "address": address}],
            "interfaces": [{"name": host_end, "mac": mac.trim()}, {"name": "eth0", "sandbox": format!("/var/run/netns/{netns}")}]}
    });
    write(&format!("/var/lib/cni/results/{network}-{id}-eth0"), &result.to_string())?;
    write(&format!("/var/lib/cni/networks/{network}/{ip}"), &format!("{id}\r\neth0"))?;
    write(&format!("/var/lib/cni/networks/{network}/last_reserved_ip.0"), ip)?;
    let state = match snap {
        Some(snap) => snap.common.join("run/containerd"),
        None => PathBuf::from("/run/containerd"),
    };
    let made = Bundle::new(&id, &format!("/kubepods/pod{letter}/{id}")).of_sandbox(&id);
    made.in_netns(&format!("/var/run/netns/{netns}")).write(&state)?;
    // The witness: a bundle alone proves nothing.
    let bundle = state.join("io.containerd.runtime.v2.task/k8s.io").join(&id);
    let state = json!({
        "id": id, "config": {"labels": [format!("bundle={}", bundle.display())],
            "namespaces": [{"type": "NEWNET", "path": format!("/var/run/netns/{netns}")}]}
    });
    let witness = format!("/run/containerd/runc/k8s.io/{id}/state.json");
    if snap.is_some() { write(&witness, &state.to_string()) } else { Ok(()) }
}

pub fn spawn_in(netns: &str) -> Result<Child> {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", netns, "sleep", "100"]).stdin(Stdio::null()).stdout(Stdio::null());
    let child = command.spawn()?;
    // It is in the namespace once it has become the other program.
    let comm = format!("/proc/{}/comm", child.id());
    while fs::read_to_string(&comm)?.trim() != "sleep" {
        std::thread::yield_now();
    }
    Ok(child)
}

pub fn write(path: &str, text: &str) -> Result<()> {
    fs::create_dir_all(Path::new(path).parent().ok_or("no parent")?)?;
    fs::write(path, text).map_err(|e| format!("cannot write '{path}': {e}").into())
}
