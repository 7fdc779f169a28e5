//! What network plugins and proxies leave: ifb devices (35), rules of kube-proxy, flannel and Calico (36), bridges under
//! other names (35), conntrack entries (37), settings of the kernel (39).
//!
//! RIGHT: gone where CNI's own results or our pods' addresses prove it ours and nobody else uses it; else told; never silent.
//! Others' devices, chains, virtual servers and flows stay.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::json;

use crate::furniture::furnish;
use crate::moved;
use crate::stage::{Right, Stage, demand, sh};
use support::picture::{Kind, Thing};
use support::runtime::{Layout, Pod, Runtime};
use support::scenes::Scene;
use support::{Result, built};

pub const ALL: &[Scene] = &[
    ("networks_of_containerds_own_clients_go", || of_clients("default", "web", &Right::Clean)),
    ("networks_of_containerds_own_clients_are_told_whose_names_are_ambiguous", || {
        let named: fn(&Thing) -> bool = |thing| thing.path.ends_with("apps-default-web-1-eth0");
        of_clients("default", "web-1", &Right::Doubt(named))
    }),
    ("a_network_of_anothers_client_stays_whose_name_reads_as_ours", of_clients_beside_another),
    ("a_tunnel_that_no_profile_names_is_told", || {
        unnamed_tunnel("ipip remote 192.0.2.9 local 127.0.0.1", "ip addr add 10.1.23.64/32")
    }),
    ("a_tunnel_that_no_profile_names_is_told_by_its_routes", || {
        unnamed_tunnel("vxlan id 9 dstport 4009 dev lo", "ip route add 10.1.55.0/26")
    }),
    ("an_ifb_device_for_each_limited_pod", || bandwidth("1.7")),
    ("an_ifb_device_for_each_limited_pod_2_1", || bandwidth("2.1")),
    ("ports_of_the_host", || host_ports(&[])),
    ("ports_of_the_host_and_the_firewall_plugin", || host_ports(&[FIREWALL])),
    ("ports_of_the_host_beside_another_runtime", host_ports_of_two),
    ("a_bridge_under_another_name", || bridge("podbr7")),
    ("a_bridge_under_another_name_hybrid", || bridge("podbr7")),
    ("a_bridge_with_an_ordinary_name_of_a_users", users_bridge),
    ("macvlan_in_the_pods", macvlan),
    ("nft_tables_of_kube_proxy", || rules(NFT)),
    ("kube_proxys_chains_in_all_tables", || rules(KUBE)),
    ("kube_proxys_chains_where_no_pod_ever_was", || chains_alone(|_| Ok(()))),
    ("kube_proxys_chains_where_all_pods_were_in_the_hosts_network", || {
        chains_alone(|stage| {
            stage.runtime()?.make_pods("host", &["--host-network"], &["/app", "obedient"]).map(drop)
        })
    }),
    ("kube_proxys_chains_in_the_legacy_backend", || rules(LEGACY)),
    ("flannels_rules", || rules(FLANNEL)),
    ("calicos_rules_and_sets", || rules(CALICO)),
    ("nft_tables_of_cnis_plugins_are_told", || nft_tables_of_plugins(false)),
    ("nft_tables_of_cnis_plugins_beside_another_runtime", || nft_tables_of_plugins(true)),
    ("ipsets_of_calico", || ipsets("")),
    ("ipsets_of_calico_that_a_users_rule_names_are_told", || ipsets(USERS_RULE)),
    ("kube_proxys_rules_beside_another_kubelet_are_told", another_kubelet),
    ("ipvs_of_kube_proxy", || rules(IPVS)),
    ("conntrack_entries_of_dead_pods", conntrack),
    ("settings_that_were_changed_are_named", || settings(false)),
    ("forwarding_that_was_turned_on_is_named", || settings(true)),
    ("a_route_and_a_tunnel_of_the_pods_network", tunnel),
    ("a_policy_rule_for_the_address_of_our_pod_is_told", policy_rule),
    ("a_route_that_leads_nowhere_for_the_block_of_our_pods", blackhole),
];

/// Starts our containerd with this network.
pub fn start(stage: &mut Stage, plugins: &serde_json::Value) -> Result<()> {
    start_with(stage, plugins, Ok)
}

