//! Control groups: where the hierarchies are, which groups exist, and whose names they carry.
//!
//! Three layouts are in the field: v2 alone, v1 with a hierarchy for each controller, and hybrid. A
//! container's group has the same path in every hierarchy it is in, named by kubelet and runc in one of two
//! ways (`cgroupfs`, `systemd`).

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::CWD;

use crate::host::Host;
use crate::mountinfo::MountTable;

mod walk;

pub use walk::walk;
use walk::{DEEPEST, children, has_none_below, open_group};

/// Which interface files a hierarchy has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// One hierarchy for each controller, or named.
    V1,
    /// The unified one.
    V2,
}

/// One mounted hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hierarchy {
    /// v1 or v2.
    pub version: Version,
    /// Where it is mounted.
    pub point: PathBuf,
    /// True if nothing in it can be changed.
    pub read_only: bool,
    /// True if this is the v1 hierarchy that can freeze groups.
    pub freezer: bool,
}

/// All groups of all hierarchies.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CgroupTree {
    /// The hierarchies, in mount order.
    pub hierarchies: Vec<Hierarchy>,
    /// For each hierarchy, its groups as paths below its mount point ("/kubepods/…"), parents first.
    pub groups: Vec<Vec<PathBuf>>,
    /// Directories that could not be listed, with the reason.
    pub unreadable: Vec<(PathBuf, String)>,
}

/// The hierarchies in a mount table, each once: the first of co-mounted copies, and none that is shadowed by
/// a later mount at the same place.
pub fn hierarchies(table: &MountTable) -> Vec<Hierarchy> {
    let mut found: Vec<(String, Hierarchy)> = Vec::new();
    for (i, mount) in table.mounts.iter().enumerate() {
        let version = match mount.fstype.as_str() {
            "cgroup2" => Version::V2,
            "cgroup" => Version::V1,
            _ => continue,
        };
        let shadowed = table.mounts[i + 1..].iter().any(|later| mount.point.starts_with(&later.point));
        let twin = found.iter().any(|(device, _)| *device == mount.device);
        if shadowed || twin {
            continue;
        }
        let freezer = version == Version::V1 && mount.options.split(|b| *b == b',').any(|o| o == b"freezer");
        found.push((
            mount.device.clone(),
            Hierarchy { version, point: mount.point.clone(), read_only: mount.read_only, freezer },
        ));
    }
    found.into_iter().map(|(_, hierarchy)| hierarchy).collect()
}

/// The directory of a group that is named as a path below its hierarchy's mount point.
pub fn full(point: &Path, group: &Path) -> PathBuf {
    match group.strip_prefix("/") {
        Ok(below) if !below.as_os_str().is_empty() => point.join(below),
        _ => point.to_path_buf(),
    }
}

impl CgroupTree {
    /// The hierarchies in which each group exists. By the names' bytes: paths are hashed part by part, which takes longer.
    pub fn index(&self) -> HashMap<&OsStr, Vec<&Hierarchy>> {
        let mut index: HashMap<&OsStr, Vec<&Hierarchy>> = HashMap::new();
        self.each()
            .for_each(|(hierarchy, group)| index.entry(group.as_os_str()).or_default().push(hierarchy));
        index
    }

    /// Every group with its hierarchy.
    pub fn each(&self) -> impl Iterator<Item = (&Hierarchy, &Path)> {
        self.hierarchies
            .iter()
            .zip(&self.groups)
            .flat_map(|(h, groups)| groups.iter().map(move |g| (h, g.as_path())))
    }

    /// "v1", "v2" or "hybrid", as people call it.
    pub fn layout(&self) -> &'static str {
        let has = |v| self.hierarchies.iter().any(|h| h.version == v);
        match (has(Version::V1), has(Version::V2)) {
            (true, true) => "hybrid",
            (true, false) => "v1",
            (false, true) => "v2",
            (false, false) => "none",
        }
    }
}

/// The PIDs in a group, and in the groups below it. Zero is a process outside our PID namespace: not ours.
pub fn pids(host: &Host, directory: &Path) -> crate::error::Result<Vec<i32>> {
    let mut pids = Vec::new();
    pids_below(host, directory, 0, &mut pids)?;
    Ok(pids)
}

fn pids_below(host: &Host, directory: &Path, depth: usize, pids: &mut Vec<i32>) -> crate::error::Result<()> {
    pids.extend(own_pids(host, directory)?);
    let path = host.path(directory);
    if depth < DEEPEST && !has_none_below(CWD, &path) {
        let below = open_group(CWD, path).and_then(|directory| children(&directory));
        for name in below.unwrap_or_default() {
            pids_below(host, &directory.join(name), depth + 1, pids)?;
        }
    }
    Ok(())
}

