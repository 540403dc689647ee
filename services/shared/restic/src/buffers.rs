//! Buffers used again: chunks and packs come and go by the thousand, megabytes each, from many threads.
//! An allocator left alone with that keeps several times what is in use, and a fresh buffer costs a page
//! fault for every 4 KiB.
//!
//! Sizes are rounded up to few classes, so that what one gives back fits the next.

use parking_lot::Mutex;

/// Smaller ones are the allocator's business.
const SMALLEST: usize = 128 * 1024;

/// The idle buffers.
#[derive(Debug, Default)]
pub(crate) struct Buffers {
    idle: Mutex<Idle>,
}

#[derive(Debug, Default)]
struct Idle {
    buffers: Vec<Vec<u8>>,
    bytes: usize,
}

impl Buffers {
    /// An empty buffer with at least this capacity.
    pub(crate) fn take(&self, capacity: usize) -> Vec<u8> {
        let class = class(capacity);
        let fitting = {
            let mut idle = self.idle.lock();
            let best = idle
                .buffers
                .iter()
                .enumerate()
                // A much larger one is not wasted on little.
                .filter(|(_, buffer)| (class..=2 * class).contains(&buffer.capacity()))
                .min_by_key(|(_, buffer)| buffer.capacity())
                .map(|(at, _)| at);
            best.map(|at| idle.remove(at))
        };
        fitting.unwrap_or_else(|| Vec::with_capacity(class))
    }

    /// Keeps a buffer for later, unless more than `limit` bytes would lie idle.
    pub(crate) fn give(&self, mut buffer: Vec<u8>, limit: usize) {
        buffer.clear();
        let capacity = buffer.capacity();
        let mut idle = self.idle.lock();
        if capacity >= SMALLEST && idle.bytes + capacity <= limit {
            idle.bytes += capacity;
            idle.buffers.push(buffer);
        }
    }

    /// Moves what is in a buffer to one with at least this capacity, if it is too small.
    pub(crate) fn grow(&self, buffer: &mut Vec<u8>, capacity: usize, limit: usize) {
        if buffer.capacity() < capacity {
            let mut roomy = self.take(capacity);
            roomy.extend_from_slice(buffer);
            self.give(std::mem::replace(buffer, roomy), limit);
        }
    }

    /// Lets idle buffers go until not more than `limit` bytes are left, the oldest first.
    pub(crate) fn trim(&self, limit: usize) {
        let mut idle = self.idle.lock();
        while idle.bytes > limit {
            drop(idle.remove(0));
        }
    }
}

impl Idle {
    fn remove(&mut self, at: usize) -> Vec<u8> {
        let buffer = self.buffers.remove(at);
        self.bytes -= buffer.capacity();
        buffer
    }
}

/// The next of … 1, 1.5, 2, 3, 4, 6, 8, 12 … MiB.
const fn class(capacity: usize) -> usize {
    let power = capacity.next_power_of_two();
    if capacity < SMALLEST {
        capacity
    } else if capacity <= power / 4 * 3 {
        power / 4 * 3
    } else {
        power
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    #[test]
    fn sizes_fall_into_classes() {
        let of = |mib: usize| class(mib * MIB) / MIB;
        assert_eq!([1, 2, 3, 4, 5, 7, 9, 13].map(of), [1, 2, 3, 4, 6, 8, 12, 16]);
        assert_eq!((class(100), class(2 * MIB + 1)), (100, 3 * MIB));
    }

    #[test]
    fn the_smallest_fitting_buffer_comes_back_empty() {
        let buffers = Buffers::default();
        for mib in [2, 6, 4] {
            buffers.give(vec![7; mib * MIB], 100 * MIB);
        }
        let taken = buffers.take(3 * MIB);
        assert_eq!((taken.len(), taken.capacity()), (0, 4 * MIB));
        assert_eq!(buffers.take(20 * MIB).capacity(), 24 * MIB);
        assert_eq!(
            buffers.take(MIB / 2).capacity(),
            MIB / 2,
            "a large one is not wasted on little"
        );
        assert_eq!(buffers.idle.lock().bytes, 8 * MIB);
        let mut growing = vec![3; MIB];
        buffers.grow(&mut growing, 2 * MIB, 100 * MIB);
        assert_eq!((growing.len(), growing.capacity(), growing[MIB - 1]), (MIB, 2 * MIB, 3));
    }

    #[test]
    fn not_more_than_the_limit_lies_idle() {
        let buffers = Buffers::default();
        for _ in 0..5 {
            buffers.give(Vec::with_capacity(10 * MIB), 32 * MIB);
        }
        assert_eq!(buffers.idle.lock().buffers.len(), 3);
        buffers.trim(15 * MIB);
        assert_eq!(buffers.idle.lock().buffers.len(), 1);
    }
}
