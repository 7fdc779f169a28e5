//! What the machine's administrator mounts, and where: /etc/fstab.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use crate::linux::host::Host;
use crate::linux::mountinfo::{Mount, MountTable};
use crate::text::unescape;

/// Longer than any that a person wrote.
const LARGEST: u64 = 1 << 20;

/// Where fstab(5) mounts what is mounted here, if that is elsewhere and nothing is there any more.
///
/// A container that has not got a mount in its own mount namespace may rename the directory that it is on, and the mount
/// goes along with it to where others are ours. The kernel does not tell where it was; fstab does, and only root can
/// write it. Of what was mounted by hand nobody knows. While the place that fstab names is mounted, another mount of the same
/// is one that was made on purpose (kubelet binds local disks).
pub fn moved_from(host: &Host, table: &MountTable, mount: &Mount) -> Option<PathBuf> {
    if mount.root() != Path::new("/") {
        return None;
    }
    let bytes = host.read_at_most(Path::new("/etc/fstab"), LARGEST).ok()?;
    let source = real(host, mount.source());
    let entries = bytes.split(|b| *b == b'\n').filter_map(parse);
    let mut places = entries.filter(|(from, _)| real(host, from) == source).map(|(_, point)| point);
    places.find(|point| table.mounts.iter().all(|m| m.point() != *point))
}

/// Where it has anything mounted.
pub fn points(host: &Host) -> HashSet<PathBuf> {
    let bytes = host.read_at_most(Path::new("/etc/fstab"), LARGEST).unwrap_or_default();
    let point = |line: &[u8]| {
        let mut fields = line.split(u8::is_ascii_whitespace).filter(|field| !field.is_empty());
        let source = fields.next().filter(|source| !source.starts_with(b"#"));
        source.and(fields.next()).and_then(|point| String::from_utf8(unescape(point)?).ok())
    };
    bytes.split(|b| *b == b'\n').filter_map(point).map(PathBuf::from).collect()
}

/// The source and the mount point of a line; none of one that names no device or server.
fn parse(line: &[u8]) -> Option<(PathBuf, PathBuf)> {
    let mut fields = line.split(u8::is_ascii_whitespace).filter(|field| !field.is_empty());
    let source = String::from_utf8(unescape(fields.next()?)?).ok()?;
    let point = PathBuf::from(String::from_utf8(unescape(fields.next()?)?).ok()?);
    let by =
        |directory: &str, name: &str| Path::new("/dev/disk").join(directory).join(name.trim_matches('"'));
    let source = match source.split_once('=') {
        Some(("UUID", name)) => by("by-uuid", name),
        Some(("LABEL", name)) => by("by-label", name),
        Some(("PARTUUID", name)) => by("by-partuuid", name),
        Some(("PARTLABEL", name)) => by("by-partlabel", name),
        _ if source.starts_with("/dev/") || source.contains(":/") || source.starts_with("//") => {
            source.into()
        }
        _ => return None,
    };
    (!source.to_string_lossy().starts_with('#') && point.is_absolute()).then_some((source, point))
}

/// The device itself, where a name of it is given.
fn real(host: &Host, source: &Path) -> PathBuf {
    let named = source.starts_with("/dev").then(|| std::fs::canonicalize(host.path(source)).ok()).flatten();
    named.unwrap_or_else(|| source.to_path_buf())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linux::mountinfo;
    use std::fs;

    #[test]
    fn what_fstab_mounts_elsewhere_was_moved_unless_it_is_there_too() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| crate::fixture::file(dir.path(), name, text);
        file("dev/sdb1", "");
        fs::create_dir_all(dir.path().join("dev/disk/by-uuid")).unwrap();
        std::os::unix::fs::symlink("../../sdb1", dir.path().join("dev/disk/by-uuid/1-2")).unwrap();
        file(
            "etc/fstab",
            "# /dev/sdb1 /no\nUUID=1-2 /c/default\\040storage ext4 defaults 0 2\nproc /proc proc\n",
        );
        let host = Host::at(dir.path());
        let moved = |lines: &str| {
            let table = mountinfo::parse(lines.as_bytes());
            moved_from(&host, &table, &table.mounts[0])
        };
        let there = "1 0 8:17 / /k/pods/x rw - ext4 /dev/sdb1 rw\n";
        assert_eq!(moved(there), Some("/c/default storage".into()));
        let both = format!("{there}2 0 8:17 / /c/default\\040storage rw - ext4 /dev/sdb1 rw\n");
        assert_eq!(moved(&both), None, "a local volume");
        assert_eq!(moved(&there.replace("sdb1", "sdc1")), None);
        assert_eq!(moved(&there.replace("8:17 /", "8:17 /sub")), None, "a part of it");
        assert_eq!(points(&host), ["/c/default storage", "/proc"].map(PathBuf::from).into());
    }
}