/// The PIDs in a group itself.
pub fn own_pids(host: &Host, directory: &Path) -> crate::error::Result<Vec<i32>> {
    match host.read(&directory.join("cgroup.procs")) {
        Ok(bytes) => Ok(parse_pids(&bytes).collect()),
        Err(e) if e.is_gone() => Ok(Vec::new()),
        // The group is threaded: the kernel lists its processes above, and here their threads, of which each process
        // has one with its own number.
        Err(e) if e.errno() == Some(nix::libc::EOPNOTSUPP) => {
            match host.read(&directory.join("cgroup.threads")) {
                Ok(bytes) => Ok(parse_pids(&bytes).collect()),
                Err(e) if e.is_gone() => Ok(Vec::new()),
                Err(e) => Err(e),
            }
        }
        Err(e) => Err(e),
    }
}

/// Parses `cgroup.procs`.
pub fn parse_pids(bytes: &[u8]) -> impl Iterator<Item = i32> {
    bytes
        .split(|b| *b == b'\n')
        .filter_map(|l| std::str::from_utf8(l).ok()?.parse().ok())
        .filter(|pid| *pid > 0)
}

/// True if the kernel says that there is no process in a group or below it (Documentation/admin-guide/cgroup-v2.rst,
/// "Un-populated Notification"); false also where it does not say.
pub fn is_unpopulated(host: &Host, hierarchy: &Hierarchy, directory: &Path) -> bool {
    let says_so = |bytes: Vec<u8>| bytes.split(|b| *b == b'\n').any(|line| line == b"populated 0");
    hierarchy.version == Version::V2 && host.read(&directory.join("cgroup.events")).is_ok_and(says_so)
}

/// True if a group is frozen, by either version's file.
pub fn frozen(host: &Host, hierarchy: &Hierarchy, directory: &Path) -> bool {
    let (file, yes) = match hierarchy.version {
        Version::V2 => ("cgroup.freeze", "1"),
        Version::V1 if hierarchy.freezer => ("freezer.self_freezing", "1"),
        Version::V1 => return false,
    };
    host.read_text(&directory.join(file)).is_ok_and(|state| state == yes)
}

/// The group paths in `/proc/PID/cgroup`, one for each hierarchy the process is in.
pub fn parse_membership(bytes: &[u8]) -> Vec<PathBuf> {
    use std::os::unix::ffi::OsStrExt;
    let mut paths: Vec<PathBuf> = bytes
        .split(|b| *b == b'\n')
        .filter_map(|line| line.splitn(3, |b| *b == b':').nth(2))
        .map(|path| {
            PathBuf::from(std::ffi::OsStr::from_bytes(path.strip_suffix(b" (deleted)").unwrap_or(path)))
        })
        .filter(|path| path.is_absolute() && path.as_os_str() != "/")
        .collect();
    paths.sort();
    paths.dedup();
    paths
}

/// Where runc puts a container, given the `cgroupsPath` of its spec: an absolute path is used as it is
/// (cgroupfs), `slice:prefix:name` becomes a scope below the expanded slice (systemd), or, where runc ran
/// without systemd, a directory of exactly that name.
pub fn of_spec(cgroups_path: &str) -> Vec<PathBuf> {
    let hostile = |text: &str| text.split('/').any(|part| part == "..") || text.contains('\0');
    if cgroups_path.is_empty() || hostile(cgroups_path) {
        return Vec::new();
    }
    let parts: Vec<&str> = cgroups_path.split(':').collect();
    if cgroups_path.starts_with('/') {
        // Without systemd the slice, prefix and name stay one directory's name.
        return vec![normal(cgroups_path)];
    }
    match parts[..] {
        [slice, prefix, name] if slice.ends_with(".slice") && !slice.contains('/') => {
            let scope = if prefix.is_empty() { name.to_string() } else { format!("{prefix}-{name}.scope") };
            vec![expand_slice(slice).join(scope), Path::new("/").join(cgroups_path)]
        }
        _ => vec![normal(cgroups_path)],
    }
}

fn normal(path: &str) -> PathBuf {
    let parts = Path::new(path).components().filter(|c| matches!(c, std::path::Component::Normal(_)));
    Path::new("/").join(parts.collect::<PathBuf>())
}

/// `a-b.slice` lies in `a.slice` (systemd.slice(5)).
fn expand_slice(slice: &str) -> PathBuf {
    let name = slice.strip_suffix(".slice").unwrap_or(slice);
    let mut path = PathBuf::from("/");
    if name == "-" {
        return path;
    }
    for (at, _) in name.match_indices('-').chain([(name.len(), "")]) {
        path.push(format!("{}.slice", &name[..at]));
    }
    path
}

/// The container ID in the name of a group, if the name has the shape that container runtimes give.
pub fn container_of(name: &str) -> Option<&str> {
    let name = name.strip_suffix(".scope").unwrap_or(name);
    let id = name.rsplit(':').next().unwrap_or(name);
    let id = id.strip_prefix("cri-containerd-").unwrap_or(id);
    (id.len() == 64 && id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))).then_some(id)
}

/// True for a group that kubelet makes: a pod's, a QoS class's, or the one above them; and for the one that
/// containerd makes for containers without a pod. Nothing above those was made for us.
pub fn is_kubelets(group: &Path) -> bool {
    let name = group.file_name().and_then(|n| n.to_str()).unwrap_or_default();
    let name = name.strip_suffix(".slice").unwrap_or(name);
    let last = name.rsplit('-').next().unwrap_or(name);
    let pod = |part: &str| part.strip_prefix("pod").is_some_and(|uid| !uid.is_empty());
    name == "k8s.io"
        || name.contains("kubepods")
        || ["burstable", "besteffort"].contains(&last)
        || pod(name)
        || pod(last)
}

