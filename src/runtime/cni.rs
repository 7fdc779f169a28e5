//! What CNI plugins wrote down about our sandboxes: cached results, and leased addresses.
//!
//! Both directories are shared by everything on the host that uses CNI. A result is a sandbox's if its file
//! name and its content say so, a lease if its first line is the sandbox's ID.

mod config;
mod notes;

use crate::json;
use crate::snap::profile::Roots;
use std::collections::{BTreeSet, HashSet};
use std::ffi::OsStr;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::error::{Error, Result};
use crate::linux::host::Host;

pub use config::Config;
pub use notes::{RUN, notes};

/// Where libcni keeps results, below CNI's directory: its releases since 0.8, and the one before; and the one in Multus.
const RESULTS: [&str; 3] = ["results", "cache/results", "multus/results"];

/// More results, and larger ones, are nobody's; nor has a name of one so many parts.
const MOST_FILES: usize = 16_384;
const MOST_BYTES: u64 = 256 << 10;
const MOST_DASHES: usize = 24;

/// A lease is an ID and the name of an interface.
const LEASE_BYTES: u64 = 1024;

/// One attachment of a sandbox to a network.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Attachment {
    /// The network's name.
    pub network: String,
    /// The name of the interface in the sandbox.
    pub interface: String,
    /// The sandbox, of a result that is not known to be ours and says so itself.
    pub sandbox: Option<String>,
    /// Links that the plugins made on the host: name and hardware address.
    pub host_links: Vec<(String, String)>,
    /// Where the sandbox's network namespace is bound.
    pub netns: Option<PathBuf>,
    /// Addresses of the sandbox, each with its network's prefix length.
    pub addresses: Vec<(IpAddr, u8)>,
    /// The gateways of these networks.
    pub gateways: Vec<IpAddr>,
    /// Networks that it was given routes to, besides the default ones.
    pub routes: Vec<(IpAddr, u8)>,
    /// What the plugins were told; nothing of others'.
    pub config: Config,
}

#[derive(Deserialize)]
struct Cached {
    #[serde(rename = "containerId", default)]
    container: Option<String>,
    #[serde(rename = "networkName", default)]
    network: String,
    #[serde(rename = "ifName", default)]
    interface: String,
    #[serde(default)]
    config: String,
    #[serde(default)]
    result: Answer,
}

#[derive(Deserialize, Default)]
struct Answer {
    #[serde(default)]
    interfaces: Vec<Interface>,
    #[serde(default)]
    ips: Vec<Ip>,
    #[serde(default)]
    routes: Vec<Route>,
}

#[derive(Deserialize)]
struct Interface {
    name: String,
    #[serde(default)]
    mac: String,
    #[serde(default)]
    sandbox: String,
}

#[derive(Deserialize)]
struct Ip {
    address: String,
    #[serde(default)]
    gateway: Option<IpAddr>,
}

#[derive(Deserialize)]
struct Route {
    dst: String,
}

/// Parses a cached result of this sandbox, in a file of this name; none if it is another's or makes no sense. The name is
/// `NETWORK-SANDBOX-INTERFACE`, and the content has to say the same. libcni before 0.8 stored the plugins' answer alone:
/// then the name has to do, which only an ID as CRI makes them can prove.
pub fn parse(bytes: &[u8], name: &str, sandbox: &str) -> Option<Attachment> {
    let cached: Cached = json::parse(bytes).ok()?;
    let (network, interface, answer) = match cached.container {
        Some(container) if container == sandbox => (cached.network, cached.interface, cached.result),
        Some(_) => return None,
        None if is_whole_id(sandbox) => {
            let (network, interface) = name.split_once(&format!("-{sandbox}-"))?;
            (network.to_owned(), interface.to_owned(), json::parse(bytes).ok()?)
        }
        None => return None,
    };
    let config = Config::parse(&cached.config);
    (name == format!("{network}-{sandbox}-{interface}"))
        .then(|| Attachment { config, ..attachment(network, interface, answer) })
}

