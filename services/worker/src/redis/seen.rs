//! Which keys a RESP dump of another program has named already, in 64 bits each: some 16 bytes of memory a key.
//!
//! The keys themselves could take more memory than the worker has. With a hash, two of them may meet; the
//! second one is then not deleted before it is written, and a list of that name that was there would be
//! added to. The odds are below one in a million up to six million keys, and one in four thousand for a
//! hundred million.

use std::collections::HashSet;
use std::hash::{BuildHasher, BuildHasherDefault, Hasher, RandomState};

/// A set of keys.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    hashes: HashSet<u64, BuildHasherDefault<Same>>,
    hasher: RandomState,
}

impl Seen {
    /// Whether the key is new; it no longer is.
    pub(crate) fn insert(&mut self, database: u64, key: &[u8]) -> bool {
        self.hashes.insert(self.hasher.hash_one((database, key)))
    }

    /// Whether the key was named.
    pub(crate) fn contains(&self, database: u64, key: &[u8]) -> bool {
        !self.hashes.is_empty() && self.hashes.contains(&self.hasher.hash_one((database, key)))
    }

    /// Forgets the key.
    pub(crate) fn remove(&mut self, database: u64, key: &[u8]) {
        if !self.hashes.is_empty() {
            self.hashes.remove(&self.hasher.hash_one((database, key)));
        }
    }

    pub(crate) fn len(&self) -> u64 {
        self.hashes.len() as u64
    }
}

/// Hashes a hash: as it is.
#[derive(Debug, Default)]
pub(super) struct Same(u64);

impl Hasher for Same {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = value;
    }
}
