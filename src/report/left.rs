//! One thing that is left, and why.

use std::ops::Deref;
use std::sync::Arc;

use serde::ser::SerializeStruct;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::engine::step::Effort;
use crate::linux::holders::Holder;
use crate::reason::Reason;
use crate::residue::Residue;

/// One thing that is left, with why. In the document of a survey that is the same for thousands of them, and takes no room.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(from = "Written")]
pub struct Left {
    pub residue: Arc<Residue>,
    /// None if nothing was tried.
    because: Option<Box<Because>>,
}

/// Why something is left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Because {
    pub reason: Reason,
    /// Why; none if nothing was tried.
    pub why: Option<String>,
    pub errno: Option<String>,
    /// The last effort that was made.
    pub effort: Option<Effort>,
    /// Who holds it.
    pub holders: Vec<Holder>,
}

/// Where nothing was tried.
pub const NOT_TRIED: Because =
    Because { reason: Reason::NotTried, why: None, errno: None, effort: None, holders: Vec::new() };

/// The word that JSON has for it.
const WORD: &str = "not tried";

impl Left {
    pub fn new(residue: Arc<Residue>, because: Because) -> Left {
        Left { residue, because: (because != NOT_TRIED).then(|| Box::new(because)) }
    }

    /// Takes the prose away.
    pub(super) fn forget_why(&mut self) {
        self.because.iter_mut().filter_map(|because| because.why.as_mut()).for_each(String::clear);
    }

    /// Cuts the list of who holds it.
    pub(super) fn shorten(&mut self, most: usize) {
        self.because.iter_mut().for_each(|because| because.holders.truncate(most));
    }
}

impl Deref for Left {
    type Target = Because;

    fn deref(&self) -> &Because {
        static NOTHING: Because = NOT_TRIED;
        self.because.as_deref().unwrap_or(&NOTHING)
    }
}

impl Serialize for Left {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let Because { reason, why, errno, effort, holders } = &**self;
        let mut it = to.serialize_struct("Left", 6)?;
        it.serialize_field("residue", &self.residue)?;
        it.serialize_field("reason", reason)?;
        it.serialize_field("why", why.as_deref().unwrap_or(WORD))?;
        if errno.is_some() {
            it.serialize_field("errno", errno)?;
        }
        if effort.is_some() {
            it.serialize_field("effort", effort)?;
        }
        if !holders.is_empty() {
            it.serialize_field("holders", holders)?;
        }
        it.end()
    }
}

/// As it is read.
#[derive(Deserialize)]
struct Written {
    residue: Arc<Residue>,
    #[serde(default)]
    reason: Reason,
    #[serde(deserialize_with = "unless_not_tried")]
    why: Option<String>,
    #[serde(default)]
    errno: Option<String>,
    #[serde(default)]
    effort: Option<Effort>,
    #[serde(default)]
    holders: Vec<Holder>,
}

impl From<Written> for Left {
    fn from(it: Written) -> Left {
        let Written { residue, reason, why, errno, effort, holders } = it;
        Left::new(residue, Because { reason, why, errno, effort, holders })
    }
}

fn unless_not_tried<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    let why = String::deserialize(from)?;
    Ok(Some(why).filter(|why| why != WORD))
}
