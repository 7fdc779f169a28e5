//! Sandboxes whose processes have all ended before the removal, as when every task was killed or the machine has booted: containerd
//! has put their bundles away, and what else was made for them waits for a kubelet that does not come.

use std::collections::{BTreeSet, HashSet};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use crate::error::Blind;
use crate::linux::mountinfo::Mount;
use crate::linux::netns;
use crate::reason::Reason;
use crate::residue::witness::Witness;
use crate::runtime::cni::{self, Attachment};
use crate::runtime::metadata::Records;
use crate::runtime::{ContainerId, groups, short};
use crate::scope::cni_ids::CniIds;
use crate::scope::netns::Machine;
use crate::scope::{Container, Evidence, Scope, manners};
use crate::text::show;
use crate::view::View;

/// Adds those that our containerd's database names, and of which a result of CNI, a network namespace or an empty group of their
/// pod is left. The database is a hint. That is enough for what is dead: nobody is in a group of that name, nobody is in the
/// network namespace that it tells of and that no result contradicts, and nobody else has the ID (`foreign`).
pub(super) fn sandboxes(view: &View, scope: &mut Scope, foreign: &BTreeSet<ContainerId>) {
    if scope.containers.is_empty() && !scope.idle {
        return;
    }
    let results = results(view, scope);
    let pods = empty_pods(view, scope);
    let namespaces = unknown_namespaces(view, scope);
    if results.is_empty() && pods.is_empty() && namespaces.is_empty() {
        return;
    }
    let read = manners::read(view, scope);
    scope.damaged = read.is_err();
    let records = match read.and_then(|records| records.ok_or("there is none".into())) {
        Ok(records) => records,
        // Beside containers of ours that are known, what is left over is others' more often than not.
        Err(_) if !scope.idle || results.is_empty() && pods.is_empty() => return,
        Err(why) => {
            let what =
                "results of CNI and empty groups of pods, of which the database would tell whose they are";
            return scope.doubts.push(Blind::new(what, (Reason::Malformed, why)));
        }
    };
    let mut found = dead(view, scope, &records, &Traces { results: &results, pods, namespaces });
    found.retain(|container| !foreign.iter().any(|other| other.id == container.id.id));
    let is_own = scope.roots.owns_root(&scope.snap);
    if !is_own && (scope.idle || !scope.has_run()) {
        let why = (Reason::Unproven, "only a database names it that another containerd may have written");
        let left =
            found.iter().map(|container| format!("what is left of container {}", short(&container.id.id)));
        scope.doubts.extend(left.map(|what| Blind::new(what, why)));
        // Then it was more likely another's containerd that ran here.
        scope.idle &= found.is_empty();
        return;
    }
    // All processes are asked once, however many sandboxes there are.
    let mut inhabited = BTreeSet::new();
    let machine = view.own_mounts().as_ref().ok().filter(|_| !found.is_empty());
    let machine = machine.map(|table| Machine::of(view, table));
    let hidden = machine.as_ref().is_some_and(|machine| machine.strangers(scope, &[], &mut inhabited).1);
    for mut container in found {
        let id = &container.id;
        let its = results.iter().filter(|result| result.sandbox.as_deref() == Some(id.id.as_str()));
        let its = its.filter_map(|result| result.netns.as_deref()).chain(container.netns.as_deref());
        let is_proven = scope.containers.iter().any(|known| known.id == *id && known.is_proven());
        let verdict = match is_proven {
            true => Ok(()),
            false => is_deserted(its, container.netns.as_deref(), machine.as_ref(), &inhabited, hidden),
        };
        match verdict {
            Ok(()) => match scope.containers.iter_mut().find(|known| known.id == *id) {
                Some(known) => {
                    known.witnesses.insert(Witness::Recorded);
                    container.cgroups.into_iter().for_each(|group| known.is_in(group));
                }
                None => {
                    container.witnesses.insert(Witness::Recorded);
                    scope.containers.push(container);
                }
            },
            Err((path, why)) => {
                let path = show(&netns::plain(path)).into_owned();
                let what = format!("the network namespace {path} of container {}", short(&id.id));
                scope.doubts.push(Blind::new(what, why));
            }
        }
    }
    scope.idle &= scope.containers.is_empty();
}

/// CNI's results of sandboxes that nothing proves ours so far.
fn results(view: &View, scope: &Scope) -> Vec<Attachment> {
    let proven = CniIds::proven(scope);
    let proven = proven.names();
    // Where all that is there is named after those that are known, no result is read.
    let named = |name: &String| cni::sandbox_in(name, &proven).is_some();
    if cni::names(view.host, &scope.roots.cni).is_ok_and(|names| names.iter().all(named)) {
        return Vec::new();
    }
    cni::results(view.host, &scope.roots.cni, &proven).others
}

/// What dead sandboxes have left.
struct Traces<'a> {
    results: &'a [Attachment],
    pods: HashSet<PathBuf>,
    namespaces: HashSet<&'a OsStr>,
}

