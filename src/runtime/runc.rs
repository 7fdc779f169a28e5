//! runc's `state.json`: whose container it is, its first process, its groups.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::error::{Error, Result};
use crate::json;
use crate::linux::host::Host;
use crate::linux::proc::ProcessId;
use crate::runtime::SpecNamespace;
use crate::runtime::bundle::{ALL_TASKS, MAX_DOCUMENT};
use crate::snap::profile::Roots;

/// Where it keeps its states if it is told nothing.
pub const RUN: &str = "/run/runc";

/// What runc's `state.json` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuncState {
    /// The bundle it was made from: whose container it is.
    pub bundle: Option<PathBuf>,
    /// Its first process.
    pub init: Option<ProcessId>,
    /// Its groups as full paths.
    pub groups: Vec<PathBuf>,
    /// Its network namespace.
    pub netns: Option<PathBuf>,
}

pub fn read_file(host: &Host, file: &Path) -> Result<Vec<u8>> {
    host.read_at_most(file, MAX_DOCUMENT)
}

/// Parses a runc state; an error if it makes no sense.
pub fn read_runc_state(file: &Path, bytes: &[u8]) -> Result<RuncState> {
    parse_runc_state(bytes).map_err(|e| Error::Malformed { path: file.to_path_buf(), reason: e.to_string() })
}

/// A container is in one group of each hierarchy, and the kernel has about a dozen.
const MAX_HIERARCHIES: usize = 64;

/// True if a runc state is whole and names bundles, none of them in our directories: then it is another's, and not
/// worth the parsing of tens of kilobytes. A directory that JSON may spell in another way tells nothing.
pub fn is_plainly_foreign(bytes: &[u8], roots: &Roots) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    let ours = [&roots.state, &roots.root].map(|base| ALL_TASKS.map(|tasks| base.join(tasks)));
    let ours = ours.as_flattened();
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"/._-".contains(&b);
    if !text.trim_end().ends_with('}')
        || !ours.iter().all(|p| p.as_os_str().as_bytes().iter().copied().all(plain))
    {
        return false;
    }
    // Few characters are rarer there than this one, and one character is found faster than a word.
    let named = text.match_indices('=').filter(|(at, _)| text[..*at].ends_with("\"bundle"));
    let mut bundles = named.map(|(at, _)| &text.as_bytes()[at + 1..]).peekable();
    bundles.peek().is_some()
        && !bundles.any(|bundle| ours.iter().any(|p| bundle.starts_with(p.as_os_str().as_bytes())))
}

/// Parses `state.json`.
pub fn parse_runc_state(bytes: &[u8]) -> std::result::Result<RuncState, serde_json::Error> {
    use std::collections::BTreeMap;
    #[derive(Deserialize)]
    struct State {
        #[serde(default)]
        init_process_pid: i32,
        #[serde(default)]
        init_process_start: u64,
        #[serde(default)]
        cgroup_paths: BTreeMap<String, PathBuf>,
        #[serde(default)]
        config: Config,
    }
    #[derive(Deserialize, Default)]
    struct Config {
        #[serde(default)]
        labels: Vec<String>,
        #[serde(default)]
        namespaces: Vec<SpecNamespace>,
    }
    let state: State = json::parse(bytes)?;
    // runc appends its own label after those of the spec: the last one counts.
    let bundle = state.config.labels.iter().rev().find_map(|l| l.strip_prefix("bundle=")).map(PathBuf::from);
    let init = ProcessId { pid: state.init_process_pid, start: state.init_process_start };
    Ok(RuncState {
        bundle,
        init: (init.pid > 1 && init.start > 0).then_some(init),
        groups: state.cgroup_paths.into_values().take(MAX_HIERARCHIES).collect(),
        netns: state
            .config
            .namespaces
            .into_iter()
            .find(|n| n.kind == "NEWNET")
            .map(|n| PathBuf::from(n.path)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::roots;

    #[test]
    fn a_runc_state_is_passed_over_only_if_it_is_plainly_anothers() {
        let roots = roots();
        let of = |bundle: &str| format!(r#"{{"config":{{"labels":["bundle={bundle}"]}}}}"#).into_bytes();
        let theirs = of("/run/containerd/io.containerd.runtime.v2.task/k8s.io/abc");
        assert!(is_plainly_foreign(&theirs, &roots));
        let ours = of(roots.state.join(ALL_TASKS[1]).join("k8s.io/abc").to_str().unwrap());
        assert!(!is_plainly_foreign(&ours, &roots));
        assert!(!is_plainly_foreign(&theirs[..theirs.len() - 4], &roots), "cut short");
        assert!(!is_plainly_foreign(b"{}", &roots), "names no bundle");
        let odd = Roots { state: "/run/a&b".into(), ..roots };
        assert!(!is_plainly_foreign(&theirs, &odd), "JSON may write & as an escape");
    }

    #[test]
    fn a_runc_state_tells_bundle_init_and_groups() {
        let s = parse_runc_state(
            br#"{"id":"abc","init_process_pid":7,"init_process_start":99,"cgroup_paths":{"":"/sys/fs/cgroup/k8s.io/abc"},
            "namespace_paths":{"NEWNET":"/proc/7/ns/net"},"config":{"labels":["bundle=/fake","bundle=/real"],
            "namespaces":[{"type":"NEWNET","path":"/var/run/netns/cni-1"}]}}"#,
        )
        .unwrap();
        assert_eq!(s.bundle.unwrap(), Path::new("/real"));
        // What runc itself calls the namespace's path is a process's, and goes with it.
        assert_eq!(s.netns.unwrap(), Path::new("/var/run/netns/cni-1"));
        assert_eq!(s.init, Some(ProcessId { pid: 7, start: 99 }));
        assert!(parse_runc_state(b"{\"init_process_pid\":").is_err());
        assert!(
            parse_runc_state(b"{\"init_process_pid\":1,\"init_process_start\":5}").unwrap().init.is_none()
        );
    }
}
