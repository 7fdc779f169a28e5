//! Gathers how each application of ours is to be ended.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use crate::order;
use crate::runtime::ContainerId;
use crate::runtime::docker;
use crate::runtime::groups;
use crate::runtime::hook_plan::{Patience, Plan};
use crate::runtime::metadata::{self, Record, Records};
use crate::runtime::streams;
use crate::scope::graceful::{Graceful, Manner};
use crate::scope::{Container, OwnedShim, Scope};
use crate::snap::profile::Profile;
use crate::view::View;

/// Gathers how our applications are to be ended; and which containers our containerd's database names that are known
/// otherwise by the names of their streams or of empty groups alone.
pub fn gather(view: &View, scope: &Scope, profile: &Profile) -> (Graceful, Vec<ContainerId>) {
    let own = &profile.patience;
    let patience = Patience { default: own.drain, most: own.maximum_grace(), hooks: own.hooks };
    let applications: Vec<&Container> = scope.containers.iter().filter(|c| !c.sandbox).collect();
    let known: HashSet<&str> = scope.containers.iter().map(|c| c.id.id.as_str()).collect();
    let named = streams::ids(view.host, &scope.roots).into_iter().chain(groups_of_kubelets(view));
    let unknown: HashSet<String> = named.filter(|id| !known.contains(id.as_str())).collect();
    if applications.is_empty() && unknown.is_empty() {
        return (Graceful { patience, ..Graceful::default() }, Vec::new());
    }
    let no_applications = applications.is_empty();
    let (records, unread) = match read(view, scope) {
        Ok(Some(records)) => (records, None),
        Ok(None) => (Records::default(), Some("there is none".to_owned())),
        Err(why) => (Records::default(), Some(why)),
    };
    let known = applications.into_iter().filter_map(|c| manner(view, scope, &records, c, patience));
    let mut manners: Vec<Manner> = known.collect();
    order::sort_by(&mut manners, |a, b| a.container.cmp(&b.container));
    let recorded = records.containers.keys().filter(|id| unknown.contains(id.id.as_str())).cloned().collect();
    (Graceful { manners, unread: unread.filter(|_| !no_applications), patience }, recorded)
}

/// The IDs after which empty groups in those of pods are named.
fn groups_of_kubelets(view: &View) -> Vec<String> {
    let Ok(tree) = view.cgroups() else { return Vec::new() };
    tree.each().filter_map(|(_, group)| groups::container_in_a_pod(group).map(str::to_owned)).collect()
}

/// What our containerd's database says; nothing where there is none.
pub(super) fn read(view: &View, scope: &Scope) -> Result<Option<Records>, String> {
    let file = scope.roots.root.join(metadata::FILE);
    view.host.reach(&file).map_err(|e| e.to_string())?;
    metadata::read_file(&view.host.path(&file)).map_err(|e| e.to_string())
}

fn manner(
    view: &View,
    scope: &Scope,
    records: &Records,
    container: &Container,
    patience: Patience,
) -> Option<Manner> {
    let sandbox = records.sandbox_of(&container.id);
    let serves_others = serves_others(scope, container, sandbox.is_some_and(|sandbox| sandbox.host_network));
    let unknown = Record::default();
    // Also of a container that no database names: its bundle alone may show that others need it.
    let of_docker = of_docker(view, scope, container);
    let recorded = of_docker.as_ref().or_else(|| records.containers.get(&container.id));
    let record = recorded.or(serves_others.then_some(&unknown))?;
    let serves = |s: &&OwnedShim| {
        s.namespace == container.id.namespace && s.id.as_ref().is_none_or(|id| *id == container.shim_id)
    };
    let shim = scope.shims.iter().any(|s| serves(&s));
    Some(Manner {
        container: container.id.clone(),
        name: record.name.clone(),
        serves_others,
        hook: record.pre_stop.as_ref().map(|hook| hook.kind()),
        plan: Plan::of(record, sandbox, shim, patience),
    })
}

