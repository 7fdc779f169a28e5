use crate::runtime::bundle::TASKS;
use crate::scope::tests::{CGROUPS, STAT, gathered, root_on, tree};

const ELSEWHERE: &str = "1 0 0:9 / / rw - ext4 /dev/x rw\n";

/// Doubts and what is blind, of a planted bundle whose group has a process that nobody can read, below this parent.
fn of_hidden(parent: u32, files: &[(&str, &str)]) -> (usize, usize) {
    let bundle = format!("var/snap/microk8s/common/run/containerd/{TASKS}/k8s.io/web/config.json");
    let process = |pid: u32, parent: u32| format!("{pid} {STAT}").replace("S 1", &format!("S {parent}"));
    let (hidden, above) = (process(61, parent), process(70, 1));
    let common = [
        CGROUPS,
        ("proc/self/status", "NSpid:\t9\n"),
        (&bundle, r#"{"linux":{"cgroupsPath":"/lxc/web"}}"#),
        ("sys/fs/cgroup/lxc/web/cgroup.procs", "61\n"),
        ("proc/61/stat", &hidden),
        ("proc/61/mountinfo/x", ""),
        ("proc/61/status", "NSpid:\t61\t1\n"),
        ("proc/70/stat", &above),
        ("proc/70/cmdline", ""),
        ("proc/70/status", "NSpid:\t70\n"),
        ("proc/70/mountinfo", ELSEWHERE),
    ];
    let scope = gathered(&tree(&[&common[..], files].concat()));
    (scope.doubts.len(), scope.blind.len())
}

#[test]
fn a_hidden_process_below_one_that_is_anothers_is_a_doubt_and_below_none_it_is_blind() {
    assert_eq!(of_hidden(70, &[]), (1, 0));
    assert_eq!(of_hidden(1, &[("sys/fs/cgroup/lxc/web/x/cgroup.procs", "")]).1, 1, "it was inherited");
    let unit = "sys/fs/cgroup/system.slice/snap.microk8s.daemon-containerd.service/cgroup.procs";
    let shim = "shim\0-namespace\0n\0-address\0/var/snap/microk8s/common/run/containerd.sock\0";
    for (file, text) in [
        (unit, "70\n"),
        ("proc/70/cmdline", shim),
        ("proc/70/mountinfo", &*root_on(1)),
        ("proc/70/mountinfo", "1 0 0:9 / /x rw - ext4 /dev/x rw\n"),
        ("proc/70/status", "NSpid:\t70\t9\n"),
        ("sys/fs/cgroup/lxc/web/cgroup.procs", "61\n70\n"),
    ] {
        assert_eq!(of_hidden(70, &[(file, text)]).1, 1, "{file} {text}");
    }
}

/// Doubts, blind and containers of a group with a container's name and these processes with their mount tables.
fn of_unclaimed(tables: &[&str]) -> (usize, usize, usize) {
    let mut files: Vec<(String, String)> = vec![
        (CGROUPS.0.into(), CGROUPS.1.into()),
        ("proc/self/status".into(), "NSpid:\t9\n".into()),
        (format!("sys/fs/cgroup/x/{}/cgroup.procs", "a".repeat(64)), String::new()),
    ];
    for (pid, table) in (61..).zip(tables) {
        files[2].1 += &format!("{pid}\n");
        files.extend([
            (format!("proc/{pid}/stat"), format!("{pid} {STAT}")),
            (format!("proc/{pid}/cmdline"), String::new()),
            (format!("proc/{pid}/status"), format!("NSpid:\t{pid}\t1\n")),
            (format!("proc/{pid}/mountinfo"), table.to_string()),
        ]);
    }
    let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (&**path, &**text)).collect();
    let scope = gathered(&tree(&files));
    (scope.doubts.len(), scope.blind.len(), scope.containers.len())
}

#[test]
fn an_orphan_is_told_though_its_first_process_has_another_root() {
    let (ours, changed) = (root_on(1), "1 0 0:9 / /x rw - ext4 /dev/x rw\n");
    assert_eq!(of_unclaimed(&[&ours, ELSEWHERE]), (0, 0, 1));
    assert_eq!(of_unclaimed(&[changed]), (1, 0, 0), "whatever it was");
    assert_eq!(of_unclaimed(&[ELSEWHERE, changed]), (0, 0, 0), "another's");
    assert_eq!(of_unclaimed(&[ELSEWHERE, changed, ELSEWHERE]), (0, 0, 0));
    assert_eq!(of_unclaimed(&[changed, &ours]), (0, 0, 1), "init has inherited it: it is found by itself");
}

/// Whoever has been given a group can make such groups: they hold nothing up. Where root made them, they do.
#[test]
fn a_users_group_that_cannot_be_told_is_a_doubt_and_roots_is_blind() {
    let id = "a".repeat(64);
    let delegated = "sys/fs/cgroup/user.slice/user@1000.service";
    let group = format!("{delegated}/{id}");
    // Its mount table cannot be read, as under plug set A.
    let files = [
        CGROUPS,
        ("proc/self/status", "NSpid:\t9\n"),
        (&format!("{group}/cgroup.procs"), "61\n"),
        ("proc/61/stat", &format!("61 {STAT}")),
        ("proc/61/cmdline", ""),
        ("proc/61/status", "NSpid:\t61\t1\n"),
        ("proc/61/mountinfo/x", ""),
    ];
    let mut worlds = vec![(None, 0, 1)];
    // Only root can give a directory away; the attack with many groups has a real user's.
    if nix::unistd::geteuid().is_root() {
        worlds.extend([(Some(&group[..]), 0, 1), (Some(delegated), 1, 0)]);
    }
    for (owned, doubts, blind) in worlds {
        let dir = tree(&files);
        if let Some(owned) = owned {
            std::os::unix::fs::chown(dir.path().join(owned), Some(1000), None).unwrap();
        }
        let scope = gathered(&dir);
        assert_eq!((scope.doubts.len(), scope.blind.len()), (doubts, blind), "{owned:?}: {:?}", scope.blind);
    }
}
