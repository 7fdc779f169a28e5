//! What containerd's mount manager wrote down (since 2.2): which mounts it has made itself for a container's root file system.
//!
//! The database is `STATE/io.containerd.mount-manager.v1.bolt/mounts.db`; beside it is a directory `t` for the mounts. containerd
//! makes both whenever it starts, and where a snapshotter needs no more than a plain mount, nothing is ever in them
//! (`core/mount/manager/manager.go`, `Activate`; the name is the container's ID, `core/runtime/v2/task_manager.go`):
//!
//! ```text
//! v1 / NAMESPACE / mounts / NAME / id, active/, …
//! ```

use std::path::Path;

use super::bolt::{self, BoltError, Item, ReadAt};
use super::metadata::open;
use super::{ContainerId, shim};

/// The mount manager's own directory, below containerd's state directory.
pub const DIRECTORY: &str = "io.containerd.mount-manager.v1.bolt";
/// Its database there.
pub const FILE: &str = "mounts.db";
/// Where it mounts, each in a directory of a number.
pub const TARGETS: &str = "t";

/// True if every mount that the database in this file names is of a container that is `ours`; also if it names none.
pub fn are_all(path: &Path, ours: &dyn Fn(&ContainerId) -> bool) -> Result<bool, BoltError> {
    open(path)?.map_or(Ok(true), |file| are_all_in(&file, ours))
}

fn are_all_in(source: &dyn ReadAt, ours: &dyn Fn(&ContainerId) -> bool) -> Result<bool, BoltError> {
    bolt::read(source, |database| {
        // The other meta page may be the state before the last change.
        let mut all = database.is_whole();
        let Some(namespaces) = database.bucket(&[b"v1"])? else { return Ok(all) };
        let mut damage = Ok(());
        namespaces.each(&mut |namespace, item| {
            let Item::Bucket(bucket) = item else { return };
            let mut name = |name: &[u8], _: Item| {
                let id = shim::name(namespace).zip(shim::name(name));
                let id = id.map(|(namespace, id)| ContainerId { namespace: namespace.into(), id: id.into() });
                all &= id.is_some_and(|id| ours(&id));
            };
            let walked =
                bucket.bucket(b"mounts").and_then(|mounts| mounts.map_or(Ok(()), |m| m.each(&mut name)));
            damage = std::mem::replace(&mut damage, Ok(())).and(walked);
        })?;
        damage.map(|()| all)
    })
}

/// The database as it is when containerd has started.
#[cfg(test)]
pub fn empty() -> Vec<u8> {
    bolt::writer::Writer::new(bolt::writer::Order::Little, 4096).bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::bolt::writer::{Node, Order, Tree, Writer, put};

    #[test]
    fn mounts_are_ours_by_namespace_and_id() {
        let all = |names: &[[&str; 2]], damage: &dyn Fn(&mut Vec<u8>)| {
            let mut tree = Tree::new();
            for [namespace, name] in names {
                put(&mut tree, &["v1", namespace, "mounts", name, "id"], [1]);
                put(&mut tree, &["v1", namespace, "leases", "somebody", name], []);
            }
            let mut writer = Writer::new(Order::Little, 4096);
            writer.commit(&tree);
            damage(&mut writer.bytes);
            are_all_in(&&writer.bytes[..], &|id| (&*id.namespace, &*id.id) == ("k8s.io", "a")).ok()
        };
        let whole = |names: &[[&str; 2]]| all(names, &|_| {});
        assert_eq!(whole(&[]), Some(true));
        assert_eq!(whole(&[["k8s.io", "a"]]), Some(true));
        for other in [["k8s.io", "b"], ["moby", "a"], ["k8s.io", "../a"], ["", "a"]] {
            assert_eq!(whole(&[["k8s.io", "a"], other]), Some(false), "{other:?}");
        }
        assert_eq!(all(&[["k8s.io", "a"]], &|bytes| bytes[30] ^= 1), Some(false), "one meta page");
        assert_eq!(all(&[["k8s.io", "a"]], &|bytes| bytes.truncate(3 * 4096)), None, "cut short");
        // A containerd that has mounted once keeps the empty buckets.
        let mut writer = Writer::new(Order::Little, 4096);
        let mounts = Tree::from([(b"mounts".to_vec(), Node::Bucket(Tree::new()))]);
        let namespace = Tree::from([(b"k8s.io".to_vec(), Node::Bucket(mounts))]);
        writer.commit(&Tree::from([(b"v1".to_vec(), Node::Bucket(namespace))]));
        assert_eq!(are_all_in(&&writer.bytes[..], &|_| false).ok(), Some(true));
    }

    #[test]
    fn a_file_that_is_not_there_names_nobody_and_one_that_is_none_of_bolts_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        assert!(are_all(&path, &|_| false).unwrap());
        std::fs::write(&path, "x").unwrap();
        assert!(are_all(&path, &|_| true).is_err());
    }
}
