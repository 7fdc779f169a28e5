//! What a run works on.

use crate::error::{Error, Result};
use crate::snap::Snap;
use crate::snap::profile::Profile;

/// What a run works on.
pub struct Subject {
    pub snap: Snap,
    pub profile: Profile,
    /// Where the profile came from.
    pub profile_from: String,
}

impl Subject {
    /// Gives containers so long to end; those that name a grace of their own, at most. Not more than the run has.
    pub fn allow(&mut self, grace: u64) -> Result<()> {
        let patience = &mut self.profile.patience;
        if grace > patience.deadline {
            let deadline = patience.deadline;
            let reason = format!("{grace} s is more than the profile's deadline, {deadline} s");
            return Err(Error::NotStarted(reason));
        }
        (patience.drain, patience.maximum_grace) = (grace, Some(grace));
        Ok(())
    }
}
