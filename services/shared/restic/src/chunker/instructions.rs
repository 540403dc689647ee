//! The search for cuts with the AVX2 instructions of x86-64: 32 strips of a round at a time, five times
//! as fast as one byte after the other.
//!
//! A fingerprint of 53 bits, moved three bits up, is seven bytes. Seven registers hold them, each the
//! same byte of all 32 strips, so that moving on by a byte costs nothing: the registers change their
//! roles. What a byte contributes, when it leaves the window or is moved out at the top, is linear in its
//! bits: the sum of what its two halves contribute, and the processor looks 32 halves up at a time.
//!
//! `unsafe` is the call alone: a value of [`Instructions`] exists only where the processor has them.

#![allow(unsafe_code, reason = "CPU instructions; see the module's text")]

use core::arch::x86_64::{
    __m128i, __m256i, _mm_set_epi64x, _mm256_and_si256, _mm256_andnot_si256,
    _mm256_broadcastsi128_si256, _mm256_cmpeq_epi8, _mm256_movemask_epi8, _mm256_or_si256,
    _mm256_set_m128i, _mm256_set1_epi8, _mm256_setzero_si256, _mm256_shuffle_epi8,
    _mm256_slli_epi16, _mm256_srli_epi16, _mm256_unpackhi_epi8, _mm256_unpacklo_epi8,
    _mm256_xor_si256,
};

use super::{MASK, ROUND, WINDOW};

/// Strips of a round, a byte of a register each.
const LANES: usize = 32;
/// The bytes of a strip.
const STRIP: usize = ROUND / LANES;
/// The bytes of each strip that are loaded at once.
const BLOCK: usize = 16;
/// Blocks of a window.
const BLOCKS: usize = WINDOW / BLOCK;
/// The bytes of a fingerprint.
const BYTES: usize = 7;
/// How far a fingerprint is moved up, so that its eight highest bits are one of its bytes.
const UP: u32 = 3;
/// Below these bits, which are the third byte's, all others of [`MASK`] fill whole bytes.
#[allow(clippy::cast_possible_truncation, reason = "what is left are seven bits")]
const HIGHEST: i8 = ((MASK << UP) >> 16) as i8;

const _: () = assert!(LANES * STRIP == ROUND && STRIP.is_multiple_of(BLOCK));

/// What each of the halves of a byte contributes to each byte of a fingerprint.
type Halves = [[[u8; BLOCK]; 2]; BYTES];

/// Tables, and the proof that this processor has the instructions.
#[derive(Debug)]
pub(super) struct Instructions {
    out: Halves,
    modulo: Halves,
}

impl Instructions {
    /// Asks the processor; the tables say what a byte contributes that leaves, or is moved out at the top.
    pub(super) fn detect(out: &[u64; 256], modulo: &[u64; 256]) -> Option<Self> {
        let there = is_x86_feature_detected!("avx2");
        there.then(|| Self { out: halves(out), modulo: halves(modulo) })
    }

    /// The first cut behind the first window of `data`, which is a window and a round. Counted from
    /// where the round begins.
    pub(super) fn scan_round(&self, data: &[u8]) -> Option<usize> {
        // SAFETY: `self` proves the target feature.
        unsafe { scan(self, data) }
    }
}

fn halves(table: &[u64; 256]) -> Halves {
    // The bits above a fingerprint, which `modulo` has, fall out at the top here.
    let byte = |of: u64, at: usize| (of << UP).to_le_bytes()[at];
    std::array::from_fn(|at| {
        let half = |step| std::array::from_fn(|half: usize| byte(table[half * step], at));
        [half(1), half(16)]
    })
}

/// Both tables as the registers take them.
struct Registers {
    out: [[__m256i; 2]; BYTES],
    modulo: [[__m256i; 2]; BYTES],
}

#[target_feature(enable = "avx2")]
fn scan(instructions: &Instructions, data: &[u8]) -> Option<usize> {
    let data = &data[..WINDOW + ROUND];
    let broadcast = |half: [u8; BLOCK]| _mm256_broadcastsi128_si256(register(&half));
    let tables = Registers {
        out: instructions.out.map(|[low, high]| [broadcast(low), broadcast(high)]),
        modulo: instructions.modulo.map(|[low, high]| [broadcast(low), broadcast(high)]),
    };
    let zero = _mm256_setzero_si256();
    let mut window = [[zero; BLOCK]; BLOCKS];
    let mut fingerprints = [zero; BYTES];
    // Every strip begins with the window before it.
    for (block, bytes) in window.iter_mut().enumerate() {
        *bytes = load(data, block * BLOCK);
        for entering in *bytes {
            fingerprints = slide(&tables, fingerprints, zero, entering);
        }
    }
    let mut first: Option<usize> = None;
    for block in 0..STRIP / BLOCK {
        let entering = load(data, WINDOW + block * BLOCK);
        let leaving = std::mem::replace(&mut window[block % BLOCKS], entering);
        for at in 0..BLOCK {
            fingerprints = slide(&tables, fingerprints, leaving[at], entering[at]);
            let hits = hits(&fingerprints);
            if hits != 0 {
                // Earlier strips may have one still.
                let strip = hits.trailing_zeros() as usize;
                let end = strip * STRIP + block * BLOCK + at + 1;
                first = Some(first.map_or(end, |first| first.min(end)));
            }
        }
    }
    first
}

