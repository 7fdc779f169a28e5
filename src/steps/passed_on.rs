//! Mounts that containers of ours may have passed on to the host, outside of the snap's directories. They outlive the pod, and
//! nothing says who made one: they are told, and not touched.

use std::path::{Path, PathBuf};

use crate::error::Blind;
use crate::linux::fstab;
use crate::linux::mountinfo::Mount;
use crate::order;
use crate::reason::Reason;
use crate::scope::Scope;
use crate::scope::held::Held;
use crate::text::{escape, show};
use crate::view::View;

/// Directories in which the system, snapd and other runtimes mount what is theirs.
const OF_OTHERS: [&str; 23] = [
    "/proc",
    "/sys",
    "/dev",
    "/boot",
    "/snap",
    "/var/snap",
    "/var/lib/snapd",
    "/run/snapd",
    "/run/netns",
    "/run/user",
    "/run/lock",
    "/run/systemd",
    "/run/credentials",
    "/run/rpc_pipefs",
    "/run/containerd",
    "/run/docker",
    "/run/containers",
    "/var/lib/containerd",
    "/var/lib/docker",
    "/var/lib/containers",
    "/var/lib/kubelet",
    "/var/lib/lxcfs",
    "/var/lib/nfs",
];

/// Directories of the whole system, besides those in its root: who has one bound is not the only one who mounts below it.
const OF_ALL: [&str; 6] = ["/var/lib", "/var/log", "/var/cache", "/var/tmp", "/usr/local", "/usr/lib"];

/// Kinds of file systems that are mounted by the system, by other runtimes, or for a user's desktop.
const NOT_OF_PODS: [&str; 24] = [
    "proc",
    "sysfs",
    "devtmpfs",
    "devpts",
    "mqueue",
    "nsfs",
    "overlay",
    "squashfs",
    "autofs",
    "securityfs",
    "debugfs",
    "tracefs",
    "configfs",
    "pstore",
    "efivarfs",
    "binfmt_misc",
    "rpc_pipefs",
    "hugetlbfs",
    "fusectl",
    "cgroup",
    "fuse.lxcfs",
    "fuse.snapfuse",
    "fuse.portal",
    "fuse.gvfsd-fuse",
];

/// The mounts below a bind of a container of ours that passes mounts on, where nothing else explains them: no line of fstab,
/// no disk, no directory that everybody or another runtime mounts in. A pod of another kubelet's may have passed on the same.
/// `is_told` holds for those that are looked at elsewhere.
pub fn find(view: &View, scope: &Scope, own: Option<&Held>, is_told: fn(&Mount) -> bool) -> Vec<Blind> {
    let (Ok(table), Some(held), true) = (view.own_mounts(), own, view.in_init_namespace()) else {
        return Vec::new();
    };
    let binds = binds(scope);
    let may_be = |mount: &&Mount| {
        let is_disk = mount.is_on_device() || NOT_OF_PODS.contains(&mount.fstype());
        !is_disk && binds.iter().any(|(bind, _)| is_below(mount.point(), bind))
    };
    let is_of_others = |m: &Mount| is_told(m) || OF_OTHERS.iter().any(|place| m.point().starts_with(place));
    let told = |m: &&Mount| !is_of_others(m) && !held.is_ours(m) && !held.is_in_snap(m);
    let mut found: Vec<&Mount> = table.mounts.iter().filter(may_be).filter(told).collect();
    if found.is_empty() {
        return Vec::new();
    }
    let other = scope.network.other_kubelet().map(|other| format!("; but {other}")).unwrap_or_default();
    let listed = fstab::points(view.host);
    found.retain(|m| !listed.contains(m.point()));
    let blind = |mount: &Mount| {
        let point = show(mount.point());
        let (bind, who) = binds.iter().find(|(bind, _)| is_below(mount.point(), bind))?;
        let why = format!(
            "it lies in {}, from which {who} of this snap passed mounts on to the host, and nothing says who made it; look, \
             then 'umount {point}'{other}",
            show(bind)
        );
        Some(Blind::new(format!("{} mounted at {point}", mount.fstype()), (Reason::Unproven, why)))
    };
    found.into_iter().filter_map(blind).collect()
}

