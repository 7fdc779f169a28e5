//! Witnesses: facts that only the kernel, or root outside of containers, can make.
//!
//! What a container or a local user can write or choose is a *hint*: a bundle or a database that a hostPath volume may
//! reach, a command line, the name of a process, a cgroup or a link, the text of a path. Hints say where to look. What
//! lives is ended only by a witness, and `Proven` is how that is written down: a container's control groups, and its
//! processes outside of them, are ended only with one, or as children of a proven shim; and only `scope` makes one.

use serde::{Deserialize, Serialize};

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

const ALL: [Witness; Witness::Recorded as usize + 1] = [
    Witness::Unit,
    Witness::WorksInBundle,
    Witness::ChildOfShim,
    Witness::RuncState,
    Witness::RootOnSnapshot,
    Witness::NetworkNamespace,
    Witness::Recorded,
];

/// Some witnesses, each once: a bit for each, since there are sets of them for all that each of thousands of pods has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "Vec<Witness>", into = "Vec<Witness>")]
pub struct Witnesses(u8);

impl Witnesses {
    pub fn insert(&mut self, witness: Witness) {
        self.0 |= 1 << witness as u8;
    }

    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl From<Vec<Witness>> for Witnesses {
    fn from(all: Vec<Witness>) -> Witnesses {
        let mut witnesses = Witnesses::default();
        all.into_iter().for_each(|witness| witnesses.insert(witness));
        witnesses
    }
}

impl From<[Witness; 1]> for Witnesses {
    fn from([witness]: [Witness; 1]) -> Witnesses {
        Witnesses(1 << witness as u8)
    }
}

impl From<Witnesses> for Vec<Witness> {
    fn from(witnesses: Witnesses) -> Vec<Witness> {
        ALL.into_iter().filter(|witness| witnesses.0 & (1 << *witness as u8) != 0).collect()
    }
}

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
        for witness in ALL {
            let written = serde_json::to_string(&Witnesses::from([witness])).unwrap();
            assert_eq!(written, serde_json::to_string(&[witness]).unwrap());
            assert_eq!(serde_json::from_str::<Witnesses>(&written).unwrap(), [witness].into());
        }
        assert_eq!(Vec::from(Witnesses::from(ALL.to_vec())), ALL);
    }
}
