//! Says what is wrong with a profile, and shows the line.

use std::path::{Path, PathBuf};

use crate::cli::arguments::near;
use crate::cli::mistakes;
use crate::error::{Error, Position, Result};
use crate::linux::host::{Host, STANDARD_INPUT, read_input};
use crate::snap::Snap;
use crate::snap::profile::{Profile, Roots, is_shared, place};
use crate::text;

/// Checks a profile file; None is standard input. Returns what to print when it is valid.
pub fn check(file: Option<&Path>) -> Result<String> {
    const LARGEST: u64 = 4 << 20;
    let (bytes, name) = match file {
        None => (read_input(LARGEST)?, STANDARD_INPUT.into()),
        Some(file) => (Profile::bytes(&Host::live(), file)?, text::show(file)),
    };
    let profile = Profile::parse(&bytes, &format!("'{name}'")).map_err(|error| with_all(error, &bytes))?;
    let mut said = format!("{name}: a valid profile for snap '{}'\n", profile.snap);
    for remark in remarks(&profile) {
        said.push_str(&format!("  note: {remark}\n"));
    }
    Ok(said)
}

/// True if what is deleted with all it holds would take more with it than the runtime's own.
fn holds_more(roots: &Roots, data: &Path) -> bool {
    let around = |root: &&PathBuf| root.starts_with(data);
    let of_pods =
        data.components().any(|c| matches!(c.as_os_str().to_str(), Some("kubelet" | "pods" | "volumes")));
    let users = roots.kubelet.iter().chain(&roots.volumes);
    of_pods
        || users.into_iter().any(|root| around(&root) || data.starts_with(root))
        || [&roots.root, &roots.state].iter().any(|root| around(root) && data != root.as_path())
}

/// What is allowed and may still be an oversight.
fn remarks(profile: &Profile) -> Vec<&'static str> {
    // However each of them is spelled.
    let roots = profile.resolve(&Snap::stand_in(&profile.snap)).unwrap_or_default();
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
        (
            roots.data.iter().any(|data| holds_more(&roots, data)),
            "data names a directory that holds more than containerd's own things, such as volumes: all of it would be deleted for good",
        ),
        (
            profile.network.links.iter().any(|link| link.contains(['*', '?', '['])),
            "network.links are whole names: '*', '?' and '[' stand for themselves. Links of single pods are found without a name",
        ),
        (profile.data.is_empty(), "no data: images stay, and go into the snapshot that 'snap remove' takes"),
    ];
    all.into_iter().filter(|(there, _)| *there).map(|(_, remark)| remark).collect()
}

/// Of a line that is longer than this, only what is around the mistake is shown.
const MAX_WIDTH: usize = 100;

/// The first mistake with its line, and then all others that are there.
fn with_all(error: Error, bytes: &[u8]) -> Error {
    let (others, more) = mistakes::others(bytes, &error);
    let error = with_line(error, bytes);
    let Error::Profile { from, position, mut reason } = error else { return error };
    for mistake in others {
        let said = in_words(&mistake.reason, &mistake.text, mistake.place).unwrap_or(mistake.reason);
        let shown = mistake.position.and_then(|at| excerpt(bytes, at)).unwrap_or_default();
        let place = mistake.position.map(|at| format!("line {}, column {}: ", at.line, at.column));
        reason.push_str(&format!("\n  {}{said}{shown}", place.unwrap_or_default()));
    }
    if more {
        reason.push_str("\n  … and perhaps more: check again when these are mended");
    }
    Error::Profile { from, position, reason }
}

/// Adds the line in which the mistake is, with a mark below the place.
fn with_line(error: Error, bytes: &[u8]) -> Error {
    let Error::Profile { from, position, reason } = error else { return error };
    let shown = position.and_then(|at| excerpt(bytes, at)).unwrap_or_default();
    let reason = in_words(&reason, bytes, position).unwrap_or(reason);
    Error::Profile { from, position, reason: reason + &shown }
}

