//! What CRI says of a container and of a sandbox: JSON in a frame, as the stores of containerd's CRI plugin write it
//! (containerd `internal/cri/store/container/metadata.go` and `store/sandbox/metadata.go`; `pkg/cri/store` before 2.0).
//!
//! The outer names are those of Go's fields, the inner ones those of the CRI's protobuf messages.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::{LONGEST_JSON, LONGEST_TEXT, Link, Pod, PreStop, Record, Sandbox, any};
use crate::runtime::{pre_stop, shim, stop_signal};

/// The ends of the names of the types that are read here; what stands before them is the module's path.
const CONTAINER: &str = "/store/container/Metadata";
const SANDBOX: &str = "/store/sandbox/Metadata";
const SPEC: &str = "/runtime-spec/1/Spec";

/// So many addresses, and so many links, of one sandbox are kept.
const MOST_ADDRESSES: usize = 16;

/// `NODE` of the CRI's `NamespaceMode`.
const OF_THE_NODE: i32 = 2;

/// The version that containerd itself insists on.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Versioned<T> {
    version: String,
    metadata: T,
}

#[derive(Deserialize)]
struct Container {
    #[serde(rename = "ID")]
    id: String,
    #[serde(rename = "SandboxID", default)]
    sandbox: String,
    #[serde(rename = "StopSignal", default)]
    stop_signal: String,
    #[serde(rename = "Config", default, deserialize_with = "or_default")]
    config: ContainerConfig,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct ContainerConfig {
    metadata: Named,
    labels: Labels,
    annotations: Annotations,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Named {
    name: String,
    namespace: String,
    uid: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Labels {
    #[serde(rename = "io.kubernetes.pod.name")]
    pod: String,
    #[serde(rename = "io.kubernetes.pod.namespace")]
    namespace: String,
    #[serde(rename = "io.kubernetes.pod.uid")]
    uid: String,
    #[serde(rename = "io.kubernetes.container.name")]
    container: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Annotations {
    #[serde(rename = "io.kubernetes.pod.deletionGracePeriod")]
    deletion: Option<String>,
    #[serde(rename = "io.kubernetes.pod.terminationGracePeriod")]
    termination: Option<String>,
    #[serde(rename = "io.kubernetes.container.preStopHandler")]
    pre_stop: Option<String>,
    #[serde(rename = "io.kubernetes.container.ports")]
    ports: Option<String>,
}

#[derive(Deserialize)]
struct SandboxOf {
    #[serde(rename = "ID")]
    id: String,
    #[serde(rename = "NetNSPath", default)]
    netns: String,
    #[serde(rename = "IP", default)]
    address: String,
    #[serde(rename = "AdditionalIPs", default, deserialize_with = "or_default")]
    more: Vec<String>,
    #[serde(rename = "RuntimeHandler", default)]
    handler: String,
    #[serde(rename = "CNIResult", default, deserialize_with = "or_default")]
    cni: CniResult,
    #[serde(rename = "Config", default, deserialize_with = "or_default")]
    config: SandboxConfig,
}

#[derive(Deserialize, Default)]
struct CniResult {
    #[serde(rename = "Interfaces", default, deserialize_with = "or_default")]
    interfaces: BTreeMap<String, Interface>,
}

#[derive(Deserialize)]
struct Interface {
    #[serde(rename = "Mac", default)]
    mac: String,
    #[serde(rename = "Sandbox", default)]
    sandbox: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct SandboxConfig {
    metadata: Named,
    log_directory: String,
    linux: Linux,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Linux {
    cgroup_parent: String,
    security_context: Security,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Security {
    namespace_options: Namespaces,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Namespaces {
    network: i32,
}

/// Go writes what is not there as null.
fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(from: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

/// The JSON in a frame, if the frame says that it holds this type.
fn json<'a>(bytes: &'a [u8], kind: &str) -> Result<&'a [u8], String> {
    let (name, value) = any::parse(bytes).ok_or("what CRI says is in no frame")?;
    let is_it = name.ends_with(kind) && value.len() <= LONGEST_JSON && std::str::from_utf8(value).is_ok();
    is_it.then_some(value).ok_or_else(|| "what CRI says is of another kind, or too long".into())
}

fn metadata<'a, T: Deserialize<'a>>(bytes: &'a [u8], kind: &str) -> Result<T, String> {
    let read: Versioned<T> = crate::json::parse(json(bytes, kind)?).map_err(|e| e.to_string())?;
    if read.version == "v1" { Ok(read.metadata) } else { Err("of a version that nobody knows".into()) }
}

/// Takes what CRI says of a container, or nothing at all if that is about another one.
pub fn take_container(record: &mut Record, id: &str, bytes: &[u8]) -> Result<(), String> {
    let it: Container = metadata(bytes, CONTAINER)?;
    if it.id != id {
        return Err("what CRI says is about another".into());
    }
    record.sandbox_id = shim::name(it.sandbox.as_bytes());
    let labels = it.config.labels;
    record.pod = pod(labels.namespace, labels.pod, labels.uid);
    record.name = filled(labels.container).or_else(|| filled(it.config.metadata.name));
    let annotations = it.config.annotations;
    let mut wrong = Vec::new();
    let mut seconds = |text: Option<String>, what| {
        let parsed = text.as_deref().map(str::parse);
        wrong.extend(matches!(parsed, Some(Err(_))).then_some(what));
        parsed.and_then(Result::ok)
    };
    record.deletion_grace = seconds(annotations.deletion, "deletionGracePeriod");
    record.termination_grace = seconds(annotations.termination, "terminationGracePeriod");
    match annotations.ports.as_deref().map(pre_stop::parse_ports) {
        Some(None) => wrong.push("ports"),
        ports => record.ports = ports.flatten().unwrap_or_default(),
    }
    record.pre_stop = annotations.pre_stop.map(|json| pre_stop::parse(&json, &record.ports));
    if record.pre_stop == Some(PreStop::Unknown) {
        wrong.push("preStopHandler");
    }
    record.stop_signal = stop_signal::parse(&it.stop_signal);
    if record.stop_signal.is_none() && !it.stop_signal.is_empty() {
        wrong.push("StopSignal");
    }
    if wrong.is_empty() { Ok(()) } else { Err(format!("cannot use its {}", wrong.join(", "))) }
}

/// Takes what CRI says of a sandbox, or nothing at all if that is about another one.
pub fn take_sandbox(record: &mut Record, id: &str, bytes: &[u8]) -> Result<(), String> {
    let it: SandboxOf = metadata(bytes, SANDBOX)?;
    if it.id != id {
        return Err("what CRI says is about another".into());
    }
    let SandboxConfig { metadata, log_directory, linux } = it.config;
    record.pod = pod(metadata.namespace, metadata.name, metadata.uid);
    let addresses = std::iter::once(it.address).chain(it.more).filter_map(|text| text.parse::<IpAddr>().ok());
    let on_host = it.cni.interfaces.into_iter().filter(|(_, interface)| interface.sandbox.is_empty());
    let links = on_host.filter(|(name, link)| is_link(name) && link.mac.len() <= 17);
    record.sandbox = Some(Sandbox {
        netns: filled(it.netns).map(Into::into),
        addresses: addresses.take(MOST_ADDRESSES).collect(),
        links: links.map(|(name, link)| Link { name, mac: link.mac }).take(MOST_ADDRESSES).collect(),
        handler: filled(it.handler).unwrap_or_default(),
        host_network: linux.security_context.namespace_options.network == OF_THE_NODE,
        log_directory: filled(log_directory).map(Into::into),
        cgroup_parent: filled(linux.cgroup_parent),
    });
    Ok(())
}

/// The `process` of the spec of this container, which is told by its control group: in every form that has the ID at its
/// end (containerd `internal/cri/server/helpers_linux.go`, `getCgroupsPath`).
pub fn process<'a>(bytes: &'a [u8], id: &str) -> Option<&'a str> {
    #[derive(Deserialize)]
    struct Spec<'a> {
        #[serde(borrow)]
        process: &'a RawValue,
        #[serde(borrow)]
        linux: Group<'a>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Group<'a> {
        #[serde(borrow)]
        cgroups_path: std::borrow::Cow<'a, str>,
    }
    let spec: Spec = crate::json::parse(json(bytes, SPEC).ok()?).ok()?;
    let own = spec.linux.cgroups_path.strip_suffix(id).is_some_and(|parent| parent.ends_with(['/', ':']));
    Some(spec.process.get()).filter(|text| own && text.starts_with('{'))
}

fn pod(namespace: String, name: String, uid: String) -> Option<Pod> {
    Some(Pod { namespace: filled(namespace)?, name: filled(name)?, uid: filled(uid)? })
}

fn filled(text: String) -> Option<String> {
    (!text.is_empty() && text.len() <= LONGEST_TEXT && !text.contains('\0')).then_some(text)
}

/// What the kernel takes as an interface's name (`net/core/dev.c`, `dev_valid_name`).
fn is_link(name: &str) -> bool {
    (1..16).contains(&name.len())
        && name != "."
        && name != ".."
        && !name.contains(|c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control())
}
