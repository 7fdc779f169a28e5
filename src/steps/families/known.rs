//! The kinds of programs whose rules are for a whole node, and how these are known.

use crate::scope::network::KUBELETS;

/// Rules that one kind of program makes.
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
    /// True if it is a kubelet's: then a snap with a kubelet is a tie.
    pub of_kubelet: bool,
    /// True if rules in others' chains are its own that name a link of ours and nothing else.
    pub by_link: bool,
    /// True if every container runtime may use them, each for its sandboxes: then pods of ours are a tie.
    pub of_plugins: bool,
}

pub(super) const FAMILIES: [Family; 6] = [
    Family {
        of: "kube-proxy and kubelet",
        chains: &["KUBE-"],
        users: "",
        comments: &[],
        tables: &["kube-proxy"],
        sets: &["KUBE-"],
        makers: &["kube-proxy", "kube-router"],
        of_kubelet: true,
        by_link: false,
        of_plugins: false,
    },
    Family {
        of: "flannel",
        chains: &["FLANNEL-"],
        users: "",
        comments: &["flanneld "],
        tables: &["flannel-ipv4", "flannel-ipv6"],
        sets: &[],
        makers: &["flanneld", "k3s", "k3s-server", "k3s-agent", "kubelite"],
        of_kubelet: false,
        by_link: false,
        of_plugins: false,
    },
    Family {
        of: "Calico",
        chains: &["cali-"],
        users: "",
        comments: &["cali:"],
        tables: &["calico", "calico-arp"],
        sets: &["cali40", "cali60", "cali4t", "cali6t"],
        makers: &["calico-node", "calico-felix"],
        of_kubelet: false,
        by_link: false,
        of_plugins: false,
    },
    Family {
        of: "Cilium",
        chains: &["CILIUM_"],
        users: "",
        comments: &["cilium: "],
        tables: &["cilium"],
        sets: &["cilium_node_set_v"],
        makers: &["cilium-agent"],
        of_kubelet: false,
        by_link: false,
        of_plugins: false,
    },
    Family {
        of: "docker",
        chains: &["DOCKER"],
        users: "DOCKER-USER",
        comments: &[],
        tables: &["docker-bridges"],
        sets: &["docker-ext-bridges-"],
        makers: &["dockerd"],
        of_kubelet: false,
        by_link: true,
        of_plugins: false,
    },
    Family {
        of: "CNI's plugins",
        chains: &["CNI-HOSTPORT-", "CNI-FORWARD", "CNI-ADMIN"],
        users: "CNI-ADMIN",
        comments: &[],
        tables: &[],
        sets: &[],
        makers: &[],
        of_kubelet: false,
        by_link: false,
        of_plugins: true,
    },
];

impl Family {
    /// True if this chain is one of them.
    pub(super) fn has(&self, chain: &str) -> bool {
        self.chains.iter().any(|begin| chain.starts_with(begin))
    }

    /// All programs that make them.
    pub(super) fn makers(&self) -> impl Iterator<Item = &'static str> {
        let kubelets = KUBELETS.iter().filter(|_| self.of_kubelet);
        kubelets.chain(self.makers).copied()
    }

    /// Those of these sets that are its own.
    pub(super) fn sets<'a>(&self, all: &'a [String]) -> impl Iterator<Item = &'a String> {
        all.iter().filter(|name| self.sets.iter().any(|begin| name.starts_with(begin)))
    }
}