/// The same, with another configuration.
pub fn start_with(
    stage: &mut Stage,
    plugins: &serde_json::Value,
    configure: fn(String) -> Result<String>,
) -> Result<()> {
    let layout = Stage::layout();
    let (root, state) = (layout.root.display().to_string(), layout.state.display().to_string());
    let list = json!({"cniVersion": "0.4.0", "name": "pods", "plugins": plugins});
    stage.start(layout, &["--root", &root, "--state", &state], |config| {
        fs::write("/opt/runtimes/cni0/net.d/10-pods.conflist", list.to_string())?;
        configure(config)
    })?;
    Ok(())
}

pub fn a_bridge(name: &str) -> serde_json::Value {
    json!({
        "type": "bridge", "bridge": name, "isGateway": true, "ipMasq": true,
        "ipam": {"type": "host-local", "subnet": "10.77.0.0/16"}
    })
}

const FIREWALL: &str = "firewall";

/// The chains that portmap and the firewall plugin make once for all sandboxes.
fn shared_chains() -> Result<usize> {
    let rules = sh("iptables-save")?;
    Ok(rules
        .lines()
        .filter(|l| [":CNI-HOSTPORT-", ":CNI-FORWARD", ":CNI-ADMIN"].iter().any(|c| l.starts_with(c)))
        .count())
}

/// What ctr and nerdctl are told to do for a container that no kubelet made: CNI gets the namespace and the ID in one.
fn of_clients(namespace: &'static str, id: &'static str, right: &Right) -> Result<()> {
    let mut stage = Stage::beside("1.7", || network_of_clients().map(|()| vec![]))?;
    stage.start_usual()?;
    moved::run_with(stage.runtime()?, namespace, id, &["--cni"])?;
    demand(Path::new(&result_of(namespace, id)).exists(), "CNI has written no result")?;
    stage.stop()?;
    stage.must_show(&[(Kind::Process, 2), (Kind::Link, 2), (Kind::Rule, 4), (Kind::File, 4)])?;
    stage.judge(right, 0)?;
    Ok(())
}

fn result_of(namespace: &str, id: &str) -> String {
    format!("/var/lib/cni/results/apps-{namespace}-{id}-eth0")
}

/// RIGHT: the result, the address and the rules of another's container stay whose name reads as one of ours.
fn of_clients_beside_another() -> Result<()> {
    let mut stage = Stage::beside("1.7", || {
        network_of_clients()?;
        let other = Runtime::start(Layout::of_host(), "1.7")?;
        moved::run_with(&other, "a-b", "c", &["--cni"])?;
        Ok(vec![other])
    })?;
    stage.start_usual()?;
    moved::run(stage.runtime()?, "a", "b-c")?;
    stage.stop()?;
    stage.must_show(&[(Kind::Process, 2)])?;
    stage.judge(&Right::Doubt(|_| false), 0)?;
    demand(Path::new(&result_of("a-b", "c")).exists(), "another's result is gone")
}

