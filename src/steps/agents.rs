//! What the network plugins that work by eBPF (Cilium, Calico) leave on a host: pinned programs and maps, which go on without
//! them, and a view of the control groups. All agents of a kind call theirs alike, so they are told, and not touched.

use std::path::{Path, PathBuf};

use crate::error::Blind;
use crate::linux::mountinfo::Mount;
use crate::order;
use crate::reason::Reason;
use crate::residue::finding::Finding;
use crate::scope::Scope;
use crate::steps::{families, passed_on, skeleton};
use crate::text::show;
use crate::view::View;

/// Where programs and maps are pinned.
const PINS: &str = "/sys/fs/bpf";

/// Directories in it that are shared: `tc` and its like pin maps there under their own names.
const SHARED: [&str; 3] = ["tc/globals", "xdp/globals", "ip/globals"];

/// One kind of agent.
struct Agent {
    /// Its family's name.
    of: &'static str,
    /// Its own directory of pins.
    pins: &'static str,
    /// How its maps in shared ones are called.
    maps: &'static str,
    /// Where it mounts control groups for itself.
    groups: &'static str,
}

const AGENTS: [Agent; 2] = [
    Agent { of: "Cilium", pins: "cilium", maps: "cilium_", groups: "/run/cilium/cgroupv2" },
    Agent { of: "Calico", pins: "calico", maps: "cali_", groups: "/run/calico/cgroup" },
];

/// Adds what is there, where an agent of ours has run and no other of its kind lives.
pub fn find(view: &View, scope: &Scope, finding: &mut Finding) {
    let has_agent = has_agent(scope);
    let may_have = || scope.has_run() && scope.links.iter().any(|link| link.starts_with("cilium"));
    if !has_agent && !may_have() {
        return;
    }
    let other = scope.network.other_kubelet();
    let mut found = Vec::new();
    for agent in AGENTS.iter().filter(|agent| families::rival_of(agent.of, scope).is_none()) {
        found.extend(mounts(view, agent));
        match pins(view, agent) {
            Ok(pinned) => found.extend(pinned),
            // Where only a name in the profile says that there may be any, what is hidden is not worth a person's time.
            Err(blind) if has_agent => found.push(blind),
            Err(_) => {}
        }
    }
    if found.is_empty() || !has_agent && (other.is_some() || skeleton::others_run(view, scope)) {
        return;
    }
    for mut blind in found {
        if finding.blind.iter().all(|known| known.what != blind.what) {
            blind.why.extend(other.iter().flat_map(|other| ["; but ", other]));
            finding.blind.push(blind);
        }
    }
}

/// True for a mount that is looked at here.
pub(super) fn has_mounted(mount: &Mount) -> bool {
    mount.fstype() == "cgroup2" && AGENTS.iter().any(|agent| mount.point() == Path::new(agent.groups))
}

/// True if a container of ours has what only such an agent needs.
fn has_agent(scope: &Scope) -> bool {
    let mut ours = scope.containers.iter().filter(|c| scope.counts_as_ours(c) && !scope.is_foreign(&c.id));
    ours.any(|container| {
        let binds = container.binds.list().into_iter().map(|bind| passed_on::place(scope, &bind));
        let mut binds = binds.filter(|bind| bind.components().count() > 2);
        binds.any(|bind| {
            bind.starts_with(PINS)
                || Path::new(PINS).starts_with(&bind)
                || AGENTS.iter().filter_map(|a| Path::new(a.groups).parent()).any(|own| bind.starts_with(own))
        })
    })
}

fn told(what: String, command: String) -> Blind {
    let why =
        format!("a network plugin of this snap may have made it, and so may another; look, then '{command}'");
    Blind::new(what, (Reason::Unproven, why))
}

fn mounts(view: &View, agent: &Agent) -> Vec<Blind> {
    let table = view.own_mounts().as_ref().ok().filter(|_| view.in_init_namespace());
    let mounts = table.into_iter().flat_map(|table| &table.mounts);
    let own = mounts.filter(|m| has_mounted(m) && m.point() == Path::new(agent.groups));
    let point = own.map(|m| show(m.point()).into_owned());
    point.map(|at| told(format!("cgroup2 mounted at {at}"), format!("umount {at}"))).collect()
}

