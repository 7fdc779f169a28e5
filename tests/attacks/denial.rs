//! Later.

use crate::trial::Attack;

pub const ALL: &[Attack] = &[];
