//! Model-based torture: random worlds of real processes, control groups, mounts and files, a run of the remove hook in
//! each, and an independent checker that knows whose everything is.
//!
//! `cargo test --test torture` runs a hundred worlds, the seeds that once failed, and the proofs that the checker would
//! notice; `cargo run --release -p torture -- --worlds 1000 --seed 1` any number. A world is its seed.

mod actor;
mod check;
mod dice;
mod run;
mod worlds;

fn main() -> std::process::ExitCode {
    run::main()
}
