//! What containerd and runc wrote down about a container: its bundle and its runc state.
//!
//! These files are evidence, not orders: a container's author may influence some of what they say (labels,
//! annotations, mounts), a crash may cut them short, and a hostile one may point them elsewhere. What is taken
//! from them is checked here, and again against the machine in `scope`.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::cgroup;
use crate::error::{Error, Result};
use crate::host::Host;
use crate::profile::Roots;
use crate::residue::{ContainerId, ProcessId};
use crate::scope::Pod;
use crate::shim;

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
    pub group: Option<String>,
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
    namespaces: Vec<Namespace>,
}

#[derive(Deserialize)]
struct Namespace {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    path: String,
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
    bundle.groups = cgroup::of_spec(&spec.linux.cgroups_path);
    bundle.groups.retain(|g| is_group_of(g, &container.id));
    if bundle.groups.is_empty() && !spec.linux.cgroups_path.is_empty() {
        bundle
            .nonsense
            .push(format!("config.json of {}: cgroupsPath does not name the container", container.id));
    }
    let a = spec.annotations;
    bundle.sandbox = a.sandbox.and_then(|s| shim::name(s.as_bytes()));
    bundle.group = a.group.and_then(|g| shim::name(g.as_bytes())).or_else(|| bundle.sandbox.clone());
    bundle.is_sandbox = a.container_type.as_deref() == Some("sandbox");
    bundle.pod = a.pod_name.map(|name| Pod {
        name,
        namespace: a.pod_namespace.unwrap_or_default(),
        uid: a.pod_uid.unwrap_or_default(),
    });
    let network =
        spec.linux.namespaces.into_iter().find(|n| n.kind == "network").map(|n| PathBuf::from(n.path));
    bundle.netns = network.filter(|p| is_netns(p, roots));
    let bound = spec.mounts.into_iter().filter(|m| m.kind == "bind").map(|m| PathBuf::from(m.source));
    bundle.binds = bound.filter(|p| p.is_absolute()).collect();
}

/// A name in the directory of network namespaces; `..` has that directory for a parent, too, and is no name.
pub fn is_netns(path: &Path, roots: &Roots) -> bool {
    let plain = path.file_name().is_some_and(|n| !n.as_encoded_bytes().contains(&0));
    plain && (path.parent() == Some(&roots.netns) || is_legacy_netns(path, roots))
}

/// `/var/run` is a symlink to `/run` everywhere; CNI's own library writes the long form.
fn is_legacy_netns(path: &Path, roots: &Roots) -> bool {
    let parent = path
        .parent()
        .and_then(|p| p.strip_prefix("/var/run").ok())
        .map(|below| Path::new("/run").join(below));
    parent.as_deref() == Some(&roots.netns)
}

/// A group is a container's only if its last part carries the container's ID, and if it is not a group at the
/// top, where the host's own slices are. An ID that reads like a unit or like one of kubelet's own groups would make
/// those a container's: a bundle that somebody has planted could name them.
pub fn is_group_of(group: &Path, id: &str) -> bool {
    const UNITS: [&str; 6] = [".service", ".slice", ".scope", ".socket", ".mount", ".swap"];
    if UNITS.iter().any(|unit| id.ends_with(unit)) || cgroup::is_kubelets(Path::new(id)) {
        return false;
    }
    let name = group.file_name().and_then(OsStr::to_str).unwrap_or_default();
    let bare = name.strip_suffix(".scope").unwrap_or(name);
    let named = bare == id || bare.ends_with(&format!("-{id}")) || bare.ends_with(&format!(":{id}"));
    named && (group.components().count() > 2 || cgroup::container_of(name).is_some())
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

/// What runc's `state.json` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuncState {
    /// The bundle it was made from: whose container it is.
    pub bundle: Option<PathBuf>,
    /// Its first process.
    pub init: Option<ProcessId>,
    /// Its groups as full paths.
    pub groups: Vec<PathBuf>,
    /// Its network namespace.
    pub netns: Option<PathBuf>,
}

/// Parses a runc state; an error if it makes no sense.
pub fn read_runc_state(file: &Path, bytes: &[u8]) -> Result<RuncState> {
    parse_runc_state(bytes).map_err(|e| Error::Malformed { path: file.to_path_buf(), reason: e.to_string() })
}

/// True if a runc state is whole and names bundles, none of them in our directories: then it is another's, and not
/// worth the parsing of tens of kilobytes. A directory that JSON may spell in another way tells nothing.
pub fn is_plainly_foreign(bytes: &[u8], roots: &Roots) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    let ours = [roots.state.join(TASKS), roots.root.join(TASKS)];
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"/._-".contains(&b);
    if !text.trim_end().ends_with('}')
        || !ours.iter().all(|p| p.as_os_str().as_bytes().iter().copied().all(plain))
    {
        return false;
    }
    // Few characters are rarer there than this one, and one character is found faster than a word.
    let named = text.match_indices('=').filter(|(at, _)| text[..*at].ends_with("\"bundle"));
    let mut bundles = named.map(|(at, _)| &text.as_bytes()[at + 1..]).peekable();
    bundles.peek().is_some()
        && !bundles.any(|bundle| ours.iter().any(|p| bundle.starts_with(p.as_os_str().as_bytes())))
}

