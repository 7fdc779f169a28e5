use super::*;
use crate::fixture::scope_of;
use crate::linux::host::Host;
use crate::scope::tests::{CGROUPS, STAT, tree};

const MAC: &str = "aa:00:00:00:00:01";

fn link(index: u32, name: &str, kind: &str, master: Option<u32>, peer: Option<i32>) -> Link {
    Link { index, name: name.into(), kind: kind.into(), master, peer_netns: peer, ..Link::default() }
}

fn block(link: u32, text: &str) -> Block {
    let (address, prefix) = text.split_once('/').unwrap();
    Block { link, address: Some(address.parse().unwrap()), prefix: prefix.parse().unwrap() }
}

fn facts() -> Facts {
    Facts {
        links: vec![
            link(1, "lo", "", None, None),
            link(5, "cni0", "bridge", None, None),
            link(6, "veth1", "veth", Some(5), Some(7)),
            Link { mac: MAC.into(), ..link(8, "veth2", "veth", None, Some(9)) },
            link(9, "cali1", "veth", None, None),
        ],
        addresses: vec![block(5, "10.1.0.1/24"), block(5, "fe80::1/64")],
        routes: vec![block(5, "10.1.0.0/24"), block(9, "10.1.5.5/32")],
        sandboxes: [(7, "ours".to_string())].into(),
        ..Facts::default()
    }
}

fn attachments() -> Vec<(String, Attachment)> {
    let address = |text: &str| (text.parse().unwrap(), 24);
    let mut a =
        Attachment { addresses: vec![address("10.1.0.2"), address("10.1.5.5")], ..Default::default() };
    a.host_links = ["veth2", "bwp0", "podbr"].map(|name| (name.into(), MAC.into())).into();
    vec![("ours".into(), a)]
}

#[derive(Debug, PartialEq, Eq)]
struct Told {
    ours: Vec<String>,
    others: Vec<String>,
    doubts: Vec<String>,
}

fn judged(
    facts: &Facts,
    attachments: &[(String, Attachment)],
    names: &[&str],
    kubelet: Option<&str>,
) -> Told {
    let mut g = Gathered::default();
    g.network.links = host_ends(facts, attachments);
    let ends: HashSet<u32> = g.network.links.iter().map(|l| l.index).collect();
    let networks = pod_networks(facts, &ends, attachments);
    let addresses = attachments.iter().flat_map(|(_, a)| a.addresses.iter().map(|(a, _)| *a)).collect();
    let kubelet = kubelet.map(str::to_owned);
    let (docker, dockerd) = (None, None);
    let judge =
        Judge { facts, ends, attachments, others: &[], addresses, networks, kubelet, docker, dockerd };
    let names: Vec<String> = names.iter().map(|name| name.to_string()).collect();
    shared_links(&judge, &names, &mut g);
    Told {
        ours: g.network.links.into_iter().map(|l| l.name).collect(),
        others: g.bystanders.into_iter().map(|b| b.why).collect(),
        doubts: g.network.blind.into_iter().map(|b| format!("{}: {}", b.what, b.why)).collect(),
    }
}

fn of_cni0(facts: &Facts, kubelet: Option<&str>) -> Told {
    judged(facts, &attachments(), &["cni0", "none"], kubelet)
}

#[test]
fn host_ends_by_namespace_result_and_route_and_the_bridge_they_are_in() {
    let told = of_cni0(&facts(), None);
    assert_eq!(told.ours, ["veth1", "veth2", "cali1", "cni0"]);
    assert!(told.others.is_empty() && told.doubts.is_empty(), "{told:?}");
}

#[test]
fn what_leads_to_anothers_namespace_is_his_whatever_a_result_says() {
    let mut facts = facts();
    facts.others = [(9, "process 7 is in it".to_string())].into();
    facts.routes.push(block(8, "10.1.0.2/32"));
    assert_eq!(of_cni0(&facts, None).ours, ["veth1", "cali1", "cni0"]);
    facts.others.insert(7, "so is 8".into());
    let told = of_cni0(&facts, None);
    assert_eq!((told.ours.len(), told.others.len()), (1, 1), "{told:?}");
}

