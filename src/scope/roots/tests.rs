use super::*;
use crate::fixture::microk8s;
use std::fs;
use std::os::unix::fs::symlink;

const COMMON: &str = "/var/snap/microk8s/common";

fn tree() -> (tempfile::TempDir, Host) {
    let dir = tempfile::tempdir().unwrap();
    for name in ["var/snap/microk8s/common/var/lib", "var/snap/microk8s/x1/args", "mnt/big/kubelet"] {
        fs::create_dir_all(dir.path().join(name)).unwrap();
    }
    let host = Host::at(dir.path());
    (dir, host)
}

fn resolved(host: &Host) -> Roots {
    let (snap, profile) = microk8s();
    let (roots, inside) = resolve(host, &snap, &profile).unwrap();
    assert_eq!(roots, inside, "this instance is called like its snap");
    roots
}

#[test]
fn plain_roots_are_as_the_profile_has_them() {
    let (_dir, host) = tree();
    assert_eq!(resolved(&host), crate::fixture::roots());
}

#[test]
fn a_linked_root_is_known_by_both_spellings() {
    let (dir, host) = tree();
    let link = dir.path().join(&COMMON[1..]).join("var/lib/kubelet");
    symlink("/mnt/big/kubelet", link).unwrap();
    let roots = resolved(&host);
    assert_eq!(roots.kubelet.as_deref(), Some(Path::new("/mnt/big/kubelet")));
    assert!(roots.mounts.contains(&"/mnt/big/kubelet".into()));
    let spelled = PathBuf::from(format!("{COMMON}/var/lib/kubelet/pods/a"));
    assert_eq!(roots.place_of(&spelled), Path::new("/mnt/big/kubelet/pods/a"));
    assert!(roots.spellings(Path::new("/mnt/big/kubelet/pods/a")).contains(&spelled));
}

#[test]
fn what_is_not_resolved_is_looked_for_nowhere_and_told() {
    let (dir, host) = tree();
    let var = dir.path().join(&COMMON[1..]).join("run");
    symlink("run", var).unwrap();
    let roots = resolved(&host);
    assert_eq!(roots.state, Path::new(NOWHERE));
    assert!(!roots.data.iter().any(|d| d.ends_with("run/containerd")), "{:?}", roots.data);
    let told: Vec<String> = blind(&roots).map(|b| b.what).collect();
    assert_eq!(told, [format!("{COMMON}/run/containerd")]);
}

#[test]
fn dockers_data_are_where_its_containerd_is_told_to_work() {
    let write = |host: &Host, snap: &Snap, root: &str| {
        let file = host.path(&snap.run_dir().join("containerd/containerd.toml"));
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, format!("version = 0\nroot = \"{root}\"\n\n[grpc]\n")).unwrap();
    };
    let profile = Profile::built_in("docker").unwrap().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let host = Host::at(dir.path());
    let of = |instance: &str, root: &str| {
        let snap = Snap::by_name(&host, instance).unwrap();
        write(&host, &snap, root);
        resolve(&host, &snap, &profile).unwrap()
    };
    let (plain, _) = of("docker", "/var/snap/docker/common/var-lib-docker/containerd/daemon");
    assert!(plain.docker.is_none() && plain.moved.is_empty());
    let (moved, _) = of("docker", "/home/u/docker/containerd/daemon");
    assert_eq!(moved.docker.as_deref(), Some(Path::new("/home/u/docker")));
    assert_eq!(moved.moved, ["/home/u/docker/containerd/daemon", "/home/u/docker"].map(PathBuf::from));
    assert_eq!(
        (moved.data, moved.mounts),
        (plain.data.clone(), plain.mounts.clone()),
        "nothing more is deleted"
    );
    let (own, _) = of("docker", "/var/snap/docker/common/big/containerd/daemon");
    assert!(own.docker.is_none() && own.mounts.contains(&"/var/snap/docker/common/big".into()));
    // A parallel instance's programs know its directories by the snap's own name.
    let (own, inside) = of("docker_b", "/var/snap/docker/common/big/containerd/daemon");
    assert!(own.moved.is_empty() && own.mounts.contains(&"/var/snap/docker_b/common/big".into()));
    assert!(inside.moved.is_empty() && inside.mounts.contains(&"/var/snap/docker/common/big".into()));
    let (other, _) = of("docker", "/mnt/big/lib");
    assert!(other.docker.is_none() && other.moved == [PathBuf::from("/mnt/big/lib")]);
}

#[test]
fn moved_roots_are_followed_and_not_taken_for_the_snaps_own() {
    let (dir, host) = tree();
    let args =
        |name: &str, text: &str| fs::write(dir.path().join("var/snap/microk8s/x1/args").join(name), text);
    args("kubelet", "--root-dir=/mnt/big/kubelet\n").unwrap();
    args("containerd", "--root /mnt/big/lib\n--state ${SNAP_COMMON}/run/containerd\n").unwrap();
    let roots = resolved(&host);
    assert_eq!(roots.root, Path::new("/mnt/big/lib"));
    assert_eq!(roots.moved, ["/mnt/big/lib", "/mnt/big/kubelet"].map(PathBuf::from));
    assert_eq!(roots.shared, [PathBuf::from("/mnt/big/lib")]);
    assert!(roots.mounts.contains(&"/mnt/big/kubelet/pods".into()));
    assert_eq!(roots.data, crate::fixture::roots().data, "nothing outside becomes data");
}
