//! What containerd and runc wrote down about a container: its bundle and its runc state.
//!
//! These files are evidence, not orders: a container's author may influence some of what they say (labels,
//! annotations, mounts), a crash may cut them short, and a hostile one may point them elsewhere. What is taken
//! from them is checked here, and again against the machine in `scope`.

use std::ffi::OsStr;
use std::fmt;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::json;
use crate::linux::host::Host;
use crate::runtime::{ContainerId, Pod, SpecNamespace, cni, groups, shim};
use crate::snap::profile::Roots;

/// The directory below containerd's state and root that holds the bundles and work directories.
pub const TASKS: &str = "io.containerd.runtime.v2.task";

/// What a bundle says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bundle {
    /// Control groups of the container, as paths below a hierarchy's mount point.
    pub groups: Vec<PathBuf>,
    /// Those that it claims and that are not called like a container's.
    pub refused: Vec<PathBuf>,
    /// The sandbox it belongs to.
    pub sandbox: Option<String>,
    /// The ID under which its shim was started.
    pub shim_id: Option<String>,
    /// True if it is itself a sandbox.
    pub is_sandbox: bool,
    pub pod: Option<Pod>,
    /// The network namespace in its spec.
    pub netns: Option<PathBuf>,
    /// Directories of the host bound into it, by their path on the host.
    pub binds: Vec<PathBuf>,
    /// True if what it mounts is passed on to the host, and so to others.
    pub shares: bool,
    /// True if it may do on the host what root may: it has CAP_SYS_ADMIN.
    pub privileged: bool,
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

/// The directories of the host that a spec binds, as many as are kept, and whether any of them, kept or not, passes its
/// mounts on to the host. All else in a spec's mounts is skipped.
#[derive(Default)]
struct Binds(Vec<PathBuf>, bool);

impl<'de> Deserialize<'de> for Binds {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Binds, D::Error> {
        let (mut binds, mut shares) = (Vec::new(), false);
        let take = |mount: SpecMount| {
            let source = PathBuf::from(mount.source);
            if mount.kind != "bind" || !source.is_absolute() {
                return;
            }
            shares |= mount.options.iter().flatten().any(|option| option == "rshared" || option == "shared");
            if binds.len() < MAX_BINDS {
                binds.push(source);
            }
        };
        each(from, take)?;
        Ok(Binds(binds, shares))
    }
}

/// The network namespace that a spec names.
#[derive(Default)]
struct NetnsPath(Option<PathBuf>);

