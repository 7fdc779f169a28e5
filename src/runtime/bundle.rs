//! What containerd and runc wrote down about a container: its bundle and its runc state.
//!
//! These files are evidence, not orders: a container's author may influence some of what they say (labels,
//! annotations, mounts), a crash may cut them short, and a hostile one may point them elsewhere. What is taken
//! from them is checked here, and again against the machine in `scope`.

mod spec;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::json;
use crate::linux::host::Host;
use crate::linux::place::is_plain;
use crate::runtime::{ContainerId, Pod};
use crate::snap::profile::Roots;

pub use spec::take_spec;

/// The directory below containerd's state and root that holds the bundles and work directories.
pub const TASKS: &str = "io.containerd.runtime.v2.task";

/// The same; last, of containers of the first generation of shims, which 1.6 and 1.7 still have (on cgroup v1 alone).
pub const ALL_TASKS: [&str; 2] = [TASKS, "io.containerd.runtime.v1.linux"];

/// The one that holds the same of sandboxes that a shim alone makes (`plugins/sandbox/controller.go`).
pub const SANDBOXES: &str = "io.containerd.sandbox.controller.v1.shim";

/// Where containerd listens for plugins that change containers (NRI's `DefaultSocketPath`): one socket for the whole host.
pub const NRI_SOCKET: &str = "/run/nri/nri.sock";

/// Directories that every containerd makes on a host, wherever it is told to work, each after those below it: for programs
/// that `ctr install` puts there, and for that socket.
pub const SKELETON: [&str; 4] = ["/opt/containerd/bin", "/opt/containerd/lib", "/opt/containerd", "/run/nri"];
/// Where, in either of its directories, CRI keeps something of each container and of each sandbox.
pub const CRI: [&str; 3] = [
    "io.containerd.grpc.v1.cri/containers",
    "io.containerd.grpc.v1.cri/sandboxes",
    // Images that are volumes, a directory for each sandbox (from 2.1 on).
    "io.containerd.grpc.v1.cri/image-volumes",
];

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
    /// Those of the binds in which it does.
    pub passed_on: Vec<PathBuf>,
    /// True if it may do on the host what root may: it has CAP_SYS_ADMIN.
    pub privileged: bool,
    /// True if it has the host's IPC namespace.
    pub host_ipc: bool,
    /// Where its shim listens, if it is where shims do.
    pub socket: Option<PathBuf>,
    /// What was there and made no sense.
    pub nonsense: Vec<String>,
}

/// The directories that a container's bundle may have: whole, half deleted, and its work directory.
pub fn bundle_paths(roots: &Roots, container: &ContainerId) -> impl Iterator<Item = PathBuf> {
    [&roots.state, &roots.root].into_iter().flat_map(|base| paths_below(base, container))
}

/// Those below containerd's state, or its root.
pub fn paths_below(base: &Path, container: &ContainerId) -> [PathBuf; 4] {
    let hidden = format!(".{}", container.id);
    let of = |tasks: &str, name: &str| base.join(tasks).join(&container.namespace).join(name);
    let [tasks, first] = ALL_TASKS;
    [of(tasks, &container.id), of(tasks, &hidden), of(first, &container.id), of(first, &hidden)]
}

/// No runtime writes a spec or a state that is larger; the largest seen are a tenth of it.
pub const MAX_DOCUMENT: u64 = 1 << 20;
/// A socket's path has 107 bytes at most.
const MAX_ADDRESS: u64 = 4 << 10;

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
        let mut fits = |bind: &PathBuf| match self.bytes.checked_sub(bind.as_os_str().len()) {
            Some(left) => {
                self.bytes = left;
                true
            }
            None => false,
        };
        bundle.passed_on.retain(&mut fits);
        bundle.binds.retain(fits);
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
    let [mut directory, others @ ..] = paths_below(&roots.state, container);
    let spec = |directory: &Path| host.read_at_most(&directory.join("config.json"), MAX_DOCUMENT);
    let mut read = spec(&directory);
    for other in others {
        if read.is_ok() || host.exists(&directory).unwrap_or(false) {
            break;
        }
        read = spec(&other);
        directory = other;
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

/// Where runc keeps the states of this namespace's containers, if the options that this one was made with name a place. The shim
/// writes them down (containerd `cmd/containerd-shim-runc-v2/runc/container.go`, `WriteOptions`).
pub fn runc_directory(host: &Host, roots: &Roots, container: &ContainerId) -> Option<PathBuf> {
    #[derive(Deserialize)]
    struct Options {
        root: PathBuf,
    }
    let [directory, hidden, ..] = paths_below(&roots.state, container);
    let mut files = [directory, hidden].into_iter().map(|directory| directory.join("options.json"));
    let bytes = files.find_map(|file| host.read_at_most(&file, MAX_DOCUMENT).ok())?;
    let root = json::parse::<Options>(&bytes).ok()?.root;
    is_plain(&root).then(|| root.join(&container.namespace))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::roots;
    use std::fs;

    #[test]
    fn of_all_bundles_together_little_is_kept() {
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
