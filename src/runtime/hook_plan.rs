//! How one container is to be ended: for how long it is waited for, what is done before it is told, and by which signal.
//!
//! The rules are kubelet's (`kuberuntime/kuberuntime_container.go`, `killContainer`), which restores a pod that it has
//! forgotten from the same words. All is computed here, and nothing done.

use std::net::{IpAddr, SocketAddr};

use serde::Serialize;

use super::metadata::{RUNC, Record, Sandbox};
use super::pre_stop::{HttpGet, PreStop};
use super::{http_hook, stop_signal};
use crate::json;
use crate::text;

/// However little of its grace a hook leaves, a container has so many seconds from its signal to its end (kubelet
/// `kuberuntime_container.go`, `minimumGracePeriodInSeconds`).
pub const LEAST: u64 = 2;

/// What holds for all containers of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// Seconds for those that ask for none.
    pub default: u64,
    /// Seconds that none gets more of.
    pub most: u64,
    /// False if the profile turns hooks off.
    pub hooks: bool,
}

/// How one container is to be ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Seconds that it asks for, or that the profile gives to those that do not.
    pub asked: u64,
    /// Seconds that it gets for the hook and the signal together.
    pub limit: u64,
    /// What is done first.
    pub hook: Hook,
    /// What it is told then.
    pub signal: stop_signal::Number,
}

/// What is done before a container is told to stop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hook {
    /// Nothing: there is none.
    None,
    /// This command in the container, as the `process` of a spec, in JSON.
    Exec(String),
    /// To wait for so many seconds.
    Sleep(u64),
    /// This request to this address.
    Http(SocketAddr, String),
    NotRun(&'static str, Why),
}

/// Why a hook is not run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Why {
    /// The profile says so.
    TurnedOff,
    /// The container's grace is 0, by which kubelet runs none either.
    NoGrace,
    /// Nobody can make out what it is, or what it needs.
    Unknown,
    /// kubelet runs none of this kind.
    TcpSocket,
    /// It asks for HTTPS.
    Https,
    /// It is for another host than the pod.
    OtherHost,
    /// The pod has no address of its own.
    NoAddress,
    /// It names no port of the container.
    NoPort,
    /// Its path or its headers cannot stand in a request.
    BadRequest,
    /// It has to be run by the shim, and that one is dead or out of reach.
    NoShim,
    /// It has to be run by a shim of which nobody knows whether it can.
    OtherRuntime,
}

impl Plan {
    /// The plan for a container: what is known of it and of its sandbox, and whether its shim can be asked.
    pub fn of(record: &Record, sandbox: Option<&Sandbox>, shim: bool, patience: Patience) -> Plan {
        let asked = record.deletion_grace.or(record.termination_grace).unwrap_or(patience.default);
        let limit = asked.min(patience.most);
        let hook = match &record.pre_stop {
            None => Hook::None,
            Some(hook) if !patience.hooks => Hook::NotRun(hook.kind(), Why::TurnedOff),
            Some(hook) if limit == 0 => Hook::NotRun(hook.kind(), Why::NoGrace),
            Some(hook) => {
                run(hook, record, sandbox, shim).unwrap_or_else(|why| Hook::NotRun(hook.kind(), why))
            }
        };
        Plan { asked, limit, hook, signal: record.stop_signal.unwrap_or(stop_signal::DEFAULT) }
    }

    /// True if it gets less than it asks for.
    pub fn is_cut(&self) -> bool {
        self.limit < self.asked
    }

    /// Seconds from the signal to force, after a hook that took so many whole seconds.
    pub fn after(&self, hook: u64) -> u64 {
        self.limit.saturating_sub(hook).max(LEAST)
    }

    /// Seconds that all of it takes at most.
    pub fn most(&self) -> u64 {
        match self.hook {
            Hook::None | Hook::NotRun(..) => self.after(0),
            _ => self.limit + LEAST,
        }
    }
}

fn run(hook: &PreStop, record: &Record, sandbox: Option<&Sandbox>, shim: bool) -> Result<Hook, Why> {
    match hook {
        PreStop::Exec(_) if record.runtime.as_deref() != Some(RUNC) => Err(Why::OtherRuntime),
        PreStop::Exec(_) if !shim => Err(Why::NoShim),
        PreStop::Exec(command) => {
            let process = record.process.as_deref().and_then(|process| with_command(process, command));
            process.map(Hook::Exec).ok_or(Why::Unknown)
        }
        PreStop::Sleep(seconds) => Ok(Hook::Sleep(*seconds)),
        PreStop::HttpGet(get) => {
            let address = destination(get, sandbox)?;
            Ok(Hook::Http(address, http_hook::request(get, address).ok_or(Why::BadRequest)?))
        }
        PreStop::TcpSocket => Err(Why::TcpSocket),
        PreStop::Unknown => Err(Why::Unknown),
    }
}

/// The pod's own address, and no other: kubelet would ask any host that a pod names, from the node.
fn destination(get: &HttpGet, sandbox: Option<&Sandbox>) -> Result<SocketAddr, Why> {
    if get.tls {
        return Err(Why::Https);
    }
    // In the host's network the address is the machine's: nor does kubelet find one (`determinePodSandboxIPs`).
    let own = sandbox.filter(|sandbox| !sandbox.host_network).map_or(&[][..], |sandbox| &sandbox.addresses);
    let address = match get.host.as_str() {
        "" => own.first().ok_or(Why::NoAddress)?,
        host => own.iter().find(|own| host.parse::<IpAddr>() == Ok(**own)).ok_or(Why::OtherHost)?,
    };
    if address.is_loopback() || address.is_unspecified() || address.is_multicast() {
        return Err(Why::NoAddress);
    }
    Ok(SocketAddr::new(*address, get.port.ok_or(Why::NoPort)?))
}

/// A container's own process with another command, and nothing else changed, as CRI makes it for `kubectl exec`
/// (containerd `internal/cri/server/container_execsync.go`, `execInternal`): same user, groups, environment, directory,
/// capabilities, security labels.
fn with_command(process: &str, command: &[String]) -> Option<String> {
    use serde_json::value::RawValue;
    let mut fields: std::collections::BTreeMap<String, &RawValue> = json::parse(process.as_bytes()).ok()?;
    let command = text::json(&command);
    fields.insert("args".into(), json::parse(command.as_bytes()).ok()?);
    Some(text::json(&fields))
}

#[cfg(test)]
mod tests;
