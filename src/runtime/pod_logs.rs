//! Logs of pods, as kubelet has them written and links to them.

use std::path::{Path, PathBuf};

use crate::error::{Blind, Why};
use crate::linux::host::Host;
use crate::linux::place;
use crate::runtime::Pod;

/// Where kubelet has them written, a directory for each pod.
pub const PODS: &str = "/var/log/pods";
/// Where it makes a link for each container.
pub const CONTAINERS: &str = "/var/log/containers";

/// What the directory of a pod's logs is called (kubelet `kuberuntime/helpers.go`, `BuildPodLogsDirectory`).
pub fn name_of(pod: &Pod) -> String {
    format!("{}_{}_{}", pod.namespace, pod.name, pod.uid)
}

/// The container whose log a link leads to by its name, `POD_NAMESPACE_CONTAINER-ID.log`.
pub fn container_of(link: &str) -> Option<&str> {
    link.strip_suffix(".log")?.rsplit_once('-').map(|(_, id)| id)
}

/// What a directory holds, as far as it can be seen; users put these on other disks, too.
pub fn entries(host: &Host, directory: &str) -> Vec<(PathBuf, String)> {
    listed(host, directory).unwrap_or_default()
}

/// Why one of the two cannot be looked into.
pub fn hidden(host: &Host) -> impl Iterator<Item = Blind> {
    let why = move |directory| Some((directory, listed(host, directory).err()?));
    [PODS, CONTAINERS].into_iter().filter_map(why).map(|(directory, why)| Blind::new(directory, why))
}

fn listed(host: &Host, directory: &str) -> Result<Vec<(PathBuf, String)>, Why> {
    let place = place::of(host, Path::new(directory))?.path;
    let names = host.list(&place)?;
    Ok(names.iter().filter_map(|n| Some((place.join(n), n.to_str()?.to_owned()))).collect())
}
