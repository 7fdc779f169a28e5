//! Says what is wrong with a profile, and shows the line.

use std::path::Path;

use crate::error::{Error, Position, Result};
use crate::linux::host::Host;
use crate::snap::profile::{Profile, is_shared};
use crate::text;

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
        (
            [&profile.containerd.state, &profile.containerd.root]
                .iter()
                .any(|root| is_shared(Path::new(root))),
            "containerd's state or root is shared with other containerds (below /run/containerd or /var/lib/containerd): without its shims, what is the snap's there cannot be told and stays",
        ),
        (profile.data.is_empty(), "no data: images stay, and go into the snapshot that 'snap remove' takes"),
    ];
    all.into_iter().filter(|(there, _)| *there).map(|(_, remark)| remark).collect()
}

/// Of a line that is longer than this, only what is around the mistake is shown.
const MAX_WIDTH: usize = 100;

/// Adds the line in which the mistake is, with a mark below the place.
fn with_line(error: Error, bytes: &[u8]) -> Error {
    let Error::Profile { from, position, reason } = error else { return error };
    let shown = position.and_then(|at| excerpt(bytes, at)).unwrap_or_default();
    Error::Profile { from, position, reason: reason + &shown }
}

fn excerpt(bytes: &[u8], Position { line, column }: Position) -> Option<String> {
    let text = bytes.split(|b| *b == b'\n').nth(line.checked_sub(1)?)?;
    let column = column.saturating_sub(1).min(text.len());
    let start = if text.len() > MAX_WIDTH { column.saturating_sub(MAX_WIDTH / 2) } else { 0 };
    let end = text.len().min(start + MAX_WIDTH);
    let left = if start > 0 { "… " } else { "" };
    let right = if end < text.len() { " …" } else { "" };
    let before = format!("  {line:>3} | {left}{}", text::escape(&text[start..column]));
    let mark = " ".repeat(before.chars().count());
    Some(format!("\n{before}{}{right}\n{mark}^", text::escape(&text[column..end])))
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
        let (_, mark) = error.split_once("\n    7 | ").unwrap();
        assert_eq!(mark, "    \"root\": \"/root\"\n                    ^");
        let error = checked("{").unwrap_err();
        assert!(error.contains("\n    1 | {"), "{error}");
    }

    #[test]
    fn a_long_line_is_shown_around_the_mistake() {
        let one_line = SMALL.replace('\n', " ").replace("$SNAP_COMMON/root", "/root");
        let error = checked(&one_line).unwrap_err();
        assert!(error.contains("1 | … ") && error.contains("\"root\": \"/root\""), "{error}");
        let error = checked(&"\0".repeat(3_000_000)).unwrap_err();
        assert!(error.len() < 1000, "{} characters", error.len());
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
