//! What the unit tests of several modules share.

use std::fs;
use std::path::Path;

use crate::linux::host::Host;
use crate::linux::interrupts::Interrupts;
use crate::remove::live::Live;
use crate::residue::witness::Witness;
use crate::runtime::ContainerId;
use crate::scope::decide::gather;
use crate::scope::{Container, Scope};
use crate::snap::Snap;
use crate::snap::profile::{Profile, Roots};
use crate::view::View;

/// Makes a file of a machine that is a directory.
pub fn file(machine: &Path, name: &str, text: impl AsRef<[u8]>) {
    let path = machine.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// The snap of most tests, with its built-in profile.
pub fn microk8s() -> (Snap, Profile) {
    (Snap::stand_in("microk8s"), Profile::built_in("microk8s").unwrap().unwrap())
}

/// Where that snap keeps its things.
pub fn roots() -> Roots {
    let (snap, profile) = microk8s();
    profile.resolve(&snap).unwrap()
}

/// The machine, to act on: tests act on what they have made themselves.
pub fn live() -> Live {
    let (snap, profile) = microk8s();
    Live::new(Interrupts::take().unwrap(), &snap, roots(), &profile.services).unwrap()
}

/// A scope of the built-in profile with sandboxes by these IDs and nothing else.
pub fn scope_of(ids: &[&str]) -> Scope {
    let (snap, profile) = microk8s();
    let machine = tempfile::tempdir().unwrap();
    let host = Host::at(machine.path());
    let mut scope = gather(&View::new(&host, None), &snap, &profile).unwrap();
    scope.containers = ids.iter().map(|id| sandbox(id)).collect();
    scope
}

fn sandbox(id: &str) -> Container {
    let id = ContainerId { namespace: "k8s.io".into(), id: id.into() };
    Container { sandbox: true, witnesses: [Witness::RuncState].into(), ..Container::of_id(id) }
}
