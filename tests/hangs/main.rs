//! What does not answer, and what ends us half-way: file servers, shims, snapd, the journal, a full disk, signals.
//!
//! The deadline holds to within a few seconds, the report says what was abandoned, and a second run ends clean.

#[path = "../torture/actor/mod.rs"]
mod actor;
#[path = "../torture/check/mod.rs"]
mod check;
#[path = "../torture/dice.rs"]
mod dice;
mod fuse;
mod large;
mod nfs;
mod scenes;
mod servers;
mod stage;
mod surroundings;
#[path = "../torture/worlds/mod.rs"]
mod worlds;

use std::process::ExitCode;

fn main() -> ExitCode {
    match fuse::role().or_else(nfs::role).or_else(actor::in_between).or_else(actor::role) {
        None => {
            support::scenes::main("hangs", scenes::ALL, |name| !name.contains("_nfs_") || nfs::is_possible())
        }
        Some(Ok(())) => ExitCode::SUCCESS,
        Some(Err(error)) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
