//! Ourselves: started from a shell in a container of ours, we are in a group that is to be ended.

use std::path::PathBuf;

use crate::linux::cgroup::{Hierarchy, full, group};
use crate::remove::live::Live;

/// Moves us to the top of every hierarchy in which we are in one of these groups. Where that is refused, the groups are
/// kept in mind: they are neither killed nor frozen as a whole.
pub fn leave(live: &Live, hierarchies: &[Hierarchy], groups: &[PathBuf]) {
    let own = i32::try_from(std::process::id()).unwrap_or(0);
    for group in groups {
        for hierarchy in hierarchies {
            let here = full(&hierarchy.point, group);
            let top = hierarchy.point.join("cgroup.procs");
            if group::own_pids(&live.host, &here).is_ok_and(|pids| pids.contains(&own))
                && let Err(e) = std::fs::write(&top, own.to_string())
            {
                log::warn!("cannot leave the control group '{}': {e}", crate::text::show(&here));
                live.stays_in(here);
            }
        }
    }
}
