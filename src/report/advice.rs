//! What to do about what is left or was refused.

use serde::{Deserialize, Serialize};

use crate::text::{shell_word, unescape};

/// What to do about what is left.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case", rename_all_fields = "kebab-case")]
pub enum Advice {
    /// Only a reboot ends these.
    Reboot {
        /// Which, and why.
        because: Vec<String>,
    },
    /// Only the host can unmount these; until then snapd 2.77 and later fail to remove the snap.
    UnmountOnHost { points: Vec<String> },
    /// Confinement refused this; these plugs or lines would allow it.
    Allow {
        refused: String,
        /// What would allow it.
        with: String,
    },
    /// Rules of a whole node stay until whose they are removes them, or until a reboot.
    KubeProxyRules { tables: Vec<String> },
}

const UNMOUNT: &str = "unmount on the host (else snapd may fail to remove the snap):";

/// A path that is shown, as a word of a command that is offered for copying.
fn word(point: &String) -> String {
    let bytes = unescape(point.as_bytes());
    shell_word(bytes.as_deref().unwrap_or(point.as_bytes()))
}

impl Advice {
    /// The same as a sentence and commands, each of which belongs on a line of its own: one that is broken where a page ends
    /// is another one when it is pasted, and its second line a command that somebody else has named.
    pub fn in_commands(&self) -> (String, Vec<String>) {
        match self {
            Advice::UnmountOnHost { points } => {
                (UNMOUNT.into(), points.iter().map(|point| format!("umount {}", word(point))).collect())
            }
            other => (other.to_string(), Vec::new()),
        }
    }

    pub(super) fn shorten(&mut self, most: usize) {
        match self {
            Advice::Reboot { because: list }
            | Advice::UnmountOnHost { points: list }
            | Advice::KubeProxyRules { tables: list } => list.truncate(most),
            Advice::Allow { .. } => {}
        }
    }
}

impl std::fmt::Display for Advice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Advice::Reboot { because } => write!(f, "reboot: only that ends {}", because.join(", ")),
            Advice::UnmountOnHost { points } => {
                let words: Vec<String> = points.iter().map(word).collect();
                write!(f, "{UNMOUNT} umount {}", words.join(" "))
            }
            Advice::KubeProxyRules { tables } => write!(
                f,
                "firewall rules of a whole node are left ({}); a reboot removes those that nobody makes again",
                tables.join(", ")
            ),
            Advice::Allow { refused, with } => write!(f, "{refused} was refused; allow it with {with}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_to_copy_is_quoted() {
        let points = ["/a/b", "/x;touch y", "/a\\134\\012b"].map(String::from).to_vec();
        let advice = Advice::UnmountOnHost { points };
        assert_eq!(advice.in_commands().1[..2], ["umount /a/b", "umount '/x;touch y'"]);
        let text = advice.to_string();
        assert!(text.ends_with("umount /a/b '/x;touch y' \"$(printf '/a\\134\\012b')\""), "{text}");
    }
}