/// The service of this snap whose group a path is in: `snap.NAME.SERVICE.service` among its components.
pub fn service_of<'a>(group: &'a Path, instance: &str) -> Option<&'a str> {
    units_of_snaps(group)
        .find_map(|unit| unit.strip_prefix(instance)?.strip_prefix('.')?.strip_suffix(".service"))
}

/// The instance name of any snap's unit (service or scope) in a path: `snap.NAME.…`.
pub fn snap_of(group: &Path) -> Option<&str> {
    units_of_snaps(group).find_map(|unit| {
        unit.strip_suffix(".service").or_else(|| unit.strip_suffix(".scope"))?.split('.').next()
    })
}

/// The components of a path that begin with `snap.`, without that. Every group of the machine is asked.
fn units_of_snaps(group: &Path) -> impl Iterator<Item = &str> {
    let parts = group.as_os_str().as_bytes().split(|b| *b == b'/');
    parts.filter_map(|part| std::str::from_utf8(part.strip_prefix(b"snap.")?).ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mountinfo::parse;

    const HEX: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    #[test]
    fn spec_paths_of_both_drivers() {
        let one = |p: &str| vec![PathBuf::from(p)];
        assert_eq!(of_spec("/kubepods/burstable/pod1/abc"), one("/kubepods/burstable/pod1/abc"));
        assert_eq!(
            of_spec("kubepods-burstable-pod1_2.slice:cri-containerd:abc"),
            vec![
                PathBuf::from(
                    "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1_2.slice/cri-containerd-abc.scope"
                ),
                PathBuf::from("/kubepods-burstable-pod1_2.slice:cri-containerd:abc"),
            ]
        );
        assert_eq!(of_spec("/k8s.io//q1/"), one("/k8s.io/q1"));
        assert!(of_spec("").is_empty());
        assert!(of_spec("/kubepods/../system.slice").is_empty());
    }

    #[test]
    fn leaf_names() {
        for name in
            [HEX.to_string(), format!("cri-containerd-{HEX}.scope"), format!("a.slice:cri-containerd:{HEX}")]
        {
            assert_eq!(container_of(&name), Some(HEX), "{name}");
        }
        for name in ["", "kubepods", &HEX[1..], &HEX.to_uppercase(), &format!("docker-{HEX}.scope")] {
            assert_eq!(container_of(name), None, "{name}");
        }
    }

    #[test]
    fn units_are_matched_by_whole_name() {
        let group = Path::new("/system.slice/snap.microk8s.daemon-containerd.service");
        assert_eq!(service_of(group, "microk8s"), Some("daemon-containerd"));
        assert_eq!(service_of(group, "micro"), None);
        assert_eq!(service_of(Path::new("/system.slice/snap.microk8s_b.d.service"), "microk8s"), None);
        assert_eq!(snap_of(Path::new("/system.slice/snap.microk8s_b.d.service")), Some("microk8s_b"));
        assert_eq!(snap_of(Path::new("/system.slice/snap.x.hook.remove-1.scope")), Some("x"));
        assert_eq!(snap_of(Path::new("/system.slice/snap.mount")), None);
    }

    #[test]
    fn membership_of_hybrid() {
        let text = b"12:pids:/kubepods/a\n1:name=systemd:/kubepods/a\n0::/system.slice/x.service\n3:cpu:/\ngarbage\n";
        assert_eq!(
            parse_membership(text),
            [PathBuf::from("/kubepods/a"), PathBuf::from("/system.slice/x.service")]
        );
    }

    #[test]
    fn pids_of_garbage() {
        assert_eq!(parse_pids(b"1\n0\n-4\nx\n\n99999999999\n7").collect::<Vec<_>>(), [1, 7]);
    }

    #[test]
    fn hierarchies_once_each_and_none_that_is_shadowed() {
        let table = parse(
            b"1 0 0:1 / / rw - ext4 /dev/a rw\n2 1 0:2 / /sys/fs/cgroup/cpu rw - cgroup c rw,cpu\n\
              3 1 0:2 / /mnt/cpu rw - cgroup c rw,cpu\n4 1 0:3 / /sys/fs/cgroup/freezer rw - cgroup c rw,freezer\n\
              5 1 0:4 / /sys/fs/cgroup/unified rw - cgroup2 c rw\n",
        );
        let found = hierarchies(&table);
        assert_eq!(found.len(), 3);
        assert!(found[1].freezer && !found[0].freezer && found[2].version == Version::V2);
        let table = parse(b"2 1 0:2 / /sys/fs/cgroup/cpu rw - cgroup c rw,cpu\n6 1 0:5 / /sys/fs/cgroup rw - cgroup2 c rw\n");
        assert_eq!(hierarchies(&table).iter().map(|h| h.version).collect::<Vec<_>>(), [Version::V2]);
    }
}
