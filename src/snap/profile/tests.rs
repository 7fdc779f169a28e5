use super::*;
use std::path::PathBuf;

fn edited(edit: impl FnOnce(&mut serde_json::Value)) -> Result<Profile> {
    let mut value: serde_json::Value = serde_json::from_str(MICROK8S).unwrap();
    edit(&mut value);
    Profile::parse(serde_json::to_string_pretty(&value).unwrap().as_bytes(), "test")
}

#[test]
fn the_built_in_profile_is_valid_and_names_no_user_data() {
    let profile = Profile::built_in("microk8s").unwrap().unwrap();
    let roots = profile.resolve(&Snap::stand_in("microk8s")).unwrap();
    assert_eq!(
        roots.data,
        ["/var/snap/microk8s/common/var/lib/containerd", "/var/snap/microk8s/common/run/containerd"]
            .map(PathBuf::from)
    );
    assert_eq!(roots.mounts.len(), 3);
}

#[test]
fn the_other_built_in_profiles_are_valid_and_delete_nothing_of_users() {
    for name in ["docker", "k8s"] {
        let profile = Profile::built_in(name).unwrap().unwrap();
        let roots = profile.resolve(&Snap::stand_in(name)).unwrap();
        let snap = Snap::stand_in(name);
        let is_at_run =
            |path: &PathBuf| snap.owns_at_run(path) && path.file_name() != Some("teardown.json".as_ref());
        assert!(roots.data.iter().all(is_at_run) && roots.host_symlinks.is_empty(), "{name}: {roots:?}");
        assert!(roots.shared.contains(&roots.state), "{name}");
    }
    let docker = Profile::built_in("docker").unwrap().unwrap();
    let snap = Snap { instance: "docker_two".into(), ..Snap::stand_in("docker") };
    let roots = docker.resolve(&snap).unwrap();
    assert_eq!(roots.netns, PathBuf::from("/run/snap.docker_two/netns"));
    assert_eq!(roots.address, PathBuf::from("/run/snap.docker_two/containerd/containerd.sock"));
    for bad in ["/run/snap.$SNAP_INSTANCE_NAMES/x", "/run/$SNAP_INSTANCE_NAME/x", "/run/snap.$SNAP_NAME/x"] {
        assert!(edited(|p| p["network"]["netns"] = bad.into()).is_err(), "{bad}");
    }
}

#[test]
fn no_profile_makes_a_foreign_directory_removable() {
    for bad in [
        "/",
        "/etc",
        "/home/me",
        "/root",
        "/var",
        "/var/snap",
        "/var/snap/other/common/x",
        "/var/snap/microk8s",
        "/var/snap/microk8s/common",
        "$SNAP_COMMON",
        "$SNAP_DATA",
        "$HOME/x",
        "relative",
        "",
        "$SNAP_COMMON/../x",
        "$SNAP_COMMON/x/",
        "$SNAP_COMMON//x",
        "$SNAP_COMMON/./x",
        "/var/snap/microk8s2/common/x",
        "/run/containerd",
        "/var/lib/containerd",
        "$SNAP_COMMONS/x",
        "/var/snap/microk8s/common/../../other",
        "$SNAP/x",
        "/run/snap.$SNAP_INSTANCE_NAME/",
        "/run",
        "/run/snap.microk8s2",
        "/run/snap.microk8s2/x",
        "/run/snap.$SNAP_INSTANCE_NAMES",
    ] {
        let error = edited(|p| p["data"] = serde_json::json!([bad])).expect_err(bad);
        assert!(matches!(error, Error::Profile { .. }), "{bad}: {error}");
    }
}