#[test]
fn anything_foreign_keeps_the_bridge() {
    let mut port = facts();
    port.links.push(link(20, "tap0", "tun", Some(5), None));
    assert_eq!(of_cni0(&port, None).others, ["a port of it, tap0, is not ours"]);
    for (address, keeps) in [("192.0.2.1/24", true), ("10.1.7.0/24", false), ("10.0.0.0/8", true)] {
        let mut facts = facts();
        facts.routes.push(block(5, address));
        assert_eq!(of_cni0(&facts, None).others.len(), usize::from(keeps), "{address}");
    }
    // What is proven ours goes, whatever else is called a kubelet.
    assert!(of_cni0(&facts(), Some("a kubelet")).ours.contains(&"cni0".to_string()));
}

#[test]
fn dockers_bridge_by_its_own_record_and_by_who_else_lives() {
    let record = |creator, name| format!("{{\"BridgeIfaceCreator\":{creator},\"BridgeName\":\"{name}\",");
    let written = [(1, "br-1"), (2, "br0"), (1, "again"), (2, "again"), (2, "docker0")];
    let records = Records::of(&written.map(|(creator, name)| record(creator, name)).concat());
    let judged = |name: &str, dockerd, proven| {
        let mut facts = facts();
        facts.links[1].name = name.into();
        if proven {
            facts.proven = vec![owned_link(&facts.links[1], String::new())];
        }
        let networks = vec![("10.1.0.0".parse().unwrap(), 16)];
        let judge = Judge {
            facts: &facts,
            ends: [6].into(),
            attachments: &[],
            others: &[],
            addresses: Vec::new(),
            networks,
            kubelet: None,
            docker: Some(&records),
            dockerd,
        };
        match judge.judge(&facts.links[1]) {
            Verdict::Ours(_) => "ours",
            Verdict::Others(_) => "another's",
            Verdict::Doubt(_) => "doubt",
        }
    };
    let rival = Some("another dockerd is alive");
    for proven in [false, true] {
        let doubt = if proven { "ours" } else { "doubt" };
        for dockerd in [None, rival] {
            assert_eq!(judged("br-1", dockerd, proven), "ours");
            assert_eq!(judged("br0", dockerd, proven), "another's");
            assert_eq!(judged("again", dockerd, proven), doubt);
        }
        assert_eq!(judged("docker0", rival, proven), "doubt");
        assert_eq!(judged("docker_gwbridge", rival, proven), "doubt");
        assert_eq!(judged("docker0", None, proven), "ours");
        assert_eq!(judged("br9", rival, proven), doubt);
        assert_eq!(judged("br9", None, proven), "ours");
    }
}

#[test]
fn a_port_that_leads_where_nobody_is_makes_a_doubt_and_not_a_bystander() {
    let mut facts = facts();
    facts.links.push(link(20, "veth9", "veth", Some(5), Some(30)));
    facts.deserted = [(30, "/run/netns/cni-x".to_string())].into();
    let told = of_cni0(&facts, None);
    assert!(told.others.is_empty() && told.doubts[0].contains("/run/netns/cni-x"), "{told:?}");
}

#[test]
fn devices_and_bridges_that_cni_made_under_any_name() {
    let mut facts = facts();
    let made =
        |index, name: &str, kind: &str| Link { mac: MAC.into(), ..link(index, name, kind, None, None) };
    facts.links.push(made(30, "bwp0", "ifb"));
    facts.links.push(made(31, "podbr", "bridge"));
    facts.links.push(link(32, "bwp1", "ifb", None, None));
    assert_eq!(judged(&facts, &attachments(), &[], None).ours, ["veth1", "veth2", "cali1", "bwp0", "podbr"]);
    // The same name with another address is another one.
    facts.links[5].mac = "aa:00:00:00:00:02".into();
    facts.links[6].mac = "aa:00:00:00:00:02".into();
    let told = judged(&facts, &attachments(), &[], None);
    assert_eq!(told.ours, ["veth1", "veth2", "cali1"]);
    assert_eq!(told.doubts.len(), 2, "{told:?}"); // podbr; and cni0, which nobody has named and which reaches pods
}

