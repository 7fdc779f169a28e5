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
mod tests {
    use super::*;

    const PATIENCE: Patience = Patience { default: 30, most: 60, hooks: true };

    fn record(deletion: Option<u64>, termination: Option<u64>, pre_stop: Option<PreStop>) -> Record {
        Record {
            deletion_grace: deletion,
            termination_grace: termination,
            pre_stop,
            runtime: Some(RUNC.into()),
            process: Some(PROCESS.into()),
            ..Default::default()
        }
    }

    const PROCESS: &str = r#"{"user":{"uid":7,"gid":7,"additionalGids":[7]},"args":["/app"],"env":["PATH=/bin","TOKEN=ä\u0000"],"cwd":"/x",
        "rlimits":[{"type":"RLIMIT_NOFILE","hard":18446744073709551615,"soft":1}],"noNewPrivileges":true}"#;

    fn plan(record: &Record) -> Plan {
        let sandbox = Sandbox { addresses: vec!["10.1.0.2".parse().unwrap()], ..Default::default() };
        Plan::of(record, Some(&sandbox), true, PATIENCE)
    }

    fn get(host: &str, port: Option<u16>) -> HttpGet {
        HttpGet { path: "/stop".into(), port, host: host.into(), tls: false, headers: vec![] }
    }

    fn why(hook: PreStop) -> Option<Why> {
        match plan(&record(None, None, Some(hook))).hook {
            Hook::NotRun(_, why) => Some(why),
            _ => None,
        }
    }

    #[test]
    fn each_has_its_own_grace_up_to_the_most() {
        for (deletion, termination, asked, limit, cut) in [
            (None, None, 30, 30, false),
            (None, Some(1), 1, 1, false),
            (None, Some(60), 60, 60, false),
            (None, Some(300), 300, 60, true),
            (Some(5), Some(300), 5, 5, false),
            (Some(0), Some(300), 0, 0, false),
            (None, Some(u64::MAX), u64::MAX, 60, true),
        ] {
            let plan = plan(&record(deletion, termination, None));
            assert_eq!((plan.asked, plan.limit, plan.is_cut()), (asked, limit, cut));
            assert_eq!((plan.signal, plan.hook), (15, Hook::None));
        }
    }

    #[test]
    fn the_hook_spends_the_grace_but_for_two_seconds() {
        let hook = Some(PreStop::Sleep(5));
        let ten = plan(&record(None, Some(10), hook.clone()));
        assert_eq!([0, 4, 8, 9, 10, 99].map(|hook| ten.after(hook)), [10, 6, 2, 2, 2, 2]);
        assert_eq!((ten.most(), plan(&record(None, Some(10), None)).most()), (12, 10));
        assert_eq!(plan(&record(None, Some(0), hook)).most(), 2);
    }

    #[test]
    fn no_grace_means_no_hook() {
        let record = record(None, Some(0), Some(PreStop::Exec(vec!["/bin/calico-node".into()])));
        assert_eq!(plan(&record).hook, Hook::NotRun("exec", Why::NoGrace));
    }

    #[test]
    fn a_command_takes_the_place_of_the_containers_own() {
        let command = vec!["/bin/sh".to_owned(), "-c".into(), "echo \"bye\" && kill 1".into()];
        let hook = plan(&record(None, None, Some(PreStop::Exec(command.clone())))).hook;
        let Hook::Exec(json) = hook else { panic!("{hook:?}") };
        let mut expected: serde_json::Value = serde_json::from_str(PROCESS).unwrap();
        expected["args"] = serde_json::to_value(&command).unwrap();
        assert_eq!(serde_json::from_str::<serde_json::Value>(&json).unwrap(), expected);
    }

    #[test]
    fn what_is_not_run_says_why() {
        let exec = || Some(PreStop::Exec(vec!["x".into()]));
        let own = record(None, None, exec());
        let with = |shim, patience| Plan::of(&own, None, shim, patience).hook;
        assert_eq!(with(false, PATIENCE), Hook::NotRun("exec", Why::NoShim));
        let off = Patience { hooks: false, ..PATIENCE };
        assert_eq!(with(true, off), Hook::NotRun("exec", Why::TurnedOff));
        let kata = Record { runtime: Some("io.containerd.kata.v2".into()), ..own.clone() };
        assert_eq!(plan(&kata).hook, Hook::NotRun("exec", Why::OtherRuntime));
        for process in [None, Some("{".into()), Some("[]".into())] {
            assert_eq!(plan(&Record { process, ..own.clone() }).hook, Hook::NotRun("exec", Why::Unknown));
        }
        assert_eq!(why(PreStop::TcpSocket), Some(Why::TcpSocket));
        assert_eq!(why(PreStop::Unknown), Some(Why::Unknown));
    }

    #[test]
    fn a_request_goes_to_the_pod_and_nowhere_else() {
        for (host, port, expected) in [
            ("", Some(80), None),
            ("10.1.0.2", Some(80), None),
            ("10.1.0.3", Some(80), Some(Why::OtherHost)),
            ("169.254.169.254", Some(80), Some(Why::OtherHost)),
            ("127.0.0.1", Some(80), Some(Why::OtherHost)),
            ("localhost", Some(80), Some(Why::OtherHost)),
            ("10.1.0.2.", Some(80), Some(Why::OtherHost)),
            ("10.1.0.2:81", Some(80), Some(Why::OtherHost)),
            ("", None, Some(Why::NoPort)),
        ] {
            assert_eq!(why(PreStop::HttpGet(get(host, port))), expected, "{host}");
        }
        assert_eq!(why(PreStop::HttpGet(HttpGet { tls: true, ..get("", Some(1)) })), Some(Why::Https));
        let record = record(None, None, Some(PreStop::HttpGet(get("", Some(80)))));
        let of = |sandbox: Option<Sandbox>| Plan::of(&record, sandbox.as_ref(), true, PATIENCE).hook;
        let no_address = Hook::NotRun("httpGet", Why::NoAddress);
        let at = |address: &str, host_network| {
            Some(Sandbox { addresses: vec![address.parse().unwrap()], host_network, ..Default::default() })
        };
        assert_eq!(of(None), no_address);
        assert_eq!(of(Some(Sandbox::default())), no_address);
        assert_eq!(of(at("10.1.0.2", true)), no_address);
        assert_eq!(of(at("127.0.0.1", false)), no_address);
        assert!(matches!(of(at("fd00::2", false)), Hook::Http(to, _) if to.to_string() == "[fd00::2]:80"));
    }
}
