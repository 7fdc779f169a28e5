use super::*;
use crate::fixture::scope_of;
use crate::linux::mountinfo::parse;
use crate::runtime::Pod;
use crate::snap::profile::Alias;

const COMMON: &str = "/var/snap/microk8s/common";

/// The points of ours in a table.
fn ours(scope: &Scope, lines: &str, devices: &[&str]) -> Vec<String> {
    let table = parse(lines.replace("COMMON", COMMON).as_bytes());
    assert_eq!(table.bad_lines, 0, "{lines}");
    let devices = devices.iter().map(|d| d.to_string()).collect();
    let held = Held::of(&table, &scope.roots, &scope.snap, scope, &devices);
    table.mounts.iter().filter(|m| held.is_ours(m)).map(|m| m.point().display().to_string()).collect()
}

#[test]
fn binds_of_ours_and_of_nobody_else() {
    let table = "1 0 8:1 / / rw - ext4 /dev/a rw\n\
        2 1 8:1 /var/snap/microk8s/common/var/lib/containerd /mnt/x rw - ext4 /dev/a rw\n\
        3 1 8:1 /var/snap/microk8s2/common /mnt/y rw - ext4 /dev/a rw\n\
        4 1 8:2 /var/snap/microk8s/common /mnt/z rw - ext4 /dev/b rw\n\
        5 1 8:1 /srv/users /mnt/u rw - ext4 /dev/a rw\n\
        6 1 8:1 /srv/users COMMON/backup rw - ext4 /dev/a rw\n";
    assert_eq!(ours(&scope_of(&[]), table, &[]), ["/mnt/x"]);
}

#[test]
fn a_disk_at_the_snaps_directory_stays_and_what_shows_a_part_of_it_goes() {
    let table = "1 0 8:1 / / rw - ext4 /dev/a rw\n2 1 8:2 /snap /var/snap/microk8s rw - ext4 /dev/b rw\n\
        3 1 8:2 /snap/common/x /mnt/x rw - ext4 /dev/b rw\n4 1 8:2 / /mnt/big rw - ext4 /dev/b rw\n\
        5 1 8:3 /kubelet COMMON/var/lib/kubelet rw - ext4 /dev/c rw\n6 1 8:3 /kubelet/pods/a /mnt/y rw - ext4 /dev/c rw\n";
    assert_eq!(ours(&scope_of(&[]), table, &[]), ["/mnt/x", "/mnt/y"]);
}

#[test]
fn what_hides_nothing_and_what_lies_where_all_is_to_go() {
    let table = "1 0 8:1 / / rw - ext4 /dev/a rw\n\
        2 1 8:1 COMMON/docker COMMON/docker rw - ext4 /dev/a rw\n3 1 8:1 COMMON/x COMMON/docker rw - ext4 /dev/a rw\n\
        4 1 0:4 net:[7] COMMON/run/netns/default rw - nsfs nsfs rw\n5 1 0:4 net:[8] COMMON/run/netns/a rw - nsfs nsfs rw\n\
        6 1 0:4 net:[7] /run/netns/host rw - nsfs nsfs rw\n\
        7 2 0:50 / COMMON/docker/overlay2/a/merged rw - overlay o ro,lowerdir=/srv/a,upperdir=COMMON/docker/overlay2/a/diff\n\
        8 2 0:51 / COMMON/docker/users rw - tmpfs own rw\n";
    let mut scope = scope_of(&[]);
    scope.network.own = Some(7);
    scope.roots.data = vec![format!("{COMMON}/docker").into()];
    let ids = |scope: &Scope| {
        let table = parse(table.replace("COMMON", COMMON).as_bytes());
        let held = Held::of(&table, &scope.roots, &scope.snap, scope, &HashSet::new());
        table.mounts.iter().filter(|m| held.is_ours(m)).map(|m| m.id).collect::<Vec<_>>()
    };
    assert_eq!(ids(&scope), [2, 4, 7]);
    scope.network.own = None;
    assert_eq!(ids(&scope), [2, 7]);
    scope.deserted = [8].into();
    assert_eq!(ids(&scope), [2, 5, 7]);
}

