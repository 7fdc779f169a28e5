//! Settings of the kernel that kubelet, kube-proxy, network plugins and docker change for the whole machine, and do not set
//! back; and what runtimes load into it, and do not unload.

use std::path::Path;

use crate::linux::firewall::{Firewall, Table};
use crate::report::note::{Note, NoteKind};
use crate::scope::Scope;
use crate::steps::skeleton;
use crate::text::escape;
use crate::view::View;

/// Their names below `/proc/sys`, each with the kernel's default.
const SETTINGS: &[(&str, &str)] = &[
    // kubelet --protect-kernel-defaults=false
    ("kernel/panic", "0"),
    ("kernel/panic_on_oops", "0"),
    ("vm/overcommit_memory", "0"),
    ("vm/panic_on_oom", "0"),
    // kube-proxy
    ("net/ipv4/conf/all/route_localnet", "0"),
    ("net/netfilter/nf_conntrack_tcp_be_liberal", "0"),
    ("net/netfilter/nf_conntrack_tcp_timeout_close_wait", "60"),
    ("net/netfilter/nf_conntrack_tcp_timeout_established", "432000"),
    ("net/ipv4/vs/conntrack", "0"),
    ("net/ipv4/vs/conn_reuse_mode", "1"),
    ("net/ipv4/vs/expire_nodest_conn", "0"),
    ("net/ipv4/vs/expire_quiescent_template", "0"),
    ("net/ipv4/conf/all/arp_ignore", "0"),
    ("net/ipv4/conf/all/arp_announce", "0"),
    // Network plugins, and docker
    ("net/ipv4/ip_forward", "0"),
    ("net/ipv6/conf/all/forwarding", "0"),
    ("net/ipv6/conf/default/forwarding", "0"),
];

/// The most connections that are tracked, and the size of their table. By default the kernel makes both the same, as large as
/// the machine's memory allows; kube-proxy sets the first.
const CONNECTIONS: [&str; 2] = ["net/netfilter/nf_conntrack_max", "net/netfilter/nf_conntrack_buckets"];

