use super::*;
use crate::fixture::{file, scope_of};
use crate::linux::host::Host;
use crate::scope::tests::STAT;

#[test]
fn by_a_bundle_in_dockers_data_that_are_the_snaps() {
    let dir = tempfile::tempdir().unwrap();
    let host = Host::at(dir.path());
    let mut scope = scope_of(&["lives"]);
    let data = scope.roots.mounts[0].display().to_string();
    let state = |id: &str, bundle: &str, init: i32| {
        let text = format!(
            r#"{{"init_process_pid":{init},"init_process_start":1,"config":{{"labels":["bundle={bundle}"]}}}}"#
        );
        file(dir.path(), &format!("run/runc/{id}/state.json"), text);
    };
    state("ours", &format!("{data}/buildkit/executor/ours"), 9);
    state("lives", &format!("{data}/buildkit/executor/lives"), 50);
    state("nobodys", &format!("{data}/buildkit/executor/nobodys"), 50);
    state("else", &format!("{data}/buildkit/executor/ours"), 9);
    state("another", "/var/lib/docker/buildkit/executor/another", 9);
    file(dir.path(), "run/runc/odd/state.json", "{");
    file(dir.path(), "proc/50/stat", format!("50 {STAT}"));
    let start = crate::view::View::new(&host, None);
    let start = start.processes().as_ref().unwrap().get(50).unwrap().id.start;
    for id in ["lives", "nobodys"] {
        let path = dir.path().join(format!("run/runc/{id}/state.json"));
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, text.replace("start\":1", &format!("start\":{start}"))).unwrap();
    }
    let gather = |scope: &mut Scope, sibling| {
        let found = gather(&View::new(&host, None), scope, sibling);
        let found: Vec<String> = found.keys().map(|path| path.display().to_string()).collect();
        (found, std::mem::take(&mut scope.doubts).into_iter().map(|blind| blind.what).collect::<Vec<_>>())
    };
    assert_eq!(gather(&mut scope, None), (vec![], vec![]), "no docker has worked there");
    file(dir.path(), &format!("{}/network/files/local-kv.db", &data[1..]), "");
    let (ours, told) = gather(&mut scope, None);
    assert_eq!(ours, ["/run/runc/lives", "/run/runc/ours"]);
    assert_eq!(told, ["/run/runc/nobodys"]);
    let (ours, told) = gather(&mut scope, Some("microk8s_b"));
    assert!(ours.is_empty() && told.len() == 3, "{told:?}");
}
