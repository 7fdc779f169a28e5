use super::*;

#[test]
fn dockers_data_are_another_dockers_while_that_locks_them() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| crate::fixture::file(dir.path(), name, text);
    let told = "version = 0\nroot = \"/mnt/big/docker/containerd/daemon\"\n";
    file("run/snap.docker/containerd/containerd.toml", told);
    file("mnt/big/docker/volumes/metadata.db", "");
    let database = dir.path().join("mnt/big/docker").join(docker::DATABASE);
    let inode = std::fs::metadata(database).unwrap().ino();
    let (snap, profile) = (Snap::stand_in("docker"), crate::snap::profile::Profile::built_in("docker"));
    let profile = profile.unwrap().unwrap();
    let host = crate::linux::host::Host::at(dir.path());
    let found = || {
        let scope = crate::scope::decide::gather(&View::new(&host, None), &snap, &profile).unwrap();
        let told = scope.blind.iter().any(|blind| blind.what == "docker's data in /mnt/big/docker");
        (scope.roots.docker.is_some(), scope.inside.docker.is_some(), told)
    };
    assert_eq!(found(), (false, false, true), "who locks them cannot be told");
    file("proc/locks", "");
    assert_eq!(found(), (true, true, false));
    file("proc/locks", &format!("1: FLOCK  ADVISORY  WRITE 7 08:01:{inode} 0 EOF\n"));
    assert_eq!(found(), (false, false, false));
    let (cgroups, unit) = (crate::scope::tests::CGROUPS, "/system.slice/snap.docker.dockerd.service");
    file(cgroups.0, cgroups.1);
    file("proc/self/status", "NSpid:\t9\n");
    file("proc/7/status", "NSpid:\t7\n");
    file("proc/7/cgroup", &format!("0::{unit}\n"));
    file(&format!("sys/fs/cgroup{unit}/cgroup.procs"), "7\n");
    assert_eq!(found(), (true, true, false), "our own may still run");
    // What tells of the place goes with the state, and is known to a later run.
    let gather = |earlier: Option<&crate::scope::Scope>| {
        let view = View::new(&host, None);
        crate::scope::decide::gather_after(&view, &snap, &profile, earlier).unwrap()
    };
    let earlier = gather(None);
    std::fs::remove_dir_all(dir.path().join("run/snap.docker")).unwrap();
    let later = gather(Some(&earlier)).roots;
    assert_eq!((&later.docker, &later.moved), (&earlier.roots.docker, &earlier.roots.moved));
    assert_eq!(gather(None).roots.docker, None, "nothing tells");
}

#[test]
fn a_moved_root_proves_while_no_other_containerd_locks_it() {
    use crate::fixture::microk8s;
    use crate::linux::host::Host;
    let dir = tempfile::tempdir().unwrap();
    let write = |path: &str, text: &str| {
        let file = dir.path().join(path);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, text).unwrap();
    };
    write("var/snap/microk8s/x1/args/containerd", "--root /mnt/big/lib\n");
    let database = format!("mnt/big/lib/{}", metadata::FILE);
    write(&database, "");
    let inode = std::fs::metadata(dir.path().join(&database)).unwrap().ino();
    let host = Host::at(dir.path());
    let (snap, profile) = microk8s();
    let (roots, _) = crate::scope::roots::resolve(&host, &snap, &profile).unwrap();
    let proves = |roots: &Roots| super::proves(&View::new(&host, None), &snap, roots);
    assert!(!proves(&roots), "who holds it cannot be told");
    write("proc/locks", &format!("1: POSIX  ADVISORY  WRITE 7 08:01:{inode}1 0 EOF\n"));
    assert!(proves(&roots));
    let shared = Roots { root: "/var/lib/containerd".into(), ..roots.clone() };
    assert!(!proves(&Roots { moved: vec![shared.root.clone()], ..shared }), "others have theirs there");
    assert!(!proves(&Roots { moved: vec![], ..roots.clone() }), "nothing of the snap's says so");
    write("proc/locks", &format!("1: FLOCK  ADVISORY  WRITE 7 08:01:{inode} 0 EOF\n"));
    assert_eq!(locked_by(format!("2: FLOCK  ADVISORY  WRITE 7 08:01:{inode} 0 EOF").as_bytes(), inode), [7]);
    assert!(!proves(&roots));
}
