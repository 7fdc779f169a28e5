//! What a step saw.

use crate::error::Blind;
use crate::residue::Residue;

/// What a step saw.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Finding {
    /// What is there and should not be.
    pub residues: Vec<Residue>,
    /// Where something of ours could hide, because it could not be looked at.
    pub blind: Vec<Blind>,
}

impl Finding {
    /// A finding of things alone.
    pub fn of(residues: Vec<Residue>) -> Finding {
        Finding { residues, blind: Vec::new() }
    }
}
