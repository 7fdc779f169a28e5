//! Files that plugins keep for each sandbox, besides results and leases: flannel's, Multus', the tuning plugin's, SR-IOV's. Each
//! is called by the sandbox's ID, with or without more.

use std::collections::{BTreeSet, HashSet};
use std::path::{Path, PathBuf};

use super::{is_whole_id, list};
use crate::error::Error;
use crate::linux::host::Host;

/// Where plugins keep what need not outlive a boot.
pub const RUN: &str = "/run/cni";

/// The files of these sandboxes, and directories that hold nothing else: in those below CNI's own and `RUN`, and in the ones that
/// plugins were `told`.
pub fn notes(
    host: &Host,
    cni: &Path,
    told: &BTreeSet<PathBuf>,
    ids: &HashSet<&str>,
    errors: &mut Vec<Error>,
) -> (Vec<PathBuf>, Vec<PathBuf>) {
    let (mut files, mut emptied) = (Vec::new(), Vec::new());
    let mut directories = told.clone();
    for place in [cni, Path::new(RUN)] {
        let names = list(host, place, errors);
        // Of these the names are not enough.
        let others =
            names.into_iter().filter(|name| !["networks", "results", "cache"].iter().any(|n| name == n));
        directories.extend(others.map(|name| place.join(name)));
    }
    for directory in directories {
        let names = list(host, &directory, errors);
        let before = files.len();
        let ours = names.iter().filter(|name| name.to_str().is_some_and(|name| is_of(name, ids)));
        files.extend(ours.map(|name| directory.join(name)));
        let all = files.len() > before && files.len() - before == names.len();
        emptied.extend(all.then_some(directory));
    }
    (files, emptied)
}

fn is_of(name: &str, ids: &HashSet<&str>) -> bool {
    let mut parts = name.split(|c: char| !c.is_ascii_alphanumeric());
    ids.contains(name) || parts.any(|part| is_whole_id(part) && ids.contains(part))
}
