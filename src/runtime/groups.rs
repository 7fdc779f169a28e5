//! Where runc and kubelet put control groups, and which names they give them.

use std::ffi::OsStr;
use std::path::{Component, Path, PathBuf};

/// Where runc puts a container, given the `cgroupsPath` of its spec: an absolute path is used as it is
/// (cgroupfs), `slice:prefix:name` becomes a scope below the expanded slice (systemd), or, where runc ran
/// without systemd, a directory of exactly that name.
pub fn of_spec(cgroups_path: &str) -> Vec<PathBuf> {
    let hostile = |text: &str| text.split('/').any(|part| part == "..") || text.contains('\0');
    if cgroups_path.is_empty() || hostile(cgroups_path) {
        return Vec::new();
    }
    let parts: Vec<&str> = cgroups_path.split(':').collect();
    if cgroups_path.starts_with('/') {
        // Without systemd the slice, prefix and name stay one directory's name.
        return vec![normal(cgroups_path)];
    }
    match parts[..] {
        [slice, prefix, name] if slice.ends_with(".slice") && !slice.contains('/') => {
            let scope = if prefix.is_empty() { name.to_string() } else { format!("{prefix}-{name}.scope") };
            vec![expand_slice(slice).join(scope), Path::new("/").join(cgroups_path)]
        }
        _ => vec![normal(cgroups_path)],
    }
}

fn normal(path: &str) -> PathBuf {
    let parts = Path::new(path).components().filter(|c| matches!(c, Component::Normal(_)));
    Path::new("/").join(parts.collect::<PathBuf>())
}

/// `a-b.slice` lies in `a.slice` (systemd.slice(5)).
fn expand_slice(slice: &str) -> PathBuf {
    let name = slice.strip_suffix(".slice").unwrap_or(slice);
    let mut path = PathBuf::from("/");
    if name == "-" {
        return path;
    }
    for (at, _) in name.match_indices('-').chain([(name.len(), "")]) {
        path.push(format!("{}.slice", &name[..at]));
    }
    path
}

/// The container ID in the name of a group, if the name has the shape that container runtimes give.
pub fn container_of(name: &str) -> Option<&str> {
    let name = name.strip_suffix(".scope").unwrap_or(name);
    let id = name.rsplit(':').next().unwrap_or(name);
    let id = id.strip_prefix("cri-containerd-").or(id.strip_prefix("docker-")).unwrap_or(id);
    (id.len() == 64 && id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))).then_some(id)
}

/// True for a group that kubelet makes: a pod's, a QoS class's, or the one above them; and for the one that
/// containerd makes for containers without a pod. Nothing above those was made for us.
pub fn is_kubelets(group: &Path) -> bool {
    let name = group.file_name().and_then(|n| n.to_str()).unwrap_or_default();
    let name = name.strip_suffix(".slice").unwrap_or(name);
    let last = name.rsplit('-').next().unwrap_or(name);
    let pod = |part: &str| part.strip_prefix("pod").is_some_and(|uid| !uid.is_empty());
    name == "k8s.io"
        || name.contains("kubepods")
        || ["burstable", "besteffort"].contains(&last)
        || pod(name)
        || pod(last)
}

/// True for the group that kubelet makes for all pods: `kubepods`, or a slice of that name.
pub fn is_of_all_pods(group: &Path) -> bool {
    let name = group.file_name().and_then(OsStr::to_str).unwrap_or_default();
    name == "kubepods"
        || name.strip_suffix(".slice").is_some_and(|slice| slice.rsplit('-').next() == Some("kubepods"))
}

/// True for the group that kubelet makes for a QoS class below that one.
pub fn is_of_class(group: &Path, all_pods: &Path) -> bool {
    let name = |group: &Path| group.file_name().and_then(OsStr::to_str).unwrap_or_default().to_owned();
    let slices = name(all_pods).strip_suffix(".slice").map(str::to_owned);
    ["burstable", "besteffort"].into_iter().any(|class| match &slices {
        Some(above) => name(group) == format!("{above}-{class}.slice"),
        None => name(group) == class,
    })
}