/// An agent's own directory, and its maps in shared ones.
fn pins(view: &View, agent: &Agent) -> Result<Vec<Blind>, Blind> {
    let list = |directory: &Path| match view.host.list(directory) {
        Err(e) if !e.is_gone() => Err(Blind::new(format!("what is pinned in {}", show(directory)), e)),
        names => Ok(names.unwrap_or_default()),
    };
    let pins = Path::new(PINS);
    let mut found = Vec::new();
    let path = pins.join(agent.pins);
    if list(pins)?.iter().any(|name| name == agent.pins) && !list(&path)?.is_empty() {
        found.push(told(format!("what is pinned in {}", show(&path)), format!("rm -r {}", show(&path))));
    }
    for directory in SHARED.map(|name| pins.join(name)) {
        let names = list(&directory)?;
        let is_its = |name: &&std::ffi::OsString| name.as_encoded_bytes().starts_with(agent.maps.as_bytes());
        let mut maps: Vec<PathBuf> = names.iter().filter(is_its).map(|name| directory.join(name)).collect();
        order::sort(&mut maps);
        let Some(first) = maps.first() else { continue };
        let more = if maps.len() > 1 { format!(" and {} more", maps.len() - 1) } else { String::new() };
        let all = show(&directory.join(agent.maps)).into_owned();
        found.push(told(format!("the map {}{more}", show(first)), format!("rm {all}*")));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linux::host::Host;
    use std::collections::BTreeMap;

    #[test]
    fn what_agents_have_pinned_is_told_where_ours_have_run_and_no_other_lives() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| crate::fixture::file(dir.path(), name, text);
        let host = Host::at(dir.path());
        let told = |scope: &Scope| {
            let mut finding = Finding::default();
            find(&View::new(&host, None), scope, &mut finding);
            let all = finding.blind.into_iter();
            all.map(|b| format!("{}: {}", b.what, b.why.rsplit(", then ").next().unwrap()))
                .collect::<Vec<_>>()
        };
        let with = |bind: &str| {
            let mut scope = crate::fixture::scope_of(&["a"]);
            scope.links.clear();
            scope.containers[0].binds = vec![PathBuf::from(bind)].into();
            scope
        };
        file("proc/self/ns/x", "");
        file("proc/1/ns/x", "");
        for pid in ["self", "1"] {
            std::os::unix::fs::symlink("mnt:[1]", dir.path().join(format!("proc/{pid}/ns/mnt"))).unwrap();
        }
        let table = "1 0 8:1 / / rw - ext4 /dev/a rw\n2 1 0:9 / /run/cilium/cgroupv2 rw - cgroup2 none rw\n";
        file("proc/self/mountinfo", table);
        for name in [
            "cilium/devices/x",
            "snap/y",
            "tc/globals/cilium_lxc",
            "tc/globals/cilium_ipcache",
            "tc/globals/other",
            "xdp/globals/cali_x",
        ] {
            file(&format!("sys/fs/bpf/{name}"), "");
        }
        let all = [
            "cgroup2 mounted at /run/cilium/cgroupv2: 'umount /run/cilium/cgroupv2'",
            "what is pinned in /sys/fs/bpf/cilium: 'rm -r /sys/fs/bpf/cilium'",
            "the map /sys/fs/bpf/tc/globals/cilium_ipcache and 1 more: 'rm /sys/fs/bpf/tc/globals/cilium_*'",
            "the map /sys/fs/bpf/xdp/globals/cali_x: 'rm /sys/fs/bpf/xdp/globals/cali_*'",
        ];
        for bind in ["/sys/fs/bpf", "/sys/fs", "/var/run/cilium", "/run/calico"] {
            assert_eq!(told(&with(bind)), all, "{bind}");
        }
        for bind in ["/sys", "/", "/run", "/srv/x"] {
            assert!(told(&with(bind)).is_empty(), "{bind}");
        }
        let mut named = with("/srv/x");
        named.links = vec!["cilium_host".into()];
        assert_eq!(told(&named), all);
        let mut rival = with("/sys/fs/bpf");
        rival.network.rivals.insert("cilium-agent".into(), "it lives".into());
        assert_eq!(told(&rival), [format!("{}; but it lives", all[3])], "another agent of Cilium's lives");
        rival.network.rivals = BTreeMap::from([("kubelet".into(), "it lives".into())]);
        assert_eq!(
            told(&rival),
            all.map(|told| format!("{told}; but it lives")),
            "his cluster may have another plugin"
        );
        rival.containers.clear();
        rival.links = vec!["cilium_host".into()];
        assert!(told(&rival).is_empty(), "a name in the profile is no tie beside another");
    }
}
