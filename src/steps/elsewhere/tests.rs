use super::*;
use crate::fixture::{file, scope_of};
use crate::linux::host::Host;

#[test]
fn what_the_kernel_serves_of_ours_is_told_and_no_others() {
    let dir = tempfile::tempdir().unwrap();
    let common = "/var/snap/microk8s/common";
    let core = "sys/kernel/config/target/core/fileio_0";
    let info = |path: &str| format!("TCM FILEIO ID: 0        File: {path}  Size: 8  Mode: O_DSYNC\n");
    file(dir.path(), &format!("{core}/ours/info"), info(&format!("{common}/a disk")));
    file(dir.path(), &format!("{core}/others/info"), info("/srv/disk"));
    let spaces = "sys/kernel/config/nvmet/subsystems/nqn/namespaces";
    file(dir.path(), &format!("{spaces}/1/device_path"), format!("{common}/disk\n"));
    file(dir.path(), &format!("{spaces}/2/device_path"), "/dev/sda\n");
    let exported = format!("# Version 1.1\n/srv\t*(rw)\n{common}/a\\040b\t10.0.0.1(rw)\n");
    file(dir.path(), "proc/fs/nfsd/exports", &exported);
    let host = Host::at(dir.path());
    let view = View::new(&host, None);
    let mut told: Vec<String> = find(&view, &scope_of(&[])).into_iter().map(|blind| blind.what).collect();
    told.sort();
    let expected = [
        format!("the export of {common}/a b"),
        format!("the target /{spaces}/1"),
        format!("the target /{core}/ours"),
    ];
    let mut expected = expected.to_vec();
    expected.sort();
    assert_eq!(told, expected);
}
