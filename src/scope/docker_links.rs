//! Links that nothing but docker's own record ties to us. What proves a bridge ours is a container of ours in it; a docker
//! that was stopped in order has ended its containers and left its bridges. And what it made for networks of macvlan and ipvlan
//! to stand on (a vlan, a dummy) is a port of nothing.

use std::path::PathBuf;

use crate::error::Blind;
use crate::linux::links::Link;
use crate::order;
use crate::reason::Reason;
use crate::scope::Scope;
use crate::scope::network::{DOCKERD, Network};
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

/// What docker's records say.
#[derive(Default)]
pub(super) struct Records {
    read: Vec<(PathBuf, String)>,
    blind: Vec<Blind>,
}

/// Who made a bridge, by these records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Maker {
    /// docker, as far as it knows: what it does not know it takes away as its own.
    Docker,
    /// Somebody who made it before docker was told to use it.
    Another,
    /// Both are written there: bolt leaves in its pages what it has deleted.
    Either,
    /// It is not named.
    Nobody,
}

/// docker's own default.
const DEFAULT: &str = "docker0";

/// What any two dockers share. It finds them there when it is started again, and writes down each time that they were there before.
pub(super) const SHARED: [&str; 2] = [DEFAULT, "docker_gwbridge"];

impl Records {
    pub fn read(view: &View, files: &[PathBuf]) -> Records {
        let mut records = Records::default();
        for file in files {
            match view.host.read_at_most(file, MAX_RECORD) {
                Ok(bytes) => {
                    records.read.push((file.clone(), String::from_utf8_lossy(&bytes).into_owned()));
                }
                Err(e) => records.blind.push(Blind::new(show(file), e)),
            }
        }
        records
    }

    /// The keys of a network's record stand in the alphabet's order (libnetwork's `bridge_store.go`; `ifaceCreator` has the
    /// numbers).
    pub fn maker(&self, bridge: &str) -> Maker {
        let name = format!("\"BridgeName\":\"{bridge}\"");
        let written =
            |before: &str| self.read.iter().any(|(_, text)| text.contains(&format!("{before}{name}")));
        let another = !SHARED.contains(&bridge) && written("\"BridgeIfaceCreator\":2,");
        match (written("\"BridgeIfaceCreator\":1,"), another) {
            (true, true) => Maker::Either,
            (false, true) => Maker::Another,
            (true, false) => Maker::Docker,
            (false, false) if written("") => Maker::Docker,
            (false, false) => Maker::Nobody,
        }
    }
}

/// The links that these records name and that are there. They are told and not removed, since a container may be able to
/// write to a record. Every docker has a docker0: beside another one that is alive, it is taken for that one's.
pub(super) fn left(records: &Records, links: &[Link], network: &Network) -> Vec<Blind> {
    let mut found = records.blind.clone();
    for (file, text) in &records.read {
        let named = |link: &&Link| match link.kind.as_str() {
            "bridge" => {
                text.contains(&format!("\"BridgeName\":\"{}\"", link.name))
                    && records.maker(&link.name) != Maker::Another
            }
            "vlan" | "dummy" => is_made_for(text, &link.name),
            _ => false,
        };
        let ours = |link: &Link| network.links.iter().any(|own| own.index == link.index);
        let others = |link: &Link| link.name == DEFAULT && network.rivals.contains_key(DOCKERD);
        let what = |link: &Link| format!("the link {}", escape(link.name.as_bytes()));
        let told = |link: &Link| network.blind.iter().any(|blind| blind.what == what(link));
        let there = links.iter().filter(|l| !ours(l) && !others(l) && !told(l)).filter(named);
        found.extend(there.map(|link| {
            let why = format!("{} names it, and no container of this snap is in it", show(file));
            Blind::new(what(link), (Reason::Unproven, why))
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

    impl Records {
        pub(in crate::scope) fn of(text: &str) -> Records {
            Records { read: vec![("/d".into(), text.into())], blind: Vec::new() }
        }
    }

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
            left(&Records::read(&view, &records(&view, &scope)), &links, network)
                .into_iter()
                .map(|b| b.what)
                .collect()
        };
        let mut network = Network::default();
        assert_eq!(told(&network), ["the link br-1", "the link docker0"]);
        network.rivals.insert("dockerd".into(), "another one".into());
        let (name, r#type, because) = ("br-1".into(), "bridge".into(), String::new());
        network.links.push(OwnedLink { index: 1, name, r#type, because });
        assert!(told(&network).is_empty());
    }

    #[test]
    fn a_bridge_that_was_there_before_docker_is_not_dockers() {
        let one = |creator, name| {
            format!(
                "\u{1}\0{{\"AddressIPv4\":\"\",\"BridgeIfaceCreator\":{creator},\"BridgeName\":\"{name}\",\"DefaultBridge\":false}}\0"
            )
        };
        let names = [(1, "br-1"), (2, "br0"), (0, "br1"), (1, "again"), (2, "again"), (2, "docker0")];
        let text = names.map(|(creator, name)| one(creator, name)).concat();
        let records = Records::of(&text);
        let all = ["br-1", "br0", "br1", "again", "docker0", "br", "cni0"].map(|name| records.maker(name));
        let expected = [
            Maker::Docker,
            Maker::Another,
            Maker::Docker,
            Maker::Either,
            Maker::Docker,
            Maker::Nobody,
            Maker::Nobody,
        ];
        assert_eq!(all, expected);
        let link =
            |name: &str| Link { index: 1, name: name.into(), kind: "bridge".into(), ..Link::default() };
        let told = left(&records, &names.map(|(_, name)| link(name)), &Network::default());
        let told: Vec<&str> = told.iter().map(|b| b.what.as_str()).collect();
        let expected =
            ["the link br-1", "the link br1", "the link again", "the link again", "the link docker0"];
        assert_eq!(told, expected);
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
        let told = left(&Records::read(&view, &[file]), &links, &Network::default());
        let told: Vec<String> = told.into_iter().map(|b| b.what).collect();
        assert_eq!(told, ["the link eth0.50", "the link di-1f"]);
    }
}
