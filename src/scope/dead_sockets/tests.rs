use super::*;
use crate::fixture::{file, scope_of};
use crate::linux::host::Host;
use crate::runtime::metadata::tests::traces::{APP, database};

const ROOT: &str = "var/snap/microk8s/common/var/lib/containerd";

/// Which of these sockets are called after containers of ours.
fn found(write: impl Fn(&Path), foreign: &str) -> (Vec<&'static str>, usize) {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path());
    let mut scope = scope_of(&["known"]);
    let address = scope.inside.address.clone();
    let elsewhere = Path::new("/run/other.sock");
    let named =
        |of: &dyn Fn(&Path, &Path, &str, &str) -> std::path::PathBuf, address: &Path, namespace, id| {
            name_of(&of(Path::new("/"), address, namespace, id)).unwrap().to_owned()
        };
    let made = [
        ("pause", named(&shim::socket, &address, "k8s.io", "pause")),
        ("debug", named(&shim::debug_socket, &address, "k8s.io", "pause")),
        ("by-hand", named(&shim::socket, &address, "default", "by-hand")),
        ("kept", named(&shim::socket, &address, "k8s.io", "kept")),
        ("known", named(&shim::socket, &address, "k8s.io", "known")),
        ("another's", named(&shim::socket, elsewhere, "k8s.io", "pause")),
        ("nobody's", "0".repeat(64)),
        ("no hash", "0123".into()),
    ];
    made.iter().for_each(|(_, name)| file(dir.path(), &format!("run/containerd/s/{name}"), ""));
    let foreign = HashSet::from([foreign.into()]);
    let found = gather(&View::new(&Host::at(dir.path()), None), &mut scope, &foreign);
    let of = |name: &Name| made.iter().find(|(_, made)| *made == *name.as_str()).map(|(what, _)| *what);
    let mut found: Vec<_> = found.iter().filter_map(of).collect();
    found.sort_unstable();
    (found, scope.doubts.len())
}

#[test]
fn a_name_that_no_id_of_ours_leads_to_is_anothers() {
    let write = |dir: &Path| {
        file(dir, &format!("{ROOT}/{}", metadata::FILE), database());
        file(dir, &format!("{ROOT}/{}/kept/x", CRI[1]), "");
    };
    // A part of that database makes no sense.
    assert_eq!(found(write, APP), (vec!["by-hand", "debug", "kept", "pause"], 1));
    assert_eq!(found(write, "pause"), (vec!["by-hand", "kept"], 1), "somebody else has the ID");
    assert_eq!(found(|_| {}, "").0, Vec::<&str>::new());
}

#[test]
fn a_database_that_cannot_be_read_is_told_where_nothing_else_tells() {
    let damaged = |dir: &Path| file(dir, &format!("{ROOT}/{}", metadata::FILE), "nonsense");
    assert_eq!(found(damaged, ""), (vec![], 1));
    let partly = |dir: &Path| {
        damaged(dir);
        file(dir, &format!("{ROOT}/{}/kept/x", CRI[1]), "");
    };
    assert_eq!(found(partly, ""), (vec!["kept"], 1), "what lies beside it names one of several");
}

#[test]
fn a_directory_that_cannot_be_listed_is_told_where_ours_have_run() {
    let dir = tempfile::tempdir().unwrap();
    let host = Host::at(dir.path());
    let told = |scope: &mut Scope| {
        gather(&View::new(&host, None), scope, &HashSet::new());
        scope.doubts.len()
    };
    assert_eq!(told(&mut scope_of(&["a"])), 0, "there is none");
    file(dir.path(), "run/containerd/s", "no directory");
    assert_eq!(told(&mut scope_of(&["a"])), 1);
    assert_eq!(told(&mut scope_of(&[])), 0, "nothing of ours has run");
}
