use super::*;
use crate::fixture::{file, scope_of};
use crate::linux::host::Host;
use crate::runtime::bolt::writer::{Order, Tree, Writer, put};

#[test]
fn whose_a_snapshot_may_be() {
    let dir = tempfile::tempdir().unwrap();
    let host = Host::at(dir.path());
    let root = "/var/lib/containerd/io.containerd.snapshotter.v1.overlayfs";
    let overlay = |point: &str, layers: &str| format!("2 1 0:9 / /{point} rw - overlay o rw,{layers}\n");
    let table = [
        "1 0 8:1 / / rw - ext4 /dev/a rw\n".to_owned(),
        overlay("a", &format!("lowerdir={root}/snapshots/1/fs")),
        overlay("b", &format!("lowerdir={root}/snapshots/300/fs,upperdir=/mnt/u,workdir=/mnt/w")),
        overlay("c", "lowerdir=/mnt/snapshots/1/fs"),
        overlay("d", &format!("lowerdir={root}/snapshots/7/fs")),
        overlay("run/containerd/t", &format!("lowerdir={root}/snapshots/1/fs")),
        format!("3 1 8:1 {root}/snapshots/1/fs /e ro - ext4 /dev/a rw\n"),
        format!("3 1 8:1 {root} /f ro - ext4 /dev/a rw\n"),
        "3 1 8:1 /var/lib/containerd/x /g ro - ext4 /dev/a rw\n".to_owned(),
    ];
    file(dir.path(), "proc/self/mountinfo", table.concat());
    let mut scope = scope_of(&["a"]);
    scope.roots.root = "/var/lib/containerd".into();
    scope.roots.shared = ["/run/containerd", "/var/lib/containerd"].map(PathBuf::from).into();
    let told = |scope: &Scope| -> String {
        let view = View::new(&host, None);
        mounted(&view, scope).iter().map(|m| m.point().display().to_string()).collect()
    };
    assert_eq!(told(&scope), "/a/b/d/e/f", "no database says whose");
    let namespace = scope.containers[0].id.namespace.clone();
    let (mut tree, namespace) = (Tree::default(), namespace.as_str());
    for (name, id) in [("moby", &[1][..]), ("default", &[0xac, 2]), (namespace, &[7])] {
        put(&mut tree, &["v1", "snapshots", &format!("{name}/5/x"), "id"], id);
    }
    let mut writer = Writer::new(Order::Little, 4096);
    writer.commit(&tree);
    file(dir.path(), &format!("{}/metadata.db", &root[1..]), &writer.bytes);
    assert_eq!(told(&scope), "/b/d/f", "docker's are docker's");
    let database = format!("var/lib/containerd/{}", metadata::FILE);
    file(dir.path(), &database, "");
    let inode = std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(dir.path().join(&database)).unwrap());
    file(dir.path(), "proc/locks", format!("1: FLOCK  ADVISORY  WRITE 7 08:01:{inode} 0 EOF\n"));
    assert_eq!(told(&scope), "/d", "another works there now");
    scope.containers[0].witnesses = Default::default();
    assert_eq!(told(&scope), "", "nothing of ours has run");
}