/// Where containerd's own clients look for it.
fn network_of_clients() -> Result<()> {
    let list = json!({
        "cniVersion": "0.4.0", "name": "apps",
        "plugins": [{
            "type": "bridge", "bridge": "apps0", "isGateway": true, "ipMasq": true,
            "ipam": {"type": "host-local", "subnet": "10.78.0.0/16"}
        }, {"type": "firewall", "backend": "iptables"}]
    });
    sh("mkdir -p /opt/etc/new /opt/etc/work /opt/cni; ln -s /opt/containerd/1.6/cni /opt/cni/bin
        mount -t overlay -o lowerdir=/etc,upperdir=/opt/etc/new,workdir=/opt/etc/work overlay /etc; mkdir -p /etc/cni/net.d")?;
    fs::write("/etc/cni/net.d/10-apps.conflist", list.to_string())?;
    Ok(())
}

/// The chains that CNI's plugins share go with the last pod that uses them.
fn host_ports(more: &[&str]) -> Result<()> {
    let mut stage = Stage::new("1.7")?;
    let portmap = json!({"type": "portmap", "capabilities": {"portMappings": true}});
    let more = more.iter().map(|plugin| json!({"type": plugin, "backend": "iptables"}));
    let plugins: Vec<_> = [a_bridge("cni0"), portmap].into_iter().chain(more).collect();
    start(&mut stage, &json!(plugins))?;
    stage.runtime()?.make_pods("served", &["--host-port", "18081:80"], &["/app", "obedient"])?;
    stage.stop()?;
    demand(shared_chains()? >= 3, "the plugins have made no chains for all")?;
    stage.must_show(&[(Kind::Process, 3), (Kind::Rule, 10)])?;
    stage.judge(&Right::Clean, 0)?;
    Ok(())
}

/// Beside another runtime, which uses them or may, they stay; what is for our pods goes.
fn host_ports_of_two() -> Result<()> {
    let mut stage = Stage::beside("1.7", || {
        let other = Runtime::start(Layout::of_host(), "1.7")?;
        moved::run(&other, "other", "web")?;
        Ok(vec![other])
    })?;
    stage.start_usual()?;
    stage.runtime()?.make_pods("served", &["--host-port", "18081:80"], &["/app", "obedient"])?;
    stage.stop()?;
    demand(shared_chains()? >= 3, "the plugins have made no chains for all")?;
    stage.must_show(&[(Kind::Process, 3), (Kind::Rule, 10)])?;
    stage.shared(is_of_all_sandboxes)?;
    let report = stage.judge(&Right::Clean, 0)?;
    let notes = report["notes"].to_string();
    demand(notes.contains("CNI-HOSTPORT-DNAT") && notes.contains("another container runtime"), notes)
}

/// Rules for a pod alone bear its ID or a hash of it.
pub fn is_of_all_sandboxes(thing: &Thing) -> bool {
    let its_own = ["dnat name", "CNI-DN-"].iter().any(|word| thing.name.contains(word));
    thing.kind == Kind::Rule && thing.name.contains("CNI-HOSTPORT-") && !its_own
}

fn bandwidth(version: &'static str) -> Result<()> {
    let mut stage = Stage::beside(version, || {
        sh("ip link add califfffffffffe type ifb; ip link set califfffffffffe up; ip link add bwp0123456789a type ifb").map(|_| Vec::new())
    })?;
    start(
        &mut stage,
        &json!([a_bridge("cni0"), {"type": "bandwidth", "capabilities": {"bandwidth": true}}, {"type": "portmap", "capabilities": {"portMappings": true}}]),
    )?;
    let limits = [
        "--count",
        "2",
        "--annotation",
        "kubernetes.io/egress-bandwidth=10M",
        "--annotation",
        "kubernetes.io/ingress-bandwidth=10M",
    ];
    stage.runtime()?.make_pods("limited", &limits, &["/app", "obedient"])?;
    stage.stop()?;
    let ifbs = stage.now()?.only(|thing| thing.kind == Kind::Link && thing.name.contains(" bwp"));
    demand(ifbs.more.len() == 2, format!("not two ifb devices:\n{ifbs}"))?;
    stage.must_show(&[(Kind::Process, 6), (Kind::Link, 5)])?;
    stage.judge(&Right::Clean, 0)?;
    Ok(())
}

fn bridge(name: &str) -> Result<()> {
    let mut stage = Stage::beside("1.7", || {
        sh("ip link add podbr8 type bridge; ip addr add 10.88.0.1/16 dev podbr8; ip link set podbr8 up")
            .map(|_| Vec::new())
    })?;
    start(&mut stage, &json!([a_bridge(name), {"type": "portmap", "capabilities": {"portMappings": true}}]))?;
    stage.polite_pods("polite", 2)?;
    stage.stop()?;
    stage.must_show(&[(Kind::Process, 6), (Kind::Link, 3), (Kind::Address, 1), (Kind::Route, 1)])?;
    stage.judge(&Right::Clean, 2)?;
    Ok(())
}

/// The network's bridge was there before, with an address and a port of the user's: pods may leave, it stays.
fn users_bridge() -> Result<()> {
    let mut stage = Stage::beside("1.7", || {
        sh("ip link add lan0 type bridge; ip addr add 192.168.7.1/24 dev lan0; ip link set lan0 up
            ip link add tap0 type veth peer name tap1; ip link set tap0 master lan0; ip link set tap0 up; ip link set tap1 up; ip link set lan0 promisc on
            echo 0 > /proc/sys/net/ipv6/conf/lan0/accept_ra")
        .map(|_| Vec::new())
    })?;
    let mut plugin = a_bridge("lan0");
    plugin["isGateway"] = json!(false);
    start(&mut stage, &json!([plugin]))?;
    stage.polite_pods("polite", 1)?;
    stage.stop()?;
    stage.must_show(&[(Kind::Process, 3), (Kind::Link, 1)])?;
    stage.judge(&Right::Clean, 1)?;
    Ok(())
}

/// A link that moves into the pod and is one of the host's links' children.
fn macvlan() -> Result<()> {
    let mut stage = Stage::beside("1.7", || {
        sh("ip link add up0 type veth peer name up1; ip link set up0 up; ip link set up1 up")
            .map(|_| Vec::new())
    })?;
    start(
        &mut stage,
        &json!([{"type": "macvlan", "master": "up0", "ipam": {"type": "host-local", "subnet": "10.78.0.0/16"}}]),
    )?;
    stage.polite_pods("polite", 1)?;
    stage.stop()?;
    stage.must_show(&[(Kind::Process, 3)])?;
    stage.judge(&Right::Clean, 1)?;
    Ok(())
}

/// What a proxy or a network plugin wrote; `POD` is the address of a pod of ours.
type Rules = &'static str;

const NFT: Rules = "nft add table ip kube-proxy
    nft add chain ip kube-proxy services; nft add chain ip kube-proxy nat-prerouting '{ type nat hook prerouting priority -100; }'
    nft add rule ip kube-proxy nat-prerouting jump services
    nft add map ip kube-proxy service-ips '{ type ipv4_addr . inet_proto . inet_service : verdict; }'
    nft add chain ip kube-proxy endpoint-1; nft add rule ip kube-proxy endpoint-1 meta l4proto tcp dnat to POD:80
    nft add element ip kube-proxy service-ips '{ 10.152.183.5 . tcp . 80 : goto endpoint-1 }'
    nft add rule ip kube-proxy services ip daddr . meta l4proto . th dport vmap @service-ips
    nft add table ip6 kube-proxy";

const KUBE: Rules = "for t in iptables ip6tables; do
    for c in KUBE-KUBELET-CANARY KUBE-PROXY-CANARY; do for x in filter nat mangle; do $t-nft -t $x -N $c; done; done
    $t-nft -N KUBE-FIREWALL; $t-nft -A INPUT -j KUBE-FIREWALL; $t-nft -A OUTPUT -j KUBE-FIREWALL
    $t-nft -t mangle -N KUBE-IPTABLES-HINT; done
    iptables-nft -A KUBE-FIREWALL ! -s 127.0.0.0/8 -d 127.0.0.0/8 -m comment --comment 'block incoming localnet connections' -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP
    iptables-nft -t nat -N KUBE-SERVICES; iptables-nft -t nat -A PREROUTING -m comment --comment 'kubernetes service portals' -j KUBE-SERVICES
    iptables-nft -t nat -N KUBE-SEP-AAAAAAAAAAAAAAAA; iptables-nft -t nat -N KUBE-SVC-AAAAAAAAAAAAAAAA
    iptables-nft -t nat -A KUBE-SEP-AAAAAAAAAAAAAAAA -p tcp -m tcp -j DNAT --to-destination POD:80
    iptables-nft -t nat -A KUBE-SVC-AAAAAAAAAAAAAAAA -j KUBE-SEP-AAAAAAAAAAAAAAAA
    iptables-nft -t nat -A KUBE-SERVICES -d 10.152.183.5/32 -p tcp --dport 80 -j KUBE-SVC-AAAAAAAAAAAAAAAA
    iptables-nft -t nat -N KUBE-POSTROUTING; iptables-nft -t nat -A POSTROUTING -j KUBE-POSTROUTING
    iptables-nft -t nat -A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN; iptables-nft -t nat -A KUBE-POSTROUTING -j MASQUERADE";

const LEGACY: Rules = "iptables-legacy -t nat -N KUBE-SERVICES; iptables-legacy -t nat -A PREROUTING -j KUBE-SERVICES
    iptables-legacy -t nat -N KUBE-SEP-AAAAAAAAAAAAAAAA
    iptables-legacy -t nat -A KUBE-SEP-AAAAAAAAAAAAAAAA -p tcp -m tcp -j DNAT --to-destination POD:80
    iptables-legacy -t nat -A KUBE-SERVICES -d 10.152.183.5/32 -p tcp -m tcp --dport 80 -j KUBE-SEP-AAAAAAAAAAAAAAAA
    iptables-legacy -t mangle -N KUBE-KUBELET-CANARY; iptables-legacy -t raw -N KUBE-PROXY-CANARY";

const FLANNEL: Rules = "mkdir /run/flannel; echo FLANNEL_SUBNET=POD/24 > /run/flannel/subnet.env
    iptables-nft -t nat -N FLANNEL-POSTRTG; iptables-nft -N FLANNEL-FWD
    iptables-nft -t nat -A POSTROUTING -m comment --comment 'flanneld masq' -j FLANNEL-POSTRTG
    iptables-nft -t nat -A FLANNEL-POSTRTG -s 10.1.0.0/16 ! -d 224.0.0.0/4 -m comment --comment 'flanneld masq' -j MASQUERADE
    iptables-nft -A FORWARD -m comment --comment 'flanneld forward' -j FLANNEL-FWD
    iptables-nft -A FLANNEL-FWD -s 10.1.0.0/16 -m comment --comment 'flanneld forward' -j ACCEPT";

const CALICO: Rules = "iptables-nft -N cali-FORWARD; iptables-nft -A FORWARD -m comment --comment 'cali:wUHhoiAYhphO9Mso' -j cali-FORWARD
    iptables-nft -A cali-FORWARD -s 10.1.0.0/16 -m comment --comment 'cali:vjrMJCRpqwy5oRoX' -j ACCEPT
    iptables-nft -t raw -N cali-PREROUTING; iptables-nft -t raw -A PREROUTING -m comment --comment 'cali:6gwbT8clXdHdC1b1' -j cali-PREROUTING
    iptables-nft -t mangle -N cali-POSTROUTING; iptables-nft -t mangle -A POSTROUTING -j cali-POSTROUTING
    nft add table inet calico; nft add set inet calico cali40all-ipam-pools '{ type ipv4_addr; flags interval; elements = { 10.1.0.0/16 } }'";

const IPSETS: Rules = "ipset create cali40all-ipam-pools hash:net; ipset add cali40all-ipam-pools 10.1.0.0/16
    ipset create cali60all-ipam-pools hash:net family inet6; ipset create cali40this-host hash:ip; ipset add cali40this-host 127.0.0.1
    iptables-nft -t nat -N cali-nat-outgoing; iptables-nft -t nat -A POSTROUTING -m comment --comment 'cali:O3lYWMrLQYEMJtB5' -j cali-nat-outgoing
    iptables-nft -t nat -A cali-nat-outgoing -s POD/32 -m set --match-set cali40all-ipam-pools src -j MASQUERADE";

const USERS_RULE: Rules = "; iptables-legacy -A INPUT -m set --match-set cali40this-host src -j ACCEPT";

const IPVS: Rules = "ipvsadm -A -t 10.152.183.5:80 -s rr; ipvsadm -a -t 10.152.183.5:80 -r POD:80 -m; ip link add kube-ipvs0 type dummy; ip addr add 10.152.183.5/32 dev kube-ipvs0";

/// The address of a pod of ours, by the lease.
fn address(_: &[Pod]) -> Result<String> {
    let leases = sh(
        "ls /var/lib/cni/networks/cni0-pods /var/lib/cni/networks/pods 2>/dev/null | grep '^10\\.' | head -n 1",
    )?;
    demand(leases.trim().starts_with("10."), format!("no lease: {leases}"))?;
    Ok(leases.trim().to_owned())
}

/// Somebody else's, which look nearly as ours.
const OTHERS: Rules = "nft=iptables-nft; $nft -t nat -N KUBER-SERVICES || { nft=iptables-legacy; $nft -t nat -N KUBER-SERVICES; } # as tests/uml/run has none
    $nft -t nat -A KUBER-SERVICES -p tcp --dport 1234 -j REDIRECT --to-ports 4321
    $nft -A FORWARD -m comment --comment 'not flanneld' -j ACCEPT
    [ $nft = iptables-legacy ] || { nft add table inet own; nft add chain inet own kube; }
    iptables-legacy -A FORWARD -s 10.99.0.0/16 -j ACCEPT";

fn rules(made: Rules) -> Result<()> {
    let mut stage = Stage::beside("1.7", || sh(OTHERS).map(|_| Vec::new()))?;
    stage.start_usual()?;
    let pods = stage.polite_pods("polite", 1)?;
    let pod = address(&pods)?;
    let without = stage.now()?.count(Kind::Rule);
    sh(&made.replace("POD", &pod))?;
    stage.stop()?;
    stage.must_show(&[(Kind::Process, 3), (Kind::Rule, without + 2)])?;
    // Gone, status 0; or told, and then not 0.
    let told: fn(&Thing) -> bool =
        |thing| matches!(thing.kind, Kind::Rule | Kind::Link | Kind::Address | Kind::Route);
    stage.judge(&Right::Told(told, &[0, 1, 3]), 1)?;
    Ok(())
}

/// As portmap and ipMasq make them with their backend for nftables. What is in them for a pod goes; they are told.
fn nft_tables_of_plugins(beside: bool) -> Result<()> {
    let mut stage = Stage::beside("1.7", || match beside {
        true => {
            let other = Runtime::start(Layout::of_host(), "1.7")?;
            moved::run(&other, "other", "web")?;
            Ok(vec![other])
        }
        false => Ok(Vec::new()),
    })?;
    stage.start_usual()?;
    stage.polite_pods("polite", 1)?;
    sh("nft add table ip cni_hostport; nft add chain ip cni_hostport hostports
        nft add table inet cni_plugins_masquerade; nft add chain inet cni_plugins_masquerade masq_checks")?;
    stage.stop()?;
    stage.must_show(&[(Kind::Process, 3), (Kind::Rule, 4)])?;
    let tables: fn(&Thing) -> bool = |thing| thing.kind == Kind::Rule && thing.name.contains(" cni_");
    let status: &[i32] = if beside { &[0] } else { &[3] };
    if beside {
        stage.shared(tables)?;
    }
    let report = stage.judge(&Right::Told(tables, status), 1)?;
    let said = format!("{}{}", report["steps"], report["notes"]);
    demand(said.contains("cni_hostport") && said.contains("cni_plugins_masquerade"), said)
}

/// Sets go with the rules; whose names are others' stay; one that a rule of another's names is told.
fn ipsets(more: Rules) -> Result<()> {
    let mut stage = Stage::beside("1.7", || {
        sh("ipset create calico-own hash:net; ipset add calico-own 10.1.0.0/16; ipset create KUBER hash:ip
            iptables-legacy -A INPUT -m set --match-set KUBER src -j ACCEPT")
        .map(|_| Vec::new())
    })?;
    stage.start_usual()?;
    let pods = stage.polite_pods("polite", 1)?;
    sh(&format!("{IPSETS}{more}").replace("POD", &address(&pods)?))?;
    stage.stop()?;
    stage.must_show(&[(Kind::Process, 3), (Kind::Rule, 7)])?;
    let named: fn(&Thing) -> bool = |thing| thing.name.contains("cali40this-host");
    let right = if more.is_empty() { Right::Clean } else { Right::Doubt(named) };
    stage.judge(&right, 1)?;
    Ok(())
}

/// No pod had a network of its own, as where the pause image or the network plugin never came.
fn chains_alone(pods: fn(&Stage) -> Result<()>) -> Result<()> {
    let mut stage = Stage::beside("1.7", || sh(OTHERS).map(|_| Vec::new()))?;
    stage.start_usual()?;
    pods(&stage)?;
    // The endpoint of a program in the host's network.
    stage
        .also(|_| sh("ip link add up0 type bridge; ip addr add 192.0.2.50/24 dev up0; ip link set up0 up"))?;
    sh(&KUBE.replace("POD", "192.0.2.50"))?;
    stage.stop()?;
    stage.must_show(&[(Kind::Rule, 20)])?;
    stage.judge(&Right::Clean, 0)?;
    Ok(())
}

/// Another kubelet lives: whose its chains are, nobody can tell. They stay, and are told.
fn another_kubelet() -> Result<()> {
    let mut stage = Stage::beside("1.7", || {
        sh("cp /bin/sleep /opt/runtimes/kubelet; mkdir -p /sys/fs/cgroup/system.slice/kubelet.service
            sh -c 'echo 0 > /sys/fs/cgroup/system.slice/kubelet.service/cgroup.procs; exec setsid --fork /opt/runtimes/kubelet 1000' </dev/null >/dev/null 2>&1")?;
        Ok(Vec::new())
    })?;
    stage.start_usual()?;
    let pods = stage.polite_pods("polite", 1)?;
    let pod = address(&pods)?;
    stage.also(|_| sh(&KUBE.replace("POD", &pod)))?;
    stage.stop()?;
    stage.must_show(&[(Kind::Process, 3)])?;
    // The bridge may be that kubelet's, too: it stays, and is told.
    let bridge: fn(&Thing) -> bool = |thing| matches!(thing.kind, Kind::Link | Kind::Address | Kind::Route);
    let report = stage.judge(&Right::Told(bridge, &[1, 3]), 1)?;
    let notes = format!("{}{}{}", report["notes"], report["steps"], report["advice"]);
    demand(
        notes.contains("KUBE-") || notes.contains("kube-proxy"),
        format!("the chains are not told: {notes}"),
    )
}

/// Flows to a pod's address; the host's own service takes over the port.
fn conntrack() -> Result<()> {
    let entry = |source: &str, port: u16, pod: &str| {
        sh(&format!(
            "conntrack -I -p udp -s {source} -d 192.0.2.1 --sport 4000 --dport {port} --reply-src {pod} --reply-dst {source}
                --reply-port-src 53 --reply-port-dst 4000 --timeout 600 --status ASSURED,SEEN_REPLY,DST_NAT",
        )
        .replace("\n", " "))
    };
    let mut stage = Stage::beside("1.7", || {
        entry("192.0.2.8", 53, "10.99.0.7")?;
        // An address that begins as one of ours does.
        entry("192.0.2.9", 54, "10.1.0.200")?;
        Ok(Vec::new())
    })?;
    stage.start_usual()?;
    let pods = stage.polite_pods("polite", 1)?;
    let pod = address(&pods)?;
    entry("192.0.2.7", 53, &pod)?;
    stage.stop()?;
    stage.must_show(&[(Kind::Process, 3), (Kind::Conntrack, 1)])?;
    stage.judge(&Right::Clean, 1)?;
    Ok(())
}

/// What kubelet, kube-proxy and the plugins set for good: named once, with what it is now. What it was, nobody knows.
fn settings(forwarding: bool) -> Result<()> {
    furnish(!forwarding)?;
    let mut stage = Stage::from_here("1.7", Vec::new())?;
    stage.start_usual()?;
    stage.polite_pods("polite", 1)?;
    if !forwarding {
        sh("cd /proc/sys/net; echo 1 > ipv4/conf/all/route_localnet; echo 86399 > netfilter/nf_conntrack_tcp_timeout_established
            echo 3601 > netfilter/nf_conntrack_tcp_timeout_close_wait")?;
    }
    stage.stop()?;
    let changed = stage.now()?.other.iter().filter(|(thing, _)| thing.kind == Kind::Setting).count();
    demand(changed >= 3, format!("only {changed} settings are seen to have changed"))?;
    let setting: fn(&Thing) -> bool = |thing| thing.kind == Kind::Setting;
    stage.judge(&Right::Told(setting, &[0, 1, 3]), 1)?;
    Ok(())
}

/// A tunnel by the name that the profile knows, with its route, forwarding entry and neighbour; another's tunnel stays.
fn tunnel() -> Result<()> {
    let make = |name: &str, id: u16, net: u8| {
        format!(
            "ip link add {name} type vxlan id {id} dstport {} dev lo local 127.0.0.1 nolearning; ip addr add 10.{net}.0.0/32 dev {name}; ip link set {name} up
             ip route add 10.{net}.9.0/24 via 10.{net}.9.0 dev {name} onlink; bridge fdb append 02:00:00:00:00:0{} dev {name} dst 192.0.2.33; ip neigh add 10.{net}.9.0 lladdr 02:00:00:00:00:01 dev {name} nud permanent",
            id + 4000,
            id % 10
        )
    };
    let mut stage = Stage::beside("1.7", || sh(&make("vxlan.others", 55, 66)).map(|_| Vec::new()))?;
    stage.start_usual()?;
    stage.polite_pods("polite", 1)?;
    sh(&make("flannel.1", 1, 1))?;
    stage.stop()?;
    stage.must_show(&[(Kind::Process, 3), (Kind::Link, 3), (Kind::Route, 2)])?;
    stage.judge(&Right::Clean, 1)?;
    Ok(())
}

/// A tunnel that no profile names, as Calico's tunl0 and kube-router's are: the addresses and routes over it are of our pods'
/// network, and none is a pod's of ours. Whose it is nothing says, so it is told. Where the kernel has no ipip, a tun is made. A user's tunnels stay.
fn unnamed_tunnel(kind: &str, block: &str) -> Result<()> {
    let mut stage = Stage::beside("1.7", || {
        sh("mkdir -p /dev/net; mknod /dev/net/tun c 10 200; ip tuntap add users0 mode tun; ip addr add 10.66.0.1/32 dev users0; ip link set users0 up; ip route add 10.66.4.0/24 dev users0")
            .map(|_| Vec::new())
    })?;
    stage.start_usual()?;
    stage.polite_pods("polite", 1)?;
    sh(&format!(
        "ip link add tunl0 type {kind} || ip tuntap add tunl0 mode tun; ip link set tunl0 up; {block} dev tunl0"
    ))?;
    stage.stop()?;
    stage.must_show(&[(Kind::Process, 3), (Kind::Link, 3)])?;
    let named: fn(&Thing) -> bool = |thing| thing.kind == Kind::Link && thing.name.contains("tunl0");
    let report = stage.judge(&Right::Doubt(named), 1)?;
    demand(!report["steps"].to_string().contains("users0"), "a user's tunnel is told")?;
    // Nor does a later look forget it.
    let mut verify = Command::new(built("snap-teardown")?);
    let looked = verify.args(["verify", "--snap", "microk8s"]).env_clear().output()?;
    let said = String::from_utf8_lossy(&looked.stdout);
    demand(
        looked.status.code() == Some(3) && said.contains("tunl0"),
        format!("verify: {:?}: {said}", looked.status),
    )
}

/// As network plugins of clouds make it for each pod; of others' addresses, and of networks, they stay and are not told.
fn policy_rule() -> Result<()> {
    let mut stage = Stage::beside("1.7", || {
        sh("ip rule add from 10.99.0.2 lookup 99; ip rule add from 10.1.0.0/24 lookup 99").map(|_| Vec::new())
    })?;
    stage.start_usual()?;
    let pods = stage.polite_pods("polite", 1)?;
    let pod = address(&pods)?;
    sh(&format!("ip rule add from {pod} lookup 100 priority 1536"))?;
    stage.stop()?;
    stage.must_show(&[(Kind::Process, 3), (Kind::Route, 1)])?;
    let rule: fn(&Thing) -> bool = |thing| thing.name.starts_with("1536:");
    let report = stage.judge(&Right::Told(rule, &[3]), 1)?;
    let told = format!("the policy rule from {pod} lookup 100");
    let steps = report["steps"].to_string();
    demand(steps.contains(&told) && report["counts"]["blind"] == 1, steps)
}

/// As Calico makes it on each node; others' blocks, and what people wrote, stay.
fn blackhole() -> Result<()> {
    let mut stage = Stage::beside("1.7", || {
        sh("ip route add blackhole 10.99.0.0/26 proto 80; ip route add blackhole 10.0.0.0/8 proto 80
            ip route add blackhole 10.1.0.0/24 metric 7; ip -6 route add blackhole fd99::/64 proto 80")
        .map(|_| Vec::new())
    })?;
    stage.start_usual()?;
    stage.polite_pods("polite", 1)?;
    sh(
        "ip route add blackhole 10.1.0.0/26 proto 80; ip route add blackhole 10.1.0.0/26 table 7 metric 9 proto bird",
    )?;
    stage.stop()?;
    stage.must_show(&[(Kind::Process, 3), (Kind::Route, 2)])?;
    stage.judge(&Right::Clean, 1)?;
    Ok(())
}
