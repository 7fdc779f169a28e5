//! What the user should know besides what is left.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

use crate::linux::mountinfo::Mount;
use crate::order;
use crate::report::note::{Note, NoteKind};
use crate::residue::{Residue, Task};
use crate::run::places;
use crate::run::settings;
use crate::runtime::{short, stop_signal};
use crate::scope::graceful::Manner;
use crate::scope::{BystanderKind, Scope};
use crate::steps::{cgroups, families, firewall, owned};
use crate::text::{escape, few, name, show};
use crate::view::View;

/// What to know before a removal: what runs, whose data it uses, what a removal does not do.
pub fn before(view: &View, scope: &Scope) -> Vec<Note> {
    use NoteKind::{Cluster, CutShort, Graces, HooksNotRun, HostVolumes, NetworkVolumes, NotHonoured, Pods};
    let tasks = running(view, scope);
    let pods: Vec<String> = tasks.iter().filter_map(|task| task.pod.clone()).collect();
    let mut notes = vec![
        Note::of(
            Cluster,
            "this node is a member of a cluster, which is not touched here: let it leave first (in MicroK8s: 'microk8s kubectl \
             drain NODE', 'microk8s leave', then 'microk8s remove-node NODE' elsewhere)",
            cluster(view, scope),
        ),
        Note::of(Pods, "pods run and will be ended", pods.clone()),
        Note::of(
            HostVolumes,
            "directories of the host that pods use; what is in them stays, except below the snap's own",
            host_volumes(scope),
        ),
        Note::of(
            NetworkVolumes,
            "volumes on servers are unmounted; what is on them stays",
            network_volumes(view, scope),
        ),
    ];
    let applications = || tasks.iter().filter(|task| !task.sandbox);
    let manners = || applications().filter_map(|task| Some((scope.graceful.of(&task.container)?, task)));
    let cut = manners().filter(|(manner, _)| manner.plan.is_cut());
    let asked = |seconds| if seconds == u64::MAX { "any time".to_owned() } else { format!("{seconds} s") };
    let cut =
        cut.map(|(m, of)| format!("{}: {} s of {}", who(of, Some(m)), m.plan.limit, asked(m.plan.asked)));
    let not_run = manners()
        .filter_map(|(m, of)| Some(format!("{}: {} ({})", who(of, Some(m)), m.hook?, name(&m.not_run()?))));
    notes.extend([
        Note::of(Graces, "how containers are ended", applications().map(|task| manner(scope, task))),
        Note::of(CutShort, "containers that get less time than they ask for (patience.maximum-grace)", cut),
        Note::of(HooksNotRun, "preStop hooks that are not run", not_run),
    ]);
    notes.retain(|note| !note.items.is_empty());
    if let Some(why) = scope.graceful.unread.as_ref().filter(|_| !pods.is_empty()) {
        notes.push(Note::of(
            NotHonoured,
            &format!(
                "containerd's database cannot be used ({why}): no container's own grace, stop signal and preStop hook is \
                 known; each gets SIGTERM and the same time"
            ),
            [],
        ));
    }
    notes
}

/// Other instances of the snap, for who may still decide otherwise: a run that removes has no need to look for them.
pub fn other_instances(view: &View, scope: &Scope) -> Option<Note> {
    let text = "other instances of this snap are installed; they stay, with the links and rules that nobody can tell from theirs";
    let note = Note::of(NoteKind::Instances, text, scope.snap.other_instances(view.host));
    (!note.items.is_empty()).then_some(note)
}

