//! What a residue is known by from one look to the next: 16 bytes instead of a text as long as its path.

use std::cmp::Ordering;
use std::fmt::{self, Write};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::OnceLock;

use super::Residue;
use crate::order;
use crate::text;

/// A residue's name as two independent hashes with random keys: a collision is practically impossible, and nobody can construct
/// one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(u64, u64);

static HASHERS: OnceLock<[RandomState; 2]> = OnceLock::new();

impl Residue {
    /// What makes this residue the same one at the next look. Details that change meanwhile (the number of
    /// processes, who holds it) are not part of it, or every round would look like progress.
    pub fn key(&self) -> Key {
        Key::of(|to| self.write_name(to))
    }

    /// True if a document says the same of both, which is all that they hold. Compared as such, for the program's size.
    pub fn is_told_as(&self, other: &Residue) -> bool {
        text::json(self) == text::json(other)
    }

    /// What the key is made of. By these texts a report is ordered.
    fn name(&self) -> String {
        let mut name = String::new();
        let _ = self.write_name(&mut name);
        name
    }

    /// The order of their names. Of paths, which are nearly all, none is put together for it.
    pub fn compare_names(&self, other: &Residue) -> Ordering {
        match (self, other) {
            (Residue::Path(one), Residue::Path(two)) => text::show(&one.path).cmp(&text::show(&two.path)),
            (Residue::Cgroup(one), Residue::Cgroup(two)) => text::show(&one.path).cmp(&text::show(&two.path)),
            _ => self.name().cmp(&other.name()),
        }
    }

    fn write_name(&self, to: &mut dyn Write) -> fmt::Result {
        match self {
            Residue::Service(it) => write!(to, "service {}", it.name),
            Residue::Task(it) => write!(to, "task {}/{}", it.container.namespace, it.container.id),
            Residue::Shim(it) => write!(to, "shim {} {}", it.process.pid, it.process.start),
            Residue::Netns(it) => write!(to, "netns {}", text::show(&it.path)),
            Residue::Link(it) => write!(to, "link {} {}", it.index, it.name),
            Residue::Rule(it) => {
                write!(to, "rule {} {} {} ", text::show(&it.program), it.table, it.chain)?;
                to.write_str(&it.rule.join(" "))
            }
            Residue::NftRule(it) => write!(to, "nft-rule {} {} {}", it.family, it.table, it.handle),
            Residue::Ipset(it) => write!(to, "ipset {}", it.name),
            Residue::Flows(_) => to.write_str("flows"),
            Residue::Blackhole(it) => {
                write!(to, "blackhole {} {} {} {}", it.destination, it.prefix, it.table, it.priority)
            }
            Residue::Mount(it) => write!(to, "mount {:?} {} {}", it.table, it.id, text::show(&it.point)),
            Residue::Loop(it) => write!(to, "loop {}", text::show(&it.device)),
            Residue::Device(it) => write!(to, "device {} {}", it.device.device, it.device.name),
            Residue::Cgroup(it) => write!(to, "cgroup {}", text::show(&it.path)),
            Residue::Path(it) => write!(to, "path {}", text::show(&it.path)),
            Residue::Detached(it) => write!(to, "detached {}", text::show(&it.point)),
            Residue::RuntimeLeftRunning(it) => write!(to, "runtime-left-running {}", it.name),
        }
    }
}

impl Key {
    /// Of the text that is written here.
    fn of(write: impl FnOnce(&mut dyn Write) -> fmt::Result) -> Key {
        let states = HASHERS.get_or_init(|| [RandomState::new(), RandomState::new()]);
        let mut both = Both(states.each_ref().map(RandomState::build_hasher));
        // It takes all that it is given.
        let _ = write(&mut both);
        let [one, other] = both.0;
        Key(one.finish(), other.finish())
    }
}

/// Keys, sorted, each once.
pub struct Keys(Vec<Key>);

impl Keys {
    /// These.
    pub fn of(keys: &mut dyn Iterator<Item = Key>) -> Keys {
        let mut keys: Vec<Key> = keys.collect();
        order::sort(&mut keys);
        keys.dedup();
        Keys(keys)
    }

    pub fn as_slice(&self) -> &[Key] {
        &self.0
    }

    pub fn has(&self, key: &Key) -> bool {
        self.place(key).is_some()
    }

    /// Its index, if it is among them.
    pub fn place(&self, key: &Key) -> Option<usize> {
        self.0.binary_search(key).ok()
    }
}

struct Both<H>([H; 2]);

impl<H: Hasher> Write for Both<H> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.iter_mut().for_each(|hasher| hasher.write(text.as_bytes()));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::residue::{self, PathKind};

    #[test]
    fn the_order_is_that_of_the_names() {
        let path = |path: &str| Residue::path(path.into(), PathKind::Fifo);
        let group = |path: &str| Residue::group(path.into(), None);
        let service = Residue::Service(residue::Service { name: "a".into(), processes: vec![] }.into());
        let paths = ["/a", "/a/b", "/a b", "/a\nb", "/a\u{9b}", "/aä", "/", "/b"];
        let mut all: Vec<Residue> = paths.into_iter().flat_map(|p| [path(p), group(p)]).collect();
        all.push(service);
        for one in &all {
            for other in &all {
                assert_eq!(one.compare_names(other), one.name().cmp(&other.name()), "{one} {other}");
                assert_eq!(one.key() == other.key(), one.name() == other.name(), "{one} {other}");
            }
        }
    }
}
