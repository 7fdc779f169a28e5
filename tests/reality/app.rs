//! The parts that this test program plays as a process of a scene: a shim of another runtime, and a file server.

use std::path::Path;
use std::process::Command;

use nix::sys::prctl::set_child_subreaper;
use nix::sys::signal::{SigSet, Signal};

use support::Result;
use support::runtime::in_group;

/// The first argument of a server.
pub const SERVER: &str = "be-a-file-server";

/// The first argument of a program that mounts a file system at the second, and ends when it is told to.
pub const MOUNTER: &str = "be-a-mounter";

const PART: &str = "REALITY_PART";
const GROUP: &str = "REALITY_GROUP";
const COMMAND: &str = "REALITY_COMMAND";

/// For `main`: plays the part that this process was started for, if any.
pub fn role() -> Option<Result<()>> {
    if std::env::args().nth(1).as_deref() == Some(SERVER) {
        return Some(crate::server::serve(Path::new("/served"), Path::new("/store/data")));
    }
    if std::env::args().nth(1).as_deref() == Some(MOUNTER) {
        return Some(mounts());
    }
    std::env::var_os(PART).map(|_| shim())
}

fn mounts() -> Result<()> {
    let signals = SigSet::from_iter([Signal::SIGTERM]);
    signals.thread_block()?;
    let at = std::env::args().nth(2).ok_or("mount where?")?;
    let flags = nix::mount::MsFlags::empty();
    nix::mount::mount(Some("volume"), at.as_str(), Some("tmpfs"), flags, Some("size=64k,mode=755"))?;
    signals.wait()?;
    Ok(())
}

/// A process that looks as the shim of another runtime: its command line, a subreaper, its working directory a bundle, and
/// a child that is in another group. As its descendants end, it collects them.
pub fn a_shim(words: &[&str], bundle: &Path, unit: &str, group: &str, child: &[&str]) -> Result<Command> {
    let exe = std::env::current_exe()?;
    let mut command = in_group(unit, "/bin/bash")?;
    // The name is all that a person sees of it.
    command.args(["-c", r#"exec -a containerd-shim-runsc-v1 "$0" "$@""#]).arg(exe).args(words);
    command.env(PART, "shim").env(GROUP, group).env(COMMAND, child.join(" ")).current_dir(bundle);
    Ok(command)
}

fn shim() -> Result<()> {
    set_child_subreaper(true)?;
    let (group, words) = (std::env::var(GROUP)?, std::env::var(COMMAND)?);
    let words: Vec<&str> = words.split(' ').collect();
    let mut child = in_group(&group, words[0])?;
    child.args(&words[1..]).env_remove(PART).current_dir("/");
    let mut child = child.spawn()?;
    let signals = SigSet::from_iter([Signal::SIGCHLD]);
    signals.thread_block()?;
    loop {
        child.try_wait()?;
        signals.wait()?;
    }
}
