//! The profile: where one snap keeps its things.
//!
//! A profile decides what may be removed, so it is read strictly: an unknown key, a path that is not plain, or
//! a root outside of the snap's own directories and the few host paths that container runtimes share, and
//! nothing at all is touched.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::linux::host::Host;
use crate::snap::Snap;
use crate::text;

mod check;
pub mod place;
#[cfg(test)]
mod tests;

pub use check::SHARED;
use check::{at_key, unread};

const MICROK8S: &str = include_str!("microk8s.json");

/// Host paths at which snaps put symlinks into their own directories.
pub const SYMLINKS: &[&str] =
    &["/var/lib/kubelet", "/var/lib/calico", "/etc/cni/net.d", "/opt/cni/bin", "/var/lib/cni"];

/// A profile as it is written, with `$SNAP…` in its paths.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Profile {
    /// Version of this format; 1.
    pub schema: u32,
    /// The snap this profile is for.
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
    #[serde(default, skip_serializing_if = "Network::is_default")]
    pub network: Network,
    /// Symlinks on the host, removed only if they lead into the snap.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub host_symlinks: Vec<String>,
    /// Directories below the snap's own, deleted with all they hold once nothing of the snap runs or is mounted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub data: Vec<String>,
    /// A directory of scripts that users put there, run before anything else.
    #[serde(rename = "hooks", default, skip_serializing_if = "Option::is_none")]
    pub scripts: Option<String>,
    /// How patient to be.
    #[serde(default, skip_serializing_if = "Patience::is_default")]
    pub patience: Patience,
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
pub struct Network {
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
    #[serde(default = "Network::cni", skip_serializing_if = "is_default_cni")]
    pub cni: String,
    /// Where network namespaces are bound.
    #[serde(default = "Network::netns", skip_serializing_if = "is_default_netns")]
    pub netns: String,
}

impl Network {
    fn cni() -> String {
        "/var/lib/cni".into()
    }
    fn netns() -> String {
        "/run/netns".into()
    }
    fn is_default(&self) -> bool {
        *self == Network::default()
    }
}

impl Default for Network {
    fn default() -> Self {
        Network {
            links: vec![],
            rule_comments: vec![],
            iptables: None,
            cni: Self::cni(),
            netns: Self::netns(),
        }
    }
}

fn is_default_cni(value: &str) -> bool {
    value == Network::cni()
}
fn is_default_netns(value: &str) -> bool {
    value == Network::netns()
}

/// How patient to be, in seconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Patience {
    /// How long applications get to end by themselves. One grace for all of them together.
    #[serde(default = "Patience::drain")]
    pub drain: u64,
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
    fn is_default(&self) -> bool {
        *self == Patience::default()
    }
}

impl Default for Patience {
    fn default() -> Self {
        Patience { drain: Self::drain(), deadline: Self::deadline() }
    }
}

