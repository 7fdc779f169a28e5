//! Directories that runtimes make for themselves on a host and that ours leaves empty: the next runtime takes
//! `/run/containerd` for another one that runs.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use crate::linux::identity::owner_of_process;
use crate::linux::place::is_furniture;
use crate::order;
use crate::residue::finding::Finding;
use crate::residue::{PathKind, Residue};
use crate::runtime::activated;
use crate::runtime::bundle::{self, ALL_TASKS, SANDBOXES};
use crate::runtime::cni;
use crate::runtime::docker;
use crate::runtime::pod_logs::{CONTAINERS, PODS};
use crate::runtime::runc;
use crate::runtime::sandboxed;
use crate::scope::Scope;
use crate::steps::{flannel, shared_state};
use crate::view::View;

/// Programs that work in these directories. A kubelet only talks to one of them.
const RUNTIMES: [&str; 3] = ["containerd", "dockerd", "crio"];

/// Where kubelet looks for its own kind of plugins, and those above.
const OF_KUBELET: [&str; 4] = [
    "/usr/libexec/kubernetes/kubelet-plugins/volume/exec",
    "/usr/libexec/kubernetes/kubelet-plugins/volume",
    "/usr/libexec/kubernetes/kubelet-plugins",
    "/usr/libexec/kubernetes",
];

/// Adds directories that hold nothing but what goes by the residues found so far, deepest first.
pub fn find(view: &View, scope: &Scope, finding: &mut Finding) {
    let others = others_run(view, scope);
    // Where nothing of ours was, nothing is empty by us; but for what a containerd of ours has made before there was a pod, or
    // kept after the last one. Beside another runtime, that is the other's.
    if !scope.has_run() || scope.idle && others {
        return;
    }
    let Ok(table) = view.own_mounts() else { return };
    if !others {
        finding.residues.extend(shared_state::mounts_made(view, scope));
    }
    let paths = finding.residues.iter().filter_map(|residue| match residue {
        Residue::Path(it) => Some(it.path.as_os_str()),
        _ => None,
    });
    // By their bytes: paths are hashed part by part, which takes longer.
    let going: HashSet<&OsStr> = paths.collect();
    let mut empty: Vec<PathBuf> = Vec::new();
    // CNI's directories, and runc's of a namespace of ours, are made anew by whoever needs them.
    let renewed = |path: &Path| {
        let is_above = |state: &PathBuf| state.starts_with(path);
        path.starts_with(&scope.roots.cni)
            || path.parent() == Some(&scope.roots.runc)
            || scope.states.values().any(is_above)
    };
    let candidates = candidates(view, scope);
    for directory in candidates.iter().filter(|path| !others || renewed(path)) {
        let goes = |path: PathBuf| going.contains(path.as_os_str()) || empty.contains(&path);
        let is_empty = || {
            view.host.list(directory).is_ok_and(|names| names.iter().all(|name| goes(directory.join(name))))
        };
        let is_there = view.host.stat(directory).is_ok_and(|m| m.is_dir());
        let is_mounted = || table.mounts.iter().any(|m| m.point().starts_with(directory));
        if is_there && is_empty() && !is_mounted() && !scope.snap.is_younger_than(view.host, directory) {
            empty.push(directory.clone());
        }
    }
    if !others {
        let goes = |path: &Path| going.contains(path.as_os_str()) || empty.iter().any(|gone| gone == path);
        let told = shared_state::stays(view, scope, &candidates, &goes);
        finding.blind.extend(told);
    }
    let what = PathKind::EmptyDirectory;
    finding.residues.extend(empty.into_iter().map(|path| Residue::path(path, what)));
}

/// By their names, each after those below it.
fn candidates(view: &View, scope: &Scope) -> Vec<PathBuf> {
    let roots = &scope.roots;
    let namespaces = order::set(scope.containers.iter().map(|c| c.id.namespace.as_str()));
    let mut found: Vec<PathBuf> = namespaces.iter().map(|name| roots.runc.join(name)).collect();
    if scope.idle {
        found
            .extend(view.host.list(&roots.runc).unwrap_or_default().iter().map(|name| roots.runc.join(name)));
    }
    let elsewhere = order::set(scope.states.values().filter_map(|state| state.parent()));
    found.extend(elsewhere.iter().map(|path| path.to_path_buf()));
    found.extend(elsewhere.iter().filter_map(|path| path.parent()).map(Path::to_path_buf));
    found.extend([&roots.runc, &roots.fifos, &roots.shim_sockets].map(Clone::clone));
    let of_runsc = namespaces.iter().flat_map(|name| sandboxed::runsc_directories(roots, name));
    let of_runsc: Vec<PathBuf> = of_runsc.collect();
    found.extend(of_runsc.iter().cloned());
    found.extend(of_runsc.iter().filter_map(|path| path.parent().map(Path::to_path_buf)));
    found.extend(sandboxed::KATA_SKELETON.map(PathBuf::from));
    for root in &roots.shared {
        let all: Vec<PathBuf> = ALL_TASKS.iter().chain([&SANDBOXES]).map(|name| root.join(name)).collect();
        for all in &all {
            found.extend(namespaces.iter().map(|name| all.join(name)));
        }
        found.extend(bundle::CRI.map(|kind| root.join(kind)));
        found.extend(Path::new(bundle::CRI[0]).parent().map(|above| root.join(above)));
        found.extend(all);
    }
    // containerd makes a directory there for each of its plugins.
    if roots.shared.contains(&roots.state) {
        found.push(roots.state.join(activated::DIRECTORY).join(activated::TARGETS));
        let names = view.host.list(&roots.state).unwrap_or_default();
        let of_plugin = |name: &std::ffi::OsString| name.as_encoded_bytes().starts_with(b"io.containerd.");
        found.extend(names.iter().filter(|n| of_plugin(n)).map(|name| roots.state.join(name)));
        found.push(roots.state.clone());
    }
    let above = [&roots.runc, &roots.fifos, &roots.shim_sockets].into_iter().filter_map(|path| path.parent());
    found.extend(above.map(Path::to_path_buf));
    found.extend((!scope.builds.is_empty()).then(|| PathBuf::from(runc::RUN)));
    if scope.docker_has_run() {
        found.extend(docker::SKELETON.map(PathBuf::from));
    }
    found.extend(scope.network.networks.iter().map(|name| roots.cni.join("networks").join(name)));
    found.extend(["networks", "results"].map(|name| roots.cni.join(name)));
    found.extend([Path::new(cni::RUN), flannel::DIRECTORY.as_ref()].map(Path::to_path_buf));
    found.extend(bundle::SKELETON.map(PathBuf::from));
    if roots.kubelet.is_some() && scope.network.other_kubelet().is_none() {
        let logs = [PODS, CONTAINERS].into_iter().filter(|_| roots.logs);
        found.extend(logs.chain(OF_KUBELET).map(PathBuf::from));
    }
    let mut seen = HashSet::new();
    found.retain(|path| seen.insert(path.clone()));
    found.retain(|path| !is_furniture(path) && !roots.is_own(&scope.snap, path));
    found
}

