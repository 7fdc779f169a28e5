//! Which containerd the snap ships, as its own bill of materials says.
//!
//! Snaps of Canonical's Kubernetes have one, `$SNAP/bom.json`. Nothing else says it without a program that is started:
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
    let bytes = host.read_at_most(&snap.join("bom.json"), LARGEST).ok()?;
    let mut part: BTreeMap<String, &RawValue> = json::parse(&bytes).ok()?;
    for name in ["components", "containerd"] {
        part = json::parse(part.get(name).copied()?.get().as_bytes()).ok()?;
    }
    let version: String = json::parse(part.get("version")?.get().as_bytes()).ok()?;
    (1..100).contains(&version.len()).then_some(version)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::file;

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
