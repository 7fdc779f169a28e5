//! What the user should know besides what is left.

use crate::order;
use crate::text;
use serde::{Deserialize, Serialize};

/// So many items are told, unless all are asked for.
pub const USUAL_ITEMS: usize = 10;

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
    /// Other instances of the snap.
    Instances,
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
    /// AppArmor's profiles for containers, which stay loaded.
    Profiles,
    /// The machine was booted since the removal.
    Booted,
    /// Something is mounted at the snap's own directories.
    OwnMounts,
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
                | NoteKind::Profiles
                | NoteKind::Booted
        )
    }
}

impl Note {
    /// A note with its items, each once.
    pub fn of(kind: NoteKind, text: &str, items: impl IntoIterator<Item = String>) -> Note {
        Note { kind, text: text.to_owned(), items: order::set(items).into_iter().collect() }
    }

    /// The sentence, with so many of its items.
    pub fn told(&self, most: usize) -> String {
        match self.items.is_empty() {
            true => self.text.clone(),
            false => format!("{}: {}", self.text, text::few(&self.items, most)),
        }
    }
}

impl std::fmt::Display for Note {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.told(USUAL_ITEMS))
    }
}
