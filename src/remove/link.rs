//! One network interface.

use nix::errno::Errno;

use crate::live::{Ability, Live, is_refusal};
use crate::netlink;
use crate::report::{Done, Rung};

/// Deletes the link, if its index still belongs to this name.
pub fn remove(live: &Live, index: u32, name: &str) -> Done {
    if let Ok(found) = netlink::link_at(index)
        && found.is_none_or(|l| l.name != name)
    {
        return Done::Gone;
    }
    let result = netlink::delete_link(index);
    live.tried(Ability::RemoveLinks, result.map_err(|e| e as i32));
    match result {
        Ok(()) | Err(Errno::ENODEV) => Done::Gone,
        Err(e) if is_refusal(e as i32) => Done::refused(Rung::Remove, e as i32),
        Err(e) => Done::Failed { error: format!("cannot delete link {name}: {}", e.desc()), errno: e as i32 },
    }
}
