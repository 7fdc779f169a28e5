//! The program that runs in the tests' containers. What it does at SIGTERM is its first argument:
//!
//!   pause     exits at once (the sandbox's process)
//!   obedient  exits at once
//!   slow      works for two seconds more, then writes the file named by the second argument, and exits
//!   stubborn  goes on as if nothing had happened
//!   parent    as obedient, with a stubborn child
//!   interrupted  takes no notice of SIGTERM; at SIGINT writes the file named by the second argument, and exits
//!   last      works for three seconds more, then writes a MiB to the file and waits until it is on the disk

use std::process::{Command, ExitCode};
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("app: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().collect();
    let mode = args.get(1).map_or("pause", String::as_str);
    if !["pause", "obedient", "slow", "stubborn", "parent", "interrupted", "last"].contains(&mode) {
        return Err(format!("unknown mode '{mode}'").into());
    }
    // Blocked signals wait for us, and arrive although the first process of a pid namespace has no default actions.
    let signals = SigSet::from_iter([Signal::SIGTERM, Signal::SIGINT, Signal::SIGCHLD]);
    signals.thread_block()?;
    if mode == "parent" {
        Command::new("/proc/self/exe").arg("stubborn").spawn()?;
    }
    loop {
        match signals.wait()? {
            Signal::SIGCHLD => reap(),
            _ if mode == "stubborn" => {}
            Signal::SIGTERM if mode == "interrupted" => {}
            _ => break,
        }
    }
    if mode == "last" {
        std::thread::sleep(Duration::from_secs(3));
        let mut file = std::fs::File::create(args.get(2).ok_or("last: which file?")?)?;
        std::io::Write::write_all(&mut file, &vec![b'x'; 1 << 20])?;
        file.sync_all()?;
    }
    if mode == "slow" || mode == "interrupted" {
        // The work that a clean end takes.
        std::thread::sleep(Duration::from_secs(if mode == "slow" { 2 } else { 0 }));
        let marker = args.get(2).ok_or("slow: which file?")?;
        std::fs::write(marker, "stopped cleanly\n")?;
    }
    Ok(())
}

/// Collects children that have ended, as the first process of a container must.
fn reap() {
    while let Ok(status) = waitpid(None, Some(WaitPidFlag::WNOHANG)) {
        if status == WaitStatus::StillAlive {
            break;
        }
    }
}
