//! The scenes, and what they are made of.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::support::hook::Snap;
use crate::support::runtime::in_group;
use crate::support::scenes::Scene;
use crate::support::{Result, built, schema};

pub const ALL: &[Scene] = &[
    ("everything_of_ours_goes_and_nothing_of_others", everything),
    ("a_foreign_port_keeps_the_bridge", || {
        kept_by("ip link add tap9 type veth peer name tap8|ip link set tap9 master cni0")
    }),
    ("a_foreign_address_keeps_the_bridge", || kept_by("ip addr add 192.0.2.1/24 dev cni0")),
    ("a_foreign_route_keeps_the_bridge", || kept_by("ip route add 198.51.100.0/24 dev cni0")),
    ("another_kubelet_keeps_the_bridge", another_kubelet),
    ("a_held_namespace_is_unlinked_and_its_holder_named", held),
    ("loop_devices_of_ours_go_and_others_stay", loops),
    ("host_symlinks_and_plugin_sockets", files),
    ("the_survey_names_ports_volumes_and_members", survey),
    ("the_journal_has_a_line_for_each_step_and_one_for_the_result", journal),
    ("rules_without_a_program_are_not_seen_and_said_so", no_program),
];

const BACKENDS: [&str; 4] = ["iptables-nft", "iptables-legacy", "ip6tables-nft", "ip6tables-legacy"];

/// A snap, and the look at the world before anything of ours was in it.
struct World {
    snap: Snap,
    before: Look,
}

/// What is there, part by part: a name for each thing.
type Look = BTreeMap<&'static str, BTreeSet<String>>;

