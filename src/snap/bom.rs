//! Which containerd the snap ships, as its own bill of materials says.
//!
//! Snaps of Canonical's Kubernetes have one, `$SNAP/bom.json`. Others have snapcraft's manifest, `$SNAP/snap/manifest.yaml`, if
//! Launchpad has built them: it names the tag that the source of each part was taken from, so of the part `containerd` (docker's
//! snap has one) it is the version. Nothing else says it without a program that is started:
//! containerd's database does not have it, the build information of its binary mostly not (`-trimpath` leaves it out), and
//! its socket answers only while it lives, which a hook does not see.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::value::RawValue;

use crate::json;
use crate::linux::host::Host;

/// Those of today have some 10 KB.
const LARGEST: u64 = 1 << 20;

/// The version of containerd in the snap whose files lie there, if it says so.
pub fn containerd(host: &Host, snap: &Path) -> Option<String> {
    let told = in_bill(host, snap).or_else(|| in_manifest(host, snap));
    told.filter(|version| (1..100).contains(&version.len()))
}

/// snapcraft writes each key in a line of its own, two spaces further in than what it belongs to; text in a value lies further
/// in.
fn in_manifest(host: &Host, snap: &Path) -> Option<String> {
    let bytes = host.read_at_most(&snap.join("snap/manifest.yaml"), LARGEST).ok()?;
    let (mut in_parts, mut in_part) = (false, false);
    let mut tag = None;
    for line in std::str::from_utf8(&bytes).ok()?.lines() {
        let depth = line.len() - line.trim_start_matches(' ').len();
        match depth {
            _ if line.is_empty() => {}
            0 => (in_parts, in_part) = (line == "parts:", false),
            2 => in_part = in_parts && line == "  containerd:",
            4 if in_part && tag.is_none() => tag = line.strip_prefix("    source-tag: "),
            _ => {}
        }
    }
    let tag = tag?.trim_matches(['\'', '"']);
    // It may be a branch's name, or anything.
    tag.trim_start_matches('v').starts_with(|c: char| c.is_ascii_digit()).then(|| tag.to_owned())
}

fn in_bill(host: &Host, snap: &Path) -> Option<String> {
    let bytes = host.read_at_most(&snap.join("bom.json"), LARGEST).ok()?;
    let mut part: BTreeMap<String, &RawValue> = json::parse(&bytes).ok()?;
    for name in ["components", "containerd"] {
        part = json::parse(part.get(name).copied()?.get().as_bytes()).ok()?;
    }
    json::parse(part.get("version")?.get().as_bytes()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::file;

    #[test]
    fn of_a_snap_without_a_bill_the_tag_of_the_part_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::at(dir.path());
        let told = |text: &str| {
            file(dir.path(), "snap/docker/7/snap/manifest.yaml", text);
            containerd(&host, Path::new("/snap/docker/7"))
        };
        let whole = "name: docker\napps:\n  containerd:\n    source-tag: no\nparts:\n  engine:\n    source-tag: v29\n  containerd:\n    plugin: make\n    override-build: |\n      \
                     source-tag: v1\n\n      x\n    source-tag: v2.2.2\n  runc:\n    source-tag: v1.3.4\n";
        assert_eq!(told(whole).as_deref(), Some("v2.2.2"));
        assert_eq!(told(&whole.replace("v2.2.2", "'2.2.2'")).as_deref(), Some("2.2.2"));
        for (of, other) in [
            ("  containerd:\n    plugin", "  containers:\n    plugin"),
            ("    source-tag: v2.2.2\n", ""),
            ("parts:\n", ""),
            ("v2.2.2", "''"),
            ("v2.2.2", "main"),
        ] {
            assert_eq!(told(&whole.replace(of, other)), None, "{of}");
        }
        // Parts end where another key begins.
        assert_eq!(told("parts:\n  engine: {}\nx:\n  containerd:\n    source-tag: v1\n"), None);
        file(
            dir.path(),
            "snap/docker/7/bom.json",
            r#"{"components": {"containerd": {"version": "v2.1.6"}}}"#,
        );
        assert_eq!(told(whole).as_deref(), Some("v2.1.6"));
    }

    #[test]
    fn the_version_is_the_one_of_containerd_among_the_components() {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::at(dir.path());
        let told = |text: &str| {
            file(dir.path(), "snap/microk8s/7/bom.json", text);
            containerd(&host, Path::new("/snap/microk8s/7"))
        };
        assert_eq!(containerd(&host, Path::new("/snap/microk8s/7")), None);
        let whole = r#"{"microk8s": {"version": "HEAD", "revision": "0"}, "tools": {"go": ["go version go1.26"]},
            "components": {"cni": {"version": "v1.9"}, "containerd": {"repository": "x", "version": "v2.1.6", "patches": ["a"]}},
            "addons": {"core": {"version": "1.36"}}}"#;
        assert_eq!(told(whole).as_deref(), Some("v2.1.6"));
        for none in
            ["{}", "[]", "x", r#"{"components": {"containerd": {}}}"#, r#"{"containerd": {"version": "1"}}"#]
        {
            assert_eq!(told(none), None, "{none}");
        }
        assert_eq!(told(&whole.replace("v2.1.6", "")), None);
    }
}
