//! What became of a user's script.

use serde::{Deserialize, Serialize};

/// One script, and how it ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Script {
    /// Its file's name, or the directory when that could not be used.
    pub name: String,
    /// How long it took.
    pub elapsed_ms: u64,
    /// How it ended.
    pub end: End,
}

/// How a script ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum End {
    /// By itself, with this exit status.
    Exited(i32),
    /// By this signal, which was not ours.
    Killed(i32),
    /// It took too long, and was killed with all that it had started.
    TookTooLong,
    /// It was not started, for this reason.
    NotRun(String),
}

impl Script {
    /// True if it ended by itself, with status 0.
    pub fn went_well(&self) -> bool {
        self.end == End::Exited(0)
    }
}

impl std::fmt::Display for Script {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: ", self.name)?;
        match &self.end {
            End::Exited(status) => write!(f, "exited with {status}")?,
            End::Killed(signal) => write!(f, "killed by signal {signal}")?,
            End::TookTooLong => write!(f, "took too long and was killed")?,
            End::NotRun(error) => return write!(f, "not run: {error}"),
        }
        write!(f, " ({} ms)", self.elapsed_ms)
    }
}