/// Parses `state.json`.
pub fn parse_runc_state(bytes: &[u8]) -> std::result::Result<RuncState, serde_json::Error> {
    use std::collections::BTreeMap;
    #[derive(Deserialize)]
    struct State {
        #[serde(default)]
        init_process_pid: i32,
        #[serde(default)]
        init_process_start: u64,
        #[serde(default)]
        cgroup_paths: BTreeMap<String, PathBuf>,
        #[serde(default)]
        config: Config,
    }
    #[derive(Deserialize, Default)]
    struct Config {
        #[serde(default)]
        labels: Vec<String>,
        #[serde(default)]
        namespaces: Vec<Namespace>,
    }
    let state: State = serde_json::from_slice(bytes)?;
    // runc appends its own label after those of the spec: the last one counts.
    let bundle = state.config.labels.iter().rev().find_map(|l| l.strip_prefix("bundle=")).map(PathBuf::from);
    let init = ProcessId { pid: state.init_process_pid, start: state.init_process_start };
    Ok(RuncState {
        bundle,
        init: (init.pid > 1 && init.start > 0).then_some(init),
        groups: state.cgroup_paths.into_values().collect(),
        netns: state
            .config
            .namespaces
            .into_iter()
            .find(|n| n.kind == "NEWNET")
            .map(|n| PathBuf::from(n.path)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::Profile;
    use crate::snap::Snap;

    fn roots() -> Roots {
        Profile::built_in("microk8s").unwrap().unwrap().resolve(&Snap::stand_in("microk8s")).unwrap()
    }

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
        assert_eq!(b.group.as_deref(), Some("abc"));
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
    fn no_id_makes_a_unit_or_a_group_of_kubelets_a_containers() {
        for (group, id) in [
            ("/system.slice/ssh.service", "ssh.service"),
            ("/user.slice/user-0.slice", "user-0.slice"),
            ("/system.slice/snap.microk8s.hook.remove-1.scope", "snap.microk8s.hook.remove-1.scope"),
            ("/kubepods/burstable", "burstable"),
            ("/kubepods/besteffort/pod1", "pod1"),
            ("/kubepods.slice/kubepods-besteffort.slice", "besteffort.slice"),
            ("/lxc/kubepods", "kubepods"),
        ] {
            assert!(!is_group_of(Path::new(group), id), "{group}");
        }
        assert!(is_group_of(Path::new("/kubepods/burstable/pod1/abc"), "abc"));
        assert!(is_group_of(Path::new("/k8s.io/q1"), "q1"));
    }

    #[test]
    fn a_runc_state_is_passed_over_only_if_it_is_plainly_anothers() {
        let roots = roots();
        let of = |bundle: &str| format!(r#"{{"config":{{"labels":["bundle={bundle}"]}}}}"#).into_bytes();
        let theirs = of("/run/containerd/io.containerd.runtime.v2.task/k8s.io/abc");
        assert!(is_plainly_foreign(&theirs, &roots));
        let ours = of(roots.state.join(TASKS).join("k8s.io/abc").to_str().unwrap());
        assert!(!is_plainly_foreign(&ours, &roots));
        assert!(!is_plainly_foreign(&theirs[..theirs.len() - 4], &roots), "cut short");
        assert!(!is_plainly_foreign(b"{}", &roots), "names no bundle");
        let odd = Roots { state: "/run/a&b".into(), ..roots };
        assert!(!is_plainly_foreign(&theirs, &odd), "JSON may write & as an escape");
    }

    #[test]
    fn a_runc_state_tells_bundle_init_and_groups() {
        let s = parse_runc_state(
            br#"{"id":"abc","init_process_pid":7,"init_process_start":99,"cgroup_paths":{"":"/sys/fs/cgroup/k8s.io/abc"},
            "namespace_paths":{"NEWNET":"/proc/7/ns/net"},"config":{"labels":["bundle=/fake","bundle=/real"],
            "namespaces":[{"type":"NEWNET","path":"/var/run/netns/cni-1"}]}}"#,
        )
        .unwrap();
        assert_eq!(s.bundle.unwrap(), Path::new("/real"));
        // What runc itself calls the namespace's path is a process's, and goes with it.
        assert_eq!(s.netns.unwrap(), Path::new("/var/run/netns/cni-1"));
        assert_eq!(s.init, Some(ProcessId { pid: 7, start: 99 }));
        assert!(parse_runc_state(b"{\"init_process_pid\":").is_err());
        assert!(
            parse_runc_state(b"{\"init_process_pid\":1,\"init_process_start\":5}").unwrap().init.is_none()
        );
    }
}
