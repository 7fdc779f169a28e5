//! One error type: what was tried, on what, and what the kernel (or the reader) said.

use std::io;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use serde::{Deserialize, Serialize};

use crate::reason::Reason;
use crate::text;

/// Everything that can go wrong outside the engine, where an error is a field of the report instead.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A system call on a path failed.
    #[error("cannot {verb} '{}': {source}", text::show(path))]
    Io {
        /// What was tried, as in "cannot read".
        verb: &'static str,
        /// On what.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// A file was read, but what it says makes no sense.
    #[error("cannot use '{}': {reason}", text::show(path))]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, and where.
        reason: String,
    },
    /// What was to be looked at lies on a file system whose server is silent.
    #[error(
        "cannot look at '{}': the file server of '{}' does not answer",
        text::show(path),
        text::show(mount)
    )]
    Silent {
        path: PathBuf,
        /// The mount on the way to it.
        mount: PathBuf,
    },
    /// A profile that must not be acted on.
    #[error("cannot use profile {from}: {}{reason}", position.map(|p| p.to_string()).unwrap_or_default())]
    Profile {
        /// The file, or the built-in profile's name.
        from: String,
        /// Where in the file.
        position: Option<Position>,
        /// What is wrong with it.
        reason: String,
    },
    /// The run cannot start: the environment or the command line does not say what to work on, or the machine does not let us.
    #[error("{0}")]
    NotStarted(String),
}

/// A place in a text file, counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    pub line: usize,
    /// The column, in bytes.
    pub column: usize,
}

impl std::fmt::Display for Position {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "line {}, column {}: ", self.line, self.column)
    }
}

/// The crate's result.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// The errno behind this error, if a system call failed.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Error::Io { source, .. } => source.raw_os_error(),
            _ => None,
        }
    }

    /// The same, as the kernel's name for it; "unknown" if no system call failed.
    pub fn errno_or_unknown(&self) -> Errno {
        self.errno().map_or(Errno::UnknownErrno, Errno::from_raw)
    }

    /// True if the thing was not there (any more).
    pub fn is_gone(&self) -> bool {
        self.errno().is_some_and(gone)
    }
}

/// True for the errors that mean "already gone": what a remover was asked for is then done.
///
/// EINVAL is not among them: only umount says it for "not a mount point", and asks for that itself.
pub fn gone(errno: i32) -> bool {
    use nix::libc::{ENODEV, ENOENT, ESRCH};
    matches!(errno, ENOENT | ESRCH | ENODEV)
}

/// Ties an I/O error to the verb and the path it concerns.
pub trait Context<T> {
    /// `verb` completes "cannot …".
    fn context(self, verb: &'static str, path: &Path) -> Result<T>;
}

impl<T, E: Into<io::Error>> Context<T> for std::result::Result<T, E> {
    fn context(self, verb: &'static str, path: &Path) -> Result<T> {
        self.map_err(|e| Error::Io { verb, path: path.to_path_buf(), source: e.into() })
    }
}

/// The symbolic name of an errno, as people search for it ("EACCES").
pub fn errno_name(errno: Errno) -> String {
    format!("{errno:?}")
}

/// True for the errors by which confinement, not the thing itself, says no.
pub fn is_refusal(errno: Errno) -> bool {
    matches!(errno, Errno::EACCES | Errno::EPERM | Errno::EROFS | Errno::ENOSYS)
}

/// The errno of an I/O error; "unknown" of one that no system call has made.
pub fn errno_of(error: &io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::UnknownErrno, Errno::from_raw)
}

/// Why something is not known: a word for programs, and a sentence for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Why {
    pub reason: Reason,
    pub text: String,
    /// The mount point that it is about, as it is shown, if it is about one.
    pub mount: Option<String>,
}

impl Why {
    /// What the kernel said.
    fn of_errno(errno: Errno, text: String) -> Why {
        (reason_of(errno), text).into()
    }
}

/// What an errno means to somebody who wanted to look or to remove.
pub fn reason_of(errno: Errno) -> Reason {
    match errno {
        Errno::EBUSY => Reason::Busy,
        errno if is_refusal(errno) => Reason::Refused,
        _ => Reason::Failed,
    }
}

impl std::fmt::Display for Why {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

impl From<&Error> for Why {
    fn from(error: &Error) -> Why {
        let reason = match error {
            Error::Io { source, .. } => reason_of(errno_of(source)),
            Error::Malformed { .. } | Error::Profile { .. } => Reason::Malformed,
            Error::Silent { .. } => Reason::Silent,
            Error::NotStarted(_) => Reason::NotPossible,
        };
        let mount =
            if let Error::Silent { mount, .. } = error { Some(text::show(mount).into_owned()) } else { None };
        Why { reason, text: error.to_string(), mount }
    }
}

impl From<Error> for Why {
    fn from(error: Error) -> Why {
        Why::from(&error)
    }
}

impl From<&io::Error> for Why {
    fn from(error: &io::Error) -> Why {
        Why::of_errno(errno_of(error), error.to_string())
    }
}

impl From<io::Error> for Why {
    fn from(error: io::Error) -> Why {
        Why::from(&error)
    }
}

impl From<&Why> for Why {
    fn from(why: &Why) -> Why {
        why.clone()
    }
}

impl<T: Into<String>> From<(Reason, T)> for Why {
    fn from((reason, text): (Reason, T)) -> Why {
        Why { reason, text: text.into(), mount: None }
    }
}

/// A source that could hide something of ours, could not be read, and that no other source covers.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Blind {
    /// What could not be looked at.
    pub what: String,
    #[serde(default)]
    pub reason: Reason,
    pub why: String,
    /// The mount point, as it is shown, if it is a mount that stands in the way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mount: Option<String>,
}

impl Blind {
    /// A blind spot and its reason.
    pub fn new(what: impl Into<String>, why: impl Into<Why>) -> Blind {
        let Why { reason, text, mount } = why.into();
        Blind { what: what.into(), reason, why: text, mount }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn message_has_verb_path_and_source() {
        let e: Result<()> =
            Err(io::Error::from_raw_os_error(nix::libc::EBUSY)).context("unmount", Path::new("/x"));
        let e = e.unwrap_err();
        assert_eq!(e.to_string(), "cannot unmount '/x': Device or resource busy (os error 16)");
        assert_eq!(errno_name(e.errno_or_unknown()), "EBUSY");
        assert!(!e.is_gone());
        let odd = Error::Malformed { path: "/a\n\x1b[2J".into(), reason: "x".into() };
        assert_eq!(odd.to_string(), "cannot use '/a\\012\\033[2J': x");
    }
}
