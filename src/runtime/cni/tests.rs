use super::*;

const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

#[test]
fn a_result_tells_host_links_addresses_and_routes() {
    let text = format!(
        r#"{{"kind":"cniCacheV1","containerId":"{ID}","ifName":"eth0","networkName":"net","result":{{"cniVersion":"0.3.1",
        "interfaces":[{{"name":"cni0","mac":"AA:00:00:00:00:01"}},{{"name":"veth1","mac":"aa:00:00:00:00:02"}},
        {{"name":"eth0","sandbox":"/var/run/netns/cni-1"}}],"ips":[{{"address":"10.1.2.3/24","interface":2}}],
        "routes":[{{"dst":"0.0.0.0/0"}},{{"dst":"10.1.0.0/16"}}]}}}}"#
    );
    let name = format!("net-{ID}-eth0");
    let a = parse(text.as_bytes(), &name, ID).unwrap();
    assert_eq!((a.network.as_str(), a.interface.as_str()), ("net", "eth0"));
    assert_eq!(a.netns.as_deref(), Some(Path::new("/var/run/netns/cni-1")));
    assert_eq!(a.host_links[0], ("cni0".into(), "aa:00:00:00:00:01".into()));
    assert_eq!((a.host_links.len(), a.addresses.len()), (2, 1));
    assert_eq!(a.routes, [("10.1.0.0".parse().unwrap(), 16)]);
    assert!(parse(text.as_bytes(), &name, "other").is_none());
    for other in [format!("net-{ID}-eth1"), format!("n-et-{ID}-eth0"), format!("net-{ID}-eth0-"), ID.into()] {
        assert!(parse(text.as_bytes(), &other, ID).is_none(), "{other}");
    }
    for cut in 0..text.len() {
        assert!(parse(&text.as_bytes()[..cut], &name, ID).is_none(), "{cut}");
    }
    let bare = r#"{"ips":[{"address":"fd00::2/64"},{"address":"nonsense"}]}"#;
    let old = parse(bare.as_bytes(), &name, ID).unwrap();
    assert_eq!((old.addresses.len(), old.network.as_str(), old.interface.as_str()), (1, "net", "eth0"));
    assert!(parse(bare.as_bytes(), "net-eth0-x", "eth0").is_none(), "an ID that may be any word");
}

