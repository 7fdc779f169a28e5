//! The wide last look: what is tied to the snap's directories and stands in none of the plan's lists. It is somebody's, and
//! nothing says whose; so it is told, and not touched.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::error::Blind;
use crate::linux::host::Host;
use crate::linux::in_two::in_two;
use crate::linux::mount_namespace;
use crate::linux::mountinfo::{self, Mount};
use crate::linux::proc::Proc;
use crate::order;
use crate::reason::Reason;
use crate::residue::finding::Finding;
use crate::residue::witness::Proven;
use crate::runtime::bundle;
use crate::scope::held::Held;
use crate::scope::outside::shown;
use crate::scope::{Container, Scope, shared, snapshots};
use crate::steps::{agents, passed_on};
use crate::text::{escape, show};
use crate::view::View;

/// Adds what it sees in our own mount table.
pub fn find(view: &View, scope: &Scope, own: Option<&Held>, finding: &mut Finding) {
    finding.blind.extend(doubtful(view, scope));
    let told = |mount: &Mount, why: &str| {
        let point = show(mount.point());
        let what = format!("{} mounted at {point}", mount.fstype());
        Blind::new(what, (Reason::Unproven, format!("{why} 'umount {point}'")))
    };
    finding.blind.extend(mounts_of_others(view, own).iter().map(|mount| {
        let why = match own.is_some_and(|held| held.is_in_snap(mount)) {
            true => "it lies in the snap's directories, and nothing says whose it is; snapd cannot remove the snap before",
            false => "it lies where docker's data were moved to, and no container of this snap is known to have it; look, then",
        };
        Blind { mount: Some(show(mount.point()).into_owned()), ..told(mount, why) }
    }));
    let why = "it lies in a directory that others use, too, and nothing says whose it is; look, then";
    finding.blind.extend(nobodys(view, scope, own).map(|mount| told(mount, why)));
    let why = "it shows what containerd keeps in a directory that others use, too, and this snap's may have mounted it; look, then";
    finding.blind.extend(snapshots(view, scope, own).map(|mount| told(mount, why)));
    finding.blind.extend(volumes(view, scope, own).into_iter().map(|(mount, pod)| {
        let why = "is a pod's of this snap by its name, in a directory that the snap does not name";
        told(mount, &format!("it lies in {}, which {why}; look, then", show(pod)))
    }));
    finding.blind.extend(passed_on::find(view, scope, own, agents::has_mounted));
    agents::find(view, scope, finding);
}

/// Bundles in a directory that others use, too, and that nothing else proves ours.
fn doubtful(view: &View, scope: &Scope) -> Vec<Blind> {
    let (proven, others): (Vec<&Container>, Vec<_>) =
        scope.containers.iter().partition(|c| scope.counts_as_ours(c));
    let namespaces: HashSet<&str> = proven.iter().map(|c| c.id.namespace.as_str()).collect();
    // In a namespace of containerd's in which nothing is ours, what else is there is another's.
    let in_ours = others.into_iter().filter(|c| namespaces.contains(c.id.namespace.as_str()));
    let bundle = |c: &Container| {
        bundle::bundle_paths(&scope.roots, &c.id).find(|path| view.host.exists(path).unwrap_or(true))
    };
    let why =
        (Reason::Unproven, "it lies in a directory that others use, too, and nothing else says whose it is");
    in_ours.filter_map(bundle).map(|path| Blind::new(show(&path), why)).collect()
}

/// Mounts in the snap's directories that nothing proves ours. Those of the host's table, where that is another one, are
/// residues in any case.
fn mounts_of_others(view: &View, own: Option<&Held>) -> Vec<Mount> {
    let (Ok(table), Some(held)) = (view.own_mounts(), own) else { return Vec::new() };
    if !view.in_init_namespace() {
        return Vec::new();
    }
    table
        .mounts
        .iter()
        .filter(|m| (held.is_in_snap(m) || held.is_in_docker(m)) && !held.is_ours(m))
        .cloned()
        .collect()
}

/// The same in directories that others use, too.
fn nobodys<'v>(view: &'v View, scope: &Scope, own: Option<&Held>) -> impl Iterator<Item = &'v Mount> {
    let table = view.own_mounts().as_ref().ok().filter(|_| view.in_init_namespace());
    let mounts = table.into_iter().flat_map(|table| &table.mounts);
    let untold = move |m: &Mount| own.is_some_and(|held| !held.is_ours(m) && !held.is_in_docker(m));
    mounts.filter(move |m| untold(m) && shared::is_nobodys(scope, m))
}

/// Snapshots that our containerd may have mounted elsewhere.
fn snapshots<'v>(view: &'v View, scope: &Scope, own: Option<&Held>) -> impl Iterator<Item = &'v Mount> {
    let mounts = if view.in_init_namespace() { snapshots::mounted(view, scope) } else { Vec::new() };
    mounts.into_iter().filter(move |m| own.is_some_and(|held| !held.is_ours(m) && !held.is_in_docker(m)))
}

