//! What the integration tests and the demonstration share: a private world with a snap in it, a real container
//! runtime, and an independent look at what is there.

pub mod fixture;
pub mod hook;
pub mod look;
pub mod machine;
#[cfg(feature = "suite")]
pub mod open;
#[cfg(feature = "suite")]
pub mod picture;
pub mod runtime;
#[cfg(feature = "suite")]
pub mod scenes;
#[cfg(feature = "suite")]
pub mod told;
pub mod world;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;

pub type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// The source tree; not there where a program was brought alone.
pub fn sources() -> &'static Path {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")); // tests/support
    own.ancestors().nth(2).unwrap_or(own)
}

/// A script of bash in namespaces of its own, in which no process and no link of anybody else is seen.
pub fn alone(script: &str) -> Command {
    const PRIVATE: [&str; 7] =
        ["--mount", "--pid", "--net", "--ipc", "--fork", "--kill-child", "--mount-proc"];
    let mut command = Command::new("unshare");
    command.args(PRIVATE).args(["bash", "-euc", script]);
    command
}

/// Runs lines of shell as root, and returns what they print.
pub fn sh(line: &str) -> Result<String> {
    let mut command = Command::new("/bin/sh");
    command.args(["-ec", line]).env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    Ok(String::from_utf8_lossy(&runtime::output(&mut command)?).into_owned())
}

/// An error that says `what`, unless it is so.
pub fn demand(condition: bool, what: impl Into<String>) -> Result<()> {
    if condition { Ok(()) } else { Err(what.into().into()) }
}

/// Where cargo put this build's programs: `target/TRIPLE/PROFILE`.
pub fn build_dir() -> Result<PathBuf> {
    let exe = std::env::current_exe()?;
    let dir = exe.parent().ok_or("the test program has no build directory")?;
    // Tests are one deeper.
    let dir = if dir.ends_with("deps") { dir.parent().unwrap_or(dir) } else { dir };
    Ok(dir.to_path_buf())
}

/// A program of this build, with what to do if it is not there.
pub fn built(name: &str) -> Result<PathBuf> {
    let path = build_dir()?.join(name);
    if path.exists() {
        return Ok(path);
    }
    let build = "cargo build --bins -p snap-teardown -p test-tools";
    Err(format!("no '{}': run `{build}` first", path.display()).into())
}
