//! The journal: one line for each step, one for the result.

use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use log::{LevelFilter, info, warn};
use syslog::{BasicLogger, Facility, Formatter3164, Logger, LoggerBackend};

use crate::report::{Outcome, Report};

/// The name under which all lines stand.
pub const IDENTIFIER: &str = "snap-teardown";

const SOCKETS: [&str; 2] = ["/dev/log", "/run/systemd/journal/dev-log"];

/// Sends log lines to the journal from now on; does nothing where there is none. A journal that does not read
/// costs moments, never the run.
pub fn to_journal() {
    const PATIENCE: Duration = Duration::from_millis(50);
    let Ok(socket) = UnixDatagram::unbound() else { return };
    let ready = socket.set_write_timeout(Some(PATIENCE)).is_ok()
        && SOCKETS.iter().any(|path| socket.connect(path).is_ok());
    if !ready {
        return;
    }
    let formatter = Formatter3164 {
        facility: Facility::LOG_DAEMON,
        hostname: None,
        process: IDENTIFIER.into(),
        pid: std::process::id(),
    };
    let logger = BasicLogger::new(Logger::new(LoggerBackend::Unix(socket), formatter));
    if log::set_boxed_logger(Box::new(logger)).is_ok() {
        log::set_max_level(LevelFilter::Info);
    }
}

/// Writes a report's lines.
pub fn journal(report: &Report) {
    for step in &report.steps {
        let c = step.counts;
        if c.found + c.blind == 0 {
            continue;
        }
        let line = format!(
            "{}: {} found, {} removed, {} left, {} not looked at, {} ms",
            step.name, c.found, c.removed, c.left, c.blind, step.elapsed_ms
        );
        match &step.closed {
            Some(closed) => warn!("{line}; did nothing: {}", closed.why),
            None if c.left > 0 => {
                let first = step
                    .left
                    .first()
                    .map(|l| format!("; first: {}: {}", l.residue, l.reason()))
                    .unwrap_or_default();
                warn!("{line}{first}");
            }
            None => info!("{line}"),
        }
    }
    match report.outcome {
        Outcome::Clean => info!("{}", report.headline()),
        _ => warn!("{}", report.headline()),
    }
    for advice in &report.advice {
        warn!("{advice}");
    }
}
