use super::*;
use crate::fixture::scope_of;
use crate::linux::firewall;

const KUBE: &str = "-N KUBE-SERVICES\n-N KUBE-SEP-A\n-N KUBE-FIREWALL\n-N KUBER\n\
    -A PREROUTING -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES\n\
    -A INPUT -j KUBE-FIREWALL\n-A INPUT -j KUBER\n-A KUBER -j ACCEPT\n\
    -A KUBE-SERVICES -d 10.152.183.5/32 -p tcp --dport 80 -j KUBE-SEP-A\n\
    -A KUBE-SEP-A -p tcp -m tcp -j DNAT --to-destination 10.1.0.2:80\n";

fn judged(text: &str, change: impl Fn(&mut Scope)) -> Judged {
    let mut scope = scope_of(&["a"]);
    scope.network.addresses = [[10, 1, 0, 2].into()].into();
    change(&mut scope);
    let table = firewall::parse("/usr/sbin/iptables-nft".into(), "nat", text);
    let firewall = Firewall { tables: vec![table], ..Firewall::default() };
    of_families(&firewall, &scope, &|| [[192, 168, 1, 1].into()].into(), &|| false)
}

fn rules(judged: &Judged) -> Vec<String> {
    let rule = |r: &Residue| match r {
        Residue::Rule(r) => format!("{}{}", if r.chain { "chain " } else { "" }, r.rule[0]),
        other => panic!("{other}"),
    };
    judged.ours.iter().map(rule).collect()
}

#[test]
fn what_leads_to_our_pods_alone_goes_jumps_first_and_chains_last() {
    let found = judged(KUBE, |_| {});
    let expected = [
        "PREROUTING",
        "INPUT",
        "KUBE-SERVICES",
        "KUBE-SEP-A",
        "chain KUBE-SERVICES",
        "chain KUBE-SEP-A",
        "chain KUBE-FIREWALL",
    ];
    assert_eq!(rules(&found), expected);
    assert!(found.blind.is_empty() && found.others.is_empty(), "{found:?}");
    let node = format!("{KUBE}-A KUBE-SEP-A -p tcp -j DNAT --to-destination 192.168.1.1:16443\n");
    assert_eq!(rules(&judged(&node, |_| {})).len(), 8);
}

#[test]
fn what_leads_elsewhere_or_may_be_another_kubelets_stays_and_is_told() {
    let elsewhere = format!("{KUBE}-A KUBE-SEP-A -p tcp -j DNAT --to-destination 10.1.9.9:80\n");
    let found = judged(&elsewhere, |_| {});
    assert!(found.ours.is_empty() && found.blind[0].why.contains("10.1.9.9"), "{found:?}");
    let rival = |scope: &mut Scope| {
        scope.network.rivals.insert("kubelet".into(), "another kubelet is alive".into());
    };
    let found = judged(KUBE, rival);
    assert!(found.ours.is_empty() && found.blind.len() == 1, "{found:?}");
    let found = judged("-N KUBE-FIREWALL\n-A INPUT -j KUBE-FIREWALL\n", rival);
    assert!(found.ours.is_empty() && found.blind.is_empty() && found.others.len() == 1, "{found:?}");
}

#[test]
fn a_snap_whose_kubelet_never_ran_has_no_tie_to_a_kubelets_chains() {
    let without = |scope: &mut Scope| {
        scope.network.addresses.clear();
        scope.containers.clear();
    };
    let found = judged("-N KUBE-FIREWALL\n", without);
    assert!(found.ours.is_empty() && found.others.len() == 1, "{found:?}");
    let idle = |scope: &mut Scope| (without(scope), scope.idle = true).1;
    assert_eq!(judged("-N KUBE-FIREWALL\n", idle).ours.len(), 1);
    assert_eq!(judged("-N OTHER\n", |_| {}), Judged::default());
}

