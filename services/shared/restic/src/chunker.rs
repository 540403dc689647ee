//! Content-defined chunking with restic's Rabin fingerprint: the same bytes are cut at the same places
//! by restic and by us, so each deduplicates against the other.
//!
//! A chunk ends where the fingerprint of its last 64 bytes has twenty zero bits, but not before
//! 512 KiB and at the latest after 8 MiB. The fingerprint depends on nothing but those 64 bytes, so
//! the first 512 KiB of a chunk need no look at all, no window is kept beside the data, and several
//! places of it can be looked at side by side: each step waits for the one before, so one lane alone
//! leaves most of a processor idle.

use std::sync::Arc;

use crate::buffers::{Buffer, Buffers};
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
/// Strips of data that are scanned side by side; more do not fit into the registers.
const LANES: usize = 6;
/// The bytes of a strip. Each begins with a look at the window before it, which a short one pays dearly.
/// Not a power of two: the lanes would fight for the same lines of the first cache.
const LONG_STRIP: usize = 4096 + 3 * 64;
/// For what is left behind the long ones.
const SHORT_STRIP: usize = 256 + 64;
/// What is above the eight highest bits of a fingerprint, the degree being restic's, always.
const SHIFT: u32 = Polynomial::DEGREE - 8;

/// What the fingerprint needs of a polynomial, worked out once per repository.
pub(crate) struct Tables {
    /// What a byte contributes when it leaves the window.
    out: [u64; 256],
    /// What the eight highest bits are worth after reduction, with those bits, so that one XOR
    /// removes them and adds their remainder.
    modulo: [u64; 256],
}

impl std::fmt::Debug for Tables {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tables").finish_non_exhaustive()
    }
}

impl Tables {
    pub(crate) fn new(polynomial: Polynomial) -> Self {
        let mut tables = Self { out: [0; 256], modulo: [0; 256] };
        for byte in 0..=255_u8 {
            let mut fingerprint = polynomial.reduce(u64::from(byte));
            for _ in 1..WINDOW {
                fingerprint = polynomial.reduce(fingerprint << 8);
            }
            tables.out[usize::from(byte)] = fingerprint;
            let high = u64::from(byte) << Polynomial::DEGREE;
            tables.modulo[usize::from(byte)] = polynomial.reduce(high) | high;
        }
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
    fn fingerprint(&self, window: &[u8]) -> u64 {
        window.iter().fold(0, |fingerprint, byte| self.push(fingerprint, *byte))
    }

    /// The end of the chunk that `data` begins with, if it lies in there.
    pub(crate) fn cut(&self, data: &[u8]) -> Option<usize> {
        let data = &data[..data.len().min(MAX)];
        let mut fingerprint = self.fingerprint(data.get(MIN - WINDOW..MIN)?);
        if fingerprint & MASK == 0 {
            return Some(MIN);
        }
        self.scan(data, MIN, &mut fingerprint).or_else(|| (data.len() == MAX).then_some(MAX))
    }

    /// Looks for a cut behind `from`, where the fingerprint is the one given. Without one, it becomes
    /// that of the end.
    fn scan(&self, data: &[u8], mut from: usize, fingerprint: &mut u64) -> Option<usize> {
        while data.len() - from >= LANES * LONG_STRIP {
            let cut = self.scan_strips::<LONG_STRIP>(data, from, fingerprint);
            if cut.is_some() {
                return cut;
            }
            from += LANES * LONG_STRIP;
        }
        while data.len() - from >= LANES * SHORT_STRIP {
            let cut = self.scan_strips::<SHORT_STRIP>(data, from, fingerprint);
            if cut.is_some() {
                return cut;
            }
            from += LANES * SHORT_STRIP;
        }
        self.scan_plainly(data, from, fingerprint)
    }

    /// The same, byte by byte.
    fn scan_plainly(&self, data: &[u8], from: usize, fingerprint: &mut u64) -> Option<usize> {
        let (leaving, entering) = (&data[from - WINDOW..], &data[from..]);
        for (at, (leaving, entering)) in leaving.iter().zip(entering).enumerate() {
            *fingerprint = self.slide(*fingerprint, *leaving, *entering);
            if *fingerprint & MASK == 0 {
                return Some(from + at + 1);
            }
        }
        None
    }

    /// The same for [`LANES`] neighbouring strips, a byte of each in turn.
    fn scan_strips<const STRIP: usize>(
        &self,
        data: &[u8],
        from: usize,
        fingerprint: &mut u64,
    ) -> Option<usize> {
        // From the first window on, so that the leaving byte of a strip is at its own offset.
        let data = &data[from - WINDOW..from + LANES * STRIP];
        let mut lanes = [*fingerprint; LANES];
        for (lane, strip) in lanes.iter_mut().zip(0..LANES).skip(1) {
            *lane = self.fingerprint(&data[strip * STRIP..][..WINDOW]);
        }
        let mut found = [None; LANES];
        for at in 0..STRIP {
            let mut hit = false;
            for (strip, lane) in lanes.iter_mut().enumerate() {
                let leaving = strip * STRIP + at;
                *lane = self.slide(*lane, data[leaving], data[leaving + WINDOW]);
                hit |= *lane & MASK == 0;
            }
            if hit {
                for (strip, lane) in lanes.iter().enumerate() {
                    if *lane & MASK == 0 && found[strip].is_none() {
                        found[strip] = Some(from + strip * STRIP + at + 1);
                    }
                }
                // Hits in later strips must wait until the earlier ones are known to have none.
                if found[0].is_some() {
                    return found[0];
                }
            }
        }
        *fingerprint = lanes[LANES - 1];
        found.into_iter().flatten().next()
    }
}

/// Cuts a stream of bytes into chunks.
#[derive(Debug)]
pub(crate) struct Chunker {
    tables: Arc<Tables>,
    buffers: Buffers,
    /// The chunk in the making.
    buffer: Buffer,
    /// How much of the buffer is known to hold no cut.
    scanned: usize,
    /// The fingerprint at `scanned`, once that is past the minimum.
    fingerprint: u64,
}

impl Chunker {
    pub(crate) fn new(tables: Arc<Tables>, buffers: Buffers) -> Self {
        Self { tables, buffers, buffer: Buffer::default(), scanned: 0, fingerprint: 0 }
    }

    /// Takes over `input`, appending each chunk that it completes to `chunks`.
    pub(crate) fn push(&mut self, mut input: &[u8], chunks: &mut Vec<Buffer>) {
        while !input.is_empty() {
            let taken = input.len().min(STEP).min(MAX - self.buffer.len());
            let (head, rest) = input.split_at(taken);
            // Small files stay in small buffers; the others grow in few steps.
            let needed = self.buffer.len() + head.len();
            if needed > STEP {
                self.buffer.grow(needed.max(TYPICAL), &self.buffers);
            }
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
    pub(crate) fn finish(self) -> Option<Buffer> {
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
        let cut = self.tables.scan(&self.buffer, self.scanned, &mut self.fingerprint);
        if cut.is_none() {
            self.scanned = self.buffer.len();
        }
        cut.or_else(|| (self.scanned == MAX).then_some(MAX))
    }
}

#[cfg(test)]
mod tests;
