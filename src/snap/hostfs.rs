//! The host's files, as a snap's mount namespace shows them.

use std::path::{Path, PathBuf};

/// Under this directory a snap's mount namespace shows the host's files, and copies of its mounts.
pub const HOSTFS: &str = "/var/lib/snapd/hostfs";

/// True for a file that somebody made to bind a network namespace over. Elsewhere it may be bound over a file of his own.
pub fn is_for_namespaces(path: &Path, directory: &Path, is_snaps: bool) -> bool {
    is_snaps || path.starts_with("/run") || path.parent() == Some(directory)
}

/// All places at which a network namespace may be mounted that is bound at `path`.
pub fn copies(path: &Path) -> Vec<PathBuf> {
    let mut copies = vec![path.to_path_buf()];
    if let Ok(below) = path.strip_prefix("/") {
        copies.push(Path::new(HOSTFS).join(below));
        // In a base /var/run may be a directory of its own.
        copies.push(Path::new("/var").join(below));
    }
    copies
}
