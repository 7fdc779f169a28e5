//! Pods whose containerd was killed end as kubelet would have ended them: each by its own hook, its own signal, within its own
//! grace. Beside each scene its control: the drain as it was, by which the marks are missing.

#[allow(dead_code)] // the other suite uses all of it
#[path = "../metadata/pods.rs"]
mod pods;
mod scenes;

fn main() -> std::process::ExitCode {
    support::scenes::main_with_runtimes("graceful", scenes::ALL, |_| true)
}