/// In the snap's directories, or where docker's data were moved to.
fn is_known(scope: &Scope, file: &Path) -> bool {
    let moved = scope.roots.docker.as_ref();
    scope.roots.is_own(&scope.snap, file)
        || moved.is_some_and(|data| scope.roots.place_of(file).starts_with(data))
}

/// Where docker writes down what it knows of a container of its own, in the snap's directories.
fn file_of_docker(scope: &Scope, container: &Container) -> Option<PathBuf> {
    let is_dockers = docker::is_namespace(&container.id.namespace);
    let file = docker::file_of(&container.id, &container.binds.list()).filter(|_| is_dockers)?;
    is_known(scope, &file).then_some(file)
}

fn of_docker(view: &View, scope: &Scope, container: &Container) -> Option<Record> {
    docker::record(view.host, &file_of_docker(scope, container)?)
}

/// How docker's containers of ours were reached when it died.
pub(super) fn reached(view: &View, scope: &Scope) -> docker::Reached {
    let mut reached = docker::Reached::default();
    let proven = scope.containers.iter().filter(|container| container.is_proven());
    let files = proven.filter_map(|container| file_of_docker(scope, container));
    files.for_each(|file| reached.read(view.host, &file));
    reached
}

/// True for what mounts volumes and makes networks for other pods: others that end after it could no longer save their work.
/// It passes its mounts on to the host, or has the host's network with all of root's rights, or has kubelet's directories for
/// plugins or those of the network plugins bound into it. What a plugin keeps further down in its own directory is what it
/// serves, and whoever has that bound may be one of those served.
fn serves_others(scope: &Scope, container: &Container, host_network: bool) -> bool {
    let kubelets = [&scope.roots.kubelet, &scope.inside.kubelet].into_iter().flatten().cloned();
    let kubelets: Vec<PathBuf> = kubelets.chain([PathBuf::from("/var/lib/kubelet")]).collect();
    let host = scope.snap.data.join("opt/cni/bin");
    let of_cni = ["/opt/cni/bin".into(), "/etc/cni/net.d".into(), host];
    let is_plugins = |bind: &PathBuf, kubelet: &PathBuf| {
        let plugins = kubelet.join("plugins");
        bind.starts_with(kubelet.join("plugins_registry"))
            || *bind == plugins
            || bind.parent() == Some(&plugins)
    };
    container.shares
        || container.privileged && host_network
        || container.binds.list().iter().any(|bind| {
            kubelets.iter().any(|kubelet| is_plugins(bind, kubelet))
                || of_cni.iter().any(|place| bind.starts_with(place))
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::scope_of;

    #[test]
    fn who_serves_and_who_is_served() {
        let scope = scope_of(&["a"]);
        let kubelet = scope.roots.kubelet.clone().unwrap();
        let of =
            |binds: &[PathBuf]| Container { binds: binds.to_vec().into(), ..scope.containers[0].clone() };
        let serves = |container: &Container| serves_others(&scope, container, false);
        for bind in ["plugins", "plugins/x.csi", "plugins_registry", "plugins_registry/deep"] {
            assert!(serves(&of(&[kubelet.join(bind)])), "{bind}");
        }
        assert!(
            serves(&of(&["/etc/cni/net.d".into()])) && serves(&of(&["/var/lib/kubelet/plugins/x".into()]))
        );
        for bind in ["plugins/x.csi/served", "pods/u/volumes/x", ""] {
            assert!(!serves(&of(&[kubelet.join(bind)])), "{bind}");
        }
        let client = of(&["/srv/data".into()]);
        assert!(!serves(&client));
        assert!(serves(&Container { shares: true, ..client.clone() }));
        let privileged = Container { privileged: true, ..client.clone() };
        assert!(!serves(&privileged) && serves_others(&scope, &privileged, true));
        assert!(!serves_others(&scope, &client, true), "the host's network alone serves nobody");
    }
}
