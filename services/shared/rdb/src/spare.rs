//! The memory of large values, used again: fresh memory costs a page fault for every 4 KiB, which is more than to copy
//! as much.

use bytes::Bytes;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Smaller ones are the allocator's business.
const SMALLEST: usize = 256 * 1024;
/// Larger ones are given back, so that one huge value does not hold its memory for good.
const LARGEST: usize = 16 * 1024 * 1024;
/// One is filled while another is sent.
const KEPT: usize = 2;

/// Vectors that nobody uses at the moment. Clones share them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Spares(Arc<Mutex<Vec<Vec<u8>>>>);

/// A vector that becomes a spare when it is dropped.
struct Lent {
    bytes: Vec<u8>,
    home: Spares,
}

impl Spares {
    /// An empty vector with at least this capacity, if one is there. Others would only lie beside the one that is made now,
    /// and are let go.
    pub(crate) fn take(&self, capacity: usize) -> Option<Vec<u8>> {
        if capacity < SMALLEST {
            return None;
        }
        let mut spares = self.lock();
        if let Some(at) = spares.iter().position(|spare| spare.capacity() >= capacity) {
            return Some(spares.swap_remove(at));
        }
        spares.clear();
        None
    }

    /// The bytes of a vector, which is a spare when the last clone and slice of them is gone.
    pub(crate) fn lend(&self, bytes: Vec<u8>) -> Bytes {
        if (SMALLEST..=LARGEST).contains(&bytes.capacity()) {
            Bytes::from_owner(Lent { bytes, home: self.clone() })
        } else {
            Bytes::from(bytes)
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Vec<u8>>> {
        // A vector is whole whoever died beside it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let mut bytes = std::mem::take(&mut self.bytes);
        bytes.clear();
        let mut spares = self.home.lock();
        if spares.len() == KEPT {
            // The oldest may be too small for what comes now.
            spares.remove(0);
        }
        spares.push(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vector_comes_back_empty_when_its_last_slice_is_gone() {
        let spares = Spares::default();
        let mut bytes = Vec::with_capacity(SMALLEST);
        bytes.extend_from_slice(b"value");
        let (slice, all) = (spares.lend(bytes).slice(1..3), spares.lend(vec![0; SMALLEST - 1]));
        drop(all);
        assert_eq!(spares.take(SMALLEST), None, "small, or in use");
        assert_eq!(&slice[..], b"al");
        drop(slice);
        assert_eq!(spares.take(1), None, "a large one is not wasted on little");
        assert_eq!(
            spares.take(SMALLEST).map(|spare| (spare.len(), spare.capacity())),
            Some((0, SMALLEST))
        );
        assert_eq!(spares.take(SMALLEST), None);
    }

    #[test]
    fn few_are_kept_and_none_that_is_huge() {
        let spares = Spares::default();
        let sizes = [SMALLEST, SMALLEST + 1, LARGEST, LARGEST + 1];
        drop(sizes.map(|size| spares.lend(vec![0; size])));
        let kept: Vec<_> = spares.lock().iter().map(Vec::capacity).collect();
        assert_eq!(kept, [SMALLEST + 1, LARGEST]);
        assert_eq!(spares.take(LARGEST + 1), None);
        assert_eq!(spares.take(SMALLEST), None, "none lies beside a larger one");
    }
}
