//! Says what is wrong with a profile, and shows the line.

use std::path::Path;

use snap_teardown::error::{Error, Result};
use snap_teardown::host::Host;
use snap_teardown::profile::Profile;
use snap_teardown::text;

/// Checks a profile file. Returns what to print when it is valid.
pub fn check(file: &Path) -> Result<String> {
    let host = Host::live();
    let bytes = host.read(file)?;
    let from = format!("'{}'", text::show(file));
    let profile = Profile::parse(&bytes, &from).map_err(|error| with_line(error, &bytes))?;
    let mut said = format!("{}: a valid profile for snap '{}'\n", text::show(file), profile.snap);
    for remark in remarks(&profile) {
        said.push_str(&format!("  note: {remark}\n"));
    }
    Ok(said)
}

/// What is allowed and may still be an oversight.
fn remarks(profile: &Profile) -> Vec<&'static str> {
    let all = [
        (
            profile.services.runtime.is_none(),
            "no services.runtime: where signals, shims and control groups are all refused, nothing can end the containers",
        ),
        (
            profile.kubelet.is_some() && profile.services.supervisors.is_empty(),
            "a kubelet and no services.supervisors: if it still runs, it starts again what is ended",
        ),
        (profile.data.is_empty(), "no data: images stay, and go into the snapshot that 'snap remove' takes"),
    ];
    all.into_iter().filter(|(there, _)| *there).map(|(_, remark)| remark).collect()
}

/// Adds the line that a reason names.
fn with_line(error: Error, bytes: &[u8]) -> Error {
    let Error::Profile { from, reason } = error else { return error };
    let number = reason.split("line ").nth(1).and_then(|rest| {
        rest.split(|c: char| !c.is_ascii_digit()).next().and_then(|n| n.parse::<usize>().ok())
    });
    let text = String::from_utf8_lossy(bytes);
    let line = number.and_then(|n| Some((n, text.lines().nth(n.checked_sub(1)?)?)));
    let reason = match line {
        Some((n, line)) => format!("{reason}\n  {n:>3} | {}", text::escape(line.as_bytes())),
        None => reason,
    };
    Error::Profile { from, reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(text: &str) -> std::result::Result<String, String> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("teardown.json");
        std::fs::write(&file, text).unwrap();
        check(&file).map_err(|e| e.to_string())
    }

    const SMALL: &str = r#"{
  "schema": 1,
  "snap": "own",
  "containerd": {
    "address": "$SNAP_COMMON/c.sock",
    "state": "$SNAP_COMMON/state",
    "root": "$SNAP_COMMON/root"
  }
}
"#;

    #[test]
    fn a_mistake_is_shown_with_its_line() {
        let error = checked(&SMALL.replace("\"state\"", "\"stat\"")).unwrap_err();
        assert!(
            error.contains("unknown field `stat`") && error.contains("\n    6 |     \"stat\""),
            "{error}"
        );
        let error = checked(&SMALL.replace("$SNAP_COMMON/root", "/root")).unwrap_err();
        assert!(error.contains("\n    7 |     \"root\": \"/root\""), "{error}");
        let error = checked("{").unwrap_err();
        assert!(error.contains("\n    1 | {"), "{error}");
    }

    #[test]
    fn a_valid_one_gets_remarks() {
        let said = checked(SMALL).unwrap();
        assert!(
            said.contains("a valid profile for snap 'own'\n") && said.contains("note: no data"),
            "{said}"
        );
    }
}
