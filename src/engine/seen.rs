//! What one step has seen, by key.

use crate::engine::Tracked;
use crate::order;
use crate::residue::Key;

/// Sorted by key, each once. A node has some twenty for each of its pods: a map's nodes would leave a third of their room free.
#[derive(Debug, Clone, Default)]
pub struct Seen(Vec<(Key, Tracked)>);

impl Seen {
    /// What is known by this key.
    pub fn get(&self, key: &Key) -> Option<&Tracked> {
        Some(&self.0[self.place(key)?].1)
    }

    pub fn get_mut(&mut self, key: &Key) -> Option<&mut Tracked> {
        let place = self.place(key)?;
        Some(&mut self.0[place].1)
    }

    pub fn iter(&self) -> impl Iterator<Item = &(Key, Tracked)> {
        self.0.iter()
    }

    pub(super) fn into_all(self) -> Vec<(Key, Tracked)> {
        self.0
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    fn place(&self, key: &Key) -> Option<usize> {
        self.0.binary_search_by(|(known, _)| known.cmp(key)).ok()
    }

    /// Adds one.
    pub fn add(&mut self, key: Key, tracked: Tracked) {
        self.add_all(vec![(key, tracked)]);
    }

    /// Adds these; of what is known, what was seen first stays.
    pub(super) fn add_all(&mut self, more: Vec<(Key, Tracked)>) {
        self.0.reserve_exact(more.len());
        self.0.extend(more);
        order::sort_by(&mut self.0, |one, other| one.0.cmp(&other.0));
        self.0.dedup_by(|later, first| later.0 == first.0);
    }
}
