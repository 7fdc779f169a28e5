//! The kinds of programs whose rules are for a whole node, how these are known, and what else such programs leave there.

use crate::scope::Scope;
use crate::scope::network::KUBELETS;
use crate::steps::blackholes::{BIRD, FELIX};

/// What one kind of program makes.
pub(super) struct Family {
    /// Whose, in words.
    pub of: &'static str,
    /// How the names of its chains begin.
    pub chains: &'static [&'static str],
    /// The chain in which users have rules of their own.
    pub users: &'static str,
    /// How the comments on its rules in others' chains begin.
    pub comments: &'static [&'static str],
    /// Its own tables of nf_tables.
    pub tables: &'static [&'static str],
    /// How the names of its ipsets begin.
    pub sets: &'static [&'static str],
    /// Programs that make them, besides kubelets; of another's that is alive they may be.
    pub makers: &'static [&'static str],
    /// Programs that make the like of them and that an administrator may have, too, whoever's the pods are.
    pub daemons: &'static [&'static str],
    /// True if it is a kubelet's: then a snap with a kubelet is a tie.
    pub of_kubelet: bool,
    /// True if rules in others' chains are its own that name a link of ours and nothing else.
    pub by_link: bool,
    /// True if every container runtime may use them, each for its sandboxes: then pods of ours are a tie.
    pub of_plugins: bool,
    /// True if its rules are never removed, and told only where it has run for us.
    pub only_told: bool,
    /// CNI's plugins that go with it: a pod of ours that one of them attached has used it.
    pub plugins: &'static [&'static str],
    /// Directories of the host that its agents have bound into them.
    pub directories: &'static [&'static str],
    /// Links that it makes on a node; with an asterisk, how their names begin.
    pub links: &'static [&'static str],
    /// Who made a route, in the kernel's numbers, where it is one of its own to the pods of other nodes.
    pub protocols: &'static [u8],
    /// Its own routing tables.
    pub lookups: &'static [u32],
    /// How the names of its programs on links begin.
    pub programs: &'static [&'static str],
}

/// What has none of these.
const NONE: Family = Family {
    of: "",
    chains: &[],
    users: "",
    comments: &[],
    tables: &[],
    sets: &[],
    makers: &[],
    daemons: &[],
    of_kubelet: false,
    by_link: false,
    of_plugins: false,
    only_told: false,
    plugins: &[],
    directories: &[],
    links: &[],
    protocols: &[],
    lookups: &[],
    programs: &[],
};

// Who made a route (linux/rtnetlink.h). Programs that do not say it have BOOT, as people have; Cilium says KERNEL, so that
// networkd lets its routes be.
const KERNEL: u8 = 2;
const BOOT: u8 = 3;
const KUBE_ROUTER: u8 = 0x11;

