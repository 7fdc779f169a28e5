//! The result file: where it lies, and how it gets there whole.
//!
//! `/run/snap.INSTANCE/` is a directory that snapd's template lets a confined hook use and that survives the
//! removal until the next boot. What is on disk is at any moment a complete old or a complete new document.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::libc::{O_CLOEXEC, O_NOFOLLOW};
use serde::Deserialize;

use crate::error::{Context, Error, Result};
use crate::linux::host::Host;
use crate::report::{Outcome, Report};
use crate::residue::Residue;
use crate::scope::Scope;
use crate::snap::Snap;
use crate::text;

const NAME: &str = "teardown.json";

/// How the name of a document begins that is still being written.
const UNFINISHED: &str = ".teardown.json.";

/// Where a snap's result lies.
pub fn path(snap: &Snap) -> PathBuf {
    directory(snap).join(NAME)
}

/// The snap's directory below /run, made if it is not there; an error if others than root can change it.
pub fn own_directory(snap: &Snap) -> Result<PathBuf> {
    ours(&directory(snap), true)
}

fn directory(snap: &Snap) -> PathBuf {
    PathBuf::from(format!("/run/snap.{}", snap.instance))
}

/// Writes a report; into the snap's common directory if it cannot be written where it belongs. Notes in it where.
pub fn write(host: &Host, report: &mut Report, snap: &Snap) -> Result<()> {
    let first = write_in(report, &directory(snap), true);
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

fn write_new(path: &Path, report: &Report) -> Result<()> {
    let _ = fs::remove_file(path);
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600).custom_flags(O_NOFOLLOW | O_CLOEXEC);
    // Piece by piece: the document of a large world is larger than all that we otherwise know.
    let mut file = io::BufWriter::new(options.open(path).context("create", path)?);
    serde_json::to_writer(&mut file, report).map_err(io::Error::from).context("write", path)?;
    file.flush().context("write", path)?;
    // Before the rename: else a full disk may show itself only after the old document is gone.
    file.get_ref().sync_data().context("write", path)
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
    if !metadata.is_dir() || metadata.uid() != nix::unistd::geteuid().as_raw() || metadata.mode() & 0o022 != 0
    {
        let reason = "not a directory that only we can write".into();
        return Err(Error::Malformed { path: directory.to_path_buf(), reason });
    }
    Ok(directory.to_path_buf())
}

/// Reads the last result; none if there is none.
pub fn read(host: &Host, snap: &Snap) -> Result<Option<Report>> {
    for path in [path(snap), snap.common.join(NAME)] {
        match host.read(&path) {
            Ok(bytes) => {
                let report = serde_json::from_slice(&bytes);
                return report.map(Some).map_err(|e| Error::Malformed { path, reason: e.to_string() });
            }
            Err(e) if e.is_gone() => {}
            Err(e) => return Err(e),
        }
    }
    Ok(None)
}

/// What a later run has to know of an earlier one.
#[derive(Deserialize)]
pub struct Earlier {
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
    residue: Residue,
}

impl Earlier {
    /// What it left detached, and its scope. Of one that ended clean there is nothing to know.
    pub fn unfinished(self) -> Option<(Vec<Residue>, Option<Scope>)> {
        if self.outcome == Outcome::Clean {
            return None;
        }
        let left = self.steps.into_iter().flat_map(|step| step.left).map(|left| left.residue);
        Some((left.filter(|r| matches!(r, Residue::Detached(_))).collect(), self.scope))
    }
}

/// The last result, for a run that removes: only from where nobody but root can write, never from the snap's own
/// directories, into which containers may.
pub fn earlier(snap: &Snap) -> Result<Option<Earlier>> {
    let bytes = match ours(&directory(snap), false).and_then(|_| Host::live().read(&path(snap))) {
        Ok(bytes) => bytes,
        Err(e) if e.is_gone() => return Ok(None),
        Err(e) => return Err(e),
    };
    let earlier = serde_json::from_slice(&bytes);
    earlier.map(Some).map_err(|e| Error::Malformed { path: path(snap), reason: e.to_string() })
}
