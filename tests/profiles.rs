//! The profile's schema and the program say the same of ten thousand profiles, each with one thing changed: what the program
//! takes, the schema takes; what only the program refuses is what no schema can tell.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use serde_json::{Value, json};
use snap_teardown::testing::Profile;

const MUTATIONS: usize = 10_000;

/// Everything that a profile can have.
fn whole() -> Value {
    json!({
        "schema": 1,
        "snap": "own",
        "containerd": {
            "address": "$SNAP_COMMON/c.sock", "state": "$SNAP_COMMON/state", "root": "/var/lib/containerd",
            "shim-sockets": "/run/containerd/s", "runc": "/run/containerd/runc", "fifos": "/run/snap.$SNAP_INSTANCE_NAME/fifo",
            "ctr": "$SNAP/bin/ctr", "told-by": ["$SNAP_DATA/args"],
        },
        "kubelet": {"root": "/var/lib/kubelet", "told-by": ["$SNAP_DATA/kubelet"], "logs": true},
        "services": {"runtime": "containerd", "supervisors": ["kubelet"]},
        "mounts": ["$SNAP_COMMON/mnt"],
        "network": {
            "links": ["cni0"], "rule-comments": ["made by own"], "iptables": "$SNAP/sbin", "cni": "/var/lib/cni",
            "netns": "/run/netns",
        },
        "host-symlinks": ["/var/lib/kubelet"],
        "data": ["$SNAP_COMMON/root"],
        "volumes": ["$SNAP_COMMON/volumes"],
        "hooks": "$SNAP_COMMON/hooks",
        "patience": {"drain": 5, "maximum-grace": 50, "hooks": false, "deadline": 100},
    })
}

/// What a value is changed to.
fn others() -> Vec<Value> {
    let words = [
        "",
        "x",
        "lo",
        "cali*",
        "a b",
        "-a",
        "a--b",
        "A",
        "ééééééé",
        "éééééééé",
        "sixteen-letters-",
        "/",
        "$SNAP",
        "$SNAP/",
        "$SNAP/x",
        "$SNAP_COMMON",
        "$SNAP_COMMON/x",
        "$SNAP_COMMON/x/",
        "$SNAP_COMMON//x",
        "$SNAP_COMMON/./x",
        "$SNAP_COMMON/../x",
        "$SNAP_COMMON/..x",
        "$SNAP_COMMON/a$b",
        "$SNAP_COMMON/a\0b",
        "$SNAP_COMMONS/x",
        "$SNAP_DATA",
        "$SNAP_DATA/x",
        "$SNAP_DATA/x/..",
        "$HOME/x",
        "x/y",
        "/etc",
        "/run/containerd",
        "/run/containerd/x",
        "/run/containerds",
        "/run/netns",
        "/var/lib/kubelet/x",
        "/var/lib/cni",
        "/run/snap.$SNAP_INSTANCE_NAME/x",
        "/run/snap.$SNAP_INSTANCE_NAME",
        "/run/snap.$SNAP_NAME/x",
        "/run/snap.own/x",
        "/run/snap.other/x",
        "/var/snap/own/common/x",
        "/var/snap/own/common",
        "/var/snap/other/common/x",
        "/snap/own/x1/x",
        "/snap/own/x1",
        "/snap/other/x1/x",
    ];
    let numbers = [
        json!(0),
        json!(1),
        json!(2),
        json!(7),
        json!(100),
        json!(101),
        json!(540),
        json!(541),
        json!(-1),
        json!(1.5),
        json!(1e30),
    ];
    let odd = [
        json!(null),
        json!(true),
        json!(false),
        json!([]),
        json!({}),
        json!([[]]),
        json!(["x"]),
        json!([7]),
        json!([null]),
        json!({"x": 1}),
    ];
    words.iter().map(|word| json!(word)).chain(numbers).chain(odd).collect()
}

/// A number that only looks random, so that every run is the same.
struct Dice(u64);

impl Dice {
    fn below(&mut self, most: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % most
    }
}

fn places(value: &Value, at: String, found: &mut Vec<String>) {
    match value {
        Value::Object(map) => map.iter().for_each(|(key, below)| places(below, format!("{at}/{key}"), found)),
        Value::Array(list) => {
            list.iter().enumerate().for_each(|(n, below)| places(below, format!("{at}/{n}"), found))
        }
        _ => {}
    }
    found.push(at);
}

