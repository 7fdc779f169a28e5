//! The remove hook against what is rare and real: files that nobody can delete, very many files, groups of shapes that
//! containers and init systems make. Each in a private world, each with a look before the hook that shows what is there.

mod scenes;
fn main() -> std::process::ExitCode {
    support::scenes::main("oddities", scenes::ALL, |_| true)
}
