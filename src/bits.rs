//! Sets of words of which there are few: a bit for each, since there are such sets for all that each of thousands of pods has.

use std::marker::PhantomData;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A word of which there are no more than eight.
pub trait Word: Copy + 'static {
    /// All of them.
    const ALL: &'static [Self];
    /// Its number.
    fn number(self) -> u8;
}

/// Some of these words, each once. In JSON a list of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Bits<T>(u8, PhantomData<T>);

impl<T: Word> Bits<T> {
    pub fn insert(&mut self, word: T) {
        self.0 |= 1 << word.number();
    }

    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub fn contains(self, word: T) -> bool {
        self.0 & (1 << word.number()) != 0
    }

    /// Those that are in it, in their order.
    pub fn iter(self) -> impl Iterator<Item = T> {
        T::ALL.iter().copied().filter(move |word| self.contains(*word))
    }
}

impl<T> Default for Bits<T> {
    fn default() -> Bits<T> {
        Bits(0, PhantomData)
    }
}

impl<T: Word> FromIterator<T> for Bits<T> {
    fn from_iter<I: IntoIterator<Item = T>>(words: I) -> Bits<T> {
        let mut bits = Bits::default();
        words.into_iter().for_each(|word| bits.insert(word));
        bits
    }
}

impl<T: Word, const N: usize> From<[T; N]> for Bits<T> {
    fn from(words: [T; N]) -> Bits<T> {
        words.into_iter().collect()
    }
}

impl<T: Word + Serialize> Serialize for Bits<T> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(self.iter())
    }
}

impl<'de, T: Word + Deserialize<'de>> Deserialize<'de> for Bits<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Bits<T>, D::Error> {
        Ok(Vec::deserialize(from)?.into_iter().collect())
    }
}
