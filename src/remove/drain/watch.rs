//! A process whose end is waited for.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::linux::proc::{ProcessId, identity};
use crate::linux::process::open_process;

/// So many processes are kept open at most: we have raised our own limit, and some machines to no more than 4096.
const MOST_OPEN: usize = 3000;

/// A process whose end is waited for.
pub struct Watched {
    id: ProcessId,
    descriptor: Option<OwnedFd>,
}

impl Watched {
    /// Watches a process; none if it has ended. What cannot be opened (snapd's seccomp profiles refuse it up to 2.68) is
    /// looked at.
    pub fn new(id: ProcessId, open: usize) -> Option<Watched> {
        let descriptor = if open < MOST_OPEN { open_process(id) } else { Err(nix::errno::Errno::EMFILE) };
        match descriptor {
            Ok(None) => None,
            Ok(descriptor) => Some(Watched { id, descriptor }),
            Err(_) => (identity(id.pid) == Some(id)).then_some(Watched { id, descriptor: None }),
        }
    }

    /// Readable when it has ended; none if it must be looked at.
    pub fn event(&self) -> Option<BorrowedFd<'_>> {
        self.descriptor.as_ref().map(|d| d.as_fd())
    }

    /// True if a look shows that it has ended.
    pub fn has_ended(&self) -> bool {
        identity(self.id.pid) != Some(self.id)
    }
}
