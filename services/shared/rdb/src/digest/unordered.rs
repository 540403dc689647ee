//! Items whose order means nothing, brought into one.
//!
//! A few are sorted, which is fast; many would take too much memory for that and are summed. Which of the
//! two depends on how many they are and on their bytes, so it is the same for the same items.

use super::hash::{Hash, Sink};
use super::multiset::Multiset;

/// More items than this are summed.
const MOST_SORTED: usize = 1024;
/// More bytes than this are summed.
const MOST_SORTED_BYTES: usize = 256 * 1024;

const SORTED: u64 = 0;
const SUMMED: u64 = 1;

/// Items so far.
pub(super) enum Unordered {
    Few(Few),
    Many(Box<Multiset>),
}

/// Items one behind the other, and where each ends.
#[derive(Default)]
pub(super) struct Few {
    bytes: Vec<u8>,
    ends: Vec<usize>,
    full: bool,
}

impl Sink for Few {
    fn bytes(&mut self, bytes: &[u8]) {
        self.full |= self.bytes.len() + bytes.len() > MOST_SORTED_BYTES;
        if !self.full {
            self.bytes.extend_from_slice(bytes);
        }
    }
}

impl Few {
    fn items(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, end)| &self.bytes[start..*end])
    }
}

impl Unordered {
    pub(super) fn new() -> Self {
        Self::Few(Few::default())
    }

    /// Adds an item, which `write` may be asked for twice.
    pub(super) fn add(&mut self, write: impl Fn(&mut dyn Sink)) {
        if let Self::Few(few) = self {
            few.full |= few.ends.len() == MOST_SORTED;
            write(few);
            if !few.full {
                few.ends.push(few.bytes.len());
                return;
            }
            let mut sum = Box::<Multiset>::default();
            few.items().for_each(|item| sum.add(&digest(|sink| sink.bytes(item))));
            *self = Self::Many(sum);
        }
        if let Self::Many(sum) = self {
            sum.add(&digest(write));
        }
    }

    /// Writes what all items are together.
    pub(super) fn write(&self, hash: &mut Hash) {
        match self {
            Self::Few(few) => {
                let mut items: Vec<_> = few.items().collect();
                items.sort_unstable();
                hash.number(SORTED);
                hash.number(items.len() as u64);
                items.into_iter().for_each(|item| hash.bytes(item));
            }
            Self::Many(sum) => {
                hash.number(SUMMED);
                sum.write(hash);
            }
        }
    }
}

fn digest(write: impl Fn(&mut dyn Sink)) -> [u8; 32] {
    let mut hash = Hash::new();
    write(&mut hash);
    hash.finish().0
}
