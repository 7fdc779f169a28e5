//! The pods' network: namespaces of our sandboxes, links of ours, firewall rules that carry our sandboxes' IDs or the
//! snap's own comments or that lead to our pods alone, and connections to pods that are gone.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use crate::error::Blind;
use crate::linux::policy::{self, Policy};
use crate::linux::{conntrack, netns};
use crate::order;
use crate::reason::Reason;
use crate::residue::finding::Finding;
use crate::residue::{Flows, Link, Netns, Residue};
use crate::scope::Scope;
use crate::snap::hostfs::{HOSTFS, is_for_namespaces};
use crate::steps::families::traces;
use crate::steps::{blackholes, firewall, skeleton};
use crate::text::show;
use crate::view::View;

/// Namespaces first: with one go the links that lead into it.
pub fn find(view: &View, scope: &Scope) -> Finding {
    let mut finding = Finding::default();
    namespaces(view, scope, &mut finding);
    lost(view, scope, &mut finding);
    links(view, scope, &mut finding);
    firewall::rules(view, scope, &mut finding);
    blackholes::find(view, scope, &mut finding);
    traces::find(view, scope, &mut finding);
    policies(view, scope, &mut finding);
    flows(view, scope, &mut finding);
    finding
}

/// Rules for what a pod of ours sent or got choose a table that whoever gets its address next does not know of. Whether anything
/// else uses that table, nobody says: they are told.
fn policies(view: &View, scope: &Scope, finding: &mut Finding) {
    let addresses = &scope.network.addresses;
    if addresses.is_empty() || !view.host.is_live() {
        return;
    }
    let all = match policy::of_one_address() {
        Ok(all) => all,
        Err(e) => return finding.blind.push(Blind::new("policy rules", e)),
    };
    for Policy { way, address, table, priority } in all.iter().filter(|p| addresses.contains(&p.address)) {
        let family = if address.is_ipv4() { "-4" } else { "-6" };
        let rule = format!("{way} {address} lookup {table}");
        let why = format!(
            "{address} was a pod's of ours; 'ip {family} rule del priority {priority} {rule}' ends it, 'ip {family} route show table \
             {table}' lists its routes"
        );
        finding.blind.push(Blind::new(format!("the policy rule {rule}"), (Reason::Unproven, why)));
    }
}

/// Last: a rule that is still there would make them again.
fn flows(view: &View, scope: &Scope, finding: &mut Finding) {
    let addresses = &scope.network.addresses;
    match conntrack::from(view.host, addresses) {
        Ok(found) if found.is_empty() => {}
        Ok(found) => {
            finding.residues.push(Residue::Flows(Flows { addresses: addresses.clone(), count: found.len() }))
        }
        Err(e) => finding.blind.push(Blind::new("tracked connections", e)),
    }
}

/// Tells of namespaces of which nothing tells whose they were, as long as they are there and nobody is in them: that of another's
/// pod is so, too, while it starts or ends. Where somebody may not be asked for his, it may be another runtime's, if one is alive.
fn lost(view: &View, scope: &Scope, finding: &mut Finding) {
    let lost = &scope.network.lost;
    if lost.is_empty() {
        return;
    }
    let (Ok(table), Ok(processes)) = (view.own_mounts(), view.processes()) else { return };
    let asked = processes.iter().filter(|p| !p.kernel);
    let asked = asked.map(|p| netns::of_process(view.host, &p.id.pid.to_string())).collect::<Vec<_>>();
    if asked.iter().any(netns::is_hidden) && skeleton::others_run(view, scope) {
        return;
    }
    let inhabited = order::set(asked.into_iter().flatten());
    let bound = order::set(table.mounts.iter().filter_map(netns::of_mount));
    for (_, path) in lost.iter().filter(|(inode, _)| bound.contains(inode) && !inhabited.contains(inode)) {
        let what = format!("the network namespace {}", show(path));
        if scope.doubts.iter().all(|doubt| !doubt.what.starts_with(&what)) {
            let why = (Reason::Unproven, "nobody is in it, and nothing says whose it was");
            finding.blind.push(Blind::new(what, why));
        }
    }
}