/// Those at the places of volumes of pods of ours below another root of kubelet's than the snap's own: it was started with one
/// that no file tells, or with none.
fn volumes<'v>(view: &'v View, scope: &Scope, own: Option<&Held>) -> Vec<(&'v Mount, &'v Path)> {
    let (Ok(table), Some(held)) = (view.own_mounts(), own) else { return Vec::new() };
    let uids: HashSet<&OsStr> = scope.pod_uids().map(OsStr::new).collect();
    let is_pod = |at: &&Path| {
        at.file_name().is_some_and(|name| uids.contains(name))
            && at.parent().is_some_and(|up| up.ends_with("pods"))
    };
    let told =
        |m: &Mount| held.is_ours(m) || held.is_in_snap(m) || shared::is_nobodys(scope, m) || uids.is_empty();
    let others = table.mounts.iter().filter(|m| !told(m));
    others.filter_map(|mount| Some((mount, mount.point().ancestors().skip(1).find(is_pod)?))).collect()
}

/// The directories elsewhere that are bound at roots of the snap.
pub fn bound_places(view: &View, scope: &Scope) -> Vec<PathBuf> {
    let Ok(table) = view.own_mounts() else { return Vec::new() };
    let roots = &scope.roots;
    let is_root = |at: &Path| roots.mounts.iter().chain([&roots.root, &roots.state]).any(|root| root == at);
    let at_roots = table.mounts.iter().filter(|m| is_root(m.point()));
    at_roots.filter_map(|mount| shown(table, mount).next()).collect()
}

