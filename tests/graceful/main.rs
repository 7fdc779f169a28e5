//! Pods whose containerd was killed end as kubelet would have ended them: each by its own hook, its own signal, within its own
//! grace. Beside each scene its control: the drain as it was, by which the marks are missing.

#[allow(dead_code)] // the other suite uses all of it
#[path = "../metadata/pods.rs"]
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
    support::scenes::main("graceful", scenes::ALL, |_| true)
}