/// What to know at any time: what still listens, and what is deliberately left.
pub fn standing(view: &View, scope: &Scope) -> Vec<Note> {
    use NoteKind::{CgroupsReadOnly, KubeProxyRules, Links, Listeners, SystemdUnits};
    let links =
        scope.bystanders.iter().filter(|b| matches!(b.kind, BystanderKind::Link | BystanderKind::Netns));
    let firewall = match firewall::wants_rules(scope) {
        true => families::judge(view, scope).others,
        false => Vec::new(),
    };
    let mut notes = vec![
        Note::of(Listeners, "ports on which processes of this snap listen", listeners(view, scope)),
        Note::of(
            Links,
            "left alone",
            links.map(|b| format!("{} ({})", b.what, b.why)).chain(places::of_namespaces(view, scope)),
        ),
        Note::of(
            KubeProxyRules,
            "firewall rules of a whole node that are left: they are another's, or nothing ties them to this snap",
            firewall,
        ),
        Note::of(
            CgroupsReadOnly,
            "empty control groups that are left, since they are mounted read-only here",
            cgroups::read_only(view, scope).iter().map(|p| show(p).into_owned()),
        ),
        Note::of(
            SystemdUnits,
            "control groups that systemd knows as units; it forgets a scope that is empty, and a pod's slice when it is \
             stopped or at the next boot",
            systemd_units(view, scope),
        ),
        places::of_outside(view, scope),
        places::of_logs(view, scope),
        settings::changed(view, scope),
        settings::profiles(view, scope),
    ];
    notes.retain(|note| !note.items.is_empty());
    notes
}

/// Containers that run.
fn running(view: &View, scope: &Scope) -> Vec<Task> {
    let all = owned::containers_and_shims(view, scope).residues.into_iter();
    let task = |residue| if let Residue::Task(task) = residue { Some(*task) } else { None };
    all.filter_map(task).collect()
}

/// A container in words that people know.
fn who(task: &Task, manner: Option<&Manner>) -> String {
    let name = manner.and_then(|m| m.name.as_deref()).map(|name| escape(name.as_bytes()));
    match (&task.pod, name) {
        (Some(pod), Some(name)) => format!("{pod} {name}"),
        (Some(pod), None) => pod.clone(),
        (None, _) => short(&task.container.id).to_owned(),
    }
}

/// How a container is to be ended.
fn manner(scope: &Scope, task: &Task) -> String {
    let manner = scope.graceful.of(&task.container);
    let plan = scope.graceful.plan(&task.container);
    let mut text = format!("{}: {} s, {}", who(task, manner), plan.limit, stop_signal::name(plan.signal));
    if let Some(hook) = manner.filter(|m| m.not_run().is_none()).and_then(|m| m.hook) {
        text.push_str(", preStop ");
        text.push_str(hook);
    }
    text
}

/// Binds that are neither the runtime's nor kubelet's nor the kernel's. Pods with the host's IPC namespace (`hostIPC`) have its shared
/// memory as files, too: who has made one of these nothing tells.
fn host_volumes(scope: &Scope) -> Vec<String> {
    let roots = scope.roots.mounts.iter().chain(&scope.inside.mounts).map(|p| p.as_path());
    let kernel = ["/proc", "/sys", "/dev", "/run/containerd", "/var/lib/kubelet/pods"].map(Path::new);
    let known: Vec<&Path> = roots.chain(kernel).collect();
    let mut users: BTreeMap<PathBuf, Vec<String>> = BTreeMap::new();
    for container in &scope.containers {
        let mut volumes = container.binds.list();
        volumes.retain(|bind| bind == Path::new("/dev/shm") || !known.iter().any(|k| bind.starts_with(k)));
        for bind in volumes {
            users.entry(bind).or_default().extend(container.pod.as_ref().map(ToString::to_string));
        }
    }
    users.into_iter().map(|(bind, pods)| used_by(&bind, order::set(pods).into_iter().collect())).collect()
}

/// A directory, with the pods that use it.
fn used_by(bind: &Path, pods: Vec<String>) -> String {
    const NAMED: usize = 3;
    match pods.is_empty() {
        true => show(bind).into_owned(),
        false => format!("{} ({})", show(bind), few(&pods, NAMED)),
    }
}

