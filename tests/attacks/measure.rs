//! Runs a program and writes down the most memory that it, or any program it waited for, has needed.
//!
//! It is a process of its own since the kernel keeps one figure for all of a process's children, and those of a test are many.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitCode};

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::signal::{SigSet, Signal};

use support::Result;

const WORD: &str = "measure";

/// What to put before a command line, so that the figure goes to `file`, in kilobytes.
pub fn by(file: &str) -> Result<[String; 3]> {
    Ok([std::env::current_exe()?.display().to_string(), WORD.into(), file.into()])
}

/// For `main`: plays this part if it is the one asked for.
pub fn role() -> Result<Option<ExitCode>> {
    let words: Vec<_> = std::env::args().collect();
    let [_, word, file, program, arguments @ ..] = words.as_slice() else { return Ok(None) };
    if word != WORD {
        return Ok(None);
    }
    // Signals for the group are for the program, which starts with none blocked.
    SigSet::from_iter([Signal::SIGTERM, Signal::SIGINT]).thread_block()?;
    let status = Command::new(program).args(arguments).status()?;
    fs::write(file, getrusage(UsageWho::RUSAGE_CHILDREN)?.max_rss().to_string())?;
    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
    Ok(Some(ExitCode::from(u8::try_from(code)?)))
}