#[test]
fn files_of_others_are_left_out() {
    let dir = tempfile::tempdir().unwrap();
    let other = ID.replace('0', "9");
    for name in ["results", "networks/net", "networks/odd"] {
        std::fs::create_dir_all(dir.path().join(name)).unwrap();
    }
    for (name, content) in [
        (
            format!("results/a-net-{ID}-eth0"),
            format!(r#"{{"containerId":"{ID}","networkName":"a-net","ifName":"eth0","result":{{}}}}"#),
        ),
        // Another's, in a network that is called like ours.
        (
            format!("results/{ID}-{other}-eth0"),
            format!(r#"{{"containerId":"{other}","networkName":"{ID}","ifName":"eth0","result":{{}}}}"#),
        ),
        (
            format!("results/net-{other}-eth0"),
            format!(r#"{{"containerId":"{other}","result":{{"ips":[{{"address":"10.9.0.2/24"}}]}}}}"#),
        ),
        ("results/garbage".into(), "{".into()),
        ("networks/net/10.1.0.2".into(), format!("{ID}\r\neth0")),
        ("networks/net/10.1.0.3".into(), format!("{other}\r\neth0")),
        ("networks/net/10.1.0.4".into(), format!("{other}\n{ID}")),
        ("networks/net/last_reserved_ip.0".into(), ID.into()),
        ("networks/net/lock".into(), ID.into()),
        ("networks/file".into(), ID.into()),
    ] {
        std::fs::write(dir.path().join(name), content).unwrap();
    }
    let host = Host::at(dir.path());
    let ids = HashSet::from([ID, "a", "net", "eth0", "k8s"]);
    let found = results(&host, Path::new("/"), &ids);
    let ours: Vec<_> = found.ours.iter().map(|(file, id, _)| (file.clone(), id.as_str())).collect();
    assert_eq!(ours, [(PathBuf::from(format!("/results/a-net-{ID}-eth0")), ID)]);
    assert!(found.errors.is_empty());
    let others: Vec<_> = found.others.iter().flat_map(|a| a.addresses.clone()).collect();
    assert_eq!(others, [("10.9.0.2".parse::<IpAddr>().unwrap(), 24)]);
    let names = BTreeSet::from(["net".to_string()]);
    std::os::unix::fs::symlink(
        dir.path().join("networks/net/10.1.0.2"),
        dir.path().join("networks/net/10.1.0.5"),
    )
    .unwrap();
    let found = leases(&host, Path::new("/networks"), &ids, &names, &|_| false);
    assert_eq!(found.files, [PathBuf::from("/networks/net/10.1.0.2")]);
    assert!(found.errors.is_empty() && found.directories.is_empty(), "{found:?}");
    for other in ["networks/net/10.1.0.3", "networks/net/10.1.0.4", "networks/net/10.1.0.5"] {
        std::fs::remove_file(dir.path().join(other)).unwrap();
    }
    let found = leases(&host, Path::new("/networks"), &ids, &names, &|_| false);
    assert_eq!(found.files.len(), 3, "the plugin's own files go last");
    assert_eq!(found.directories, [PathBuf::from("/networks/net")]);
    let unnamed = |ids| leases(&host, Path::new("/networks"), ids, &BTreeSet::new(), &|_| false);
    assert_eq!(unnamed(&ids).files.len(), 3, "a lease of ours tells, too");
    assert!(unnamed(&HashSet::new()).files.is_empty());
}

#[test]
fn ids_with_dashes_are_found_whole() {
    let ids = HashSet::from(["my-app", "app", "k8s"]);
    let found: Vec<_> = ids_in("k8s-pod-network-my-app-eth0", &ids).collect();
    assert_eq!(found, ["my-app", "app"]);
    assert_eq!(ids_in(&"-".repeat(5000), &ids).count(), 0);
    assert_eq!(lessee(b"a b"), Some("a b"));
    for odd in [&b"id\nmore than an interface has\n"[..], b"id\neth0\nmore", b"id\n../x", b"\xff"] {
        assert_eq!(lessee(odd), None);
    }
    assert_eq!((lessee(b"id"), lessee(b"id\r\neth0\r\n")), (Some("id"), Some("id")));
}

#[test]
fn files_that_plugins_keep_for_our_sandboxes() {
    let dir = tempfile::tempdir().unwrap();
    let other = ID.replace('0', "9");
    for name in [
        format!("var/cni/multus/{ID}"),
        format!("var/cni/multus/{other}"),
        format!("var/cni/sriov/{ID}-net1"),
        format!("var/cni/results/net-{ID}-eth0"),
        "var/cni/flannel/web-1".into(),
        "var/cni/flannel/web".into(),
        format!("run/cni/tuning/{ID}_eth0.json"),
        format!("run/cni/tuning/x{ID}_eth0.json"),
        format!("srv/told/{ID}"),
    ] {
        crate::fixture::file(dir.path(), &name, "");
    }
    let mut errors = Vec::new();
    let told = BTreeSet::from(["/srv/told".into()]);
    let ids = HashSet::from([ID, "web"]);
    let found = notes(&Host::at(dir.path()), Path::new("/var/cni"), &told, &ids, &mut errors);
    let files = [
        format!("/run/cni/tuning/{ID}_eth0.json"),
        format!("/srv/told/{ID}"),
        "/var/cni/flannel/web".into(),
        format!("/var/cni/multus/{ID}"),
        format!("/var/cni/sriov/{ID}-net1"),
    ];
    assert_eq!(found.0, files.map(PathBuf::from));
    assert_eq!(found.1, ["/srv/told", "/var/cni/sriov"].map(PathBuf::from));
    assert!(errors.is_empty(), "{errors:?}");
}
