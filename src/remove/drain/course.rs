//! A drain that goes on: what all its containers share.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::work::Work;
use crate::remove::live::Live;
use crate::runtime::exec::MOST_PER_SHIM;

/// A drain that goes on.
pub struct Drain<'a> {
    /// The machine.
    pub live: &'a Live,
    /// What threads wait for.
    pub work: Work,
    pub began: Instant,
    pub end: Instant,
    /// Until when threads may wait that nobody waits for.
    pub deadline: Instant,
    /// Commands that each shim was asked to run.
    pub commands: HashMap<PathBuf, usize>,
}

impl Drain<'_> {
    /// True if a shim may be asked to run one more command.
    pub fn may_ask(&mut self, shim: &Path) -> bool {
        let count = self.commands.entry(shim.to_path_buf()).or_insert(0);
        *count += 1;
        *count <= MOST_PER_SHIM
    }
}