#[test]
fn a_table_of_nf_tables_stays_and_is_told_when_all_that_tied_it_to_us_is_gone() {
    let of_table = |family: &str, name: &str, change: &dyn Fn(&mut Scope)| {
        let mut scope = scope_of(&["a"]);
        scope.network.addresses = [[10, 1, 0, 2].into()].into();
        change(&mut scope);
        let nft_tables = vec![(family.to_owned(), name.to_owned())];
        of_families(&Firewall { nft_tables, ..Firewall::default() }, &scope, &BTreeSet::new, &|| false)
    };
    let of = |change: &dyn Fn(&mut Scope)| of_table("ip", "calico", change);
    assert_eq!(of_table("arp", "calico-arp", &|_| {}).blind.len(), 1);
    let found = of(&|_| {});
    assert!(found.ours.is_empty() && found.blind.len() == 1 && found.others.is_empty(), "{found:?}");
    let unknown = of(&|scope| scope.network.addresses.clear());
    assert!(unknown.blind.is_empty() && unknown.others.len() == 1, "{unknown:?}");
    let rival = of(&|scope| {
        scope.network.rivals.insert("calico-node".into(), "another one is alive".into());
    });
    assert!(rival.blind.is_empty() && rival.others.len() == 1, "{rival:?}");
}

#[test]
fn flannels_rules_are_known_by_comment_and_network() {
    let text = "-N FLANNEL-POSTRTG\n-A POSTROUTING -m comment --comment \"flanneld masq\" -j FLANNEL-POSTRTG\n\
        -A FLANNEL-POSTRTG -s 10.1.0.0/16 ! -d 224.0.0.0/4 -m comment --comment \"flanneld masq\" -j MASQUERADE\n\
        -A FORWARD -m comment --comment \"not flanneld\" -j ACCEPT\n";
    assert_eq!(rules(&judged(text, |_| {})), ["POSTROUTING", "FLANNEL-POSTRTG", "chain FLANNEL-POSTRTG"]);
    let found = judged(&text.replace("10.1.0.0", "10.42.0.0"), |_| {});
    assert!(found.ours.is_empty() && found.others.len() == 1, "{found:?}");
}

