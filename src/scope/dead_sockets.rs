//! Sockets of shims that had ended before we looked, and of whose containers no bundle is left. containerd calls a socket by the hash
//! of its own address, the namespace and the sandbox's ID: one of that name was made for nobody else.

use std::collections::{BTreeSet, HashSet};
use std::ffi::{OsStr, OsString};
use std::path::Path;

use nix::libc::{EACCES, EPERM};

use crate::error::Blind;
use crate::reason::Reason;
use crate::runtime::bundle::CRI;
use crate::runtime::metadata::{self, traces};
use crate::runtime::{Name, shim};
use crate::scope::Scope;
use crate::view::View;

/// The names of those that are called after our containerd's address and an ID that its database, or a directory of its own, names.
/// IDs that others have (`foreign`) are left out: another instance of the snap may call its containerd's address the same.
pub(super) fn gather(view: &View, scope: &mut Scope, foreign: &HashSet<Name>) -> BTreeSet<Name> {
    let mut found = BTreeSet::new();
    if !scope.has_run() {
        return found;
    }
    let unknown = match view.host.list(&scope.roots.shim_sockets) {
        Ok(names) => unknown(view, scope, names),
        // Confinement refuses it on machines where nothing is left; bundles and command lines tell of the others (tests/spread).
        Err(e) if e.is_gone() || matches!(e.errno(), Some(EACCES | EPERM)) => HashSet::new(),
        Err(e) => {
            scope.doubts.push(Blind::new("sockets of shims that had ended before", &e));
            HashSet::new()
        }
    };
    if unknown.is_empty() {
        return found;
    }
    let roots = &scope.roots;
    let mut take = |namespace: &str, id: &str| {
        if foreign.contains(id) {
            return;
        }
        for of in [shim::socket, shim::debug_socket] {
            let path = of(&roots.shim_sockets, &scope.inside.address, namespace, id);
            found.extend(name_of(&path).filter(|name| unknown.contains(*name)).map(Name::from));
        }
    };
    // What CRI keeps of each lies beside the database, which may be damaged.
    let own = [&roots.root, &roots.state].into_iter().filter(|root| roots.is_own(&scope.snap, root));
    let kept = own.flat_map(|root| view.host.list(&root.join(CRI[1])).unwrap_or_default());
    for id in kept.filter_map(|name| shim::name(name.as_encoded_bytes())) {
        take(metadata::CRI, &id);
    }
    let file = roots.root.join(metadata::FILE);
    let reached = view.host.reach(&file).map_err(|e| e.to_string());
    let read =
        reached.and_then(|()| traces::names(&view.host.path(&file), &mut take).map_err(|e| e.to_string()));
    // Beside another kubelet they are its more often than not.
    if let (Err(why), true) = (read, found.len() < unknown.len() && scope.network.rivals.is_empty()) {
        let what = "sockets of shims, of which containerd's database would tell whose they are";
        scope.doubts.push(Blind::new(what, (Reason::Malformed, why)));
    }
    found
}

/// Names of sockets of shims that no shim and no container that is known has.
fn unknown(view: &View, scope: &Scope, names: Vec<OsString>) -> HashSet<String> {
    let directory = &scope.roots.shim_sockets;
    let is_hash =
        |name: &String| name.len() == 64 && name.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let mut names: HashSet<String> =
        names.into_iter().filter_map(|name| name.into_string().ok()).filter(is_hash).collect();
    let mut known = |path: &Path| name_of(path).is_some_and(|name| names.remove(name));
    for shim in scope.shims.iter().filter_map(|shim| shim.socket.as_deref()) {
        known(shim);
    }
    for container in scope.containers.iter().filter(|c| c.shim_id == c.id.id && scope.counts_as_ours(c)) {
        known(&scope.socket_of(container));
        let (namespace, id) = (&container.id.namespace, &container.id.id);
        known(&shim::debug_socket(directory, &scope.inside.address, namespace, id));
    }
    let is_old = |name: &String| !scope.snap.is_younger_than(view.host, &directory.join(name));
    names.into_iter().filter(is_old).collect()
}

fn name_of(path: &Path) -> Option<&str> {
    path.file_name().and_then(OsStr::to_str)
}

#[cfg(test)]
mod tests;
