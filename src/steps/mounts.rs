//! Mounts under our roots, deepest first, and loop devices on our files.

use std::collections::HashSet;

use crate::error::Blind;
use crate::linux::mountinfo::{Mount, MountTable};
use crate::order;
use crate::reason::Reason;
use crate::residue::finding::Finding;
use crate::residue::{self, Residue, TableOf};
use crate::runtime::Name;
use crate::scope::held::Held;
use crate::scope::{Scope, roots};
use crate::snap::Snap;
use crate::snap::profile::Roots;
use crate::view::View;

/// Mounts of ours, then devices: a mount keeps its device busy. Then what the snap's directories are tied to besides.
pub fn find(view: &View, scope: &Scope) -> Finding {
    let devices = super::loops::numbers(view, scope);
    let own = own(view, scope, &devices);
    let mut finding = in_tables(view, scope, &devices, own.as_ref());
    super::loops::mappings(view, scope, &mut finding);
    super::loops::find(view, scope, &mut finding);
    finding.blind.extend(super::loops::swaps(view, scope));
    super::wide::find(view, scope, own.as_ref(), &mut finding);
    super::wide::namespaces(view, scope, own.as_ref(), &mut finding);
    finding.blind.extend(super::elsewhere::find(view, scope));
    finding
}

/// What of our own mount table is ours.
fn own<'a>(view: &'a View, scope: &'a Scope, devices: &HashSet<String>) -> Option<Held<'a>> {
    let table = view.own_mounts().as_ref().ok()?;
    Some(Held::of(table, &scope.roots, &scope.snap, scope, devices))
}

/// Mounts of ours in our own table, in the snap's, and in pid 1's.
pub fn mounts(view: &View, scope: &Scope) -> Finding {
    let devices = super::loops::numbers(view, scope);
    in_tables(view, scope, &devices, own(view, scope, &devices).as_ref())
}

fn in_tables(view: &View, scope: &Scope, devices: &HashSet<String>, own: Option<&Held>) -> Finding {
    let mut finding = Finding { residues: Vec::new(), blind: roots::blind(&scope.roots).collect() };
    let on_host = view.in_init_namespace();
    match view.own_mounts() {
        Ok(table) => {
            // In a mount namespace of the snap's, snapd itself has bound parts of the snap's directories to other places.
            let ours = |m: &Mount| own.is_some_and(|own| own.is_ours(m) && (on_host || own.is_placed(m)));
            take(&mut finding, table, TableOf::Own, ours);
        }
        Err(e) => finding.blind.push(Blind::new("our mount table", e)),
    }
    match view.snap_mounts() {
        Ok(Some(table)) => {
            let inside = scope.snap.inside();
            let held = Held::of(table, &scope.inside, &inside, scope, devices);
            take(&mut finding, table, TableOf::Snap, |m| held.is_placed(m));
        }
        Ok(None) => {}
        Err(e) => finding.blind.push(Blind::new("the snap's mount table", e)),
    }
    if !on_host {
        of_host(view, scope, devices, &mut finding);
    }
    finding
}

/// What only the host can unmount: whatever is below the snap's data there, and what shows ours elsewhere.
fn of_host(view: &View, scope: &Scope, devices: &HashSet<String>, finding: &mut Finding) {
    let table = match view.init_mounts() {
        Ok(table) => table,
        Err(e) => return finding.blind.push(Blind::new("the host's mount table", e)),
    };
    let home = scope.snap.home_on_host();
    let snap = Snap { common: home.join("common"), home: home.clone(), ..scope.snap.clone() };
    // The roots' paths are this namespace's; on the host they count by what they show alone.
    let roots = Roots::default();
    let held = Held::of(table, &roots, &snap, scope, devices);
    let below = |m: &Mount| m.point().starts_with(&home) && m.point() != home;
    take(finding, table, TableOf::Host, |m| below(m) || held.shows_ours(m));
}

/// The kernel lists a mount after the one that it stands on, so the table backwards is deepest (and topmost) first.
fn take(finding: &mut Finding, table: &MountTable, of: TableOf, ours: impl Fn(&Mount) -> bool) {
    if table.bad_lines > 0 {
        let what = format!("{} lines of the {of:?} mount table", table.bad_lines);
        finding.blind.push(Blind::new(what, (Reason::Malformed, "they make no sense")));
    }
    let mut own: Vec<&Mount> = table.mounts.iter().filter(|m| ours(m)).collect();
    let hanging = table.hanging(&ours);
    own.reverse();
    order::sort_by_key(&mut own, |m| std::cmp::Reverse(m.point().components().count()));
    let mut fstypes: Vec<Name> = Vec::new();
    let mut shared = |fstype: &str| {
        let known = fstypes.iter().find(|known| **known == *fstype).cloned();
        known.unwrap_or_else(|| {
            let new = Name::from(fstype);
            fstypes.push(new.clone());
            new
        })
    };
    finding.residues.extend(own.into_iter().map(|m| {
        Residue::Mount(residue::Mount {
            id: m.id,
            point: m.point.clone(),
            fstype: shared(m.fstype()),
            table: of,
            may_hang: m.waits_for(&hanging),
        })
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn below_a_root_by_component_and_never_the_root_itself() {
        let scope = crate::fixture::scope_of(&[]);
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
            let held = Held::of(&table, &scope.roots, &scope.snap, &scope, &HashSet::new());
            assert_eq!(held.is_ours(&table.mounts[0]), ours, "{point}");
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
