//! Buffers used again: blocks of content and packs come and go by the thousand, megabytes each, from many threads.
//! An allocator left alone with that keeps several times what is in use, and a fresh buffer costs a page
//! fault for every 4 KiB.
//!
//! What lies idle and what is lent are bounded together: whoever needs much finds little idle. Sizes are
//! rounded up to few classes, so that what one gives back fits the next.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

const MIB: usize = 1 << 20;
/// Smaller ones are the allocator's business.
const SMALLEST: usize = 128 * 1024;

/// Where buffers come from. Clones share the idle ones.
#[derive(Clone, Debug, Default)]
pub(crate) struct Buffers {
    pool: Arc<Mutex<Pool>>,
}

#[derive(Debug, Default)]
struct Pool {
    idle: Vec<Vec<u8>>,
    idle_bytes: usize,
    lent_bytes: usize,
    /// Of both together. What is lent may go over it; then nothing is kept.
    limit: usize,
}

/// A buffer that goes back to where it came from when it is dropped. It is a vector for all who fill it.
#[derive(Debug, Default)]
pub(crate) struct Buffer {
    bytes: Vec<u8>,
    /// Its part of what counts as lent.
    counted: usize,
    home: Option<Buffers>,
}

impl Buffers {
    /// An empty buffer with at least this capacity.
    pub(crate) fn take(&self, capacity: usize) -> Buffer {
        let class = class(capacity);
        let fitting = {
            let mut pool = self.pool.lock();
            let fitting = pool.fitting(class).map(|at| pool.remove(at));
            pool.lent_bytes += fitting.as_ref().map_or(class, Vec::capacity);
            fitting
        };
        let bytes = fitting.unwrap_or_else(|| Vec::with_capacity(class));
        Buffer { counted: bytes.capacity(), bytes, home: Some(self.clone()) }
    }

    /// Bounds, in bytes, what is lent and what lies idle together.
    pub(crate) fn limit(&self, limit: usize) {
        let mut pool = self.pool.lock();
        pool.limit = limit;
        pool.trim(0);
    }

    fn give(&self, mut bytes: Vec<u8>, counted: usize) {
        bytes.clear();
        let capacity = bytes.capacity();
        let mut pool = self.pool.lock();
        pool.lent_bytes = pool.lent_bytes.saturating_sub(counted);
        if capacity >= SMALLEST {
            // The newest is warm, and of a size that is asked for now.
            pool.trim(capacity);
            if pool.has_room(capacity) {
                pool.idle_bytes += capacity;
                pool.idle.push(bytes);
            }
        }
    }
}

impl Pool {
    /// The smallest idle buffer of at least this size. A much larger one is not wasted on little.
    fn fitting(&self, class: usize) -> Option<usize> {
        let idle = self.idle.iter().enumerate();
        idle.filter(|(_, buffer)| (class..=2 * class).contains(&buffer.capacity()))
            .min_by_key(|(_, buffer)| buffer.capacity())
            .map(|(at, _)| at)
    }

    fn has_room(&self, capacity: usize) -> bool {
        self.lent_bytes + self.idle_bytes + capacity <= self.limit
    }

    /// Lets idle buffers go until there is room for `capacity` bytes, the oldest first.
    fn trim(&mut self, capacity: usize) {
        while !self.has_room(capacity) && !self.idle.is_empty() {
            drop(self.remove(0));
        }
    }

    fn remove(&mut self, at: usize) -> Vec<u8> {
        let buffer = self.idle.remove(at);
        self.idle_bytes -= buffer.capacity();
        buffer
    }
}

impl Buffer {
    /// Moves what is in it to a roomier one, if it has less than this capacity.
    pub(crate) fn grow(&mut self, capacity: usize, buffers: &Buffers) {
        if self.bytes.capacity() < capacity {
            let mut roomy = buffers.take(capacity);
            roomy.extend_from_slice(&self.bytes);
            *self = roomy;
        }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if let Some(home) = self.home.take() {
            home.give(std::mem::take(&mut self.bytes), self.counted);
        }
    }
}

impl Deref for Buffer {
    type Target = Vec<u8>;

    fn deref(&self) -> &Vec<u8> {
        &self.bytes
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// One that has no home: what is made rarely.
impl From<Vec<u8>> for Buffer {
    fn from(bytes: Vec<u8>) -> Self {
        Self { bytes, counted: 0, home: None }
    }
}

/// It goes home with the last of its clones and slices.
impl From<Buffer> for Bytes {
    fn from(buffer: Buffer) -> Self {
        Self::from_owner(buffer)
    }
}

/// The next of … 1, 1.5, 2, 3, 4 … MiB, and from there every half: what is larger is a pack, of a
/// size that many have.
const fn class(capacity: usize) -> usize {
    let power = capacity.next_power_of_two();
    if capacity < SMALLEST {
        capacity
    } else if capacity > 4 * MIB {
        capacity.next_multiple_of(MIB / 2)
    } else if capacity <= power / 4 * 3 {
        power / 4 * 3
    } else {
        power
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_fall_into_classes() {
        let of = |mib: usize| class(mib * MIB) / MIB;
        assert_eq!([1, 2, 3, 4, 5, 7, 9, 13].map(of), [1, 2, 3, 4, 5, 7, 9, 13]);
        assert_eq!([100, 2 * MIB + 1, 5 * MIB + 1].map(class), [100, 3 * MIB, 11 * MIB / 2]);
    }

    /// Lent and idle, in MiB.
    fn held(buffers: &Buffers) -> (usize, usize) {
        let pool = buffers.pool.lock();
        (pool.lent_bytes / MIB, pool.idle_bytes / MIB)
    }

    #[test]
    fn the_smallest_fitting_buffer_comes_back_empty() {
        let buffers = Buffers::default();
        buffers.limit(100 * MIB);
        let mut made = [2, 6, 4].map(|mib| buffers.take(mib * MIB));
        made.iter_mut().for_each(|buffer| buffer.push(7));
        assert_eq!(held(&buffers), (12, 0));
        drop(made);
        assert_eq!(held(&buffers), (0, 12));
        let taken = buffers.take(3 * MIB);
        assert_eq!((taken.len(), taken.capacity()), (0, 4 * MIB));
        assert_eq!(buffers.take(20 * MIB).capacity(), 20 * MIB);
        let small = buffers.take(MIB / 2);
        assert_eq!(small.capacity(), MIB / 2, "a large one is not wasted on little");
        drop((taken, small));
        let mut growing = Buffer::from(vec![3; MIB]);
        growing.grow(2 * MIB, &buffers);
        assert_eq!((growing.len(), growing.capacity(), growing[MIB - 1]), (MIB, 2 * MIB, 3));
    }

    #[test]
    fn lent_and_idle_are_bounded_together() {
        let buffers = Buffers::default();
        buffers.limit(32 * MIB);
        let mut lent: Vec<_> = (0..5).map(|_| buffers.take(10 * MIB)).collect();
        assert_eq!(held(&buffers), (50, 0), "nobody waits for a buffer");
        lent.truncate(3);
        assert_eq!(held(&buffers), (30, 0));
        lent.truncate(1);
        assert_eq!(held(&buffers), (10, 20));
        let other = buffers.take(15 * MIB);
        drop(lent);
        assert_eq!(held(&buffers), (15, 10));
        drop(Bytes::from(other).slice(..0));
        assert_eq!(held(&buffers), (0, 25));
        buffers.limit(20 * MIB);
        assert_eq!(held(&buffers), (0, 15));
    }
}
