use super::*;
use crate::fixture::{file, scope_of};
use crate::linux::host::Host;

#[test]
fn those_above_containers_by_dockers_own_files() {
    let dir = tempfile::tempdir().unwrap();
    let host = Host::at(dir.path());
    let mut scope = scope_of(&[]);
    let data = scope.roots.mounts[0].clone();
    let at = |name: &str| format!("{}/{name}", &data.display().to_string()[1..]);
    file(dir.path(), &at("containers/a/hostconfig.json"), r#"{"CgroupParent":"/deep/er"}"#);
    assert!(gather(&View::new(&host, None), &mut scope, &[]).is_empty(), "no docker has worked there");
    file(dir.path(), &at("network/files/local-kv.db"), "");
    file(dir.path(), &at("containers/b/hostconfig.json"), r#"{"CgroupParent":""}"#);
    file(dir.path(), &at("containers/c/hostconfig.json"), r#"{"CgroupParent":"/docker"}"#);
    file(dir.path(), &at("containers/d/hostconfig.json"), "{");
    file(dir.path(), "var/snap/microk8s/common/daemon.json", r#"{"cgroup-parent":"all"}"#);
    let found = gather(&View::new(&host, None), &mut scope, &[]);
    let found: Vec<String> = found.0.keys().map(|group| group.display().to_string()).collect();
    assert_eq!(found, ["/all", "/deep", "/deep/er"]);
    assert_eq!(scope.doubts.len(), 1, "one file makes no sense");
}

#[test]
fn those_of_containerd_and_what_is_above_them_but_nobody_elses_places() {
    let dir = tempfile::tempdir().unwrap();
    let host = Host::at(dir.path());
    let mut scope = scope_of(&[]);
    let told = |group: &str| (PathBuf::from(group), PathBuf::from("/etc/c.toml"));
    scope.roots.groups =
        ["/own/group", "/system.slice/x.service/g", "/a.slice/b.service", "/kubepods"].map(told).into();
    let mut found = || gather(&View::new(&host, None), &mut scope, &[]).0.into_keys().collect::<Vec<_>>();
    let own = ["/own", "/own/group"].map(PathBuf::from);
    assert_eq!(found().iter().filter(|group| group.starts_with("/own")).count(), 2);
    file(dir.path(), "run/systemd/system/x", "");
    assert_eq!(found(), own);
}

#[test]
fn the_result_keeps_them() {
    let mut groups = ToldGroups::default();
    assert!(groups.is_empty());
    groups.0.insert("/own".into(), "a file has it".into());
    let written = serde_json::to_string(&groups).unwrap();
    assert_eq!(written, r#"["/own"]"#);
    let mut read: ToldGroups = serde_json::from_str(&written).unwrap();
    assert!(read.of(Path::new("/own")).is_some_and(|why| why.starts_with("the snap had")));
    read.0.insert("/more".into(), "x".into());
    groups.union(read);
    assert_eq!(groups.of(Path::new("/own")), Some("a file has it"));
    assert_eq!(groups.of(Path::new("/more")), Some("x"));
}
