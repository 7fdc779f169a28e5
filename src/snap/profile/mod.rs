//! The profile: where one snap keeps its things.
//!
//! A profile decides what may be removed, so it is read strictly: an unknown key, a path that is not plain, or
//! a root outside of the snap's own directories and the few host paths that container runtimes share, and
//! nothing at all is touched.

use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::json;
use crate::linux::host::Host;
use crate::snap::Snap;
use crate::text;

mod check;
pub mod place;
mod roots;
#[cfg(test)]
mod tests;

pub use check::is_shared;
use check::{at_key, unread};
pub use roots::{Alias, Made, Roots, ToldBy, Unresolved, for_shims};

const MICROK8S: &str = include_str!("microk8s.json");
const DOCKER: &str = include_str!("docker.json");
const K8S: &str = include_str!("k8s.json");

/// Host paths at which snaps put symlinks into their own directories.
pub const SYMLINKS: &[&str] =
    &["/var/lib/kubelet", "/var/lib/calico", "/etc/cni/net.d", "/opt/cni/bin", "/var/lib/cni"];

/// A profile as it is written, with `$SNAP…` in its paths.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Profile {
    /// Version of this format; 1.
    pub schema: u32,
    pub snap: String,
    /// Where containerd keeps its things.
    pub containerd: Containerd,
    /// Where kubelet keeps its things, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubelet: Option<Kubelet>,
    /// The services that matter for the order.
    #[serde(default, skip_serializing_if = "Services::is_default")]
    pub services: Services,
    /// More roots below which every mount is the snap's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mounts: Vec<String>,
    /// What the network plugins leave.
    #[serde(default, skip_serializing_if = "NetworkNames::is_default")]
    pub network: NetworkNames,
    /// Symlinks on the host, removed only if they lead into the snap.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub host_symlinks: Vec<String>,
    /// Directories below the snap's own, deleted with all they hold once nothing of the snap runs or is mounted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub data: Vec<String>,
    /// Directories below the snap's own in which provisioners keep volumes, each of the snap's users' data.
    #[serde(default = "usual_volumes", skip_serializing_if = "are_usual_volumes")]
    pub volumes: Vec<String>,
    /// A directory of scripts that users put there, run before anything else.
    #[serde(rename = "hooks", default, skip_serializing_if = "Option::is_none")]
    pub scripts: Option<String>,
    /// How patient to be.
    #[serde(default, skip_serializing_if = "Patience::is_default")]
    pub patience: Patience,
}

/// Where provisioners keep volumes of this node: MicroK8s' hostpath and OpenEBS, the rawfile of Canonical Kubernetes, docker.
const USUAL_VOLUMES: [&str; 4] = [
    "$SNAP_COMMON/default-storage",
    "$SNAP_COMMON/var/openebs",
    "$SNAP_COMMON/rawfile-storage",
    "$SNAP_COMMON/var-lib-docker/volumes",
];

pub fn usual_volumes() -> Vec<String> {
    USUAL_VOLUMES.map(str::to_owned).into()
}
fn are_usual_volumes(volumes: &[String]) -> bool {
    volumes == USUAL_VOLUMES
}

/// Where containerd keeps its things.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Containerd {
    /// Its socket, exactly as it was given to containerd (`--address`).
    pub address: String,
    /// Its state directory (`--state`).
    pub state: String,
    /// Its root directory (`--root`).
    pub root: String,
    /// Where shims listen.
    #[serde(default = "Containerd::shim_sockets", skip_serializing_if = "is_default_sockets")]
    pub shim_sockets: String,
    /// runc's state, a directory for each containerd namespace below it.
    #[serde(default = "Containerd::runc", skip_serializing_if = "is_default_runc")]
    pub runc: String,
    /// Where the containers' standard streams are.
    #[serde(default = "Containerd::fifos", skip_serializing_if = "is_default_fifos")]
    pub fifos: String,
    /// The `ctr` that the snap ships, for the very last resort.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ctr: Option<String>,
    /// The files in which users move it: its arguments, or its configuration (`….toml`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub told_by: Vec<String>,
}

impl Containerd {
    fn shim_sockets() -> String {
        "/run/containerd/s".into()
    }
    fn runc() -> String {
        "/run/containerd/runc".into()
    }
    fn fifos() -> String {
        "/run/containerd/fifo".into()
    }
}

fn is_default_sockets(value: &str) -> bool {
    value == Containerd::shim_sockets()
}
fn is_default_runc(value: &str) -> bool {
    value == Containerd::runc()
}
fn is_default_fifos(value: &str) -> bool {
    value == Containerd::fifos()
}

/// Where kubelet keeps its things.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Kubelet {
    /// Its root directory (`--root-dir`).
    pub root: String,
    /// The files with its arguments, in which users move it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub told_by: Vec<String>,
    /// True if the logs of the snap's own pods go, too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub logs: bool,
}

/// The services that matter for the order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Services {
    /// The service that runs containerd. Named, it may be started as the very last resort.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime: Option<String>,
    /// Services that start containers again when they end; stopped first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub supervisors: Vec<String>,
}

impl Services {
    fn is_default(&self) -> bool {
        *self == Services::default()
    }
}