fn namespaces(view: &View, scope: &Scope, finding: &mut Finding) {
    finding.blind.extend(scope.network.blind.iter().cloned());
    if scope.network.namespaces.is_empty() {
        return;
    }
    let table = match view.own_mounts() {
        Ok(table) => table,
        Err(e) => return finding.blind.push(Blind::new("network namespaces", e)),
    };
    let mut bound: HashMap<PathBuf, Vec<(PathBuf, u64)>> = HashMap::new();
    for (mount, inode) in table.mounts.iter().filter_map(|m| Some((m, netns::of_mount(m)?))) {
        bound.entry(original(mount.point())).or_default().push((mount.point().to_path_buf(), inode));
    }
    for owned in &scope.network.namespaces {
        let places = order::set(owned.paths.iter().map(|path| original(path)));
        for path in places {
            let here = bound.get(&path).map_or(&[][..], Vec::as_slice);
            let mounts = here.iter().filter(|(_, inode)| Some(*inode) == owned.inode).count();
            // Somebody has bound another one there since.
            if here.len() > mounts {
                continue;
            }
            let its_file = is_for_namespaces(&path, &scope.roots.netns, scope.snap.owns(&path));
            match view.host.exists(&path) {
                Ok(there) if (there && its_file) || mounts > 0 => {
                    finding.residues.push(Residue::Netns(Box::new(Netns {
                        path,
                        mounts,
                        inode: owned.inode.filter(|_| mounts > 0),
                        sandbox: owned.sandbox.clone(),
                    })))
                }
                Ok(_) => {}
                Err(e) => finding.blind.push(Blind::new(show(&path), e)),
            }
        }
    }
}

/// Where a namespace was bound first: other places at which a snap or an old path shows it are copies.
fn original(point: &Path) -> PathBuf {
    let below = point.strip_prefix(HOSTFS).map(|below| Path::new("/").join(below));
    netns::plain(below.as_deref().unwrap_or(point))
}

fn links(view: &View, scope: &Scope, finding: &mut Finding) {
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
            finding.residues.push(Residue::Link(
                Link { index: owned.index, name: owned.name.clone(), r#type: owned.r#type.clone() }.into(),
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::scope_of;
    use crate::linux::host::Host;
    use crate::scope::network::{NetnsEvidence, OwnedNetns};

    #[test]
    fn namespaces_where_they_were_bound_and_no_others() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("run/netns")).unwrap();
        std::fs::create_dir_all(dir.path().join("proc/self")).unwrap();
        for name in ["cni-ours", "cni-other", "cni-again", "cni-file", "blue"] {
            std::fs::write(dir.path().join("run/netns").join(name), "").unwrap();
        }
        let line = |id, inode, at: &str| format!("{id} 0 0:4 net:[{inode}] {at} rw - nsfs nsfs rw\n");
        let mountinfo = [
            line(1, 1, "/run/netns/cni-ours"),
            line(2, 1, "/var/lib/snapd/hostfs/run/netns/cni-ours"),
            line(3, 2, "/run/netns/cni-other"),
            line(4, 1, "/run/snap.docker/netns/ab"),
            line(5, 1, "/run/netns/since"),
            line(6, 9, "/run/netns/cni-again"),
        ];
        std::fs::write(dir.path().join("proc/self/mountinfo"), mountinfo.concat()).unwrap();
        let mut scope = scope_of(&["a", "b", "c"]);
        let owned = |inode, paths: &[&str]| OwnedNetns {
            inode,
            paths: paths.iter().map(PathBuf::from).collect(),
            sandbox: "a".into(),
            because: NetnsEvidence::RuncState,
        };
        scope.network.namespaces = vec![
            owned(Some(1), &["/run/netns/cni-ours", "/var/run/netns/cni-ours", "/run/snap.docker/netns/ab"]),
            owned(Some(7), &["/run/netns/cni-again", "/run/netns/cni-gone"]),
            owned(None, &["/run/netns/cni-file"]),
        ];
        let host = Host::at(dir.path());
        let finding = find(&View::new(&host, None), &scope);
        let ours = |path: &str, mounts, inode| {
            Residue::Netns(Box::new(Netns { path: path.into(), mounts, inode, sandbox: "a".into() }))
        };
        let expected = [
            ours("/run/netns/cni-ours", 2, Some(1)),
            ours("/run/snap.docker/netns/ab", 1, Some(1)),
            ours("/run/netns/cni-file", 0, None),
        ];
        assert_eq!(finding, Finding::of(expected.into()));
    }
}
