//! Logs of our pods, outside of the snap's own directories.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use crate::error::Blind;
use crate::reason::Reason;
use crate::residue::finding::Finding;
use crate::residue::{PathKind, Residue};
use crate::runtime::Pod;
use crate::runtime::pod_logs;
use crate::scope::{Container, Scope};
use crate::text::show;
use crate::view::View;

/// What the logs of pods are called, and whether they are ours.
type Named = Vec<(String, bool)>;

/// Adds those that the profile wants to go.
pub fn find(view: &View, scope: &Scope, finding: &mut Finding) {
    if scope.roots.logs {
        let named = named(scope);
        let path = |(path, what)| Residue::path(path, what);
        finding.residues.extend(of_these(view, scope, &named).into_iter().map(path));
        finding.blind.extend(claimed(view, scope, &named));
        if !named.is_empty() {
            finding.blind.extend(pod_logs::hidden(view.host, &scope.roots));
        }
    }
}

/// What the logs of our containers' pods are called, and whether these are ours: by proof; or, of pods that a reboot has ended,
/// by the word of a bundle or of containerd's database, while no other kubelet is alive: nobody else has such logs.
fn named(scope: &Scope) -> Named {
    let own = scope.containers.iter().filter_map(|c| Some((c, c.pod.as_ref()?)));
    let own: Vec<(&Container, &Pod)> = own.filter(|(_, pod)| !pod.uid.is_empty()).collect();
    let exited = &scope.exited;
    let alone = scope.network.other_kubelet().is_none();
    let ids = scope.sole_ids();
    let is_ours = |c: &Container| (alone || c.pod_proven) && ids.contains(c.id.id.as_str());
    let known = own.into_iter().map(|(container, pod)| (pod_logs::name_of(pod), is_ours(container)));
    let completed = exited.pods.iter().map(|name| (name.to_string(), alone));
    // Those of whoever has had the same database are told where nobody else is alive who has them.
    let doubtful = exited.doubtful.iter().filter(|_| alone).map(|name| (name.to_string(), false));
    known.chain(completed).chain(doubtful).collect()
}

/// The logs of pods of which only a bundle or a database says that a container of ours was in them: they may be another kubelet's.
fn claimed(view: &View, scope: &Scope, named: &Named) -> Vec<Blind> {
    let is_ours = |name: &String| named.iter().any(|(own, ours)| own == name && *ours);
    let claimed: HashSet<&str> =
        named.iter().map(|(name, _)| name).filter(|name| !is_ours(name)).map(String::as_str).collect();
    if claimed.is_empty() {
        return Vec::new();
    }
    let there = pod_logs::pods(view.host, &scope.roots)
        .into_iter()
        .filter(|(_, name)| claimed.contains(name.as_str()));
    let why = "only a bundle or a database says that they are of a pod of ours; they are left";
    let why = (Reason::Unproven, why);
    let mut told: Vec<Blind> =
        there.map(|(path, _)| Blind::new(format!("the logs in {}", show(&path)), why)).collect();
    let links = pod_logs::links(view.host).into_iter();
    let links =
        links.filter(|(path, _)| pod_of(view, scope, path).is_some_and(|pod| claimed.contains(pod.as_str())));
    told.extend(links.map(|(path, _)| Blind::new(format!("the link {}", show(&path)), why)));
    told
}

/// The logs of our pods: directories by the pod's names and uid, links by the container's ID.
pub fn of_ours(view: &View, scope: &Scope) -> Vec<(PathBuf, PathKind)> {
    of_these(view, scope, &named(scope))
}

fn of_these(view: &View, scope: &Scope, named: &Named) -> Vec<(PathBuf, PathKind)> {
    let ids = scope.sole_ids();
    let pods = named.iter().filter(|(_, ours)| *ours);
    let pods: HashSet<&str> = pods.map(|(name, _)| name.as_str()).collect();
    let exited = &scope.exited.ids;
    if pods.is_empty() && exited.is_empty() {
        return Vec::new();
    }
    // Without pods nothing else is known of them.
    let is_ours = |id: &str| !pods.is_empty() && ids.contains(id) || exited.contains(id);
    // What leads to logs that go would lead nowhere.
    let goes_with_pod =
        |path: &Path| pod_of(view, scope, path).is_some_and(|pod| pods.contains(pod.as_str()));
    let mut found = Vec::new();
    for (path, name) in pod_logs::links(view.host) {
        let ours = pod_logs::container_of(&name).is_some_and(is_ours) || goes_with_pod(&path);
        if ours && view.host.stat(&path).is_ok_and(|m| m.is_symlink()) {
            found.push((path, PathKind::PodLogLink));
        }
    }
    for (path, name) in pod_logs::pods(view.host, &scope.roots) {
        match view.host.stat(&path) {
            Ok(it) if pods.contains(name.as_str()) && it.is_dir() => found.push((path, PathKind::PodLogs)),
            // What it leads to is somebody's.
            Ok(it) if pods.contains(name.as_str()) && it.is_symlink() => {
                found.push((path, PathKind::PodLogLink))
            }
            _ => {}
        }
    }
    found
}

