//! The schema of profiles, and the parser: both take the same.

use serde_json::{Value, json};
use snap_teardown::testing::Profile;

use super::{accept, changes, validator};

const PROFILE: &str = include_str!("../../src/snap/profile/schema.json");
const MICROK8S: &str = include_str!("../../src/snap/profile/microk8s.json");

#[test]
fn profiles_are_valid_and_every_change_of_one_is_rejected() {
    let validator = validator(PROFILE);
    let built_in: Value = serde_json::from_str(MICROK8S).unwrap();
    accept(&validator, &built_in);
    let mut full = built_in.clone();
    full["hooks"] = json!("$SNAP_COMMON/hooks/remove.d");
    full["mounts"] = json!(["$SNAP_COMMON/mnt"]);
    full["patience"] = json!({"drain": 5, "maximum-grace": 50, "hooks": false, "deadline": 100});
    full["containerd"]["runc"] = json!("/run/containerd/runc");
    accept(&validator, &full);
    let profile = Profile::parse(full.to_string().as_bytes(), "test").unwrap();
    accept(&validator, &serde_json::to_value(&profile).unwrap());

    let required = ["schema", "snap", "containerd", "address", "state", "root"];
    let keys = |object: &Value| object.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    let mut optional: Vec<String> = keys(&full);
    optional.extend(
        ["services", "network", "patience", "containerd", "kubelet"].iter().flat_map(|k| keys(&full[*k])),
    );
    optional.retain(|k| !required.contains(&k.as_str()));
    let optional: Vec<&str> = optional.iter().map(String::as_str).collect();
    for (what, changed) in changes(&full, &optional) {
        assert!(!validator.is_valid(&changed), "the schema accepts although {what}");
        let parsed = Profile::parse(changed.to_string().as_bytes(), "test");
        assert!(parsed.is_err(), "the parser accepts although {what}");
    }
}

#[test]
fn the_profile_schema_and_the_parser_agree_on_words_and_paths() {
    let validator = validator(PROFILE);
    let base: Value = serde_json::from_str(MICROK8S).unwrap();
    let edited = |path: &str, value: Value| {
        let mut profile = base.clone();
        *profile.pointer_mut(path).unwrap() = value;
        let parsed = Profile::parse(profile.to_string().as_bytes(), "test").is_ok();
        (validator.is_valid(&profile), parsed)
    };
    for (path, value) in [
        ("/data/0", json!("$SNAP_COMMON/../x")),
        ("/data/0", json!("$SNAP_COMMON/x/")),
        ("/data/0", json!("$SNAP_COMMON//x")),
        ("/data/0", json!("$HOME/x")),
        ("/data/0", json!("relative")),
        ("/data/0", json!("/")),
        ("/data/0", json!("")),
        ("/schema", json!(2)),
        ("/snap", json!("Micro")),
        ("/snap", json!("a--b")),
        ("/snap", json!("7")),
        ("/services/runtime", json!("a b")),
        ("/services/supervisors/0", json!("-a")),
        ("/network/links/0", json!("lo")),
        ("/network/links/0", json!("a/b")),
        ("/network/links/0", json!("sixteen-letters-")),
        ("/network/rule-comments/0", json!("short")),
        ("/host-symlinks/0", json!("/etc/passwd")),
    ] {
        assert_eq!(edited(path, value.clone()), (false, false), "{path} = {value}");
    }
    assert_eq!(edited("/data/0", json!("$SNAP_COMMON/a/..b")), (true, true));
    assert_eq!(edited("/data/0", json!("/var/snap/microk8s/common/x")), (true, true));
}
