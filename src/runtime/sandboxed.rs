//! What the runtimes keep whose containers are in a sandbox of their own: gVisor's runsc and Kata.
//!
//! runsc has files where runc has directories: `ID_sandbox:SANDBOX.state`, an empty `.lock` beside it, and the socket
//! `runsc-SANDBOX.sock` (gVisor `runsc/container/state_file.go`, `runsc/boot/controller.go`). If runc's shim started runsc,
//! they lie in runc's directory; if gVisor's did, in one of their own. Kata has a directory for each sandbox in up to four
//! places (`virtcontainers/persist/fs`, `kata_agent.go`), and makes its groups for the sandbox, not for the containers.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::json;
use crate::linux::host::Host;
use crate::runtime::bundle::{MAX_DOCUMENT, bundle_paths};
use crate::runtime::{ContainerId, groups};
use crate::snap::profile::Roots;

/// Where Kata has the directories that it shares with its guests: mounts of the containers' roots and volumes.
pub const KATA_SHARED: &str = "/run/kata-containers/shared/sandboxes";

/// Directories that Kata makes on a host, each after those below it.
pub const KATA_SKELETON: [&str; 7] = [
    KATA_SHARED,
    "/run/kata-containers/shared",
    "/run/kata-containers",
    "/run/vc/sbs",
    "/run/vc/vm",
    "/run/vc",
    "/run/kata",
];

/// Where Kata has a directory for each sandbox.
pub const KATA_SANDBOXES: [&str; 4] = [KATA_SHARED, "/run/vc/sbs", "/run/vc/vm", "/run/kata"];

/// Where runsc keeps the states of a namespace's containers.
pub fn runsc_directories(roots: &Roots, namespace: &str) -> [PathBuf; 2] {
    [roots.runc.join(namespace), roots.runc.with_file_name("runsc").join(namespace)]
}

/// Of which container a file of runsc's is by its name, and of which sandbox.
pub fn owners_of_file(name: &str) -> Option<(&str, &str)> {
    let socket = name.strip_prefix("runsc-").and_then(|rest| rest.strip_suffix(".sock"));
    let state = || name.strip_suffix(".state").or(name.strip_suffix(".lock"))?.split_once("_sandbox:");
    socket.map(|id| (id, id)).or_else(state)
}

/// True if what runsc wrote down in this directory says that the container is another's; also if that cannot be read.
pub fn is_of_another(host: &Host, directory: &Path, inside: &Roots, id: &ContainerId, sandbox: &str) -> bool {
    let state = directory.join(format!("{}_sandbox:{sandbox}.state", id.id));
    match host.read_at_most(&state, MAX_DOCUMENT) {
        Ok(bytes) => is_anothers(&bytes, inside, id),
        Err(e) => !e.is_gone(),
    }
}

/// True for a state that names a bundle, and not one that a container of this ID has in our directories.
fn is_anothers(bytes: &[u8], inside: &Roots, id: &ContainerId) -> bool {
    #[derive(Deserialize)]
    struct State {
        #[serde(rename = "bundleDir", default)]
        bundle: PathBuf,
    }
    let named = json::parse(bytes).map_or_else(|_| PathBuf::new(), |state: State| state.bundle);
    let mut ours = bundle_paths(inside, id);
    !named.as_os_str().is_empty() && !ours.any(|own| inside.spellings(&own).contains(&named))
}

/// The container or sandbox whose group this is by its name, if the name is one of runc's, runsc's or Kata's.
pub fn owner_of_group(name: &str) -> Option<&str> {
    groups::container_of(name.strip_prefix("kata_").unwrap_or(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn runscs_files_are_known_by_both_ids_and_contradicted_by_another_bundle() {
        for name in ["app_sandbox:pod.state", "app_sandbox:pod.lock"] {
            assert_eq!(owners_of_file(name), Some(("app", "pod")), "{name}");
        }
        assert_eq!(owners_of_file("runsc-pod.sock"), Some(("pod", "pod")));
        for name in ["app", "app.state", "app_sandbox:pod", "runsc-pod", ""] {
            assert_eq!(owners_of_file(name), None, "{name}");
        }
        let dir = tempfile::tempdir().unwrap();
        let host = Host::at(dir.path());
        let roots = crate::fixture::roots();
        let id = ContainerId { namespace: "k8s.io".into(), id: "app".into() };
        let directory = &runsc_directories(&roots, "k8s.io")[0];
        let is_of_another = || is_of_another(&host, directory, &roots, &id, "pod");
        assert!(!is_of_another(), "nothing was written");
        fs::create_dir_all(host.path(directory)).unwrap();
        let own = bundle_paths(&roots, &id).next().unwrap().display().to_string();
        for (bundle, expected) in [(own.as_str(), false), ("/run/k3s/app", true), ("", false)] {
            let text = format!("{{\"bundleDir\":\"{bundle}\",\"id\":\"app\"}}");
            fs::write(host.path(&directory.join("app_sandbox:pod.state")), text).unwrap();
            assert_eq!(is_of_another(), expected, "{bundle}");
        }
    }

    #[test]
    fn names_of_groups() {
        let id = "0123456789abcdef".repeat(4);
        for name in [id.clone(), format!("kata_{id}"), format!("cri-containerd-{id}.scope")] {
            assert_eq!(owner_of_group(&name), Some(id.as_str()), "{name}");
        }
        assert_eq!(owner_of_group("kata_web"), None);
    }
}
