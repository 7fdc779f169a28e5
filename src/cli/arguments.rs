//! The arguments: what is asked for, and with which options.

use std::ffi::OsString;
use std::path::PathBuf;

use crate::error::{Error, Result};
use crate::text;
use lexopt::{Arg, Parser};

/// What is asked for.
#[derive(Debug, PartialEq, Eq)]
pub enum Call {
    /// Help on a command, or on the whole when there is none.
    Help(Option<&'static str>),
    /// The program's version.
    Version,
    /// Look.
    Survey(Options),
    Remove(Options),
    /// Look for what an earlier run was to remove.
    Verify(Options),
    /// Print the last result.
    Report(Options),
    /// Print the profile that would be used.
    ProfileShow(Options),
    /// Files; None is standard input.
    ProfileCheck(Vec<Option<PathBuf>>),
    /// Print a profile as seen from a running snap.
    ProfileInit(Options),
    /// Print the profile's JSON Schema.
    ProfileSchema,
    /// Print the JSON Schema of results.
    ReportSchema,
}

#[derive(Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// `--snap NAME`.
    pub snap: Option<String>,
    /// `--profile FILE`.
    pub profile: Option<PathBuf>,
    /// `--json`.
    pub json: bool,
    /// `--yes`.
    pub yes: bool,
    /// `--all`.
    pub all: bool,
    /// `--result FILE`; `-` is standard input.
    pub result: Option<PathBuf>,
    /// `--dry-run`.
    pub dry_run: bool,
    /// `--metrics`.
    pub metrics: bool,
    /// `--grace SECONDS`.
    pub grace: Option<u64>,
}

const COMMANDS: [&str; 5] = ["survey", "remove", "verify", "report", "profile"];
const ACTIONS: [&str; 4] = ["show", "check", "init", "schema"];

/// Reads the arguments, without the program's name.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Call> {
    let mut raw = RawArguments::default();
    let mut parser = Parser::from_args(arguments);
    while let Some(argument) = parser.next().map_err(wrong)? {
        match argument {
            Arg::Short('h') | Arg::Long("help") => raw.help = true,
            Arg::Short('V') | Arg::Long("version") => raw.version = true,
            Arg::Long("snap") => raw.options.snap = Some(given_text(parser.value().map_err(wrong)?)?),
            Arg::Long("profile") => raw.options.profile = Some(path(parser.value().map_err(wrong)?)),
            Arg::Long("result") => raw.options.result = Some(file_or_input(parser.value().map_err(wrong)?)),
            Arg::Long("json") => raw.options.json = true,
            Arg::Long("yes") => raw.options.yes = true,
            Arg::Long("all") => raw.options.all = true,
            Arg::Long("metrics") => raw.options.metrics = true,
            Arg::Long("dry-run") => raw.options.dry_run = true,
            Arg::Long("grace") => raw.options.grace = Some(seconds(parser.value().map_err(wrong)?)?),
            Arg::Value(word) => raw.words.push(word),
            Arg::Short(letter) => return Err(unknown_option(&format!("-{letter}"))),
            Arg::Long(name) => return Err(unknown_option(&format!("--{name}"))),
        }
    }
    raw.call()
}

/// Everything on the command line, before it is put together.
#[derive(Default)]
struct RawArguments {
    words: Vec<OsString>,
    options: Options,
    help: bool,
    version: bool,
}

impl RawArguments {
    fn call(mut self) -> Result<Call> {
        let word = |this: &mut RawArguments| (!this.words.is_empty()).then(|| this.words.remove(0));
        let mut first = word(&mut self);
        if first.as_ref().is_some_and(|w| w == "help") {
            self.help = true;
            first = word(&mut self);
        }
        let command = first.map(|w| one_of(&w, &COMMANDS, "command")).transpose()?;
        if self.help {
            return Ok(Call::Help(command));
        }
        if self.version {
            return Ok(Call::Version);
        }
        let call = match command {
            None => return Err(usage("say what to do: survey, remove, verify, report or profile")),
            Some("profile") => return self.profile(),
            Some("report") if self.words.first().is_some_and(|word| word == "schema") => {
                self.words.remove(0);
                self.fits("report schema", &[])?;
                return self.no_more(Call::ReportSchema);
            }
            Some(command) => {
                let options = match command {
                    "remove" => &["--snap", "--profile", "--json", "--grace", "--yes", "--dry-run"][..],
                    "survey" => &["--snap", "--profile", "--json", "--grace", "--all"],
                    "verify" => &["--snap", "--profile", "--result", "--json", "--all"],
                    _ if self.options.json => &["--snap", "--json", "--all"],
                    _ if self.options.metrics => &["--snap", "--metrics"],
                    _ => &["--snap", "--all"],
                };
                self.fits(command, options)?;
                command
            }
        };
        let options = std::mem::take(&mut self.options);
        self.no_more(match call {
            "survey" => Call::Survey(options),
            "remove" if options.dry_run => Call::Survey(options),
            "remove" => Call::Remove(options),
            "verify" => Call::Verify(options),
            _ => Call::Report(options),
        })
    }

