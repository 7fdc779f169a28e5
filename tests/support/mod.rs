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

pub type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// The source tree; not there where a program was brought alone.
pub fn sources() -> &'static Path {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")); // tests/support
    own.ancestors().nth(2).unwrap_or(own)
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
