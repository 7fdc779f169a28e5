//! What the network plugins that work by eBPF (Cilium, Calico) leave on a host: pinned programs and maps, which go on without
//! them, and a view of the control groups. All agents of a kind call theirs alike, so they are told, and not touched.

use std::path::{Path, PathBuf};

use crate::error::Blind;
use crate::order;
use crate::reason::Reason;
use crate::residue::finding::Finding;
use crate::scope::Scope;
use crate::steps::{passed_on, skeleton};
use crate::text::show;
use crate::view::View;

/// Where programs and maps are pinned.
const PINS: &str = "/sys/fs/bpf";

/// Directories in it that are shared: `tc` and its like pin maps there under their own names.
const SHARED: [&str; 3] = ["tc/globals", "xdp/globals", "ip/globals"];

/// How the agents call what they pin there: directories of their own, and maps in those that are shared.
const NAMES: [(&str, &str); 2] = [("cilium", "cilium_"), ("calico", "cali_")];

/// Where they mount control groups for themselves.
const GROUPS: [&str; 2] = ["/run/cilium/cgroupv2", "/run/calico/cgroup"];

/// Adds what is there, where an agent of ours has run and no other lives.
pub fn find(view: &View, scope: &Scope, finding: &mut Finding) {
    let has_agent = has_agent(scope);
    let may_have = || scope.has_run() && scope.links.iter().any(|link| link.starts_with("cilium"));
    if !has_agent && !may_have() {
        return;
    }
    let mut found = mounts(view);
    match pins(view) {
        Ok(pinned) => found.extend(pinned),
        // Where only a name in the profile says that there may be any, what is hidden is not worth a person's time.
        Err(blind) if has_agent => found.push(blind),
        Err(_) => {}
    }
    found.retain(|blind| finding.blind.iter().all(|known| known.what != blind.what));
    let others = || !has_agent && skeleton::others_run(view, scope);
    if !found.is_empty() && scope.network.other_kubelet().is_none() && !others() {
        finding.blind.extend(found);
    }
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
                || GROUPS.iter().filter_map(|at| Path::new(at).parent()).any(|own| bind.starts_with(own))
        })
    })
}

fn told(what: String, command: String) -> Blind {
    let why =
        format!("a network plugin of this snap may have made it, and so may another; look, then '{command}'");
    Blind::new(what, (Reason::Unproven, why))
}

fn mounts(view: &View) -> Vec<Blind> {
    let table = view.own_mounts().as_ref().ok().filter(|_| view.in_init_namespace());
    let mounts = table.into_iter().flat_map(|table| &table.mounts);
    let own =
        mounts.filter(|m| m.fstype() == "cgroup2" && GROUPS.iter().any(|at| m.point() == Path::new(at)));
    let point = own.map(|m| show(m.point()).into_owned());
    point.map(|at| told(format!("cgroup2 mounted at {at}"), format!("umount {at}"))).collect()
}

/// The agents' own directories, and their maps in shared ones.
fn pins(view: &View) -> Result<Vec<Blind>, Blind> {
    let list = |directory: &Path| match view.host.list(directory) {
        Err(e) if !e.is_gone() => Err(Blind::new(format!("what is pinned in {}", show(directory)), e)),
        names => Ok(names.unwrap_or_default()),
    };
    let pins = Path::new(PINS);
    let top = list(pins)?;
    let mut found = Vec::new();
    for (own, _) in NAMES.iter().filter(|(own, _)| top.iter().any(|name| name == own)) {
        let path = pins.join(own);
        if !list(&path)?.is_empty() {
            found.push(told(format!("what is pinned in {}", show(&path)), format!("rm -r {}", show(&path))));
        }
    }
    for directory in SHARED.map(|name| pins.join(name)) {
        let names = list(&directory)?;
        for (_, prefix) in NAMES {
            let is_of = |name: &&std::ffi::OsString| name.as_encoded_bytes().starts_with(prefix.as_bytes());
            let mut maps: Vec<PathBuf> =
                names.iter().filter(is_of).map(|name| directory.join(name)).collect();
            order::sort(&mut maps);
            let Some(first) = maps.first() else { continue };
            let more = if maps.len() > 1 { format!(" and {} more", maps.len() - 1) } else { String::new() };
            let all = show(&directory.join(prefix)).into_owned();
            found.push(told(format!("the map {}{more}", show(first)), format!("rm {all}*")));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linux::host::Host;

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
        assert!(told(&rival).is_empty(), "another agent lives");
    }
}
