//! The fingerprint of a window, and the search for the windows that end a chunk.
//!
//! A fingerprint depends on nothing but its 64 bytes, so no window is kept beside the data, and several
//! places can be looked at side by side: each step waits for the one before, so one lane alone leaves
//! most of a processor idle.

use super::instructions::Instructions;
use super::{MASK, MAX, MIN, ROUND, WINDOW, looked_at};
use crate::polynomial::Polynomial;

/// Strips of a round that are scanned side by side; more do not fit into the registers.
const LANES: usize = 6;
/// The bytes of a strip.
const STRIP: usize = ROUND / LANES;
/// What is above the eight highest bits of a fingerprint, the degree being restic's, always.
const SHIFT: u32 = Polynomial::DEGREE - 8;

const _: () = assert!(LANES * STRIP == ROUND);

/// What the fingerprint needs of a polynomial, worked out once per repository.
pub(crate) struct Tables {
    /// What a byte contributes when it leaves the window.
    pub(super) out: [u64; 256],
    /// What the eight highest bits are worth after reduction, with those bits, so that one XOR
    /// removes them and adds their remainder.
    modulo: [u64; 256],
    instructions: Option<Instructions>,
}

impl std::fmt::Debug for Tables {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tables").finish_non_exhaustive()
    }
}

impl Tables {
    pub(crate) fn new(polynomial: Polynomial) -> Self {
        let mut tables = Self { out: [0; 256], modulo: [0; 256], instructions: None };
        for byte in 0..=255_u8 {
            let mut fingerprint = polynomial.reduce(u64::from(byte));
            for _ in 1..WINDOW {
                fingerprint = polynomial.reduce(fingerprint << 8);
            }
            tables.out[usize::from(byte)] = fingerprint;
            let high = u64::from(byte) << Polynomial::DEGREE;
            tables.modulo[usize::from(byte)] = polynomial.reduce(high) | high;
        }
        // For them a byte leaves in the same step in which another enters.
        let out = tables.out.map(|leaving| tables.push(leaving, 0));
        tables.instructions = Instructions::detect(&out, &tables.modulo);
        tables
    }

    #[inline(always)]
    fn push(&self, fingerprint: u64, byte: u8) -> u64 {
        // The fingerprint has at most `degree` bits, so eight are left.
        let high = (fingerprint >> SHIFT) & 0xff;
        #[allow(clippy::cast_possible_truncation, reason = "masked to eight bits")]
        let modulo = self.modulo[high as usize];
        ((fingerprint << 8) | u64::from(byte)) ^ modulo
    }

    #[inline(always)]
    fn slide(&self, fingerprint: u64, leaving: u8, entering: u8) -> u64 {
        self.push(fingerprint ^ self.out[usize::from(leaving)], entering)
    }

    /// The fingerprint of a whole window.
    pub(super) fn fingerprint(&self, window: &[u8]) -> u64 {
        window.iter().fold(0, |fingerprint, byte| self.push(fingerprint, *byte))
    }

    /// Whether a chunk of the shortest length, or some rounds longer, ends in its last round, and where. `last` is what
    /// it has from [`looked_at`] on.
    pub(super) fn look(&self, length: usize, last: &[u8]) -> Option<usize> {
        if length == MIN {
            return (self.fingerprint(last) & MASK == 0).then_some(MIN);
        }
        let found = self.scan_round(last);
        found.map(|at| length - ROUND + at).or_else(|| (length == MAX).then_some(MAX))
    }

    /// The end of the chunk that `data` begins with, if it lies in there.
    pub(crate) fn cut(&self, data: &[u8]) -> Option<usize> {
        let whole = data.len().min(MAX);
        let mut looks = (MIN..=whole).step_by(ROUND);
        looks.find_map(|length| self.look(length, &data[looked_at(length)..length])).or_else(|| {
            let rest = whole.checked_sub(MIN)? % ROUND;
            self.scan_plainly(&data[..whole], whole - rest)
        })
    }

    /// The first cut behind the first window of `data`, which is a window and a round. Counted from
    /// where the round begins.
    pub(super) fn scan_round(&self, data: &[u8]) -> Option<usize> {
        match &self.instructions {
            Some(instructions) => instructions.scan_round(data),
            None => self.scan_lanes(data),
        }
    }

    /// The same without special instructions: a byte of each of [`LANES`] neighbouring strips in turn.
    pub(super) fn scan_lanes(&self, data: &[u8]) -> Option<usize> {
        let data = &data[..WINDOW + ROUND];
        // The leaving byte of a strip is at its own offset.
        let mut lanes: [u64; LANES] =
            std::array::from_fn(|strip| self.fingerprint(&data[strip * STRIP..][..WINDOW]));
        let mut first = None;
        for at in 0..STRIP {
            let mut hit = false;
            for (strip, lane) in lanes.iter_mut().enumerate() {
                let leaving = strip * STRIP + at;
                *lane = self.slide(*lane, data[leaving], data[leaving + WINDOW]);
                hit |= *lane & MASK == 0;
            }
            if hit && let Some(strip) = lanes.iter().position(|lane| lane & MASK == 0) {
                // Earlier strips may have one still.
                let end = strip * STRIP + at + 1;
                first = Some(first.map_or(end, |first: usize| first.min(end)));
            }
        }
        first
    }

    /// The first cut of `data` behind `from`, looked for byte by byte.
    pub(super) fn scan_plainly(&self, data: &[u8], from: usize) -> Option<usize> {
        let (leaving, entering) = (&data[from - WINDOW..], &data[from..]);
        let mut fingerprint = self.fingerprint(&leaving[..WINDOW]);
        for (at, (leaving, entering)) in leaving.iter().zip(entering).enumerate() {
            fingerprint = self.slide(fingerprint, *leaving, *entering);
            if fingerprint & MASK == 0 {
                return Some(from + at + 1);
            }
        }
        None
    }
}
