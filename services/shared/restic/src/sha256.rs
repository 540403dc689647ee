//! SHA-256 of several messages at a time.
//!
//! The processor's SHA instructions take four cycles each but can begin one every other cycle: a single
//! message leaves half of the unit idle, because each round waits for the one before. Two messages,
//! interleaved, fill it. A backup always has two: chunks to be named, and the pack behind them.
//!
//! Where the instructions are missing, the `sha2` crate does the work, one message after the other. The
//! tests hold the two against each other.

use sha2::{Digest, Sha256};

use crate::id::Id;

#[cfg(target_arch = "x86_64")]
mod instructions;
#[cfg(not(target_arch = "x86_64"))]
#[path = "sha256/no_instructions.rs"]
mod instructions;

use instructions::Instructions;

/// Bytes that are compressed at once.
const BLOCK: usize = 64;
/// The state before the first block.
const INITIAL: State = [
    0x6a09_e667,
    0xbb67_ae85,
    0x3c6e_f372,
    0xa54f_f53a,
    0x510e_527f,
    0x9b05_688c,
    0x1f83_d9ab,
    0x5be0_cd19,
];

type State = [u32; 8];

/// A message being hashed.
#[derive(Clone, Debug)]
pub(crate) struct Hasher(Way);

#[derive(Clone, Debug)]
enum Way {
    Plain(Sha256),
    Fast(Message),
}

#[derive(Clone, Debug)]
struct Message {
    instructions: Instructions,
    state: State,
    /// The beginning of a block that is not complete.
    rest: [u8; BLOCK],
    filled: usize,
    length: u64,
}

impl Default for Hasher {
    fn default() -> Self {
        Self(match Instructions::detect() {
            Some(instructions) => Way::Fast(Message {
                instructions,
                state: INITIAL,
                rest: [0; BLOCK],
                filled: 0,
                length: 0,
            }),
            None => Way::Plain(Sha256::new()),
        })
    }
}

impl Hasher {
    /// The id of what was added.
    pub(crate) fn finish(self) -> Id {
        Id::from_bytes(match self.0 {
            Way::Plain(sha) => sha.finalize().into(),
            Way::Fast(message) => message.finish(),
        })
    }
}

/// Appends to several messages at once, two at a time. To each, some pieces.
pub(crate) fn update_all(work: Vec<(&mut Hasher, Vec<&[u8]>)>) {
    let mut lanes = Vec::with_capacity(work.len());
    let mut instructions = None;
    for (hasher, pieces) in work {
        match &mut hasher.0 {
            Way::Plain(sha) => pieces.into_iter().for_each(|piece| sha.update(piece)),
            Way::Fast(message) => {
                instructions = Some(message.instructions);
                lanes.push(Lane { message, blocks: &[], pieces: pieces.into_iter() });
            }
        }
    }
    if let Some(instructions) = instructions {
        run(instructions, lanes);
    }
}

/// The ids of several messages.
pub(crate) fn ids(messages: &[&[u8]]) -> Vec<Id> {
    let mut hashers = vec![Hasher::default(); messages.len()];
    update_all(hashers.iter_mut().zip(messages.iter().map(|message| vec![*message])).collect());
    hashers.into_iter().map(Hasher::finish).collect()
}

/// A message, whole blocks that are still to go through it, and the pieces that follow.
struct Lane<'a> {
    message: &'a mut Message,
    blocks: &'a [u8],
    pieces: std::vec::IntoIter<&'a [u8]>,
}

impl<'a> Lane<'a> {
    fn split_off(&mut self, length: usize) -> &'a [u8] {
        let (head, rest) = self.blocks.split_at(length);
        self.blocks = rest;
        head
    }

    /// Goes on with the next pieces until there are whole blocks again; `None` when all are through.
    fn with_blocks(mut self) -> Option<Self> {
        while self.blocks.is_empty() {
            self.blocks = self.message.begin(self.pieces.next()?);
        }
        Some(self)
    }
}