/// A profile whose paths are known: absolute, plain, and allowed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Roots {
    /// containerd's socket.
    #[serde(with = "text")]
    pub address: PathBuf,
    /// containerd's state directory.
    #[serde(with = "text")]
    pub state: PathBuf,
    /// containerd's root directory.
    #[serde(with = "text")]
    pub root: PathBuf,
    /// Where shims listen.
    #[serde(with = "text")]
    pub shim_sockets: PathBuf,
    /// runc's state.
    #[serde(with = "text")]
    pub runc: PathBuf,
    /// The containers' standard streams.
    #[serde(with = "text")]
    pub fifos: PathBuf,
    /// The `ctr` that the snap ships.
    #[serde(with = "text::option")]
    pub ctr: Option<PathBuf>,
    /// kubelet's root directory.
    #[serde(with = "text::option")]
    pub kubelet: Option<PathBuf>,
    /// Every root below which a mount is the snap's: containerd's, kubelet's and the profile's own.
    #[serde(with = "text::list")]
    pub mounts: Vec<PathBuf>,
    /// Roots of the runtime and kubelet that others may use, too: below them only what is of an owned ID is the snap's.
    #[serde(with = "text::list")]
    pub shared: Vec<PathBuf>,
    /// Roots that are, or are reached through, symlinks. All other paths here are places, as the kernel spells them.
    pub aliases: Vec<Alias>,
    /// Places outside of the snap's own directories to which its own configuration has moved it. Nothing is deleted there
    /// because of where it lies.
    #[serde(with = "text::list")]
    pub moved: Vec<PathBuf>,
    /// Paths that lead to no place that could be trusted. They are looked for nowhere.
    pub unresolved: Vec<Unresolved>,
    /// Files in which users move the runtime.
    #[serde(skip)]
    pub told_by: ToldBy,
    /// True if the logs of the snap's own pods go, too.
    pub logs: bool,
    /// Where CNI plugins cache results and lease addresses.
    #[serde(with = "text")]
    pub cni: PathBuf,
    /// Where network namespaces are bound.
    #[serde(with = "text")]
    pub netns: PathBuf,
    /// Where the snap ships its iptables programs.
    #[serde(with = "text::option")]
    pub iptables: Option<PathBuf>,
    /// Symlinks on the host.
    #[serde(with = "text::list")]
    pub host_symlinks: Vec<PathBuf>,
    /// Directories to delete.
    #[serde(with = "text::list")]
    pub data: Vec<PathBuf>,
    /// The users' scripts.
    #[serde(rename = "hooks", with = "text::option")]
    pub scripts: Option<PathBuf>,
}

/// A path that leads to another place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Alias {
    /// As the profile spells it.
    #[serde(with = "text")]
    pub name: PathBuf,
    /// As the kernel does.
    #[serde(with = "text")]
    pub place: PathBuf,
    /// The links on the way.
    #[serde(with = "text::list")]
    pub links: Vec<PathBuf>,
}

/// A path that leads to no place that could be trusted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Unresolved {
    /// Which.
    #[serde(with = "text")]
    pub path: PathBuf,
    /// Why.
    pub why: String,
}

/// Files in which users move the runtime.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ToldBy {
    /// containerd's arguments and configurations.
    pub containerd: Vec<PathBuf>,
    /// kubelet's arguments.
    pub kubelet: Vec<PathBuf>,
}

impl Roots {
    /// The place of a path that the profile spells.
    pub fn place_of(&self, path: &Path) -> PathBuf {
        let swap = |a: &Alias| path.strip_prefix(&a.name).ok().map(|below| join(&a.place, below));
        let longest = self.aliases.iter().filter(|a| path.starts_with(&a.name));
        longest
            .max_by_key(|a| a.name.components().count())
            .and_then(swap)
            .unwrap_or_else(|| path.to_path_buf())
    }

    /// True for a place strictly below the snap's own directories, wherever those are.
    pub fn is_own(&self, snap: &Snap, place: &Path) -> bool {
        let below = |root: PathBuf| place.starts_with(&root) && place != root;
        snap.owns(place) || [&snap.common, &snap.data].into_iter().any(|root| below(self.place_of(root)))
    }

    /// All spellings of a place, its own first: what mounts a file system may print the one that it was given.
    pub fn spellings(&self, place: &Path) -> Vec<PathBuf> {
        let swap = |a: &Alias| place.strip_prefix(&a.place).ok().map(|below| join(&a.name, below));
        std::iter::once(place.to_path_buf()).chain(self.aliases.iter().filter_map(swap)).collect()
    }
}

/// A joined empty path would end in a slash.
fn join(path: &Path, below: &Path) -> PathBuf {
    if below.as_os_str().is_empty() { path.to_path_buf() } else { path.join(below) }
}

impl Profile {
    /// The built-in profile for a snap, if there is one.
    pub fn built_in(snap: &str) -> Result<Option<Profile>> {
        match snap {
            "microk8s" => Profile::parse(MICROK8S.as_bytes(), "microk8s (built in)").map(Some),
            _ => Ok(None),
        }
    }

    /// Reads a profile file.
    pub fn read(host: &Host, file: &Path) -> Result<Profile> {
        Profile::parse(&host.read(file)?, &format!("'{}'", text::show(file)))
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
        let profile: Profile = serde_json::from_slice(bytes).map_err(|e| unread(bytes, from, &e))?;
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
}