fn sh(line: &str) -> Result<String> {
    let output =
        Command::new("sh").args(["-ec", line]).env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").output()?;
    if !output.status.success() {
        return Err(format!("{line}: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn id(letter: char) -> String {
    letter.to_string().repeat(64)
}

fn look() -> Result<Look> {
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
    fn new() -> Result<World> {
        let snap = Snap::install("microk8s")?;
        // Tables of the legacy backend are made by the first look at them.
        look()?;
        sh(
            "ip link add other0 type bridge && ip addr add 192.168.50.1/24 dev other0 && ip link set other0 up",
        )?;
        sandbox(None, 'f', "192.168.50.7/24", Some("other0"), "vethother")?;
        sh("ip netns add blue; ip netns add cni-unused; ip route add 203.0.113.0/24 dev other0")?;
        sh("ip link add califfffffffffe type ifb; ip link add mycali0 type veth peer name mycali1")?;
        for program in BACKENDS {
            sh(&format!(
                "{program} -A FORWARD -m comment --comment 'not generated for MicroK8s pods' -j ACCEPT
                 {program} -t nat -N CNI-HOSTPORT-DNAT; {program} -t nat -A PREROUTING -j CNI-HOSTPORT-DNAT
                 {program} -t nat -N KUBE-SERVICES; {program} -N KUBE-FORWARD; {program} -A FORWARD -j KUBE-FORWARD
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
        Ok(World { snap, before: look()? })
    }

    /// Three sandboxes of ours: two in a bridge, one by a route, as calico does it.
    fn add_ours(&self) -> Result<()> {
        sh("ip link add cni0 type bridge && ip addr add 10.1.0.1/24 dev cni0 && ip link set cni0 up")?;
        sh("ip link add flannel.1 type vxlan id 1 dev lo dstport 8472 && ip addr add 10.1.0.0/32 dev flannel.1
            ip link set flannel.1 up; ip route add 10.1.4.0/24 via 10.1.4.0 dev flannel.1 onlink")?;
        sandbox(Some(&self.snap), 'a', "10.1.0.2/24", Some("cni0"), "veth1")?;
        sandbox(Some(&self.snap), 'b', "10.1.0.3/24", Some("cni0"), "veth2")?;
        sandbox(Some(&self.snap), 'c', "10.1.9.9/32", None, "cali0123456789a")?;
        given_away("pods", 'b')?;
        for program in BACKENDS {
            port_map(program, &id('a'), "00000000000000000000a", 8080)?;
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
    fn must_show(&self, parts: &[&str]) -> Result<()> {
        let full = look()?;
        for part in parts {
            if full[part].difference(&self.before[part]).next().is_none() {
                return Err(format!("the look is blind for {part}").into());
            }
        }
        Ok(())
    }

    /// Runs the hook; what is new afterwards, and what is missing.
    fn hook(&self) -> Result<(Option<i32>, Value, Vec<String>)> {
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
    let spec = json!({
        "annotations": {"io.kubernetes.cri.container-type": "sandbox", "io.kubernetes.cri.sandbox-id": id},
        "linux": {"cgroupsPath": format!("/kubepods/pod{letter}/{id}"),
            "namespaces": [{"type": "network", "path": format!("/var/run/netns/{netns}")}]}
    });
    let bundle = state.join("io.containerd.runtime.v2.task/k8s.io").join(&id);
    write(&bundle.join("config.json").display().to_string(), &spec.to_string())
}

fn write(path: &str, text: &str) -> Result<()> {
    fs::create_dir_all(Path::new(path).parent().ok_or("no parent")?)?;
    fs::write(path, text).map_err(|e| format!("cannot write '{path}': {e}").into())
}

/// A second attachment of a sandbox, always with the same address: that of ours has been given to another since.
fn given_away(network: &str, letter: char) -> Result<()> {
    let result = json!({
        "kind": "cniCacheV1", "containerId": id(letter), "networkName": network, "ifName": "net1",
        "result": {"cniVersion": "0.3.1", "ips": [{"version": "4", "address": "10.1.0.77/24"}]}
    });
    write(&format!("/var/lib/cni/results/{network}-{}-net1", id(letter)), &result.to_string())
}

/// What the firewall plugin makes for an address of a sandbox.
fn let_through(program: &str, block: &str) -> Result<()> {
    sh(&format!(
        "{program} -A CNI-FORWARD -d {block} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
         {program} -A CNI-FORWARD -s {block} -j ACCEPT"
    ))
    .map(drop)
}

/// The tables of the plugins' own nftables backends, which they never remove.
fn nft_tables() -> Result<()> {
    sh("for f in ip ip6; do nft add table $f cni_hostport; done
        for f in ip ip6; do for c in hostports hostip_hostports masquerading; do nft add chain $f cni_hostport $c; done; done
        nft add table inet cni_plugins_masquerade; nft add chain inet cni_plugins_masquerade masq_checks")
    .map(drop)
}

/// What those backends make for a port of a sandbox, and for its way out.
fn nft_rules(id: &str, network: &str, address: &str, port: u16) -> Result<()> {
    let digits = |text: &str| {
        let sum = sh(&format!("printf %s '{text}' | sha512sum"))?;
        Ok::<_, Box<dyn std::error::Error>>(sum[..16].to_owned())
    };
    let hashes = format!("{}-{}", digits(network)?, digits(&format!("eth0:{id}"))?);
    let comment = format!("{hashes}, net: {network}, if: eth0, id: {id}");
    let comment = &comment[..comment.len().min(128)];
    sh(&format!(
        r#"nft 'add rule ip cni_hostport hostports tcp dport {port} dnat to {address}:80 comment "{id}"'
           nft 'add rule ip cni_hostport masquerading ip saddr 127.0.0.1 ip daddr {address} masquerade comment "{id}"'
           nft 'add rule ip6 cni_hostport hostip_hostports ip6 daddr fd00::1 tcp dport {port} counter comment "{id}"'
           nft 'add rule inet cni_plugins_masquerade masq_checks ip saddr {address} masquerade comment "{comment}"'"#
    ))
    .map(drop)
}

/// What the portmap plugin makes for a port of a sandbox.
fn port_map(program: &str, id: &str, hash: &str, port: u16) -> Result<()> {
    sh(&format!(
        "{program} -t nat -N CNI-DN-{hash}
         {program} -t nat -A CNI-DN-{hash} -p tcp -m tcp --dport {port} -j REDIRECT --to-ports 80
         {program} -t nat -A CNI-HOSTPORT-DNAT -p tcp -m comment --comment 'dnat name: \"pods\" id: \"{id}\"' \
           -m multiport --dports {port} -j CNI-DN-{hash}"
    ))
    .map(drop)
}

fn demand(condition: bool, what: impl Into<String>) -> Result<()> {
    if condition { Ok(()) } else { Err(what.into().into()) }
}

fn everything() -> Result<()> {
    let world = World::new()?;
    world.add_ours()?;
    world.must_show(&["links", "addresses", "routes", "rules", "namespaces", "cni", "snap"])?;
    let (status, document, changes) = world.hook()?;
    demand(changes.is_empty(), format!("the world is not as it was: {changes:#?}"))?;
    demand(status == Some(0) && document["outcome"] == "clean", format!("{status:?}: {document}"))?;
    let advice = document["advice"].to_string();
    demand(advice.contains("kube-proxy-rules"), format!("no word of kube-proxy's rules: {advice}"))?;
    demand(sh("ip netns exec cni-f ip link show eth0").is_ok(), "the other's pod has lost its link")
}

/// Ours go, but for the bridge, over which something foreign goes.
fn kept_by(commands: &str) -> Result<()> {
    let world = World::new()?;
    world.add_ours()?;
    for command in commands.split('|') {
        sh(command)?;
    }
    let full = look()?;
    let (_, document, changes) = world.hook()?;
    demand(
        !changes.iter().any(|c| c.starts_with("harmed")),
        format!("something of others is gone: {changes:#?}"),
    )?;
    let left: Vec<_> =
        changes.iter().filter(|c| c.contains("veth") || c.contains("cali0") || c.contains("rules")).collect();
    demand(left.is_empty(), format!("something of ours is left: {left:#?}"))?;
    let after = look()?;
    for part in ["links", "addresses", "routes"] {
        let gone: Vec<_> = full[part]
            .difference(&after[part])
            .filter(|l| l.contains("cni0") && !l.contains("veth"))
            .collect();
        demand(gone.is_empty(), format!("gone with the bridge: {gone:?}"))?;
    }
    let notes = document["notes"].to_string();
    demand(notes.contains("the link cni0"), format!("not said why cni0 is left: {notes}"))
}

fn another_kubelet() -> Result<()> {
    fs::create_dir_all("/opt/other")?;
    fs::copy("/bin/sleep", "/opt/other/kubelet")?;
    let mut kubelet = Command::new("/opt/other/kubelet").arg("100").spawn()?;
    let done = kept_by("true");
    demand(kubelet.try_wait()?.is_none(), "the other kubelet was ended")?;
    kubelet.kill()?;
    kubelet.wait()?;
    done
}

fn spawn_in(netns: &str) -> Result<Child> {
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

fn held() -> Result<()> {
    let world = World::new()?;
    world.add_ours()?;
    let mut inside = spawn_in("cni-a")?;
    let open = fs::File::open("/run/netns/cni-b")?;
    let (status, document, changes) = world.hook()?;
    drop(open);
    demand(inside.try_wait()?.is_none(), "the holder was ended")?;
    demand(changes.is_empty() && status == Some(0), format!("{status:?} {changes:#?}"))?;
    let notes = document["notes"].to_string();
    for who in [inside.id(), std::process::id()] {
        demand(
            notes.contains(&format!("process {who} ")),
            format!("the holder {who} is not named: {notes}"),
        )?;
    }
    inside.kill()?;
    inside.wait()?;
    Ok(())
}

/// A loop device on a file; the world has no devices of its own.
fn attach(file: &Path) -> Result<String> {
    let device = sh(&format!(
        "mkdir -p {0} && truncate -s 1M {1} && losetup -f --show {1}",
        file.parent().ok_or("no parent")?.display(),
        file.display()
    ))?;
    Ok(device.trim().to_owned())
}

fn backing(device: &str) -> Option<String> {
    let name = device.rsplit('/').next()?;
    fs::read_to_string(format!("/sys/block/{name}/loop/backing_file")).ok()
}

/// Loop devices are the whole machine's: whatever happens here, they are given back.
struct Devices(Vec<String>);

impl Drop for Devices {
    fn drop(&mut self) {
        for device in self.0.iter().filter(|d| backing(d).is_some()) {
            let _ = sh(&format!("losetup -d {device}"));
        }
    }
}

fn loops() -> Result<()> {
    sh("mknod /dev/loop-control c 10 237; for n in $(seq 0 31); do mknod /dev/loop$n b 7 $n; done")?;
    let world = World::new()?;
    let plugins = world.snap.common.join("var/lib/kubelet/plugins/kubernetes.io");
    let mut devices = Devices(vec![]);
    for file in [plugins.join("volume"), plugins.join("deleted"), plugins.join("busy"), "/srv/other".into()] {
        devices.0.push(attach(&file)?);
    }
    let [ours, deleted, busy, other] = &devices.0[..] else { return Err("no devices".into()) };
    fs::remove_file(plugins.join("deleted"))?;
    demand(devices.0.iter().all(|d| backing(d).is_some()), "the look is blind for loop devices")?;
    let user = fs::File::open(busy)?;
    let (status, document, _) = world.hook()?;
    demand(backing(ours).is_none() && backing(deleted).is_none(), "a loop device of ours is left")?;
    demand(backing(other).is_some(), "somebody else's loop device is gone")?;
    demand(backing(busy).is_some() && status == Some(1), "what the last look saw was not believed")?;
    demand(document.to_string().contains(busy.as_str()), "the busy device is not named")?;
    drop(user);
    demand(backing(busy).is_none(), "the kernel has not put it off")
}

fn files() -> Result<()> {
    let world = World::new()?;
    let kubelet = world.snap.common.join("var/lib/kubelet");
    for name in ["plugins_registry/r.sock", "plugins/driver/csi.sock", "device-plugins/d.sock"] {
        let path = kubelet.join(name);
        fs::create_dir_all(path.parent().ok_or("no parent")?)?;
        drop(std::os::unix::net::UnixListener::bind(path)?);
    }
    fs::create_dir_all("/opt/cni")?;
    std::os::unix::fs::symlink("/var/snap/microk8s/common/var/lib/kubelet", "/var/lib/kubelet")?;
    std::os::unix::fs::symlink("/var/lib/somebody/calico", "/var/lib/calico")?;
    std::os::unix::fs::symlink("/snap/microk8s/current/cni", "/opt/cni/bin")?;
    write("/var/snap/microk8s/common/default-storage/precious", "the user's")?;
    let (status, document, _) = world.hook()?;
    demand(status == Some(0), format!("{document}"))?;
    for gone in ["/var/lib/kubelet", "/opt/cni/bin"] {
        demand(fs::symlink_metadata(gone).is_err(), format!("{gone} is left"))?;
    }
    demand(fs::symlink_metadata("/var/lib/calico").is_ok(), "somebody else's symlink is gone")?;
    demand(
        Path::new("/var/snap/microk8s/common/default-storage/precious").exists(),
        "the user's data is gone",
    )?;
    let sockets = sh(&format!("find {} -type s", kubelet.display()))?;
    demand(sockets.is_empty(), format!("left: {sockets}"))
}

/// The notes of a survey, as topic and items.
fn notes(snap: &Snap) -> Result<BTreeMap<String, String>> {
    let output = Command::new(built("snap-teardown")?)
        .args(["survey", "--json"])
        .env_clear()
        .envs(snap.environment())
        .output()?;
    let document: Value = serde_json::from_slice(&output.stdout)?;
    schema::check(&document)?;
    let notes = document["notes"].as_array().ok_or("no notes")?;
    let of = |note: &Value| (note["kind"].as_str().unwrap_or_default().to_owned(), note["items"].to_string());
    Ok(notes.iter().map(of).collect())
}

fn survey() -> Result<()> {
    let world = World::new()?;
    let known = notes(&world.snap)?;
    let quiet =
        ["listeners", "cluster", "pods", "host-volumes"].iter().all(|kind| !known.contains_key(*kind));
    demand(quiet, format!("told of what is not there: {known:?}"))?;
    world.add_ours()?;
    write(
        "/var/snap/microk8s/1/var/kubernetes/backend/cluster.yaml",
        "- Address: 10.0.0.1:19001\n  ID: 1\n- Address: 10.0.0.2:19001\n  ID: 2\n",
    )?;
    let id = id('b');
    let spec = json!({
        "annotations": {"io.kubernetes.cri.sandbox-id": id},
        "linux": {"cgroupsPath": format!("/kubepods/podb/{}", "d".repeat(64))},
        "mounts": [{"type": "bind", "source": "/srv/database"}, {"type": "bind", "source": "/dev/shm"}]
    });
    let tasks = world.snap.common.join("run/containerd/io.containerd.runtime.v2.task/k8s.io");
    write(&tasks.join("d".repeat(64)).join("config.json").display().to_string(), &spec.to_string())?;
    // A child that a service left behind, and one of somebody else's.
    let socket = |group: &str, port: u16| {
        let mut command = in_group(group, "python3")?;
        command.args(["-m", "http.server", "--bind", "127.0.0.1", &port.to_string()]).stdin(Stdio::null());
        Ok::<Child, Box<dyn std::error::Error>>(command.spawn()?)
    };
    let mut children = [
        socket("system.slice/snap.microk8s.daemon-kubelite.service", 16443)?,
        socket("system.slice/other.service", 16444)?,
    ];
    while sh("ss -Hltn 'sport >= 16443 and sport <= 16444' | wc -l")?.trim() != "2" {
        std::thread::yield_now();
    }
    let known = notes(&world.snap)?;
    for child in &mut children {
        child.kill()?;
        child.wait()?;
    }
    let items = |kind: &str| known.get(kind).cloned().unwrap_or_default();
    let ports = items("listeners");
    demand(ports.contains("127.0.0.1:16443") && !ports.contains("16444"), format!("{known:?}"))?;
    demand(items("cluster").contains("10.0.0.2:19001"), format!("{known:?}"))?;
    let volumes = items("host-volumes");
    demand(volumes.contains("/srv/database") && !volumes.contains("/dev"), format!("{known:?}"))?;
    demand(items("kube-proxy-rules").contains("ip6tables-nft nat"), format!("{known:?}"))
}

fn no_program() -> Result<()> {
    let world = World::new()?;
    world.add_ours()?;
    // An empty directory hides the programs from the hook, and from it alone.
    sh("mkdir -p /run/empty && mount --bind /run/empty /usr/sbin")?;
    let ended = world.snap.run_hook()?;
    sh("/bin/umount /usr/sbin")?;
    let document = world.snap.document()?;
    demand(
        ended.status == Some(3) && document["outcome"] == "blind",
        format!("{:?}: {document}", ended.status),
    )?;
    demand(document.to_string().contains("firewall rules (iptables, nft)"), "the blind spot is not named")
}

/// A journal of the world's own, since the machine's is not to be spoken to.
fn journal() -> Result<()> {
    let world = World::new()?;
    world.add_ours()?;
    let socket = UnixDatagram::bind("/dev/log")?;
    socket.set_read_timeout(Some(std::time::Duration::from_secs(60)))?;
    // A queue of datagrams is short, so somebody reads all the time.
    let reader = std::thread::spawn(move || {
        let (mut lines, mut buffer) = (Vec::new(), [0; 8192]);
        while let Ok(length) = socket.recv(&mut buffer) {
            lines.push(String::from_utf8_lossy(&buffer[..length]).into_owned());
            if lines.last().is_some_and(|line| line.ends_with(" end")) {
                break;
            }
        }
        lines
    });
    let ended = world.snap.run_hook()?;
    UnixDatagram::unbound()?.send_to(b"the end", "/dev/log")?;
    let lines = reader.join().map_err(|_| "the reader has ended")?;
    let document = world.snap.document()?;
    // Daemon's information, or daemon's warning.
    let text = |line: &str| {
        let rest = line.strip_prefix("<30>").or(line.strip_prefix("<28>"))?;
        Some(rest.strip_prefix("snap-teardown[")?.split_once("]: ")?.1.to_owned())
    };
    let own: Vec<String> = lines.iter().filter_map(|line| text(line)).collect();
    demand(own.len() + 1 == lines.len(), format!("lines of another form: {lines:#?}"))?;
    let steps = document["steps"].as_array().ok_or("no steps")?;
    let mut expected = 0;
    for step in steps.iter().filter(|step| step["counts"]["found"].as_u64() > Some(0)) {
        let (name, counts) = (step["name"].as_str().unwrap_or_default(), &step["counts"]);
        let begin = format!(
            "{name}: {} found, {} removed, {} left",
            counts["found"], counts["removed"], counts["left"]
        );
        let count = own.iter().filter(|line| line.starts_with(&begin)).count();
        demand(count == 1, format!("{count} lines '{begin}' in {lines:#?}"))?;
        expected += 1;
    }
    let result = own.iter().filter(|line| ended.output.lines().next() == Some(line.as_str())).count();
    demand(
        expected >= 3 && result == 1,
        format!("{result} lines with the result in {lines:#?}\n{}", ended.output),
    )
}
