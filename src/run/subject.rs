//! What a run works on.

use crate::snap::Snap;
use crate::snap::profile::Profile;

/// What a run works on.
pub struct Subject {
    pub snap: Snap,
    pub profile: Profile,
    /// Where the profile came from.
    pub profile_from: String,
}
