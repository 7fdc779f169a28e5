//! What containerd and runc wrote down about a container: its bundle and its runc state.
//!
//! These files are evidence, not orders: a container's author may influence some of what they say (labels,
//! annotations, mounts), a crash may cut them short, and a hostile one may point them elsewhere. What is taken
//! from them is checked here, and again against the machine in `scope`.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::error::Error;
use crate::linux::host::Host;
use crate::runtime::{ContainerId, Pod, SpecNamespace, cni, groups, shim};
use crate::snap::profile::Roots;

/// The directory below containerd's state and root that holds the bundles and work directories.
pub const TASKS: &str = "io.containerd.runtime.v2.task";

/// The state directory of a containerd that was told no other.
const STOCK_STATE: &str = "/run/containerd";

/// What a bundle says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bundle {
    /// Control groups of the container, as paths below a hierarchy's mount point.
    pub groups: Vec<PathBuf>,
    /// The sandbox it belongs to.
    pub sandbox: Option<String>,
    /// The ID under which its shim was started.
    pub shim_id: Option<String>,
    /// True if it is itself a sandbox.
    pub is_sandbox: bool,
    /// Its pod.
    pub pod: Option<Pod>,
    /// The network namespace in its spec.
    pub netns: Option<PathBuf>,
    /// Directories of the host bound into it, by their path on the host.
    pub binds: Vec<PathBuf>,
    /// Where its shim listens, if it is where shims do.
    pub socket: Option<PathBuf>,
    /// What was there and made no sense.
    pub nonsense: Vec<String>,
}

#[derive(Deserialize)]
struct Spec {
    #[serde(default)]
    annotations: Annotations,
    #[serde(default)]
    linux: Linux,
    #[serde(default)]
    mounts: Vec<SpecMount>,
}

#[derive(Deserialize, Default)]
struct Annotations {
    #[serde(rename = "io.kubernetes.cri.sandbox-id")]
    sandbox: Option<String>,
    #[serde(rename = "io.kubernetes.cri.container-type")]
    container_type: Option<String>,
    #[serde(rename = "io.kubernetes.cri.sandbox-name")]
    pod_name: Option<String>,
    #[serde(rename = "io.kubernetes.cri.sandbox-namespace")]
    pod_namespace: Option<String>,
    #[serde(rename = "io.kubernetes.cri.sandbox-uid")]
    pod_uid: Option<String>,
    #[serde(rename = "io.containerd.runc.v2.group")]
    group: Option<String>,
}

#[derive(Deserialize, Default)]
struct Linux {
    #[serde(rename = "cgroupsPath", default)]
    cgroups_path: String,
    #[serde(default)]
    namespaces: Vec<SpecNamespace>,
}

#[derive(Deserialize)]
struct SpecMount {
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(default)]
    source: String,
}

/// All bundles and work directories of a containerd, half-deleted ones included, each once.
pub fn list_bundles(host: &Host, roots: &Roots) -> (Vec<ContainerId>, Vec<Error>) {
    let mut errors = Vec::new();
    let mut found = list_tasks(host, &roots.state, &mut errors);
    found.extend(list_tasks(host, &roots.root, &mut errors));
    found.sort();
    found.dedup();
    (found, errors)
}

/// The containers that have a bundle with the machine's own containerd, where that is not ours. What hides is none.
pub fn list_neighbours(host: &Host, roots: &Roots) -> HashSet<ContainerId> {
    let state = Path::new(STOCK_STATE);
    if state == roots.state {
        return HashSet::new();
    }
    list_tasks(host, state, &mut Vec::new()).into_iter().collect()
}

/// The containers that have a directory below a containerd's state or root.
fn list_tasks(host: &Host, base: &Path, errors: &mut Vec<Error>) -> Vec<ContainerId> {
    let tasks = base.join(TASKS);
    let mut found = Vec::new();
    for namespace in list_names(host, &tasks, errors) {
        let ids = list_names(host, &tasks.join(&namespace), errors).into_iter();
        found.extend(ids.map(|id| ContainerId { namespace: namespace.clone(), id }));
    }
    found
}

/// Names of a directory that containerd could have made. While it deletes one, it calls it `.ID`.
fn list_names(host: &Host, directory: &Path, errors: &mut Vec<Error>) -> Vec<String> {
    match host.list(directory) {
        Ok(names) => names.iter().filter_map(|n| plain_name(n)).collect(),
        Err(e) => {
            errors.push(e);
            Vec::new()
        }
    }
}

fn plain_name(name: &OsStr) -> Option<String> {
    let bytes = name.as_encoded_bytes();
    shim::name(bytes.strip_prefix(b".").unwrap_or(bytes))
}

/// The directories that a container's bundle may have: whole, half deleted, and its work directory.
pub fn bundle_paths(roots: &Roots, container: &ContainerId) -> [PathBuf; 4] {
    let of = |base: &Path, name: String| base.join(TASKS).join(&container.namespace).join(name);
    let hidden = format!(".{}", container.id);
    [
        of(&roots.state, container.id.clone()),
        of(&roots.state, hidden.clone()),
        of(&roots.root, container.id.clone()),
        of(&roots.root, hidden),
    ]
}

