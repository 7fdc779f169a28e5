//! One network interface.

use std::time::{Duration, Instant};

use crate::engine::done::Done;
use crate::linux::{interrupts, links};
use crate::remove::ability::Ability;
use crate::remove::live::Live;
use crate::residue::Link;

/// How often a link that should go by itself is looked at.
const POLL_INTERVAL: Duration = Duration::from_millis(2);

/// Deletes the link, if its index still belongs to this name. A link into a network namespace that was just
/// removed gets the time to go with it; a bridge (or the like) goes at once.
pub fn remove(live: &Live, Link { index, name, r#type }: &Link) -> Done {
    let settled = live.links_settled().filter(|_| r#type == "veth");
    loop {
        if let Ok(found) = links::link_at(*index)
            && found.is_none_or(|l| l.name != *name)
        {
            return Done::Gone;
        }
        if settled.is_none_or(|until| Instant::now() >= until) || live.interrupts.seen() {
            break;
        }
        interrupts::pause(&live.interrupts, POLL_INTERVAL);
    }
    let result = links::delete_link(*index);
    live.tried(Ability::RemoveLinks, result);
    Done::of(result, || format!("delete link {}", crate::text::escape(name.as_bytes())))
}
