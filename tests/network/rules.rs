//! Firewall rules, as CNI's plugins, kubelet and kube-proxy make them.

use serde_json::json;

use crate::stage::{id, write};
use support::{Result, sh};

/// What kubelet and kube-proxy make for a whole node, and where a service leads. The tables of the other families have no
/// address of ours.
pub fn node_rules(program: &str, target: &str, target6: &str) -> Result<()> {
    let (target, service) = match program.starts_with("ip6") {
        true => (format!("[{target6}]:80"), "fd00:99::5/128"),
        false => (format!("{target}:80"), "10.152.183.5/32"),
    };
    let target = match program.starts_with("ip6") {
        true => "-j MARK --set-xmark 0x4000/0x4000".to_owned(),
        false => format!("-p tcp -m tcp -j DNAT --to-destination {target}"),
    };
    sh(&format!(
        "{program} -N KUBE-FIREWALL; {program} -A INPUT -j KUBE-FIREWALL
         {program} -A KUBE-FIREWALL ! -s ::1 -m comment --comment 'block incoming localnet connections' -j DROP 2>/dev/null || true
         for t in filter nat mangle; do {program} -t $t -N KUBE-KUBELET-CANARY; done
         {program} -t nat -N KUBE-SERVICES; {program} -t nat -N KUBE-SEP-A
         {program} -t nat -A PREROUTING -m comment --comment 'kubernetes service portals' -j KUBE-SERVICES
         {program} -t nat -A KUBE-SERVICES -d {service} -p tcp -m tcp --dport 80 -j KUBE-SEP-A
         {program} -t nat -A KUBE-SEP-A {target}"
    ))
    .map(drop)
}

/// A second attachment of a sandbox, always with the same address: that of ours has been given to another since.
pub fn given_away(network: &str, letter: char) -> Result<()> {
    let result = json!({
        "kind": "cniCacheV1", "containerId": id(letter), "networkName": network, "ifName": "net1",
        "result": {"cniVersion": "0.3.1", "ips": [{"version": "4", "address": "10.1.0.77/24"}]}
    });
    write(&format!("/var/lib/cni/results/{network}-{}-net1", id(letter)), &result.to_string())
}

/// What the firewall plugin makes for an address of a sandbox.
pub fn let_through(program: &str, block: &str) -> Result<()> {
    sh(&format!(
        "{program} -A CNI-FORWARD -d {block} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
         {program} -A CNI-FORWARD -s {block} -j ACCEPT"
    ))
    .map(drop)
}

/// The tables of the plugins' own nftables backends, which they never remove.
pub fn nft_tables() -> Result<()> {
    sh("for f in ip ip6; do nft add table $f cni_hostport; done
        for f in ip ip6; do for c in hostports hostip_hostports masquerading; do nft add chain $f cni_hostport $c; done; done
        nft add table inet cni_plugins_masquerade; nft add chain inet cni_plugins_masquerade masq_checks")
    .map(drop)
}

/// What those backends make for a port of a sandbox, and for its way out.
pub fn nft_rules(id: &str, network: &str, address: &str, port: u16) -> Result<()> {
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
pub fn port_map(program: &str, id: &str, hash: &str, port: u16) -> Result<()> {
    sh(&format!(
        "{program} -t nat -N CNI-DN-{hash}
         {program} -t nat -A CNI-DN-{hash} -p tcp -m tcp --dport {port} -j REDIRECT --to-ports 80
         {program} -t nat -A CNI-HOSTPORT-DNAT -p tcp -m comment --comment 'dnat name: \"pods\" id: \"{id}\"' \
           -m multiport --dports {port} -j CNI-DN-{hash}"
    ))
    .map(drop)
}
