//! Mounts under our roots, deepest first, and loop devices on our files.

use std::path::Path;

use crate::error::Blind;
use crate::linux::mountinfo::{Mount, MountTable};
use crate::residue::finding::Finding;
use crate::residue::{self, Residue, TableOf};
use crate::scope::Scope;
use crate::snap::profile::Roots;
use crate::view::View;

/// Mounts of ours, then loop devices: a mount keeps its device busy.
pub fn find(view: &View, scope: &Scope) -> Finding {
    let mut finding = mounts(view, scope);
    super::loops::find(view, scope, &mut finding);
    finding
}

/// Mounts of ours in our own table, in the snap's, and under the snap's data in pid 1's.
pub fn mounts(view: &View, scope: &Scope) -> Finding {
    let mut finding = Finding::default();
    match view.own_mounts() {
        Ok(table) => take(&mut finding, table, TableOf::Own, |m| is_ours(m, &scope.roots)),
        Err(e) => finding.blind.push(Blind::new("our mount table", e)),
    }
    match view.snap_mounts() {
        Ok(Some(table)) => take(&mut finding, table, TableOf::Snap, |m| is_ours(m, &scope.inside)),
        Ok(None) => {}
        Err(e) => finding.blind.push(Blind::new("the snap's mount table", e)),
    }
    if !view.in_init_namespace() {
        match view.init_mounts() {
            Ok(table) => {
                let home = scope.snap.home_on_host();
                take(&mut finding, table, TableOf::Host, |m| m.point.starts_with(&home) && m.point != home);
            }
            Err(e) => finding.blind.push(Blind::new("the host's mount table", e)),
        }
    }
    finding
}

/// A mount below one of our roots is ours; one at a root was put there by somebody else, and stays.
fn is_ours(mount: &Mount, roots: &Roots) -> bool {
    let below = |root: &Path| mount.point.starts_with(root) && mount.point != root;
    roots.mounts.iter().any(|root| below(root)) && !roots.mounts.contains(&mount.point)
}

/// The kernel lists a mount after the one that it stands on, so the table backwards is deepest (and topmost) first.
fn take(finding: &mut Finding, table: &MountTable, of: TableOf, ours: impl Fn(&Mount) -> bool) {
    if table.bad_lines > 0 {
        let what = format!("{} lines of the {of:?} mount table", table.bad_lines);
        finding.blind.push(Blind::new(what, "they make no sense"));
    }
    let mut own: Vec<&Mount> = table.mounts.iter().filter(|m| ours(m)).collect();
    let hanging = table.hanging(&ours);
    own.reverse();
    own.sort_by_key(|m| std::cmp::Reverse(m.point.components().count()));
    finding.residues.extend(own.into_iter().map(|m| {
        Residue::Mount(residue::Mount {
            id: m.id,
            point: m.point.clone(),
            fstype: m.fstype.clone(),
            table: of,
            may_hang: m.waits_for(&hanging),
        })
    }));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snap::Snap;
    use crate::snap::profile::Profile;

    #[test]
    fn below_a_root_by_component_and_never_the_root_itself() {
        let roots =
            Profile::built_in("microk8s").unwrap().unwrap().resolve(&Snap::stand_in("microk8s")).unwrap();
        let c = "/var/snap/microk8s/common";
        let points = [
            (format!("{c}/var/lib/kubelet/pods/a/volumes/x"), true),
            (format!("{c}/run/containerd/io.containerd.runtime.v2.task/k8s.io/a/rootfs"), true),
            (format!("{c}/var/lib/kubelet"), false),
            (format!("{c}/var/lib/kubelet2/x"), false),
            (format!("{c}/default-storage/x"), false),
            ("/var/lib/kubelet/pods/a".to_string(), false),
        ];
        for (point, ours) in points {
            let table =
                crate::linux::mountinfo::parse(format!("1 0 0:1 / {point} rw - tmpfs t rw\n").as_bytes());
            assert_eq!(is_ours(&table.mounts[0], &roots), ours, "{point}");
        }
    }

    #[test]
    fn deepest_first_and_topmost_of_a_stack_first() {
        let text = "1 0 0:1 / /r/a rw - tmpfs t rw\n2 1 0:2 / /r/a rw - tmpfs t rw\n3 2 0:3 / /r/a/b rw - tmpfs t rw\n";
        let mut finding = Finding::default();
        take(&mut finding, &crate::linux::mountinfo::parse(text.as_bytes()), TableOf::Own, |_| true);
        let ids: Vec<u64> = finding
            .residues
            .iter()
            .map(|r| if let Residue::Mount(residue::Mount { id, .. }) = r { *id } else { 0 })
            .collect();
        assert_eq!(ids, [3, 2, 1]);
    }

    #[test]
    fn on_the_host_a_parallel_instance_has_its_own_name() {
        let dir = tempfile::tempdir().unwrap();
        let table = |pid: &str, text: String| {
            std::fs::create_dir_all(dir.path().join("proc").join(pid)).unwrap();
            std::fs::write(dir.path().join("proc").join(pid).join("mountinfo"), text).unwrap();
        };
        table("self", "9 0 0:9 / / rw - ext4 /dev/a rw\n".into());
        let mounts = ["microk8s", "microk8s_two"].map(|n| format!("/var/snap/{n}/common/x"));
        let [of_first, of_second] = &mounts;
        table(
            "1",
            format!(
                "1 0 0:1 / / rw - ext4 /dev/a rw\n2 1 0:2 / {of_first} rw - tmpfs t rw\n3 1 0:3 / {of_second} rw - tmpfs t rw\n"
            ),
        );
        // As the hook of the parallel instance knows itself: snapd gives it the snap's own paths.
        let mut scope = crate::fixture::scope_of(&[]);
        for (instance, seen) in [("microk8s_two", of_second), ("microk8s", of_first)] {
            scope.snap.instance = instance.into();
            let host = crate::linux::host::Host::at(dir.path());
            let points: Vec<String> = mounts_points(&super::mounts(&View::new(&host, None), &scope));
            assert_eq!(points, std::slice::from_ref(seen), "{instance}");
        }
    }

    fn mounts_points(finding: &Finding) -> Vec<String> {
        let point = |r: &Residue| match r {
            Residue::Mount(residue::Mount { point, .. }) => point.display().to_string(),
            other => panic!("{other}"),
        };
        finding.residues.iter().map(point).collect()
    }
}
