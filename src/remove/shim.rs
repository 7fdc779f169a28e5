//! One shim, once its containers have no process left.

use std::time::{Duration, Instant};

use super::{process, ttrpc};
use crate::live::{Ability, Live};
use crate::report::Done;
use crate::residue::Residue;
use crate::step::Effort;
use crate::sys;

/// How long a shim gets to forget its containers and to end by itself. Milliseconds serve on an idle machine; on
/// a slow one, a shim that is killed meanwhile leaves what only it could have removed.
const FAREWELL: Duration = Duration::from_secs(10);

/// How long one that did not answer its farewell gets to end.
const ENDING: Duration = Duration::from_secs(2);

/// Ends a shim; never one whose containers still run: they would be left to nobody whose signals they accept.
///
/// A shim can remove what may be out of our own reach: runc's state, the groups, its socket. It is asked for
/// that only where it is, since each of its answers takes longer than the whole rest.
pub fn remove(live: &Live, residue: &Residue, deadline: Instant) -> Done {
    let Residue::Shim { process, namespace, id, socket, containers, held_by } = residue else {
        return Done::NotPossible { why: "not a shim".into() };
    };
    if !held_by.is_empty() {
        return Done::HeldBack { by: held_by.clone() };
    }
    if (live.refused(Ability::WriteCgroups) || live.refused(Ability::RuntimeState))
        && let Some(socket) = socket
    {
        let until = deadline.min(Instant::now() + FAREWELL);
        let shim = ttrpc::Shim::connect(socket, namespace, until);
        live.tried(Ability::AskShim, shim.as_ref().map(drop).map_err(|e| e.errno().unwrap_or(0)));
        if let Ok(shim) = shim {
            for container in containers {
                // One that fails must not keep the others from being removed.
                if let Err(e) = shim.delete(container) {
                    log::debug!("{e}");
                }
            }
            // One that ends may break the connection off before it answers. It must not be killed then: it has yet to
            // remove its socket.
            let until = match shim.shutdown(id.as_deref().unwrap_or_default()) {
                Ok(()) => until,
                Err(e) => {
                    log::debug!("{e}");
                    until.min(Instant::now() + ENDING)
                }
            };
            if sys::wait_for_end(*process, &live.interrupts, until) {
                return Done::Gone;
            }
        }
    }
    process::signal(live, *process, Effort::Force, Ability::SignalShim)
}