#[test]
fn where_dockers_data_were_moved_to_only_what_containers_of_ours_have() {
    let table = "1 0 8:1 / / rw - ext4 /dev/a rw\n2 1 8:1 /mnt/big/d /mnt/big/d rw - ext4 /dev/a rw\n\
        3 2 0:50 / /mnt/big/d/overlay2/l1/merged rw - overlay o ro\n4 2 0:51 / /mnt/big/d/overlay2/l2/merged rw - overlay o ro\n\
        5 2 0:52 / /mnt/big/d/containers/a/mounts/shm rw - tmpfs s rw\n6 2 0:53 / /mnt/big/d/containers/b/mounts/shm rw - tmpfs s rw\n\
        7 2 0:54 / /mnt/big/d/volumes/v/_data rw - tmpfs v rw\n8 2 0:55 / /mnt/big/d/volumes/w/_data rw - tmpfs w rw\n\
        9 2 0:56 / /mnt/big/d/rootfs/overlayfs/a rw - overlay o ro\n11 7 0:58 / /mnt/big/d/volumes/v/_data/users rw - tmpfs u rw\n\
        10 1 0:57 / /mnt/big/e rw - tmpfs e rw\n";
    let mut scope = scope_of(&["a"]);
    scope.roots.docker = Some("/mnt/big/d".into());
    scope.roots.shared = vec!["/mnt/big/d/containerd/daemon".into()];
    let places = ["overlay2/l1", "containers/a", "volumes/v/_data", "rootfs/overlayfs/a"];
    scope.docker_places = order::set(places.map(|name| Path::new("/mnt/big/d").join(name)));
    let ours = |scope: &Scope, table: &str| -> Vec<u64> {
        let table = parse(table.as_bytes());
        let held = Held::of(&table, &scope.roots, &scope.snap, scope, &HashSet::new());
        assert!(table.mounts.iter().all(|m| held.is_in_docker(m) != [1, 2, 10].contains(&m.id)));
        table.mounts.iter().filter(|m| held.is_ours(m)).map(|m| m.id).collect()
    };
    assert_eq!(ours(&scope, table), [3, 5, 7, 9]);
    let alone: String = table
        .lines()
        .filter(|l| !["4 ", "6 ", "8 ", "11"].contains(&&l[..2]))
        .map(|l| format!("{l}\n"))
        .collect();
    assert_eq!(ours(&scope, &alone), [2, 3, 5, 7, 9], "nobody else has anything there");
    assert_eq!(ours(&Scope { docker_places: Default::default(), ..scope }, table), Vec::<u64>::new());
}

#[test]
fn of_a_root_at_the_top_of_a_disk_only_what_its_program_makes() {
    let table = "1 0 8:1 / / rw - ext4 /dev/a rw\n2 1 8:2 / AT rw - ext4 /dev/b rw\n3 2 8:3 / AT/photos rw - ext4 /dev/c rw\n\
        4 1 8:2 /films /srv/films rw - ext4 /dev/b rw\n5 1 8:2 / /srv/all rw - ext4 /dev/b rw\n\
        6 2 0:50 / /mnt/big/docker/overlay2/l/merged rw - overlay o ro,lowerdir=/mnt/big/docker/overlay2/l/diff\n\
        7 2 0:51 / AT/tmpmounts/a rw - tmpfs t rw\n8 1 8:2 /io.containerd.x/y /mnt/y rw - ext4 /dev/b rw\n\
        9 1 0:52 / /mnt/o rw - overlay o ro,lowerdir=AT/io.containerd.snapshotter.v1.overlayfs/snapshots/1/fs\n";
    let ids = |scope: &Scope, at: &str| {
        let table = parse(table.replace("AT", at).as_bytes());
        let held = Held::of(&table, &scope.roots, &scope.snap, scope, &HashSet::new());
        table.mounts.iter().filter(|m| held.is_ours(m)).map(|m| m.id).collect::<Vec<_>>()
    };
    let mut scope = scope_of(&[]);
    let spelled = scope.roots.root.clone();
    assert_eq!(ids(&scope, &spelled.display().to_string()), [7, 8, 9], "bound");
    for root in
        [&mut scope.roots.mounts, &mut scope.roots.data].into_iter().flatten().filter(|r| **r == spelled)
    {
        *root = "/mnt/big".into();
    }
    scope.roots.root = "/mnt/big".into();
    let alias = Alias { name: spelled.clone(), place: "/mnt/big".into(), links: vec![spelled] };
    scope.roots.aliases.push(alias);
    assert_eq!(ids(&scope, "/mnt/big"), [7, 8, 9], "led to");
}