/// One change: another value, a list of it, a key less, a key more, or an object's values as a list.
fn mutated(dice: &mut Dice, base: &Value, all: &[String], others: &[Value]) -> Value {
    let mut profile = base.clone();
    let place = &all[dice.below(all.len())];
    let other = others[dice.below(others.len())].clone();
    let target = profile.pointer_mut(place).unwrap();
    match (dice.below(6), target.as_object_mut()) {
        (0, Some(map)) => {
            let key = map.keys().nth(dice.below(map.len())).unwrap().clone();
            map.remove(&key);
        }
        (1, Some(map)) => drop(map.insert("more".into(), other)),
        (2, Some(map)) => *target = map.values().cloned().collect(),
        (3, None) => *target = json!([other]),
        _ => *target = other,
    }
    profile
}

/// What a schema cannot tell: whose snap a path names, and that one number is above another.
fn no_schema_tells(error: &str) -> bool {
    let names_a_snap = ["\"/var/snap/", "\"/run/snap.", "\"/snap/"].iter().any(|path| error.contains(path));
    names_a_snap || error.contains("is more than the deadline")
}

#[test]
fn the_schema_and_the_program_agree_on_ten_thousand_mutations() {
    let schema: Value = serde_json::from_str(include_str!("../src/snap/profile/schema.json")).unwrap();
    let validator = jsonschema::draft202012::new(&schema).unwrap();
    let (base, others, mut all) = (whole(), others(), Vec::new());
    places(&base, String::new(), &mut all);
    let mut dice = Dice(7);
    let (mut taken, mut disagreements) = (0, Vec::new());
    for _ in 0..MUTATIONS {
        let profile = mutated(&mut dice, &base, &all, &others);
        let parsed = Profile::parse(profile.to_string().as_bytes(), "test").map_err(|e| e.to_string());
        taken += usize::from(parsed.is_ok());
        match (validator.is_valid(&profile), parsed) {
            (true, Ok(_)) | (false, Err(_)) => {}
            (true, Err(error)) if no_schema_tells(&error) => {}
            (true, Err(error)) => disagreements.push(format!("only the schema takes it: {error}")),
            (false, Ok(_)) => {
                let error = validator.iter_errors(&profile).next().unwrap();
                disagreements.push(format!("only the program takes it: {}: {error}", error.instance_path()));
            }
        }
    }
    disagreements.sort();
    disagreements.dedup();
    assert!(disagreements.is_empty(), "{disagreements:#?}");
    assert!(
        (500..MUTATIONS / 2).contains(&taken),
        "{taken} of {MUTATIONS} are taken: the mutations test little"
    );
}

/// A wrong one among several hides none after it; a file may be called like the word for standard input.
#[test]
fn several_files_are_checked_each_by_itself() {
    let dir = tempfile::tempdir().unwrap();
    let put = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
    put("wrong", "{");
    put("-", &whole().to_string());
    let checked = |files: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_snap-teardown"));
        let output = command.args(["profile", "check"]).args(files).current_dir(dir.path()).output().unwrap();
        let said =
            |bytes: &[u8]| String::from_utf8_lossy(bytes).lines().filter(|l| l.contains("profile")).count();
        (output.status.code(), said(&output.stdout), said(&output.stderr))
    };
    assert_eq!(checked(&["./-", "./-"]), (Some(0), 2, 0));
    assert_eq!(checked(&["wrong", "./-", "no-such-file"]), (Some(2), 1, 1));
    // Nothing comes from standard input here, and so no profile.
    assert_eq!(checked(&["-", "./-"]), (Some(2), 1, 1));
}

/// The packager's guide is no example of what 'profile check' has to remark on.
#[test]
fn the_guides_own_lines_draw_no_note() {
    let guide = include_str!("../snap/local/README.md");
    let lines = &guide[guide.find("+{\"schema\"").unwrap()..];
    let lines = lines.split("```").next().unwrap().replace("\n+", "\n").replace("NAME", "own");
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &lines[1..]).unwrap();
    let program = env!("CARGO_BIN_EXE_snap-teardown");
    let output =
        std::process::Command::new(program).args(["profile", "check"]).arg(file.path()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        said.ends_with("a valid profile for snap 'own'\n"),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
