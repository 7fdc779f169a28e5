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
    let link = |name: &str| Link { index: 1, name: name.into(), kind: "bridge".into(), ..Link::default() };
    let told = left(&records, &names.map(|(_, name)| link(name)), &Network::default());
    let told: Vec<&str> = told.iter().map(|b| b.what.as_str()).collect();
    let expected = ["the link br-1", "the link br1", "the link again", "the link again", "the link docker0"];
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
        .map(|(index, (name, kind))| Link { index, name: name.into(), kind: kind.into(), ..Link::default() })
        .collect();
    let host = Host::at(dir.path());
    let view = View::new(&host, None);
    let told = left(&Records::read(&view, &[file]), &links, &Network::default());
    let told: Vec<String> = told.into_iter().map(|b| b.what).collect();
    assert_eq!(told, ["the link eth0.50", "the link di-1f"]);
}
