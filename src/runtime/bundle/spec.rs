//! A bundle's OCI spec: what of it identifies the container. All else is skipped, and nothing is held that is not kept.

use std::fmt;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::json;
use crate::runtime::bundle::Bundle;
use crate::runtime::{ContainerId, Pod, SpecNamespace, cni, groups, shim};
use crate::snap::profile::Roots;

/// As many directories of the host are told of one container.
const MAX_BINDS: usize = 100;
/// Pods and their namespaces have names of 253 characters at most.
const MAX_NAME: usize = 253;

#[derive(Deserialize)]
struct Spec {
    #[serde(default)]
    annotations: Annotations,
    #[serde(default)]
    linux: Linux,
    #[serde(default)]
    mounts: Binds,
    process: Option<Process>,
}

#[derive(Deserialize)]
struct Process {
    capabilities: Option<Capabilities>,
}

#[derive(Deserialize)]
struct Capabilities {
    bounding: Option<Vec<String>>,
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
    namespaces: NetnsPath,
}

/// The directories of the host that a spec binds, as many as are kept, those of them that pass their mounts on to the host,
/// and whether any does, kept or not. All else in a spec's mounts is skipped.
#[derive(Default)]
struct Binds(Vec<PathBuf>, Vec<PathBuf>, bool);

impl<'de> Deserialize<'de> for Binds {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Binds, D::Error> {
        let (mut binds, mut passed_on, mut shares) = (Vec::new(), Vec::new(), false);
        let take = |mount: SpecMount| {
            let source = PathBuf::from(mount.source);
            if mount.kind != "bind" || !source.is_absolute() {
                return;
            }
            let passes_on =
                mount.options.iter().flatten().any(|option| option == "rshared" || option == "shared");
            shares |= passes_on;
            if binds.len() < MAX_BINDS {
                passed_on.extend(passes_on.then(|| source.clone()));
                binds.push(source);
            }
        };
        each(from, take)?;
        Ok(Binds(binds, passed_on, shares))
    }
}

/// The network namespace that a spec names, and whether it names one for IPC.
#[derive(Default)]
struct NetnsPath(Option<PathBuf>, bool);

impl<'de> Deserialize<'de> for NetnsPath {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<NetnsPath, D::Error> {
        let (mut first, mut ipc) = (None, false);
        each(from, |namespace: SpecNamespace| {
            ipc |= namespace.kind == "ipc";
            if namespace.kind == "network" && first.is_none() {
                first = Some(PathBuf::from(namespace.path));
            }
        })?;
        Ok(NetnsPath(first, ipc))
    }
}

/// Takes the members of a list one by one, so that a list is never held that is not kept.
fn each<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    from: D,
    take: impl FnMut(T),
) -> Result<(), D::Error> {
    struct Each<T, F>(F, PhantomData<T>);
    impl<'de, T: Deserialize<'de>, F: FnMut(T)> Visitor<'de> for Each<T, F> {
        type Value = ();

        fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
            f.write_str("a list")
        }

        fn visit_seq<A: SeqAccess<'de>>(mut self, mut list: A) -> Result<(), A::Error> {
            while let Some(member) = list.next_element()? {
                (self.0)(member);
            }
            Ok(())
        }

        // What Go writes for a list that it has not got.
        fn visit_unit<E>(self) -> Result<(), E> {
            Ok(())
        }
    }
    from.deserialize_any(Each(take, PhantomData))
}

#[derive(Deserialize)]
struct SpecMount {
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(default)]
    source: String,
    #[serde(default)]
    options: Option<Vec<String>>,
}

/// Takes from an OCI spec what identifies the container.
pub fn take_spec(bundle: &mut Bundle, bytes: &[u8], container: &ContainerId, roots: &Roots) {
    let spec: Spec = match json::parse(bytes) {
        Ok(spec) => spec,
        Err(e) => return bundle.nonsense.push(format!("config.json of {}: {e}", container.id)),
    };
    bundle.groups = groups::of_spec(&spec.linux.cgroups_path);
    bundle.groups.retain(|g| is_path(g));
    let all = std::mem::take(&mut bundle.groups).into_iter();
    (bundle.groups, bundle.refused) = all.partition(|g| groups::is_group_of(g, &container.id));
    if bundle.groups.is_empty() && !spec.linux.cgroups_path.is_empty() {
        bundle
            .nonsense
            .push(format!("config.json of {}: cgroupsPath does not name the container", container.id));
    }
    let a = spec.annotations;
    let short = |name: &String| name.len() <= MAX_NAME;
    bundle.sandbox = a.sandbox.and_then(|s| shim::name(s.as_bytes()));
    bundle.shim_id = a.group.and_then(|g| shim::name(g.as_bytes())).or_else(|| bundle.sandbox.clone());
    bundle.is_sandbox = a.container_type.as_deref() == Some("sandbox");
    bundle.pod = a.pod_name.filter(short).map(|name| Pod {
        name,
        namespace: a.pod_namespace.filter(short).unwrap_or_default(),
        uid: a.pod_uid.filter(short).unwrap_or_default(),
    });
    bundle.netns = spec.linux.namespaces.0.filter(|p| is_path(p) && cni::is_netns(p, roots));
    bundle.host_ipc = !spec.linux.namespaces.1;
    Binds(bundle.binds, bundle.passed_on, bundle.shares) = spec.mounts;
    let granted = spec.process.and_then(|process| process.capabilities?.bounding);
    bundle.privileged = granted.iter().flatten().any(|capability| capability == "CAP_SYS_ADMIN");
    bundle.binds.retain(|p| is_path(p));
    bundle.passed_on.retain(|p| is_path(p));
}

/// False for what is too long to be one: the kernel takes no longer ones.
fn is_path(path: &Path) -> bool {
    path.as_os_str().len() < 4096
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

    #[test]
    fn of_a_spec_little_is_kept_however_much_it_says() {
        let bind = r#"{"type":"bind","source":"/srv/x","destination":"/y","options":["ro"]}"#;
        let b = spec(&format!(r#"{{"mounts":[{}]}}"#, vec![bind; 5000].join(",")));
        assert_eq!(b.binds.len(), MAX_BINDS);
        assert!(b.passed_on.is_empty() && !b.shares);
        let shared = bind.replace("ro", "rshared");
        let b = spec(
            &format!(r#"{{"mounts":[{bind},{}]}}"#, vec![shared; 5000].join(",")).replacen("/x", "/z", 1),
        );
        assert!(b.passed_on.len() == MAX_BINDS - 1 && b.passed_on[0] == *"/srv/x" && b.shares);
        let long = "p".repeat(MAX_NAME + 1);
        let b = spec(&format!(
            r#"{{"annotations":{{"io.kubernetes.cri.sandbox-name":"{long}"}},"mounts":null}}"#
        ));
        assert!(b.pod.is_none() && b.nonsense.is_empty(), "{b:?}");
    }
}
