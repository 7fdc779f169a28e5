//! What a residue is known by from one look to the next: 16 bytes instead of a text as long as its path.

use std::fmt::{self, Write};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::OnceLock;

/// A residue's name, hashed twice, with keys that nobody can know: two names have one key only by a chance that is as good as
/// none, and nobody can choose names that do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(u64, u64);

static HASHERS: OnceLock<[RandomState; 2]> = OnceLock::new();

impl Key {
    /// Of the text that is written here.
    pub(super) fn of(write: impl FnOnce(&mut dyn Write) -> fmt::Result) -> Key {
        let states = HASHERS.get_or_init(|| [RandomState::new(), RandomState::new()]);
        let mut both = Both(states.each_ref().map(RandomState::build_hasher));
        // It takes all that it is given.
        let _ = write(&mut both);
        let [one, other] = both.0;
        Key(one.finish(), other.finish())
    }
}

struct Both<H>([H; 2]);

impl<H: Hasher> Write for Both<H> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.iter_mut().for_each(|hasher| hasher.write(text.as_bytes()));
        Ok(())
    }
}
