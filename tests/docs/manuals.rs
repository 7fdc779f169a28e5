//! The manual pages know what the programs and the schemas know.

use std::process::Command;

use super::root;

/// The manual and the parser know the same keys, and the sample in the manual is a valid profile.
#[test]
fn the_manual_of_the_profile_has_every_key() {
    let manual = std::fs::read_to_string(root().join("snap/local/man/teardown.json.5")).unwrap();
    let schema = std::fs::read_to_string(root().join("src/snap/profile/schema.json")).unwrap();
    let schema: serde_json::Value = serde_json::from_str(&schema).unwrap();
    let mut keys = Vec::new();
    for (key, value) in schema["properties"].as_object().unwrap() {
        match value["properties"].as_object() {
            Some(inner) => keys.extend(inner.keys().map(|k| format!("{key}.{k}"))),
            None => keys.push(key.clone()),
        }
    }
    for key in keys {
        assert!(manual.contains(&format!("\n.BR {key} \"")), "the manual does not explain '{key}'");
    }
    let sample = manual.split(".nf\n").nth(1).and_then(|s| s.split(".fi").next()).unwrap();
    snap_teardown::testing::Profile::parse(sample.as_bytes(), "the manual's sample").unwrap();
    let shipped = std::fs::read(root().join("snap/local/teardown.json")).unwrap();
    snap_teardown::testing::Profile::parse(&shipped, "the reference snap's").unwrap();
}

/// What the manual of the program says is what the program's own help says.
#[test]
fn the_manual_of_the_program_has_every_command_and_option() {
    let manual = std::fs::read_to_string(root().join("snap/local/man/snap-teardown.8")).unwrap();
    let manual = manual.replace("\\-", "-");
    let help = Command::new(env!("CARGO_BIN_EXE_snap-teardown")).arg("--help").output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let words =
        help.split_whitespace().filter(|w| w.starts_with("--")).map(|w| w.trim_matches([',', '.', ']']));
    let commands = [
        "survey",
        "remove",
        "verify",
        "report",
        "report schema",
        "profile check",
        "profile init",
        "profile show",
    ];
    for word in words.chain(commands) {
        assert!(manual.contains(word), "the manual does not know '{word}'");
    }
    for command in ["survey", "remove", "verify", "report", "profile"] {
        let help =
            Command::new(env!("CARGO_BIN_EXE_snap-teardown")).args([command, "--help"]).output().unwrap();
        let text = String::from_utf8(help.stdout).unwrap();
        assert!(help.status.success() && text.contains(&format!("Usage: snap-teardown {command}")), "{text}");
        assert!(text.lines().all(|l| l.chars().count() <= 110), "{command}: lines too long");
    }
}

/// Whoever has found one page finds the others. They all ship: snap/release takes the whole directory, and Cargo.toml does.
#[test]
fn each_manual_page_leads_to_all_others() {
    let files = std::fs::read_dir(root().join("snap/local/man")).unwrap();
    let pages: Vec<_> = files.map(|file| file.unwrap()).collect();
    assert_eq!(pages.len(), 4, "{pages:?}");
    let name = |page: &std::fs::DirEntry| {
        let file = page.file_name().into_string().unwrap();
        let (name, section) = file.rsplit_once('.').unwrap();
        format!(".BR {name} ({section})")
    };
    for page in &pages {
        let text = std::fs::read_to_string(page.path()).unwrap();
        let (_, also) = text.split_once(".SH SEE ALSO\n").unwrap();
        for other in pages.iter().filter(|other| other.path() != page.path()) {
            assert!(also.contains(&name(other)), "{page:?} does not lead to {other:?}");
        }
    }
    let release = std::fs::read_to_string(root().join("snap/release")).unwrap();
    assert!(release.contains("cp snap/local/man/* "));
    let manifest = std::fs::read_to_string(root().join("Cargo.toml")).unwrap();
    assert!(manifest.contains("\"/snap/local/\","));
}
