//! File systems that somebody has frozen and not thawed, such as a backup that failed. Whoever writes to one hangs, and not
//! even SIGKILL ends that; and one that is unmounted while it is frozen keeps its device for ever.

use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::libc::{O_CLOEXEC, O_DIRECTORY, O_NOFOLLOW};
use rustix::fs::{fstat, major, minor};

use crate::linux::child::in_child;
use crate::linux::mountinfo::Mount;
use crate::linux::sys;
use crate::text::show;

/// How long it may take: the kernel waits for whatever else is being done to the file system.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Thaws the file systems of these mounts, those that are frozen. In a child, since it may hang.
pub fn thaw(mounts: &[Mount]) {
    if mounts.is_empty() {
        return;
    }
    let thawed = in_child(Instant::now() + TIMEOUT, |_| mounts.iter().for_each(thaw_one));
    if let Err(e) = thawed {
        log::warn!("cannot look for frozen file systems: {e}");
    }
}

fn thaw_one(mount: &Mount) {
    match open(mount.point(), mount.device()).map_or(Err(Errno::EINVAL), |directory| sys::thaw(&directory)) {
        Ok(()) => log::info!("'{}' was frozen, and goes on", show(mount.point())),
        // It is not frozen, or of a kind that cannot be.
        Err(Errno::EINVAL | Errno::EOPNOTSUPP | Errno::ENOTTY) => {}
        Err(e) => log::warn!("cannot let '{}' go on: {e}", show(mount.point())),
    }
}

/// The directory, if it is on this device: since the mount was judged, its path may have come to lead somewhere else.
fn open(point: &Path, device: &str) -> Option<File> {
    let flags = O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
    let directory = File::options().read(true).custom_flags(flags).open(point).ok()?;
    let found = fstat(directory.as_fd()).ok()?;
    (format!("{}:{}", major(found.st_dev), minor(found.st_dev)) == device).then_some(directory)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_of_another_device_is_not_the_one() {
        let dir = tempfile::tempdir().unwrap();
        let found = fstat(File::open(dir.path()).unwrap().as_fd()).unwrap();
        let device = format!("{}:{}", major(found.st_dev), minor(found.st_dev));
        assert!(open(dir.path(), &device).is_some());
        assert!(open(dir.path(), "7:200").is_none());
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(dir.path(), &link).unwrap();
        assert!(open(&link, &device).is_none());
    }
}
