//! The journal: one line for each step, one for the result.

use std::fmt::Display;
use std::io::Write;
use std::os::unix::net::UnixDatagram;
use std::sync::Mutex;
use std::time::Duration;

use log::{Level, LevelFilter, Log, Metadata, Record, log};
use syslog::{Facility, LogFormat, Logger, LoggerBackend, Severity};

use crate::linux::sync::locked;

use crate::reason::Reason;
use crate::report::{Counts, Outcome, Report, StepReport};
use crate::text::{name, printable};

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

/// Where the journal takes lines with fields (systemd.io/JOURNAL_NATIVE_PROTOCOL).
const NATIVE: &str = "/run/systemd/journal/socket";

/// A longer document is not sent to the journal, which takes no more of one datagram than the socket's buffer holds.
const LARGEST_RESULT: u64 = 128 << 10;

/// One line, and what it says for programs: fields of the journal, whose names go on behind `SNAP_TEARDOWN_`.
struct Entry {
    level: Level,
    message: String,
    fields: Vec<(&'static str, String)>,
}

/// Writes a report's lines: with their fields where the journal takes them, and as plain lines where it does not.
pub fn tell(report: &Report) {
    let native = native();
    entries(report, &mut |entry| {
        let sent = native.as_ref().is_some_and(|socket| socket.send(&entry.native()).is_ok());
        if !sent {
            log!(entry.level, "{}", entry.message);
        }
    });
}

/// Never waits: what the journal does not take at once goes the other way.
fn native() -> Option<UnixDatagram> {
    let socket = UnixDatagram::unbound().ok()?;
    socket.set_nonblocking(true).ok()?;
    socket.connect(NATIVE).ok()?;
    Some(socket)
}

impl Entry {
    /// As the journal's own protocol has it.
    fn native(&self) -> Vec<u8> {
        let severity = match self.level {
            Level::Error => Severity::LOG_ERR,
            Level::Warn => Severity::LOG_WARNING,
            _ => Severity::LOG_INFO,
        };
        let mut out = Vec::new();
        field(&mut out, "MESSAGE", &self.message);
        field(&mut out, "PRIORITY", &(severity as u8).to_string());
        field(&mut out, "SYSLOG_FACILITY", &(Facility::LOG_DAEMON as u8 >> 3).to_string());
        field(&mut out, "SYSLOG_IDENTIFIER", IDENTIFIER);
        for (name, value) in &self.fields {
            field(&mut out, &format!("SNAP_TEARDOWN_{name}"), value);
        }
        out
    }
}

/// The protocol ends a value at the end of its line, or has its length before it. Here names are shown as everywhere: none has
/// a line break left with which it could make a field of its own, nor what speaks to a terminal.
fn field(out: &mut Vec<u8>, name: &str, value: &str) {
    for part in [name, "=", &printable(value), "\n"] {
        out.extend_from_slice(part.as_bytes());
    }
}

fn counts(counts: Counts, elapsed_ms: u64) -> Vec<(&'static str, String)> {
    let Counts { found, removed, left, blind } = counts;
    let named = [("FOUND", found), ("REMOVED", removed), ("LEFT", left), ("BLIND", blind)];
    let mut fields: Vec<_> = named.into_iter().map(|(name, n)| (name, n.to_string())).collect();
    fields.push(("ELAPSED_MS", elapsed_ms.to_string()));
    fields
}

/// Hands out the lines: of each step that met something, of each container that did not end well, of the result.
fn entries(report: &Report, to: &mut dyn FnMut(Entry)) {
    const MAX_CONTAINERS: usize = 20;
    let snap = &report.snap.instance;
    let mut line = |level, text: &dyn Display, mut fields: Vec<(&'static str, String)>| {
        fields.insert(0, ("SNAP", snap.clone()));
        to(Entry { level, message: text.to_string(), fields });
    };
    let of_snap = |text: &dyn Display| format!("snap \"{snap}\": {text}");
    for step in report.steps.iter().filter(|step| step.counts.found + step.counts.blind > 0) {
        let (level, text, fields) = of_step(step);
        line(level, &of_snap(&text), fields);
    }
    // That one was killed is no failure of the run.
    let to_tell = report.endings.iter().filter(|ending| ending.is_to_be_told());
    for ending in to_tell.take(MAX_CONTAINERS) {
        let id = format!("{}/{}", ending.container.namespace, ending.container.id);
        let mut fields = vec![("CONTAINER", id), ("END", name(&ending.end))];
        fields.extend(ending.pod.clone().map(|pod| ("POD", pod)));
        fields.push(("ELAPSED_MS", ending.elapsed_ms.to_string()));
        line(Level::Info, &of_snap(ending), fields);
    }
    let level = if report.outcome == Outcome::Clean { Level::Info } else { Level::Warn };
    line(level, &report.headline(), of_result(report));
    for advice in &report.advice {
        line(Level::Warn, &of_snap(advice), vec![("ADVICE", advice.word().into())]);
    }
}

fn of_step(step: &StepReport) -> (Level, String, Vec<(&'static str, String)>) {
    let c = step.counts;
    let mut text = format!(
        "{}: {} found, {} removed, {} left, {} not looked at, {} ms",
        step.name, c.found, c.removed, c.left, c.blind, step.elapsed_ms
    );
    let mut fields = vec![("STEP", step.name.to_string())];
    fields.extend(counts(c, step.elapsed_ms));
    match (&step.closed, step.left.first()) {
        (Some(closed), _) => {
            text.push_str(&format!("; did nothing: {}", closed.why));
            fields.push(("GATE", name(&closed.gate)));
        }
        (None, Some(left)) => text.push_str(&format!("; first: {}: {}", left.residue, left.told())),
        (None, None) => {}
    }
    let mut reasons = step.left.iter().map(|left| left.reason).chain(step.blind.iter().map(|it| it.reason));
    fields.extend(Reason::each_once(&mut reasons).iter().map(|reason| ("REASON", reason.word().into())));
    let level = if step.closed.is_some() || c.left > 0 { Level::Warn } else { Level::Info };
    (level, text, fields)
}

fn of_result(report: &Report) -> Vec<(&'static str, String)> {
    let mut fields = vec![
        ("OUTCOME", name(&report.outcome)),
        ("EXIT_STATUS", report.exit_status.to_string()),
        ("COMMAND", name(&report.command)),
        ("VERSION", report.version.clone()),
    ];
    if let Some(needs) = &report.needs {
        fields.push(("NEEDS", name(&needs.what)));
        fields.extend(needs.because.iter().map(|reason| ("REASON", reason.word().into())));
    }
    fields.extend(counts(report.counts, report.elapsed_ms));
    fields.extend(report.snap.revision.clone().map(|revision| ("REVISION", revision)));
    fields.extend(report.file.clone().map(|file| ("FILE", file)));
    fields.extend(report.json_within(LARGEST_RESULT).map(|json| ("RESULT", json)));
    fields
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::History;
    use crate::engine::step::StepName;
    use crate::remove::drain::ending::{End, Ending};
    use crate::report::RunFacts;
    use crate::report::advice::Advice;
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
        entries(&report, &mut |entry| said.push(format!("{}: {}", entry.level, entry.message)));
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

    #[test]
    fn a_program_reads_fields_and_no_value_makes_one_of_its_own() {
        let mut report = empty();
        report.snap.instance = "own".into();
        report.file = Some("/x\nMESSAGE=forged\u{1b}[31m".into());
        let mut said = Vec::new();
        entries(&report, &mut |entry| said.push(entry.native()));
        let [entry] = &said[..] else { panic!("{said:?}") };
        let text = std::str::from_utf8(entry).unwrap();
        for line in [
            "PRIORITY=6",
            "SYSLOG_FACILITY=3",
            "SYSLOG_IDENTIFIER=snap-teardown",
            "SNAP_TEARDOWN_SNAP=own",
            "SNAP_TEARDOWN_OUTCOME=clean",
            "SNAP_TEARDOWN_EXIT_STATUS=0",
            "SNAP_TEARDOWN_NEEDS=none",
            "SNAP_TEARDOWN_LEFT=0",
            "SNAP_TEARDOWN_FILE=/x\\012MESSAGE=forged\\033[31m",
        ] {
            assert!(text.lines().any(|l| l == line), "no {line} in {text}");
        }
        assert_eq!(text.lines().filter(|line| line.starts_with("MESSAGE=")).count(), 1, "{text}");
    }

    fn empty() -> Report {
        Report::build(
            RunFacts::of_a_removal(),
            &[],
            &History::default(),
            &crate::fixture::scope_of(&[]).into(),
        )
    }

    #[test]
    fn a_name_makes_no_line_of_its_own() {
        let mut line = Vec::new();
        Line { pid: 7 }.format(&mut line, Severity::LOG_INFO, "a\nb\u{1b}[31m\u{202e}").unwrap();
        assert_eq!(line, b"<30>snap-teardown[7]: a\\012b\\033[31m\\342\\200\\256");
    }
}
