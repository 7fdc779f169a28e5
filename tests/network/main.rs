//! The remove hook against real links, network namespaces, firewall rules and loop devices, in private worlds, beside
//! somebody else's.
//!
//! Nobody's containers run here (tests/containers has those): a sandbox is its bundle, its network namespace, and what
//! CNI's plugins would have made for it. Each scene first looks at the others' world, then adds ours, demands that the
//! look has changed in every part (the control), runs the hook, and demands that the look is the first one again.

mod scenes;
fn main() -> std::process::ExitCode {
    support::scenes::main("network", scenes::ALL, |_| true)
}
