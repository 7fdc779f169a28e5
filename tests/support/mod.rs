//! What the integration tests and the demonstration share: a private world with a snap in it, a real container
//! runtime, and an independent look at what is there.

#![allow(dead_code)] // each program that includes this uses its own part

pub mod hook;
pub mod look;
pub mod picture;
pub mod runtime;
pub mod scenes;
pub mod told;
pub mod world;

use std::error::Error;
use std::path::PathBuf;

pub type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Where cargo put this build's programs: `target/TRIPLE/PROFILE`.
pub fn build_dir() -> Result<PathBuf> {
    let exe = std::env::current_exe()?;
    let dir = exe.ancestors().nth(2).ok_or("the test program has no build directory")?;
    Ok(dir.to_path_buf())
}

/// A program of this build, with what to do if it is not there.
pub fn built(name: &str) -> Result<PathBuf> {
    let path = build_dir()?.join(name);
    if path.exists() {
        Ok(path)
    } else {
        Err(format!("no '{}': run `cargo build --bins --examples` first", path.display()).into())
    }
}