/// What the network plugins leave.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct NetworkNames {
    /// Links by name, removed only when nothing foreign uses them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub links: Vec<String>,
    /// Comments that the snap's own firewall rules carry.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rule_comments: Vec<String>,
    /// Where the snap ships its iptables programs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iptables: Option<String>,
    /// Where CNI plugins cache results and lease addresses.
    #[serde(default = "NetworkNames::cni", skip_serializing_if = "is_default_cni")]
    pub cni: String,
    /// Where network namespaces are bound.
    #[serde(default = "NetworkNames::netns", skip_serializing_if = "is_default_netns")]
    pub netns: String,
}

impl NetworkNames {
    fn cni() -> String {
        "/var/lib/cni".into()
    }
    fn netns() -> String {
        "/run/netns".into()
    }
    fn is_default(&self) -> bool {
        *self == NetworkNames::default()
    }
}

impl Default for NetworkNames {
    fn default() -> Self {
        NetworkNames {
            links: vec![],
            rule_comments: vec![],
            iptables: None,
            cni: Self::cni(),
            netns: Self::netns(),
        }
    }
}

fn is_default_cni(value: &str) -> bool {
    value == NetworkNames::cni()
}
fn is_default_netns(value: &str) -> bool {
    value == NetworkNames::netns()
}

/// How patient to be, in seconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Patience {
    /// How long applications get to end by themselves that ask for no grace of their own. 0: none is asked at all.
    #[serde(default = "Patience::drain")]
    pub drain: u64,
    /// How long those get at most that ask for one; three quarters of the deadline, if this is not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maximum_grace: Option<u64>,
    /// False if no preStop hook is to be run.
    #[serde(default = "Patience::hooks", skip_serializing_if = "Patience::runs_hooks")]
    pub hooks: bool,
    /// When the whole run ends, whatever is left.
    #[serde(default = "Patience::deadline")]
    pub deadline: u64,
}

impl Patience {
    fn drain() -> u64 {
        30
    }
    fn deadline() -> u64 {
        240
    }
    fn hooks() -> bool {
        true
    }
    #[allow(clippy::trivially_copy_pass_by_ref)] // serde's signature
    fn runs_hooks(hooks: &bool) -> bool {
        *hooks
    }
    fn is_default(&self) -> bool {
        *self == Patience::default()
    }
}

impl Default for Patience {
    fn default() -> Self {
        Patience {
            drain: Self::drain(),
            maximum_grace: None,
            hooks: Self::hooks(),
            deadline: Self::deadline(),
        }
    }
}

impl Profile {
    /// The snaps for which one is built in.
    pub const BUILT_IN: [&str; 3] = ["microk8s", "docker", "k8s"];

    /// The built-in profile for a snap, if there is one.
    pub fn built_in(snap: &str) -> Result<Option<Profile>> {
        let text = match snap {
            "microk8s" => MICROK8S,
            "docker" => DOCKER,
            "k8s" => K8S,
            _ => return Ok(None),
        };
        Profile::parse(text.as_bytes(), &format!("{snap} (built in)")).map(Some)
    }

    pub fn read(host: &Host, file: &Path) -> Result<Profile> {
        Profile::parse(&Profile::bytes(host, file)?, &format!("'{}'", text::show(file)))
    }

    /// The bytes of a profile's file.
    pub fn bytes(host: &Host, file: &Path) -> Result<Vec<u8>> {
        host.read(file).map_err(|e| match e.errno() {
            Some(nix::libc::ELOOP) => {
                let reason = "it is a symbolic link, where a regular file is expected".into();
                Error::Malformed { path: file.to_path_buf(), reason }
            }
            _ => e,
        })
    }

    /// The profile for a snap: the one it ships, else the built-in one. A snap with neither is refused.
    pub fn of_snap(host: &Host, snap: &Snap) -> Result<(Profile, String)> {
        let shipped = snap.dir.join("teardown.json");
        if host.exists(&shipped)? {
            return Ok((Profile::read(host, &shipped)?, text::show(&shipped).into_owned()));
        }
        match Profile::built_in(&snap.name)? {
            Some(profile) => Ok((profile, "built in".into())),
            None => Err(Error::NotStarted(format!(
                "snap '{}' has no profile: ship one as {} (see 'snap-teardown profile --help')",
                snap.name,
                text::show(&shipped)
            ))),
        }
    }

    /// Parses a profile. `from` names it in errors.
    pub fn parse(bytes: &[u8], from: &str) -> Result<Profile> {
        let profile: Profile = json::parse(bytes).map_err(|e| unread(bytes, from, &e))?;
        profile.check_words().map_err(|(key, reason)| at_key(bytes, from, &key, &reason))?;
        // Paths are checked with a stand-in for the snap's directories, so that a bad one shows without a snap.
        profile.roots(&Snap::stand_in(&profile.snap), bytes, from)?;
        Ok(profile)
    }
}

impl Patience {
    /// The drain's grace.
    pub fn grace(&self) -> Duration {
        Duration::from_secs(self.drain)
    }

    /// The longest grace of a container: what comes after it needs a quarter of the time.
    pub fn maximum_grace(&self) -> u64 {
        self.maximum_grace.unwrap_or_else(|| self.drain.max(self.deadline / 4 * 3))
    }
}
