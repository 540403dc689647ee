//! Of what type the keys are that a dump of typed commands named last.
//!
//! Its expiries do not say it, and a key that expires at once is to be taken out of the count of its type. Programs that
//! dump several keys at a time mix up the commands of these few, which are remembered; those of all keys could take more
//! memory than the worker has.

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};

use coffer_rdb::value::Kind;

/// Keys that are remembered: more than any program dumps at a time.
const KEYS: usize = 256;

#[derive(Debug, Default)]
pub(super) struct Kinds {
    last: VecDeque<(u64, Kind)>,
    hasher: RandomState,
}

impl Kinds {
    /// Remembers a key that is new.
    pub(super) fn insert(&mut self, database: u64, key: &[u8], kind: Kind) {
        if self.last.len() == KEYS {
            self.last.pop_back();
        }
        self.last.push_front((self.hasher.hash_one((database, key)), kind));
    }

    /// The key's type, unless it was too long ago.
    pub(super) fn of(&self, database: u64, key: &[u8]) -> Option<Kind> {
        let name = self.hasher.hash_one((database, key));
        self.last.iter().find(|(known, _)| *known == name).map(|(_, kind)| *kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_of_them_are_known() {
        let mut kinds = Kinds::default();
        kinds.insert(0, b"k", Kind::List);
        kinds.insert(1, b"k", Kind::Set);
        assert_eq!((kinds.of(0, b"k"), kinds.of(1, b"k")), (Some(Kind::List), Some(Kind::Set)));
        assert_eq!(kinds.of(2, b"k"), None);
        for index in 1..KEYS {
            kinds.insert(2, &index.to_le_bytes(), Kind::Hash);
        }
        assert_eq!((kinds.of(0, b"k"), kinds.of(1, b"k")), (None, Some(Kind::Set)));
        assert_eq!(kinds.last.len(), KEYS);
    }
}
