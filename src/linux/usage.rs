//! How much directories hold, as far as can be told in a moment.

use std::collections::HashSet;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Instant;

use rustix::fs::{AtFlags, CWD, FileType, Statx, StatxFlags, statx};
use rustix::io::Errno;

/// So many files with several names are remembered, so that each counts once. Those beyond are not counted: the sum is then
/// the least that it can be.
const MOST_SHARED: usize = if cfg!(test) { 3 } else { 100_000 };

/// What was counted.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// On disk.
    pub bytes: u64,
    pub files: u64,
    /// True if there is more: time was up, or it could not be read.
    pub more: bool,
}

/// One count of several trees, with one end for all of them.
pub struct Count {
    pub until: Instant,
    /// Directories that are counted by themselves, and not with those above them.
    pub apart: HashSet<PathBuf>,
    /// Files with several names, by device and inode, both in one number.
    shared: HashSet<u64>,
}

impl Count {
    pub fn new(until: Instant, apart: HashSet<PathBuf>) -> Count {
        Count { until, apart, shared: HashSet::new() }
    }

    /// Adds what lies below a directory, on this mount: what else is mounted there is not deleted with the directory. A
    /// subvolume of btrfs, which has a device of its own, is.
    pub fn add(&mut self, top: &Path, mount: u64, usage: &mut Usage) {
        let mut directories = vec![top.to_path_buf()];
        while let Some(directory) = directories.pop() {
            let entries = match fs::read_dir(&directory) {
                Ok(entries) => entries,
                Err(e) => {
                    usage.more |= e.kind() != ErrorKind::NotFound;
                    continue;
                }
            };
            for entry in entries {
                if Instant::now() >= self.until {
                    usage.more = true;
                    return;
                }
                let Ok(path) = entry.map(|entry| entry.path()) else {
                    usage.more = true;
                    continue;
                };
                let found = match look(&path) {
                    Ok(found) if mount_of(&found) == mount => found,
                    Ok(_) | Err(Errno::NOENT) => continue,
                    Err(_) => {
                        usage.more = true;
                        continue;
                    }
                };
                let is_directory = FileType::from_raw_mode(found.stx_mode.into()).is_dir();
                if is_directory && self.apart.contains(&path) || self.is_known(&found, is_directory, usage) {
                    continue;
                }
                usage.bytes = usage.bytes.saturating_add(found.stx_blocks.saturating_mul(512));
                match is_directory {
                    true => directories.push(path),
                    false => usage.files += 1,
                }
            }
        }
    }

    /// True for another name of what was counted.
    fn is_known(&mut self, found: &Statx, is_directory: bool, usage: &mut Usage) -> bool {
        if is_directory || found.stx_nlink < 2 {
            return false;
        }
        let file = device(found).rotate_right(24) ^ found.stx_ino;
        if self.shared.len() < MOST_SHARED {
            return !self.shared.insert(file);
        }
        usage.more |= !self.shared.contains(&file);
        true
    }
}

/// The mount that a directory is on, if it is there. Asks no server, and mounts nothing.
pub fn mount_at(directory: &Path) -> Option<u64> {
    look(directory)
        .ok()
        .filter(|found| FileType::from_raw_mode(found.stx_mode.into()).is_dir())
        .map(|f| mount_of(&f))
}

fn look(path: &Path) -> Result<Statx, Errno> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT | AtFlags::STATX_DONT_SYNC;
    statx(CWD, path, flags, StatxFlags::BASIC_STATS | StatxFlags::MNT_ID)
}

/// Before Linux 5.8, the device must do.
fn mount_of(found: &Statx) -> u64 {
    match found.stx_mask & StatxFlags::MNT_ID.bits() {
        0 => device(found),
        _ => found.stx_mnt_id,
    }
}

fn device(found: &Statx) -> u64 {
    u64::from(found.stx_dev_major) << 32 | u64::from(found.stx_dev_minor)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn count(top: &Path, apart: &[&Path], until: Instant) -> Usage {
        let mut usage = Usage::default();
        let apart = apart.iter().map(|path| path.to_path_buf()).collect();
        Count::new(until, apart).add(top, mount_at(top).unwrap(), &mut usage);
        usage
    }

    #[test]
    fn a_file_counts_once_whatever_its_names_and_what_is_apart_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let (below, apart) = (dir.path().join("below"), dir.path().join("apart"));
        fs::create_dir(&below).unwrap();
        fs::create_dir(&apart).unwrap();
        fs::write(below.join("file"), vec![1; 100_000]).unwrap();
        fs::write(apart.join("file"), vec![1; 100_000]).unwrap();
        let soon = Instant::now() + Duration::from_secs(60);
        let once = count(dir.path(), &[&apart], soon);
        assert!(once.files == 1 && (100_000..200_000).contains(&once.bytes) && !once.more, "{once:?}");
        fs::hard_link(below.join("file"), dir.path().join("again")).unwrap();
        std::os::unix::fs::symlink(&apart, below.join("link")).unwrap();
        let again = count(dir.path(), &[&apart], soon);
        assert!(again.files == 2 && again.bytes < 200_000 && !again.more, "{again:?}");
        let both = count(dir.path(), &[], soon);
        assert!(both.files == 3 && both.bytes >= 200_000, "{both:?}");
    }

    #[test]
    fn of_files_with_several_names_only_so_many_are_remembered() {
        let dir = tempfile::tempdir().unwrap();
        let soon = Instant::now() + Duration::from_secs(60);
        for shared in 1..=5 {
            let name = dir.path().join(shared.to_string());
            fs::write(&name, "x").unwrap();
            fs::hard_link(&name, name.with_extension("again")).unwrap();
            let usage = count(dir.path(), &[], soon);
            assert_eq!((usage.files, usage.more), (shared.min(3), shared > 3));
        }
    }

    #[test]
    fn a_path_that_is_too_long_is_not_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        let name = "d".repeat(250);
        let mut at =
            rustix::fs::open(dir.path(), rustix::fs::OFlags::DIRECTORY, rustix::fs::Mode::empty()).unwrap();
        for _ in 0..20 {
            rustix::fs::mkdirat(&at, name.as_str(), rustix::fs::Mode::RWXU).unwrap();
            at = rustix::fs::openat(
                &at,
                name.as_str(),
                rustix::fs::OFlags::DIRECTORY,
                rustix::fs::Mode::empty(),
            )
            .unwrap();
        }
        assert!(count(dir.path(), &[], Instant::now() + Duration::from_secs(60)).more);
    }

    #[test]
    fn what_was_not_counted_is_more() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("file"), "x").unwrap();
        assert!(count(dir.path(), &[], Instant::now()).more);
        assert_eq!(count(&dir.path().join("."), &[], Instant::now() + Duration::from_secs(60)).files, 1);
    }
}
