//! What containers that have exited, and pods that are completed, have left outside of the runtime's own directories: links to
//! logs, logs, and what CRI keeps of each. Only our containerd's database tells whose it is, and that goes with our data.

use std::cell::LazyCell;
use std::collections::{BTreeSet, HashSet};

use serde::{Deserialize, Serialize};

use crate::error::Blind;
use crate::order;
use crate::reason::Reason;
use crate::runtime::bundle::CRI;
use crate::runtime::metadata::{self, traces};
use crate::runtime::{Name, pod_logs};
use crate::scope::{Scope, dead};
use crate::view::View;

/// Names of what is dead, for tidying only: a hostPath volume may reach the database. Of nothing else than of what was there
/// when the scope was gathered; a node may have had tens of thousands of containers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Exited {
    /// IDs of containers and sandboxes of ours.
    pub ids: BTreeSet<Name>,
    /// Pods of ours, as their logs are called.
    pub pods: BTreeSet<Name>,
    /// Pods of which nothing proves that they are ours: others have had the same database.
    pub doubtful: BTreeSet<Name>,
    /// Sockets of shims, by their names in the directory of these.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub sockets: BTreeSet<Name>,
}

impl Exited {
    pub(crate) fn is_empty(&self) -> bool {
        [&self.ids, &self.pods, &self.doubtful, &self.sockets].iter().all(|names| names.is_empty())
    }

    pub(super) fn without(mut self, foreign: &HashSet<Name>) -> Exited {
        order::retain(&mut self.ids, |id| !foreign.contains(id));
        self
    }

    pub(super) fn union(mut self, older: Exited) -> Exited {
        self.ids.extend(older.ids);
        self.pods.extend(older.pods);
        self.doubtful.extend(older.doubtful);
        self.sockets.extend(older.sockets);
        order::retain(&mut self.doubtful, |pod| !self.pods.contains(pod));
        self
    }
}

/// Gathers them. Where our containerd's database is the snap's own, all that it names is ours; else what belongs to a sandbox that
/// is proven ours. IDs that others have (`foreign`) are not ours by it, nor are those of what lives.
pub(super) fn gather(view: &View, scope: &mut Scope, foreign: &HashSet<Name>) -> Exited {
    let mut exited = Exited::default();
    let known_pods: HashSet<String> =
        scope.containers.iter().filter_map(|c| c.pod.as_ref()).map(pod_logs::name_of).collect();
    // Of an ID that lives, all that is ours is known.
    let alive = LazyCell::new(|| dead::alive(view));
    let known: LazyCell<HashSet<&str>, _> =
        LazyCell::new(|| scope.containers.iter().map(|c| c.id.id.as_str()).collect());
    let is_known = |id: &str| known.contains(id);
    let is_anothers = |id: &str| foreign.contains(id) || alive.contains(id) && !is_known(id);
    let wanted = wanted(view, scope, &known_pods, &|id| is_known(id) || is_anothers(id));
    if wanted.ids.is_empty() && wanted.pods.is_empty() || !scope.has_run() {
        return exited;
    }
    let file = scope.roots.root.join(metadata::FILE);
    let reached = view.host.reach(&file).map_err(|e| e.to_string());
    let read =
        reached.and_then(|()| traces::read_file(&view.host.path(&file), &wanted).map_err(|e| e.to_string()));
    let (found, unread) = match read {
        Ok((found, wrong)) => (found, wrong.map(|e| e.to_string())),
        Err(why) => (Vec::new(), Some(why)),
    };
    let is_own = scope.roots.owns_root(&scope.snap);
    let proven = scope.proven_ids();
    for trace in found.into_iter().filter(|t| !is_anothers(&t.id) && !is_anothers(&t.sandbox)) {
        let is_ours = is_own || proven.contains(trace.sandbox.as_str());
        if is_ours && wanted.ids.contains(&trace.id) {
            exited.ids.insert(trace.id.into());
        }
        if let Some(pod) = trace.pod.filter(|pod| !known_pods.contains(pod)) {
            let pods = if is_ours { &mut exited.pods } else { &mut exited.doubtful };
            pods.insert(pod.into());
        }
    }
    order::retain(&mut exited.doubtful, |pod| !exited.pods.contains(pod));
    drop(known);
    // Beside another kubelet they are its more often than not.
    if let Some(why) = unread.filter(|_| scope.network.other_kubelet().is_none()) {
        let what = "logs of pods, of which containerd's database would tell whose they are";
        scope.doubts.push(Blind::new(what, (Reason::Malformed, why)));
    }
    exited
}

/// What is there of containers and pods that are not known otherwise.
fn wanted(
    view: &View,
    scope: &Scope,
    pods: &HashSet<String>,
    is_known: &dyn Fn(&str) -> bool,
) -> traces::Wanted {
    let links = pod_logs::links(view.host);
    let mut ids: HashSet<String> =
        links.iter().filter_map(|(_, name)| pod_logs::container_of(name)).map(str::to_owned).collect();
    for directory in scope.roots.shared.iter().flat_map(|root| CRI.map(|kind| root.join(kind))) {
        let names = view.host.list(&directory).unwrap_or_default();
        ids.extend(names.into_iter().filter_map(|name| name.into_string().ok()));
    }
    ids.retain(|id| !is_known(id));
    let there = pod_logs::pods(view.host, &scope.roots).into_iter().map(|(_, name)| name);
    let pods = there.filter(|name| name.matches('_').count() == 2 && !pods.contains(name)).collect();
    traces::Wanted { ids, pods }
}

#[cfg(test)]
mod tests;