/// True for a group that kubelet makes for one pod. One in a container's is none: there that one may make what it likes.
pub fn is_a_pods(group: &Path) -> bool {
    let names = || group.iter().filter_map(OsStr::to_str);
    let name = names().next_back().unwrap_or_default();
    let own = name.strip_suffix(".slice").map_or(name, |slice| slice.rsplit('-').next().unwrap_or(slice));
    let is_named = own.strip_prefix("pod").is_some_and(|uid| !uid.is_empty());
    is_named
        && names().any(|name| name.contains("kubepods"))
        && names().all(|name| container_of(name).is_none())
}

/// How the name of a pod's slice ends.
fn slice_of(uid: &str) -> String {
    format!("-pod{}.slice", uid.replace('-', "_"))
}

/// True for the group that kubelet makes for this pod.
pub fn is_the_pods(group: &Path, uid: &str) -> bool {
    let name = group.file_name().and_then(OsStr::to_str).unwrap_or_default();
    let is_named = name.strip_prefix("pod") == Some(uid) || name.ends_with(&slice_of(uid));
    !uid.is_empty() && is_named && is_a_pods(group)
}

/// The container ID in the name of a group that is directly in a pod's.
pub fn container_in_a_pod(group: &Path) -> Option<&str> {
    group.file_name()?.to_str().and_then(container_of).filter(|_| group.parent().is_some_and(is_a_pods))
}

/// True for a group in that of the pod with this uid. One in a container's is none: there that one may make what it likes.
pub fn is_of_pod(group: &Path, uid: &str) -> bool {
    let above = group.parent().into_iter().flat_map(Path::iter).filter_map(OsStr::to_str);
    let in_container = |name: &str| container_of(name.strip_prefix("kata_").unwrap_or(name)).is_some();
    let (pod, systemds) = (format!("pod{uid}"), slice_of(uid));
    // Without systemd the slice is a part of the group's own name.
    let name = group.file_name().and_then(OsStr::to_str).unwrap_or_default();
    let slice = name.split_once(':').map_or("", |(slice, _)| slice);
    let own = above.clone().next_back().unwrap_or_default();
    let is_pods = own == pod || own.ends_with(&systemds) || slice.ends_with(&systemds);
    !uid.is_empty() && is_pods && !above.into_iter().any(in_container)
}

/// True for a group that docker makes for its containers, or for the steps of its builds, where nobody names another one.
pub fn is_dockers(group: &Path) -> bool {
    ["/docker", "/docker/buildkit"].iter().any(|own| group == Path::new(own))
}

/// Whether a group may be a container's, as far as its name tells: a hint. The name is exactly the ID, or the ID with the
/// prefix and the suffix of a runtime's scope; not one at the top, where the host's own slices are; and not one whose ID
/// reads like a unit or like one of kubelet's own groups.
pub fn is_group_of(group: &Path, id: &str) -> bool {
    const UNITS: [&str; 6] = [".service", ".slice", ".scope", ".socket", ".mount", ".swap"];
    let is_units = UNITS.iter().any(|unit| id.ends_with(unit));
    !is_units && (is_triple(group, id) || !reads_as_kubelets(group, id) && is_named_after(group, id))
}

/// True for an ID that is the name of a group of kubelet's: of all pods, of a class, or of a pod, which has a uid and lies in one of
/// these. A container may well be called `podinfo-1`.
fn reads_as_kubelets(group: &Path, id: &str) -> bool {
    const LEAST: usize = 32;
    let is_uid = |uid: &str| {
        uid.len() >= LEAST && uid.bytes().all(|b| b.is_ascii_hexdigit() || matches!(b, b'-' | b'_'))
    };
    let is_for_pods = |above: &Path| is_kubelets(above) && !above.ends_with("k8s.io") && !is_a_pods(above);
    let is_there = || group.ends_with(id) && group.parent().is_some_and(is_for_pods);
    ["k8s.io", "burstable", "besteffort"].contains(&id)
        || id.contains("kubepods")
        || id.strip_prefix("pod").is_some_and(|uid| is_uid(uid) || is_there())
}

