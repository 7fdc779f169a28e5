//! What real containerds write down, read while they run and after they were killed, beside what they say themselves.
//! And that the hooks which they wrote down can be run then. Each in a private world; nothing is removed here.

mod hooks;
mod pods;
mod scenes;

use std::process::ExitCode;

fn main() -> ExitCode {
    let listing = std::env::args().any(|word| word == "--list");
    if !listing
        && !support::world::is_inside()
        && let Err(error) = support::runtime::fetch()
    {
        eprintln!("{error}");
        return ExitCode::FAILURE;
    }
    support::scenes::main("metadata", scenes::ALL, |_| true)
}
