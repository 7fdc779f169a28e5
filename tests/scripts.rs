//! The user's own scripts, through the program: run first, bounded, reported, never fatal; and not run unless the
//! profile asks for it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use serde_json::{Value, json};

/// Removes a snap "own-snap" that has nothing but scripts, in namespaces of its own, and returns the report and
/// what the scripts wrote.
fn remove(profile: &str) -> (Value, String) {
    let script = "mount -t tmpfs tmpfs /run; mount -t tmpfs tmpfs /var; \
        common=/var/snap/own-snap/common; mkdir -p $common/hooks/remove.d $common/data; cd $common/hooks/remove.d; \
        printf '#!/bin/sh\\necho first: $SNAP_NAME $SECRET $(ls /var/snap/own-snap/common) >> /run/wrote\\n' > 10-first; \
        printf '#!/bin/sh\\necho fails >> /run/wrote\\nexit 3\\n' > 20-fails; \
        printf '#!/bin/sh\\nexec sleep 600\\n' > 30-hangs; \
        chmod 755 10-first 20-fails 30-hangs; echo 'exit 1' > README; \
        echo \"$PROFILE\" > /run/profile.json; \
        SECRET=x SNAP_NAME=own-snap \"$PROGRAM\" remove --snap own-snap --profile /run/profile.json --json; \
        echo; echo wrote:; cat /run/wrote 2>/dev/null || true; ls $common";
    let output = support::alone(script)
        .env("PROFILE", profile)
        .env("PROGRAM", env!("CARGO_BIN_EXE_snap-teardown"))
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}\n{error}");
    let (report, wrote) = text.split_once("\nwrote:\n").unwrap();
    (serde_json::from_str(report.trim()).unwrap(), wrote.to_owned())
}

fn profile(hooks: Option<&str>) -> String {
    let mut profile = json!({
        "schema": 1,
        "snap": "own-snap",
        "containerd": {
            "address": "$SNAP_COMMON/c.sock", "state": "$SNAP_COMMON/state", "root": "$SNAP_COMMON/root",
        },
        "data": ["$SNAP_COMMON/data"],
        "patience": {"drain": 1, "deadline": 12},
    });
    if let Some(hooks) = hooks {
        profile["hooks"] = hooks.into();
    }
    profile.to_string()
}

#[test]
fn they_are_run_first_and_what_they_do_stops_nothing() {
    let (report, wrote) = remove(&profile(Some("$SNAP_COMMON/hooks/remove.d")));
    assert!(wrote.starts_with("first: own-snap data hooks\nfails\n"), "{wrote}");
    assert!(wrote.ends_with("\nhooks\n"), "the data is still there: {wrote}");
    assert_eq!((&report["outcome"], &report["exit-status"]), (&json!("clean"), &json!(0)), "{report:#}");
    let ends: Vec<_> = report["hooks"].as_array().unwrap().iter().map(|h| (&h["name"], &h["end"])).collect();
    assert_eq!(
        ends,
        [
            (&json!("10-first"), &json!({"exited": 0})),
            (&json!("20-fails"), &json!({"exited": 3})),
            (&json!("30-hangs"), &json!("took-too-long")),
        ]
    );
    let took = report["elapsed-ms"].as_u64().unwrap();
    assert!((3000..12_000).contains(&took), "a third of the deadline is 4 s, all of it took {took} ms");
}

#[test]
fn none_is_run_unless_the_profile_says_so() {
    let (report, wrote) = remove(&profile(None));
    assert_eq!(wrote, "hooks\n");
    assert_eq!(report.get("hooks"), None, "{report:#}");
}
