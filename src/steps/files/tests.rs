use super::*;
use crate::fixture::scope_of;
use crate::linux::host::Host;
use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;

fn paths(dir: &Path, find: fn(&View, &Scope, &mut Finding)) -> Vec<String> {
    let mut finding = Finding::default();
    let host = Host::at(dir);
    let mut scope = scope_of(&["a"]);
    scope.network.results =
        vec!["/var/lib/cni/results/n-a-eth0".into(), "/var/lib/cni/results/n-gone".into()];
    find(&View::new(&host, None), &scope, &mut finding);
    assert!(finding.blind.is_empty(), "{finding:?}");
    let path = |r: Residue| match r {
        Residue::Path(it) => it.path.display().to_string(),
        other => panic!("{other}"),
    };
    finding.residues.into_iter().map(path).collect()
}

#[test]
fn sockets_of_plugins_and_no_other_file() {
    // A socket's path may be 107 bytes long; the directory that holds the tree is reached by a short one.
    let dir = tempfile::tempdir_in("/tmp").unwrap();
    let kubelet = dir.path().join("var/snap/microk8s/common/var/lib/kubelet");
    for name in ["plugins_registry", "plugins/a/b", "plugins/m", "device-plugins"] {
        fs::create_dir_all(kubelet.join(name)).unwrap();
    }
    let sockets =
        ["plugins_registry/r.sock", "plugins/a/s", "plugins/a/b/deep", "plugins/m/s", "device-plugins/d"];
    for name in sockets {
        drop(UnixListener::bind(kubelet.join(name)).unwrap());
    }
    fs::write(kubelet.join("device-plugins/kubelet_internal_checkpoint"), "").unwrap();
    fs::write(kubelet.join("plugins/file"), "").unwrap();
    let root = "/var/snap/microk8s/common/var/lib/kubelet";
    fs::create_dir_all(dir.path().join("proc/self")).unwrap();
    let table =
        format!("1 0 0:1 / {root}/plugins/m rw - nfs s:/x rw\n2 0 0:2 / {root} rw - ext4 /dev/a rw\n");
    fs::write(dir.path().join("proc/self/mountinfo"), table).unwrap();
    let found = paths(dir.path(), plugin_sockets);
    assert_eq!(
        found,
        ["plugins_registry/r.sock", "plugins/a/s", "device-plugins/d"].map(|n| format!("{root}/{n}"))
    );
}

#[test]
fn symlinks_that_lead_into_this_snap_and_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    for name in ["var/lib", "etc/cni", "opt/cni/bin"] {
        fs::create_dir_all(path(name)).unwrap();
    }
    symlink("/var/snap/microk8s/common/var/lib/kubelet", path("var/lib/kubelet")).unwrap();
    symlink("/var/snap/microk8s2/common/x", path("var/lib/calico")).unwrap();
    symlink("../../snap/microk8s/current/cni", path("etc/cni/net.d")).unwrap();
    assert_eq!(paths(dir.path(), host_symlinks), ["/var/lib/kubelet", "/etc/cni/net.d"]);
    let snap = Snap::stand_in("microk8s");
    let leads = |target: &str| leads_into(&snap, Path::new("/var/lib/kubelet"), Path::new(target));
    assert!(leads("/snap/microk8s/current/x") && leads("../snap/microk8s/x1"));
    for other in ["/var/snap/microk8s", "/var/snap/microk8s/../other/x", "/", "../../home", "/mnt/kubelet"] {
        assert!(!leads(other), "{other}");
    }
    // The hook of a parallel instance knows its directories by the snap's name; the host has another's there.
    let parallel = Snap { instance: "microk8s_two".into(), ..snap };
    let leads = |target: &str| leads_into(&parallel, Path::new("/var/lib/kubelet"), Path::new(target));
    assert!(leads("/var/snap/microk8s_two/common/k") && !leads("/var/snap/microk8s/common/k"));
}

#[test]
fn what_cni_noted_for_our_sandboxes() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["var/lib/cni/results/n-a-eth0", "var/lib/cni/results/n-b-eth0", "var/lib/cni/flannel/a"] {
        fs::create_dir_all(dir.path().join(name).parent().unwrap()).unwrap();
        fs::write(dir.path().join(name), "").unwrap();
    }
    let of_flannel = ["/var/lib/cni/flannel/a", "/var/lib/cni/flannel"];
    let ours = ["/var/lib/cni/results/n-a-eth0", of_flannel[0], of_flannel[1]];
    assert_eq!(paths(dir.path(), of_cni), ours);
}
