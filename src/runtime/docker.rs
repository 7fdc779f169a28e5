//! What docker wrote down about a container: how it is to be stopped. containerd's database has nothing of it.
//!
//! It lies where the container's own files do, which the container's bundle names; a hint, as all of these are.

use std::collections::BTreeSet;
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

/// True for that one, and for the one of a docker that maps users (`userns-remap`), which adds whom it maps to: `moby-165536.165536`.
pub fn is_namespace(name: &str) -> bool {
    let rest = name.strip_prefix(NAMESPACE);
    let are_ids = |ids: &str| ids.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    rest.is_some_and(|rest| rest.is_empty() || rest.strip_prefix('-').is_some_and(are_ids))
}

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
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct Config {
    stop_signal: Option<String>,
    /// -1 is for ever.
    stop_timeout: Option<i64>,
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
mod tests {
    use super::*;

    #[test]
    fn how_a_container_is_to_be_stopped() {
        let record = parse(
            br#"{"ID":"a","Name":"/web","Config":{"Hostname":"x","StopSignal":"SIGINT","StopTimeout":3}}"#,
        );
        let record = record.unwrap();
        assert_eq!(record.name.as_deref(), Some("web"));
        assert_eq!((record.stop_signal, record.termination_grace), (Some(2), Some(3)));
        assert_eq!(parse(br#"{"Config":{"StopSignal":null}}"#), Some(Record::default()));
        let patient = parse(br#"{"Config":{"StopSignal":"SIGINT","StopTimeout":-1}}"#).unwrap();
        assert_eq!((patient.stop_signal, patient.termination_grace), (Some(2), Some(u64::MAX)));
        assert!(parse(b"{").is_none() && parse(br#"{"Config":{"StopSignal":"nonsense"}}"#).is_some());
    }

    #[test]
    fn the_group_that_a_container_was_told_to_be_in() {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::at(dir.path());
        let of = |text: &str| {
            crate::fixture::file(dir.path(), "d/h", text);
            let options = options(&host, Path::new("/d/h")).unwrap().unwrap();
            options.group_of("a").into_iter().map(|group| group.display().to_string()).collect::<Vec<_>>()
        };
        assert_eq!(of(r#"{"CgroupParent":"/x/y","Binds":null}"#), ["/x/y/a"]);
        assert_eq!(of(r#"{"cgroup-parent":"x"}"#), ["/x/a"]);
        assert_eq!(of(r#"{"CgroupParent":"x-y.slice"}"#)[0], "/x.slice/x-y.slice/docker-a.scope");
        assert!(of(r#"{"CgroupParent":""}"#).is_empty() && of(r#"{"CgroupParent":"../x"}"#).is_empty());
        crate::fixture::file(dir.path(), "d/h", "{");
        assert!(options(&host, Path::new("/d/h")).is_err());
        assert_eq!(options(&host, Path::new("/d/none")).unwrap(), None);
    }

    #[test]
    fn its_namespace_may_say_whom_it_maps_users_to() {
        assert!(["moby", "moby-165536.165536"].iter().all(|name| is_namespace(name)));
        assert!(["mob", "moby2", "moby-x", "k8s.io", "plugins.moby"].iter().all(|name| !is_namespace(name)));
    }

    #[test]
    fn its_data_lie_above_its_containerds() {
        let of = |root: &str| data_of(Path::new(root)).map(|data| data.display().to_string());
        assert_eq!(of("/home/u/docker/containerd/daemon").as_deref(), Some("/home/u/docker"));
        assert_eq!(of("/mnt/containerd/daemon"), None, "all of a disk is nobody's alone");
        assert_eq!(of("/var/lib/containerd"), None);
    }

    #[test]
    fn its_places_are_those_of_this_container() {
        let dir = tempfile::tempdir().unwrap();
        let name = |id: &str, layer: &str| {
            let file = format!("d/image/overlay2/layerdb/mounts/{id}/mount-id");
            crate::fixture::file(dir.path(), &file, layer);
        };
        name("a", "l1\n");
        name("b", "l2");
        ["", "..", "l1/..", "/srv"].iter().enumerate().for_each(|(n, odd)| name(&format!("odd{n}"), odd));
        crate::fixture::file(dir.path(), "d/rootfs/overlayfs/b/x", "");
        let of = |id: &str| {
            let mut found = BTreeSet::new();
            places(&Host::at(dir.path()), Path::new("/d"), id, &mut found);
            found.into_iter().map(|path| path.display().to_string()).collect::<Vec<_>>()
        };
        let usual =
            |id: &str| ["containers", "plugins", "rootfs/overlayfs"].map(|kind| format!("/d/{kind}/{id}"));
        let [containers, plugins, rootfs] = usual("a");
        assert_eq!(of("a"), [containers, "/d/overlay2/l1".into(), plugins, rootfs]);
        for odd in ["odd0", "odd1", "odd2", "odd3"] {
            assert_eq!(of(odd), usual(odd), "{odd}");
        }
    }

    #[test]
    fn its_file_lies_beside_those_that_it_has_bound() {
        let of = |bind: &str| {
            let id = ContainerId { namespace: NAMESPACE.into(), id: "a".into() };
            file_of(&id, &["/srv/x".into(), bind.into()]).map(|file| file.display().to_string())
        };
        let file = Some("/d/containers/a/config.v2.json".to_string());
        assert_eq!(of("/d/containers/a/hostname"), file);
        assert_eq!(of("/d/containers/of-another/resolv.conf"), file);
        assert_eq!(of("/d/other/a/hostname"), None);
        assert_eq!(of("/d/containers/a/data"), None);
    }
}
