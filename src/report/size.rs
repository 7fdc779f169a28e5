//! How much lies where, and what becomes of it.

use std::path::PathBuf;

use serde::Serialize;

use crate::text;

/// How much lies in one place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Size {
    pub what: Holds,
    pub goes: Goes,
    /// Below which it lies.
    #[serde(with = "text")]
    pub path: PathBuf,
    /// On disk.
    pub bytes: u64,
    pub files: u64,
    /// True if there is more: time was up, or it could not be read.
    pub more: bool,
}

/// What it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Holds {
    /// Volumes that a provisioner made on this node's own disk.
    Volumes,
    /// emptyDirs of pods.
    EmptyDirs,
    Images,
    /// What images look like unpacked, and what containers wrote over that.
    Snapshots,
    Other,
}

/// When it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Goes {
    /// The run deletes it, for good.
    WithTheRun,
    /// snapd removes it, and may keep a snapshot of it, but not with --purge.
    WithTheSnap,
    Stays,
}

/// How much is free on a file system on which the run deletes, before its first act and at its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Disk {
    /// Where it is mounted.
    #[serde(with = "text")]
    pub path: PathBuf,
    pub free_bytes_before: u64,
    pub free_bytes_after: u64,
}
