//! Which keys a scan has named lately, so that one it names again is taken once.
//!
//! `SCAN` names a key again only when the table shrinks meanwhile, and then only keys of the one small bucket at which it
//! stands: those that it named last, as many as the table shrank by. Some hundred thousand names cover that for any
//! shrinking to less than a hundred-thousandth, in a memory that does not grow with the data. A table that shrinks by
//! more, or a server that walks in another way, may still have a key stand twice in a dump, and restores go by the later
//! one.
//!
//! Names are kept as hashes of 128 bits with keys drawn by lot: that a key is left out since another has its hash is less
//! likely than a fault of the memory.

use std::collections::HashSet;
use std::hash::{BuildHasher, BuildHasherDefault, RandomState};

use super::seen::Same;

/// Names in each half: what a table of 2^18 slots holds, 4.5 MB.
const NAMES: usize = (1 << 18) / 8 * 7;

/// The names of a walk: at least the last [`NAMES`], at most twice as many.
#[derive(Debug, Default)]
pub(crate) struct Recent {
    newer: HashSet<u128, BuildHasherDefault<Same>>,
    older: HashSet<u128, BuildHasherDefault<Same>>,
    hashers: [RandomState; 2],
}

impl Recent {
    /// Whether the key was not named lately; now it was.
    pub(crate) fn is_new(&mut self, database: u64, key: &[u8]) -> bool {
        let [one, other] = &self.hashers;
        let (high, low) = (one.hash_one((database, key)), other.hash_one((database, key)));
        let name = u128::from(high) << 64 | u128::from(low);
        if self.older.contains(&name) || !self.newer.insert(name) {
            return false;
        }
        if self.newer.len() == NAMES {
            std::mem::swap(&mut self.newer, &mut self.older);
            self.newer.clear();
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_known_for_as_long_as_promised_and_memory_is_bounded() {
        let mut recent = Recent::default();
        let mut name = |number: usize| recent.is_new(0, &number.to_le_bytes());
        for number in 0..3 * NAMES {
            assert!(name(number));
            // The first one is known until NAMES others came at least.
            assert!(number > NAMES || !name(0));
            assert!(number < NAMES || !name(number - NAMES + 1));
        }
        assert!(name(0), "the oldest are forgotten");
        assert!(recent.is_new(1, &(3 * NAMES - 1).to_le_bytes()), "another database");
        assert!(recent.newer.len() + recent.older.len() <= 2 * NAMES);
        assert!(recent.newer.capacity() + recent.older.capacity() <= 2 * NAMES);
    }
}