#[test]
fn a_mistake_is_named_with_its_line() {
    let error = edited(|p| p["mounts"] = serde_json::json!(["/etc"])).unwrap_err().to_string();
    assert!(error.contains("line 30, column 5: mounts[0]: \"/etc\" is not below $SNAP_COMMON"), "{error}");
    let error = edited(|p| p["colour"] = 1.into()).unwrap_err().to_string();
    assert!(error.contains("unknown field `colour`") && error.contains("line"), "{error}");
    // The same value twice, one of them allowed; a value in other letters than it means; keys that are not there.
    for (text, said) in [
        (
            "\n\"containerd\": {\"address\": \"/etc\", \"state\": \"/run/containerd\", \"root\": \"/etc\"}",
            "line 2, column 27: containerd.address: \"/etc\" is neither",
        ),
        (
            "\n\"containerd\": {\"address\": \"/run/containerd/s\", \"state\": \"/run/containerd\", \"root\": \"\\u002fetc\"}",
            "line 2, column 84: containerd.root: \"/etc\" is neither",
        ),
        (
            "\n\"containerd\": {\"address\": 7, \"state\": \"/run/containerd\", \"root\": \"/x\"}",
            "containerd.address: integer `7`, where a string is expected",
        ),
        ("\n\"network\": {\"links\": \"cni0\"}", "network.links: string \"cni0\", where a list is expected"),
        ("\n\"patience\": {\"drain\": [3]}", "patience.drain: a list, where a whole number is expected"),
        ("\n\"containerd\": {\"address\": \"/x\"}", "line 2, column 31: missing field `state`"),
    ] {
        let error =
            Profile::parse(format!("{{\"schema\": 1, \"snap\": \"own\", {text}}}").as_bytes(), "test");
        let error = error.expect_err(text).to_string();
        assert!(error.contains(said), "{error}");
    }
    for (change, said) in [
        ("schema", "schema: version 2 is"),
        ("snap", "snap: \"2\" is not"),
        ("patience", "patience.deadline: 0"),
    ] {
        let value = match change {
            "schema" => 2.into(),
            "snap" => "2".into(),
            _ => serde_json::json!({"deadline": 0}),
        };
        let error = edited(|p| p[change] = value).unwrap_err().to_string();
        assert!(error.contains("line ") && error.contains(said), "{error}");
    }
}

#[test]
fn volumes_are_the_usual_ones_unless_they_are_named() {
    let volumes = |profile: Profile| profile.resolve(&Snap::stand_in("microk8s")).unwrap().volumes;
    let usual = volumes(edited(|_| {}).unwrap());
    assert!(
        usual.len() == 4 && usual.contains(&"/var/snap/microk8s/common/default-storage".into()),
        "{usual:?}"
    );
    let named = edited(|p| p["volumes"] = serde_json::json!(["$SNAP_DATA/v", "$SNAP_DATA/v"])).unwrap();
    assert_eq!(volumes(named), [PathBuf::from("/var/snap/microk8s/x1/v")]);
    assert!(volumes(edited(|p| p["volumes"] = serde_json::json!([])).unwrap()).is_empty());
    assert!(edited(|p| p["volumes"] = serde_json::json!(["/srv"])).is_err());
}

#[test]
fn patience_stays_below_snapds() {
    assert!(edited(|p| p["patience"] = serde_json::json!({"deadline": 541})).is_err());
    assert!(edited(|p| p["patience"] = serde_json::json!({"drain": 100, "deadline": 99})).is_err());
    assert!(edited(|p| p["patience"] = serde_json::json!({"drain": 0, "deadline": 540})).is_ok());
}

#[test]
fn words_are_checked() {
    assert!(edited(|p| p["network"]["links"] = serde_json::json!(["lo"])).is_err());
    assert!(edited(|p| p["network"]["links"] = serde_json::json!(["a/b"])).is_err());
    assert!(edited(|p| p["network"]["rule-comments"] = serde_json::json!([""])).is_err());
    assert!(edited(|p| p["services"]["runtime"] = "a b".into()).is_err());
    assert!(edited(|p| p["snap"] = "Micro".into()).is_err());
    assert!(edited(|p| p["schema"] = 2.into()).is_err());
}
