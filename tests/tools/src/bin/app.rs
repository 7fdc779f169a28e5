//! The program that runs in the tests' containers. What it does at SIGTERM is its first argument:
//!
//!   pause     exits at once (the sandbox's process)
//!   obedient  exits at once
//!   slow      works for two seconds more, then writes the file named by the second argument, and exits
//!   stubborn  goes on as if nothing had happened
//!   parent    as obedient, with a stubborn child
//!   interrupted  takes no notice of SIGTERM; at SIGINT writes the file named by the second argument, and exits
//!   last      works for three seconds more, then writes a MiB to the file and waits until it is on the disk
//!   stopper   goes on at SIGTERM, and exits at SIGINT
//!   quitter   goes on at SIGTERM, and exits at SIGQUIT
//!   serve     as obedient; answers HTTP at the port of the second argument, and writes each request's head to the
//!             file of the third
//!   hook      is no container's own program: prints on both outputs, writes its environment, user and directory to
//!             the file named by the second argument, and exits with the status of the third; with "sleep" it never does.
//!             A fourth argument is how many seconds it works before it writes

use std::io::{Read, Write};
use std::net::TcpListener;
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
    if mode == "hook" {
        return hook(&args);
    }
    if ![
        "pause",
        "obedient",
        "slow",
        "stubborn",
        "parent",
        "interrupted",
        "last",
        "quitter",
        "stopper",
        "serve",
    ]
    .contains(&mode)
    {
        return Err(format!("unknown mode '{mode}'").into());
    }
    // Blocked signals wait for us, and arrive although the first process of a pid namespace has no default actions.
    let signals = SigSet::from_iter([Signal::SIGTERM, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGCHLD]);
    // The kernel shows no signal as blocked while it is waited for; by one that nobody waits for it is seen that all are.
    SigSet::from_iter(signals.iter().chain([Signal::SIGURG])).thread_block()?;
    if mode == "parent" {
        Command::new("/proc/self/exe").arg("stubborn").spawn()?;
    }
    if mode == "serve" {
        serve(&args)?;
    }
    loop {
        match signals.wait()? {
            Signal::SIGCHLD => reap(),
            Signal::SIGQUIT if mode == "quitter" => break,
            Signal::SIGTERM if mode == "interrupted" => {}
            Signal::SIGINT if mode == "stopper" => break,
            _ if mode == "stopper" || mode == "stubborn" || mode == "quitter" => {}
            _ => break,
        }
    }
    end(mode, &args)
}

/// The work that a clean end takes.
fn end(mode: &str, args: &[String]) -> Result<(), Box<dyn std::error::Error>> {
    let file = || args.get(2).ok_or_else(|| format!("{mode}: which file?"));
    match mode {
        "slow" | "interrupted" => {
            std::thread::sleep(Duration::from_secs(if mode == "slow" { 2 } else { 0 }));
            std::fs::write(file()?, "stopped cleanly\n")?;
        }
        "last" => {
            std::thread::sleep(Duration::from_secs(3));
            let mut file = std::fs::File::create(file()?)?;
            file.write_all(&vec![b'x'; 1 << 20])?;
            file.sync_all()?;
        }
        _ => {}
    }
    Ok(())
}

/// What a preStop hook's command does.
fn hook(args: &[String]) -> Result<(), Box<dyn std::error::Error>> {
    let file = args.get(2).ok_or("hook: which file?")?;
    writeln!(std::io::stdout(), "a word")?;
    writeln!(std::io::stderr(), "another")?;
    let mut text = format!("{} {}\n", nix::unistd::getuid(), std::env::current_dir()?.display());
    std::env::vars().for_each(|(name, value)| text.push_str(&format!("{name}={value}\n")));
    if let Some(seconds) = args.get(4) {
        std::thread::sleep(Duration::from_secs(seconds.parse()?)); // its work
    }
    std::fs::write(file, text)?;
    match args.get(3).map(String::as_str) {
        Some("sleep") => loop {
            std::thread::park();
        },
        Some(status) => std::process::exit(status.parse()?),
        None => Ok(()),
    }
}

/// Answers every request with "ok", in a thread.
fn serve(args: &[String]) -> Result<(), Box<dyn std::error::Error>> {
    let [_, _, port, file] = args else { return Err("serve: which port and file?".into()) };
    let listener = TcpListener::bind(("0.0.0.0", port.parse()?))?;
    let file = file.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { continue };
            let (mut head, mut byte) = (Vec::new(), [0]);
            while !head.ends_with(b"\r\n\r\n") && matches!(stream.read(&mut byte), Ok(1)) {
                head.push(byte[0]);
            }
            let _ = std::fs::write(&file, head);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        }
    });
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
