//! What a computation compresses and decompresses with, and a cheap look at whether it is worth while.

use std::io::Cursor;

use zstd::bulk::{Compressor, Decompressor};

use crate::crypto::TAG_LEN;
use crate::error::{Error, Result};

/// Whether compression is worth while is tried on this many pieces of a blob, evenly spread …
const SAMPLES: usize = 4;
/// … of this length: as much as finds what repeats nearby, for a tenth of the cost of trying it all.
const SAMPLE_LEN: usize = 32 * 1024;
/// Less than this part saved (a 64th) is not worth the time to decompress.
const WORTH: usize = 64;

/// What a computation compresses and decompresses with. Making these costs as much as compressing a
/// small blob, so they are used again.
#[derive(Default)]
pub(crate) struct Codec {
    compressor: Option<(i32, Compressor<'static>)>,
    decompressor: Option<Decompressor<'static>>,
    /// Room to work in: for what is packed, and for what it is made of.
    pub(crate) packed: Vec<u8>,
    pub(crate) content: Vec<u8>,
}

impl std::fmt::Debug for Codec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Codec").finish_non_exhaustive()
    }
}

impl Codec {
    /// A compressor of this level. One is kept; processes seldom use several levels at a time.
    fn compressor(&mut self, level: i32) -> Result<&mut Compressor<'static>> {
        let fitting = self.compressor.take().filter(|(of, _)| *of == level);
        let compressor = match fitting {
            Some(fitting) => fitting,
            None => {
                let made = Compressor::new(level);
                (level, made.map_err(|source| Error::internal("compress a blob", source))?)
            }
        };
        Ok(&mut self.compressor.insert(compressor).1)
    }

    /// Appends the compressed content to `out`.
    pub(crate) fn compress(&mut self, level: i32, content: &[u8], out: &mut Vec<u8>) -> Result<()> {
        // Exactly: a pack's buffer must not double for its last blob.
        out.reserve_exact(zstd::zstd_safe::compress_bound(content.len()) + TAG_LEN);
        let mut end = Cursor::new(std::mem::take(out));
        end.set_position(end.get_ref().len() as u64);
        let done = self.compressor(level)?.compress_to_buffer(content, &mut end);
        *out = end.into_inner();
        done.map(drop).map_err(|source| Error::internal("compress a blob", source))
    }

    /// Replaces `out` by the decompressed content, which must have the length given.
    pub(crate) fn decompress(
        &mut self,
        packed: &[u8],
        length: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), String> {
        let failed = |e: std::io::Error| format!("it cannot be decompressed: {e}");
        let decompressor = match &mut self.decompressor {
            Some(decompressor) => decompressor,
            none => none.insert(Decompressor::new().map_err(failed)?),
        };
        out.clear();
        out.reserve(length);
        decompressor.decompress_to_buffer(packed, out).map_err(failed)?;
        if out.len() == length {
            Ok(())
        } else {
            Err(format!("it has {} bytes instead of {length}", out.len()))
        }
    }

    /// A cheap look at whether content is noise: samples of it do not compress.
    pub(crate) fn is_noise(&mut self, level: i32, content: &[u8]) -> Result<bool> {
        if content.len() < 4 * SAMPLES * SAMPLE_LEN {
            // Trying it all is as cheap.
            return Ok(false);
        }
        let (mut samples, mut packed) =
            (std::mem::take(&mut self.content), std::mem::take(&mut self.packed));
        samples.clear();
        packed.clear();
        for piece in content.chunks(content.len() / SAMPLES).take(SAMPLES) {
            samples.extend_from_slice(&piece[..SAMPLE_LEN]);
        }
        let tried = self.compress(level, &samples, &mut packed);
        let saved = samples.len().saturating_sub(packed.len());
        let noise = saved < samples.len() / WORTH;
        (self.content, self.packed) = (samples, packed);
        tried.map(|()| noise)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(length: usize) -> Vec<u8> {
        let mut noise = vec![0; length];
        crate::crypto::random(&mut noise).unwrap();
        noise
    }

    #[test]
    fn noise_is_told_from_data_that_is_noisy_in_part() {
        let mut codec = Codec::default();
        let mut content = noise(1_500_000);
        assert!(codec.is_noise(1, &content).unwrap());
        // One sample in four with a tenth of it compressible is enough to try it all.
        content[10_000..14_000].fill(7);
        assert!(!codec.is_noise(1, &content).unwrap());
        // Noise that repeats within a sample is none.
        let value = noise(10_000);
        assert!(!codec.is_noise(1, &value.repeat(150)).unwrap());
        assert!(!codec.is_noise(1, &noise(1000)).unwrap(), "too small to be looked at twice");
    }
}
