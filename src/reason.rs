//! Why something is left, could not be looked at, or is left alone: one word, for programs.
//!
//! Beside each stands a sentence for people, which may change. The words are made where the fact is known, and never from
//! the sentence.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Why something is left, could not be looked at, or is left alone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// It is there, and a survey removes nothing.
    Survey,
    /// Nothing was tried: the run only looked, or was over before.
    NotTried,
    /// A fact that had to hold first did not; `closed` of the step says which.
    GateClosed,
    /// It was removed, and is there again.
    ThereAgain,
    /// It was asked or told to end, and did not.
    DidNotEnd,
    /// It was taken out of the mount table, and is still there for whoever uses it.
    Detached,
    /// Something that depends on it runs, or could not be looked at.
    HeldBack,
    /// The kernel or its security modules said no.
    Refused,
    /// Somebody uses it.
    Busy,
    /// It did not work, for another cause.
    Failed,
    /// There is no way to it, or nothing to do it with, on this machine.
    NotPossible,
    /// It stands in the host's mount table, where only the host can undo it.
    OnHost,
    /// It waits in the kernel, and cannot be killed.
    Stuck,
    /// The file server does not answer.
    Silent,
    /// It was read, and makes no sense.
    Malformed,
    /// There are more than are looked at, or they lie too deep.
    TooMany,
    /// Something says that it is ours, and nothing proves it.
    Unproven,
    /// Something says that it is ours, and something else that it is another's, or serves another, too.
    Contradicted,
    /// There is no result of an earlier run that could be used.
    NoResult,
    /// It is somebody else's.
    Anothers,
    /// The run did not come to its end.
    Interrupted,
    /// The document that this was read from does not say, or says it by a word of a later version.
    #[default]
    NotTold,
}

/// Their words, in the same order.
const WORDS: [(Reason, &str); 22] = [
    (Reason::Survey, "survey"),
    (Reason::NotTried, "not-tried"),
    (Reason::GateClosed, "gate-closed"),
    (Reason::ThereAgain, "there-again"),
    (Reason::DidNotEnd, "did-not-end"),
    (Reason::Detached, "detached"),
    (Reason::HeldBack, "held-back"),
    (Reason::Refused, "refused"),
    (Reason::Busy, "busy"),
    (Reason::Failed, "failed"),
    (Reason::NotPossible, "not-possible"),
    (Reason::OnHost, "on-host"),
    (Reason::Stuck, "stuck"),
    (Reason::Silent, "silent"),
    (Reason::Malformed, "malformed"),
    (Reason::TooMany, "too-many"),
    (Reason::Unproven, "unproven"),
    (Reason::Contradicted, "contradicted"),
    (Reason::NoResult, "no-result"),
    (Reason::Anothers, "anothers"),
    (Reason::Interrupted, "interrupted"),
    (Reason::NotTold, "not-told"),
];

/// By hand, for the program's size: it is read in many places.
impl Serialize for Reason {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(self.word())
    }
}

impl<'de> Deserialize<'de> for Reason {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Reason, D::Error> {
        String::deserialize(from).map(|word| Reason::of_word(&word))
    }
}

impl Reason {
    pub fn word(self) -> &'static str {
        WORDS[self as usize].1
    }

    fn of_word(word: &str) -> Reason {
        WORDS.into_iter().find(|(_, known)| *known == word).map_or(Reason::NotTold, |(reason, _)| reason)
    }

    /// Each of them once, in the order of this list. A set of the standard library's would be larger.
    pub fn each_once(reasons: &mut dyn Iterator<Item = Reason>) -> Vec<Reason> {
        let mut all = Vec::new();
        for reason in reasons {
            if let Err(place) = all.binary_search(&reason) {
                all.insert(place, reason);
            }
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::Reason;

    #[test]
    fn each_is_told_once() {
        let some = [Reason::Silent, Reason::Busy, Reason::Silent, Reason::Survey];
        let once = Reason::each_once(&mut some.into_iter());
        assert_eq!(once, [Reason::Survey, Reason::Busy, Reason::Silent]);
    }

    #[test]
    fn each_has_its_word() {
        for (reason, word) in super::WORDS {
            assert_eq!((reason.word(), Reason::of_word(word)), (word, reason));
        }
    }

    #[test]
    fn the_schema_has_each() {
        let schema: serde_json::Value = serde_json::from_str(include_str!("report/schema.json")).unwrap();
        let words = schema["$defs"]["reason"]["enum"].as_array().unwrap();
        assert!(words.iter().eq(super::WORDS.iter().map(|(_, word)| word)), "{words:?}");
    }

    #[test]
    fn a_word_of_tomorrow_is_read_too() {
        let read: Vec<Reason> = crate::json::parse(br#"["gate-closed", "of-tomorrow", "survey"]"#).unwrap();
        assert_eq!(read, [Reason::GateClosed, Reason::NotTold, Reason::Survey]);
    }
}
