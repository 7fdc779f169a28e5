//! The playbook for fleets, played against a snap that is none.

use super::*;

/// Plays the playbook under the real Ansible on one machine, this one, with a `snap` that does this and no more; between
/// lines of shell. Says last how `snap` was called.
fn play(before: &str, snap_removes: &str, more: &str, after: &str) -> (i32, String) {
    let playbook = root().join("snap/local/fleet.yaml").display().to_string();
    let scratch = tempfile::tempdir().unwrap();
    let inventory =
        "here ansible_connection=local ansible_become=false ansible_python_interpreter=/usr/bin/python3";
    let script = format!(
        "export HOME=/run ANSIBLE_LOCALHOST_WARNING=false; echo '{inventory}' > machines; touch /run/called; {before} \
         printf '#!/bin/sh\necho snap \"$@\" >> /run/called\n{snap_removes}\n' > /run/bin/snap; chmod +x /run/bin/snap; \
         play() {{ ansible-playbook -i machines {playbook} -e snap=microk8s -e program=/run/bin/snap-teardown \
             -e copy=/run/copy -e profile_copy=/run/copy.json {more}; }}; \
         set +e; play; status=$?; {after} cat /run/called; exit $status"
    );
    runs(&script, scratch.path())
}

const REMOVES: &str = "exec snap-teardown remove --snap microk8s";

#[test]
fn the_playbook_removes_proves_and_fails_where_nothing_is_proven() {
    let again = "rm /run/bin/snap-teardown; play; status=$?;";
    let (status, output) = play("", REMOVES, "", again);
    assert!(status == 0 && output.ends_with("\nsnap remove microk8s\n"), "{output}");
    let (status, output) = play("", REMOVES, "-e purge=yes", "");
    assert!(status == 0 && output.ends_with("\nsnap remove --purge microk8s\n"), "{output}");
    // What is known of the snap's containers only by their IDs cannot have been looked for.
    let (status, output) = play("", "exit 0", "", "");
    assert_ne!(status, 0, "{output}");
    assert!(output.contains("\"rc\": 3"), "{output}");
}

#[test]
fn the_playbook_keeps_the_profile_of_a_snap_that_ships_one() {
    let built_in = root().join("src/snap/profile/microk8s.json");
    let ships = format!("sed s/microk8s/own-snap/ '{}' > /run/own.json;", built_in.display());
    let removes = "snap-teardown remove --snap own-snap --profile /run/own.json && rm /run/own.json";
    let (status, output) = play(&ships, removes, "-e snap=own-snap -e profile=/run/own.json", "");
    assert!(status == 0 && output.ends_with("\nsnap remove own-snap\n"), "{output}");
}

#[test]
fn the_playbook_stops_where_something_stands_in_the_way() {
    let disk = "mkdir -p /var/snap/microk8s/common/disk; mkdir /run/disk; mount --bind /run/disk /var/snap/microk8s/common/disk;";
    let (status, output) = play(disk, REMOVES, "", "");
    assert!(status != 0 && output.contains("/var/snap/microk8s/common/disk"), "{output}");
    assert!(!output.contains("snap remove microk8s"), "{output}");
    let (_, output) = play(disk, REMOVES, "-e anyway=yes", "");
    assert!(output.ends_with("\nsnap remove microk8s\n"), "{output}");
}
