//! The command line: the same library as the hook, for people and for scripts.

mod arguments;
mod asked;
mod check;
mod help;
mod init;
mod metrics;
mod mistakes;
mod packed;
mod page;
mod pretty;
mod progress;
mod result;
mod sections;
mod sizes;
mod snap_processes;
mod survey;
mod table;
mod wrap;

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use nix::errno::Errno;

use crate::error::{Error, Result};
use crate::linux::host::Host;
use crate::program::{self, fail, tell};
use crate::report::{Report, file, journal};
use crate::run;
use crate::run::subject::Subject;
use crate::snap::Snap;
use crate::snap::profile::Profile;
use crate::text;
use arguments::{Call, Options};
use page::Page;
use progress::Progress;

/// The whole command line.
pub fn main() -> ExitCode {
    // Before the working directory changes: file names are meant from there.
    let call = arguments::parse(std::env::args_os().skip(1));
    program::restrain();
    match call.and_then(carry_out) {
        Ok(status) => ExitCode::from(status),
        Err(e) => {
            let status = fail(&e);
            if matches!(e.errno_or_unknown(), Errno::EACCES | Errno::EPERM)
                && !nix::unistd::geteuid().is_root()
            {
                say_aside("run it as root (sudo)");
            }
            status
        }
    }
}

fn carry_out(call: Call) -> Result<u8> {
    match call {
        Call::Survey(options) => survey(&options),
        Call::Remove(options) => remove(&options),
        Call::Verify(options) => verify(&options),
        Call::Report(options) => report(&options),
        Call::ProfileShow(options) => {
            let profile = subject(&options)?.profile;
            say(&readable(&profile))
        }
        Call::ProfileCheck(files) => check_all(&files),
        Call::ProfileInit(options) => {
            init::require_root()?;
            let (profile, remarks) = init::draft(&Host::live(), &snap(&options)?)?;
            for remark in remarks {
                // That nobody reads it must not end the run.
                let _ = writeln!(std::io::stderr(), "{}", text::printable(&remark));
            }
            say(&readable(&profile))
        }
        Call::Help(command) => say(help::of(command)),
        Call::Version => say(concat!("snap-teardown ", env!("CARGO_PKG_VERSION"), "\n")),
        Call::ReportSchema => say(&packed::schema_of_results()),
        Call::ProfileSchema => say(&packed::schema_of_profiles()),
    }
}

/// Says of each file what it is; a wrong one hides none of those after it.
fn check_all(files: &[Option<PathBuf>]) -> Result<u8> {
    let mut status = 0;
    for file in files {
        match check::check(file.as_deref()) {
            Ok(said) => tell(&said)?,
            Err(error) => {
                fail(&error);
                status = program::USAGE;
            }
        }
    }
    Ok(status)
}

fn readable(profile: &Profile) -> String {
    pretty::pretty(&text::printable_json(&text::json(profile)))
}

fn say(text: &str) -> Result<u8> {
    tell(text).map(|()| 0)
}

/// To standard error. That nobody reads it must not end the run.
fn say_aside(text: &str) {
    let _ = writeln!(std::io::stderr(), "snap-teardown: {}", text::printable(text));
}

fn survey(options: &Options) -> Result<u8> {
    let subject = subject(options)?;
    let host = Host::live();
    let report = run::survey(&host, &subject)?;
    if options.json {
        return show(options, &report);
    }
    if !subject.snap.is_installed(&host) {
        say_aside(&format!("snap '{}' is not installed", subject.snap.instance));
    }
    tell(&survey::of(&report, &subject.profile, &page(options)))?;
    Ok(report.exit_status)
}

fn verify(options: &Options) -> Result<u8> {
    let (host, subject) = (Host::live(), subject(options)?);
    if subject.snap.is_enabled(&host) && options.result.is_none() && !file::is_there(&subject.snap) {
        let snap = &subject.snap.instance;
        let what =
            format!("snap '{snap}' is installed, and nothing was removed yet: 'survey' shows what is there");
        say_aside(&what);
    }
    show(options, &run::verify(&host, &subject, options.result.as_deref())?)
}

