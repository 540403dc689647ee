//! Content-defined chunking with restic's Rabin fingerprint: the same bytes are cut at the same places
//! by restic and by us, so each deduplicates against the other.
//!
//! A chunk ends where the fingerprint of its last 64 bytes has twenty zero bits, but not before
//! 512 KiB and at the latest after 8 MiB. The first 512 KiB of a chunk need no look at all. What follows
//! is looked at in rounds, where it lies: a round that lies in two pieces is the only one that is copied.

use std::sync::Arc;

use bytes::Bytes;

use crate::pieces::Pieces;

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
/// The bytes that are looked at together. What lies between the shortest and the longest chunk is a whole number of
/// rounds.
const ROUND: usize = 30 * 1024;

const _: () = assert!((MAX - MIN).is_multiple_of(ROUND));

/// Cuts a stream of bytes into chunks.
#[derive(Debug)]
pub(crate) struct Chunker {
    tables: Arc<Tables>,
    /// The chunk in the making, and what may follow it.
    chunk: Pieces,
    /// The length at which the chunk is looked at next; what is before the last look holds no cut.
    next_look: usize,
    /// For a round that lies in two pieces.
    room: Vec<u8>,
}

impl Chunker {
    pub(crate) fn new(tables: Arc<Tables>) -> Self {
        Self { tables, chunk: Pieces::default(), next_look: MIN, room: Vec::new() }
    }

    /// Takes over `input`, appending each chunk that it completes to `chunks`.
    pub(crate) fn push(&mut self, input: Bytes, chunks: &mut Vec<Pieces>) {
        self.chunk.push(input);
        while self.chunk.len() >= self.next_look {
            let last = looked_at(self.next_look)..self.next_look;
            let last = self.chunk.part(last, &mut self.room);
            match self.tables.look(self.next_look, last) {
                Some(end) => chunks.push(self.split(end)),
                None => self.next_look += ROUND,
            }
        }
    }

    /// Appends the rest of the stream, if any: up to two chunks.
    pub(crate) fn finish(mut self, chunks: &mut Vec<Pieces>) {
        if self.chunk.len() > MIN {
            let start = self.next_look - ROUND - WINDOW;
            let last = self.chunk.part(start..self.chunk.len(), &mut self.room);
            if let Some(end) = self.tables.scan_plainly(last, WINDOW) {
                chunks.push(self.split(start + end));
            }
        }
        chunks.extend(Some(self.chunk).filter(|rest| rest.len() > 0));
    }

    /// Ends the chunk there. What follows begins the next.
    fn split(&mut self, end: usize) -> Pieces {
        let next = self.chunk.split_off(end);
        self.next_look = MIN;
        std::mem::replace(&mut self.chunk, next)
    }
}

/// From where on a chunk that has this length so far is looked at.
const fn looked_at(length: usize) -> usize {
    if length == MIN { MIN - WINDOW } else { length - ROUND - WINDOW }
}

#[cfg(test)]
mod tests;
