//! Witnesses: facts that only the kernel, or root outside of containers, can make.
//!
//! What a container or a local user can write or choose is a *hint*: a bundle or a database that a hostPath volume may
//! reach, a command line, the name of a process, a cgroup or a link, the text of a path. Hints say where to look. What
//! lives is ended only by a witness, and `Proven` is how that is written down: a container's control groups, and its
//! processes outside of them, are ended only with one, or as children of a proven shim; and only `scope` makes one.

use serde::{Deserialize, Serialize};

use crate::bits::{Bits, Word};

/// Why something alive is ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Witness {
    /// It runs in one of the snap's units, directly below `/system.slice`, at our own PID namespace depth. systemd makes
    /// these groups for snapd; a delegated slice or a guest has them elsewhere.
    Unit,
    /// A shim of root's whose working directory is the bundle of a container of ours, by device and inode, and which is in
    /// no container's group. containerd makes bundles, 0700 and root's.
    WorksInBundle,
    /// Its parent is a proven shim. A shim is a subreaper: only what it started, or what that started, has it for a
    /// parent, and the kernel says so.
    ChildOfShim,
    /// runc's state of the container, in a directory that no container can write, names it and a bundle of ours.
    RuncState,
    /// Its root directory, mounted in the machine's own user namespace, is on a snapshot of the snap's containerd, where no
    /// other containerd works; or it is an overlay that writes to a layer of docker's in the snap's own directories.
    RootOnSnapshot,
    /// For a sandbox of which nothing else is left: CNI's result, which root wrote, says that a network namespace was made
    /// for it, a process that another witness proves ours is in that namespace, and nobody else is.
    NetworkNamespace,
    /// For a sandbox that has no process any more: the database of the snap's containerd names it, and a result of CNI or an
    /// empty group of its pod is left. That is a hint, which is enough for what is dead.
    Recorded,
}

impl Word for Witness {
    const ALL: &'static [Witness] = &[
        Witness::Unit,
        Witness::WorksInBundle,
        Witness::ChildOfShim,
        Witness::RuncState,
        Witness::RootOnSnapshot,
        Witness::NetworkNamespace,
        Witness::Recorded,
    ];

    fn number(self) -> u8 {
        self as u8
    }
}

/// Some witnesses.
pub type Witnesses = Bits<Witness>;

/// Something alive, with what proves it ours.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proven<T> {
    #[serde(rename = "what")]
    thing: T,
    by: Witnesses,
}

impl<T> Proven<T> {
    /// Only `scope` calls this (`tests/floors.rs` holds that): it has looked at the witness.
    pub fn by(witness: Witness, thing: T) -> Proven<T> {
        Proven { thing, by: [witness].into() }
    }

    /// The thing itself.
    pub fn get(&self) -> &T {
        &self.thing
    }

    /// One more proves it, too.
    pub fn and_by(&mut self, witness: Witness) {
        self.by.insert(witness);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_witness_is_written_and_read_back() {
        assert_eq!(Witness::ALL.len(), Witness::Recorded as usize + 1);
        for witness in Witness::ALL.iter().copied() {
            let written = serde_json::to_string(&Witnesses::from([witness])).unwrap();
            assert_eq!(written, serde_json::to_string(&[witness]).unwrap());
            assert_eq!(serde_json::from_str::<Witnesses>(&written).unwrap(), [witness].into());
        }
        let all: Witnesses = Witness::ALL.iter().copied().collect();
        assert_eq!(all.iter().collect::<Vec<_>>(), Witness::ALL);
    }
}
