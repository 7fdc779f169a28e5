use super::*;

fn names(groups: &[&str], owned: &[&str]) -> Vec<String> {
    let groups: Vec<PathBuf> = groups.iter().map(PathBuf::from).collect();
    let owners = owned.iter().map(|g| (Path::new(*g), "id")).collect();
    let above = owned.iter().flat_map(|g| Path::new(*g).ancestors().skip(1));
    let ours = above.filter(|g| is_a_runtimes(g)).collect();
    let above = Above { ours, ..Above::default() };
    removable(&groups, &owners, &above).0.into_iter().map(|(g, _)| g.display().to_string()).collect()
}

#[test]
fn groups_of_services_that_no_unit_file_backs_any_more() {
    let root = std::env::temp_dir().join(format!("abandoned-{}", std::process::id()));
    let units = root.join("etc/systemd/system");
    std::fs::create_dir_all(&units).unwrap();
    std::fs::write(units.join("snap.microk8s.daemon-kept.service"), "").unwrap();
    let groups = [
        "/system.slice/snap.microk8s.daemon-containerd.service",
        "/system.slice/snap.microk8s.daemon-kept.service",
        "/system.slice/snap.microk8s_two.daemon-containerd.service",
        "/guest/system.slice/snap.microk8s.daemon-containerd.service",
        "/system.slice",
    ]
    .map(PathBuf::from);
    let host = crate::linux::host::Host::at(&root);
    let view = View::new(&host, None);
    let mut scope = crate::fixture::scope_of(&[]);
    let seen = |scope: &Scope| abandoned(&view, scope, &groups).map(Path::to_path_buf).collect::<Vec<_>>();
    assert_eq!(seen(&scope), Vec::<PathBuf>::new(), "the snap is installed: snapd's business");
    scope.snap.revision = None;
    assert_eq!(seen(&scope), groups[..1]);
    std::fs::remove_dir_all(root).unwrap();
}

#[test]
fn dockers_group_goes_with_its_last_container() {
    let groups = ["/docker", "/docker/c1", "/mine", "/mine/c2"];
    assert_eq!(names(&groups, &["/docker/c1", "/mine/c2"]), ["/mine/c2", "/docker/c1", "/docker"]);
    let beside = ["/docker", "/docker/c1", "/docker/c3"];
    assert_eq!(names(&beside, &["/docker/c1"]), ["/docker/c1"], "another daemon's");
}

#[test]
fn leaves_then_the_empty_groups_above_that_held_them() {
    let groups = [
        "/kubepods",
        "/kubepods/besteffort",
        "/kubepods/besteffort/podA",
        "/kubepods/besteffort/podA/c1",
        "/system.slice",
    ];
    assert_eq!(
        names(&groups, &["/kubepods/besteffort/podA/c1"]),
        ["/kubepods/besteffort/podA/c1", "/kubepods/besteffort/podA", "/kubepods/besteffort", "/kubepods"]
    );
}

#[test]
fn a_neighbour_keeps_the_shared_groups() {
    let groups = ["/kubepods", "/kubepods/podA", "/kubepods/podA/c1", "/kubepods/podB", "/kubepods/podB/c9"];
    assert_eq!(names(&groups, &["/kubepods/podA/c1"]), ["/kubepods/podA/c1", "/kubepods/podA"]);
}

#[test]
fn groups_that_a_container_made_go_with_it_deepest_first() {
    let groups = ["/k8s.io", "/k8s.io/c1", "/k8s.io/c1/init.scope", "/k8s.io/c1/a", "/k8s.io/c1/a/b"];
    assert_eq!(
        names(&groups, &["/k8s.io/c1"]),
        ["/k8s.io/c1/a/b", "/k8s.io/c1/a", "/k8s.io/c1/init.scope", "/k8s.io/c1", "/k8s.io"]
    );
}

