//! The SHA instructions of x86-64, with `unsafe`.
//!
//! It is here because no crate hashes two messages at once. What makes it sound: a value of
//! [`Instructions`] exists only where the processor has them, and every pointer is made from a slice
//! whose bounds the loop keeps.

#![allow(unsafe_code, reason = "CPU instructions; see the module's text")]

use core::arch::x86_64::{
    __m128i, _mm_add_epi32, _mm_alignr_epi8, _mm_blend_epi16, _mm_loadu_si128, _mm_set_epi64x,
    _mm_sha256msg1_epu32, _mm_sha256msg2_epu32, _mm_sha256rnds2_epu32, _mm_shuffle_epi8,
    _mm_shuffle_epi32, _mm_storeu_si128,
};

use super::{BLOCK, State};

/// The round constants.
static ROUND: [u32; 64] = [
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
];

/// Proof that this processor has the instructions.
#[derive(Clone, Copy, Debug)]
pub(super) struct Instructions(());

impl Instructions {
    /// Asks the processor; the answer is cached by the standard library.
    pub(super) fn detect() -> Option<Self> {
        let there = is_x86_feature_detected!("sha")
            && is_x86_feature_detected!("ssse3")
            && is_x86_feature_detected!("sse4.1");
        there.then_some(Self(()))
    }

    /// Puts whole blocks through a state. Bytes behind the last whole block are left out.
    pub(super) fn one(self, state: &mut State, blocks: &[u8]) {
        // SAFETY: `self` proves the target features.
        unsafe { compress([state], [blocks]) }
    }

    /// The same for two states at once, as many blocks as the shorter of the two has.
    pub(super) fn two(self, states: [&mut State; 2], blocks: [&[u8]; 2]) {
        // SAFETY: as above.
        unsafe { compress(states, blocks) }
    }
}

/// `N` messages in step. Intel's layout: one register holds ABEF, the other CDGH.
#[target_feature(enable = "sha,ssse3,sse4.1")]
fn compress<const N: usize>(states: [&mut State; N], blocks: [&[u8]; N]) {
    // The words of a block are big endian.
    let swap = _mm_set_epi64x(0x0c0d_0e0f_0809_0a0b, 0x0405_0607_0001_0203);
    let mut abef = [swap; N];
    let mut cdgh = [swap; N];
    for lane in 0..N {
        (abef[lane], cdgh[lane]) = load(states[lane]);
    }
    let count = blocks.iter().map(|bytes| bytes.len() / BLOCK).min().unwrap_or(0);
    for block in 0..count {
        let (abef_before, cdgh_before) = (abef, cdgh);
        let mut words = [[swap; 4]; N];
        for lane in 0..N {
            let bytes = &blocks[lane][block * BLOCK..][..BLOCK];
            for (quarter, bytes) in words[lane].iter_mut().zip(bytes.chunks_exact(16)) {
                // SAFETY: the chunk has the 16 bytes that are read; no alignment is needed.
                let loaded = unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) };
                *quarter = _mm_shuffle_epi8(loaded, swap);
            }
        }
        macro_rules! four_rounds {
            ($($group:literal)*) => {$({
                // SAFETY: `$group` is below 16, so four of the 64 constants follow.
                let round = unsafe { _mm_loadu_si128(ROUND.as_ptr().add($group * 4).cast()) };
                for lane in 0..N {
                    let w = &mut words[lane];
                    let sum = _mm_add_epi32(w[$group % 4], round);
                    cdgh[lane] = _mm_sha256rnds2_epu32(cdgh[lane], abef[lane], sum);
                    let sum = _mm_shuffle_epi32(sum, 0x0e);
                    abef[lane] = _mm_sha256rnds2_epu32(abef[lane], cdgh[lane], sum);
                    if $group < 12 {
                        let (one, two, three) = (w[($group + 1) % 4], w[($group + 2) % 4], w[($group + 3) % 4]);
                        let early = _mm_sha256msg1_epu32(w[$group % 4], one);
                        let early = _mm_add_epi32(early, _mm_alignr_epi8(three, two, 4));
                        w[$group % 4] = _mm_sha256msg2_epu32(early, three);
                    }
                }
            })*};
        }
        four_rounds!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15);
        for lane in 0..N {
            abef[lane] = _mm_add_epi32(abef[lane], abef_before[lane]);
            cdgh[lane] = _mm_add_epi32(cdgh[lane], cdgh_before[lane]);
        }
    }
    for (lane, state) in states.into_iter().enumerate() {
        store(state, abef[lane], cdgh[lane]);
    }
}

#[target_feature(enable = "sha,ssse3,sse4.1")]
fn load(state: &State) -> (__m128i, __m128i) {
    // SAFETY: the state has eight words, four of which are read at a time.
    let (dcba, hgfe) = unsafe {
        (_mm_loadu_si128(state.as_ptr().cast()), _mm_loadu_si128(state.as_ptr().add(4).cast()))
    };
    let cdab = _mm_shuffle_epi32(dcba, 0xb1);
    let efgh = _mm_shuffle_epi32(hgfe, 0x1b);
    (_mm_alignr_epi8(cdab, efgh, 8), _mm_blend_epi16(efgh, cdab, 0xf0))
}

#[target_feature(enable = "sha,ssse3,sse4.1")]
fn store(state: &mut State, abef: __m128i, cdgh: __m128i) {
    let feba = _mm_shuffle_epi32(abef, 0x1b);
    let dchg = _mm_shuffle_epi32(cdgh, 0xb1);
    let (dcba, hgfe) = (_mm_blend_epi16(feba, dchg, 0xf0), _mm_alignr_epi8(dchg, feba, 8));
    // SAFETY: the state has eight words, four of which are written at a time.
    unsafe {
        _mm_storeu_si128(state.as_mut_ptr().cast(), dcba);
        _mm_storeu_si128(state.as_mut_ptr().add(4).cast(), hgfe);
    }
}
