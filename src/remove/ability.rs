//! What confinement may grant or refuse, found out by trying.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What confinement may grant or refuse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ability {
    /// Signal a shim directly.
    SignalShim,
    /// Signal a sandbox's process directly.
    SignalSandbox,
    /// Signal an application's process directly.
    SignalApplication,
    /// Signal a service's process directly.
    SignalService,
    /// Ask a shim over its ttrpc socket.
    AskShim,
    /// Send a preStop hook's request to a pod.
    AskPod,
    /// Write `cgroup.kill`, and remove groups.
    WriteCgroups,
    /// Read and remove what runc and containerd keep under /run/containerd.
    RuntimeState,
    Unmount,
    /// Talk to snapd.
    Snapctl,
    RemoveLinks,
    /// Change firewall rules.
    ChangeRules,
}

/// Granted or refused; one refusal among grants is shown as a refusal, with what it said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// It worked whenever it was tried.
    Granted,
    /// It was refused at least once, with this errno.
    Refused(String),
}

/// Everything that was tried.
pub type Abilities = BTreeMap<Ability, Answer>;