fn remove(options: &Options) -> Result<u8> {
    let subject = subject(options)?;
    if !nix::unistd::geteuid().is_root() {
        let what = "remove needs root; nothing was touched ('survey' shows what is there)";
        return Err(Error::NotStarted(what.into()));
    }
    if !options.yes {
        meant(options, &subject.snap)?;
    }
    journal::start();
    if run::is_running(&subject.snap) {
        say_aside(&format!("another run works on snap '{}'; waiting for it", subject.snap.instance));
    }
    let report = {
        let mut progress = Progress::new();
        let show_waiting = progress.show_waiting();
        program::remove(
            &subject,
            &mut |step, residues, effort| progress.tell(step, residues, effort),
            show_waiting,
        )?
    };
    let told = match options.json || std::io::stdout().is_terminal() {
        true => show(options, &report).map(drop),
        // As the last line of a hook: snapd keeps 100 lines and 10 KiB.
        false => tell(&report.output()),
    };
    // What was done is done: status 2 would say that nothing was touched.
    if let Err(e) = told {
        say_aside(&e.to_string());
    }
    Ok(report.exit_status)
}

/// Refuses to end a snap that is installed and enabled, unless its own hook asks: 'snap remove' does that, and all the rest.
fn meant(options: &Options, snap: &Snap) -> Result<()> {
    if options.snap.is_none() || snap.runs_us() || !snap.is_enabled(&Host::live()) {
        return Ok(());
    }
    Err(Error::NotStarted(format!(
        "snap '{0}' is installed and enabled: its containers would end and its images go, and nothing else of it. \
         Type 'snap remove {0}', whose hook does this; or 'survey' to see what it would do; or 'remove --yes' if this is meant",
        snap.instance
    )))
}

fn page(options: &Options) -> Page {
    Page { all: options.all, ..Page::of_output() }
}

/// Prints a report, and returns the exit status that goes with it.
fn show(options: &Options, report: &Report) -> Result<u8> {
    if options.json {
        tell(&format!("{}\n", text::printable_json(&text::json(report))))?;
    } else {
        tell(&result::of(report, &page(options)))?;
    }
    Ok(report.exit_status)
}

/// Shows the result of the last run. That there is none is no wrong call: a machine was booted since, say.
fn report(options: &Options) -> Result<u8> {
    const NOT_KNOWN: u8 = 3;
    let snap = snap(options)?;
    let Some((mut report, text)) = file::read_with_text(&Host::live(), &snap)? else {
        say_aside(&format!(
            "there is no result of snap '{}' at {}: nothing was removed since the last boot, or the hook never ran",
            snap.instance,
            text::show(&file::path(&snap))
        ));
        return Ok(NOT_KNOWN);
    };
    if options.metrics {
        if text.is_none() {
            say_aside("the result lies where containers may write, and proves nothing: no metrics");
            return Ok(NOT_KNOWN);
        }
        return say(&metrics::of(&report));
    }
    match text {
        Some(text) if options.json => tell(&format!("{}\n", text::printable_json(&text)))?,
        _ if options.json => drop(show(options, &report)?),
        _ => {
            report.disks = text.as_deref().and_then(sizes::disks_in).unwrap_or_default();
            tell(&result::of_file(&report, run::is_running(&snap), &page(options)))?;
        }
    }
    Ok(report.exit_status)
}

fn subject(options: &Options) -> Result<Subject> {
    let snap = snap(options)?;
    if options.profile.is_none()
        && !snap.is_installed(&Host::live())
        && Profile::built_in(&snap.name)?.is_none()
    {
        return Err(Error::NotStarted(format!(
            "snap '{}' is not installed, and no profile is built in for it{}; of a snap that was removed, name a copy of its \
             teardown.json with --profile",
            snap.instance,
            arguments::near(&snap.name, &Profile::BUILT_IN)
        )));
    }
    let mut subject = program::subject(snap, options.profile.as_deref())?;
    if let Some(grace) = options.grace {
        subject.allow(grace).map_err(|e| Error::NotStarted(format!("--grace: {e}")))?;
    }
    Ok(subject)
}

fn snap(options: &Options) -> Result<Snap> {
    match &options.snap {
        Some(name) => {
            let host = Host::live();
            let snap = Snap::by_name(&host, name)?;
            // A result that was kept is trace enough.
            if options.result.is_none() {
                snap.require_trace(&host)?;
            }
            Ok(snap)
        }
        None if std::env::var_os("SNAP_NAME").is_some() => program::snap_from_environment(),
        None => Err(Error::NotStarted("no snap is named: use --snap NAME".into())),
    }
}