    fn profile(mut self) -> Result<Call> {
        if self.words.is_empty() {
            return Err(usage("say what to do about a profile: show, check FILE, init or schema"));
        }
        let action = one_of(&self.words.remove(0), &ACTIONS, "action of 'profile'")?;
        let name = format!("profile {action}");
        let options = match action {
            "show" => &["--snap", "--profile", "--json"][..],
            "init" => &["--snap"],
            _ => &[],
        };
        self.fits(&name, options)?;
        let options = std::mem::take(&mut self.options);
        let call = match action {
            "show" => Call::ProfileShow(options),
            "init" => Call::ProfileInit(options),
            "schema" => Call::ProfileSchema,
            _ if self.words.is_empty() => return Err(usage("name the file: profile check FILE")),
            _ => {
                let file = |word: OsString| (word != "-").then(|| path(word));
                Call::ProfileCheck(self.words.drain(..).map(file).collect())
            }
        };
        self.no_more(call)
    }

    /// An option that a command has no use for is a misunderstanding, not something to pass over.
    fn fits(&self, command: &str, allowed: &[&str]) -> Result<()> {
        let given = [
            ("--snap", self.options.snap.is_some()),
            ("--profile", self.options.profile.is_some()),
            ("--result", self.options.result.is_some()),
            ("--json", self.options.json),
            ("--yes", self.options.yes),
            ("--all", self.options.all),
            ("--dry-run", self.options.dry_run),
            ("--metrics", self.options.metrics),
            ("--grace", self.options.grace.is_some()),
        ];
        match given.into_iter().find(|(name, there)| *there && !allowed.contains(name)) {
            Some((name, _)) => Err(usage(&format!("'{command}' has no option '{name}'"))),
            None => Ok(()),
        }
    }

    fn no_more(self, call: Call) -> Result<Call> {
        match self.words.first() {
            Some(word) => {
                let word = text::escape(word.as_encoded_bytes());
                let hint = if word.contains('=') { "" } else { "; a snap is named with --snap" };
                Err(usage(&format!("'{word}' is one word too many{hint}")))
            }
            None => Ok(call),
        }
    }
}

fn one_of(word: &OsString, known: &[&'static str], what: &str) -> Result<&'static str> {
    let found = known.iter().find(|k| word == **k);
    found.copied().ok_or_else(|| {
        let word = text::escape(word.as_encoded_bytes());
        usage(&format!("there is no {what} '{word}'{}", near(&word, known)))
    })
}

fn unknown_option(name: &str) -> Error {
    let known = [
        "--snap",
        "--profile",
        "--result",
        "--json",
        "--metrics",
        "--grace",
        "--yes",
        "--all",
        "--dry-run",
        "--help",
        "--version",
    ];
    usage(&format!("there is no option '{}'{}", text::escape(name.as_bytes()), near(name, &known)))
}

/// What somebody who typed this may have meant.
pub fn near(word: &str, known: &[&str]) -> String {
    let near = known.iter().map(|k| (distance(word, k), k)).min();
    match near {
        Some((distance, near)) if distance <= 2 => format!("; did you mean '{near}'?"),
        _ => String::new(),
    }
}

/// How many letters have to be changed, added or left out.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.iter().enumerate() {
            let cost = (diagonal + usize::from(x != *y)).min(row[j] + 1).min(row[j + 1] + 1);
            diagonal = std::mem::replace(&mut row[j + 1], cost);
        }
    }
    row[b.len()]
}

fn given_text(value: OsString) -> Result<String> {
    value.into_string().map_err(|v| usage(&format!("'{}' is no name", text::escape(v.as_encoded_bytes()))))
}

fn seconds(value: OsString) -> Result<u64> {
    let text = given_text(value)?;
    text.parse().map_err(|_| usage(&format!("'{}' is no number of seconds", text::escape(text.as_bytes()))))
}

/// A relative name is meant from where we were called, and we are about to leave that directory.
fn path(value: OsString) -> PathBuf {
    std::path::absolute(&value).unwrap_or_else(|_| value.into())
}

/// The same, but `-` stays what it is: standard input.
fn file_or_input(value: OsString) -> PathBuf {
    if value == "-" { value.into() } else { path(value) }
}

fn wrong(error: lexopt::Error) -> Error {
    usage(&match error {
        lexopt::Error::MissingValue { option } => {
            format!("'{}' needs a value", option.unwrap_or_default())
        }
        lexopt::Error::UnexpectedValue { option, .. } => format!("'{option}' takes no value"),
        other => other.to_string(),
    })
}

fn usage(what: &str) -> Error {
    Error::NotStarted(format!("{what} (see 'snap-teardown --help')"))
}

#[cfg(test)]
mod tests;
