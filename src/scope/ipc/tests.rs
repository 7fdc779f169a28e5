use super::*;
use crate::fixture::{file, scope_of};
use crate::linux::host::Host;
use std::os::unix::fs::symlink;

const SHM: &str =
    "key shmid perms size cpid lpid nattch\n 0 1 600 9 50 50 0\n 0 2 600 9 60 50 0\n 0 3 600 9 51 51 0\n";
const MSG: &str =
    "key msqid perms cbytes qnum lspid lrpid\n 0 4 600 9 1 50 0\n 0 5 600 9 1 50 60\n 0 6 600 9 0 0 0\n";

/// The numbers of those that are ours: 50 and 51 are in a container of ours, 60 is not, and 51 is in a namespace of its own.
fn found(hidden: bool, host_ipc: bool, readable: bool) -> (Vec<i32>, usize) {
    let dir = tempfile::tempdir().unwrap();
    let put = |name: &str, text: &str| file(dir.path(), name, text);
    let tables = if readable { "proc/sysvipc" } else { "proc/sysvipc/shm/x" };
    put(&format!("{tables}/shm"), SHM);
    put(&format!("{tables}/msg"), MSG);
    put("proc/self/mountinfo", "1 0 0:5 / /cg rw - cgroup2 c rw\n");
    put("cg/c/cgroup.procs", "50\n51\n");
    let fields =
        "S 1 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 9876 11 22 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0";
    for (pid, namespace) in [("self", "ipc:[1]"), ("50", "ipc:[1]"), ("51", "ipc:[2]"), ("60", "ipc:[1]")] {
        put(&format!("proc/{pid}/stat"), &format!("{pid} (x) {fields}\n"));
        put(&format!("proc/{pid}/ns/x"), "");
        if !hidden {
            symlink(namespace, dir.path().join("proc").join(pid).join("ns/ipc")).unwrap();
        }
    }
    let mut scope = scope_of(&["c"]);
    scope.containers[0].prove_in("/c");
    scope.containers[0].host_ipc = host_ipc;
    let found = gather(&View::new(&Host::at(dir.path()), None), &mut scope);
    let id = |name: &Name| name.split(' ').nth(1).unwrap().parse().unwrap();
    let mut ids: Vec<i32> = found.iter().map(id).collect();
    ids.sort_unstable();
    (ids, scope.doubts.len())
}

#[test]
fn ours_is_what_processes_of_ours_alone_are_named_with() {
    assert_eq!(found(false, false, true), (vec![1, 4], 0));
    assert_eq!(found(true, true, true), (vec![1, 3, 4], 0), "a bundle says that they are in the host's");
    assert_eq!(found(true, false, true), (vec![], 0));
}

#[test]
fn a_name_leads_to_its_process() {
    let object = |table, id| Object { table, id, pids: vec![], bytes: 0, attached: 0 };
    let process = ProcessId { pid: 7, start: 9 };
    let names = BTreeSet::from([name(&object("sem", 3), process), "sem".into()]);
    assert_eq!(processes_of(&names), HashMap::from([(("sem", 3), process)]));
}

#[test]
fn tables_that_cannot_be_read_are_blind_where_a_pod_has_the_hosts_namespace() {
    assert_eq!([false, true].map(|host_ipc| found(false, host_ipc, false).1), [0, 1]);
}