fn network_volumes(view: &View, scope: &Scope) -> Vec<String> {
    const SERVED: &[&str] = &["nfs", "nfs4", "cifs", "smb3", "ceph", "9p", "glusterfs", "lustre", "fuse"];
    let own = view.own_mounts().as_ref().into_iter().map(|table| (&**table, &scope.roots));
    let snap = view.snap_mounts().as_ref().ok().and_then(Option::as_ref);
    let tables = own.chain(snap.map(|table| (table, &scope.inside)));
    let mut found = Vec::new();
    for (table, roots) in tables {
        let served = |fstype: &str| SERVED.contains(&fstype.split('.').next().unwrap_or_default());
        let ours = |m: &Mount| roots.mounts.iter().any(|root| m.point().starts_with(root));
        let volumes = table.mounts.iter().filter(|m| served(m.fstype()) && ours(m));
        found.extend(volumes.map(|m| format!("{} at {}", show(m.source()), show(m.point()))));
    }
    found
}

/// Members that MicroK8s has written down: of its database, and that this node joined as a worker.
fn cluster(view: &View, scope: &Scope) -> Vec<String> {
    let file = |below: &str| scope.snap.data.join(below);
    let members = view.host.read_text(&file("var/kubernetes/backend/cluster.yaml")).unwrap_or_default();
    let addresses = members.lines().filter_map(|line| {
        let (key, value) = line.trim_start_matches(['-', ' ']).split_once(':')?;
        (key == "Address").then(|| escape(value.trim().as_bytes()).into_owned())
    });
    let mut found: Vec<String> = addresses.collect();
    if found.len() < 2 {
        found.clear();
    }
    if view.host.exists(&file("var/lock/clustered.lock")).unwrap_or(false) {
        found.push("as a worker".into());
    }
    found
}

fn systemd_units(view: &View, scope: &Scope) -> Vec<String> {
    let Ok(tree) = view.cgroups() else { return Vec::new() };
    let groups =
        order::set(scope.containers.iter().flat_map(|c| c.cgroups.iter().flat_map(|g| g.ancestors())));
    let unit = |group: &Path| {
        let name = group.file_name()?.to_str()?;
        let of_pods = name.contains("kubepods") || name.starts_with("cri-containerd-");
        (of_pods && (name.ends_with(".scope") || name.ends_with(".slice"))).then(|| name.to_owned())
    };
    tree.each().filter(|(_, group)| groups.contains(group)).filter_map(|(_, group)| unit(group)).collect()
}

/// Ports of our network namespace that processes of ours listen on. Where confinement hides their descriptors,
/// there is nothing to tell.
fn listeners(view: &View, scope: &Scope) -> Vec<String> {
    let mut sockets: BTreeMap<u64, String> = BTreeMap::new();
    for process in owned::processes(view, scope).residues.iter().flat_map(Residue::processes) {
        let pid = process.pid;
        let name =
            view.processes().as_ref().ok().and_then(|all| all.get(pid)).map_or("", |p| p.comm.as_str());
        let directory = view.host.path(Path::new(&format!("/proc/{pid}/fd")));
        for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
            let target = std::fs::read_link(entry.path()).unwrap_or_default();
            let inode =
                target.to_str().and_then(|t| t.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok());
            if let Some(inode) = inode {
                sockets.insert(inode, format!("{} {pid}", escape(name.as_bytes())));
            }
        }
    }
    let mut found = Vec::new();
    // The kernel goes through its whole table of connections for these files: ten milliseconds for each.
    if sockets.is_empty() {
        return found;
    }
    for (file, protocol, listening) in
        [("tcp", "tcp", "0A"), ("tcp6", "tcp", "0A"), ("udp", "udp", "07"), ("udp6", "udp", "07")]
    {
        let bytes = view.host.read(&Path::new("/proc/self/net").join(file)).unwrap_or_default();
        for line in String::from_utf8_lossy(&bytes).lines().skip(1) {
            let Some((address, port, inode)) = socket(line, listening) else { continue };
            if let Some(who) = sockets.get(&inode) {
                found.push(format!("{protocol} {} ({who})", std::net::SocketAddr::new(address, port)));
            }
        }
    }
    found
}

