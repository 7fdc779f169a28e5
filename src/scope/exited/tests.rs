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