/// Drives two lanes side by side for as long as there are two; the next one takes the place of one
/// that is done.
fn run(instructions: Instructions, lanes: Vec<Lane<'_>>) {
    let mut waiting = lanes.into_iter().filter_map(Lane::with_blocks);
    let (mut first, mut second) = (waiting.next(), waiting.next());
    while let Some(mut a) = first.take() {
        let Some(mut b) = second.take() else {
            instructions.one(&mut a.message.state, std::mem::take(&mut a.blocks));
            first = a.with_blocks();
            continue;
        };
        let length = a.blocks.len().min(b.blocks.len());
        let blocks = [a.split_off(length), b.split_off(length)];
        instructions.two([&mut a.message.state, &mut b.message.state], blocks);
        let mut left = [a, b].into_iter().filter_map(Lane::with_blocks);
        first = left.next().or_else(|| waiting.next());
        second = left.next().or_else(|| waiting.next());
    }
}

impl Message {
    /// Completes the block at hand, and leaves the whole blocks that follow to the caller.
    fn begin<'a>(&mut self, mut bytes: &'a [u8]) -> &'a [u8] {
        self.length += bytes.len() as u64;
        if self.filled > 0 {
            let taken = bytes.len().min(BLOCK - self.filled);
            self.rest[self.filled..self.filled + taken].copy_from_slice(&bytes[..taken]);
            self.filled += taken;
            bytes = &bytes[taken..];
            if self.filled == BLOCK {
                self.instructions.one(&mut self.state, &self.rest);
                self.filled = 0;
            }
        }
        let (blocks, rest) = bytes.split_at(bytes.len() / BLOCK * BLOCK);
        if !rest.is_empty() {
            self.rest[..rest.len()].copy_from_slice(rest);
            self.filled = rest.len();
        }
        blocks
    }

    fn finish(mut self) -> [u8; 32] {
        let mut end = [0; 2 * BLOCK];
        end[..self.filled].copy_from_slice(&self.rest[..self.filled]);
        end[self.filled] = 0x80;
        // The length in bits ends the last block; it may not fit behind the message's own end.
        let length = if self.filled < BLOCK - 8 { BLOCK } else { 2 * BLOCK };
        end[length - 8..length].copy_from_slice(&(self.length * 8).to_be_bytes());
        self.instructions.one(&mut self.state, &end[..length]);
        let mut digest = [0; 32];
        for (bytes, word) in digest.chunks_exact_mut(4).zip(self.state) {
            bytes.copy_from_slice(&word.to_be_bytes());
        }
        digest
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn plain(message: &[u8]) -> Id {
        Id::from_bytes(Sha256::digest(message).into())
    }

    #[test]
    fn every_length_around_the_block_is_padded_right() {
        let noise: Vec<u8> = (0..300_u32).map(|i| (i * 7 % 251) as u8).collect();
        for length in 0..noise.len() {
            assert_eq!(ids(&[&noise[..length]]), [plain(&noise[..length])], "{length}");
        }
        assert!(ids(&[]).is_empty());
    }

    proptest! {
        /// Messages of any lengths, in any pieces, side by side: as `sha2` hashes each alone.
        #[test]
        fn many_messages_in_many_pieces(
            messages in proptest::collection::vec(
                proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..400), 0..6), 0..6),
        ) {
            let mut hashers = vec![Hasher::default(); messages.len()];
            for round in [0..2, 2..3, 3..6] {
                let pieces = messages.iter().map(|message| {
                    let pieces = message.iter().skip(round.start).take(round.len());
                    pieces.map(Vec::as_slice).collect()
                });
                update_all(hashers.iter_mut().zip(pieces).collect());
            }
            for (hasher, message) in hashers.into_iter().zip(&messages) {
                prop_assert_eq!(hasher.finish(), plain(&message.concat()));
            }
        }

        #[test]
        fn long_messages_of_different_lengths(a in 0_usize..40_000, b in 0_usize..40_000, c in 0_usize..200) {
            let noise: Vec<u8> = (0..40_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
            let messages = [&noise[..a], &noise[b..], &noise[..c]];
            prop_assert_eq!(ids(&messages), messages.map(plain));
        }
    }
}
