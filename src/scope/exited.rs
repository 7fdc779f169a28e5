//! What containers that have exited, and pods that are completed, have left outside of the runtime's own directories: links to
//! logs, logs, and what CRI keeps of each. Only our containerd's database tells whose it is, and that goes with our data.

use std::cell::LazyCell;
use std::collections::{BTreeSet, HashSet};

use serde::{Deserialize, Serialize};

use crate::error::Blind;
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
        self.ids.retain(|id| !foreign.contains(id));
        self
    }

    pub(super) fn union(mut self, older: Exited) -> Exited {
        self.ids.extend(older.ids);
        self.pods.extend(older.pods);
        self.doubtful.extend(older.doubtful);
        self.sockets.extend(older.sockets);
        self.doubtful.retain(|pod| !self.pods.contains(pod));
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
    exited.doubtful.retain(|pod| !exited.pods.contains(pod));
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
    let links = pod_logs::entries(view.host, pod_logs::CONTAINERS);
    let mut ids: HashSet<String> =
        links.iter().filter_map(|(_, name)| pod_logs::container_of(name)).map(str::to_owned).collect();
    for directory in scope.roots.shared.iter().flat_map(|root| CRI.map(|kind| root.join(kind))) {
        let names = view.host.list(&directory).unwrap_or_default();
        ids.extend(names.into_iter().filter_map(|name| name.into_string().ok()));
    }
    ids.retain(|id| !is_known(id));
    let there = pod_logs::entries(view.host, pod_logs::PODS).into_iter().map(|(_, name)| name);
    let pods = there.filter(|name| name.matches('_').count() == 2 && !pods.contains(name)).collect();
    traces::Wanted { ids, pods }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{file, microk8s};
    use crate::linux::host::Host;
    use crate::residue::witness::Witness;
    use crate::runtime::ContainerId;
    use crate::runtime::metadata::tests::traces::{APP, database};
    use crate::scope::Container;
    use std::path::Path;

    /// What is gathered of `app` and `odd`, of the pod `web2`, and of what nobody knows; where our containerd has these directories
    /// and `pause` may be a sandbox of ours.
    fn gathered(root: &str, shared: &[&str], pause: bool, groups: &str) -> (Scope, Exited) {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &[u8]| file(dir.path(), name, text);
        write(&format!("{}/{}", &root[1..], metadata::FILE), &database());
        for link in [APP, "odd", "none"] {
            write(&format!("var/log/containers/p_default_c-{link}.log"), b"");
        }
        for pod in ["default_web2_uid2/c", "default_web3_uid3/c", "default_web1_uid1/c"] {
            write(&format!("var/log/pods/{pod}/0.log"), b"");
        }
        write("run/containerd/io.containerd.grpc.v1.cri/sandboxes/job/x", b"");
        write("proc/self/mountinfo", b"1 0 0:1 / /sys/fs/cgroup rw - cgroup2 c rw\n");
        write(&format!("sys/fs/cgroup{groups}/cgroup.procs"), b"77\n");
        let host = Host::at(dir.path());
        let (snap, profile) = microk8s();
        let view = View::new(&host, None);
        let mut scope = crate::scope::decide::gather(&view, &snap, &profile).unwrap();
        scope.roots.root = root.into();
        scope.roots.shared = shared.iter().map(Into::into).collect();
        let id = |id: &str| ContainerId { namespace: "k8s.io".into(), id: id.into() };
        let ours = if pause { "pause" } else { "another" };
        let proven = Container { witnesses: [Witness::RuncState].into(), ..Container::of_id(id(ours)) };
        scope.containers.push(proven);
        let found = gather(&view, &mut scope, &HashSet::from(["foreign".into()]));
        (scope, found)
    }

    const OWN: &str = "/var/snap/microk8s/common/var/lib/containerd";

    fn names(names: &BTreeSet<Name>) -> Vec<&str> {
        names.iter().map(Name::as_str).collect()
    }

    #[test]
    fn of_a_database_of_the_snaps_own_all_is_ours_of_which_anything_is_left() {
        let (scope, found) = gathered(OWN, &["/run/containerd"], false, "/odd");
        assert_eq!(names(&found.ids), [APP, "job", "odd"]);
        assert_eq!(names(&found.pods), ["default_web1_uid1", "default_web2_uid2"]);
        assert!(found.doubtful.is_empty() && scope.doubts.is_empty());
        let (_, found) = gathered(OWN, &[], false, &format!("/kubepods/pod1/{APP}"));
        assert_eq!(
            names(&found.ids),
            ["odd"],
            "somebody is in a group of the other's ID, and no directory is shared"
        );
    }

    #[test]
    fn of_a_database_that_others_may_have_had_it_is_what_has_a_sandbox_of_ours() {
        let shared = ["/run/containerd", "/var/lib/containerd"];
        let (_, found) = gathered("/var/lib/containerd", &shared, true, "/odd");
        assert_eq!(names(&found.ids), [APP]);
        assert_eq!(names(&found.pods), ["default_web1_uid1"]);
        assert_eq!(names(&found.doubtful), ["default_web2_uid2"]);
        let (_, found) = gathered("/var/lib/containerd", &shared, false, "/odd");
        assert!(found.ids.is_empty() && found.pods.is_empty());
        assert_eq!(names(&found.doubtful), ["default_web1_uid1", "default_web2_uid2"]);
    }

    #[test]
    fn a_database_that_cannot_be_read_is_told_where_logs_are_left_that_it_would_tell_of() {
        let dir = tempfile::tempdir().unwrap();
        file(dir.path(), &format!("{}/{}", &OWN[1..], metadata::FILE), "nonsense");
        let host = Host::at(dir.path());
        let mut scope = crate::fixture::scope_of(&["a"]);
        let told = |scope: &mut Scope| {
            assert!(gather(&View::new(&host, None), scope, &HashSet::new()).is_empty());
            std::mem::take(&mut scope.doubts).len()
        };
        assert_eq!(told(&mut scope), 0);
        file(dir.path(), "var/log/pods/default_p_uid/c/0.log", "");
        assert_eq!(told(&mut scope), 1);
        scope.network.rivals.insert("k3s".into(), "it is alive".into());
        assert_eq!(told(&mut scope), 0);
        std::fs::remove_file(dir.path().join(&OWN[1..]).join(Path::new(metadata::FILE))).unwrap();
        scope.network.rivals.clear();
        assert_eq!(told(&mut scope), 0, "none was ever there");
    }
}
