//! One network interface.

use std::time::{Duration, Instant};

use nix::errno::Errno;

use crate::live::{Ability, Live, is_refusal, lock};
use crate::netlink;
use crate::report::{Done, Rung};
use crate::sys;

/// Deletes the link, if its index still belongs to this name. A link into a network namespace that was just
/// removed gets the time to go with it; a bridge (or the like) goes at once.
pub fn remove(live: &Live, index: u32, name: &str, kind: &str) -> Done {
    let settled = lock(&live.links_settled).filter(|_| kind == "veth");
    loop {
        if let Ok(found) = netlink::link_at(index)
            && found.is_none_or(|l| l.name != name)
        {
            return Done::Gone;
        }
        if settled.is_none_or(|until| Instant::now() >= until) || live.interrupts.seen() {
            break;
        }
        sys::pause(&live.interrupts, Duration::from_millis(2));
    }
    let result = netlink::delete_link(index);
    live.tried(Ability::RemoveLinks, result.map_err(|e| e as i32));
    match result {
        Ok(()) | Err(Errno::ENODEV) => Done::Gone,
        Err(e) if is_refusal(e as i32) => Done::refused(Rung::Remove, e as i32),
        Err(e) => Done::Failed { error: format!("cannot delete link {name}: {}", e.desc()), errno: e as i32 },
    }
}
