//! One run at a time for each snap.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::libc::{O_CLOEXEC, O_NOFOLLOW};

use crate::error::{Context, Error, Result};
use crate::linux::interrupts::{Interrupts, pause};
use crate::report::file;
use crate::snap::Snap;

/// How often a lock that another run holds is tried.
const RETRY_INTERVAL: Duration = Duration::from_millis(100);

const NAME: &str = "teardown.lock";

/// Keeps a second run out while this one goes on.
pub struct Lock {
    #[allow(dead_code)]
    held: Option<Flock<File>>,
    /// True if another run had to be waited for.
    pub waited: bool,
}

/// True if a run works on the snap at this moment, as far as can be seen.
pub fn is_held(snap: &Snap) -> bool {
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(O_NOFOLLOW | O_CLOEXEC);
    let Ok(file) = options.open(file::path(snap).with_file_name(NAME)) else { return false };
    matches!(Flock::lock(file, FlockArg::LockSharedNonblock), Err((_, Errno::EWOULDBLOCK)))
}

/// Takes the lock, and waits while another run works on the same snap.
pub fn take(snap: &Snap, interrupts: &Interrupts, deadline: Instant) -> Result<Lock> {
    let mut said = false;
    loop {
        if let Some(held) = try_once(snap)? {
            return Ok(Lock { held, waited: said });
        }
        if !said {
            log::warn!("another run works on snap '{}'; waiting for it", snap.instance);
            said = true;
        }
        if Instant::now() >= deadline || interrupts.seen() {
            let reason = format!("another run works on snap '{}'; nothing was done", snap.instance);
            return Err(Error::NotStarted(reason));
        }
        pause(interrupts, RETRY_INTERVAL);
    }
}

/// Takes the lock if nobody has it: `Ok(None)` if somebody has. Where the lock's file cannot be made, nothing keeps a second
/// run out. The removers get along with each other: each residue may be gone at any time.
fn try_once(snap: &Snap) -> Result<Option<Option<Flock<File>>>> {
    let Ok(directory) = file::own_directory(snap) else { return Ok(Some(None)) };
    let path = directory.join(NAME);
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false).mode(0o600).custom_flags(O_NOFOLLOW | O_CLOEXEC);
    let Ok(file) = options.open(&path) else { return Ok(Some(None)) };
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(held) => {
            file::forget_unfinished(&directory);
            Ok(Some(Some(held)))
        }
        Err((_, Errno::EWOULDBLOCK)) => Ok(None),
        Err((_, e)) => Err(io::Error::from(e)).context("lock", &path),
    }
}