#[test]
fn very_many_groups_that_a_container_made_are_told_as_its_own() {
    let mut groups = vec!["/k8s.io".to_owned(), "/k8s.io/c1".into(), "/k8s.io/c2".into()];
    groups.extend((0..=MAX_BELOW).map(|n| format!("/k8s.io/c1/{n}")));
    let groups: Vec<&str> = groups.iter().map(String::as_str).collect();
    let own = ["/k8s.io/c2", "/k8s.io/c1", "/k8s.io"];
    assert_eq!(names(&groups, &own[..2]), own);
    assert_eq!(names(&groups[..groups.len() - 1], &own[..2]).len(), MAX_BELOW + own.len());
}

#[test]
fn a_leaf_that_is_already_gone_still_tells_which_groups_were_ours() {
    assert_eq!(
        names(&["/kubepods", "/kubepods/podA"], &["/kubepods/podA/c1"]),
        ["/kubepods/podA", "/kubepods"]
    );
}

#[test]
fn a_group_above_that_was_made_for_ours_goes_and_one_that_may_be_anothers_is_told() {
    let groups = ["/odd", "/odd/web", "/more", "/more/x", "/more/x/y"].map(PathBuf::from);
    let leaves = ["/odd/web", "/more/x/y"].map(PathBuf::from);
    let owners = leaves.iter().map(|g| (g.as_path(), "id")).collect();
    let mut scope = crate::fixture::scope_of(&["c1"]);
    scope.containers[0].cgroups = leaves.to_vec();
    scope.groups_above = vec!["/odd".into(), "/more".into()];
    let dir = tempfile::tempdir().unwrap();
    let host = crate::linux::host::Host::at(dir.path());
    let above = Above::of(&View::new(&host, None), &scope);
    let (found, unknown) = removable(&groups, &owners, &above);
    let found: Vec<_> = found.into_iter().map(|(group, _)| group.display().to_string()).collect();
    assert_eq!(found, ["/more/x/y", "/odd/web", "/odd"], "what is above a group that stays stays");
    assert_eq!(unknown, [PathBuf::from("/more/x")]);
    scope.containers[0].witnesses = Default::default();
    let above = Above::of(&View::new(&host, None), &scope);
    assert!(above.unknown.is_empty(), "a hint proves nothing, and what is not proven is told elsewhere");
    scope.containers[0] = crate::fixture::scope_of(&["c1"]).containers.remove(0);
    scope.containers[0].cgroups = vec!["/user.slice/session-7.scope".into()];
    let unknown = |scope: &Scope| Above::of(&View::new(&host, None), scope).unknown.len();
    assert_eq!(unknown(&scope), 1);
    std::fs::create_dir_all(dir.path().join("run/systemd/system")).unwrap();
    assert_eq!(unknown(&scope), 0, "systemd's own");
}

#[test]
fn a_read_only_hierarchy_is_told_and_not_left() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(dir.path().join("sys/fs/cgroup/kubepods/podA/c1")).unwrap();
    std::fs::create_dir_all(dir.path().join("proc/self")).unwrap();
    let host = crate::linux::host::Host::at(dir.path());
    let mut scope = crate::fixture::scope_of(&["c1"]);
    scope.containers[0].cgroups = vec!["/kubepods/podA/c1".into()];
    for (options, told, left) in [("ro", 1, 0), ("rw", 0, 3)] {
        let table = format!("1 0 0:1 / /sys/fs/cgroup {options},nosuid - cgroup2 c rw\n");
        std::fs::write(dir.path().join("proc/self/mountinfo"), table).unwrap();
        let view = View::new(&host, None);
        assert_eq!(read_only(&view, &scope).len(), told, "{options}");
        let events = dir.path().join("sys/fs/cgroup/kubepods/podA/c1/cgroup.events");
        std::fs::write(&events, "populated 1\n").unwrap();
        assert!(
            read_only(&View::new(&host, None), &scope).is_empty(),
            "one in which something runs is not empty"
        );
        std::fs::remove_file(events).unwrap();
        assert_eq!(find(&view, &scope).residues.len(), left, "{options}");
    }
}

#[test]
fn the_hosts_own_groups_stay() {
    assert!(names(&["/system.slice", "/user.slice"], &["/system.slice/x/c1"]).is_empty());
}
