//! The torture as a program: any number of worlds, from any seed.

mod actor;
mod check;
mod dice;
mod run;
mod worlds;

fn main() -> std::process::ExitCode {
    run::main()
}
