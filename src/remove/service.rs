//! One service of the snap.

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::engine::done::{Done, Rung};
use crate::engine::step::Effort;
use crate::error::errno_of;
use crate::linux::child::{self, ProgramEnd};
use crate::remove::ability::Ability;
use crate::remove::live::Live;
use crate::remove::process;
use crate::residue::Service;

/// Where snapctl is: in a base, and on a host.
const SNAPCTL: [&str; 2] = ["/usr/bin/snapctl", "/usr/lib/snapd/snapctl"];

/// snapd answers within 150 seconds by its own bound; we have less.
const SNAPD_TIMEOUT: Duration = Duration::from_secs(60);

/// Asks snapd to stop the service, so that systemd does not start it again; by force, signals what is left of it.
pub fn remove(live: &Live, service: &Service, effort: Effort, deadline: Instant) -> Done {
    if effort == Effort::Ask && !service.is_scope() && snapctl(live, "stop", &service.name, deadline) {
        return Done::Asked { rung: Rung::Snapctl };
    }
    process::signal_all(live, &service.processes, effort, Ability::SignalService)
}

/// True within a hook: elsewhere there is no cookie, and snapd would refuse.
pub fn can_snapctl() -> bool {
    std::env::var_os("SNAP_COOKIE").is_some_and(|c| !c.is_empty())
        && SNAPCTL.iter().any(|p| Path::new(p).exists())
}

/// `snapctl stop|start SNAP.SERVICE`; true if snapd did it.
pub fn snapctl(live: &Live, verb: &str, service: &str, deadline: Instant) -> bool {
    let Some(cookie) = std::env::var_os("SNAP_COOKIE").filter(|c| !c.is_empty()) else { return false };
    let Some(program) = SNAPCTL.iter().map(Path::new).find(|p| p.exists()) else { return false };
    let target = OsString::from(format!("{}.{service}", live.snap.instance));
    // A snapd that never answers must leave time for everything else.
    let left = deadline.saturating_duration_since(Instant::now());
    let until = Instant::now() + SNAPD_TIMEOUT.min(left / 3);
    let arguments = [OsStr::new(verb), target.as_os_str()];
    let environment = [("SNAP_COOKIE", cookie.clone()), ("SNAP_CONTEXT", cookie)];
    let end = child::run(program, &arguments, &environment, false, until);
    let done = matches!(&end, Ok((ProgramEnd::Exited(status), _)) if status.success());
    live.tried(Ability::Snapctl, end.map(drop).map_err(|e| errno_of(&e)));
    done
}
