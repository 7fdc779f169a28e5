//! What real containerds write down, read while they run and after they were killed, beside what they say themselves.
//! And that the hooks which they wrote down can be run then. Each in a private world; nothing is removed here.

mod hooks;
mod pods;
mod scenes;

fn main() -> std::process::ExitCode {
    support::scenes::main_with_runtimes("metadata", scenes::ALL, |_| true)
}
