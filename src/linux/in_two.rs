//! Reading in two threads what the kernel writes out while it is read.
//!
//! A mount table takes the kernel 40 microseconds, and there is one for each container of the machine. Two processors write
//! two at a time. The threads have ended when this returns: whoever forks afterwards has one.

use std::sync::Mutex;
use std::thread::{self, Scope, ScopedJoinHandle};

use crate::linux::sync::locked;

/// So many are read by a thread before it asks for more: a thread that gets no processor keeps nobody waiting for its half.
const AT_ONCE: usize = 16;

/// Makes something of each, and hands it over, one at a time and in no order. Of few, in one thread.
pub fn in_two<T: Sync, R: Send>(all: &[T], make: impl Fn(&T) -> R + Sync, take: impl FnMut(R) + Send) {
    in_two_beside(|| {}, all, make, take);
}

/// The same, while our own thread does something else first.
pub fn in_two_beside<T: Sync, R: Send>(
    first: impl FnOnce(),
    all: &[T],
    make: impl Fn(&T) -> R + Sync,
    take: impl FnMut(R) + Send,
) {
    let (pieces, take) = (Mutex::new(all.chunks(AT_ONCE)), Mutex::new(take));
    let work = || {
        loop {
            let piece = locked(&pieces).next();
            let Some(piece) = piece else { return };
            let made: Vec<R> = piece.iter().map(&make).collect();
            let mut take = locked(&take);
            made.into_iter().for_each(&mut *take);
        }
    };
    thread::scope(|scope| {
        let other = if all.len() > 2 * AT_ONCE { start(scope, &work) } else { None };
        first();
        work();
        if let Some(Err(panic)) = other.map(ScopedJoinHandle::join) {
            std::panic::resume_unwind(panic);
        }
    });
}

/// Starts a second thread. Where there is none to be had, the first does all.
fn start<'scope, 'a: 'scope>(
    scope: &'scope Scope<'scope, 'a>,
    work: &'a (dyn Fn() + Sync),
) -> Option<ScopedJoinHandle<'scope, ()>> {
    let started = thread::Builder::new().spawn_scoped(scope, work);
    started.inspect_err(|e| log::debug!("one thread reads alone: {e}")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;
    use std::sync::Barrier;

    #[test]
    fn each_is_made_once() {
        for count in [0, 1, AT_ONCE, 2 * AT_ONCE + 1, 1000] {
            let all: Vec<usize> = (0..count).collect();
            let mut made = Vec::new();
            in_two(&all, |n| n * 2, |twice| made.push(twice));
            made.sort_unstable();
            assert_eq!(made, all.iter().map(|n| n * 2).collect::<Vec<_>>());
        }
    }

    #[test]
    fn many_are_made_by_two() {
        // Each piece's first waits for the other's: one thread alone would never go on.
        let (all, both) = ((0..4 * AT_ONCE).collect::<Vec<_>>(), Barrier::new(2));
        let mut threads = HashSet::new();
        let make = |n: &usize| {
            if n.is_multiple_of(AT_ONCE) {
                both.wait();
            }
            thread::current().id()
        };
        in_two(&all, make, |thread| {
            threads.insert(thread);
        });
        assert_eq!(threads.len(), 2);
    }
}
