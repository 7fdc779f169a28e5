//! Whether a snapshot in containerd's root directory can only be one of our containerd.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::error::Result;
use crate::runtime::docker;
use crate::runtime::metadata;
use crate::snap::Snap;
use crate::snap::profile::{Roots, is_shared};
use crate::view::View;

/// True if only our containerd makes snapshots in its root directory: then a process with its root on one is ours. That is so
/// in the snap's own directories. Elsewhere, the snap's configuration or a link in its directories has to lead there, and no
/// other containerd may run there now: each one locks its database for as long as it runs. Where that cannot be told, it
/// proves nothing.
pub(super) fn proves(view: &View, snap: &Snap, roots: &Roots) -> bool {
    if snap.owns(&roots.root) && roots.mounts.contains(&roots.root) {
        return true;
    }
    if roots.untied.contains(&roots.root) {
        return false;
    }
    let is_led_to = || roots.spellings(&roots.root).iter().any(|path| snap.owns(path));
    if is_shared(&roots.root) || !roots.moved.contains(&roots.root) && !is_led_to() {
        return false;
    }
    // docker's own layers lie beside.
    if docker::data_of(&roots.root).is_some() && roots.docker.is_none() {
        return false;
    }
    is_locked(view, snap, &roots.root.join(metadata::FILE)).is_ok_and(|locked| !locked)
}

/// True if a docker that is not ours works with these data now.
pub(super) fn is_other_dockers(view: &View, snap: &Snap, data: &Path) -> Result<bool> {
    let file = data.join(docker::DATABASE);
    Ok(view.host.exists(&file)? && is_locked(view, snap, &file)?)
}

/// True if a process that is not in a unit of the snap's has locked this file.
pub(super) fn is_locked(view: &View, snap: &Snap, file: &Path) -> Result<bool> {
    let inode = view.host.stat(file)?.ino();
    let holders = locked_by(&view.host.read(Path::new("/proc/locks"))?, inode);
    Ok(holders.into_iter().any(|pid| view.unit_of(pid) != Some(snap.instance.as_str())))
}

/// The processes that hold a lock on a file with this inode. Devices are not compared, since on some file systems, such as
/// btrfs, stat shows another one than /proc/locks. One holder too many makes us prove less, never more.
fn locked_by(locks: &[u8], inode: u64) -> Vec<i32> {
    let text = String::from_utf8_lossy(locks);
    let holder = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let at = words.iter().position(|word| word.rsplit(':').next() == Some(&*inode.to_string()))?;
        words.get(at.checked_sub(1)?)?.parse().ok()
    };
    text.lines().filter_map(holder).collect()
}

#[cfg(test)]
mod tests;