impl<'de> Deserialize<'de> for NetnsPath {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<NetnsPath, D::Error> {
        let mut first = None;
        each(from, |namespace: SpecNamespace| {
            if namespace.kind == "network" && first.is_none() {
                first = Some(PathBuf::from(namespace.path));
            }
        })?;
        Ok(NetnsPath(first))
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

/// No runtime writes a spec or a state that is larger; the largest seen are a tenth of it.
pub const MAX_DOCUMENT: u64 = 1 << 20;
/// A socket's path has 107 bytes at most.
const MAX_ADDRESS: u64 = 4 << 10;
/// As many directories of the host are told of one container.
const MAX_BINDS: usize = 100;
/// Pods and their namespaces have names of 253 characters at most.
const MAX_NAME: usize = 253;

/// How much room there is for what all bundles together say besides who they are: thousands may say much.
#[derive(Debug)]
pub struct Room {
    bytes: usize,
    told: usize,
}

impl Default for Room {
    fn default() -> Room {
        Room { bytes: 2 << 20, told: 100 }
    }
}

impl Room {
    /// Leaves out of a bundle what there is no room for.
    fn cut(&mut self, bundle: &mut Bundle) {
        bundle.binds.retain(|bind| match self.bytes.checked_sub(bind.as_os_str().len()) {
            Some(left) => {
                self.bytes = left;
                true
            }
            None => false,
        });
        let most = self.told;
        self.told = most.saturating_sub(bundle.nonsense.len());
        bundle.nonsense.truncate(most);
        if most > 0 && self.told == 0 {
            bundle.nonsense.push("and more that makes no sense, in other bundles".into());
        }
    }
}

/// Reads a bundle. What is missing is missing; what makes no sense is noted and not used. Where its shim listens is read from
/// there only if `heard` does not know it.
pub fn read_bundle(
    host: &Host,
    roots: &Roots,
    container: &ContainerId,
    room: &mut Room,
    heard: &dyn Fn(&Bundle) -> Option<PathBuf>,
) -> Bundle {
    let mut bundle = Bundle::default();
    let [mut directory, hidden, ..] = bundle_paths(roots, container);
    let spec = |directory: &Path| host.read_at_most(&directory.join("config.json"), MAX_DOCUMENT);
    let mut read = spec(&directory);
    if read.is_err() && !host.exists(&directory).unwrap_or(false) {
        read = spec(&hidden);
        directory = hidden;
    }
    match read {
        Ok(bytes) => take_spec(&mut bundle, &bytes, container, roots),
        Err(e) if e.is_gone() => {}
        Err(e) => bundle.nonsense.push(e.to_string()),
    }
    bundle.socket = heard(&bundle);
    if bundle.socket.is_none() {
        take_socket(&mut bundle, host, &directory, roots);
    }
    room.cut(&mut bundle);
    bundle
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
    Binds(bundle.binds, bundle.shares) = spec.mounts;
    let granted = spec.process.and_then(|process| process.capabilities?.bounding);
    bundle.privileged = granted.iter().flatten().any(|capability| capability == "CAP_SYS_ADMIN");
    bundle.binds.retain(|p| is_path(p));
}

/// False for what is too long to be one: the kernel takes no longer ones.
fn is_path(path: &Path) -> bool {
    path.as_os_str().len() < 4096
}

/// 1.6 and 1.7 write `address`, 2.x writes `bootstrap.json`.
fn take_socket(bundle: &mut Bundle, host: &Host, directory: &Path, roots: &Roots) {
    #[derive(Deserialize)]
    struct Bootstrap {
        address: String,
    }
    let text = match host.read_at_most(&directory.join("bootstrap.json"), MAX_ADDRESS) {
        Ok(bytes) => match json::parse::<Bootstrap>(&bytes) {
            Ok(bootstrap) => Some(bootstrap.address),
            Err(e) => {
                bundle.nonsense.push(format!("bootstrap.json: {e}"));
                None
            }
        },
        Err(_) => host
            .read_at_most(&directory.join("address"), MAX_ADDRESS)
            .ok()
            .and_then(|bytes| Some(String::from_utf8(bytes).ok()?.trim_end_matches('\n').to_owned())),
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
    use std::fs;

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
        let long = "p".repeat(MAX_NAME + 1);
        let b = spec(&format!(
            r#"{{"annotations":{{"io.kubernetes.cri.sandbox-name":"{long}"}},"mounts":null}}"#
        ));
        assert!(b.pod.is_none() && b.nonsense.is_empty(), "{b:?}");
        let mut room = Room { bytes: 10, told: 1 };
        let mut b = Bundle { binds: vec!["/123456".into(), "/12345678".into()], ..Bundle::default() };
        b.nonsense = vec!["a".into(), "b".into()];
        room.cut(&mut b);
        assert_eq!((b.binds.len(), b.nonsense.len()), (1, 2));
        assert!(b.nonsense[1].contains("more"));
    }

    #[test]
    fn a_large_spec_is_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let bundle = dir.path().join(roots().state.strip_prefix("/").unwrap()).join(TASKS).join("k8s.io/a");
        fs::create_dir_all(&bundle).unwrap();
        fs::File::create(bundle.join("config.json")).unwrap().set_len(MAX_DOCUMENT + 1).unwrap();
        let id = ContainerId { namespace: "k8s.io".into(), id: "a".into() };
        let b = read_bundle(&Host::at(dir.path()), &roots(), &id, &mut Room::default(), &|_| None);
        assert!(b.nonsense[0].contains("too large"), "{b:?}");
    }
}