#[test]
fn tunnels_by_the_cluster_unless_another_kubelet_is_there() {
    let mut facts = facts();
    facts.links.push(link(40, "flannel.1", "vxlan", None, None));
    facts.addresses.push(block(40, "10.1.0.0/32"));
    let told = |facts: &Facts, kubelet| judged(facts, &attachments(), &["cni0", "flannel.1"], kubelet);
    assert_eq!(told(&facts, None).ours.last().unwrap(), "flannel.1");
    let beside = told(&facts, Some("a kubelet"));
    assert!(beside.ours.last().unwrap() == "cni0" && beside.doubts.len() == 1, "{beside:?}");
    facts.addresses.pop();
    assert_eq!(told(&facts, None).doubts.len(), 1, "nothing ties it to anybody");
    assert_eq!(told(&facts, Some("a kubelet")).others.len(), 1);
}

#[test]
fn a_tunnel_that_nobody_names_is_told_by_the_networks_of_our_pods() {
    // As Calico's tunl0: an address of a block of its own node, routes to those of others.
    let told_of = |kind: &str, blocks: &[&str], kubelet| {
        let mut facts = facts();
        facts.links.push(link(40, "tunl0", kind, None, None));
        facts.routes.extend(blocks.iter().map(|text| block(40, text)));
        let told = judged(&facts, &attachments(), &["cni0"], kubelet);
        assert_eq!((told.ours.len(), told.others.len()), (4, 0), "{told:?}");
        told.doubts
    };
    let told = |blocks: &[&str], kubelet| told_of("ipip", blocks, kubelet);
    let why = "over it is of our pods' network, and nothing says whose it is";
    assert_eq!(told(&["10.1.23.64/32"], None), [format!("the link tunl0: 10.1.23.64/32 {why}")]);
    assert_eq!(told(&["10.1.55.0/26"], None), [format!("the link tunl0: 10.1.55.0/26 {why}")]);
    let none: [&str; 0] = [];
    assert_eq!(told(&[], None), none, "the kernel's module makes one");
    assert_eq!(told(&["10.2.0.0/32"], None), none);
    assert_eq!(told(&["10.0.0.0/8"], None), none, "a user's tunnel to half of the world");
    assert_eq!(told(&["10.1.23.64/32", "192.0.2.0/24"], None), none, "somebody else uses it");
    assert_eq!(told(&["10.1.23.64/32"], Some("a kubelet")), none);
    assert_eq!(told_of("bridge", &["10.1.122.1/24"], None), none, "a user's");
}

#[test]
fn a_veth_is_judged_with_its_other_end() {
    let mut facts = facts();
    facts.links.push(Link { peer: Some(51), ..link(50, "cilium_host", "veth", None, None) });
    facts.links.push(Link { peer: Some(50), ..link(51, "cilium_net", "veth", None, None) });
    facts.addresses.push(block(50, "10.0.0.77/32"));
    let told = judged(&facts, &attachments(), &["cilium_host", "cilium_net", "cni0"], None);
    assert_eq!((told.others.len(), told.ours.len()), (2, 4), "{told:?}");
    facts.addresses.last_mut().unwrap().address = Some("10.1.0.77".parse().unwrap());
    let told = judged(&facts, &attachments(), &["cilium_host", "cilium_net", "cni0"], None);
    assert_eq!((told.others.len(), told.ours.len()), (0, 6), "{told:?}");
}

#[test]
fn without_results_a_bridge_is_judged_by_its_ports_and_a_lonely_one_is_a_doubt() {
    let mut facts = facts();
    assert_eq!(judged(&facts, &[], &["cni0"], None).ours, ["veth1", "cni0"]);
    facts.sandboxes.clear();
    facts.links.retain(|l| l.name != "veth1");
    let told = judged(&facts, &[], &["cni0"], None);
    assert!(told.ours.is_empty() && told.doubts.len() == 1, "{told:?}");
}

#[test]
fn what_an_earlier_run_had_proven_needs_no_result_and_no_namespace_any_more() {
    let mut facts = facts();
    facts.sandboxes.clear();
    let proven = |index, name: &str, kind: &str| OwnedLink {
        index,
        name: name.into(),
        r#type: kind.into(),
        because: String::new(),
    };
    facts.proven = vec![proven(5, "cni0", "bridge"), proven(6, "veth1", "veth"), proven(80, "veth2", "veth")];
    assert_eq!(judged(&facts, &[], &["cni0"], None).ours, ["veth1", "cni0"]);
    facts.links.push(link(20, "tap0", "tun", Some(5), None));
    assert_eq!(judged(&facts, &[], &["cni0"], None).ours, ["veth1"], "a foreign port came since");
}

