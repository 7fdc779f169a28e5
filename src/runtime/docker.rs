//! What docker wrote down about a container: how it is to be stopped. containerd's database has nothing of it.
//!
//! It lies where the container's own files do, which the container's bundle names; a hint, as all of these are.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::bundle::MAX_DOCUMENT;
use super::metadata::Record;
use super::{ContainerId, groups, shim, stop_signal};
use crate::error::{Error, Result};
use crate::json;
use crate::linux::host::Host;

/// Layers have names of 64 characters, or 25 in older ones.
const MAX_NAME: u64 = 256;

/// docker's namespace in containerd.
const NAMESPACE: &str = "moby";

/// That of plugins that it runs in containers.
pub const PLUGINS: &str = "plugins.moby";

/// True for that one, and for the one of a docker that maps users (`userns-remap`), which adds whom it maps to: `moby-165536.165536`.
pub fn is_namespace(name: &str) -> bool {
    let rest = name.strip_prefix(NAMESPACE);
    let are_ids = |ids: &str| ids.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    rest.is_some_and(|rest| rest.is_empty() || rest.strip_prefix('-').is_some_and(are_ids))
}

/// Where docker listens if it is told nothing else, whose ever it is.
pub const SOCKET: &str = "/run/docker.sock";

/// Directories that every docker makes on a host, wherever it is told to work, each after those below it.
pub const SKELETON: [&str; 2] = ["/run/docker/plugins", "/run/docker"];

/// Where docker's daemon keeps all its data, by where it has its containerd keep what is that one's.
pub fn data_of(root: &Path) -> Option<PathBuf> {
    let is_dockers = root.ends_with("containerd/daemon");
    root.ancestors().nth(2).filter(|data| is_dockers && data.components().count() > 2).map(Path::to_path_buf)
}

/// A database below that directory that it keeps locked for as long as it runs.
pub const DATABASE: &str = "volumes/metadata.db";

/// The places below that directory that are one container's alone: at or below these are its mounts. Which layer it has, docker
/// has written down for each driver.
pub fn places(host: &Host, data: &Path, id: &str, found: &mut BTreeSet<PathBuf>) {
    for kind in ["containers", "plugins"] {
        found.insert(data.join(kind).join(id));
    }
    let list = |kind: &str| host.list(&data.join(kind)).unwrap_or_default();
    for snapshotter in list("rootfs") {
        found.insert(data.join("rootfs").join(snapshotter).join(id));
    }
    for driver in list("image") {
        let file = data.join("image").join(&driver).join("layerdb/mounts").join(id).join("mount-id");
        let layer = host.read_at_most(&file, MAX_NAME).ok().and_then(|bytes| shim::name(bytes.trim_ascii()));
        found.extend(layer.map(|layer| data.join(driver).join(layer)));
    }
}

/// Files below the directory of a container that say how it is to be run.
pub const OPTIONS: &str = "hostconfig.json";

/// The daemon's own file, below the directories of a snap.
pub const DAEMON_FILES: [&str; 3] = ["config/daemon.json", "daemon.json", "etc/docker/daemon.json"];

/// What such a file says, or the daemon's own, of places outside of its directories.
#[derive(Deserialize, Debug, Default, PartialEq, Eq)]
#[serde(default)]
pub struct Options {
    /// The control group above those of containers.
    #[serde(rename = "CgroupParent", alias = "cgroup-parent")]
    pub parent: String,
    /// Where its data go.
    #[serde(rename = "data-root", alias = "graph")]
    pub data: Option<String>,
    /// Where it works while it runs.
    #[serde(rename = "exec-root")]
    pub exec: Option<String>,
}

/// Where it has its containerd work, in either of these.
pub const CONTAINERDS: &str = "containerd/daemon";

impl Options {
    /// The group that runc makes for a container by these options, or where nothing is said, by the daemon's.
    pub fn group_of(&self, id: &str) -> Vec<PathBuf> {
        match &*self.parent {
            "" => Vec::new(),
            // `slice:prefix:name` is how systemd is asked for one.
            slice if slice.ends_with(".slice") => groups::of_spec(&format!("{slice}:docker:{id}")),
            parent => groups::of_spec(&format!("{parent}/{id}")),
        }
    }
}

