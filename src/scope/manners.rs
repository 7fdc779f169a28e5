//! Gathers how each application of ours is to be ended.

use std::path::PathBuf;

use crate::runtime::docker;
use crate::runtime::hook_plan::{Patience, Plan};
use crate::runtime::metadata::{self, Record, Records};
use crate::scope::graceful::{Graceful, Manner};
use crate::scope::{Container, Scope, Shim};
use crate::snap::profile::{Profile, Roots};
use crate::view::View;

/// Gathers what is known of our applications.
pub fn gather(view: &View, scope: &Scope, profile: &Profile) -> Graceful {
    let own = &profile.patience;
    let patience = Patience { default: own.drain, most: own.maximum_grace(), hooks: own.hooks };
    let applications: Vec<&Container> = scope.containers.iter().filter(|c| !c.sandbox).collect();
    if applications.is_empty() {
        return Graceful { patience, ..Graceful::default() };
    }
    let (records, unread) = match read(view, scope) {
        Ok(Some(records)) => (records, None),
        Ok(None) => (Records::default(), Some("there is none".to_owned())),
        Err(why) => (Records::default(), Some(why)),
    };
    let known = applications.into_iter().filter_map(|c| manner(view, scope, &records, c, patience));
    let mut manners: Vec<Manner> = known.collect();
    manners.sort_by(|a, b| a.container.cmp(&b.container));
    Graceful { manners, unread, patience }
}

fn read(view: &View, scope: &Scope) -> Result<Option<Records>, String> {
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
    let of_docker = of_docker(view, scope, container);
    let record = of_docker.as_ref().or_else(|| records.containers.get(&container.id))?;
    let sandbox = records.sandbox_of(&container.id);
    let serves = |s: &&Shim| {
        s.namespace == container.id.namespace && s.id.as_ref().is_none_or(|id| *id == container.shim_id)
    };
    let shim = scope.shims.iter().any(|s| serves(&s));
    Some(Manner {
        container: container.id.clone(),
        name: record.name.clone(),
        serves_others: serves_others(scope, container),
        hook: record.pre_stop.as_ref().map(|hook| hook.kind()),
        plan: Plan::of(record, sandbox, shim, patience),
    })
}

/// What docker knows of a container of its own, in the snap's directories.
fn of_docker(view: &View, scope: &Scope, container: &Container) -> Option<Record> {
    let file = docker::file_of(&container.id, &container.binds)?;
    let ours = container.id.namespace == docker::NAMESPACE && scope.roots.is_own(&scope.snap, &file);
    ours.then(|| docker::record(view.host, &file)).flatten()
}

/// True for what mounts volumes and makes networks for other pods: it has kubelet's directories for plugins, or those of the
/// network plugins, bound into it. Others that end after it could no longer save their work.
fn serves_others(scope: &Scope, container: &Container) -> bool {
    let of_kubelet = |roots: &Roots| {
        let below = ["plugins", "plugins_registry"];
        roots.kubelet.iter().flat_map(|k| below.map(|name| k.join(name))).collect::<Vec<_>>()
    };
    let shared =
        ["/var/lib/kubelet/plugins", "/var/lib/kubelet/plugins_registry", "/opt/cni/bin", "/etc/cni/net.d"];
    let mut places: Vec<PathBuf> = shared.map(PathBuf::from).into();
    places.extend(of_kubelet(&scope.roots));
    places.extend(of_kubelet(&scope.inside));
    let host = scope.snap.data.join("opt/cni/bin");
    places.push(host);
    container.binds.iter().any(|bind| places.iter().any(|place| bind.starts_with(place)))
}
