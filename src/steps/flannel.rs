//! What flannel's daemon tells its plugin of a node: /run/flannel/subnet.env (flannel `pkg/subnet/subnet.go`).

use std::net::IpAddr;
use std::path::Path;

use crate::linux::links::shares;
use crate::residue::{PathKind, Residue};
use crate::scope::Scope;
use crate::view::View;

/// Where the daemon keeps it.
pub const DIRECTORY: &str = "/run/flannel";

const FILE: &str = "/run/flannel/subnet.env";

/// The daemon writes four lines.
const MAX_BYTES: u64 = 4 << 10;

/// The file, if the addresses that it gives to the node's pods are ours, and no other kubelet or flanneld lives that may have had
/// it written.
pub fn lease(view: &View, scope: &Scope) -> Option<Residue> {
    let bytes = view.host.read_at_most(Path::new(FILE), MAX_BYTES).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    let mut subnets = text.lines().filter_map(|line| {
        let given = line.strip_prefix("FLANNEL_SUBNET=").or(line.strip_prefix("FLANNEL_IPV6_SUBNET="))?;
        let (address, bits) = given.split_once('/')?;
        Some((address.parse::<IpAddr>().ok()?, bits.parse::<u8>().ok()?))
    });
    let is_ours = |(subnet, bits)| scope.network.addresses.iter().any(|own| shares(*own, subnet, bits));
    let alone = scope.network.other_kubelet().is_none();
    (alone && subnets.any(is_ours)).then(|| Residue::path(FILE.into(), PathKind::RuntimeState))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linux::host::Host;

    #[test]
    fn a_lease_is_ours_by_the_addresses_of_our_pods() {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::at(dir.path());
        let mut scope = crate::fixture::scope_of(&["a"]);
        scope.network.addresses.insert("10.1.34.7".parse().unwrap());
        let found = |scope: &Scope, text: &str| {
            crate::fixture::file(dir.path(), &FILE[1..], text);
            lease(&View::new(&host, None), scope).is_some()
        };
        let lease = "FLANNEL_NETWORK=10.1.0.0/16\nFLANNEL_SUBNET=10.1.34.1/24\nFLANNEL_MTU=1450\n";
        assert!(found(&scope, lease));
        for other in
            ["FLANNEL_NETWORK=10.1.0.0/16\nFLANNEL_SUBNET=10.1.35.1/24\n", "FLANNEL_SUBNET=x/24\n", ""]
        {
            assert!(!found(&scope, other), "{other}");
        }
        scope.network.rivals.insert("flanneld".into(), "another flanneld is alive".into());
        assert!(!found(&scope, lease));
    }
}
