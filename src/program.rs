//! What both programs do around a run: take care of themselves first, tell the result last.

use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::process::ExitCode;

use crate::error::{Error, Result};
use crate::linux::host::Host;
use crate::linux::sys;
use crate::report::{Report, journal};
use crate::run;
use crate::run::rounds::Watch;
use crate::run::subject::Subject;
use crate::snap::Snap;
use crate::snap::profile::Profile;

/// Exit status for a wrong call, environment or profile: nothing was touched.
pub const USAGE: u8 = 2;

/// First of all: nothing inherited may pin what is to be removed, or decide what our files look like.
pub fn restrain() {
    sys::close_inherited();
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o077));
    let _ = std::env::set_current_dir("/");
    // A world of thousands of pods needs more descriptors than the usual soft limit.
    if let Ok((_, hard)) = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE) {
        let _ = nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE, hard, hard);
    }
}

/// The whole hook.
pub fn hook() -> ExitCode {
    restrain();
    journal::start();
    let done = if std::env::args_os().len() > 1 {
        Err(Error::NotStarted(
            "the remove hook takes no arguments; for a command line see 'snap-teardown --help'".into(),
        ))
    } else {
        snap_from_environment()
            .and_then(|snap| subject(snap, None))
            .and_then(|subject| remove(&subject, &mut |_, _, _| {}, None))
    };
    match done {
        Ok(report) => {
            // What was done is done, whether or not somebody can read of it.
            let _ = tell(&report.output());
            ExitCode::from(report.exit_status)
        }
        Err(e) => fail(&e),
    }
}

/// The snap that snapd runs us for.
pub fn snap_from_environment() -> Result<Snap> {
    Snap::from_environment(|key| std::env::var(key).ok())
}

/// The snap with its profile, or with the one in a file.
pub fn subject(snap: Snap, profile: Option<&std::path::Path>) -> Result<Subject> {
    let host = Host::live();
    let (profile, profile_from) = match profile {
        Some(file) => (Profile::read(&host, file)?, crate::text::show(file).into_owned()),
        None => Profile::of_snap(&host, &snap)?,
    };
    profile.resolve(&snap)?;
    let mut subject = Subject { snap, profile, profile_from };
    if let Err(e) = allow_administrators_grace(&host, &mut subject) {
        log::warn!("{e}; the profile's grace is used");
    }
    Ok(subject)
}

/// How long containers get to end may be in a file of the administrator's: `snap remove` takes no options of ours. It says
/// how patient a run is, and nothing else.
fn allow_administrators_grace(host: &Host, subject: &mut Subject) -> Result<()> {
    let path = subject.snap.common.join("teardown.grace");
    let Ok(metadata) = host.stat(&path) else { return Ok(()) };
    let malformed = |reason: String| Error::Malformed { path: path.clone(), reason };
    if !metadata.is_file() || metadata.uid() != 0 || metadata.mode() & 0o022 != 0 {
        return Err(malformed("not a file that only root can have written".into()));
    }
    let text = host.read_at_most(&path, 64)?;
    let seconds = std::str::from_utf8(&text).ok().and_then(|text| text.trim().parse().ok());
    let seconds = seconds.ok_or_else(|| malformed("not a number of seconds".into()))?;
    subject.allow(seconds).map_err(|e| malformed(e.to_string()))
}

/// Removes, and tells the journal.
pub fn remove(subject: &Subject, watch: Watch, show_waiting: Option<fn(&str)>) -> Result<Report> {
    let report = run::remove(subject, watch, show_waiting)?;
    journal::tell(&report);
    Ok(report)
}

/// Says what is wrong, to people and to the journal.
pub fn fail(error: &Error) -> ExitCode {
    log::error!("{error}");
    // A mistake in a profile is shown with its line, below which a mark stands.
    let text = error.to_string();
    let lines: Vec<_> = text.lines().map(crate::text::printable).collect();
    let _ = writeln!(std::io::stderr(), "snap-teardown: {}", lines.join("\n"));
    ExitCode::from(USAGE)
}

/// Prints. That nobody reads on is no error (`| head`); that it cannot be written (a full disk) is.
pub fn tell(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Error::NotStarted(format!("cannot write to standard output: {e}")))
        }
        _ => Ok(()),
    }
}