/// Reads a bundle. What is missing is missing; what makes no sense is noted and not used.
pub fn read_bundle(host: &Host, roots: &Roots, container: &ContainerId) -> Bundle {
    let mut bundle = Bundle::default();
    let [whole, hidden, ..] = bundle_paths(roots, container);
    let directory = if host.exists(&whole).unwrap_or(false) { whole } else { hidden };
    match host.read(&directory.join("config.json")) {
        Ok(bytes) => take_spec(&mut bundle, &bytes, container, roots),
        Err(e) if e.is_gone() => {}
        Err(e) => bundle.nonsense.push(e.to_string()),
    }
    take_socket(&mut bundle, host, &directory, roots);
    bundle
}

/// Takes from an OCI spec what identifies the container.
pub fn take_spec(bundle: &mut Bundle, bytes: &[u8], container: &ContainerId, roots: &Roots) {
    let spec: Spec = match serde_json::from_slice(bytes) {
        Ok(spec) => spec,
        Err(e) => return bundle.nonsense.push(format!("config.json of {}: {e}", container.id)),
    };
    bundle.groups = groups::of_spec(&spec.linux.cgroups_path);
    bundle.groups.retain(|g| groups::is_group_of(g, &container.id));
    if bundle.groups.is_empty() && !spec.linux.cgroups_path.is_empty() {
        bundle
            .nonsense
            .push(format!("config.json of {}: cgroupsPath does not name the container", container.id));
    }
    let a = spec.annotations;
    bundle.sandbox = a.sandbox.and_then(|s| shim::name(s.as_bytes()));
    bundle.shim_id = a.group.and_then(|g| shim::name(g.as_bytes())).or_else(|| bundle.sandbox.clone());
    bundle.is_sandbox = a.container_type.as_deref() == Some("sandbox");
    bundle.pod = a.pod_name.map(|name| Pod {
        name,
        namespace: a.pod_namespace.unwrap_or_default(),
        uid: a.pod_uid.unwrap_or_default(),
    });
    let network =
        spec.linux.namespaces.into_iter().find(|n| n.kind == "network").map(|n| PathBuf::from(n.path));
    bundle.netns = network.filter(|p| cni::is_netns(p, roots));
    let bound = spec.mounts.into_iter().filter(|m| m.kind == "bind").map(|m| PathBuf::from(m.source));
    bundle.binds = bound.filter(|p| p.is_absolute()).collect();
}

/// 1.6 and 1.7 write `address`, 2.x writes `bootstrap.json`.
fn take_socket(bundle: &mut Bundle, host: &Host, directory: &Path, roots: &Roots) {
    #[derive(Deserialize)]
    struct Bootstrap {
        address: String,
    }
    let text = match host.read(&directory.join("bootstrap.json")) {
        Ok(bytes) => match serde_json::from_slice::<Bootstrap>(&bytes) {
            Ok(bootstrap) => Some(bootstrap.address),
            Err(e) => {
                bundle.nonsense.push(format!("bootstrap.json: {e}"));
                None
            }
        },
        Err(_) => host.read_text(&directory.join("address")).ok(),
    };
    let Some(text) = text else { return };
    let path = PathBuf::from(text.strip_prefix("unix://").unwrap_or(&text));
    let hex = |n: &OsStr| n.len() == 64 && n.as_encoded_bytes().iter().all(u8::is_ascii_hexdigit);
    if path.parent() == Some(&roots.shim_sockets) && path.file_name().is_some_and(hex) {
        bundle.socket = Some(path);
    } else {
        bundle.nonsense.push("the shim's address does not lie where shims listen".into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::roots;

    fn spec(json: &str) -> Bundle {
        let mut bundle = Bundle::default();
        let container = ContainerId { namespace: "k8s.io".into(), id: "abc".into() };
        take_spec(&mut bundle, json.as_bytes(), &container, &roots());
        bundle
    }

    #[test]
    fn a_spec_names_group_sandbox_pod_and_netns() {
        let b = spec(
            r#"{"annotations":{"io.kubernetes.cri.sandbox-id":"abc","io.kubernetes.cri.container-type":"sandbox",
            "io.kubernetes.cri.sandbox-name":"p","io.kubernetes.cri.sandbox-namespace":"default","other":"x"},
            "linux":{"cgroupsPath":"/kubepods/pod1/abc","namespaces":[{"type":"pid"},{"type":"network","path":"/var/run/netns/cni-1"}]}}"#,
        );
        assert_eq!(b.groups, [PathBuf::from("/kubepods/pod1/abc")]);
        assert!(b.is_sandbox && b.nonsense.is_empty());
        assert_eq!(b.shim_id.as_deref(), Some("abc"));
        assert_eq!(b.pod.unwrap().name, "p");
        assert_eq!(b.netns.unwrap(), Path::new("/var/run/netns/cni-1"));
    }

    #[test]
    fn hostile_specs_are_noted_and_not_used() {
        for path in
            ["/", "/system.slice", "/kubepods", "/abc", "/system.slice/ssh.service", "/a/../abc", "/xabc/y"]
        {
            let b = spec(&format!(r#"{{"linux":{{"cgroupsPath":"{path}"}}}}"#));
            assert!(b.groups.is_empty(), "{path}: {:?}", b.groups);
            assert!(!b.nonsense.is_empty(), "{path}");
        }
        assert!(
            spec(r#"{"linux":{"namespaces":[{"type":"network","path":"/etc/passwd"}]}}"#).netns.is_none()
        );
        assert!(!spec("{\"linux\": []").nonsense.is_empty());
        assert!(spec(r#"{"annotations":{"io.kubernetes.cri.sandbox-id":"../x"}}"#).sandbox.is_none());
    }
}