/// Local address, port and inode in a line of `/proc/net/tcp` (Documentation/networking/proc_net_tcp.rst), if
/// it is in this state.
fn socket(line: &str, state: &str) -> Option<(IpAddr, u16, u64)> {
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    if *fields.get(3)? != state {
        return None;
    }
    let (address, port) = fields.get(1)?.split_once(':')?;
    // The kernel prints 32-bit words as it has them in memory.
    let word = |at: usize| u32::from_str_radix(address.get(at..at + 8)?, 16).ok().map(u32::to_ne_bytes);
    let address = match address.len() {
        8 => Ipv4Addr::from(word(0)?).into(),
        _ => {
            let words = [word(0)?, word(8)?, word(16)?, word(24)?].concat();
            Ipv6Addr::from(<[u8; 16]>::try_from(words).ok()?).into()
        }
    };
    Some((address, u16::from_str_radix(port, 16).ok()?, fields.get(9)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::scope_of;
    use crate::linux::host::Host;

    #[test]
    fn a_directory_of_many_pods_is_named_once() {
        let pods = |n: usize| (0..n).map(|pod| format!("prod/{pod}")).collect();
        let told = |n| used_by(Path::new("/srv/a b"), pods(n));
        assert_eq!(told(0), "/srv/a b");
        assert_eq!(told(3), "/srv/a b (prod/0, prod/1, prod/2)");
        assert_eq!(told(5), "/srv/a b (prod/0, prod/1, prod/2 and 2 more)");
    }

    #[test]
    fn a_line_of_proc_net_tcp() {
        // As the kernel prints it on this machine, whichever end its words begin with.
        let word = |bytes: [u8; 4]| format!("{:08X}", u32::from_ne_bytes(bytes));
        let line = format!(
            "   0: {}:3FFC 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 x",
            word([127, 0, 0, 1])
        );
        assert_eq!(socket(&line, "0A"), Some(("127.0.0.1".parse().unwrap(), 16380, 4711)));
        assert_eq!(socket(&line, "07"), None);
        let six = format!("0: {}{}:1F90 0:0 0A 0:0 0:0 0 0 0 7", "0".repeat(24), word([0, 0, 0, 1]));
        assert_eq!(socket(&six, "0A"), Some(("::1".parse().unwrap(), 8080, 7)));
        for cut in 0..line.len() {
            let _ = socket(&line[..cut], "0A");
        }
    }

    #[test]
    fn what_a_fixture_of_a_member_tells() {
        let dir = tempfile::tempdir().unwrap();
        let backend = dir.path().join("var/snap/microk8s/x1/var/kubernetes/backend");
        std::fs::create_dir_all(&backend).unwrap();
        std::fs::create_dir_all(dir.path().join("proc/self")).unwrap();
        let root = "/var/snap/microk8s/common/var/lib/kubelet";
        let table = format!(
            "1 0 0:1 / {root}/pods/a/v rw - nfs4 server:/export rw\n2 0 0:1 / {root}/pods/b rw - tmpfs t rw\n"
        );
        std::fs::write(dir.path().join("proc/self/mountinfo"), table).unwrap();
        std::fs::write(backend.join("cluster.yaml"), "- Address: 10.0.0.1:19001\n  ID: 1\n  Role: 0\n")
            .unwrap();
        let host = Host::at(dir.path());
        let mut scope = scope_of(&["a"]);
        scope.containers[0].binds = ["/srv/db", "/dev/shm", "/dev/null", &format!("{root}/pods/a/etc-hosts")]
            .map(PathBuf::from)
            .to_vec()
            .into();
        let notes = |scope: &Scope| -> Vec<(NoteKind, Vec<String>)> {
            before(&View::new(&host, None), scope).into_iter().map(|n| (n.kind, n.items)).collect()
        };
        let volumes = (NoteKind::HostVolumes, ["/dev/shm", "/srv/db"].map(String::from).to_vec());
        let served = (NoteKind::NetworkVolumes, vec![format!("server:/export at {root}/pods/a/v")]);
        assert_eq!(notes(&scope), [volumes.clone(), served.clone()], "one member is no cluster");
        std::fs::write(backend.join("cluster.yaml"), "- Address: 10.0.0.1:1\n- Address: 10.0.0.2:1\n")
            .unwrap();
        let cluster = (NoteKind::Cluster, vec!["10.0.0.1:1".into(), "10.0.0.2:1".into()]);
        assert_eq!(notes(&scope), [cluster, volumes, served]);
    }
}
