//! The pods' network: namespaces that CNI made for our sandboxes, links of ours, and firewall rules that carry
//! our sandboxes' IDs or the snap's own comments.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::error::Blind;
use crate::residue::finding::Finding;
use crate::residue::{Link, Netns, Residue};
use crate::scope::{Scope, netns_of};
use crate::snap::hostfs::copies;
use crate::steps::firewall;
use crate::text::show;
use crate::view::View;

/// Namespaces first: with one go the links that lead into it.
pub fn find(view: &View, scope: &Scope) -> Finding {
    let mut finding = Finding::default();
    namespaces(view, scope, &mut finding);
    links(view, scope, &mut finding);
    firewall::rules(view, scope, &mut finding);
    finding
}

fn namespaces(view: &View, scope: &Scope, finding: &mut Finding) {
    let mut wanted: BTreeMap<PathBuf, &str> = BTreeMap::new();
    for container in &scope.containers {
        if let Some(path) = netns_of(container, &scope.roots) {
            wanted.entry(path).or_insert(&container.id.id);
        }
    }
    if wanted.is_empty() {
        return;
    }
    let mounted: Vec<&Path> = match view.own_mounts() {
        Ok(table) => table.mounts.iter().filter(|m| m.fstype == "nsfs").map(|m| m.point.as_path()).collect(),
        Err(e) => return finding.blind.push(Blind::new("network namespaces", e)),
    };
    for (path, sandbox) in wanted {
        let copies = copies(&path);
        let mounts = mounted.iter().filter(|point| copies.iter().any(|copy| copy == *point)).count();
        match view.host.exists(&path) {
            Ok(there) if there || mounts > 0 => {
                finding.residues.push(Residue::Netns(Netns { path, mounts, sandbox: sandbox.to_owned() }));
            }
            Ok(_) => {}
            Err(e) => finding.blind.push(Blind::new(show(&path), e)),
        }
    }
}

fn links(view: &View, scope: &Scope, finding: &mut Finding) {
    if let Some(why) = &scope.network.blind {
        finding.blind.push(Blind::new("network links", why));
    }
    if scope.network.links.is_empty() {
        return;
    }
    let there = match view.links() {
        Ok(links) => links,
        Err(e) => return finding.blind.push(Blind::new("network links", e)),
    };
    // A port before the bridge that it is in.
    for owned in &scope.network.links {
        if there.iter().any(|l| l.index == owned.index && l.name == owned.name && l.kind == owned.r#type) {
            finding.residues.push(Residue::Link(Link {
                index: owned.index,
                name: owned.name.clone(),
                r#type: owned.r#type.clone(),
            }));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::scope_of;
    use crate::linux::host::Host;

    #[test]
    fn only_namespaces_that_cni_made_for_our_sandboxes() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("run/netns")).unwrap();
        std::fs::create_dir_all(dir.path().join("proc/self")).unwrap();
        for name in ["cni-ours", "cni-other", "blue"] {
            std::fs::write(dir.path().join("run/netns").join(name), "").unwrap();
        }
        let mountinfo = "1 0 0:4 net:[1] /run/netns/cni-ours rw - nsfs nsfs rw\n\
                         2 0 0:4 net:[1] /var/lib/snapd/hostfs/run/netns/cni-ours rw - nsfs nsfs rw\n\
                         3 0 0:4 net:[2] /run/netns/cni-other rw - nsfs nsfs rw\n";
        std::fs::write(dir.path().join("proc/self/mountinfo"), mountinfo).unwrap();
        let mut scope = scope_of(&["a", "b", "c"]);
        scope.containers[0].netns = Some("/var/run/netns/cni-ours".into());
        scope.containers[1].netns = Some("/run/netns/blue".into());
        scope.containers[2].netns = Some("/run/netns/cni-gone".into());
        let host = Host::at(dir.path());
        let finding = find(&View::new(&host, None), &scope);
        let ours =
            Residue::Netns(Netns { path: "/run/netns/cni-ours".into(), mounts: 2, sandbox: "a".into() });
        assert_eq!(finding, Finding::of(vec![ours]));
    }
}
