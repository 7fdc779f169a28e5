//! Ourselves: started from a shell in a container of ours, we are in a group that is to be ended.

use std::path::PathBuf;

use crate::cgroup;
use crate::live::{Live, lock};
use crate::scope::Scope;
use crate::view::View;

/// Moves us to the top of every hierarchy in which we are in a container of ours. Where that is refused, the groups are
/// kept in mind: they are neither killed nor frozen as a whole.
pub fn leave(live: &Live, scope: &Scope, view: &View) {
    let own = i32::try_from(std::process::id()).unwrap_or(0);
    let Ok(tree) = view.cgroups() else { return };
    let groups = view.membership(own).into_iter().filter(|group| {
        scope.containers.iter().flat_map(|c| &c.groups).any(|owned| group.starts_with(owned))
    });
    for group in groups {
        for hierarchy in &tree.hierarchies {
            let here = cgroup::full(&hierarchy.point, &group);
            let top = hierarchy.point.join("cgroup.procs");
            if cgroup::own_pids(view.host, &here).is_ok_and(|pids| pids.contains(&own))
                && let Err(e) = std::fs::write(&top, own.to_string())
            {
                log::warn!("cannot leave the control group '{}': {e}", here.display());
                lock(&live.own_groups).push(here);
            }
        }
    }
}

/// True if we are in this group, or below it, and could not leave.
pub fn inside(live: &Live, group: &std::path::Path) -> bool {
    lock(&live.own_groups).iter().any(|own: &PathBuf| own.starts_with(group))
}
