//! Whose the traces of containers are that have ended.

use super::*;
use crate::runtime::metadata::traces::{Trace, Wanted, read};

/// As long as CRI makes them.
pub(crate) const APP: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

/// A sandbox with an application, and one of a pod of its own that has none any more.
pub(crate) fn database() -> Vec<u8> {
    let mut tree = Tree::default();
    put_sandbox(&mut tree, "pause", sandbox("pause", 1));
    put_app(&mut tree, APP, app(APP, "pause", 1));
    put_sandbox(&mut tree, "job", sandbox("job", 2));
    put_container(
        &mut tree,
        "k8s.io",
        "odd",
        Some(("io.cri-containerd.container.metadata", b"nonsense".into())),
    );
    put_container(&mut tree, "default", "by-hand", None);
    file(&tree, Order::Little)
}

#[test]
fn what_is_there_is_looked_up_by_id_and_by_pod_and_nothing_else_is_kept() {
    let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let found = |ids: &[&str], pods: &[&str]| {
        let wanted = Wanted { ids: set(ids), pods: set(pods) };
        let (found, wrong) = read(&database().as_slice(), &wanted).unwrap();
        assert!(wrong.is_none());
        found
    };
    let trace = |id: &str, sandbox: &str, pod: Option<&str>| Trace {
        id: id.into(),
        sandbox: sandbox.into(),
        pod: pod.map(Into::into),
    };
    let app = trace(APP, "pause", Some("default_web1_uid1"));
    assert_eq!(found(&[APP, "none", "by-hand"], &[]), [app], "CRI's alone");
    assert_eq!(found(&[], &["default_web2_uid2"]), [trace("job", "job", Some("default_web2_uid2"))]);
    assert_eq!(found(&["odd"], &["default_web2_uid3"]), [trace("odd", "odd", None)], "its key says it");
}
