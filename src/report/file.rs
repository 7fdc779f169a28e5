//! The result file: where it lies, and how it gets there whole.
//!
//! `/run/snap.INSTANCE/` is a directory that snapd's template lets a confined hook use and that survives the
//! removal until the next boot. What is on disk is at any moment a complete old or a complete new document.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::libc::{O_CLOEXEC, O_NOFOLLOW};
use serde::Deserialize;

use crate::error::{Context, Error, Result};
use crate::json;
use crate::linux::host::{Host, STANDARD_INPUT, read_input};
use crate::report::note::{Note, NoteKind};
use crate::report::{Command, Outcome, Report, SCHEMA};
use crate::residue::{self, Residue};
use crate::scope::Scope;
use crate::snap::Snap;
use crate::text;

const NAME: &str = "teardown.json";

/// No document is longer: what a hostile world has named is cut until it is not. None that is longer is read.
pub const LARGEST: u64 = 4 << 20;

/// How the name of a document begins that is still being written.
const UNFINISHED: &str = ".teardown.json.";

/// Where a snap's result lies.
pub fn path(snap: &Snap) -> PathBuf {
    snap.run_dir().join(NAME)
}

/// Reads a copy that an administrator has kept, of this snap's result on this machine: a file, or `-`, standard input.
pub fn read_copy(host: &Host, copy: &Path, snap: &Snap) -> Result<Report> {
    let (copy, bytes) = match copy.as_os_str() == "-" {
        true => (Path::new(STANDARD_INPUT), read_input(LARGEST)?),
        false => (copy, host.read_at_most(copy, LARGEST)?),
    };
    if bytes.trim_ascii().is_empty() {
        let reason = "it is empty; the journal has no result, or one that is too long for it".into();
        return Err(Error::Malformed { path: copy.to_path_buf(), reason });
    }
    let report: Report = parse(copy, &bytes)?;
    known(copy, report.schema)?;
    let reason = match report.command {
        _ if report.snap.instance != snap.instance => {
            format!("the result of snap '{}', not of '{}'", report.snap.instance, snap.instance)
        }
        // A look knows less than a removal: it may itself have been blind for want of a result.
        Command::Survey | Command::Verify => "the result of a look, not of a removal".into(),
        Command::Remove => return Ok(report),
    };
    Err(Error::Malformed { path: copy.to_path_buf(), reason })
}

/// True if there is a result where it belongs.
pub fn is_there(snap: &Snap) -> bool {
    path(snap).exists()
}

/// The snap's directory below /run, made if it is not there; an error if others than root can change it.
pub fn own_directory(snap: &Snap) -> Result<PathBuf> {
    ours(&snap.run_dir(), true)
}

/// Writes a report; into the snap's common directory if it cannot be written where it belongs. Notes in it where, and
/// cuts from it what there is no room for.
pub fn write(host: &Host, report: &mut Report, snap: &Snap) -> Result<()> {
    let first = write_in(report, &snap.run_dir(), true);
    let done = first.or_else(|e| {
        host.reach(&snap.common).and_then(|()| write_in(report, &snap.common, false)).map_err(|_| e)
    });
    if done.is_err() {
        report.file = None;
    }
    done
}

fn write_in(report: &mut Report, directory: &Path, make: bool) -> Result<()> {
    let directory_now = ours(directory, make)?;
    let path = directory_now.join(NAME);
    report.file = Some(text::show(&path).into_owned());
    let temporary = directory_now.join(format!("{UNFINISHED}{}", std::process::id()));
    let written =
        write_new(&temporary, report).and_then(|()| fs::rename(&temporary, &path).context("write", &path));
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written
}

fn write_new(path: &Path, report: &mut Report) -> Result<()> {
    let _ = fs::remove_file(path);
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600).custom_flags(O_NOFOLLOW | O_CLOEXEC);
    let mut file = options.open(path).context("create", path)?;
    report.write_within(LARGEST, &mut file).context("write", path)?;
    // Before the rename: else a full disk may show itself only after the old document is gone.
    file.sync_data().context("write", path)
}

/// Removes what runs were writing when they were killed. Only the holder of the lock may: nobody else writes here.
pub fn forget_unfinished(directory: &Path) {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    for entry in entries.filter(|e| e.file_name().to_string_lossy().starts_with(UNFINISHED)) {
        let _ = fs::remove_file(entry.path());
    }
}

/// The directory, if it is a real one that nobody but root can change.
fn ours(directory: &Path, make: bool) -> Result<PathBuf> {
    if make {
        match fs::DirBuilder::new().mode(0o755).create(directory) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e).context("create", directory),
            _ => {}
        }
    }
    let metadata = fs::symlink_metadata(directory).context("stat", directory)?;
    if !metadata.is_dir() || !is_ours(&metadata) || metadata.mode() & 0o022 != 0 {
        let reason = "not a directory that only we can write".into();
        return Err(Error::Malformed { path: directory.to_path_buf(), reason });
    }
    Ok(directory.to_path_buf())
}

