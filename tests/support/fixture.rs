//! Containers as containerd, runc and the shims write them down, made by hand: for trees that are only read, and for worlds
//! in which no containerd runs. Written from what the real ones leave, without any code of the program under test.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::Result;

/// Where containerd keeps bundles, below its state directory.
pub const TASKS: &str = "io.containerd.runtime.v2.task/k8s.io";

/// Where the shims of every containerd of the machine listen.
const SOCKETS: &str = "/run/containerd/s";

/// A container's bundle. What it says beside what is set here, its user adds to `spec`.
pub struct Bundle {
    id: String,
    pub spec: Value,
}

impl Bundle {
    /// Of a container in a control group, which is named in the words of its driver (`linux.cgroupsPath`).
    pub fn new(id: &str, group: &str) -> Bundle {
        Bundle { id: id.into(), spec: json!({ "linux": { "cgroupsPath": group } }) }
    }

    /// In the pod of a sandbox; the sandbox itself, if that is its own ID.
    pub fn of_sandbox(self, sandbox: &str) -> Bundle {
        let kind = if self.id == sandbox { "sandbox" } else { "container" };
        self.annotated("container-type", kind).annotated("sandbox-id", sandbox)
    }

    /// In a pod of this name.
    pub fn of_pod(self, name: &str) -> Bundle {
        self.annotated("sandbox-name", name).annotated("sandbox-namespace", "default")
    }

    /// With one of CRI's annotations.
    pub fn annotated(mut self, name: &str, value: &str) -> Bundle {
        self.spec["annotations"][format!("io.kubernetes.cri.{name}")] = value.into();
        self
    }

    /// In a network namespace that is bound at a path.
    pub fn in_netns(mut self, path: &str) -> Bundle {
        self.spec["linux"]["namespaces"] = json!([{ "type": "network", "path": path }]);
        self
    }

    /// Writes config.json below a containerd's state directory, and gives the bundle's.
    pub fn write(&self, state: &Path) -> Result<PathBuf> {
        self.write_in(&state.join(TASKS))
    }

    /// The same among the bundles of a namespace.
    pub fn write_in(&self, bundles: &Path) -> Result<PathBuf> {
        let dir = bundles.join(&self.id);
        fs::create_dir_all(&dir)?;
        let file = dir.join("config.json");
        fs::write(&file, self.spec.to_string())
            .map_err(|e| format!("cannot write '{}': {e}", file.display()))?;
        Ok(dir)
    }
}

/// Tells in a bundle where its shim listens, as containerd 1.x does.
pub fn write_address(bundle: &Path, socket: &Path) -> Result<()> {
    Ok(fs::write(bundle.join("address"), format!("unix://{}", socket.display()))?)
}

/// The same as containerd 2.x does.
pub fn write_bootstrap(bundle: &Path, socket: &Path) -> Result<()> {
    let address = format!("unix://{}", socket.display());
    let bootstrap = json!({ "version": 3, "address": address, "protocol": "ttrpc" });
    Ok(fs::write(bundle.join("bootstrap.json"), bootstrap.to_string())?)
}

/// Where the shim of a sandbox listens, whose containerd has this address.
pub fn socket_of(address: &str, sandbox: &str) -> PathBuf {
    socket_in(address, "k8s.io", sandbox)
}

/// The same in another namespace of that containerd's.
pub fn socket_in(address: &str, namespace: &str, sandbox: &str) -> PathBuf {
    let digest = Sha256::digest(format!("{address}/{namespace}/{sandbox}").as_bytes());
    let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    Path::new(SOCKETS).join(hex)
}

/// The command line of such a shim.
pub fn shim_line(snap: &str, address: &str, sandbox: &str) -> Vec<String> {
    let program = format!("{snap}/bin/containerd-shim-runc-v2");
    let line = [&program, "-namespace", "k8s.io", "-id", sandbox, "-address", address];
    line.into_iter().map(str::to_owned).collect()
}

/// runc's state.json of a container, as far as anybody reads it: its first process, and its groups by hierarchy.
pub fn runc_state(id: &str, init: (i32, u64), groups: &[(String, PathBuf)], bundle: &Path) -> Value {
    let groups: serde_json::Map<_, _> =
        groups.iter().map(|(hierarchy, path)| (hierarchy.clone(), json!(path))).collect();
    json!({
        "id": id, "init_process_pid": init.0, "init_process_start": init.1, "cgroup_paths": groups,
        "config": { "rootfs": bundle.join("rootfs"), "labels": ["io.x=y", format!("bundle={}", bundle.display())] },
    })
}

/// A container's layer below containerd's root directory, which the overlay snapshotter keeps by numbers.
pub fn snapshot(root: &Path, name: impl std::fmt::Display) -> PathBuf {
    root.join("io.containerd.snapshotter.v1.overlayfs/snapshots").join(name.to_string())
}
