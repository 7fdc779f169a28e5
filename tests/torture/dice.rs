//! A small random number generator: a world is its seed, on every machine and for ever, whatever a library changes.

#![allow(dead_code)] // each test that includes this uses its own part

pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Dice {
        // Seeds are small numbers; two neighbours must not begin alike.
        Dice(seed.wrapping_mul(0xD134_2543_DE82_EF95).wrapping_add(0x632B_E59B_D9B4_E019))
    }

    /// For one question of many, so that a new question leaves the answers to the others as they were.
    pub fn about(seed: u64, question: &str) -> Dice {
        let name =
            question.bytes().fold(0u64, |sum, byte| sum.wrapping_mul(0x100_0000_01B3) ^ u64::from(byte));
        Dice::new(seed.wrapping_add(name.rotate_left(17)))
    }

    /// The next number (SplitMix64: an additive step and a mixing of its bits).
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n.max(1)
    }

    /// True in so many of a hundred cases.
    pub fn percent(&mut self, of_hundred: u64) -> bool {
        self.below(100) < of_hundred
    }

    pub fn one_of<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        &choices[self.below(choices.len() as u64) as usize]
    }

    pub fn hex(&mut self, digits: usize) -> String {
        let mut text = String::new();
        while text.len() < digits {
            text.push_str(&format!("{:016x}", self.next()));
        }
        text.truncate(digits);
        text
    }
}
