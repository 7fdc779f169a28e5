//! The journal: one line for each step, one for the result.

use std::fmt::Display;
use std::io::Write;
use std::os::unix::net::UnixDatagram;
use std::sync::Mutex;
use std::time::Duration;

use log::{Level, LevelFilter, Log, Metadata, Record, log};
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
    lines(report, &mut |level, line| log!(level, "{line}"));
}

/// Hands out the lines: of each step that met something, of each container that did not end well, of the result.
fn lines(report: &Report, to: &mut dyn FnMut(Level, String)) {
    const MAX_CONTAINERS: usize = 20;
    let of_snap = |text: &dyn Display| format!("snap \"{}\": {text}", report.snap.instance);
    let mut line = |level, text: &dyn Display| to(level, of_snap(text));
    for step in &report.steps {
        let c = step.counts;
        if c.found + c.blind == 0 {
            continue;
        }
        let mut text = format!(
            "{}: {} found, {} removed, {} left, {} not looked at, {} ms",
            step.name, c.found, c.removed, c.left, c.blind, step.elapsed_ms
        );
        match (&step.closed, step.left.first()) {
            (Some(closed), _) => text.push_str(&format!("; did nothing: {}", closed.why)),
            (None, Some(left)) => text.push_str(&format!("; first: {}: {}", left.residue, left.told())),
            (None, None) => {}
        }
        let level = if step.closed.is_some() || c.left > 0 { Level::Warn } else { Level::Info };
        line(level, &text);
    }
    // That one was killed is no failure of the run.
    let to_tell = report.endings.iter().filter(|ending| ending.is_to_be_told());
    to_tell.take(MAX_CONTAINERS).for_each(|ending| line(Level::Info, ending));
    let level = if report.outcome == Outcome::Clean { Level::Info } else { Level::Warn };
    to(level, report.headline());
    for advice in &report.advice {
        to(Level::Warn, of_snap(advice));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::History;
    use crate::engine::step::StepName;
    use crate::remove::drain::ending::{End, Ending};
    use crate::report::advice::Advice;
    use crate::report::{Counts, RunFacts, StepReport};
    use crate::runtime::ContainerId;

    #[test]
    fn each_line_names_the_snap_and_who_was_killed_has_one() {
        let ending = |pod: &str, end| Ending {
            container: ContainerId { namespace: "k8s.io".into(), id: "a".into() },
            pod: Some(pod.into()),
            name: Some("app".into()),
            end,
            elapsed_ms: 30_000,
            asked: 30,
            grace: 30,
            signal: None,
            hook: None,
        };
        let mut report = empty();
        report.endings = vec![ending("prod/db-0", End::Killed), ending("prod/web", End::AfterSignal)];
        report.steps.push(StepReport {
            name: StepName::Drain,
            elapsed_ms: 7,
            counts: Counts { found: 2, removed: 2, left: 0, blind: 0 },
            closed: None,
            left: vec![],
            removed: vec![],
            blind: vec![],
        });
        report.advice.push(Advice::EndHolders { holders: vec!["7 sleep (uid 0)".into()] });
        let mut said = Vec::new();
        lines(&report, &mut |level, line| said.push(format!("{level}: {line}")));
        assert_eq!(
            said,
            [
                "INFO: snap \"microk8s\": drain: 2 found, 2 removed, 0 left, 0 not looked at, 7 ms",
                "INFO: snap \"microk8s\": prod/db-0 (app): killed after 30.0 s",
                &format!("INFO: {}", report.headline()),
                "WARN: snap \"microk8s\": end who holds detached mounts, or reboot: 7 sleep (uid 0)",
            ]
        );
    }

    fn empty() -> Report {
        Report::build(RunFacts::of_a_removal(), &[], &History::default(), &crate::fixture::scope_of(&[]))
    }

    #[test]
    fn a_name_makes_no_line_of_its_own() {
        let mut line = Vec::new();
        Line { pid: 7 }.format(&mut line, Severity::LOG_INFO, "a\nb\u{1b}[31m\u{202e}").unwrap();
        assert_eq!(line, b"<30>snap-teardown[7]: a\\012b\\033[31m\\342\\200\\256");
    }
}
