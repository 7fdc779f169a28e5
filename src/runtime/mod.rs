//! What containerd, runc, shims and CNI plugins wrote down, and how a shim is asked.

pub mod activated;
pub mod bolt;
pub mod bundle;
pub mod cni;
pub mod docker;
pub mod exec;
pub mod groups;
pub mod hook_plan;
pub mod http;
pub mod http_hook;
pub mod listing;
pub mod metadata;
mod name;
pub mod pod_logs;
pub mod pre_stop;
pub mod processes;
pub mod runc;
pub mod sandboxed;
pub mod shim;
pub mod stop_signal;
pub mod streams;
pub mod told;
pub mod ttrpc;
mod wire;

use serde::{Deserialize, Serialize};

use crate::text;

pub use name::Name;

/// A container's name, as containerd has it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ContainerId {
    /// containerd's namespace; `k8s.io` for everything that CRI makes.
    pub namespace: Name,
    /// The ID; 64 hexadecimal digits when CRI made it.
    pub id: Name,
}

/// A container ID as people know it from their tools: the first 13 digits.
pub fn short(id: &str) -> &str {
    id.get(..13).unwrap_or(id)
}

/// A pod, as kubelet names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Pod {
    pub namespace: String,
    pub name: String,
    pub uid: String,
}

impl std::fmt::Display for Pod {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", text::escape(self.namespace.as_bytes()), text::escape(self.name.as_bytes()))
    }
}

/// A namespace, as an OCI spec and runc's state name it.
#[derive(Deserialize)]
pub struct SpecNamespace {
    #[serde(rename = "type")]
    pub kind: String,
    #[serde(default)]
    pub path: String,
}
