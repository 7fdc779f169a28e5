//! The snap's remove hook: environment in, exit status out. All else is in the library.

fn main() -> std::process::ExitCode {
    snap_teardown::hook()
}
