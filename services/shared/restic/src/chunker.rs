//! Content-defined chunking with restic's Rabin fingerprint: the same bytes are cut at the same places
//! by restic and by us, so each deduplicates against the other.
//!
//! A chunk ends where the fingerprint of its last 64 bytes has twenty zero bits, but not before
//! 512 KiB and at the latest after 8 MiB. The fingerprint depends on nothing but those 64 bytes, so
//! the first 512 KiB of a chunk need no look at all, and no window is kept beside the data.

use std::sync::Arc;

use crate::buffers::Buffers;
use crate::polynomial::Polynomial;

/// No chunk but a file's last is shorter.
pub(crate) const MIN: usize = 512 * 1024;
/// No chunk is longer.
pub(crate) const MAX: usize = 8 * 1024 * 1024;
/// The bytes a fingerprint covers.
const WINDOW: usize = 64;
/// The fingerprint bits that are zero at a cut: a mean of 1 MiB beyond the minimum.
const MASK: u64 = (1 << 20) - 1;
/// Input is taken over in steps of this size, so that little is copied again after a cut.
const STEP: usize = 256 * 1024;
/// Room for most chunks; the buffer grows for the others.
const TYPICAL: usize = 2 * 1024 * 1024;

/// What the fingerprint needs of a polynomial, worked out once per repository.
pub(crate) struct Tables {
    /// What a byte contributes when it leaves the window.
    out: [u64; 256],
    /// What the eight highest bits are worth after reduction, with those bits, so that one XOR
    /// removes them and adds their remainder.
    modulo: [u64; 256],
    shift: u32,
}

impl std::fmt::Debug for Tables {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tables").finish_non_exhaustive()
    }
}

impl Tables {
    pub(crate) fn new(polynomial: Polynomial) -> Self {
        let degree = polynomial.degree();
        let mut tables = Self { out: [0; 256], modulo: [0; 256], shift: degree - 8 };
        for byte in 0..=255_u8 {
            let mut fingerprint = polynomial.reduce(u64::from(byte));
            for _ in 1..WINDOW {
                fingerprint = polynomial.reduce(fingerprint << 8);
            }
            tables.out[usize::from(byte)] = fingerprint;
            let high = u64::from(byte) << degree;
            tables.modulo[usize::from(byte)] = polynomial.reduce(high) | high;
        }
        tables
    }

    #[inline(always)]
    fn push(&self, fingerprint: u64, byte: u8) -> u64 {
        // The fingerprint has at most `degree` bits, so eight are left.
        let high = (fingerprint >> self.shift) & 0xff;
        #[allow(clippy::cast_possible_truncation, reason = "masked to eight bits")]
        let modulo = self.modulo[high as usize];
        ((fingerprint << 8) | u64::from(byte)) ^ modulo
    }

    #[inline(always)]
    fn slide(&self, fingerprint: u64, leaving: u8, entering: u8) -> u64 {
        self.push(fingerprint ^ self.out[usize::from(leaving)], entering)
    }

    /// The fingerprint of a whole window.
    fn fingerprint(&self, window: &[u8]) -> u64 {
        window.iter().fold(0, |fingerprint, byte| self.push(fingerprint, *byte))
    }
}

/// Cuts a stream of bytes into chunks.
#[derive(Debug)]
pub(crate) struct Chunker {
    tables: Arc<Tables>,
    buffers: Arc<Buffers>,
    /// The chunk in the making.
    buffer: Vec<u8>,
    /// How much of the buffer is known to hold no cut.
    scanned: usize,
    /// The fingerprint at `scanned`, once that is past the minimum.
    fingerprint: u64,
}

impl Chunker {
    pub(crate) fn new(tables: Arc<Tables>, buffers: Arc<Buffers>) -> Self {
        Self { tables, buffers, buffer: Vec::new(), scanned: 0, fingerprint: 0 }
    }

    /// Takes over `input`, appending each chunk that it completes to `chunks`.
    pub(crate) fn push(&mut self, mut input: &[u8], chunks: &mut Vec<Vec<u8>>) {
        while !input.is_empty() {
            let taken = input.len().min(STEP).min(MAX - self.buffer.len());
            let (head, rest) = input.split_at(taken);
            self.buffer.extend_from_slice(head);
            input = rest;
            while let Some(end) = self.find_cut() {
                let mut next = self.buffers.take(TYPICAL);
                next.extend_from_slice(&self.buffer[end..]);
                self.buffer.truncate(end);
                chunks.push(std::mem::replace(&mut self.buffer, next));
                self.scanned = 0;
            }
        }
    }

    /// The rest of the stream, if any.
    pub(crate) fn finish(self) -> Option<Vec<u8>> {
        Some(self.buffer).filter(|rest| !rest.is_empty())
    }

