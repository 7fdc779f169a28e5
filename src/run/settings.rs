//! Settings of the kernel that kubelet, kube-proxy, network plugins and docker change for the whole machine, and do not set
//! back.

use std::path::Path;

use crate::report::note::{Note, NoteKind};
use crate::scope::Scope;
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
    // Where no pod of ours ever ran, nobody changed anything for one.
    if !scope.containers.is_empty() || scope.network.is_known() {
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
    let text = "settings of the kernel that kubelets, proxies and network plugins change are left as they are: what they were \
                before, nobody knows";
    Note::of(NoteKind::Settings, text, items)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::scope_of;
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
}
