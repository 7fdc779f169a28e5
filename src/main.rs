//! The command line: the same library as the hook, for people and for scripts.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use snap_teardown::error::{Error, Result};
use snap_teardown::host::Host;
use snap_teardown::profile::Profile;
use snap_teardown::program::{self, fail, tell};
use snap_teardown::report::Report;
use snap_teardown::run::{self, Subject};
use snap_teardown::snap::Snap;
use snap_teardown::step::{Effort, Step};
use snap_teardown::{result, text};

/// Tears down what a container snap leaves behind: shims, containers, mounts, control groups, state and data.
///
/// Within a hook of the snap the snap is taken from the environment; elsewhere name it with --snap.
///
/// Exit status: 0 nothing is left; 1 something is left; 2 wrong call, environment or profile, nothing was
/// touched; 3 nothing was seen to be left, but not everything could be looked at, or the run was interrupted.
#[derive(Parser)]
#[command(name = "snap-teardown", version, max_term_width = 100)]
struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Show what is there and would be removed, in which order; change nothing.
    Survey(Which),
    /// Remove what is there, look again, and report. Needs root.
    ///
    /// As the last line of a hook script: exec "$SNAP/bin/snap-teardown" remove
    Remove(Which),
    /// Look, after a removal, for what should be gone.
    ///
    /// Uses the result file of the removal (/run/snap.NAME/teardown.json). Without it, what is known only by a
    /// container's ID cannot be looked for, and the exit status is 3.
    Verify(Which),
    /// Print the result of the last run.
    Report(Which),
    /// Print or check a profile.
    Profile {
        #[command(subcommand)]
        action: ProfileAction,
    },
}

#[derive(Args)]
struct Which {
    /// The snap, or the instance of one (name_key), when this is not run within its hook
    #[arg(long, value_name = "NAME")]
    snap: Option<String>,
    /// Use this profile instead of the one that the snap ships or that is built in
    #[arg(long, value_name = "FILE")]
    profile: Option<PathBuf>,
    /// Print the JSON document instead of text
    #[arg(long)]
    json: bool,
}

#[derive(Subcommand)]
enum ProfileAction {
    /// Print the profile that would be used for a snap
    Show(Which),
    /// Check a profile file, and say what is wrong with it and in which line
    Check {
        /// The file
        file: PathBuf,
    },
}

fn main() -> ExitCode {
    program::restrain();
    let options = match Options::try_parse() {
        Ok(options) => options,
        Err(e) => {
            let _ = e.print();
            return ExitCode::from(e.exit_code() as u8);
        }
    };
    match carry_out(options.command) {
        Ok(status) => ExitCode::from(status),
        Err(e) => fail(&e),
    }
}

fn carry_out(command: Command) -> Result<u8> {
    match command {
        Command::Survey(which) => show(&which, run::survey(&Host::live(), &which.subject()?)?),
        Command::Verify(which) => show(&which, run::verify(&Host::live(), &which.subject()?)?),
        Command::Remove(which) => remove(&which),
        Command::Report(which) => {
            let snap = which.snap()?;
            let missing = || {
                Error::Usage(format!(
                    "there is no result of snap '{}' at {}",
                    snap.instance,
                    text::show(&result::path(&snap))
                ))
            };
            show(&which, result::read(&snap)?.ok_or_else(missing)?)
        }
        Command::Profile { action: ProfileAction::Show(which) } => {
            let profile = which.subject()?.profile;
            tell(&format!("{}\n", serde_json::to_string_pretty(&profile).unwrap_or_default()));
            Ok(0)
        }
        Command::Profile { action: ProfileAction::Check { file } } => {
            let profile = Profile::read(&Host::live(), &file)?;
            tell(&format!("{}: a valid profile for snap '{}'\n", text::show(&file), profile.snap));
            Ok(0)
        }
    }
}

fn remove(which: &Which) -> Result<u8> {
    let subject = which.subject()?;
    if !nix::unistd::geteuid().is_root() {
        return Err(Error::Usage(
            "remove needs root; nothing was touched ('survey' shows what is there)".into(),
        ));
    }
    snap_teardown::logging::to_journal();
    let terminal = std::io::stderr().is_terminal();
    let mut watch = |step: &Step, count: usize, effort: Effort| {
        if terminal {
            let what = if effort == Effort::Ask { "asking" } else { "removing" };
            let _ = writeln!(
                std::io::stderr(),
                "{}: {what} {count} (up to {} s)",
                step.name,
                step.grace.as_secs()
            );
        }
    };
    let report = program::remove(&subject, &mut watch)?;
    if which.json {
        return show(which, report);
    }
    tell(&report.output());
    Ok(report.exit_status)
}

/// Prints a report, and returns the exit status that goes with it.
fn show(which: &Which, report: Report) -> Result<u8> {
    if which.json {
        tell(&format!("{}\n", serde_json::to_string(&report).unwrap_or_default()));
    } else {
        tell(&report.summary());
    }
    Ok(report.exit_status)
}

impl Which {
    fn subject(&self) -> Result<Subject> {
        program::subject(self.snap()?, self.profile.as_deref())
    }

    fn snap(&self) -> Result<Snap> {
        match &self.snap {
            Some(name) => Snap::by_name(&Host::live(), name),
            None if std::env::var_os("SNAP_NAME").is_some() => program::snap_from_environment(),
            None => Err(Error::Usage("no snap is named: use --snap NAME".into())),
        }
    }
}