/// The IDs that CRI makes, which nobody else's can be a part of.
pub fn is_whole_id(id: &str) -> bool {
    id.len() == 64 && id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

fn attachment(network: String, interface: String, answer: Answer) -> Attachment {
    // Calico has an interface's name there.
    let netns =
        answer.interfaces.iter().find(|i| i.sandbox.starts_with('/')).map(|i| PathBuf::from(&i.sandbox));
    let on_host = answer.interfaces.into_iter().filter(|i| i.sandbox.is_empty());
    Attachment {
        network,
        interface,
        sandbox: None,
        netns,
        host_links: on_host.map(|i| (i.name, i.mac.to_ascii_lowercase())).collect(),
        addresses: answer.ips.iter().filter_map(|ip| block(&ip.address)).collect(),
        gateways: answer.ips.iter().filter_map(|ip| ip.gateway).collect(),
        routes: answer.routes.iter().filter_map(|r| block(&r.dst)).filter(|(_, bits)| *bits > 0).collect(),
        config: Config::default(),
    }
}

fn block(text: &str) -> Option<(IpAddr, u8)> {
    let (address, bits) = text.split_once('/')?;
    Some((address.parse().ok()?, bits.parse().ok()?))
}

/// What CNI's results say.
#[derive(Debug, Default)]
pub struct Results {
    /// Those of our sandboxes: the file, the sandbox, and what it says.
    pub ours: Vec<(PathBuf, String, Attachment)>,
    /// What others' say.
    pub others: Vec<Attachment>,
    /// Directories and files that could not be read.
    pub errors: Vec<Error>,
}

/// Reads all results. Those of a sandbox of ours are told by name and content; whatever makes no sense is somebody else's.
pub fn results(host: &Host, cni: &Path, ids: &HashSet<&str>) -> Results {
    let mut results = Results::default();
    for directory in RESULTS.map(|r| cni.join(r)) {
        let names = list(host, &directory, &mut results.errors);
        if names.len() > MOST_FILES {
            let reason = format!("{} files, of which {MOST_FILES} are read", names.len());
            results.errors.push(Error::Malformed { path: directory.clone(), reason });
        }
        // Those that may be ours are read first, however many there are.
        let (may_be_ours, others): (Vec<_>, Vec<_>) =
            names.iter().filter_map(|n| n.to_str()).partition(|name| ids_in(name, ids).next().is_some());
        for name in may_be_ours.into_iter().chain(others).take(MOST_FILES) {
            let file = directory.join(name);
            let bytes = match host.read_at_most(&file, MOST_BYTES) {
                Ok(bytes) => bytes,
                Err(e) if e.is_gone() || ids_in(name, ids).next().is_none() => continue,
                Err(e) => {
                    results.errors.push(e);
                    continue;
                }
            };
            let own = ids_in(name, ids).find_map(|id| Some((id, parse(&bytes, name, id)?)));
            match own {
                Some((id, attachment)) => results.ours.push((file, id.to_owned(), attachment)),
                None => results.others.extend(of_other(&bytes)),
            }
        }
    }
    results
}

/// The names of all results, as far as they are looked at.
pub fn names(host: &Host, cni: &Path) -> Result<Vec<String>> {
    let mut all = Vec::new();
    for directory in RESULTS {
        all.extend(host.list(&cni.join(directory))?);
    }
    Ok(all.into_iter().take(MOST_FILES).filter_map(|name| name.into_string().ok()).collect())
}

/// The one of these sandboxes whose result is called so.
pub fn sandbox_in<'a>(name: &'a str, ids: &'a HashSet<&str>) -> Option<&'a str> {
    ids_in(name, ids).next()
}

fn of_other(bytes: &[u8]) -> Option<Attachment> {
    let cached: Cached = json::parse(bytes).ok()?;
    let answer = match cached.container {
        Some(_) => cached.result,
        None => json::parse(bytes).ok()?,
    };
    Some(Attachment { sandbox: cached.container, ..attachment(cached.network, cached.interface, answer) })
}

/// Our IDs that stand in a name between two dashes; network and interface may have dashes, too, and so may an ID.
fn ids_in<'a>(name: &'a str, ids: &'a HashSet<&str>) -> impl Iterator<Item = &'a str> {
    let dashes: Vec<usize> = name.match_indices('-').map(|(at, _)| at).take(MOST_DASHES).collect();
    let pairs =
        (0..dashes.len()).flat_map(move |a| (a + 1..dashes.len()).map(move |b| (a, b)).collect::<Vec<_>>());
    let dashes: Vec<usize> = name.match_indices('-').map(|(at, _)| at).take(MOST_DASHES).collect();
    pairs.map(move |(a, b)| &name[dashes[a] + 1..dashes[b]]).filter(|id| ids.contains(id))
}

/// What an IPAM plugin has noted: `NETWORK/ADDRESS`, in the directory of all networks.
#[derive(Debug, Default)]
pub struct Leases {
    /// Files that say that an address is a sandbox's of ours; and what else the plugin keeps in a network that is ours by name
    /// or by such a file, and in which nobody else has a lease.
    pub files: Vec<PathBuf>,
    /// The directories of such networks, which are empty when those files are gone.
    pub directories: Vec<PathBuf>,
    /// Directories of networks in which nobody has a lease but sandboxes that are lost, and of which nothing says whose they were.
    pub deserted: Vec<PathBuf>,
    /// The same for networks that are ours.
    pub lost: Vec<PathBuf>,
    /// What could not be read.
    pub errors: Vec<Error>,
}

impl Leases {
    /// With what is noted in another directory.
    pub fn and(mut self, other: Leases) -> Leases {
        self.files.extend(other.files);
        self.directories.extend(other.directories);
        self.deserted.extend(other.deserted);
        self.lost.extend(other.lost);
        self.errors.extend(other.errors);
        self
    }
}

/// The leases of these sandboxes. `names` are the networks that are ours by name. `is_lost` says of a
/// sandbox's ID whether nothing tells of it.
pub fn leases(
    host: &Host,
    networks: &Path,
    ids: &HashSet<&str>,
    names: &BTreeSet<String>,
    is_lost: &dyn Fn(&str) -> bool,
) -> Leases {
    let mut found = Leases::default();
    let all = list(host, networks, &mut found.errors);
    for network in &all {
        let directory = networks.join(network);
        let mut ours = network.to_str().is_some_and(|n| names.contains(n));
        let (mut shared, mut lost) = (false, false);
        let mut memos = Vec::new();
        let files = list(host, &directory, &mut found.errors);
        for name in files.iter().take(MOST_FILES) {
            let file = directory.join(name);
            match kind_of(name) {
                Kind::Lease => match host.read_at_most(&file, LEASE_BYTES) {
                    Ok(bytes) if lessee(&bytes).is_some_and(|id| ids.contains(id)) => {
                        ours = true;
                        found.files.push(file);
                    }
                    // One without a word is what a loss of power leaves.
                    Ok(bytes) if bytes.is_empty() || lessee(&bytes).is_some_and(is_lost) => lost = true,
                    Err(e) if e.is_gone() => {}
                    // A symlink, a directory, something far too large: no plugin made it.
                    Ok(_) | Err(Error::Malformed { .. }) => shared = true,
                    Err(e) if e.errno() == Some(nix::libc::ELOOP) => shared = true,
                    Err(e) => {
                        shared = true;
                        found.errors.push(e);
                    }
                },
                Kind::Memo => memos.push(file),
                Kind::Other => shared = true,
            }
        }
        if shared || files.len() > MOST_FILES {
            continue;
        }
        if lost && ours {
            found.lost.push(directory);
        } else if ours {
            found.files.append(&mut memos);
            found.directories.extend(is_directory(host, &directory).then_some(directory));
        } else if lost || !memos.is_empty() {
            found.deserted.push(directory);
        }
    }
    if !all.is_empty() && found.directories.len() == all.len() {
        found.directories.push(networks.to_path_buf());
    }
    found
}

fn is_directory(host: &Host, path: &Path) -> bool {
    host.stat(path).is_ok_and(|found| found.is_dir())
}

enum Kind {
    /// Named by the address.
    Lease,
    /// What the host-local plugin keeps for the next lease.
    Memo,
    Other,
}

fn kind_of(name: &OsStr) -> Kind {
    match name.to_str().unwrap_or_default() {
        "lock" => Kind::Memo,
        name if name.starts_with("last_reserved_ip.") => Kind::Memo,
        name if name.parse::<IpAddr>().is_ok() => Kind::Lease,
        _ => Kind::Other,
    }
}

fn list(host: &Host, directory: &Path, errors: &mut Vec<Error>) -> Vec<std::ffi::OsString> {
    match host.list(directory) {
        Ok(names) => names,
        // A file next to the networks' directories is none of ours to read.
        Err(Error::Malformed { .. }) => Vec::new(),
        Err(e) => {
            errors.push(e);
            Vec::new()
        }
    }
}

/// The ID in a lease, if that is all there is but the interface: `ID`, or `ID`, a new line, and its name.
fn lessee(bytes: &[u8]) -> Option<&str> {
    let mut lines = std::str::from_utf8(bytes).ok()?.lines().map(str::trim);
    let (id, interface) = (lines.next()?, lines.next().unwrap_or_default());
    let plain = |c: char| !c.is_whitespace() && !c.is_control() && c != '/';
    (interface.len() < 16 && interface.chars().all(plain) && lines.next().is_none()).then_some(id)
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

#[cfg(test)]
mod tests;
