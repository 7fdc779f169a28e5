//! What to do about what is left or was refused.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use crate::text::{shell_word, unescape};

/// What to do about what is left.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "do", rename_all = "kebab-case", rename_all_fields = "kebab-case")]
pub enum Advice {
    /// Only a reboot ends these.
    Reboot {
        /// Which, and why.
        because: Vec<String>,
    },
    /// These processes keep mounts alive that were detached.
    EndHolders { holders: Vec<String> },
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

/// By hand, for the program's size: derived code would read it into a tree of values first.
impl<'de> Deserialize<'de> for Advice {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Advice, D::Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "kebab-case")]
        enum What {
            Reboot,
            EndHolders,
            UnmountOnHost,
            Allow,
            KubeProxyRules,
        }
        #[derive(Deserialize)]
        struct Told {
            r#do: What,
            because: Option<Vec<String>>,
            holders: Option<Vec<String>>,
            points: Option<Vec<String>>,
            refused: Option<String>,
            with: Option<String>,
            tables: Option<Vec<String>>,
        }
        let Told { r#do, because, holders, points, refused, with, tables } = Told::deserialize(from)?;
        let advice = match r#do {
            What::Reboot => because.map(|because| Advice::Reboot { because }),
            What::EndHolders => holders.map(|holders| Advice::EndHolders { holders }),
            What::UnmountOnHost => points.map(|points| Advice::UnmountOnHost { points }),
            What::Allow => refused.zip(with).map(|(refused, with)| Advice::Allow { refused, with }),
            What::KubeProxyRules => tables.map(|tables| Advice::KubeProxyRules { tables }),
        };
        advice.ok_or_else(|| D::Error::custom("advice that does not say what about"))
    }
}

const UNMOUNT: &str = "unmount on the host (else snapd may delete what is in them, and then fail):";

/// A path that is shown, as a word of a command that is offered for copying.
pub fn word(point: &String) -> String {
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

    /// The word for it in the document.
    pub fn word(&self) -> &'static str {
        match self {
            Advice::Reboot { .. } => "reboot",
            Advice::EndHolders { .. } => "end-holders",
            Advice::UnmountOnHost { .. } => "unmount-on-host",
            Advice::Allow { .. } => "allow",
            Advice::KubeProxyRules { .. } => "kube-proxy-rules",
        }
    }

    pub(super) fn shorten(&mut self, most: usize) {
        match self {
            Advice::Reboot { because: list }
            | Advice::EndHolders { holders: list }
            | Advice::UnmountOnHost { points: list }
            | Advice::KubeProxyRules { tables: list } => list.truncate(most),
            Advice::Allow { .. } => {}
        }
    }
}

impl std::fmt::Display for Advice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Advice::Reboot { because } => {
                write!(
                    f,
                    "reboot: only that ends {} (keep the result: 'verify --result')",
                    because.join(", ")
                )
            }
            Advice::EndHolders { holders } => {
                write!(f, "end who holds detached mounts, or reboot: {}", holders.join(", "))
            }
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
    fn what_is_written_is_read() {
        let all = [
            Advice::Reboot { because: vec!["a".into()] },
            Advice::EndHolders { holders: vec!["7 sleep (uid 0)".into()] },
            Advice::UnmountOnHost { points: vec!["/b".into()] },
            Advice::Allow { refused: "c".into(), with: "d".into() },
            Advice::KubeProxyRules { tables: vec![] },
        ];
        let json = crate::text::json(&all);
        let worded = |a: &Advice| json.contains(&format!("{{\"do\":\"{}\"", a.word()));
        assert!(all.iter().all(worded), "{json}");
        assert_eq!(crate::json::parse::<Vec<Advice>>(json.as_bytes()).unwrap(), all);
        assert!(crate::json::parse::<Advice>(b"{\"do\": \"reboot\"}").is_err());
    }

    #[test]
    fn a_command_to_copy_is_quoted() {
        let points = ["/a/b", "/x;touch y", "/a\\134\\012b"].map(String::from).to_vec();
        let advice = Advice::UnmountOnHost { points };
        assert_eq!(advice.in_commands().1[..2], ["umount /a/b", "umount '/x;touch y'"]);
        let text = advice.to_string();
        assert!(text.ends_with("umount /a/b '/x;touch y' \"$(printf '/a\\134\\012b')\""), "{text}");
    }
}