/// Sandboxes in the database that nobody's group is called after, and of which one of these is left; but for those of which all is
/// known. A shim that lives on may be all that proves one.
fn dead(view: &View, scope: &Scope, records: &Records, traces: &Traces) -> Vec<Container> {
    let alive = alive(view);
    let attached: HashSet<&str> =
        traces.results.iter().filter_map(|result| result.sandbox.as_deref()).collect();
    let known = |id: &ContainerId| scope.containers.iter().find(|c| c.id.id == id.id);
    let mut found = Vec::new();
    for (id, record) in &records.containers {
        let Some(sandbox) = &record.sandbox else { continue };
        let is_known = known(id).is_some_and(|c| {
            let is_whole = c.is_proven() && !c.cgroups.is_empty();
            is_whole || c.contradicted || c.id != *id
        });
        if is_known || alive.contains(id.id.as_str()) {
            continue;
        }
        let cgroups = groups_of(sandbox.cgroup_parent.as_deref().unwrap_or_default(), &id.id);
        let pod = cgroups.iter().any(|group| group.parent().is_some_and(|above| traces.pods.contains(above)));
        let netns = sandbox.netns.as_deref().and_then(Path::file_name);
        if pod
            || netns.is_some_and(|name| traces.namespaces.contains(name))
            || attached.contains(id.id.as_str())
        {
            found.push(Container {
                sandbox: true,
                pod: record.pod.clone(),
                cgroups,
                // Not every plugin's result tells it.
                netns: sandbox.netns.clone(),
                evidence: [Evidence::Database].into(),
                ..Container::of_id(id.clone())
            });
        }
    }
    found
}

/// Whether a dead sandbox's network namespace may go: nobody is in it, and whoever names one that is still bound names the one that
/// the database has (`recorded`). Else which one, and why not. A hostPath volume may reach CNI's results and the database, so neither
/// counts against the other.
fn is_deserted<'a>(
    named: impl Iterator<Item = &'a Path>,
    recorded: Option<&Path>,
    machine: Option<&Machine>,
    inhabited: &BTreeSet<u64>,
    hidden: bool,
) -> Result<(), (&'a Path, (Reason, &'static str))> {
    const LIVED_IN: &str = "no witness names it, and somebody is in it";
    const UNKNOWN: &str = "no witness names it, and who is in it cannot be told";
    const DIFFERS: &str =
        "only CNI's result names it, and containerd's database tells of another one or none";
    const LENT: &str = "no witness names it, and its name is not CNI's";
    for path in named {
        let why = match machine.map(|machine| machine.bound_at(path)) {
            Some(None) => continue,
            _ if recorded.map(netns::plain) != Some(netns::plain(path)) => (Reason::Contradicted, DIFFERS),
            Some(Some(inode)) if inhabited.contains(&inode) => (Reason::Contradicted, LIVED_IN),
            Some(Some(_)) if !netns::is_cnis(path) => (Reason::Unproven, LENT),
            Some(Some(_)) if !hidden => continue,
            _ => (Reason::Unproven, UNKNOWN),
        };
        return Err((path, why));
    }
    Ok(())
}

/// Where runc had it, if that was in the group of a pod: the database may say anything.
fn groups_of(parent: &str, id: &str) -> Vec<PathBuf> {
    let slice = parent.rsplit('/').next().filter(|name| name.ends_with(".slice"));
    let groups = match slice {
        Some(slice) => groups::of_spec(&format!("{slice}:cri-containerd:{id}")),
        None => groups::of_spec(&format!("/{}/{id}", parent.trim_matches('/'))),
    };
    groups.into_iter().filter(|group| group.parent().is_some_and(groups::is_a_pods)).collect()
}

/// Groups of pods in which nothing is, and no container of ours was.
fn empty_pods(view: &View, scope: &Scope) -> HashSet<PathBuf> {
    let Ok(tree) = view.cgroups() else { return HashSet::new() };
    let parents: HashSet<&Path> = tree.each().filter_map(|(_, group)| group.parent()).collect();
    let ours = scope.containers.iter().flat_map(|c| &c.cgroups).filter_map(|group| group.parent());
    let ours: HashSet<&Path> = ours.collect();
    let is_empty =
        |group: &&Path| groups::is_a_pods(group) && !parents.contains(group) && !ours.contains(group);
    tree.each().map(|(_, group)| group).filter(is_empty).map(Path::to_path_buf).collect()
}

/// The names of network namespaces such as containerd makes, of which no container that is known tells.
fn unknown_namespaces<'a>(view: &'a View, scope: &Scope) -> HashSet<&'a OsStr> {
    let Ok(table) = view.own_mounts() else { return HashSet::new() };
    let bound = table.mounts.iter().filter(|mount| netns::of_mount(mount).is_some()).map(Mount::point);
    let mut names: HashSet<&OsStr> =
        bound.filter(|path| netns::is_cnis(path)).filter_map(Path::file_name).collect();
    let known = scope.containers.iter().flat_map(|c| c.netns.iter().chain(&c.netns_of_state));
    for name in known.filter_map(|path| path.file_name()) {
        names.remove(name);
    }
    names
}

/// The IDs after which groups in those of pods are named in which somebody is.
pub(super) fn alive<'a>(view: &'a View) -> HashSet<&'a str> {
    let Ok(tree) = view.cgroups() else { return HashSet::new() };
    let named = tree
        .each()
        .filter_map(|(hierarchy, group)| Some((hierarchy, group, groups::container_in_a_pod(group)?)));
    named.filter(|(hierarchy, group, _)| view.is_occupied(hierarchy, group)).map(|(.., id)| id).collect()
}
