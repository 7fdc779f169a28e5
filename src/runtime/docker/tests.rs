use super::*;

#[test]
fn how_a_container_is_to_be_stopped() {
    let record =
        parse(br#"{"ID":"a","Name":"/web","Config":{"Hostname":"x","StopSignal":"SIGINT","StopTimeout":3}}"#);
    let record = record.unwrap();
    assert_eq!(record.name.as_deref(), Some("web"));
    assert_eq!((record.stop_signal, record.termination_grace), (Some(2), Some(3)));
    assert_eq!(parse(br#"{"Config":{"StopSignal":null}}"#), Some(Record::default()));
    let patient = parse(br#"{"Config":{"StopSignal":"SIGINT","StopTimeout":-1}}"#).unwrap();
    assert_eq!((patient.stop_signal, patient.termination_grace), (Some(2), Some(u64::MAX)));
    assert!(parse(b"{").is_none() && parse(br#"{"Config":{"StopSignal":"nonsense"}}"#).is_some());
}

#[test]
fn how_a_container_is_reached() {
    let dir = tempfile::tempdir().unwrap();
    let of = |settings: &str| {
        let labels = r#""Config":{"Labels":{"HostIp":"127.0.0.1","HostPort":"22"}}"#;
        let text = format!("{{{labels},\"NetworkSettings\":{settings}}}");
        crate::fixture::file(dir.path(), "c", &text);
        assert!(parse(text.as_bytes()).is_some(), "{settings}");
        let mut found = Reached::default();
        found.read(&Host::at(dir.path()), Path::new("/c"));
        let ports = found.ports.iter().map(|p| format!("{} {} {}", p.address, p.protocol, p.number));
        (ports.collect::<Vec<_>>(), found.addresses.into_iter().collect::<Vec<_>>())
    };
    let ports = r#""Ports":{"80/tcp":[{"HostIp":"127.0.0.1","HostPort":"49153"},{"HostIp":"::1","HostPort":"49153"}],"90/udp":null}"#;
    let networks = r#""Networks":{"bridge":{"Aliases":["a/b"],"IPAddress":"172.17.0.2"},"none":null,"host":{"IPAddress":""}}"#;
    let own = vec!["172.17.0.2".to_owned()];
    let all = ["127.0.0.1 tcp 49153", "172.17.0.2 tcp 80", "::1 tcp 49153"].map(str::to_owned).to_vec();
    assert_eq!(of(&format!("{{{networks},{ports}}}")), (all, own.clone()));
    assert_eq!(of(&format!("{{{networks}}}")), (vec![], own));
    assert_eq!(of(r#"{"Networks":null,"Ports":null}"#), Default::default());
}

#[test]
fn the_group_that_a_container_was_told_to_be_in() {
    let dir = tempfile::tempdir().unwrap();
    let host = Host::at(dir.path());
    let of = |text: &str| {
        crate::fixture::file(dir.path(), "d/h", text);
        let options = options(&host, Path::new("/d/h")).unwrap().unwrap();
        options.group_of("a").into_iter().map(|group| group.display().to_string()).collect::<Vec<_>>()
    };
    assert_eq!(of(r#"{"CgroupParent":"/x/y","Binds":null}"#), ["/x/y/a"]);
    assert_eq!(of(r#"{"cgroup-parent":"x"}"#), ["/x/a"]);
    assert_eq!(of(r#"{"CgroupParent":"x-y.slice"}"#)[0], "/x.slice/x-y.slice/docker-a.scope");
    assert!(of(r#"{"CgroupParent":""}"#).is_empty() && of(r#"{"CgroupParent":"../x"}"#).is_empty());
    crate::fixture::file(dir.path(), "d/h", "{");
    assert!(options(&host, Path::new("/d/h")).is_err());
    assert_eq!(options(&host, Path::new("/d/none")).unwrap(), None);
}

#[test]
fn its_namespace_may_say_whom_it_maps_users_to() {
    assert!(["moby", "moby-165536.165536"].iter().all(|name| is_namespace(name)));
    assert!(["mob", "moby2", "moby-x", "k8s.io", "plugins.moby"].iter().all(|name| !is_namespace(name)));
}

#[test]
fn its_data_lie_above_its_containerds() {
    let of = |root: &str| data_of(Path::new(root)).map(|data| data.display().to_string());
    assert_eq!(of("/home/u/docker/containerd/daemon").as_deref(), Some("/home/u/docker"));
    assert_eq!(of("/mnt/containerd/daemon"), None, "all of a disk is nobody's alone");
    assert_eq!(of("/var/lib/containerd"), None);
}

#[test]
fn its_places_are_those_of_this_container() {
    let dir = tempfile::tempdir().unwrap();
    let name = |id: &str, layer: &str| {
        let file = format!("d/image/overlay2/layerdb/mounts/{id}/mount-id");
        crate::fixture::file(dir.path(), &file, layer);
    };
    name("a", "l1\n");
    name("b", "l2");
    ["", "..", "l1/..", "/srv"].iter().enumerate().for_each(|(n, odd)| name(&format!("odd{n}"), odd));
    crate::fixture::file(dir.path(), "d/rootfs/overlayfs/b/x", "");
    let of = |id: &str| {
        let mut found = BTreeSet::new();
        places(&Host::at(dir.path()), Path::new("/d"), id, &mut found);
        found.into_iter().map(|path| path.display().to_string()).collect::<Vec<_>>()
    };
    let usual =
        |id: &str| ["containers", "plugins", "rootfs/overlayfs"].map(|kind| format!("/d/{kind}/{id}"));
    let [containers, plugins, rootfs] = usual("a");
    assert_eq!(of("a"), [containers, "/d/overlay2/l1".into(), plugins, rootfs]);
    for odd in ["odd0", "odd1", "odd2", "odd3"] {
        assert_eq!(of(odd), usual(odd), "{odd}");
    }
}

#[test]
fn its_file_lies_beside_those_that_it_has_bound() {
    let of = |bind: &str| {
        let id = ContainerId { namespace: NAMESPACE.into(), id: "a".into() };
        file_of(&id, &["/srv/x".into(), bind.into()]).map(|file| file.display().to_string())
    };
    let file = Some("/d/containers/a/config.v2.json".to_string());
    assert_eq!(of("/d/containers/a/hostname"), file);
    assert_eq!(of("/d/containers/of-another/resolv.conf"), file);
    assert_eq!(of("/d/other/a/hostname"), None);
    assert_eq!(of("/d/containers/a/data"), None);
}
