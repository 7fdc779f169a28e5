//! How much comes back on the file systems on which a removal deletes.
//!
//! What is deleted is not counted: that would cost a system call for each of hundreds of thousands of files. The kernel knows
//! how much is free, and is asked twice.

use std::path::{Path, PathBuf};

use rustix::fs::statvfs;

use crate::engine::History;
use crate::linux::mountinfo::{Mount, MountTable};
use crate::report::size::Disk;
use crate::run::sizes;
use crate::view::View;

/// What was free before the first act.
pub struct Before(Vec<(PathBuf, FileSystem)>);

/// What the kernel says of one.
struct FileSystem {
    /// Which it is. What cannot be told apart is not compared.
    identity: (u64, u64),
    free: u64,
}

impl Before {
    /// Of each file system with a directory that goes. One that waits for a server, or for who serves FUSE, is not asked; nor
    /// is any where nothing is deleted.
    pub fn of(view: &View, surveyed: &History) -> Before {
        let own = view.own_mounts();
        let Ok(table) = own.as_ref() else { return Before(Vec::new()) };
        Before::below(
            mounts(table, &sizes::given_up(surveyed)).into_iter().map(|mount| mount.point().to_owned()),
        )
    }

    fn below(points: impl Iterator<Item = PathBuf>) -> Before {
        // Where that is refused, or the file system is none that has blocks, there is nothing to tell.
        Before(points.filter_map(|point| Some((point.clone(), ask(&point)?))).collect())
    }

    /// With what is free by now. A mount that has gone meanwhile shows another file system, of which nothing is said.
    pub fn and_after(self) -> Vec<Disk> {
        let told = |(path, before): (PathBuf, FileSystem)| {
            let after = ask(&path).filter(|after| after.identity == before.identity)?;
            Some(Disk { path, free_bytes_before: before.free, free_bytes_after: after.free })
        };
        self.0.into_iter().filter_map(told).collect()
    }
}

/// The mounts that these directories lie on, each file system once.
fn mounts<'a>(table: &'a MountTable, directories: &[&Path]) -> Vec<&'a Mount> {
    let hanging = table.hanging(|_| false);
    let mut found: Vec<&Mount> = Vec::new();
    for directory in directories {
        let on = table.mounts.iter().filter(|mount| directory.starts_with(mount.point()));
        // Of several at one place, the last one is seen.
        let Some(mount) = on.max_by_key(|mount| mount.point().as_os_str().len()) else { continue };
        if !mount.waits_for(&hanging) && found.iter().all(|known| known.device() != mount.device()) {
            found.push(mount);
        }
    }
    found
}

fn ask(point: &Path) -> Option<FileSystem> {
    let told = statvfs(point).ok().filter(|told| told.f_blocks > 0)?;
    let free = told.f_bfree.saturating_mul(told.f_frsize);
    Some(FileSystem { identity: (told.f_fsid, told.f_frsize), free })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linux::mountinfo::parse;

    #[test]
    fn each_file_system_is_asked_once_and_none_that_may_not_answer() {
        let lines = "1 0 8:1 / / rw - ext4 /dev/sda1 rw\n2 1 8:1 /snap /var/snap rw - ext4 /dev/sda1 rw\n\
                     3 2 8:2 / /var/snap/x/common rw - ext4 /dev/sdb1 rw\n4 3 0:9 / /var/snap/x/common/nfs rw - nfs4 s:/ rw\n\
                     5 4 8:1 / /var/snap/x/common/nfs/back rw - ext4 /dev/sda1 rw\n6 1 8:3 / /var/snap/x/common/a rw - ext4 /dev/sdc1 rw\n\
                     7 1 8:4 / /var/snap/x/common/a rw - ext4 /dev/sdd1 rw\n";
        let table = parse(lines.as_bytes());
        let asked = |directories: &[&str]| {
            let directories: Vec<PathBuf> =
                directories.iter().map(|name| Path::new("/var/snap/x").join(name)).collect();
            mounts(&table, &directories.iter().map(PathBuf::as_path).collect::<Vec<_>>())
                .iter()
                .map(|mount| mount.id)
                .collect::<Vec<_>>()
        };
        assert_eq!(asked(&["common/lib", "common/run", "x1/y"]), [3, 2]);
        assert_eq!(asked(&["common/nfs/lib", "common/nfs/back/lib"]), [] as [u64; 0]);
        // The upper of two is seen.
        assert_eq!(asked(&["common/a", "common/ab"]), [7, 3]);
        assert!(asked(&[]).is_empty());
    }

    #[test]
    fn what_cannot_be_asked_or_compared_is_not_told() {
        let dir = tempfile::tempdir().unwrap();
        let before =
            Before::below([dir.path().to_path_buf(), dir.path().join("gone"), "/proc".into()].into_iter());
        assert_eq!(before.0.len(), 1);
        let told = before.and_after();
        assert!(told[0].path == dir.path() && told[0].free_bytes_before > 0, "{told:?}");
        let another = FileSystem { identity: (u64::MAX, 0), free: 1 };
        assert!(Before(vec![(dir.path().to_path_buf(), another)]).and_after().is_empty());
    }
}