/// Adds mounts of ours in the mount namespaces of others, which only they can unmount. They are told and close no gate: any
/// user can make one, and what is deleted is ours wherever it is shown.
pub fn namespaces<'p>(view: &'p View, scope: &Scope, own: Option<&Held>, finding: &mut Finding) {
    let (Some(held), Ok(processes)) = (own, view.processes()) else { return };
    let names = ["self", "1"].map(|pid| view.mount_namespace(pid));
    let snaps = view.snap_namespace.as_ref().and_then(|n| std::fs::metadata(n.file()).ok());
    let snaps = snaps.map(|m| PathBuf::from(format!("mnt:[{}]", std::os::unix::fs::MetadataExt::ino(&m))));
    let mut known: HashSet<PathBuf> = names.into_iter().flatten().chain(snaps).collect();
    let ours = in_groups(view, scope);
    let others = processes.iter().filter(|p| !p.kernel && p.alive() && !ours.contains(&p.id.pid));
    let (host, others): (_, Vec<&Proc>) = (view.host, others.collect());
    let mut asked = Vec::new();
    let name =
        |process: &&'p Proc| Some((*process, mount_namespace::name(host, &process.id.pid.to_string())?));
    // What confinement hides is not blind: a mount of the host's is in the host's table, too.
    in_two(&others, name, |named| asked.extend(named));
    order::sort_by_key(&mut asked, |(process, _)| process.id);
    asked.retain(|(_, namespace)| known.insert(namespace.clone()));
    let mut found = Vec::new();
    let shown = |(process, _): &(&'p Proc, PathBuf)| Some((*process, shown_in(host, process, held)?));
    in_two(&asked, shown, |shown| found.extend(shown));
    order::sort_by_key(&mut found, |(process, _)| process.id);
    for (process, shown) in found {
        let pid = process.id.pid;
        if is_ours(view, scope, pid) {
            continue;
        }
        let of = format!("process {pid} ({})", escape(process.comm.as_bytes()));
        finding.blind.push(match shown {
            Shown::Mounts(first, more) => {
                let more = if more > 0 { format!(" and {more} more") } else { String::new() };
                let what = format!("{}{more} in the mount namespace of {of}", show(&first));
                let why = "it shows what is the snap's, and only there it can be unmounted";
                Blind::new(what, (Reason::Busy, why))
            }
            // A guest's containers have the same names for places of their own.
            Shown::Root if is_no_guests(view, pid) => {
                let why = format!("its root file system is in the snap's directories; 'kill {pid}' ends it");
                Blind::new(of, (Reason::Unproven, why))
            }
            Shown::Root => continue,
        });
    }
}

/// What a process's mount namespace shows of the snap's.
enum Shown {
    /// A mount, and how many more.
    Mounts(PathBuf, usize),
    /// Its root file system, written to in a directory of the snap's that no root of it is.
    Root,
}

fn shown_in(host: &Host, process: &Proc, held: &Held) -> Option<Shown> {
    let bytes = host.read(Path::new(&format!("/proc/{}/mountinfo", process.id.pid))).ok()?;
    let table = mountinfo::parse_some(&bytes, |device| held.is_on_device(device));
    let mut shown = table.mounts.iter().filter(|m| held.shows_ours_elsewhere(m) && !held.is_in_snap(m));
    if let Some(first) = shown.next() {
        return Some(Shown::Mounts(first.point().to_path_buf(), shown.count()));
    }
    let layer = [b"upperdir=", held.home().as_os_str().as_bytes(), b"/"].concat();
    let has_layer = |bytes: &[u8]| bytes.windows(layer.len()).any(|part| part == layer);
    let mut lines =
        bytes.split(|b| *b == b'\n').filter(|line| line.split(|b| *b == b' ').nth(4) == Some(b"/"));
    lines.next_back().is_some_and(has_layer).then_some(Shown::Root)
}

/// True for a process on the machine itself, or the first one of a container on it.
fn is_no_guests(view: &View, pid: i32) -> bool {
    match (view.pid_namespace_depth(Some(pid)), view.pid_namespace_depth(None)) {
        (Some(its), Some(own)) if its == own => true,
        (Some(its), Some(own)) if its == own + 1 => {
            let status = view.host.read_text(Path::new(&format!("/proc/{pid}/status"))).unwrap_or_default();
            let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
            numbers.is_some_and(|numbers| numbers.split_whitespace().next_back() == Some("1"))
        }
        _ => false,
    }
}

/// The processes in proven groups of ours. What is mounted in their namespaces ends with them, so it need not be read, unless
/// somebody else is in there, too: then that one is asked. This look has listed the groups before: asking again costs nothing.
fn in_groups(view: &View, scope: &Scope) -> HashSet<i32> {
    let Ok(tree) = view.cgroups() else { return HashSet::new() };
    let existing = tree.index();
    let groups = scope.containers.iter().flat_map(|c| &c.proven_cgroups).map(Proven::get);
    groups.flat_map(|group| view.pids_in(&existing, group)).collect()
}

/// True for a process in a group of a container of ours, or in one of the snap's units: with it its namespace goes.
pub fn is_ours(view: &View, scope: &Scope, pid: i32) -> bool {
    let groups = view.membership(pid);
    let of_ours =
        |group: &PathBuf| scope.containers.iter().any(|c| c.cgroups.iter().any(|own| group.starts_with(own)));
    view.unit_of(pid) == Some(scope.snap.instance.as_str()) || groups.iter().any(of_ours)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_bound_is_known_by_where_else_it_is() {
        let table = mountinfo::parse(
            b"1 0 8:1 / / rw - ext4 /dev/a rw\n2 1 8:2 / /mnt/big rw - ext4 /dev/b rw\n\
              3 1 8:2 /k /var/snap/microk8s/common/var/lib/kubelet rw - ext4 /dev/b rw\n",
        );
        assert_eq!(shown(&table, &table.mounts[2]).next(), Some("/mnt/big/k".into()));
        assert_eq!(shown(&table, &table.mounts[0]).next(), None);
    }

    #[test]
    fn a_stranger_among_processes_of_ours_is_asked_where_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| crate::fixture::file(dir.path(), name, text);
        file("proc/self/mountinfo", "1 0 8:1 / / rw - ext4 /dev/a rw\n2 1 0:5 / /cg rw - cgroup2 c rw\n");
        let fields =
            "S 1 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 9876 11 22 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0";
        let process = |pid: &str, namespace: &str| {
            let shown = "9 8 8:1 /var/snap/microk8s/common /x rw - ext4 /dev/a rw\n";
            file(&format!("proc/{pid}/mountinfo"), shown);
            file(&format!("proc/{pid}/stat"), &format!("{pid} (x) {fields}\n"));
            file(&format!("proc/{pid}/ns/x"), "");
            let link = dir.path().join("proc").join(pid).join("ns/mnt");
            std::os::unix::fs::symlink(format!("mnt:[{namespace}]"), link).unwrap();
        };
        // As many as make it unlikely that the stranger is met first.
        let ours: Vec<String> = (10..40).map(|pid| pid.to_string()).collect();
        ours.iter().for_each(|pid| process(pid, "4"));
        file("cg/c/cgroup.procs", &ours.join("\n"));
        let mut scope = crate::fixture::scope_of(&["c"]);
        scope.containers[0].prove_in("/c");
        let told = || {
            let host = crate::linux::host::Host::at(dir.path());
            let mut finding = Finding::default();
            let view = View::new(&host, None);
            let table = view.own_mounts().as_ref().unwrap();
            let held = Held::of(table, &scope.roots, &scope.snap, &scope, &HashSet::new());
            namespaces(&view, &scope, Some(&held), &mut finding);
            finding.blind.into_iter().map(|blind| blind.what).collect::<Vec<_>>()
        };
        assert_eq!(told(), Vec::<String>::new());
        process("50", "4");
        assert_eq!(told(), ["/x in the mount namespace of process 50 (x)"]);
        // So is one that has made a volume of ours its root.
        process("51", "5");
        let volume = "/var/snap/microk8s/common/var/lib/kubelet/pods/u/volumes/v";
        file("proc/51/mountinfo", &format!("9 8 8:1 {volume} / rw - ext4 /dev/a rw\n"));
        assert_eq!(told()[1..], ["/ in the mount namespace of process 51 (x)"]);
    }
}
