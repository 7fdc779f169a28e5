//! One shim, once its containers have no process left.

use std::time::{Duration, Instant};

use crate::engine::done::Done;
use crate::engine::step::Effort;
use crate::error::Error;
use crate::linux::process::wait_for_end;
use crate::remove::ability::Ability;
use crate::remove::hold;
use crate::remove::live::Live;
use crate::remove::process::signal;
use crate::residue::Shim;
use crate::runtime::ttrpc::ShimClient;

/// How long a shim gets to forget its containers and to end by itself. Milliseconds serve on an idle machine; on
/// a slow one, a shim that is killed meanwhile leaves what only it could have removed.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(10);

/// How long one that did not answer its farewell gets to end.
const UNANSWERED_TIMEOUT: Duration = Duration::from_secs(2);

/// Ends a shim; never one whose containers still run: they would be left to nobody whose signals they accept.
pub fn remove(live: &Live, shim: &Shim, deadline: Instant) -> Done {
    if !shim.held_by.is_empty() {
        hold::release(live, shim.process);
        return Done::HeldBack { by: shim.held_by.iter().map(ToString::to_string).collect() };
    }
    // Ask only when something is out of our reach: one answer costs more time than all other steps together.
    let out_of_reach = live.refused(Ability::WriteCgroups) || live.refused(Ability::RuntimeState);
    if out_of_reach && bid_farewell(live, shim, deadline.min(Instant::now() + FAREWELL_TIMEOUT)) {
        return Done::Gone;
    }
    signal(live, shim.process, Effort::Force, Ability::SignalShim)
}

/// Has the shim remove what may be out of our own reach (runc's state, the groups, its socket) and end. True if it did.
fn bid_farewell(live: &Live, shim: &Shim, until: Instant) -> bool {
    let Some(socket) = &shim.socket else { return false };
    hold::release(live, shim.process);
    let client = ShimClient::connect(socket, &shim.namespace, until);
    live.tried(Ability::AskShim, client.as_ref().map(drop).map_err(Error::errno_or_unknown));
    let Ok(client) = client else { return false };
    for container in &shim.containers {
        // One that fails must not keep the others from being removed.
        if let Err(e) = client.delete(container) {
            log::debug!("{e}");
        }
    }
    // One that ends may break the connection off before it answers. It must not be killed then: it has yet to
    // remove its socket.
    let until = match client.shutdown(shim.id.as_deref().unwrap_or_default()) {
        Ok(()) => until,
        Err(e) => {
            log::debug!("{e}");
            until.min(Instant::now() + UNANSWERED_TIMEOUT)
        }
    };
    wait_for_end(shim.process, &live.interrupts, until)
}
