//! Whose a mount is in a directory that runtimes and kubelets share, by its place.

use std::ffi::OsStr;
use std::path::Path;

use crate::runtime::bundle::ALL_TASKS;

/// Whose a mount is by its place.
pub(super) enum Owner<'p> {
    /// A container's, with containerd's namespace.
    Task(&'p str, &'p str),
    /// That of a container of this ID.
    Container(&'p str),
    /// That of a pod of this uid.
    Pod(&'p str),
    /// The place says nothing.
    Unknown,
}

/// The owner of a mount below a shared directory.
pub(super) fn owner<'p>(root: &Path, point: &'p Path) -> Option<Owner<'p>> {
    let below = point.strip_prefix(root).ok().filter(|below| !below.as_os_str().is_empty())?;
    let parts: Vec<&str> = below.iter().filter_map(OsStr::to_str).collect();
    Some(match parts[..] {
        // containerd puts a dot before the name of a bundle that it is about to delete.
        [tasks, namespace, id, _, ..] if ALL_TASKS.contains(&tasks) => {
            Owner::Task(namespace, id.strip_prefix('.').unwrap_or(id))
        }
        ["io.containerd.grpc.v1.cri", "sandboxes" | "containers" | "image-volumes", id, _, ..] => {
            Owner::Container(id)
        }
        ["io.containerd.podsandbox.controller.v1.cri", "sandboxes", id, _, ..] => Owner::Container(id),
        ["pods", uid, _, ..] => Owner::Pod(uid),
        // What a pod has of a volume of raw blocks.
        ["plugins", .., uid] if parts.contains(&"volumeDevices") => Owner::Pod(uid),
        _ => Owner::Unknown,
    })
}
