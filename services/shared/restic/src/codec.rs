//! What a computation compresses and decompresses with, and a cheap look at whether it is worth while.

use std::io::Cursor;

use zstd::bulk::{Compressor, Decompressor};
use zstd::stream::raw::{Decoder, InBuffer, Operation, OutBuffer};

use crate::crypto::TAG_LEN;
use crate::error::{Error, Result};
use crate::pieces::{self, Expected};

/// Whether compression is worth while is tried on this many pieces of a blob, evenly spread …
const SAMPLES: usize = 4;
/// … of this length: as much as finds what repeats nearby, for a tenth of the cost of trying it all.
const SAMPLE_LEN: usize = 32 * 1024;
/// Content is compared in pieces of this size: a block of the format.
const PIECE: usize = 128 * 1024;
/// Less than this part saved (a 64th) is not worth the time to decompress.
const WORTH: usize = 64;

/// What a computation compresses and decompresses with. Making these costs as much as compressing a
/// small blob, so they are used again.
#[derive(Default)]
pub(crate) struct Codec {
    compressor: Option<(i32, Compressor<'static>)>,
    decompressor: Option<Decompressor<'static>>,
    /// For content that is only compared: it needs a window of it, not all.
    decoder: Option<Decoder<'static>>,
    /// Room for pieces of content.
    room: Vec<u8>,
}

/// Compressed content on its way through a decoder, beside what it should become.
pub(crate) struct Comparison<'a> {
    decoder: &'a mut Decoder<'static>,
    room: &'a mut Vec<u8>,
    expected: Expected<'a>,
    /// What is wrong, once something is.
    problem: Option<String>,
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
        let decompressor = match &mut self.decompressor {
            Some(decompressor) => decompressor,
            none => none.insert(Decompressor::new().map_err(undecodable)?),
        };
        out.clear();
        out.reserve(length);
        decompressor.decompress_to_buffer(packed, out).map_err(undecodable)?;
        if out.len() == length {
            Ok(())
        } else {
            Err(format!("it has {} bytes instead of {length}", out.len()))
        }
    }

    /// Prepares to compare compressed content, which comes piece by piece, with `content`, in pieces of its own.
    pub(crate) fn compare<'a>(
        &'a mut self,
        content: &'a [&'a [u8]],
    ) -> Result<Comparison<'a>, String> {
        let decoder = match &mut self.decoder {
            Some(decoder) => decoder,
            none => none.insert(Decoder::new().map_err(undecodable)?),
        };
        decoder.reinit().map_err(undecodable)?;
        self.room.clear();
        self.room.reserve(PIECE);
        let expected = Expected::new(content);
        Ok(Comparison { decoder, room: &mut self.room, expected, problem: None })
    }

    /// A cheap look at whether content is noise: samples of it do not compress.
    pub(crate) fn is_noise(&mut self, level: i32, content: &[&[u8]]) -> Result<bool> {
        let length = pieces::length(content);
        if length < 4 * SAMPLES * SAMPLE_LEN {
            // Trying it all is as cheap.
            return Ok(false);
        }
        let (mut samples, mut packed) = (std::mem::take(&mut self.room), Vec::new());
        samples.clear();
        for start in (0..SAMPLES).map(|at| at * (length / SAMPLES)) {
            let sample = pieces::within(content.iter().copied(), start..start + SAMPLE_LEN);
            sample.for_each(|part| samples.extend_from_slice(part));
        }
        let tried = self.compress(level, &samples, &mut packed);
        let saved = samples.len().saturating_sub(packed.len());
        let noise = saved < samples.len() / WORTH;
        self.room = samples;
        tried.map(|()| noise)
    }
}

impl Comparison<'_> {
    /// Takes a piece of what is compressed.
    pub(crate) fn take(&mut self, packed: &[u8]) {
        if self.problem.is_none() {
            self.problem = self.decode(packed).err();
        }
    }

    fn decode(&mut self, packed: &[u8]) -> Result<(), String> {
        let mut input = InBuffer::around(packed);
        loop {
            self.room.clear();
            let mut output = OutBuffer::around(self.room);
            self.decoder.run(&mut input, &mut output).map_err(undecodable)?;
            let full = output.pos() == output.capacity();
            if !self.expected.take(output.as_slice()) {
                return Err(DIFFERS.into());
            }
            if input.pos == packed.len() && !full {
                return Ok(());
            }
        }
    }

    /// What is wrong, if anything, now that all has come.
    pub(crate) fn finish(self) -> Result<(), String> {
        match self.problem {
            Some(problem) => Err(problem),
            None if self.expected.came() => Ok(()),
            None => Err(DIFFERS.into()),
        }
    }
}

const DIFFERS: &str = "the content differs";

#[allow(clippy::needless_pass_by_value, reason = "it is what `map_err` takes")]
fn undecodable(error: std::io::Error) -> String {
    format!("it cannot be decompressed: {error}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compressed_content_is_compared_to_its_last_byte() {
        let mut codec = Codec::default();
        let content: Vec<u8> = (0..40_000_u32).flat_map(|n| (n * n).to_le_bytes()).collect();
        for length in [0, 1, 1000, PIECE, content.len()] {
            let content = &content[..length];
            let mut packed = Vec::new();
            codec.compress(1, content, &mut packed).unwrap();
            let mut compare = |expected: &[u8], packed: &[u8]| {
                let expected = [expected];
                let mut comparison = codec.compare(&expected).unwrap();
                packed.chunks(1000).for_each(|piece| comparison.take(piece));
                comparison.finish()
            };
            assert_eq!(compare(content, &packed), Ok(()));
            let differs = Err(DIFFERS.to_owned());
            assert_eq!(compare(&[content, b"x"].concat(), &packed), differs);
            if let Some((last, before)) = content.split_last() {
                assert_eq!(compare(before, &packed), differs);
                assert_eq!(compare(&[before, &[last ^ 1]].concat(), &packed), differs);
                assert!(compare(content, &packed[1..]).is_err());
                assert!(compare(content, &packed[..packed.len() - 1]).is_err());
            }
        }
    }

    fn noise(length: usize) -> Vec<u8> {
        let mut noise = vec![0; length];
        crate::crypto::random(&mut noise).unwrap();
        noise
    }

    #[test]
    fn noise_is_told_from_data_that_is_noisy_in_part() {
        let mut codec = Codec::default();
        let mut content = noise(1_500_000);
        assert!(codec.is_noise(1, &[&content]).unwrap());
        // One sample in four with a tenth of it compressible is enough to try it all.
        content[10_000..14_000].fill(7);
        assert!(!codec.is_noise(1, &[&content]).unwrap());
        // Noise that repeats within a sample is none.
        let value = noise(10_000);
        assert!(!codec.is_noise(1, &[&value.repeat(150)]).unwrap());
        assert!(!codec.is_noise(1, &[&noise(1000)]).unwrap(), "too small to be looked at twice");
    }
}