    /// Scans what is new in the buffer.
    fn find_cut(&mut self) -> Option<usize> {
        if self.scanned < MIN {
            let window = self.buffer.get(MIN - WINDOW..MIN)?;
            self.fingerprint = self.tables.fingerprint(window);
            self.scanned = MIN;
            if self.fingerprint & MASK == 0 {
                return Some(MIN);
            }
        }
        let leaving = &self.buffer[self.scanned - WINDOW..];
        let entering = &self.buffer[self.scanned..];
        let mut fingerprint = self.fingerprint;
        for (at, (leaving, entering)) in leaving.iter().zip(entering).enumerate() {
            fingerprint = self.tables.slide(fingerprint, *leaving, *entering);
            if fingerprint & MASK == 0 {
                return Some(self.scanned + at + 1);
            }
        }
        self.fingerprint = fingerprint;
        self.scanned = self.buffer.len();
        (self.scanned == MAX).then_some(MAX)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::rngs::StdRng;
    use rand::{Rng, RngCore, SeedableRng};

    use super::*;

    fn polynomial() -> Polynomial {
        Polynomial::checked(0x3da3358b4dc173).unwrap()
    }

    /// restic's algorithm word for word: a ring window, one byte after the other.
    fn reference(data: &[u8]) -> Vec<usize> {
        let polynomial = polynomial();
        let mut cuts = Vec::new();
        let (mut window, mut at, mut fingerprint, mut count) = ([0_u8; WINDOW], 0, 0_u64, 0_usize);
        let tables = Tables::new(polynomial);
        let mut slide = |fingerprint: &mut u64, window: &mut [u8; WINDOW], byte: u8| {
            *fingerprint ^= tables.out[usize::from(window[at])];
            window[at] = byte;
            at = (at + 1) % WINDOW;
            // Plain division instead of the table.
            let shifted = u128::from(*fingerprint) << 8 | u128::from(byte);
            *fingerprint = reduce_wide(shifted, polynomial.bits());
        };
        slide(&mut fingerprint, &mut window, 1);
        for (position, byte) in data.iter().enumerate() {
            count += 1;
            if count <= MIN - WINDOW {
                continue;
            }
            slide(&mut fingerprint, &mut window, *byte);
            if count >= MIN && (fingerprint & MASK == 0 || count >= MAX) {
                cuts.push(position + 1);
                (window, fingerprint, count) = ([0; WINDOW], 0, 0);
                slide(&mut fingerprint, &mut window, 1);
            }
        }
        cuts
    }

    fn reduce_wide(mut x: u128, modulus: u64) -> u64 {
        while x.checked_ilog2().is_some_and(|d| d >= 53) {
            x ^= u128::from(modulus) << (x.ilog2() - 53);
        }
        u64::try_from(x).unwrap()
    }

    fn cuts(data: &[u8], pieces: impl Iterator<Item = usize>) -> Vec<usize> {
        let mut chunker = Chunker::new(Arc::new(Tables::new(polynomial())), Arc::default());
        let (mut chunks, mut rest) = (Vec::new(), data);
        for piece in pieces {
            let (head, tail) = rest.split_at(piece.min(rest.len()));
            chunker.push(head, &mut chunks);
            rest = tail;
        }
        chunker.push(rest, &mut chunks);
        let mut whole = Vec::new();
        let mut cuts = Vec::new();
        for chunk in &chunks {
            assert!((MIN..=MAX).contains(&chunk.len()));
            whole.extend_from_slice(chunk);
            cuts.push(whole.len());
        }
        if let Some(rest) = chunker.finish() {
            assert!(rest.len() < MAX);
            whole.extend(rest);
        }
        assert!(whole == data, "the chunks are not the input");
        cuts
    }

    fn random(seed: u64, len: usize) -> Vec<u8> {
        let mut data = vec![0; len];
        StdRng::seed_from_u64(seed).fill_bytes(&mut data);
        data
    }

    #[test]
    fn cuts_are_restics_on_random_data() {
        let data = random(7, 24 << 20);
        let expected = reference(&data);
        assert!(expected.len() > 8);
        assert_eq!(cuts(&data, std::iter::empty()), expected);
    }

    #[test]
    fn monotonous_data_is_cut_at_the_limits() {
        let data = vec![0; 2 * MAX + 100];
        assert_eq!(cuts(&data, std::iter::empty()), reference(&data));
        let data = vec![b'x'; 2 * MAX + 100];
        assert_eq!(cuts(&data, std::iter::empty()), [MAX, 2 * MAX]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(6))]
        #[test]
        fn pieces_do_not_move_cuts(seed: u64, len in 0_usize..(3 << 20), repeat in 1_usize..5000) {
            let mut rng = StdRng::seed_from_u64(seed);
            let mut data = random(seed, len);
            // A stretch of repetition, so that both kinds of cut occur.
            if len > 2 * repeat {
                let pattern = data[..repeat].to_vec();
                let half = &mut data[len / 2..];
                half.chunks_mut(repeat).for_each(|c| c.copy_from_slice(&pattern[..c.len()]));
            }
            let pieces: Vec<usize> = (0..200).map(|_| rng.random_range(0..100_000)).collect();
            prop_assert_eq!(cuts(&data, pieces.into_iter()), reference(&data));
        }
    }
}
