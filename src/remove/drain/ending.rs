//! How a container ended, for the report. No command, no header, no word that a container printed.

use serde::{Deserialize, Serialize};

use crate::runtime::{ContainerId, short};
use crate::text::name;

/// How one container ended that was asked to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Ending {
    pub container: ContainerId,
    /// Namespace and name of its pod, if known.
    pub pod: Option<String>,
    /// Its name in the pod, if known.
    pub name: Option<String>,
    /// What ended it.
    pub end: End,
    /// From the start of the drain to its end.
    pub elapsed_ms: u64,
    /// Seconds that it asked for.
    pub asked: u64,
    /// Seconds that it had.
    pub grace: u64,
    /// The signal that it was told to stop by; none if it ended before.
    pub signal: Option<String>,
    /// Its preStop hook, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hook: Option<HookEnding>,
}

/// What ended a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum End {
    /// It ended by itself, before it was told to stop: its hook did it.
    AfterHook,
    /// It ended by itself after its signal.
    AfterSignal,
    /// It was killed, since its grace was over.
    Killed,
}

/// How a preStop hook ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct HookEnding {
    /// Its kind, in the words of Kubernetes' API.
    pub kind: String,
    /// What came of it.
    pub outcome: Outcome,
    /// The exit status of a command, or the status of an answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u32>,
    /// Why it was not run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Why it failed, if it was not by a status: what the shim or the pod said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// How long it took.
    pub elapsed_ms: u64,
}

/// What came of a hook.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It did what it is for: a command with status 0, a sleep, a request with an answer.
    Done,
    /// It could not be run to its end, or ended with another status.
    Failed,
    /// The container's grace was over before it ended.
    GraceOver,
    /// The container ended first, and the hook with it.
    ContainerEnded,
    /// It was not run at all.
    NotRun,
}

impl Ending {
    /// True if it did not get what it asked for, or did not end well.
    pub fn is_to_be_told(&self) -> bool {
        let hook = self.hook.as_ref().map(|hook| hook.outcome);
        self.end == End::Killed || !matches!(hook, None | Some(Outcome::Done | Outcome::ContainerEnded))
    }
}

impl std::fmt::Display for Ending {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (&self.pod, &self.name) {
            (Some(pod), Some(name)) => write!(f, "{pod} ({name})")?,
            (Some(pod), None) => f.write_str(pod)?,
            (None, _) => f.write_str(short(&self.container.id))?,
        }
        let seconds = format!("{}.{}", self.elapsed_ms / 1000, self.elapsed_ms / 100 % 10);
        match self.end {
            End::AfterHook => write!(f, ": ended by its hook after {seconds} s")?,
            End::AfterSignal => write!(f, ": ended after {seconds} s")?,
            End::Killed => write!(f, ": killed after {seconds} s")?,
        }
        if self.grace < self.asked {
            write!(f, ", had {} s of the {} s that it asks for", self.grace, self.asked)?;
        }
        let Some(hook) = &self.hook else { return Ok(()) };
        write!(f, ", preStop {} {}", hook.kind, name(&hook.outcome))?;
        match (&hook.status, hook.reason.as_ref().or(hook.error.as_ref())) {
            (Some(status), _) => write!(f, " (status {status})"),
            (None, Some(why)) => write!(f, " ({why})"),
            (None, None) => Ok(()),
        }
    }
}
