//! What a survey says of a snap that is still there, and what stands in its way.

use serde_json::Value;

use super::{says, typed};

#[test]
fn a_disk_of_the_administrators_below_the_data_is_announced() {
    let mounted = "mkdir /run/disk; mount --bind /run/disk $common/default-storage;";
    for command in ["survey", "remove --yes", "verify"] {
        let (_, text) = typed(&format!(
            "{mounted} COLUMNS=200 $ST {command} --snap microk8s; mountpoint $common/default-storage"
        ));
        says(&text, "umount /var/snap/microk8s/common/default-storage");
        says(&text, "is a mountpoint");
        assert!(!text.contains("Nothing was seen that would stand"), "{text}");
    }
    let (_, text) = typed("$ST survey --snap microk8s");
    says(&text, "Nothing was seen that would stand in the way");
}

#[test]
fn a_disk_at_the_snaps_own_directory_is_announced_and_counted() {
    let mounted = "mount -t tmpfs disk $common; mkdir -p $common/default-storage; \
        dd if=/dev/zero of=$common/default-storage/claim bs=1M count=3 status=none; cp $common/default-storage/claim $common/own;";
    let (_, text) = typed(&format!("{mounted} COLUMNS=200 $ST survey --snap microk8s"));
    says(&text, "with the snap: volumes 3.0 MiB, other data 3.0 MiB");
    says(&text, "and then fail): umount /var/snap/microk8s/common");
    says(
        &text,
        "it can be unmounted once 'snap disable' and then 'snap-teardown remove' have ended what uses it",
    );
    assert!(!text.contains("Nothing was seen"), "{text}");
    let (_, json) = typed(&format!("{mounted} $ST survey --snap microk8s --json"));
    let document: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(document["needs"], serde_json::json!({"what": "human", "because": ["on-host"]}));
    assert_eq!(document["advice"][0]["points"][0], "/var/snap/microk8s/common");
    // What is there to delete is deleted, and the disk stays: it is no leftover.
    let (status, text) = typed(&format!("{mounted} $ST remove --yes --snap microk8s; ls $common"));
    assert!(status == 0 && text.contains("clean") && text.contains("default-storage"), "{text}");
}

