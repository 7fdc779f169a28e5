//! Whether a snapshot in containerd's root directory can only be one of our containerd.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::runtime::metadata;
use crate::snap::Snap;
use crate::snap::profile::{Roots, is_shared};
use crate::view::View;

/// True if only our containerd makes snapshots in its root directory: then a process with its root on one is ours. That is so
/// in the snap's own directories. Elsewhere, the snap's configuration or a link in its directories has to lead there, and no
/// other containerd may run there now: each one locks its database for as long as it runs. Where that cannot be told, it
/// proves nothing.
pub(super) fn proves(view: &View, snap: &Snap, roots: &Roots) -> bool {
    if snap.owns(&roots.root) {
        return true;
    }
    let is_led_to = || roots.spellings(&roots.root).iter().any(|path| snap.owns(path));
    if is_shared(&roots.root) || !roots.moved.contains(&roots.root) && !is_led_to() {
        return false;
    }
    let database = roots.root.join(metadata::FILE);
    let Ok(inode) = view.host.stat(&database).map(|found| found.ino()) else { return false };
    let Ok(locks) = view.host.read(Path::new("/proc/locks")) else { return false };
    let holders = locked_by(&locks, inode);
    holders.into_iter().all(|pid| view.unit_of(pid) == Some(snap.instance.as_str()))
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
