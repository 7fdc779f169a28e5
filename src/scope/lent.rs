//! Devices of the host's that CNI moved into sandboxes of ours, and that nobody has moved back. The kernel gives back what is real;
//! a VLAN or a bridge's port would end with the namespace, and it is the user's.

use std::fs::File;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns};

use crate::error::Blind;
use crate::json;
use crate::linux::child::{ChildEnd, in_child};
use crate::linux::links;
use crate::reason::Reason;
use crate::runtime::cni::Attachment;
use crate::scope::netns::Namespaces;
use crate::scope::network::OwnedNetns;
use crate::text::{escape, show, write_json};

/// The kernel answers at once, or not at all.
const PATIENCE: Duration = Duration::from_secs(2);

/// Leaves the namespaces that hold such devices, and tells of them.
pub(super) fn leave(namespaces: &mut Namespaces, results: &[(String, Attachment)]) -> Vec<Blind> {
    let mut told = Vec::new();
    namespaces.ours.retain(|own| {
        let lent = results.iter().filter(|(id, a)| *id == own.sandbox && a.config.lends);
        let names: Vec<&str> = lent.map(|(_, a)| a.interface.as_str()).collect();
        let first = names.into_iter().find(|name| would_end(own, name));
        told.extend(first.map(|name| {
            let path = show(own.paths.first().map_or(Path::new(""), |path| path));
            let name = escape(name.as_bytes());
            let why = format!(
                "a device of the host's was moved into it, and would end with it; 'nsenter --net={path} ip link set {name} netns 1' gives it back"
            );
            Blind::new(format!("the network namespace {path}"), (Reason::Unproven, why))
        }));
        first.is_none()
    });
    told
}

/// Whether a virtual device of this name is there; also if nobody can say.
fn would_end(own: &OwnedNetns, name: &str) -> bool {
    let Some(path) = own.paths.first() else { return false };
    let work = |out: &mut File| {
        let entered = File::open(path).is_ok_and(|netns| setns(netns, CloneFlags::CLONE_NEWNET).is_ok());
        let there = links::links().ok().filter(|_| entered);
        let ends = there.is_none_or(|all| all.iter().any(|l| l.name == name && !l.kind.is_empty()));
        let _ = write_json(out, &ends);
    };
    match in_child(Instant::now() + PATIENCE, work) {
        Ok(ChildEnd::Finished(said)) => json::parse(&said).unwrap_or(true),
        _ => true,
    }
}
