//! Blobs: compressed and sealed on their way in, opened and verified on their way out.

use std::io::Cursor;
use std::sync::Arc;

use parking_lot::Mutex;
use zstd::bulk::{Compressor, Decompressor};

use crate::buffers::Buffers;
use crate::config::Version;
use crate::crypto::{NONCE_LEN, SealingKey, TAG_LEN};
use crate::error::{Error, Result};
use crate::id::Id;
use crate::options::Compression;
use crate::pack::BlobKind;

/// A blob ready to be put into a pack.
#[derive(Debug)]
pub(crate) struct SealedBlob {
    pub(crate) sealed: Vec<u8>,
    /// The length before compression; `None` if stored as it came.
    pub(crate) raw_length: Option<u32>,
}

/// Turns content into sealed blobs.
pub(crate) struct Encoder {
    key: SealingKey,
    data_level: Option<i32>,
    tree_level: Option<i32>,
    verify: bool,
    buffers: Arc<Buffers>,
    /// Compression contexts that nobody uses at the moment: making one costs as much as compressing
    /// a small blob. Never more than computations at a time.
    idle: Mutex<Vec<(i32, Compressor<'static>)>>,
}

impl std::fmt::Debug for Encoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Encoder").field("verify", &self.verify).finish_non_exhaustive()
    }
}

impl Encoder {
    pub(crate) fn new(
        key: SealingKey,
        version: Version,
        compression: Compression,
        verify: bool,
        buffers: Arc<Buffers>,
    ) -> Result<Arc<Self>> {
        let level = match compression {
            Compression::Off => None,
            Compression::Level(level @ 1..=22) => Some(level),
            Compression::Level(other) => {
                let problem = "is not between 1 and 22";
                return Err(Error::invalid(format!("compression level {other}"), problem));
            }
        };
        let compresses = version >= Version::V2;
        Ok(Arc::new(Self {
            key,
            data_level: level.filter(|_| compresses),
            tree_level: compresses.then_some(level.unwrap_or(3)),
            verify,
            buffers,
            idle: Mutex::new(Vec::new()),
        }))
    }

    /// Compresses, seals and, if asked to, decodes again: milliseconds of work per megabyte.
    pub(crate) fn encode(&self, kind: BlobKind, id: &Id, content: &[u8]) -> Result<SealedBlob> {
        let level = match kind {
            BlobKind::Data => self.data_level,
            BlobKind::Tree => self.tree_level,
        };
        let bound = zstd::zstd_safe::compress_bound(content.len());
        let mut sealed = self.buffers.take(NONCE_LEN + bound + TAG_LEN);
        sealed.resize(NONCE_LEN, 0);
        if let Some(level) = level {
            sealed = self.compress(level, content, sealed)?;
        }
        // What does not shrink is stored as it is: smaller, and quicker to read.
        let shrunk = level.is_some() && sealed.len() - NONCE_LEN < content.len();
        let raw_length = if shrunk {
            Some(u32::try_from(content.len()).map_err(|e| Error::internal("compress a blob", e))?)
        } else {
            sealed.truncate(NONCE_LEN);
            sealed.extend_from_slice(content);
            None
        };
        self.key.seal_in_place(&mut sealed)?;
        if self.verify {
            self.verify(&sealed, raw_length, content).map_err(|problem| Error::VerifyFailed {
                kind: kind.name(),
                id: *id,
                problem,
            })?;
        }
        Ok(SealedBlob { sealed, raw_length })
    }

    fn verify(&self, sealed: &[u8], raw_length: Option<u32>, content: &[u8]) -> Result<(), String> {
        let mut plain = self.buffers.take(sealed.len());
        self.key.open_into(sealed, &mut plain).map_err(|forged| forged.to_string())?;
        if raw_length.is_some() {
            let mut decoded = self.buffers.take(content.len());
            decompress(&plain, content.len(), &mut decoded)?;
            self.buffers.give(std::mem::replace(&mut plain, decoded));
        }
        let same = plain == content;
        self.buffers.give(plain);
        if same { Ok(()) } else { Err("the content differs".into()) }
    }