fn docker0(scope: &mut Scope) {
    scope.containers[0].id.namespace = "moby".into();
    let (name, r#type, because) = ("docker0".into(), "bridge".into(), String::new());
    scope.network.links = vec![crate::scope::network::OwnedLink { index: 3, name, r#type, because }];
    scope.network.blocks = [([172, 17, 0, 1].into(), 16)].into();
}

fn beside_another_dockerd(scope: &mut Scope) {
    docker0(scope);
    scope.network.rivals.insert("dockerd".into(), "another dockerd is alive".into());
}

#[test]
fn dockers_rules_go_with_its_bridge_and_a_users_own_keep_them() {
    let text = "-N DOCKER\n-N DOCKER-USER\n-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER\n\
        -A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE\n-A POSTROUTING -s 10.9.0.0/16 -o eth0 -j MASQUERADE\n\
        -A DOCKER ! -i docker0 -p tcp -m tcp --dport 8080 -j DNAT --to-destination 172.17.0.2:80\n-A DOCKER-USER -j RETURN\n";
    let found = judged(text, docker0);
    let expected =
        ["PREROUTING", "POSTROUTING", "DOCKER", "DOCKER-USER", "chain DOCKER", "chain DOCKER-USER"];
    assert_eq!(rules(&found), expected, "{found:?}");
    let itself = "-A POSTROUTING -s 172.17.0.2/32 -d 172.17.0.2/32 -p tcp -m tcp --dport 80 -j MASQUERADE\n";
    assert_eq!(rules(&judged(&format!("{text}{itself}"), docker0)).len(), expected.len() + 1);
    let others = itself.replace("172.17", "172.19");
    assert_eq!(rules(&judged(&format!("{text}{others}"), docker0)), expected);
    // Beside another daemon what is over our link goes, and the chains stay.
    let beside = judged(text, beside_another_dockerd);
    assert_eq!(rules(&beside), ["POSTROUTING", "DOCKER"], "{beside:?}");
    assert!(beside.blind.is_empty());
    // One that is started empties the chains.
    let emptied = "-N DOCKER\n-A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE\n";
    assert_eq!(rules(&judged(emptied, beside_another_dockerd)), ["POSTROUTING"]);
    let kubelets = |scope: &mut Scope| {
        beside_another_dockerd(scope);
        scope.containers[0].id.namespace = "k8s.io".into();
    };
    assert!(judged(emptied, kubelets).ours.is_empty(), "no docker of ours has run");
    let users = format!("{text}-A DOCKER-USER -s 192.0.2.1/32 -j DROP\n");
    let found = judged(&users, docker0);
    assert_eq!((rules(&found), found.blind.len()), (vec!["POSTROUTING".into(), "DOCKER".into()], 1));
    assert_eq!(judged(text, |_| {}).others.len(), 1, "a bridge that is not ours");
}

#[test]
fn a_port_published_on_loopback_is_unguarded_with_its_container() {
    let dockers = "-N DOCKER\n-A DOCKER -d 127.0.0.1/32 ! -i docker0 -p tcp -m tcp --dport 8081 -j DNAT --to-destination 172.17.0.2:81\n";
    let guard = "-A PREROUTING -d 127.0.0.1/32 ! -i lo -p tcp -m tcp --dport 8081 -j DROP\n";
    let found = |nat: &str, raw: &str, change: fn(&mut Scope)| {
        let mut scope = scope_of(&["a"]);
        change(&mut scope);
        let table = |name, text| firewall::parse("/usr/sbin/iptables-nft".into(), name, text);
        let tables = vec![table("nat", nat), table("raw", raw)];
        let firewall = Firewall { tables, ..Firewall::default() };
        rules(&of_families(&firewall, &scope, &BTreeSet::new, &|| false))
    };
    assert_eq!(found(dockers, guard, docker0), ["DOCKER", "chain DOCKER", "PREROUTING"]);
    assert_eq!(found(dockers, guard, beside_another_dockerd), ["DOCKER", "PREROUTING"]);
    for users in [
        guard.replace("8081", "8082"),
        guard.replace("tcp", "udp"),
        guard.replace("! -i lo ", ""),
        guard.replace("-j DROP", "-m comment --comment mine -j DROP"),
    ] {
        assert_eq!(found(dockers, &users, beside_another_dockerd), ["DOCKER"], "{users}");
    }
    let without_proxy = dockers.replace("! -i docker0 ", "");
    assert_eq!(found(&without_proxy, guard, beside_another_dockerd), ["DOCKER", "PREROUTING"]);
    let users = without_proxy.replace("-A DOCKER", "-A PREROUTING");
    assert_eq!(found(&users, guard, beside_another_dockerd), [""; 0]);
    let anothers = dockers.replace("docker0", "br-1").replace("172.17", "172.19").replace("-N DOCKER\n", "");
    assert_eq!(found(&format!("{dockers}{anothers}"), guard, beside_another_dockerd), ["DOCKER"]);
}

#[test]
fn what_a_user_wrote_over_dockers_links_stays() {
    let users = "-N ufw-user-input\n-A ufw-user-input -i docker0 -p tcp -m tcp --dport 5432 -j ACCEPT\n-A INPUT -i docker0 -j DROP\n\
        -A FORWARD -i docker0 -m comment --comment mine -j DROP\n";
    let dockers = "-N DOCKER\n-A FORWARD -o docker0 -j DOCKER\n-A DOCKER ! -i docker0 -o docker0 -j DROP\n";
    let text = format!("{dockers}{users}");
    assert_eq!(rules(&judged(&text, docker0)), ["FORWARD", "DOCKER", "chain DOCKER"]);
    let text = format!("{text}-N DOCKER-USER\n-A DOCKER-USER -i docker0 -j DROP\n");
    assert_eq!(rules(&judged(&text, beside_another_dockerd)), ["FORWARD", "DOCKER"]);
}

#[test]
fn destinations_and_blocks_are_read() {
    let ip = |text: &str| text.parse::<IpAddr>().ok();
    for (text, address) in [("10.1.0.2:80", "10.1.0.2"), ("[fd00::2]:80", "fd00::2"), ("fd00::2", "fd00::2")]
    {
        assert_eq!(destination(text), ip(address), "{text}");
    }
    assert!(
        destination("x:1").is_none() && block("x/1").is_none() && block("10.0.0.1").unwrap().prefix == 32
    );
}

#[test]
fn the_chains_that_cnis_plugins_share_go_with_the_last_that_uses_them() {
    let of = |text: &str, others_run: bool| {
        let mut scope = scope_of(&["a"]);
        scope.network.addresses = [[10, 1, 0, 2].into()].into();
        let table = firewall::parse("/usr/sbin/iptables-nft".into(), "nat", text);
        let firewall = Firewall { tables: vec![table], ..Firewall::default() };
        of_families(&firewall, &scope, &BTreeSet::new, &|| others_run)
    };
    let chains = "-N CNI-HOSTPORT-DNAT\n-N CNI-HOSTPORT-MASQ\n-N CNI-DN-0\n\
        -A PREROUTING -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT\n\
        -A CNI-HOSTPORT-MASQ -m mark --mark 0x2000/0x2000 -j MASQUERADE\n";
    let expected = ["PREROUTING", "CNI-HOSTPORT-MASQ", "chain CNI-HOSTPORT-DNAT", "chain CNI-HOSTPORT-MASQ"];
    let found = of(chains, false);
    assert_eq!(rules(&found), expected);
    assert!(found.blind.is_empty() && found.others.is_empty(), "{found:?}");
    let beside = of(chains, true);
    assert!(beside.ours.is_empty() && beside.blind.is_empty() && beside.others.len() == 1, "{beside:?}");
    let of_a = "-A CNI-HOSTPORT-DNAT -p tcp -m comment --comment \"dnat name: \\\"n\\\" id: \\\"a\\\"\" -j CNI-DN-0\n";
    assert_eq!(rules(&of(&format!("{chains}{of_a}"), false)).len(), expected.len() + 1);
    let of_b = of_a.replace("id: \\\"a", "id: \\\"b");
    let found = of(&format!("{chains}{of_b}"), false);
    assert!(found.ours.is_empty() && found.blind.is_empty() && found.others.len() == 1, "{found:?}");
    let users = "-N CNI-FORWARD\n-N CNI-ADMIN\n-A FORWARD -j CNI-FORWARD\n-A CNI-FORWARD -j CNI-ADMIN\n";
    assert_eq!(rules(&of(users, false)).len(), 4);
    let found = of(&format!("{users}-A CNI-ADMIN -s 192.0.2.1/32 -j DROP\n"), false);
    assert!(found.ours.is_empty() && found.blind.is_empty() && found.others.len() == 1, "{found:?}");
}

#[test]
fn sets_go_after_the_rules_that_are_ours_and_else_are_told() {
    let calico = "-N cali-FORWARD\n-A FORWARD -m comment --comment cali:a -j cali-FORWARD\n\
        -A cali-FORWARD -s 10.1.0.2/32 -m set --match-set cali40all-ipam-pools src -j ACCEPT\n";
    let of = |text: &str, change: &dyn Fn(&mut Scope)| {
        let mut scope = scope_of(&["a"]);
        scope.network.addresses = [[10, 1, 0, 2].into()].into();
        change(&mut scope);
        let tables = vec![firewall::parse("/usr/sbin/iptables-nft".into(), "filter", text)];
        let sets = ["cali40all-ipam-pools", "calico-own", "xcali40", "KUBER-X"].map(String::from).into();
        of_families(&Firewall { tables, sets, ..Firewall::default() }, &scope, &BTreeSet::new, &|| false)
    };
    let found = of(calico, &|_| {});
    let names: Vec<String> = found.ours.iter().map(ToString::to_string).collect();
    assert_eq!(names.len(), 4, "{found:?}");
    assert_eq!(names[3], "ipset cali40all-ipam-pools", "after what names it");
    let alone = of("", &|_| {});
    assert!(alone.ours.is_empty() && alone.others.is_empty(), "{alone:?}");
    assert!(
        alone.blind[0].what.contains("cali40all-ipam-pools") && alone.blind[0].why.contains("ipset destroy")
    );
    let elsewhere = of(&calico.replace("10.1.0.2", "10.9.0.2"), &|_| {});
    assert!(elsewhere.ours.is_empty(), "{elsewhere:?}");
    let rival = |scope: &mut Scope| {
        scope.network.rivals.insert("calico-node".into(), "another one is alive".into());
    };
    assert!(of(calico, &rival).ours.is_empty() && of(calico, &rival).blind.len() == 1);
    assert!(of("", &rival).blind.is_empty() && of("", &rival).others.len() == 1);
    let unknown = of("", &|scope| scope.network.addresses.clear());
    assert!(unknown.ours.is_empty() && unknown.blind.is_empty() && unknown.others.len() == 1);
}

#[test]
fn a_table_of_cnis_plugins_is_told_where_no_rule_in_it_is_anybody_elses() {
    let of = |comments: &[&str], others_run: bool, known: bool| {
        let mut scope = scope_of(&["abc"]);
        if known {
            scope.network.addresses = [[10, 1, 0, 2].into()].into();
        }
        let (family, table) = ("inet".to_owned(), "cni_plugins_masquerade".to_owned());
        let rule = |comment: &&str| crate::linux::nft::Rule {
            family: family.clone(),
            table: table.clone(),
            comment: comment.to_string(),
            ..Default::default()
        };
        let nft = comments.iter().map(rule).collect();
        let nft_tables = vec![(family.clone(), table.clone()), ("inet".into(), "own".into())];
        let firewall = Firewall { nft, nft_tables, ..Firewall::default() };
        let found = of_families(&firewall, &scope, &BTreeSet::new, &|| others_run);
        assert!(found.ours.is_empty(), "{found:?}");
        assert_eq!(found.blind.len() + found.others.len(), 1, "{found:?}");
        found.blind.first().map(|blind| blind.why.clone())
    };
    let ours = "00-11, net: pods, if: eth0, id: abc";
    for comments in [&[][..], &[ours]] {
        let told = of(comments, false, true).expect("told");
        assert!(told.contains("nft delete table inet cni_plugins_masquerade"), "{told}");
    }
    let others = "00-11, net: pods, if: eth0, id: abd";
    assert_eq!(of(&[ours, others], false, true), None);
    assert_eq!(of(&["a user's own"], false, true), None);
    assert_eq!(of(&[ours], true, true), None);
    assert_eq!(of(&[], false, false), None);
}

#[test]
fn what_a_plugin_wrote_is_told_where_it_has_run_for_us_and_else_is_somebodys() {
    let weave = "-N WEAVE\n-A POSTROUTING -j WEAVE\n-A WEAVE -s 10.1.0.0/16 -j MASQUERADE\n";
    let cilium =
        "-N CILIUM_PRE_nat\n-A PREROUTING -m comment --comment \"cilium: feeder\" -j CILIUM_PRE_nat\n";
    type Evidence = fn(&mut Scope);
    let of_plugin: [(&str, Evidence); 2] = [
        (weave, |scope| _ = scope.network.plugins.insert("weave-net".into())),
        (cilium, |scope| _ = scope.network.plugins.insert("cilium-cni".into())),
    ];
    let of_agent: [(&str, Evidence); 2] = [
        (weave, |scope| scope.containers[0].binds = vec!["/var/lib/weave".into()].into()),
        (cilium, |scope| {
            scope.containers[0].binds = vec!["/var/snap/microk8s/9/var/run/cilium/state".into()].into();
        }),
    ];
    for (text, evidence) in of_plugin.into_iter().chain(of_agent) {
        let found = judged(text, evidence);
        assert!(found.ours.is_empty() && found.blind.len() == 1 && found.others.is_empty(), "{found:?}");
        let found = judged(text, |scope| {
            evidence(scope);
            for maker in ["weaver", "cilium-agent"] {
                scope.network.rivals.insert(maker.into(), "another one is alive".into());
            }
        });
        assert!(found.ours.is_empty() && found.blind.is_empty() && found.others.len() == 1, "{found:?}");
    }
    let near: Evidence = |scope| scope.containers[0].binds = vec!["/var/lib/weaves".into()].into();
    for (text, evidence) in [(weave, (|_| {}) as Evidence), (cilium, |_| {}), (weave, near)] {
        let found = judged(text, evidence);
        assert!(found.ours.is_empty() && found.blind.is_empty() && found.others.len() == 1, "{found:?}");
    }
}
