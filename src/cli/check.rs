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
mod tests;
