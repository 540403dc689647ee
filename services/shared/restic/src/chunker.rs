//! Content-defined chunking with restic's Rabin fingerprint: the same bytes are cut at the same places
//! by restic and by us, so each deduplicates against the other.
//!
//! A chunk ends where the fingerprint of its last 64 bytes has twenty zero bits, but not before
//! 512 KiB and at the latest after 8 MiB. The first 512 KiB of a chunk need no look at all. What follows
//! is looked at in rounds, each right after it was copied, while the processor still has it at hand.

use std::sync::Arc;

use crate::buffers::{Buffer, Buffers};

mod fingerprint;
#[cfg(target_arch = "x86_64")]
mod instructions;
#[cfg(not(target_arch = "x86_64"))]
#[path = "chunker/no_instructions.rs"]
mod instructions;

pub(crate) use fingerprint::Tables;

/// No chunk but a file's last is shorter.
pub(crate) const MIN: usize = 512 * 1024;
/// No chunk is longer.
pub(crate) const MAX: usize = 8 * 1024 * 1024;
/// The bytes a fingerprint covers.
const WINDOW: usize = 64;
/// The fingerprint bits that are zero at a cut: a mean of 1 MiB beyond the minimum.
const MASK: u64 = (1 << 20) - 1;
/// The bytes that are looked at together: they stay in the processor's caches, and little is copied
/// again after a cut. What lies between the shortest and the longest chunk is a whole number of rounds.
const ROUND: usize = 30 * 1024;
/// What is shorter may be all of a small file, and gets no large buffer.
const SMALL: usize = 256 * 1024;
/// Room for most chunks; the buffer grows for the others.
const TYPICAL: usize = 2 * 1024 * 1024;

const _: () = assert!((MAX - MIN).is_multiple_of(ROUND));

/// Cuts a stream of bytes into chunks.
#[derive(Debug)]
pub(crate) struct Chunker {
    tables: Arc<Tables>,
    buffers: Buffers,
    /// The chunk in the making.
    buffer: Buffer,
    /// The length at which the buffer is looked at next; what is before the last look holds no cut.
    next_look: usize,
}

impl Chunker {
    pub(crate) fn new(tables: Arc<Tables>, buffers: Buffers) -> Self {
        Self { tables, buffers, buffer: Buffer::default(), next_look: MIN }
    }

    /// Takes over `input`, appending each chunk that it completes to `chunks`.
    pub(crate) fn push(&mut self, mut input: &[u8], chunks: &mut Vec<Buffer>) {
        while !input.is_empty() {
            let wanted = self.next_look - self.buffer.len();
            let (head, rest) = input.split_at(wanted.min(input.len()));
            self.make_room(self.buffer.len() + head.len());
            self.buffer.extend_from_slice(head);
            input = rest;
            if self.buffer.len() == self.next_look {
                match self.tables.look(&self.buffer) {
                    Some(end) => chunks.push(self.split(end)),
                    None => self.next_look += ROUND,
                }
            }
        }
    }

    /// Appends the rest of the stream, if any: up to two chunks.
    pub(crate) fn finish(mut self, chunks: &mut Vec<Buffer>) {
        if self.buffer.len() > MIN {
            let looked_at = self.next_look - ROUND;
            if let Some(end) = self.tables.scan_plainly(&self.buffer, looked_at) {
                chunks.push(self.split(end));
            }
        }
        chunks.extend(Some(self.buffer).filter(|rest| !rest.is_empty()));
    }

    /// Ends the chunk there. What follows, less than a round, begins the next.
    fn split(&mut self, end: usize) -> Buffer {
        let mut next = self.buffers.take(TYPICAL);
        next.extend_from_slice(&self.buffer[end..]);
        self.buffer.truncate(end);
        self.next_look = MIN;
        std::mem::replace(&mut self.buffer, next)
    }

    /// Small files stay in small buffers; the others grow in few steps.
    fn make_room(&mut self, needed: usize) {
        if needed > SMALL && needed > self.buffer.capacity() {
            let roomy = (self.buffer.capacity() / 2 * 3).clamp(TYPICAL, MAX);
            self.buffer.grow(needed.max(roomy), &self.buffers);
        }
    }
}

#[cfg(test)]
mod tests;