/// The three words of the systemd driver in one name, as runc keeps them where it ran without systemd. No group of kubelet's
/// is called like this.
fn is_triple(group: &Path, id: &str) -> bool {
    let name = group.file_name().and_then(OsStr::to_str).unwrap_or_default();
    matches!(name.split(':').collect::<Vec<_>>()[..], [slice, _, tail] if slice.ends_with(".slice") && tail == id)
}

/// The same, whatever the ID looks like: for groups that runc itself recorded.
pub fn is_named_after(group: &Path, id: &str) -> bool {
    const PREFIXES: [&str; 3] = ["cri-containerd", "docker", "nerdctl"];
    let name = group.file_name().and_then(OsStr::to_str).unwrap_or_default();
    let scope = name.strip_suffix(".scope");
    let of_runtime = |rest: &str| PREFIXES.iter().any(|p| rest.strip_prefix(p) == Some("-"));
    let is_scope = scope.and_then(|s| s.strip_suffix(id)).is_some_and(of_runtime);
    let named = name == id || is_scope;
    is_triple(group, id) || named && (group.components().count() > 2 || container_of(name).is_some())
}

/// True for a place where another manager keeps its groups: systemd's own slices, and what runs in them.
pub fn is_of_a_manager(group: &Path) -> bool {
    let top = group.iter().nth(1).and_then(OsStr::to_str).unwrap_or_default();
    ["system.slice", "user.slice", "machine.slice", "init.scope"].contains(&top)
}

/// True for a group that systemd has made for a unit that it starts itself, or one in it: below slices, whatever these are called,
/// or in one of its own places. What it starts for others, such as containers, is in scopes.
pub fn is_a_units(group: &Path) -> bool {
    is_of_a_manager(group) || unit_of(group).ends_with(".service")
}

/// The first name below slices.
fn unit_of(group: &Path) -> &str {
    let mut names = group.iter().skip(1).filter_map(OsStr::to_str);
    names.find(|name| !name.ends_with(".slice")).unwrap_or_default()
}

/// True for the group of a service of the system's, or one in it. systemd makes no other ones of that name there, and puts what
/// a runtime asks it for into scopes.
pub fn is_of_a_service(group: &Path) -> bool {
    group.starts_with("/system.slice") && unit_of(group).ends_with(".service")
}

/// True for a group below those in which kubelet and containerd have containers, as far as names tell.
pub fn is_containers_place(group: &Path) -> bool {
    let topmost = group.iter().nth(1).and_then(OsStr::to_str).unwrap_or_default();
    topmost.starts_with("kubepods") || topmost == "k8s.io"
}

/// True if a manager may put more processes into this group of his: he makes slices and services for whoever comes, a scope
/// for those alone who are in it at first.
pub fn is_open_to_others(group: &Path) -> bool {
    const OPEN: [&str; 5] = [".slice", ".service", ".socket", ".mount", ".swap"];
    let name = group.file_name().and_then(OsStr::to_str).unwrap_or_default();
    let top = group.components().count() < 3;
    is_of_a_manager(group) && (top || OPEN.iter().any(|unit| name.ends_with(unit)))
}

/// True if a group's name carries an ID that nobody has by accident, and it is this one.
pub fn carries_long_id(group: &Path, id: &str) -> bool {
    let name = group.file_name().and_then(OsStr::to_str).unwrap_or_default();
    id.len() == 64 && id.bytes().all(|b| b.is_ascii_hexdigit()) && name.contains(id)
}

#[cfg(test)]
mod tests;
