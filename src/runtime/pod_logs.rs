//! Logs of pods, as kubelet has them written and links to them.

use std::path::{Path, PathBuf};

use crate::error::{Blind, Why};
use crate::linux::host::Host;
use crate::linux::place;
use crate::runtime::Pod;
use crate::snap::profile::Roots;
use crate::text::show;

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

/// Logs of pods, as far as they can be seen: where every kubelet has them, and where ours was told to; users put these on other disks, too.
pub fn pods(host: &Host, roots: &Roots) -> Vec<(PathBuf, String)> {
    directories(roots).flat_map(|directory| listed(host, directory).unwrap_or_default()).collect()
}

/// The links to logs of containers, as far as they can be seen.
pub fn links(host: &Host) -> Vec<(PathBuf, String)> {
    listed(host, Path::new(CONTAINERS)).unwrap_or_default()
}

/// The directories of the logs of pods.
pub fn directories(roots: &Roots) -> impl Iterator<Item = &Path> {
    std::iter::once(Path::new(PODS)).chain(roots.pod_logs.as_deref().filter(|path| *path != Path::new(PODS)))
}

/// Why one of them cannot be looked into.
pub fn hidden(host: &Host, roots: &Roots) -> impl Iterator<Item = Blind> {
    let why = move |directory| Some((directory, listed(host, directory).err()?));
    directories(roots)
        .chain([Path::new(CONTAINERS)])
        .filter_map(why)
        .map(|(directory, why)| Blind::new(show(directory), why))
}

fn listed(host: &Host, directory: &Path) -> Result<Vec<(PathBuf, String)>, Why> {
    let place = place::of(host, directory)?.path;
    let names = host.list(&place)?;
    Ok(names.iter().filter_map(|n| Some((place.join(n), n.to_str()?.to_owned()))).collect())
}
