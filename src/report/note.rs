//! What the user should know besides what is left.

use crate::order;
use serde::{Deserialize, Serialize};

/// One thing to know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Note {
    /// What it is about.
    pub kind: NoteKind,
    /// The thing itself, in a sentence.
    pub text: String,
    /// Which, where there are several.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub items: Vec<String>,
}

/// What a note is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NoteKind {
    /// Pods that run.
    Pods,
    /// Directories of the host that pods use.
    HostVolumes,
    /// Volumes on a server.
    NetworkVolumes,
    /// Ports on which our processes listen.
    Listeners,
    /// The node is a member of a cluster.
    Cluster,
    /// How each container is to be ended.
    Graces,
    /// Containers that get less time than they ask for.
    CutShort,
    HooksNotRun,
    /// What a removal cannot honour.
    NotHonoured,
    /// Links by well-known names that are left alone.
    Links,
    /// A network namespace that somebody else keeps alive.
    NetnsHeld,
    /// Rules that kube-proxy made.
    KubeProxyRules,
    /// Control groups that cannot be removed here.
    CgroupsReadOnly,
    /// Control groups that systemd knows as units.
    SystemdUnits,
    /// The document was cut.
    Cut,
    /// The document lay where others than root may write.
    Unproven,
    /// Places outside of the snap's own directories to which its roots lead.
    Outside,
    /// Logs of our pods that are left.
    PodLogs,
    /// Settings of the kernel that were changed for pods.
    Settings,
}

impl NoteKind {
    /// True if it tells how a removal went, not what to know before one.
    pub fn is_of_the_result(self) -> bool {
        matches!(
            self,
            NoteKind::NetnsHeld
                | NoteKind::Listeners
                | NoteKind::Links
                | NoteKind::CgroupsReadOnly
                | NoteKind::Cut
                | NoteKind::Unproven
                | NoteKind::Outside
                | NoteKind::PodLogs
                | NoteKind::Settings
        )
    }
}

impl Note {
    /// A note with its items, each once.
    pub fn of(kind: NoteKind, text: &str, items: impl IntoIterator<Item = String>) -> Note {
        Note { kind, text: text.to_owned(), items: order::set(items).into_iter().collect() }
    }
}

impl std::fmt::Display for Note {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        const MAX_SHOWN: usize = 10;
        f.write_str(&self.text)?;
        for (i, item) in self.items.iter().take(MAX_SHOWN).enumerate() {
            write!(f, "{}{item}", if i == 0 { ": " } else { ", " })?;
        }
        match self.items.len() {
            0..=MAX_SHOWN => Ok(()),
            n => write!(f, " and {} more", n - MAX_SHOWN),
        }
    }
}