/// The pod in whose logs a link ends, as these are called.
fn pod_of(view: &View, scope: &Scope, link: &Path) -> Option<String> {
    let target = view.host.link(link).ok()?;
    let below =
        pod_logs::directories(&scope.roots).find_map(|directory| target.strip_prefix(directory).ok())?;
    let name = below.components().next()?;
    name.as_os_str().to_str().map(str::to_owned)
}

/// How much lies there, as far as it can be seen.
pub fn size(view: &View, directory: &Path) -> u64 {
    let mut sum = 0;
    for name in view.host.list(directory).unwrap_or_default() {
        let below = directory.join(name);
        match view.host.stat(&below) {
            Ok(m) if m.is_dir() => sum += size(view, &below),
            Ok(m) => sum += m.len(),
            Err(_) => {}
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linux::host::Host;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn those_of_our_pods_by_uid_and_of_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let (own, other) = ("11111111-2222-4333-8444-555555555555", "99999999-2222-4333-8444-555555555555");
        for uid in [own, other] {
            fs::create_dir_all(at(&format!("var/log/pods/default_p_{uid}/c"))).unwrap();
            fs::write(at(&format!("var/log/pods/default_p_{uid}/c/0.log")), "12345").unwrap();
        }
        fs::create_dir_all(at("var/log/containers")).unwrap();
        for id in ["a", "b"] {
            symlink("/var/log/x", at(&format!("var/log/containers/p_default_c-{id}.log"))).unwrap();
        }
        fs::write(at("var/log/containers/file-a.log"), "").unwrap();
        let mut scope = crate::fixture::scope_of(&["a"]);
        let pod = |uid: &str| Some(Pod { namespace: "default".into(), name: "p".into(), uid: uid.into() });
        scope.containers[0].pod = pod(own);
        scope.containers[0].pod_proven = true;
        let host = Host::at(dir.path());
        let view = View::new(&host, None);
        let found = of_ours(&view, &scope);
        let directory = PathBuf::from(format!("/var/log/pods/default_p_{own}"));
        assert_eq!(size(&view, &directory), 5);
        let link = PathBuf::from("/var/log/containers/p_default_c-a.log");
        assert_eq!(found, [(link, PathKind::PodLogLink), (directory, PathKind::PodLogs)]);
        assert!(claimed(&view, &scope, &named(&scope)).is_empty());
        // A container writes into its own bundle that it is in another's pod.
        let mut claimant = scope.containers[0].clone();
        (claimant.pod, claimant.pod_proven) = (pod(other), false);
        scope.containers.push(claimant);
        scope.network.rivals.insert("k3s".into(), "it is alive".into());
        assert_eq!(of_ours(&view, &scope), found);
        assert!(claimed(&view, &scope, &named(&scope))[0].what.contains(other));
        scope.containers.pop();
        // One of ours that has exited, another's in a pod of ours, and a pod that only the database knows.
        let links = [("c", "/var/log/x".into()), ("d", format!("/var/log/pods/default_p_{own}/c/0.log"))];
        for (id, target) in links {
            symlink(target, at(&format!("var/log/containers/q_default_c-{id}.log"))).unwrap();
        }
        scope.exited.ids.insert("c".into());
        scope.exited.pods.insert(format!("default_p_{other}").as_str().into());
        let beside_another = of_ours(&view, &scope);
        assert_eq!(beside_another.len(), 4, "{beside_another:?}");
        assert!(claimed(&view, &scope, &named(&scope))[0].what.contains(other));
        scope.network.rivals.clear();
        fs::create_dir_all(at("proc/self")).unwrap();
        assert_eq!(of_ours(&view, &scope).len(), 5);
        assert!(claimed(&view, &scope, &named(&scope)).is_empty());
        std::mem::swap(&mut scope.exited.pods, &mut scope.exited.doubtful);
        assert_eq!(of_ours(&view, &scope).len(), 4);
        assert_eq!(claimed(&view, &scope, &named(&scope)).len(), 1);
        scope.exited = Default::default();
        scope.containers[0].pod = pod("");
        assert!(of_ours(&view, &scope).is_empty(), "without a uid nothing is known");
    }
}