#[test]
fn the_networks_of_an_earlier_run_count_until_somebody_elses_link_has_one_of_them() {
    let mut facts = facts();
    let known = |text: &str| block(0, text).address.map(|a| (a, block(0, text).prefix)).unwrap();
    let (bridge, gone) = (known("10.1.0.1/24"), known("172.17.0.1/16"));
    let earlier = Network { blocks: [bridge, gone].into(), ..Network::default() };
    let own = [owned_link(&facts.links[1], String::new())];
    assert_eq!(known_blocks(&facts, &own, &earlier), [bridge, gone]);
    facts.links.push(link(60, "docker0", "bridge", None, None));
    facts.addresses.push(block(60, "172.17.0.1/16"));
    assert_eq!(known_blocks(&facts, &own, &earlier), [bridge]);
    assert!(known_blocks(&facts, &[], &earlier).is_empty());
}

#[test]
fn names_do_not_speak_to_the_terminal() {
    let mut facts = facts();
    facts.links.push(link(20, "a\u{1b}[31mRED", "tun", Some(5), None));
    assert_eq!(of_cni0(&facts, None).others, ["a port of it, a\\033[31mRED, is not ours"]);
}

#[test]
fn a_living_kubelet_is_a_rival_unless_it_is_elsewhere_or_a_users() {
    let stat = format!("61 {}", STAT.replace("(x)", "(kubelet)"));
    for (group, netns, expected) in [
        ("/system.slice/kubelet.service", "net:[1]", true),
        ("/runtime.slice/kubelet.service", "net:[1]", true),
        ("/odd", "net:[1]", true),
        ("/system.slice/kubelet.service", "net:[2]", false),
        // Where it is may not be known: it may be here.
        ("/system.slice/kubelet.service", "nonsense", true),
        ("/user.slice/user-1000.slice/session-1.scope", "net:[1]", false),
        ("/", "net:[1]", false),
        ("/system.slice/snap.microk8s.daemon-kubelite.service", "net:[1]", false),
    ] {
        let membership = format!("0::{group}\n");
        let status = ("proc/self/status", "NSpid:\t9\n");
        let its = ("proc/61/status", "NSpid:\t61\n");
        let files = [CGROUPS, status, its, ("proc/61/stat", &stat), ("proc/61/cgroup", &membership)];
        let dir = tree(&files);
        for (pid, netns) in [("self", "net:[1]"), ("61", netns)] {
            std::fs::create_dir_all(dir.path().join("proc").join(pid).join("ns")).unwrap();
            std::os::unix::fs::symlink(netns, dir.path().join("proc").join(pid).join("ns/net")).unwrap();
        }
        let host = Host::at(dir.path());
        let found = rivals(&View::new(&host, None), &scope_of(&[]));
        assert_eq!(found.contains_key("kubelet"), expected, "{group} {netns}: {found:?}");
    }
}

#[test]
fn a_tunnel_without_an_address_goes_with_a_link_of_the_same_maker() {
    let mut facts = facts();
    facts.links.push(link(20, "cilium_host", "veth", None, None));
    facts.links.push(link(21, "cilium_geneve", "geneve", None, None));
    facts.links.push(link(22, "other_vxlan", "vxlan", None, None));
    facts.addresses.push(block(20, "10.1.0.7/32"));
    let names = ["cni0", "cilium_host", "cilium_geneve", "other_vxlan"];
    let judged = |facts: &Facts, kubelet| judged(facts, &attachments(), &names, kubelet);
    let told = judged(&facts, None);
    assert!(told.ours.contains(&"cilium_geneve".into()), "{told:?}");
    assert!(told.doubts.len() == 1 && told.doubts[0].contains("other_vxlan"), "{told:?}");
    assert!(!judged(&facts, Some("another kubelet is alive")).ours.contains(&"cilium_geneve".into()));
    facts.addresses.push(block(21, "192.0.2.1/32"));
    assert!(!judged(&facts, None).ours.contains(&"cilium_geneve".into()));
}
