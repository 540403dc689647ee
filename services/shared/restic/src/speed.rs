//! What each step of a backup alone reaches on this processor: the physical limit that the benchmark prints
//! beside our figures. Nothing else uses it.

use std::hint::black_box;
use std::time::Instant;

use crate::chunker::Tables;
use crate::crypto::{OVERHEAD, SealingKey};
use crate::id::Id;
use crate::index::Index;
use crate::pack::{BlobKind, IndexedPack, PackedBlob};
use crate::polynomial::Polynomial;
use crate::sha256;

/// A typical chunk.
const PIECE: usize = 1_500_000;
/// Each step is measured this often, and the best counts.
const ROUNDS: usize = 5;
/// What a pack of typical chunks holds, for the synthetic index.
const BLOBS_IN_A_PACK: u64 = 11;
/// What restic and we put into an index file.
const BLOBS_IN_A_FILE: u64 = 50_000;

/// Seconds of one processor for a GB of input, step by step.
#[derive(Clone, Copy, Debug)]
pub struct Steps {
    /// Into a buffer of ours.
    pub copy: f64,
    /// Finding the ends of chunks.
    pub cut: f64,
    /// SHA-256.
    pub hash: f64,
    /// AES-256-CTR and Poly1305-AES.
    pub seal: f64,
    /// zstd, level 1.
    pub compress: f64,
    /// zstd, back.
    pub decompress: f64,
    /// What compression leaves of a byte.
    pub left: f64,
}

/// Seconds of one processor for a GB that cannot be avoided.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// A first backup.
    pub first: f64,
    /// A backup of what is there already.
    pub second: f64,
    /// Reading it back.
    pub read: f64,
}

impl Steps {
    /// Measures each step over `data`, which should be larger than the caches.
    ///
    /// # Panics
    /// If one of the steps fails, which none does on sound memory.
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "figures for people")]
    pub fn measure(data: &[u8]) -> Self {
        let key = SealingKey::from_bytes(&[7; 64]);
        let polynomial = Polynomial::checked(0x003d_a335_8b4d_c173).expect("it is irreducible");
        let tables = Tables::new(polynomial);
        let mut compressor = zstd::bulk::Compressor::new(1).expect("level 1 exists");
        let mut decompressor = zstd::bulk::Decompressor::new().expect("needs memory only");
        let mut packed = Vec::with_capacity(zstd::zstd_safe::compress_bound(PIECE));
        let mut buffer = Vec::with_capacity(PIECE + OVERHEAD);
        let pieces: Vec<&[u8]> = data.chunks(PIECE).collect();
        let mut compressed: Vec<Vec<u8>> = Vec::new();
        let compress = best(data, || {
            compressed.clear();
            for piece in &pieces {
                compressor.compress_to_buffer(piece, &mut packed).expect("the room is enough");
                compressed.push(packed.clone());
            }
        });
        let small: usize = compressed.iter().map(Vec::len).sum();
        Self {
            copy: best(data, || {
                for piece in &pieces {
                    buffer.clear();
                    buffer.extend_from_slice(black_box(piece));
                }
            }),
            cut: best(data, || {
                let mut rest = black_box(data);
                while let Some(end) = tables.cut(rest) {
                    rest = &rest[end..];
                }
            }),
            hash: best(data, || drop(black_box(sha256::ids(&pieces)))),
            // The copy is measured above; what it adds here is small.
            seal: best(data, || {
                for piece in &pieces {
                    buffer.clear();
                    key.seal_onto(&[piece], &mut buffer).expect("random bytes can be had");
                }
            }),
            compress,
            decompress: best(data, || {
                for piece in &compressed {
                    buffer.clear();
                    decompressor
                        .decompress_to_buffer(piece, &mut buffer)
                        .expect("it was compressed");
                }
            }),
            left: (small as f64 / data.len() as f64).min(1.0),
        }
    }

    /// Adds the steps up. `verify`: what is written is decoded first; `compress`: it is tried.
    #[must_use]
    pub fn limits(&self, verify: bool, compress: bool) -> Limits {
        let Self { copy, cut, hash, seal, compress: squeeze, decompress, left } = *self;
        // What does not shrink is noticed, and stored as it is.
        let shrinks = compress && left < 0.98;
        let left = if shrinks { left } else { 1.0 };
        let (squeeze, decompress) = if shrinks { (squeeze, decompress) } else { (0.0, 0.0) };
        let second = copy + cut + hash;
        let open = seal * left + decompress;
        let verification = if verify { open } else { 0.0 };
        Limits {
            first: second + squeeze + (seal + hash) * left + verification,
            second,
            read: open + hash,
        }
    }
}

/// Seconds for a GB.
#[allow(clippy::cast_precision_loss, reason = "figures for people")]
fn best(data: &[u8], mut step: impl FnMut()) -> f64 {
    let round = |_| {
        let clock = Instant::now();
        step();
        clock.elapsed().as_secs_f64()
    };
    (0..ROUNDS).map(round).fold(f64::MAX, f64::min) * 1e9 / data.len() as f64
}

/// What an index of that many blobs takes, by what `resident` says before and after, in bytes.
pub fn index_memory(blobs: u64, resident: impl Fn() -> u64) -> u64 {
    let mut index = Index::default();
    let before = resident();
    let packs_in_a_file = BLOBS_IN_A_FILE / BLOBS_IN_A_PACK;
    let packs = blobs.div_ceil(BLOBS_IN_A_PACK);
    for file in 0..packs.div_ceil(packs_in_a_file) {
        let numbers = file * packs_in_a_file..packs.min((file + 1) * packs_in_a_file);
        let packs: Vec<_> = numbers.map(synthetic_pack).collect();
        index.add_file(synthetic_id(file, u64::MAX), &packs);
    }
    let after = resident();
    assert!(index.get(BlobKind::Data, &synthetic_id(0, 0)).is_some(), "the first blob is in it");
    after.saturating_sub(before)
}

fn synthetic_pack(number: u64) -> IndexedPack {
    let blobs = (0..BLOBS_IN_A_PACK).map(|at| PackedBlob {
        kind: BlobKind::Data,
        id: synthetic_id(number, at),
        offset: 0,
        length: 1_000_000,
        raw_length: Some(1_500_000),
    });
    IndexedPack { id: synthetic_id(number, u64::MAX - 1), blobs: blobs.collect() }
}

/// Spread as evenly as hashes are.
fn synthetic_id(high: u64, low: u64) -> Id {
    let mut bytes = [0; 32];
    let mut state =
        high.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ low.wrapping_mul(0xd6e8_feb8_6659_fd93);
    for word in bytes.chunks_exact_mut(8) {
        state = (state ^ (state >> 31)).wrapping_mul(0xbf58_476d_1ce4_e5b9) ^ (state >> 27);
        word.copy_from_slice(&state.to_le_bytes());
    }
    Id::from_bytes(bytes)
}
