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
mod tests {
    use super::*;

    #[test]
    fn dockers_data_are_another_dockers_while_that_locks_them() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| crate::fixture::file(dir.path(), name, text);
        let told = "version = 0\nroot = \"/mnt/big/docker/containerd/daemon\"\n";
        file("run/snap.docker/containerd/containerd.toml", told);
        file("mnt/big/docker/volumes/metadata.db", "");
        let database = dir.path().join("mnt/big/docker").join(docker::DATABASE);
        let inode = std::fs::metadata(database).unwrap().ino();
        let (snap, profile) = (Snap::stand_in("docker"), crate::snap::profile::Profile::built_in("docker"));
        let profile = profile.unwrap().unwrap();
        let host = crate::linux::host::Host::at(dir.path());
        let found = || {
            let scope = crate::scope::decide::gather(&View::new(&host, None), &snap, &profile).unwrap();
            let told = scope.blind.iter().any(|blind| blind.what == "docker's data in /mnt/big/docker");
            (scope.roots.docker.is_some(), scope.inside.docker.is_some(), told)
        };
        assert_eq!(found(), (false, false, true), "who locks them cannot be told");
        file("proc/locks", "");
        assert_eq!(found(), (true, true, false));
        file("proc/locks", &format!("1: FLOCK  ADVISORY  WRITE 7 08:01:{inode} 0 EOF\n"));
        assert_eq!(found(), (false, false, false));
        let (cgroups, unit) = (crate::scope::tests::CGROUPS, "/system.slice/snap.docker.dockerd.service");
        file(cgroups.0, cgroups.1);
        file("proc/self/status", "NSpid:\t9\n");
        file("proc/7/status", "NSpid:\t7\n");
        file("proc/7/cgroup", &format!("0::{unit}\n"));
        file(&format!("sys/fs/cgroup{unit}/cgroup.procs"), "7\n");
        assert_eq!(found(), (true, true, false), "our own may still run");
        // What tells of the place goes with the state, and is known to a later run.
        let gather = |earlier: Option<&crate::scope::Scope>| {
            let view = View::new(&host, None);
            crate::scope::decide::gather_after(&view, &snap, &profile, earlier).unwrap()
        };
        let earlier = gather(None);
        std::fs::remove_dir_all(dir.path().join("run/snap.docker")).unwrap();
        let later = gather(Some(&earlier)).roots;
        assert_eq!((&later.docker, &later.moved), (&earlier.roots.docker, &earlier.roots.moved));
        assert_eq!(gather(None).roots.docker, None, "nothing tells");
    }

    #[test]
    fn a_moved_root_proves_while_no_other_containerd_locks_it() {
        use crate::fixture::microk8s;
        use crate::linux::host::Host;
        let dir = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let file = dir.path().join(path);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, text).unwrap();
        };
        write("var/snap/microk8s/x1/args/containerd", "--root /mnt/big/lib\n");
        let database = format!("mnt/big/lib/{}", metadata::FILE);
        write(&database, "");
        let inode = std::fs::metadata(dir.path().join(&database)).unwrap().ino();
        let host = Host::at(dir.path());
        let (snap, profile) = microk8s();
        let (roots, _) = crate::scope::roots::resolve(&host, &snap, &profile).unwrap();
        let proves = |roots: &Roots| super::proves(&View::new(&host, None), &snap, roots);
        assert!(!proves(&roots), "who holds it cannot be told");
        write("proc/locks", &format!("1: POSIX  ADVISORY  WRITE 7 08:01:{inode}1 0 EOF\n"));
        assert!(proves(&roots));
        let shared = Roots { root: "/var/lib/containerd".into(), ..roots.clone() };
        assert!(!proves(&Roots { moved: vec![shared.root.clone()], ..shared }), "others have theirs there");
        assert!(!proves(&Roots { moved: vec![], ..roots.clone() }), "nothing of the snap's says so");
        write("proc/locks", &format!("1: FLOCK  ADVISORY  WRITE 7 08:01:{inode} 0 EOF\n"));
        assert_eq!(
            locked_by(format!("2: FLOCK  ADVISORY  WRITE 7 08:01:{inode} 0 EOF").as_bytes(), inode),
            [7]
        );
        assert!(!proves(&roots));
    }
}
