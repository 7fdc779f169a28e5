use super::*;

fn checked(text: &str) -> std::result::Result<String, String> {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("teardown.json");
    std::fs::write(&file, text).unwrap();
    check(Some(&file)).map_err(|e| e.to_string())
}

const SMALL: &str = r#"{
  "schema": 1,
  "snap": "own",
  "containerd": {
    "address": "$SNAP_COMMON/c.sock",
    "state": "$SNAP_COMMON/state",
    "root": "$SNAP_COMMON/root"
  }
}
"#;

#[test]
fn a_mistake_is_shown_with_its_line() {
    let error = checked(&SMALL.replace("\"state\"", "\"stat\"")).unwrap_err();
    assert!(error.contains("unknown field `stat`") && error.contains("\n    6 |     \"stat\""), "{error}");
    let error = checked(&SMALL.replace("$SNAP_COMMON/root", "/root")).unwrap_err();
    assert!(error.contains("\n    7 |     \"root\": \"/root\""), "{error}");
    let (_, mark) = error.split_once("\n    7 | ").unwrap();
    assert_eq!(mark, "    \"root\": \"/root\"\n                    ^");
    let error = checked("{").unwrap_err();
    assert!(error.contains("\n    1 | {"), "{error}");
}

#[test]
fn a_long_line_is_shown_around_the_mistake() {
    let one_line = SMALL.replace('\n', " ").replace("$SNAP_COMMON/root", "/root");
    let error = checked(&one_line).unwrap_err();
    assert!(error.contains("1 | … ") && error.contains("\"root\": \"/root\""), "{error}");
    let error = checked(&"\0".repeat(3_000_000)).unwrap_err();
    assert!(error.len() < 1000, "{} characters", error.len());
}

#[test]
fn all_mistakes_are_told_in_one_run_in_the_files_order() {
    let text = r#"{
  "schema": 1,
  "snap": 7,
  "containerd": {"address": "/run/x.sock", "sock": "x", "state": "a//b", "root": ["/y"]},
  "kubelet": {"rot": "/x"},
  "patience": {"drain": -3, "deadline": 100000},
  "host_symlinks": [],
  "data": [3, "/etc", "$SNAP_COMMON/x", "/usr"]
}
"#;
    let error = checked(text).unwrap_err();
    let mut rest = error.as_str();
    for mistake in [
        "line 3, column 11: snap: integer `7`",
        "line 4, column 29: containerd.address: \"/run/x.sock\" is neither",
        "column 52: containerd: unknown field `sock` (known here: ",
        "column 66: containerd.state: ",
        "column 82: containerd.root: a list, where a string is expected",
        "line 5, column 14: kubelet: missing field `root`",
        "line 5, column 22: kubelet: unknown field `rot`; did you mean 'root'?",
        "line 6, column 25: patience.drain: ",
        "line 6, column 41: patience.deadline: 100000 is not between",
        "line 7, column 20: unknown field `host_symlinks`; did you mean 'host-symlinks'?",
        "line 8, column 12: data[0]: integer `3`",
        "data[1]: \"/etc\"",
        "data[3]: \"/usr\"",
    ] {
        let at = rest.find(mistake).unwrap_or_else(|| panic!("{mistake} is not in {rest} of\n{error}"));
        rest = &rest[at + mistake.len()..];
    }
    assert!(!rest.contains("column"), "{rest}");
    // What comes after a value that was put right is told of the file, not of the copy.
    assert!(!error.contains("microk8s"), "{error}");
}

#[test]
fn however_many_mistakes_there_are_twenty_are_told() {
    let many = SMALL.replace("\"own\",", &format!("\"own\", \"data\": [{}1],", "2,".repeat(5000)));
    let error = checked(&many).unwrap_err();
    assert!(error.matches(": integer `").count() == 21 && error.contains("perhaps more"), "{error}");
    let deep = format!("{}{}", "{\"kubelet\":".repeat(120), "}".repeat(120));
    assert!(checked(&deep).unwrap_err().len() < 2000);
}

#[test]
fn the_usual_mistakes_have_names() {
    let in_kubelet = |text: &str| SMALL.replace("\"own\",", &format!("\"own\", \"kubelet\": {{{text}}},"));
    let bom = format!("\u{feff}{SMALL}");
    for (text, said) in [
        (bom.as_str(), "byte order mark"),
        (&SMALL.replace("{\n  \"schema\"", "{ // mine\n  \"schema\""), "JSON has no comments"),
        (&SMALL.replace("1,\n", "1, # mine\n"), "JSON has no comments"),
        (&SMALL.replace("\"snap\"", "'snap'"), "JSON has no single quotes"),
        (&SMALL.replace("\"own\"", "'own'"), "JSON has no single quotes"),
        (&in_kubelet(""), "kubelet: missing field `root`\n"),
        (&SMALL.replace("\"root\"", "\"roots\""), "containerd: unknown field `roots`; did you mean 'root'?"),
        (&SMALL.replace("\"schema\"", "\"shema\""), ": unknown field `shema`; did you mean 'schema'?"),
        (&SMALL.replace("\"root\"", "\"shimSockets\""), "did you mean 'shim-sockets'?"),
        ("[]", "line 1, column 1: a list, where an object is expected"),
        (&SMALL.replace("COMMON/root", "COMMON/a\\u0000b"), "is a path with a zero byte"),
    ] {
        let error = checked(text).expect_err(said);
        assert!(error.contains(said), "{said}: {error}");
    }
}

#[test]
fn a_link_is_named_as_one() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("file"), SMALL).unwrap();
    std::os::unix::fs::symlink("file", dir.path().join("link")).unwrap();
    let error = check(Some(&dir.path().join("link"))).unwrap_err().to_string();
    assert!(error.contains("a symbolic link, where a regular file is expected"), "{error}");
}

#[test]
fn what_would_hurt_gets_a_remark() {
    let with = |more: &str| checked(&SMALL.replace("\"own\",", &format!("\"own\", {more},"))).unwrap();
    for data in ["$SNAP_COMMON/var", "$SNAP_COMMON/var/lib/kubelet", "$SNAP_COMMON/k/x"] {
        let kubelet = "\"kubelet\": {\"root\": \"$SNAP_COMMON/k\"}";
        let kubelet = if data.ends_with("var") { &kubelet.replace("/k", "/var/k") } else { kubelet };
        let said = with(&format!("{kubelet}, \"data\": [\"{data}\"]"));
        assert!(said.contains("holds more than containerd's own"), "{data}: {said}");
    }
    // Where the snap keeps its volumes is known, or said; and however it is spelled.
    for (volumes, data) in [
        ("[\"$SNAP_COMMON/default\"]", "$SNAP_COMMON/default-storage"),
        ("[\"$SNAP_DATA/v\"]", "/var/snap/own/x1/v/one"),
    ] {
        let said = |volumes: &str| with(&format!("\"data\": [\"{data}\"]{volumes}")).contains("holds more");
        let named = format!(", \"volumes\": {volumes}");
        assert_eq!([said(""), said(&named)], [data.starts_with('$'), data.starts_with('/')], "{data}");
    }
    let said = with("\"data\": [\"$SNAP_COMMON/root\"], \"network\": {\"links\": [\"cali*\"]}");
    assert!(said.contains("'*', '?' and '['") && !said.contains("holds more"), "{said}");
}

#[test]
fn a_valid_one_gets_remarks() {
    let said = checked(SMALL).unwrap();
    assert!(said.contains("a valid profile for snap 'own'\n") && said.contains("note: no data"), "{said}");
}