/// A note of those that are not at the kernel's default, each with its value. Who changed them, and what they were before,
/// nobody knows: a distribution or an administrator may have done so, too. So they are named, and not set back.
pub fn changed(view: &View, scope: &Scope) -> Note {
    let value = |name: &str| {
        let text = view.host.read_text(&Path::new("/proc/sys").join(name)).ok()?;
        Some(text.trim().to_owned()).filter(|value| !value.is_empty() && value.len() < 32)
    };
    let mut items = Vec::new();
    // Where nothing of ours ever ran, nobody changed anything for it.
    if scope.idle || !scope.containers.is_empty() || scope.network.is_known() {
        let differs =
            |(name, first): &(&'static str, &str)| Some((*name, value(name).filter(|now| now != first)?));
        let connections = || {
            let now = value(CONNECTIONS[0])?;
            Some((CONNECTIONS[0], now))
                .filter(|(_, now)| value(CONNECTIONS[1]).is_some_and(|size| size != *now))
        };
        let found = SETTINGS.iter().filter_map(differs).chain(connections());
        items.extend(found.map(|(name, now)| format!("{} = {now}", name.replace('/', "."))));
    }
    items.extend(dropped(view, scope));
    let text = "settings of the kernel that kubelets, proxies and network plugins change are left as they are: what they were \
                before, nobody knows";
    Note::of(NoteKind::Settings, text, items)
}

/// Where AppArmor tells and changes what is loaded.
const APPARMOR: &str = "/sys/kernel/security/apparmor";

/// AppArmor's profiles that containerd and docker load for containers at their start, where AppArmor is on. They are harmless,
/// and stay until the machine boots. A hook that is confined may not look, and then nothing is told: a profile hides nothing.
pub fn profiles(view: &View, scope: &Scope) -> Note {
    let name = if scope.docker_has_run() { "docker-default" } else { "cri-containerd.apparmor.d" };
    // "NAME (enforce)"
    let is_of = |line: &str| line.rsplit_once(" (").is_some_and(|(loaded, _)| loaded == name);
    let is_loaded = || {
        let loaded = view.host.read_text(&Path::new(APPARMOR).join("profiles"));
        loaded.is_ok_and(|text| text.lines().any(is_of))
    };
    let is_left = scope.has_run() && is_loaded() && !skeleton::others_run(view, scope);
    let item = is_left.then(|| format!("{name} (as root: echo -n {name} > {APPARMOR}/.remove)"));
    let text = "a profile of AppArmor that this snap's runtime loads for containers stays until the machine boots; where no other \
                runtime is to use it, it can be unloaded";
    Note::of(NoteKind::Profiles, text, item)
}

/// dockerd has all dropped that it does not let through itself where it turns forwarding on, and leaves it so: then other virtual
/// machines and clusters of the host forward nothing.
fn dropped(view: &View, scope: &Scope) -> Vec<String> {
    match scope.docker_has_run() && !scope.network.rivals.contains_key("dockerd") {
        true => named(view.firewall(&scope.programs())),
        false => Vec::new(),
    }
}

fn named(firewall: &Firewall) -> Vec<String> {
    let tables = firewall.tables.iter().filter(|table| table.name == "filter" && table.drops_forwarded);
    let told = |table: &Table| {
        let program = table.program.file_name().unwrap_or_default();
        let program = escape(program.as_encoded_bytes());
        format!(
            "the policy of FORWARD in {program} = DROP ('{program} -P FORWARD ACCEPT' lets all through again)"
        )
    };
    tables.map(told).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::scope_of;
    use crate::linux::firewall;
    use crate::linux::host::Host;

    #[test]
    fn what_is_not_as_the_kernel_begins_is_named_with_its_value() {
        let dir = tempfile::tempdir().unwrap();
        let set = |name: &str, value: &str| {
            let file = dir.path().join("proc/sys").join(name);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, format!("{value}\n")).unwrap();
        };
        set("kernel/panic", "10");
        set("vm/overcommit_memory", "0");
        set("net/ipv4/ip_forward", "1");
        set("net/netfilter/nf_conntrack_max", "131072");
        set("net/netfilter/nf_conntrack_buckets", "131072");
        let host = Host::at(dir.path());
        let told = |scope: &Scope| changed(&View::new(&host, None), scope).items;
        assert_eq!(told(&scope_of(&["a"])), ["kernel.panic = 10", "net.ipv4.ip_forward = 1"]);
        assert!(told(&scope_of(&[])).is_empty(), "nothing of ours ever ran");
        set("net/netfilter/nf_conntrack_max", "262144");
        assert!(told(&scope_of(&["a"])).contains(&"net.netfilter.nf_conntrack_max = 262144".into()));
    }

    #[test]
    fn the_profile_of_our_runtime_is_named_while_no_other_runs() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| crate::fixture::file(dir.path(), name, text);
        let host = Host::at(dir.path());
        let told = |scope: &Scope| profiles(&View::new(&host, None), scope).items;
        file("proc/self/stat", "");
        assert!(told(&scope_of(&["a"])).is_empty(), "AppArmor is off, or the list is hidden");
        let loaded = "sys/kernel/security/apparmor/profiles";
        file(loaded, "/snap/x (enforce)\ncri-containerd.apparmor.d2 (enforce)\ndocker-default (enforce)\n");
        assert!(told(&scope_of(&["a"])).is_empty());
        file(loaded, "docker-default (enforce)\ncri-containerd.apparmor.d (enforce)\n");
        let command = "echo -n cri-containerd.apparmor.d > /sys/kernel/security/apparmor/.remove";
        let named =
            |name| format!("{name} (as root: {})", command.replace("cri-containerd.apparmor.d", name));
        assert_eq!(told(&scope_of(&["a"])), [named("cri-containerd.apparmor.d")]);
        assert!(told(&scope_of(&[])).is_empty(), "nothing of ours ever ran");
        let mut dockers = scope_of(&["a"]);
        dockers.containers[0].id.namespace = "moby".into();
        assert_eq!(told(&dockers), [named("docker-default")]);
        let fields =
            "S 1 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 9876 11 22 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0";
        file("proc/7/stat", &format!("7 (containerd) {fields}\n"));
        assert!(told(&scope_of(&["a"])).is_empty(), "another runtime runs");
    }

    #[test]
    fn a_policy_that_drops_what_is_forwarded_is_named_with_the_command() {
        let table = |name: &str, text: &str| firewall::parse("/usr/sbin/iptables-nft".into(), name, text);
        let of = |tables| named(&Firewall { tables, ..Firewall::default() });
        let told = of(vec![table("filter", "-P INPUT ACCEPT\n-P FORWARD DROP\n-P OUTPUT ACCEPT\n")]);
        assert!(told.len() == 1 && told[0].contains("'iptables-nft -P FORWARD ACCEPT'"), "{told:?}");
        for other in ["-P FORWARD ACCEPT", "-P INPUT DROP", "-A FORWARD -j DROP", "-P FORWARDED DROP"] {
            assert!(of(vec![table("filter", other)]).is_empty(), "{other}");
        }
        assert!(of(vec![table("mangle", "-P FORWARD DROP")]).is_empty());
    }
}