pub(super) const FAMILIES: [Family; 11] = [
    Family {
        of: "kube-proxy and kubelet",
        chains: &["KUBE-"],
        tables: &["kube-proxy"],
        sets: &["KUBE-", "inet6:KUBE-"],
        makers: &["kube-proxy", "kube-router"],
        of_kubelet: true,
        ..NONE
    },
    // flannel `pkg/backend/vxlan/vxlan.go`, `pkg/backend/hostgw/hostgw.go`.
    Family {
        of: "flannel",
        chains: &["FLANNEL-"],
        comments: &["flanneld "],
        tables: &["flannel-ipv4", "flannel-ipv6"],
        makers: &["flanneld", "k3s", "k3s-server", "k3s-agent", "kubelite"],
        plugins: &["flannel"],
        directories: &["run/flannel"],
        links: &["flannel.*", "flannel-*"],
        protocols: &[BOOT],
        ..NONE
    },
    // Calico `felix/config/config_params.go`, `confd/etc/calico/confd/templates/bird.cfg.template`.
    Family {
        of: "Calico",
        chains: &["cali-"],
        comments: &["cali:"],
        tables: &["calico", "calico-arp"],
        sets: &["cali40", "cali60", "cali4t", "cali6t"],
        makers: &["calico-node", "calico-felix"],
        plugins: &["calico"],
        directories: &["run/calico", "lib/calico"],
        links: &["tunl0", "vxlan.calico", "vxlan-v6.calico", "wireguard.cali", "wg-v6.cali", "bpfin.cali"],
        protocols: &[BIRD, FELIX],
        programs: &["cali_"],
        ..NONE
    },
    // Cilium `pkg/datapath/linux/linux_defaults/linux_defaults.go`, `pkg/datapath/loader/tc.go`.
    Family {
        of: "Cilium",
        chains: &["CILIUM_"],
        comments: &["cilium: "],
        tables: &["cilium"],
        sets: &["cilium_node_set_v"],
        makers: &["cilium-agent"],
        plugins: &["cilium-cni"],
        directories: &["run/cilium"],
        links: &["cilium_*"],
        protocols: &[KERNEL, BOOT],
        lookups: &[2004, 2005],
        programs: &["cil_"],
        ..NONE
    },
    Family {
        of: "docker",
        chains: &["DOCKER"],
        users: "DOCKER-USER",
        tables: &["docker-bridges"],
        sets: &["docker-ext-bridges-"],
        makers: &["dockerd"],
        by_link: true,
        ..NONE
    },
    Family {
        of: "CNI's plugins",
        chains: &["CNI-HOSTPORT-", "CNI-FORWARD", "CNI-ADMIN"],
        users: "CNI-ADMIN",
        of_plugins: true,
        ..NONE
    },
    // kube-router `pkg/controllers/routing/pbr.go`, `pkg/controllers/proxy/network_services_controller.go`,
    // `pkg/controllers/netpol/npc_nftables.go`. Its chains are called as kube-proxy's are.
    Family {
        of: "kube-router",
        tables: &["kube-router-filter-ipv4", "kube-router-filter-ipv6"],
        sets: &["kube-router-", "inet6:kube-router-"],
        makers: &["kube-router"],
        only_told: true,
        directories: &["lib/kube-router"],
        links: &["kube-bridge", "kube-dummy-if", "kube-tunnel-*"],
        protocols: &[KUBE_ROUTER],
        lookups: &[77, 78, 79],
        ..NONE
    },
    // Weave `net/bridge.go`, `router/fastdp.go`, `npc/constants.go`, `prog/weave-kube/weave-daemonset-k8s-1.11.yaml`.
    Family {
        of: "Weave",
        chains: &["WEAVE"],
        sets: &["weave-"],
        makers: &["weaver", "weave-npc"],
        only_told: true,
        plugins: &["weave-net"],
        directories: &["lib/weave"],
        links: &["weave", "datapath", "vxlan-6784", "vethwe-*"],
        ..NONE
    },
    // Antrea `pkg/agent/route/route_linux.go`, `pkg/agent/agent.go`.
    Family {
        of: "Antrea",
        chains: &["ANTREA-"],
        comments: &["Antrea: "],
        sets: &["ANTREA-"],
        makers: &["antrea-agent"],
        only_told: true,
        plugins: &["antrea"],
        directories: &["run/antrea"],
        links: &["antrea-*"],
        protocols: &[BOOT],
        ..NONE
    },
    // kube-ovn `pkg/util/const.go`, `pkg/daemon/gateway_nft_linux.go`; OVN-Kubernetes
    // `go-controller/pkg/node/gateway_iptables.go`, `go-controller/pkg/node/nftables/helpers.go`.
    Family {
        of: "OVN",
        chains: &["OVN-"],
        tables: &["kube-ovn", "ovn-kubernetes", "ovn-kubernetes-egressip"],
        sets: &["ovn40", "ovn60"],
        makers: &["kube-ovn-daemon", "ovnkube"],
        only_told: true,
        plugins: &["kube-ovn", "ovn-k8s-cni-overlay"],
        directories: &["run/ovn", "run/ovn-kubernetes"],
        links: &["ovn0", "ovn-k8s-*"],
        ..NONE
    },
    // What both of these, and whoever else has it, make by it.
    Family {
        of: "Open vSwitch",
        only_told: true,
        daemons: &["ovs-vswitchd"],
        plugins: &["antrea", "kube-ovn", "ovn-k8s-cni-overlay"],
        directories: &["run/antrea", "run/ovn", "run/ovn-kubernetes"],
        links: &["genev_sys_*", "ovs-system", "br-int"],
        ..NONE
    },
];

impl Family {
    /// True if it has run for us: it attached a pod of ours, made a link that is ours, or has a directory of the host bound
    /// into a container of ours, wherever the snap has that.
    pub(super) fn has_run(&self, scope: &Scope) -> bool {
        let network = &scope.network;
        let is_agent = |bind: &std::path::PathBuf| {
            let bind = format!("{}/", bind.display());
            self.directories.iter().any(|own| bind.contains(&format!("/{own}/")))
        };
        self.plugins.iter().any(|plugin| network.plugins.contains(*plugin))
            || network.links.iter().any(|own| self.makes(&own.name))
            || !self.directories.is_empty()
                && scope.containers.iter().any(|container| {
                    scope.counts_as_ours(container)
                        && !scope.is_foreign(&container.id)
                        && container.binds.list().iter().any(is_agent)
                })
    }

    /// True if this is a link's name that it gives.
    pub(super) fn makes(&self, link: &str) -> bool {
        self.links
            .iter()
            .any(|own| own.strip_suffix('*').map_or(link == *own, |begin| link.starts_with(begin)))
    }

    /// True if this chain is one of them.
    pub(super) fn has(&self, chain: &str) -> bool {
        self.chains.iter().any(|begin| chain.starts_with(begin))
    }

    /// All programs that make them.
    pub(super) fn makers(&self) -> impl Iterator<Item = &'static str> {
        let kubelets = KUBELETS.iter().filter(|_| self.of_kubelet);
        kubelets.chain(self.makers).copied()
    }

    /// Why these things may be another's: a program of his that makes them is alive.
    pub(super) fn rival<'a>(&self, scope: &'a Scope) -> Option<&'a String> {
        self.makers().find_map(|maker| scope.network.rivals.get(maker))
    }

    /// Those of these sets that are its own.
    pub(super) fn sets<'a>(&self, all: &'a [String]) -> impl Iterator<Item = &'a String> {
        all.iter().filter(|name| self.sets.iter().any(|begin| name.starts_with(begin)))
    }
}

/// Why what the family of this name makes may be another's.
pub(in crate::steps) fn rival_of<'a>(name: &str, scope: &'a Scope) -> Option<&'a String> {
    FAMILIES.iter().find(|family| family.of == name)?.rival(scope)
}