/// Mounts a file system there whose server takes requests, and answers none.
const SILENT: &str = "mkdir -p $at; python3 -c '
import ctypes, os, sys, time
fd = os.open(\"/dev/fuse\", os.O_RDWR)
options = \"fd=%d,rootmode=40000,user_id=0,group_id=0\" % fd
if ctypes.CDLL(None, use_errno=True).mount(b\"silent\", sys.argv[1].encode(), b\"fuse\", 0, options.encode()):
    sys.exit(os.strerror(ctypes.get_errno()))
open(\"/run/mounted\", \"w\")
time.sleep(100)
' $at & server=$!; until [ -e /run/mounted ] || ! kill -0 $server; do sleep 0.05; done;";

#[test]
fn a_mount_that_does_not_answer_is_named_with_what_to_type() {
    let at = "at=$common/var/lib/kubelet;";
    let (_, text) = typed(&format!("{at} {SILENT} COLUMNS=200 $ST survey --snap microk8s; kill $server"));
    says(&text, "first a mount does not answer: bring its server back");
    says(&text, "yet: umount -f -l /var/snap/microk8s/common/var/lib/kubelet");
    assert!(!text.contains("Nothing was seen"), "{text}");
}

#[test]
fn a_survey_is_no_failed_removal_and_begins_and_ends_with_what_was_asked() {
    let full = "dd if=/dev/zero of=$common/var/lib/containerd/image bs=1M count=3 status=none; \
        snapshot=$common/var/lib/containerd/io.containerd.snapshotter.v1.overlayfs/snapshots/1; mkdir -p $snapshot; \
        cp $common/var/lib/containerd/image $snapshot; ln $snapshot/image $common/var/lib/containerd/again; \
        cp $common/var/lib/containerd/image $common/default-storage/claim;";
    let (status, text) = typed(&format!("{full} COLUMNS=80 $ST survey --snap microk8s"));
    assert_eq!(status, 1, "{text}");
    says(&text, "snap \"microk8s\": a removal would end or remove 1 thing; 0 places could not be looked at");
    let (head, _) = text.split_once("\n\n").unwrap();
    assert!(head.lines().count() <= 10, "{head}");
    let order = [
        "\n  ends   no container runs",
        "\n  lost   images 6.0 MiB; ",
        "\n  stays  ",
        "\n  first  Nothing was seen",
    ];
    let places: Vec<Option<usize>> = order.iter().map(|words| head.find(words)).collect();
    assert!(places.is_sorted() && !places.contains(&None), "{places:?} {head}");
    // A file of two names is counted where it is met first.
    let lost = "with the snap: volumes 3.0 MiB";
    says(head, lost);
    assert!(!text.contains("leftover"), "{text}");
    let (_, json) = typed(&format!("{full} $ST survey --snap microk8s --json"));
    let document: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(document["needs"]["what"], "none");
    let left = document["steps"].as_array().unwrap().iter().flat_map(|s| s["left"].as_array().unwrap());
    assert!(
        left.into_iter().all(|left| left["reason"] == "survey" && left["why"] == "a survey removes nothing"),
        "{json}"
    );
    let volumes = &document["sizes"][0];
    assert!(
        volumes["what"] == "volumes" && volumes["bytes"] == 3 << 20 && volumes["more"] == false,
        "{volumes}"
    );
    let last = &text[text.rfind("in short").unwrap()..];
    says(last, "lost images 6.0 MiB; with the snap: volumes 3.0 MiB");
    assert!(!last.contains("at the top"), "{last}");
}

#[test]
fn what_stands_in_the_way_is_said_first_with_what_to_type() {
    // A name that ends in a quote is the name of another directory without it.
    let quote = r#"mkdir "$common/x'"; mount -t tmpfs x "$common/x'";"#;
    let ways = "mkdir -p /snap/microk8s_a /snap/microk8s-x /var/disk $common/../7/var/lock; mount --bind /var/disk $common/default-storage; \
        dd if=/dev/zero of=/var/disk/theirs bs=1M count=3 status=none; touch $common/../7/var/lock/clustered.lock;";
    let (_, text) = typed(&format!("{ways} {quote} COLUMNS=80 $ST survey --snap microk8s"));
    let (head, rest) = text.split_once("\n\n").unwrap();
    let first = &head[head.find("\n  first  ").unwrap()..];
    assert!(first.contains("\n           umount /var/snap/microk8s/common/default-storage\n"), "{head}");
    says(first, "'microk8s leave'");
    says(first, r"umount '/var/snap/microk8s/common/x'\'''");
    says(head, "other instances: microk8s_a");
    assert!(!rest.contains("'microk8s leave'") && !text.contains("Nothing was seen"), "{text}");
    assert!(!head.contains("volumes"), "a disk of his own is no data of the snap's: {head}");
    says(&text[text.rfind("in short").unwrap()..], "Before that: what stands at the top, after 'first'.");
}

#[test]
fn what_is_many_is_folded_and_all_of_it_is_shown_where_that_is_asked_for() {
    let mounts = "for n in $(seq 12); do d=$common/var/lib/kubelet/pods/u/volumes/v$n; mkdir -p $d; mount -t tmpfs x $d; done;";
    let shown = |text: &str| (1..=12).filter(|n| text.contains(&format!("/volumes/v{n} "))).count();
    let (_, text) = typed(&format!("{mounts} COLUMNS=200 $ST survey --snap microk8s"));
    says(&text, "… and 4 more (all of them: --all)");
    assert_eq!(shown(&text), 8, "{text}");
    let (_, text) = typed(&format!("{mounts} COLUMNS=200 $ST survey --snap microk8s --all"));
    assert!(shown(&text) == 12 && !text.contains("more (all"), "{text}");
    let (status, text) = typed("$ST remove --all --yes --snap microk8s");
    assert_eq!(status, 2, "{text}");
}