/// Moves all windows on by a byte.
#[inline]
#[target_feature(enable = "avx2")]
fn slide(
    tables: &Registers,
    fingerprints: [__m256i; BYTES],
    leaving: __m256i,
    entering: __m256i,
) -> [__m256i; BYTES] {
    let low = _mm256_set1_epi8(0x0f);
    let halves = |bytes| {
        [_mm256_and_si256(bytes, low), _mm256_and_si256(_mm256_srli_epi16::<4>(bytes), low)]
    };
    let (top, leaving) = (halves(fingerprints[BYTES - 1]), halves(leaving));
    let contribution = |[table_low, table_high]: [__m256i; 2], [low, high]: [__m256i; 2]| {
        let low = _mm256_shuffle_epi8(table_low, low);
        _mm256_xor_si256(low, _mm256_shuffle_epi8(table_high, high))
    };
    let mut moved = [_mm256_setzero_si256(); BYTES];
    // The entering byte is moved up as well: its three highest bits belong to the second byte.
    let below = _mm256_set1_epi8((1 << UP) - 1);
    let up = _mm256_slli_epi16::<{ UP as i32 }>(entering);
    moved[0] = _mm256_andnot_si256(below, up);
    let over = _mm256_and_si256(_mm256_srli_epi16::<{ 8 - UP as i32 }>(entering), below);
    moved[1] = _mm256_xor_si256(fingerprints[0], over);
    moved[2..].copy_from_slice(&fingerprints[1..BYTES - 1]);
    for (at, moved) in moved.iter_mut().enumerate() {
        let out = contribution(tables.out[at], leaving);
        let sum = _mm256_xor_si256(contribution(tables.modulo[at], top), out);
        *moved = _mm256_xor_si256(*moved, sum);
    }
    moved
}

/// A bit for each strip whose fingerprint ends a chunk.
#[inline]
#[target_feature(enable = "avx2")]
fn hits(fingerprints: &[__m256i; BYTES]) -> u32 {
    let third = _mm256_and_si256(fingerprints[2], _mm256_set1_epi8(HIGHEST));
    let all = _mm256_or_si256(_mm256_or_si256(fingerprints[0], fingerprints[1]), third);
    _mm256_movemask_epi8(_mm256_cmpeq_epi8(all, _mm256_setzero_si256())).cast_unsigned()
}

/// Sixteen bytes of each strip, from `offset` on: a register for each offset, with the bytes of all strips.
#[inline]
#[target_feature(enable = "avx2")]
fn load(data: &[u8], offset: usize) -> [__m256i; BLOCK] {
    let row = |strip: usize| {
        register(data[strip * STRIP + offset..].first_chunk().unwrap_or(&[0; BLOCK]))
    };
    let mut rows: [__m256i; BLOCK] =
        std::array::from_fn(|strip| _mm256_set_m128i(row(strip + BLOCK), row(strip)));
    // With 16 rows of 16 bytes, a place has an address of two times four bits. Interleaving the upper half
    // of the rows with the lower moves the highest bit to the end: four times exchange row and column.
    for _ in 0..4 {
        rows = std::array::from_fn(|at| {
            let (one, other) = (rows[at / 2], rows[at / 2 + BLOCK / 2]);
            if at % 2 == 0 {
                _mm256_unpacklo_epi8(one, other)
            } else {
                _mm256_unpackhi_epi8(one, other)
            }
        });
    }
    rows
}

#[inline]
#[target_feature(enable = "avx2")]
fn register(bytes: &[u8; BLOCK]) -> __m128i {
    let bits = u128::from_le_bytes(*bytes);
    #[allow(clippy::cast_possible_truncation, reason = "it is taken apart")]
    let (low, high) = (bits as u64, (bits >> 64) as u64);
    _mm_set_epi64x(high.cast_signed(), low.cast_signed())
}