#[test]
fn layers_devices_and_volumes_in_memory() {
    let table = "1 0 8:1 / / rw - ext4 /dev/a rw\n\
        2 1 0:50 / /mnt/o rw - overlay o ro,lowerdir=/srv/a:COMMON/var/lib/containerd/snapshots/1/fs\n\
        3 1 0:51 / /mnt/p rw - overlay o ro,lowerdir=/srv/a:/srv/b\n\
        4 1 7:3 / /mnt/l rw - ext4 /dev/loop3 rw\n5 1 7:4 / /mnt/m rw - ext4 /dev/loop4 rw\n\
        6 1 0:52 / COMMON/var/lib/kubelet/pods/u/volumes/kubernetes.io~secret/s rw - tmpfs s rw\n\
        7 1 0:52 /sub /mnt/t rw - tmpfs s rw\n\
        8 1 0:53 / /srv/t rw - tmpfs own rw\n\
        9 1 0:53 / COMMON/var/lib/kubelet/pods/u/volume-subpaths/v/c/0 rw - tmpfs own rw\n";
    let expected = ["/mnt/o", "/mnt/l", "/mnt/t"].map(str::to_owned);
    let found = ours(&scope_of(&[]), table, &["7:3"]);
    let elsewhere: Vec<_> = found.into_iter().filter(|p| !p.starts_with(COMMON)).collect();
    assert_eq!(elsewhere, expected);
}

#[test]
fn what_kata_shares_by_proven_ids_alone() {
    let mut scope = scope_of(&["a", "c"]);
    scope.containers[1].witnesses = Default::default();
    for (id, expected) in [("a", true), ("b", false), ("c", false)] {
        let table = format!("1 0 0:1 / /run/kata-containers/shared/sandboxes/{id}/mounts rw - tmpfs t rw\n");
        assert_eq!(!ours(&scope, &table, &[]).is_empty(), expected, "{id}");
    }
}

#[test]
fn in_the_snaps_directories_layers_of_its_own_containerd_alone() {
    let table = "1 0 8:1 / / rw - ext4 /dev/a rw\n\
        2 1 0:50 / COMMON/debug/root rw - overlay o ro,lowerdir=COMMON/var/lib/containerd/x/1/fs:/srv/b\n\
        3 1 0:51 / COMMON/other/rootfs rw - overlay o ro,lowerdir=COMMON/other/snapshots/1/fs\n";
    let mut scope = scope_of(&[]);
    assert_eq!(ours(&scope, table, &[]), [format!("{COMMON}/debug/root")]);
    scope.roots.root = "/var/lib/containerd".into();
    assert!(ours(&scope, &table.replace("COMMON/var", "/var"), &[]).is_empty());
}

#[test]
fn in_a_shared_directory_owned_ids_alone() {
    let mut scope = scope_of(&["a", "c"]);
    scope.containers[1].witnesses = Default::default();
    scope.containers[0].pod = Some(Pod { namespace: "d".into(), name: "p".into(), uid: "uid-1".into() });
    scope.containers[0].pod_proven = true;
    // It has written into its own bundle of which pod it would like to be.
    let mut claimant = scope.containers[0].clone();
    (claimant.id.id, claimant.pod_proven) = ("d".into(), false);
    claimant.pod = Some(Pod { namespace: "d".into(), name: "p".into(), uid: "uid-2".into() });
    scope.containers.push(claimant);
    scope.roots.shared = ["/run/containerd", "/var/lib/kubelet"].map(PathBuf::from).to_vec();
    let tasks = "/run/containerd/io.containerd.runtime.v2.task/k8s.io";
    let cri = "/run/containerd/io.containerd.grpc.v1.cri/sandboxes";
    let points = [
        (format!("{tasks}/a/rootfs"), true),
        (format!("{tasks}/b/rootfs"), false),
        (format!("{tasks}/.a/rootfs"), true),
        (format!("{tasks}/.b/rootfs"), false),
        (format!("{tasks}/c/rootfs"), false),
        (format!("{tasks}/a"), false),
        (format!("{cri}/a/shm"), true),
        (format!("{cri}/b/shm"), false),
        ("/var/lib/kubelet/pods/uid-1/volumes/x/y".into(), true),
        ("/var/lib/kubelet/pods/uid-2/volumes/x/y".into(), false),
        ("/var/lib/kubelet/plugins/a/uid-1/y".into(), false),
    ];
    for (point, expected) in points {
        let table = format!("1 0 0:1 / {point} rw - tmpfs t rw\n");
        assert_eq!(!ours(&scope, &table, &[]).is_empty(), expected, "{point}");
    }
}