/// None where there is no such file.
pub fn options(host: &Host, file: &Path) -> Result<Option<Options>> {
    let bytes = match host.read_at_most(file, MAX_DOCUMENT) {
        Ok(bytes) => bytes,
        Err(e) if e.is_gone() => return Ok(None),
        Err(e) => return Err(e),
    };
    let malformed = |e: serde_json::Error| Error::Malformed { path: file.into(), reason: e.to_string() };
    json::parse(&bytes).map(Some).map_err(malformed)
}

/// What its file says.
#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct File {
    name: String,
    config: Config,
    network_settings: NetworkSettings,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct Config {
    stop_signal: Option<String>,
    /// -1 is for ever.
    stop_timeout: Option<i64>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct NetworkSettings {
    /// By the container's own, such as `80/tcp`.
    ports: Option<BTreeMap<String, Option<Vec<Binding>>>>,
    networks: Option<BTreeMap<String, Option<Endpoint>>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct Binding {
    host_ip: String,
    host_port: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Endpoint {
    #[serde(rename = "IPAddress")]
    address: String,
}

/// The file of a container that has these files of the host bound into it. docker binds `containers/ID/hostname` and the like;
/// ID is another container's if this one has joined that one's network, so only the directory of all counts.
pub fn file_of(container: &ContainerId, binds: &[PathBuf]) -> Option<PathBuf> {
    let own = |bind: &&PathBuf| {
        ["hostname", "hosts", "resolv.conf"].iter().any(|name| bind.file_name().is_some_and(|n| n == *name))
    };
    let directory = binds.iter().filter(own).find_map(|bind| {
        bind.parent()?.parent().filter(|all| all.file_name().is_some_and(|name| name == "containers"))
    })?;
    Some(directory.join(&container.id).join("config.v2.json"))
}

/// What a container's file says of how it is to be stopped.
pub fn record(host: &Host, file: &Path) -> Option<Record> {
    parse(&host.read_at_most(file, MAX_DOCUMENT).ok()?)
}

/// A port of an address.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Port {
    pub address: String,
    pub protocol: String,
    pub number: String,
}

/// How containers were reached when docker last wrote their files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reached {
    /// Ports of the host that led to them, and their own to which they led.
    pub ports: BTreeSet<Port>,
    /// Their addresses.
    pub addresses: BTreeSet<String>,
}

impl Reached {
    /// Adds what the file of one container says.
    pub fn read(&mut self, host: &Host, file: &Path) {
        let Ok(bytes) = host.read_at_most(file, MAX_DOCUMENT) else { return };
        let NetworkSettings { ports, networks } =
            json::parse::<File>(&bytes).unwrap_or_default().network_settings;
        let own = networks.into_iter().flatten().filter_map(|(_, it)| Some(it?.address));
        let own: Vec<String> = own.filter(|address| !address.is_empty()).collect();
        for (port, bindings) in ports.into_iter().flatten() {
            let (Some((number, protocol)), Some(bindings)) = (port.split_once('/'), bindings) else {
                continue;
            };
            let at = |address: &str, number: &str| Port {
                address: address.to_owned(),
                protocol: protocol.to_owned(),
                number: number.to_owned(),
            };
            self.ports.extend(bindings.iter().map(|binding| at(&binding.host_ip, &binding.host_port)));
            self.ports.extend(own.iter().map(|address| at(address, number)));
        }
        self.addresses.extend(own);
    }

    /// What either knows.
    pub fn union(&mut self, older: Reached) {
        self.ports.extend(older.ports);
        self.addresses.extend(older.addresses);
    }
}

fn parse(bytes: &[u8]) -> Option<Record> {
    let file: File = json::parse(bytes).ok()?;
    let name = file.name.trim_start_matches('/').to_owned();
    Some(Record {
        name: Some(name).filter(|name| !name.is_empty()),
        stop_signal: file.config.stop_signal.as_deref().and_then(stop_signal::parse),
        termination_grace: file.config.stop_timeout.map(|t| u64::try_from(t).unwrap_or(u64::MAX)),
        ..Record::default()
    })
}

#[cfg(test)]
mod tests;
