//! What came of one attempt to remove a residue.

use std::io;
use std::path::Path;

use nix::errno::Errno;
use serde::{Deserialize, Serialize};

use crate::error::{errno_name, gone, is_refusal, reason_of};
use crate::linux::holders::Holder;
use crate::reason::Reason;
use crate::text::{few, name, show};

/// The way by which something was removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rung {
    /// A signal from us.
    Signal,
    /// The shim, asked over ttrpc.
    Shim,
    /// `cgroup.kill`.
    CgroupKill,
    /// The freezer, so that nothing could fork meanwhile.
    Freezer,
    /// snapd, asked through snapctl.
    Snapctl,
    /// The runtime, started for this.
    Runtime,
    /// The system call for it.
    Remove,
}

/// What came of one attempt. Evidence for the report, never the verdict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Done {
    /// It was removed, or was no longer there.
    Gone,
    /// It was asked or told to end.
    Asked {
        /// By which way.
        rung: Rung,
    },
    /// It was taken out of the mount table while in use.
    Detached { holders: Vec<Holder> },
    /// It stays while something depends on it.
    HeldBack { by: Vec<String> },
    /// Confinement said no.
    Refused {
        /// To which way.
        rung: Rung,
        /// With which errno.
        errno: Errno,
    },
    /// We may not; its shim might.
    NeedsShim {
        /// What the direct way was refused with.
        errno: Errno,
    },
    /// It did not work.
    Failed {
        /// Why, in words.
        error: String,
        /// The errno, if there was one.
        errno: Option<Errno>,
    },
    /// There is no way here.
    NotPossible { why: String },
}

impl Done {
    /// What came of the system call that removes a thing: "already gone" is success. `what` completes "cannot …".
    pub fn of(result: Result<(), Errno>, what: impl FnOnce() -> String) -> Done {
        match result {
            Ok(()) => Done::Gone,
            Err(e) if gone(e as i32) => Done::Gone,
            Err(errno) if is_refusal(errno) => Done::Refused { rung: Rung::Remove, errno },
            Err(errno) => {
                let reason = io::Error::from(errno);
                Done::Failed { error: format!("cannot {}: {reason}", what()), errno: Some(errno) }
            }
        }
    }

    /// The same of a thing at a path.
    pub fn of_path(verb: &str, path: &Path, result: Result<(), Errno>) -> Done {
        Done::of(result, || format!("{verb} '{}'", show(path)))
    }

    /// The direct way was refused, and the shim was no way either.
    pub fn without_shim(self, reason: &str) -> Done {
        match self {
            Done::NeedsShim { errno } => {
                let error = format!(
                    "a signal is refused ({}), and so is the way through the shim: {reason}",
                    errno_name(errno)
                );
                Done::Failed { error, errno: Some(errno) }
            }
            other => other,
        }
    }

    /// The one of two that tells more: a refusal before anything else, and anything before "gone".
    pub fn worse_of(self, other: Done) -> Done {
        match (&self, &other) {
            (_, Done::Refused { .. }) | (Done::Gone, _) => other,
            _ => self,
        }
    }

    /// True if trying again in a moment may help.
    pub fn is_busy(&self) -> bool {
        matches!(self, Done::Failed { errno: Some(Errno::EBUSY), .. })
    }

    /// Why the residue is still there, in one word.
    pub fn reason(&self) -> Reason {
        match self {
            Done::Gone => Reason::ThereAgain,
            Done::Asked { .. } => Reason::DidNotEnd,
            Done::Detached { .. } => Reason::Detached,
            Done::HeldBack { .. } => Reason::HeldBack,
            Done::Refused { .. } | Done::NeedsShim { .. } => Reason::Refused,
            Done::Failed { errno, .. } => errno.map_or(Reason::Failed, reason_of),
            Done::NotPossible { .. } => Reason::NotPossible,
        }
    }

    /// Why the residue is still there, in words, and the errno.
    pub fn why_left(&self) -> (String, Option<Errno>) {
        match self {
            Done::Gone => ("it was removed, and is there again".into(), None),
            Done::Asked { rung } => (format!("it did not end ({})", name(rung)), None),
            Done::Detached { .. } => ("it was detached".into(), None),
            Done::HeldBack { by } => {
                (format!("what runs, or could not be looked at, holds it back: {}", few(by, 1)), None)
            }
            Done::Refused { rung, errno } => (format!("refused ({})", name(rung)), Some(*errno)),
            Done::NeedsShim { errno } => ("a signal is refused".into(), Some(*errno)),
            Done::Failed { error, errno } => (error.clone(), *errno),
            Done::NotPossible { why } => (why.clone(), None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_holds_something_back_is_named() {
        let by =
            |by: &[&str]| Done::HeldBack { by: by.iter().map(|it| (*it).to_owned()).collect() }.why_left().0;
        assert!(by(&["a"]).ends_with(" holds it back: a"));
        assert!(by(&["a", "b", "c"]).ends_with(" holds it back: a and 2 more"));
    }

    #[test]
    fn a_system_call_removes_finds_nothing_is_refused_or_fails() {
        let of = |result| Done::of_path("remove", Path::new("/x"), result);
        assert_eq!(of(Ok(())), Done::Gone);
        assert_eq!(of(Err(Errno::ENOENT)), Done::Gone);
        assert_eq!(of(Err(Errno::EACCES)), Done::Refused { rung: Rung::Remove, errno: Errno::EACCES });
        let busy = of(Err(Errno::EBUSY));
        assert!(busy.is_busy());
        assert_eq!(busy.why_left().0, "cannot remove '/x': Device or resource busy (os error 16)");
    }

    #[test]
    fn a_refusal_tells_more_than_success() {
        let refused = || Done::Refused { rung: Rung::Signal, errno: Errno::EPERM };
        assert_eq!(
            Done::Gone.worse_of(Done::Asked { rung: Rung::Signal }),
            Done::Asked { rung: Rung::Signal }
        );
        assert_eq!(Done::Asked { rung: Rung::Signal }.worse_of(refused()), refused());
        assert_eq!(refused().worse_of(Done::Gone), refused());
    }
}
