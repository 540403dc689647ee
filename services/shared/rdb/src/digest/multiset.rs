//! A sum of hashes: a digest of things that have no order, of which one may come twice.
//!
//! Each hash is stretched to 32 lanes of 64 bits (ChaCha with eight rounds, the hash being its key), and
//! lanes are added without carry from one to the next. Adding, unlike exclusive or, does not let two of
//! the same cancel each other. A plain sum of 256 bits would do against accidents, but somebody who may
//! choose what is stored finds two collections with one such sum in some 2^32 steps (Wagner's birthday
//! attack, which gets better with the number of summands). With 2048 bits the same attack takes about 2^90.

use super::hash::{Hash, Sink};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

const LANES: usize = 32;

/// The sum.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Multiset {
    lanes: [u64; LANES],
    len: u64,
}

impl Default for Multiset {
    fn default() -> Self {
        Self { lanes: [0; LANES], len: 0 }
    }
}

impl Multiset {
    pub(super) fn add(&mut self, hash: &[u8; 32]) {
        let mut bytes = [0; LANES * 8];
        ChaCha8Rng::from_seed(*hash).fill_bytes(&mut bytes);
        let (words, _) = bytes.as_chunks::<8>();
        for (lane, word) in self.lanes.iter_mut().zip(words) {
            *lane = lane.wrapping_add(u64::from_le_bytes(*word));
        }
        self.len += 1;
    }

    pub(super) fn merge(&mut self, other: &Self) {
        for (lane, more) in self.lanes.iter_mut().zip(&other.lanes) {
            *lane = lane.wrapping_add(*more);
        }
        self.len += other.len;
    }

    /// Writes how many there are, and their sum.
    pub(super) fn write(&self, hash: &mut Hash) {
        hash.number(self.len);
        self.lanes.iter().for_each(|lane| hash.number(*lane));
    }

    pub(super) const fn len(&self) -> u64 {
        self.len
    }
}