    /// Appends the compressed content to `out`, which has the room for it.
    fn compress(&self, level: i32, content: &[u8], out: Vec<u8>) -> Result<Vec<u8>> {
        let failed = |source| Error::internal("compress a blob", source);
        let idle = {
            let mut idle = self.idle.lock();
            idle.iter().position(|(of, _)| *of == level).map(|at| idle.swap_remove(at).1)
        };
        let mut compressor = match idle {
            Some(compressor) => compressor,
            None => Compressor::new(level).map_err(failed)?,
        };
        let start = out.len() as u64;
        let mut out = Cursor::new(out);
        out.set_position(start);
        compressor.compress_to_buffer(content, &mut out).map_err(failed)?;
        self.idle.lock().push((level, compressor));
        Ok(out.into_inner())
    }
}

/// Opens a sealed blob and checks that its content is the one its id promises.
pub(crate) fn decode(
    key: &SealingKey,
    id: &Id,
    sealed: &[u8],
    raw_length: Option<u32>,
) -> Result<Vec<u8>, String> {
    let content = unpack(key, sealed, raw_length)?;
    if Id::of(&content) != *id {
        return Err("its content does not have the SHA-256 that is its id".into());
    }
    Ok(content)
}

fn unpack(key: &SealingKey, sealed: &[u8], raw_length: Option<u32>) -> Result<Vec<u8>, String> {
    let plain = key.open(sealed).map_err(|forged| forged.to_string())?;
    let Some(raw_length) = raw_length else { return Ok(plain) };
    let length = usize::try_from(raw_length).map_err(|e| e.to_string())?;
    let mut content = Vec::with_capacity(length);
    decompress(&plain, length, &mut content)?;
    Ok(content)
}

/// Fills the empty `content`, whose capacity must be at least `length`.
fn decompress(packed: &[u8], length: usize, content: &mut Vec<u8>) -> Result<(), String> {
    Decompressor::new()
        .and_then(|mut decompressor| decompressor.decompress_to_buffer(packed, content))
        .map_err(|e| format!("it cannot be decompressed: {e}"))?;
    if content.len() != length {
        return Err(format!("it has {} bytes instead of {length}", content.len()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn encoder(version: Version, compression: Compression) -> Arc<Encoder> {
        {
            let key = SealingKey::generate().unwrap();
            Encoder::new(key, version, compression, true, Arc::default()).unwrap()
        }
    }

    proptest! {
        #[test]
        fn round_trip(content: Vec<u8>, repeats in 1_usize..50, off: bool, v1: bool) {
            let content = content.repeat(repeats);
            let compression = if off { Compression::Off } else { Compression::default() };
            let encoder = encoder(if v1 { Version::V1 } else { Version::V2 }, compression);
            let id = Id::of(&content);
            for kind in [BlobKind::Data, BlobKind::Tree] {
                let blob = encoder.encode(kind, &id, &content).unwrap();
                prop_assert!(!v1 || blob.raw_length.is_none());
                let decoded = decode(&encoder.key, &id, &blob.sealed, blob.raw_length);
                prop_assert_eq!(decoded.unwrap(), content.clone());
                let other = Id::of(b"something else");
                prop_assert!(decode(&encoder.key, &other, &blob.sealed, blob.raw_length).is_err());
            }
        }
    }

    #[test]
    fn what_does_not_shrink_is_stored_as_it_is() {
        let encoder = encoder(Version::V2, Compression::Level(1));
        let mut noise = vec![0; 100_000];
        crate::crypto::random(&mut noise).unwrap();
        let blob = encoder.encode(BlobKind::Data, &Id::of(&noise), &noise).unwrap();
        assert_eq!((blob.raw_length, blob.sealed.len()), (None, 100_032));
        let blob = encoder.encode(BlobKind::Data, &Id::of(&[0; 9999]), &[0; 9999]).unwrap();
        assert_eq!(blob.raw_length, Some(9999));
        assert!(blob.sealed.len() < 100);
    }

    #[test]
    fn impossible_levels_are_refused() {
        let key = SealingKey::generate().unwrap();
        for level in [0, -1, 23] {
            let compression = Compression::Level(level);
            let made = Encoder::new(key.clone(), Version::V2, compression, true, Arc::default());
            assert!(made.is_err());
        }
    }
}
