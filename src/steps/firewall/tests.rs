use super::*;
use crate::fixture::scope_of;
use crate::linux::firewall;

const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

#[test]
fn chain_names_are_those_of_the_plugins() {
    // printf '%s' test1234 | sha512sum
    let [masquerade, dnat, _] = chains_of("test", "1234");
    assert_eq!(masquerade, "CNI-2bbe0c48b91a7d1b8a6753a8");
    assert_eq!(dnat, "CNI-DN-2bbe0c48b91a7d1b8a675");
    assert!(is_hash(&masquerade) && is_hash(&dnat));
    for other in ["CNI-HOSTPORT-DNAT", "CNI-FORWARD", "CNI-HOSTPORT-MASQ-0123456789", "KUBE-SERVICES"] {
        assert!(!is_hash(other), "{other}");
    }
}

#[test]
fn ours_by_comment_or_chain_and_nothing_else() {
    let scope = scope_of(&[ID]);
    let chain = "CNI-DN-0000000000000000000ab";
    let text = format!(
        "-P INPUT ACCEPT\n-N CNI-HOSTPORT-DNAT\n-N {chain}\n-N CNI-DN-fffffffffffffffffffff\n\
             -A PREROUTING -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT\n\
             -A CNI-HOSTPORT-DNAT -p tcp -m comment --comment \"dnat name: \\\"n\\\" id: \\\"{ID}\\\"\" -j {chain}\n\
             -A CNI-HOSTPORT-DNAT -p tcp -m comment --comment \"dnat name: \\\"n\\\" id: \\\"9{}\\\"\" -j CNI-DN-fffffffffffffffffffff\n\
             -A {chain} -p tcp -m tcp --dport 8080 -j DNAT --to-destination 10.1.0.2:80\n\
             -A FORWARD -s 10.1.0.0/16 -m comment --comment \"generated for MicroK8s pods\" -j ACCEPT\n\
             -A FORWARD -m comment --comment \"not generated for MicroK8s pods\" -j ACCEPT\n\
             -A FORWARD -j DROP\n",
        &ID[1..]
    );
    let firewall = Firewall {
        tables: vec![firewall::parse("/usr/sbin/iptables-nft".into(), "nat", &text)],
        ..Firewall::default()
    };
    let found: Vec<String> = ours(&firewall, &scope)
        .into_iter()
        .map(|r| match r {
            Residue::Rule(it) => format!("{} {} {}", it.chain, it.rule[0], it.rule.len()),
            other => panic!("{other}"),
        })
        .collect();
    assert_eq!(
        found,
        [
            "false CNI-HOSTPORT-DNAT 9".to_string(),
            format!("false {chain} 11"),
            "false FORWARD 9".into(),
            format!("true {chain} 1"),
        ]
    );
}

#[test]
fn addresses_let_through_are_those_of_our_sandboxes_alone() {
    let mut scope = scope_of(&[ID]);
    scope.network.addresses = ["10.1.0.2", "fd00::2"].map(|a| a.parse().unwrap()).into();
    let ours = |rule: &str| lets_through(&firewall::words(rule).unwrap(), &scope);
    assert!(ours("CNI-FORWARD -s 10.1.0.2/32 -j ACCEPT") && ours("CNI-FORWARD -s fd00::2/128 -j ACCEPT"));
    assert!(ours("CNI-FORWARD -d 10.1.0.2/32 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"));
    for other in [
        "CNI-FORWARD -s 10.1.0.3/32 -j ACCEPT",
        "CNI-FORWARD -s 10.1.0.2/31 -j ACCEPT",
        "CNI-FORWARD -s 10.1.0.2 -j ACCEPT",
        "CNI-FORWARD -s 10.1.0.2/32 -j DROP",
        "CNI-FORWARD -s 10.1.0.2/32 -p tcp -j ACCEPT",
        "FORWARD -s 10.1.0.2/32 -j ACCEPT",
        "CNI-FORWARD -d 10.1.0.2/32 -j ACCEPT",
        "CNI-FORWARD -m comment --comment x -j CNI-ADMIN",
    ] {
        assert!(!ours(other), "{other}");
    }
}

#[test]
fn nft_rules_are_ours_by_the_comments_of_our_sandboxes() {
    let mut scope = scope_of(&[ID]);
    scope.network.networks.insert("net".into());
    scope.network.interfaces.insert("eth0".into());
    let ours = |family: &str, table: &str, comment: &str| {
        let (family, table, comment) = (family.to_owned(), table.to_owned(), comment.to_owned());
        let ids = scope.proven_ids();
        let rule = nft::Rule { family, table, comment, ..nft::Rule::default() };
        is_of_sandbox(&rule, &ids, &LazyCell::new(|| attachments(&scope, &ids)))
    };
    assert!(ours("ip", "cni_hostport", ID) && ours("ip6", "cni_hostport", ID));
    assert!(!ours("ip", "cni_hostport", &ID[1..]) && !ours("ip", "filter", ID));
    // printf '%s' net | sha512sum; printf '%s' "eth0:$ID" | sha512sum
    let hashes = "a4861f4ae9f7d238-848025970da6a998";
    assert!(ours("inet", "cni_plugins_masquerade", &format!("{hashes}, net: net, if: eth0, id: 01")));
    assert!(!ours(
        "inet",
        "cni_plugins_masquerade",
        &format!("0{}, net: net, if: eth0, id: {ID}", &hashes[1..])
    ));
}

#[test]
fn an_id_is_taken_from_a_comment_with_its_quotes() {
    let rule = firewall::words(r#"C -m comment --comment "dnat name: \"n\" id: \"a\\b\"" -j X"#).unwrap();
    assert_eq!(tagged_id(&rule), Some(r"a\b"));
    assert_eq!(value(&rule, "-j"), Some("X"));
}