/// Root's, or, for who looks without being root, his own.
fn is_ours(metadata: &fs::Metadata) -> bool {
    metadata.uid() == 0 || metadata.uid() == nix::unistd::geteuid().as_raw()
}

/// Reads a result file, if nobody but root can have written it.
fn read_trusted(host: &Host, directory: &Path) -> Result<Vec<u8>> {
    ours(directory, false)?;
    let path = directory.join(NAME);
    let metadata = host.stat(&path)?;
    if !metadata.is_file() || !is_ours(&metadata) || metadata.mode() & 0o077 != 0 {
        return Err(Error::Malformed { path, reason: "not a file that only root can have written".into() });
    }
    host.read_at_most(&path, LARGEST)
}

/// Reads the last result; none if there is none. One from the snap's own directory says so, and proves nothing: into that
/// containers may write, as root, so that it names no scope.
pub fn read(host: &Host, snap: &Snap) -> Result<Option<Report>> {
    Ok(read_with_text(host, snap)?.map(|(report, _)| report))
}

/// The same with the text of the document. Of a scope we read what a later run needs, so that only the text has all of it.
/// There is none for a result that proves nothing: such a one is shown without its scope.
pub fn read_with_text(host: &Host, snap: &Snap) -> Result<Option<(Report, Option<String>)>> {
    for (directory, proven) in [(snap.run_dir(), true), (snap.common.clone(), false)] {
        let bytes = match read_trusted(host, &directory) {
            Ok(bytes) => bytes,
            Err(e) if e.is_gone() => continue,
            Err(e) => return Err(e),
        };
        let path = directory.join(NAME);
        let mut report: Report = parse(&path, &bytes)?;
        known(&path, report.schema)?;
        if !proven {
            report.scope = None;
            report.truncated = true;
            let text =
                "this result was read from a directory into which containers may write; it proves nothing";
            report.notes.insert(0, Note::of(NoteKind::Unproven, text, [text::show(&path).into_owned()]));
        }
        let text = proven.then(|| String::from_utf8_lossy(&bytes).into_owned());
        return Ok(Some((report, text)));
    }
    Ok(None)
}

/// Of another version nothing is known, not even what the words mean that look the same.
fn known(file: &Path, schema: u32) -> Result<()> {
    if schema == SCHEMA {
        return Ok(());
    }
    let reason = format!("it is of version {schema}; this program knows {SCHEMA} only");
    Err(Error::Malformed { path: file.to_path_buf(), reason })
}

fn parse<'de, T: Deserialize<'de>>(file: &Path, bytes: &'de [u8]) -> Result<T> {
    json::parse(bytes).map_err(|e| Error::Malformed { path: file.to_path_buf(), reason: e.to_string() })
}

/// What a later run has to know of an earlier one.
#[derive(Deserialize)]
pub struct Earlier {
    schema: u32,
    outcome: Outcome,
    steps: Vec<EarlierStep>,
    scope: Option<Scope>,
}

#[derive(Deserialize)]
struct EarlierStep {
    left: Vec<EarlierLeft>,
}

#[derive(Deserialize)]
struct EarlierLeft {
    #[serde(deserialize_with = "residue::detached")]
    residue: Option<Residue>,
}

impl Earlier {
    /// What it left detached, and its scope. Of one that ended clean there is nothing to know.
    pub fn unfinished(self) -> Option<(Vec<Residue>, Option<Scope>)> {
        if self.outcome == Outcome::Clean {
            return None;
        }
        let left = self.steps.into_iter().flat_map(|step| step.left);
        Some((left.filter_map(|left| left.residue).collect(), self.scope))
    }
}

/// The last result, for a run that removes: only from where nobody but root can write, never from the snap's own
/// directories, into which containers may.
pub fn earlier(snap: &Snap) -> Result<Option<Earlier>> {
    let directory = snap.run_dir();
    match read_trusted(&Host::live(), &directory) {
        Ok(bytes) => {
            let file = directory.join(NAME);
            let earlier: Earlier = parse(&file, &bytes)?;
            known(&file, earlier.schema).map(|()| Some(earlier))
        }
        Err(e) if e.is_gone() => Ok(None),
        // Where others can write, there is no result of ours.
        Err(e @ Error::Malformed { .. }) => {
            log::warn!("{e}");
            Ok(None)
        }
        Err(e) => Err(e),
    }
}

#[cfg(test)]
mod tests;