/// The usual mistakes by their names, where the parser only says what it does not understand.
fn in_words(reason: &str, bytes: &[u8], position: Option<Position>) -> Option<String> {
    let at = position?;
    if bytes.starts_with(b"\xef\xbb\xbf") {
        return Some("the file begins with a byte order mark; save it as UTF-8 without one".into());
    }
    if bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff") {
        return Some("the file is UTF-16; save it as UTF-8".into());
    }
    if matches!(
        reason,
        "key must be a string" | "expected value" | "trailing characters" | "expected `,` or `}`"
    ) {
        let line = bytes.split(|b| *b == b'\n').nth(at.line.checked_sub(1)?)?;
        return match line.get(at.column.checked_sub(1)?)? {
            b'/' | b'#' => Some("JSON has no comments".into()),
            b'\'' => Some("JSON has no single quotes; write \"".into()),
            _ => None,
        };
    }
    let (what, known) = reason.split_once(", expected ").unwrap_or((reason, ""));
    let unknown = mistakes::named(what, "unknown");
    unknown.or_else(|| mistakes::named(what, "missing"))?;
    let key = place::open_at(bytes, &at).map(|key| key + ": ").unwrap_or_default();
    let known: Vec<&str> = known.split('`').skip(1).step_by(2).collect();
    let meant = unknown.map(|name| near(&name.replace('_', "-").to_lowercase(), &known)).unwrap_or_default();
    let known = if known.is_empty() { String::new() } else { format!(" (known here: {})", known.join(", ")) };
    Some(format!("{key}{what}{meant}{known}"))
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
        check(Some(&file)).map_err(|e| e.to_string())
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
    fn all_mistakes_are_told_in_one_run_in_the_files_order() {
        let text = r#"{
  "schema": 1,
  "snap": 7,
  "containerd": {"address": "/run/x.sock", "sock": "x", "state": "a//b", "root": ["/y"]},
  "kubelet": {"rot": "/x"},
  "patience": {"drain": -3, "deadline": 100000},
  "host_symlinks": [],
  "data": [3, "/etc", "$SNAP_COMMON/x", "/usr"]
}
"#;
        let error = checked(text).unwrap_err();
        let mut rest = error.as_str();
        for mistake in [
            "line 3, column 11: snap: integer `7`",
            "line 4, column 29: containerd.address: \"/run/x.sock\" is neither",
            "column 52: containerd: unknown field `sock` (known here: ",
            "column 66: containerd.state: ",
            "column 82: containerd.root: a list, where a string is expected",
            "line 5, column 14: kubelet: missing field `root`",
            "line 5, column 22: kubelet: unknown field `rot`; did you mean 'root'?",
            "line 6, column 25: patience.drain: ",
            "line 6, column 41: patience.deadline: 100000 is not between",
            "line 7, column 20: unknown field `host_symlinks`; did you mean 'host-symlinks'?",
            "line 8, column 12: data[0]: integer `3`",
            "data[1]: \"/etc\"",
            "data[3]: \"/usr\"",
        ] {
            let at = rest.find(mistake).unwrap_or_else(|| panic!("{mistake} is not in {rest} of\n{error}"));
            rest = &rest[at + mistake.len()..];
        }
        assert!(!rest.contains("column"), "{rest}");
        // What comes after a value that was put right is told of the file, not of the copy.
        assert!(!error.contains("microk8s"), "{error}");
    }

    #[test]
    fn however_many_mistakes_there_are_twenty_are_told() {
        let many = SMALL.replace("\"own\",", &format!("\"own\", \"data\": [{}1],", "2,".repeat(5000)));
        let error = checked(&many).unwrap_err();
        assert!(error.matches(": integer `").count() == 21 && error.contains("perhaps more"), "{error}");
        let deep = format!("{}{}", "{\"kubelet\":".repeat(120), "}".repeat(120));
        assert!(checked(&deep).unwrap_err().len() < 2000);
    }

    #[test]
    fn the_usual_mistakes_have_names() {
        let in_kubelet =
            |text: &str| SMALL.replace("\"own\",", &format!("\"own\", \"kubelet\": {{{text}}},"));
        let bom = format!("\u{feff}{SMALL}");
        for (text, said) in [
            (bom.as_str(), "byte order mark"),
            (&SMALL.replace("{\n  \"schema\"", "{ // mine\n  \"schema\""), "JSON has no comments"),
            (&SMALL.replace("1,\n", "1, # mine\n"), "JSON has no comments"),
            (&SMALL.replace("\"snap\"", "'snap'"), "JSON has no single quotes"),
            (&SMALL.replace("\"own\"", "'own'"), "JSON has no single quotes"),
            (&in_kubelet(""), "kubelet: missing field `root`\n"),
            (
                &SMALL.replace("\"root\"", "\"roots\""),
                "containerd: unknown field `roots`; did you mean 'root'?",
            ),
            (&SMALL.replace("\"schema\"", "\"shema\""), ": unknown field `shema`; did you mean 'schema'?"),
            (&SMALL.replace("\"root\"", "\"shimSockets\""), "did you mean 'shim-sockets'?"),
            ("[]", "line 1, column 1: a list, where an object is expected"),
            (&SMALL.replace("COMMON/root", "COMMON/a\\u0000b"), "is a path with a zero byte"),
        ] {
            let error = checked(text).expect_err(said);
            assert!(error.contains(said), "{said}: {error}");
        }
    }

    #[test]
    fn a_link_is_named_as_one() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("file"), SMALL).unwrap();
        std::os::unix::fs::symlink("file", dir.path().join("link")).unwrap();
        let error = check(Some(&dir.path().join("link"))).unwrap_err().to_string();
        assert!(error.contains("a symbolic link, where a regular file is expected"), "{error}");
    }

    #[test]
    fn what_would_hurt_gets_a_remark() {
        let with = |more: &str| checked(&SMALL.replace("\"own\",", &format!("\"own\", {more},"))).unwrap();
        for data in ["$SNAP_COMMON/var", "$SNAP_COMMON/var/lib/kubelet", "$SNAP_COMMON/k/x"] {
            let kubelet = "\"kubelet\": {\"root\": \"$SNAP_COMMON/k\"}";
            let kubelet = if data.ends_with("var") { &kubelet.replace("/k", "/var/k") } else { kubelet };
            let said = with(&format!("{kubelet}, \"data\": [\"{data}\"]"));
            assert!(said.contains("holds more than containerd's own"), "{data}: {said}");
        }
        // Where the snap keeps its volumes is known, or said; and however it is spelled.
        for (volumes, data) in [
            ("[\"$SNAP_COMMON/default\"]", "$SNAP_COMMON/default-storage"),
            ("[\"$SNAP_DATA/v\"]", "/var/snap/own/x1/v/one"),
        ] {
            let said =
                |volumes: &str| with(&format!("\"data\": [\"{data}\"]{volumes}")).contains("holds more");
            let named = format!(", \"volumes\": {volumes}");
            assert_eq!([said(""), said(&named)], [data.starts_with('$'), data.starts_with('/')], "{data}");
        }
        let said = with("\"data\": [\"$SNAP_COMMON/root\"], \"network\": {\"links\": [\"cali*\"]}");
        assert!(said.contains("'*', '?' and '['") && !said.contains("holds more"), "{said}");
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
