//! How much came back: on a file system of the test's own, where nobody else writes.

use super::{says, typed};
use serde_json::{Value, json};

const FULL: &str = "dd if=/dev/zero of=$common/var/lib/containerd/image bs=1M count=3 status=none; mkdir -p $common/run/containerd;";

/// The disks that a removal tells, after these lines.
fn disks(lines: &str) -> Vec<Value> {
    let (status, text) = typed(&format!("{lines} $ST remove --yes --snap microk8s --json"));
    // 3: what somebody has mounted there himself is in doubt.
    assert!(matches!(status, 0 | 3), "{text}");
    let document: Value = serde_json::from_str(&text).unwrap();
    document.get("disks").map_or_else(Vec::new, |disks| disks.as_array().unwrap().clone())
}

fn came_back(disk: &Value) -> i64 {
    let free = |key: &str| disk[key].as_i64().unwrap();
    free("free-bytes-after") - free("free-bytes-before")
}

#[test]
fn a_removal_says_how_much_came_back_on_each_file_system() {
    let one = disks(FULL);
    assert_eq!((one.len(), &one[0]["path"]), (1, &json!("/var")), "{one:?}");
    assert!((3 << 20..4 << 20).contains(&came_back(&one[0])), "{one:?}");
    let elsewhere = "mkdir -p $common/run/containerd; mount -t tmpfs x $common/run/containerd; \
        mkdir $common/run/containerd/io.containerd.x; \
        dd if=/dev/zero of=$common/run/containerd/io.containerd.x/x bs=1M count=5 status=none;";
    let two = disks(&format!("{FULL} {elsewhere}"));
    let told: Vec<(&Value, i64)> = two.iter().map(|disk| (&disk["path"], came_back(disk) >> 20)).collect();
    let state = json!("/var/snap/microk8s/common/run/containerd");
    assert_eq!(told, [(&json!("/var"), 3), (&state, 5)]);

    let (_, text) = typed(&format!(
        "{FULL} $ST remove --yes --snap microk8s > /dev/null; COLUMNS=80 $ST report --snap microk8s"
    ));
    says(&text, "3.0 MiB came back on /var while this ran.");
}

#[test]
fn of_a_removal_that_deletes_nothing_no_disk_is_told() {
    assert_eq!(disks("rm -r $common/var;"), [] as [Value; 0]);
    let (_, text) = typed("$ST survey --snap microk8s --json; $ST verify --snap microk8s --json");
    assert!(!text.contains("free-bytes"), "{text}");
}

/// What a stricter confinement would do. It is asked twice in all, and what it does not say is no fault.
#[test]
fn a_kernel_that_refuses_to_say_what_is_free_makes_nothing_fail() {
    let removal = "$ST remove --yes --snap microk8s > /dev/null; echo $?";
    let traced = |options: &str| {
        typed(&format!("{FULL} strace -f -qq -o /run/trace -e trace=statfs {options} {removal}; grep -c '\"/var\"' /run/trace; grep -c free-bytes /run/snap.microk8s/teardown.json")).1
    };
    assert_eq!(traced("").split_whitespace().collect::<Vec<_>>(), ["0", "2", "1"]);
    let refused = traced("-e inject=statfs:error=EPERM");
    assert_eq!(refused.split_whitespace().collect::<Vec<_>>(), ["0", "1", "0"]);
}
