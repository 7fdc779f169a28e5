//! Links that nothing but docker's own record ties to us. What proves a bridge ours is a container of ours in it; a docker
//! that was stopped in order has ended its containers and left its bridges. And what it made for networks of macvlan and ipvlan
//! to stand on (a vlan, a dummy) is a port of nothing.

use std::path::PathBuf;

use crate::error::Blind;
use crate::linux::links::Link;
use crate::order;
use crate::reason::Reason;
use crate::scope::Scope;
use crate::scope::network::Network;
use crate::text::{escape, show};
use crate::view::View;

/// docker's record of its networks, below the directory of its data.
const RECORD: &str = "network/files/local-kv.db";

/// A few networks take some tens of kilobytes.
const MAX_RECORD: u64 = 8 << 20;

/// The records of dockers whose data are in the snap's own directories, or were moved out of these.
pub(super) fn records(view: &View, scope: &Scope) -> Vec<PathBuf> {
    let roots = scope.roots.mounts.iter().chain(&scope.roots.data);
    let mut files: Vec<PathBuf> = roots.map(|root| root.join(RECORD)).collect();
    files.retain(|file| scope.roots.is_own(&scope.snap, file));
    files.extend(scope.roots.docker.iter().map(|data| data.join(RECORD)));
    order::sort(&mut files);
    files.dedup();
    files.retain(|file| view.host.exists(file).unwrap_or(true));
    files
}

/// The links that these records name and that are there. They are told and not removed, since a container may be able to
/// write to a record. Every docker has a docker0: beside another one that is alive, it is taken for that one's.
pub(super) fn left(view: &View, records: &[PathBuf], links: &[Link], network: &Network) -> Vec<Blind> {
    let mut found = Vec::new();
    for file in records {
        let text = match view.host.read_at_most(file, MAX_RECORD) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(e) => {
                found.push(Blind::new(show(file), e));
                continue;
            }
        };
        let named = |link: &&Link| match link.kind.as_str() {
            "bridge" => text.contains(&format!("\"BridgeName\":\"{}\"", link.name)),
            "vlan" | "dummy" => is_made_for(&text, &link.name),
            _ => false,
        };
        let ours = |link: &Link| network.links.iter().any(|own| own.index == link.index);
        let others = |link: &Link| link.name == "docker0" && network.rivals.contains_key("dockerd");
        let there = links.iter().filter(|l| !ours(l) && !others(l)).filter(named);
        found.extend(there.map(|link| {
            let what = format!("the link {}", escape(link.name.as_bytes()));
            let why = format!("{} names it, and no container of this snap is in it", show(file));
            Blind::new(what, (Reason::Unproven, why))
        }));
    }
    found
}

/// True for a link that docker itself has made for a network to stand on. One that was there before is its maker's. The keys of
/// a network's record stand in the alphabet's order.
fn is_made_for(text: &str, name: &str) -> bool {
    const MADE: &str = "\"CreatedSubIface\":";
    let parent = format!("\"Parent\":\"{name}\"");
    text.split(MADE).skip(1).any(|record| record.starts_with("true") && record.contains(&parent))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::scope_of;
    use crate::linux::host::Host;
    use crate::scope::network::OwnedLink;

    #[test]
    fn a_bridge_that_docker_wrote_down_and_that_is_there_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let mut scope = scope_of(&[]);
        let data = PathBuf::from("/var/snap/microk8s/common/var-lib-docker");
        scope.roots.mounts = vec![data.clone()];
        let host = Host::at(dir.path());
        let view = View::new(&host, None);
        assert!(records(&view, &scope).is_empty());
        let file = dir.path().join(data.strip_prefix("/").unwrap()).join(RECORD);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        let record = b"\xff\0{\"BridgeIfaceCreator\":1,\"BridgeName\":\"br-1\"}{\"BridgeName\":\"docker0\"}";
        std::fs::write(&file, record).unwrap();
        let link = |index, name: &str, kind: &str| Link {
            index,
            name: name.into(),
            kind: kind.into(),
            ..Link::default()
        };
        let links = [link(1, "br-1", "bridge"), link(2, "docker0", "bridge"), link(3, "br-", "bridge")];
        let told = |network: &Network| -> Vec<String> {
            left(&view, &records(&view, &scope), &links, network).into_iter().map(|b| b.what).collect()
        };
        let mut network = Network::default();
        assert_eq!(told(&network), ["the link br-1", "the link docker0"]);
        network.rivals.insert("dockerd".into(), "another one".into());
        let (name, r#type, because) = ("br-1".into(), "bridge".into(), String::new());
        network.links.push(OwnedLink { index: 1, name, r#type, because });
        assert!(told(&network).is_empty());
    }

    #[test]
    fn what_docker_made_for_networks_to_stand_on_is_told_and_what_was_there_before_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let file = PathBuf::from("/d/local-kv.db");
        // As libnetwork's drivers write them (macvlan_store.go, ipvlan_store.go).
        let of = |made: bool, mode: &str, parent: &str| {
            let subnets = r#""[{\"GwIP\":\"10.0.0.1/24\",\"SubnetIP\":\"10.0.0.0/24\"}]""#;
            format!(
                "\u{1}\0docker/network/v1.0/{{\"CreatedSubIface\":{made},\"ID\":\"1f\",\"Internal\":false,\"Ipv4Subnets\":{subnets},{mode},\"Mtu\":0,\"Parent\":\"{parent}\"}}\0"
            )
        };
        let (macvlan, ipvlan) = ("\"MacvlanMode\":\"bridge\"", "\"IpvlanMode\":\"l2\"");
        let record = [
            of(true, macvlan, "eth0.50"),
            of(false, macvlan, "eth0.60"),
            of(true, ipvlan, "di-1f"),
            of(true, macvlan, "eth1"),
            of(false, ipvlan, "eth0"),
        ];
        crate::fixture::file(dir.path(), "d/local-kv.db", record.concat());
        let links = [
            ("eth0", ""),
            ("eth0.50", "vlan"),
            ("eth0.60", "vlan"),
            ("eth0.5", "vlan"),
            ("di-1f", "dummy"),
            ("eth1", ""),
            ("dummy0", "dummy"),
        ];
        let links: Vec<Link> = (1..)
            .zip(links)
            .map(|(index, (name, kind))| Link {
                index,
                name: name.into(),
                kind: kind.into(),
                ..Link::default()
            })
            .collect();
        let host = Host::at(dir.path());
        let view = View::new(&host, None);
        let told = left(&view, &[file], &links, &Network::default());
        let told: Vec<String> = told.into_iter().map(|b| b.what).collect();
        assert_eq!(told, ["the link eth0.50", "the link di-1f"]);
    }
}