/// Binds that pass mounts on, with who has them; none of a directory of the whole system's.
fn binds(scope: &Scope) -> Vec<(PathBuf, String)> {
    let ours = scope.containers.iter().filter(|c| scope.counts_as_ours(c) && !scope.is_foreign(&c.id));
    let mut found = Vec::new();
    for container in ours.filter(|c| !c.passed_on.is_empty()) {
        let who = container.pod.as_ref().map_or_else(
            || format!("container {}", container.id.id),
            |pod| format!("pod {}", escape(pod.to_string().as_bytes())),
        );
        for bind in container.passed_on.list() {
            let bind = place(scope, &bind);
            let of_all = bind.components().count() < 3 || OF_ALL.iter().any(|all| bind == Path::new(all));
            if !of_all {
                found.push((bind, who.clone()));
            }
        }
    }
    order::sort(&mut found);
    found.dedup_by(|a, b| a.0 == b.0);
    found
}

/// As the mount table has it: a spec may use the old name of `/run`.
pub fn place(scope: &Scope, bind: &Path) -> PathBuf {
    let bind = scope.roots.place_of(bind);
    match bind.strip_prefix("/var/run") {
        Ok(below) => Path::new("/run").join(below).components().collect(),
        Err(_) => bind.components().collect(),
    }
}

fn is_below(point: &Path, bind: &Path) -> bool {
    point.starts_with(bind) && point != bind
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linux::host::Host;
    use std::collections::HashSet;

    #[test]
    fn only_what_nothing_else_explains_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| crate::fixture::file(dir.path(), name, text);
        let host = Host::at(dir.path());
        std::os::unix::fs::symlink("mnt:[1]", {
            file("proc/self/ns/x", "");
            file("proc/1/ns/x", "");
            dir.path().join("proc/self/ns/mnt")
        })
        .unwrap();
        std::os::unix::fs::symlink("mnt:[1]", dir.path().join("proc/1/ns/mnt")).unwrap();
        let binds = |binds: &[&str]| {
            let mut scope = crate::fixture::scope_of(&["a"]);
            scope.containers[0].passed_on = binds.iter().map(PathBuf::from).collect::<Vec<_>>().into();
            scope
        };
        let told = |scope: &Scope, fstype: &str, point: &str, source: &str| {
            let line =
                format!("1 0 8:1 / / rw - ext4 /dev/a rw\n2 1 0:9 / {point} rw - {fstype} {source} rw\n");
            file("proc/self/mountinfo", &line);
            let view = View::new(&host, None);
            let table = view.own_mounts().as_ref().unwrap();
            let held = Held::of(table, &scope.roots, &scope.snap, scope, &HashSet::new());
            let found = find(&view, scope, Some(&held), |m| m.fstype() == "cgroup2").into_iter();
            found
                .inspect(|b| assert!(b.why.contains("; but it lives") != scope.network.rivals.is_empty()))
                .map(|b| b.what)
                .collect::<Vec<_>>()
        };
        let ours = binds(&["/var/run/juicefs", "/", "/srv", "/var/lib", "/run/netns", "/run/user/1"]);
        let fuse = "fuse.juicefs";
        let point = "/run/juicefs/volume/pvc";
        assert_eq!(told(&ours, fuse, point, "x"), [format!("{fuse} mounted at {point}")]);
        assert_eq!(told(&ours, "tmpfs", point, "x").len(), 1);
        for (fstype, point, source) in [
            (fuse, "/run/juicefs", "x"),
            (fuse, "/run/juicefs2/x", "x"),
            (fuse, "/srv/x", "x"),
            (fuse, "/home/me/x", "x"),
            (fuse, "/var/lib/x", "x"),
            (fuse, "/run/user/1/doc", "x"),
            ("nsfs", "/run/netns/x", "nsfs"),
            ("overlay", point, "overlay"),
            ("ext4", point, "/dev/a"),
        ] {
            assert!(told(&ours, fstype, point, source).is_empty(), "{fstype} at {point}");
        }
        let none = binds(&[]);
        assert!(told(&none, fuse, point, "x").is_empty(), "nobody passed it on");
        file("etc/fstab", &format!("x {point} fuse.juicefs defaults 0 0\n"));
        assert!(told(&ours, fuse, point, "x").is_empty(), "fstab has it");
        file("etc/fstab", "");
        let mut rival = ours.clone();
        rival.network.rivals.insert("kubelet".into(), "it lives".into());
        assert_eq!(told(&rival, fuse, point, "x").len(), 1, "of another kubelet's, or of ours");
        let cilium = binds(&["/run/cilium"]);
        assert!(
            told(&cilium, "cgroup2", "/run/cilium/cgroupv2", "none").is_empty(),
            "its agent's are told as such"
        );
    }
}
