//! The journal: one line for each step, one for the result.

use std::fmt::Display;
use std::io::Write;
use std::os::unix::net::UnixDatagram;
use std::sync::Mutex;
use std::time::Duration;

use log::{Level, LevelFilter, Log, Metadata, Record, info, warn};
use syslog::{Facility, LogFormat, Logger, LoggerBackend, Severity};

use crate::linux::sync::locked;

use crate::report::{Outcome, Report};
use crate::text::printable;

/// The name under which all lines stand.
pub const IDENTIFIER: &str = "snap-teardown";

const SOCKETS: [&str; 2] = ["/dev/log", "/run/systemd/journal/dev-log"];

/// Sends log lines to the journal from now on; does nothing where there is none. A journal that does not read
/// costs moments, never the run.
pub fn start() {
    const WRITE_TIMEOUT: Duration = Duration::from_millis(50);
    let Ok(socket) = UnixDatagram::unbound() else { return };
    let ready = socket.set_write_timeout(Some(WRITE_TIMEOUT)).is_ok()
        && SOCKETS.iter().any(|path| socket.connect(path).is_ok());
    if !ready {
        return;
    }
    let logger = Logger::new(LoggerBackend::Unix(socket), Line { pid: std::process::id() });
    if log::set_boxed_logger(Box::new(Journal(Mutex::new(logger)))).is_ok() {
        log::set_max_level(LevelFilter::Info);
    }
}

/// A line as RFC 3164 has it, without the time: the journal has its own, and a formatter of times is large.
struct Line {
    pid: u32,
}

impl<T: Display> LogFormat<T> for Line {
    fn format<W: Write>(&self, to: &mut W, severity: Severity, message: T) -> syslog::Result<()> {
        let priority = Facility::LOG_DAEMON as u8 | severity as u8;
        // A line of the journal is one line, whatever is named in it.
        let message = message.to_string();
        Ok(write!(to, "<{priority}>{IDENTIFIER}[{}]: {}", self.pid, printable(&message))?)
    }
}

struct Journal(Mutex<Logger<LoggerBackend, Line>>);

impl Log for Journal {
    fn enabled(&self, metadata: &Metadata) -> bool {
        metadata.level() <= Level::Info
    }

    fn log(&self, record: &Record) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let mut logger = locked(&self.0);
        // A line that cannot be sent is lost; there is nobody to tell.
        let _ = match record.level() {
            Level::Error => logger.err(record.args()),
            Level::Warn => logger.warning(record.args()),
            _ => logger.info(record.args()),
        };
    }

    fn flush(&self) {}
}

/// Writes a report's lines.
pub fn tell(report: &Report) {
    for step in &report.steps {
        let c = step.counts;
        if c.found + c.blind == 0 {
            continue;
        }
        let line = format!(
            "snap \"{}\": {}: {} found, {} removed, {} left, {} not looked at, {} ms",
            report.snap.instance, step.name, c.found, c.removed, c.left, c.blind, step.elapsed_ms
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
        warn!("snap \"{}\": {advice}", report.snap.instance);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_makes_no_line_of_its_own() {
        let mut line = Vec::new();
        Line { pid: 7 }.format(&mut line, Severity::LOG_INFO, "a\nb\u{1b}[31m\u{202e}").unwrap();
        assert_eq!(line, b"<30>snap-teardown[7]: a\\012b\\033[31m\\342\\200\\256");
    }
}
