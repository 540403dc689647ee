//! Buffers used again: chunks and sealed blobs come and go by the thousand, a megabyte or so each, from
//! many threads, and an allocator left alone with that keeps several times what is in use.

use parking_lot::Mutex;

/// What may lie idle, in bytes.
const MAX_IDLE: usize = 24 * 1024 * 1024;

/// The idle buffers of one snapshot.
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
    /// An empty buffer with at least this capacity: the smallest idle one that has it, or a new one.
    pub(crate) fn take(&self, capacity: usize) -> Vec<u8> {
        let fitting = {
            let mut idle = self.idle.lock();
            let best = idle
                .buffers
                .iter()
                .enumerate()
                .filter(|(_, buffer)| buffer.capacity() >= capacity)
                .min_by_key(|(_, buffer)| buffer.capacity())
                .map(|(at, _)| at);
            best.map(|at| {
                let buffer = idle.buffers.swap_remove(at);
                idle.bytes -= buffer.capacity();
                buffer
            })
        };
        fitting.unwrap_or_else(|| Vec::with_capacity(capacity))
    }

    /// Keeps a buffer for later, unless enough are idle.
    pub(crate) fn give(&self, mut buffer: Vec<u8>) {
        buffer.clear();
        let capacity = buffer.capacity();
        let mut idle = self.idle.lock();
        if capacity > 0 && idle.bytes + capacity <= MAX_IDLE {
            idle.bytes += capacity;
            idle.buffers.push(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_fitting_buffer_comes_back_empty() {
        let buffers = Buffers::default();
        for size in [100, 300, 200] {
            buffers.give(vec![7; size]);
        }
        let taken = buffers.take(150);
        assert_eq!((taken.len(), taken.capacity()), (0, 200));
        assert!(buffers.take(1000).capacity() >= 1000);
        assert_eq!(buffers.idle.lock().bytes, 400);
    }

    #[test]
    fn not_more_than_the_limit_lies_idle() {
        let buffers = Buffers::default();
        for _ in 0..5 {
            buffers.give(Vec::with_capacity(10 << 20));
        }
        assert_eq!(buffers.idle.lock().buffers.len(), 2);
    }
}
