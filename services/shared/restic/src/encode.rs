//! Blobs: compressed and sealed on their way in, opened and verified on their way out.

use std::io::Cursor;
use std::sync::Arc;

use parking_lot::Mutex;
use zstd::bulk::Compressor;

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
            idle: Mutex::new(Vec::new()),
        }))
    }

    /// Compresses, seals and, if asked to, decodes again: milliseconds of work per megabyte.
    pub(crate) fn encode(&self, kind: BlobKind, id: &Id, content: &[u8]) -> Result<SealedBlob> {
        let level = match kind {
            BlobKind::Data => self.data_level,
            BlobKind::Tree => self.tree_level,
        };
        let compressed = match level {
            Some(level) => Some(self.compress(level, content)?),
            None => None,
        };
        // What does not shrink is stored as it is: smaller, and quicker to read.
        let packed = compressed.filter(|packed| packed.len() - NONCE_LEN < content.len());
        let raw_length = match &packed {
            Some(_) => Some(
                u32::try_from(content.len()).map_err(|e| Error::internal("compress a blob", e))?,
            ),
            None => None,
        };
        let mut sealed = packed.unwrap_or_else(|| {
            let mut plain = Vec::with_capacity(NONCE_LEN + content.len() + TAG_LEN);
            plain.resize(NONCE_LEN, 0);
            plain.extend_from_slice(content);
            plain
        });
        self.key.seal_in_place(&mut sealed)?;
        if self.verify {
            let failed =
                |problem: String| Error::VerifyFailed { kind: kind.name(), id: *id, problem };
            match unpack(&self.key, &sealed, raw_length) {
                Ok(decoded) if decoded == content => {}
                Ok(_) => return Err(failed("the content differs".into())),
                Err(problem) => return Err(failed(problem)),
            }
        }
        Ok(SealedBlob { sealed, raw_length })
    }

    /// The compressed content behind room for the nonce.
    fn compress(&self, level: i32, content: &[u8]) -> Result<Vec<u8>> {
        let failed = |source| Error::internal("compress a blob", source);
        let idle = {
            let mut idle = self.idle.lock();
            idle.iter().position(|(of, _)| *of == level).map(|at| idle.swap_remove(at).1)
        };
        let mut compressor = match idle {
            Some(compressor) => compressor,
            None => Compressor::new(level).map_err(failed)?,
        };
        let bound = zstd::zstd_safe::compress_bound(content.len());
        let mut out = Vec::with_capacity(NONCE_LEN + bound + TAG_LEN);
        out.resize(NONCE_LEN, 0);
        let mut out = Cursor::new(out);
        out.set_position(NONCE_LEN as u64);
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
    let content = zstd::bulk::decompress(&plain, length)
        .map_err(|e| format!("it cannot be decompressed: {e}"))?;
    if content.len() != length {
        return Err(format!("it has {} bytes instead of {length}", content.len()));
    }
    Ok(content)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn encoder(version: Version, compression: Compression) -> Arc<Encoder> {
        Encoder::new(SealingKey::generate().unwrap(), version, compression, true).unwrap()
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
            assert!(
                Encoder::new(key.clone(), Version::V2, Compression::Level(level), true).is_err()
            );
        }
    }
}
