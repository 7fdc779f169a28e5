//! A remove hook that begins with the mistake which the design forbids: it kills every shim of the snap, and only then runs
//! the real teardown. Under the plug sets that may not signal pods, nobody can reach those pods any more.

use std::error::Error;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

fn main() -> Result<(), Box<dyn Error>> {
    let (snap, common) = (std::env::var("SNAP")?, std::env::var("SNAP_COMMON")?);
    for entry in fs::read_dir("/proc")? {
        let entry = entry?;
        let Ok(pid) = entry.file_name().to_string_lossy().parse() else { continue };
        // One that has ended, or that may not be looked at or killed, is not killed.
        let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command);
        if command.contains("containerd-shim") && command.contains(&common) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
    Err(Command::new(Path::new(&snap).join("bin/snap-teardown")).arg("remove").exec().into())
}
