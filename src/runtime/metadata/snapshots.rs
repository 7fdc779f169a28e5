//! Who has made the snapshots of a snapshotter: its own database, `metadata.db` beside them, is one of bolt's, too (containerd
//! `core/snapshots/storage/bolt.go`; `snapshots/storage/bolt.go` before 2.0):
//!
//! ```text
//! v1 / snapshots / NAMESPACE/COUNT/NAME / id
//! ```

use std::collections::BTreeMap;
use std::path::Path;

use super::{any, open, value_of};
use crate::runtime::bolt::{self, BoltError, Item};
use crate::runtime::shim;

/// The namespaces of containerd's by the numbers of their snapshots; with none if there is no database.
pub fn namespaces(path: &Path) -> Result<BTreeMap<u64, String>, BoltError> {
    let Some(file) = open(path)? else { return Ok(BTreeMap::new()) };
    bolt::read(&file, |database| {
        let mut found = BTreeMap::new();
        let Some(all) = database.bucket(&[b"v1", b"snapshots"])? else { return Ok(found) };
        all.each(&mut |key, item| {
            let Item::Bucket(snapshot) = item else { return };
            let namespace = key.split(|b| *b == b'/').next().and_then(shim::name);
            let mut id = None;
            let taken = value_of(&snapshot, b"id", |mut value| id = any::varint(&mut value));
            found.extend(id.zip(namespace).filter(|_| taken.is_ok()));
        })?;
        Ok(found)
    })
}
