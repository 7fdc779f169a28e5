//! What a remover says of one attempt.

use serde::{Deserialize, Serialize};

use super::name;
use crate::error::errno_name;
use crate::residue::Holder;
use crate::text;

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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "result", rename_all = "kebab-case", rename_all_fields = "kebab-case")]
pub enum Done {
    /// It was removed, or was no longer there.
    Gone,
    /// It was asked or told to end.
    Asked {
        /// By which way.
        rung: Rung,
    },
    /// It was taken out of the mount table while in use.
    Detached {
        /// By whom.
        holders: Vec<Holder>,
    },
    /// It stays while something depends on it.
    HeldBack {
        /// What.
        by: Vec<String>,
    },
    /// Confinement said no.
    Refused {
        /// To which way.
        rung: Rung,
        /// With which errno.
        errno: i32,
    },
    /// We may not; its shim might.
    NeedsShim {
        /// What the direct way was refused with.
        errno: i32,
    },
    /// It did not work.
    Failed {
        /// Why, in words.
        error: String,
        /// The errno, 0 if there was none.
        errno: i32,
    },
    /// There is no way here.
    NotPossible {
        /// Why.
        why: String,
    },
}

impl Done {
    /// A refusal.
    pub fn refused(rung: Rung, errno: i32) -> Done {
        Done::Refused { rung, errno }
    }

    /// A failed system call.
    pub fn failed(verb: &str, path: &std::path::Path, errno: i32) -> Done {
        let reason = std::io::Error::from_raw_os_error(errno);
        Done::Failed { error: format!("cannot {verb} '{}': {reason}", text::show(path)), errno }
    }

    /// The direct way was refused, and the shim was no way either.
    pub fn without_shim(self, reason: &str) -> Done {
        match self {
            Done::NeedsShim { errno } => {
                let error = format!(
                    "a signal is refused ({}), and so is the way through the shim: {reason}",
                    errno_name(errno)
                );
                Done::Failed { error, errno }
            }
            other => other,
        }
    }

    /// True if trying again in a moment may help.
    pub fn is_busy(&self) -> bool {
        matches!(self, Done::Failed { errno: nix::libc::EBUSY, .. })
    }

    pub(super) fn why(&self) -> (String, Option<i32>) {
        match self {
            Done::Gone => ("it was removed, and is there again".into(), None),
            Done::Asked { rung } => (format!("it did not end ({})", name(rung)), None),
            Done::Detached { .. } => ("it was detached".into(), None),
            Done::HeldBack { by } => {
                (format!("held back by {} containers that run or could not be looked at", by.len()), None)
            }
            Done::Refused { rung, errno } => (format!("refused ({})", name(rung)), Some(*errno)),
            Done::NeedsShim { errno } => ("a signal is refused".into(), Some(*errno)),
            Done::Failed { error, errno } => (error.clone(), (*errno != 0).then_some(*errno)),
            Done::NotPossible { why } => (why.clone(), None),
        }
    }
}