/// True if our own runtime runs: what it listens at is no leftover yet.
pub fn ours_runs(view: &View, scope: &Scope) -> bool {
    let is_ours = |pid| view.unit_of(pid) == Some(scope.snap.instance.as_str());
    view.processes().as_ref().is_ok_and(|all| {
        all.iter().any(|p| RUNTIMES.contains(&p.comm.as_str()) && p.alive() && is_ours(p.id.pid))
    })
}

/// True if a program of another runtime runs here; a guest's works in directories of its own, and so does a user's.
pub fn others_run(view: &View, scope: &Scope) -> bool {
    let Ok(processes) = view.processes() else { return true };
    let ours: HashSet<i32> = scope.shims.iter().map(|s| s.process.pid).collect();
    let depth = view.pid_namespace_depth(None);
    processes.iter().any(|p| {
        let pid = p.id.pid;
        let other = RUNTIMES.contains(&p.comm.as_str()) || processes.is_shim(pid) && !ours.contains(&pid);
        let is_a_users =
            || view.host.is_live() && owner_of_process(view.host, pid).is_ok_and(|owner| owner != 0);
        other && p.alive() && !is_a_users() && view.pid_namespace_depth(Some(pid)) == depth
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linux::host::Host;
    use std::fs;

    fn found(dir: &Path, going: &[&str]) -> Vec<String> {
        let host = Host::at(dir);
        let path = |path: &&str| Residue::path(path.into(), PathKind::RuncState);
        let mut finding = Finding::of(going.iter().map(path).collect());
        let mut scope = crate::fixture::scope_of(&["a"]);
        scope.network.networks.insert("pods".into());
        find(&View::new(&host, None), &scope, &mut finding);
        let path = |r: &Residue| match r {
            Residue::Path(it) if it.what == PathKind::EmptyDirectory => Some(it.path.display().to_string()),
            _ => None,
        };
        finding.residues.iter().filter_map(path).collect()
    }

    #[test]
    fn what_is_empty_by_us_goes_from_below_and_what_holds_anything_stays() {
        let dir = tempfile::tempdir().unwrap();
        for name in
            ["proc/self", "var/snap/microk8s/common", "run/containerd/runc/k8s.io/a", "run/containerd/s"]
        {
            fs::create_dir_all(dir.path().join(name)).unwrap();
        }
        fs::write(dir.path().join("proc/self/mountinfo"), "1 0 0:1 / / rw - tmpfs t rw\n").unwrap();
        let all =
            ["/run/containerd/runc/k8s.io", "/run/containerd/runc", "/run/containerd/s", "/run/containerd"];
        assert_eq!(found(dir.path(), &["/run/containerd/runc/k8s.io/a"]), all);
        assert_eq!(
            found(dir.path(), &[]),
            ["/run/containerd/s"],
            "a state that stays keeps what is above it"
        );
        fs::create_dir_all(dir.path().join("run/docker/plugins")).unwrap();
        assert_eq!(found(dir.path(), &[]), ["/run/containerd/s"], "no container of ours is docker's");
        fs::write(dir.path().join("run/containerd/own"), "").unwrap();
        assert_eq!(found(dir.path(), &["/run/containerd/runc/k8s.io/a"]), all[..3]);
    }

    #[test]
    fn what_every_containerd_makes_goes_while_it_is_empty() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["proc/self", "run/nri", "opt/containerd/bin", "opt/containerd/lib"] {
            fs::create_dir_all(dir.path().join(name)).unwrap();
        }
        fs::write(dir.path().join("proc/self/mountinfo"), "1 0 0:1 / / rw - tmpfs t rw\n").unwrap();
        let of_opt = ["/opt/containerd/bin", "/opt/containerd/lib", "/opt/containerd"];
        assert_eq!(found(dir.path(), &[]), [&of_opt[..], &["/run/nri"]].concat());
        for name in ["run/nri/nri.sock", "opt/containerd/lib/plugin.so"] {
            fs::write(dir.path().join(name), "").unwrap();
        }
        assert_eq!(found(dir.path(), &["/run/nri/nri.sock"]), ["/opt/containerd/bin", "/run/nri"]);
        assert_eq!(found(dir.path(), &[]), ["/opt/containerd/bin"], "somebody listens");
    }
}
