//! Blobs: compressed and sealed on their way in, opened and verified on their way out.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use crate::buffers::{Buffer, Buffers};
use crate::codec::Codec;
use crate::config::Version;
use crate::crypto::{Forged, NONCE_LEN, SealingKey, TAG_LEN};
use crate::error::{Error, Result};
use crate::id::Id;
use crate::options::Compression;
use crate::pack::BlobKind;
use crate::pieces;
use crate::sha256;

/// A blob that is sealed already.
#[derive(Debug)]
pub(crate) struct SealedBlob {
    pub(crate) sealed: Vec<u8>,
    /// The length before compression; `None` if stored as it came.
    pub(crate) raw_length: Option<u32>,
}

/// Room for most chunks: with few sizes of buffers, one that is given back fits the next.
const TYPICAL: usize = 2 * 1024 * 1024;

/// Turns content into sealed blobs.
#[derive(Debug)]
pub(crate) struct Encoder {
    key: SealingKey,
    data_level: Option<i32>,
    tree_level: Option<i32>,
    verify: bool,
    /// For what is compressed and came in pieces.
    buffers: Buffers,
}

impl Encoder {
    pub(crate) fn new(
        key: SealingKey,
        version: Version,
        compression: Compression,
        verify: bool,
        buffers: Buffers,
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
        }))
    }

    /// Whether blobs of this kind are compressed at all.
    pub(crate) fn compresses(&self, kind: BlobKind) -> bool {
        self.level(kind).is_some()
    }

    fn level(&self, kind: BlobKind) -> Option<i32> {
        match kind {
            BlobKind::Data => self.data_level,
            BlobKind::Tree => self.tree_level,
        }
    }

    /// Compresses, seals and, if asked to, decodes again what these pieces are together: milliseconds of work per
    /// megabyte. The sealed blob is appended to `out`; its length before compression is returned, if it is.
    pub(crate) fn encode(
        &self,
        codec: &mut Codec,
        kind: BlobKind,
        id: &Id,
        content: &[&[u8]],
        out: &mut Vec<u8>,
    ) -> Result<Option<u32>> {
        let start = out.len();
        let length = pieces::length(content);
        let mut raw_length = None;
        if let Some(level) = self.level(kind)
            && !codec.is_noise(level, content)?
        {
            out.extend_from_slice(&[0; NONCE_LEN]);
            match content {
                [whole] => codec.compress(level, whole, out)?,
                // In pieces it compresses less well, and no faster.
                several => {
                    let mut whole = self.buffers.take(length.max(TYPICAL));
                    several.iter().for_each(|piece| whole.extend_from_slice(piece));
                    codec.compress(level, &whole, out)?;
                }
            }
            if out.len() - start - NONCE_LEN < length {
                let length = u32::try_from(length);
                raw_length = Some(length.map_err(|e| Error::internal("compress a blob", e))?);
                out.extend_from_slice(&[0; TAG_LEN]);
                self.key.seal_frame(&mut out[start..])?;
            }
        }
        if raw_length.is_none() {
            // What does not shrink is stored as it is: smaller, and quicker to read.
            out.truncate(start);
            self.key.seal_onto(content, out)?;
        }
        if self.verify {
            let sealed = &out[start..];
            self.verify(codec, sealed, raw_length, content)
                .map_err(|problem| Error::VerifyFailed { kind: kind.name(), id: *id, problem })?;
        }
        Ok(raw_length)
    }

    /// The same for a blob that is put into a pack later.
    pub(crate) fn encode_alone(
        &self,
        kind: BlobKind,
        id: &Id,
        content: &[u8],
    ) -> Result<SealedBlob> {
        let mut sealed = Vec::new();
        let raw_length = self.encode(&mut Codec::default(), kind, id, &[content], &mut sealed)?;
        Ok(SealedBlob { sealed, raw_length })
    }

    fn verify(
        &self,
        codec: &mut Codec,
        sealed: &[u8],
        raw_length: Option<u32>,
        content: &[&[u8]],
    ) -> Result<(), String> {
        let forged = |forged: Forged| forged.to_string();
        if raw_length.is_none() {
            let same = self.key.holds(sealed, content).map_err(forged)?;
            return if same { Ok(()) } else { Err("the content differs".into()) };
        }
        let mut comparison = codec.compare(content)?;
        self.key.open_by_pieces(sealed, |piece| comparison.take(piece)).map_err(forged)?;
        comparison.finish()
    }
}

/// Opens a sealed blob and checks that its content is the one its id promises.
pub(crate) fn decode(
    key: &SealingKey,
    id: &Id,
    sealed: &[u8],
    raw_length: Option<u32>,
) -> Result<Vec<u8>, String> {
    let mut plain = Vec::new();
    key.open_into(sealed, &mut plain).map_err(|forged| forged.to_string())?;
    if let Some(raw_length) = raw_length {
        let length = usize::try_from(raw_length).map_err(|e| e.to_string())?;
        let packed = std::mem::take(&mut plain);
        Codec::default().decompress(&packed, length, &mut plain)?;
    }
    if Id::of(&plain) != *id {
        return Err(WRONG_CONTENT.into());
    }
    Ok(plain)
}

const WRONG_CONTENT: &str = "its content does not have the SHA-256 that is its id";

/// Where a sealed blob lies in what was fetched, and what it should be.
#[derive(Debug)]
pub(crate) struct ToDecode {
    pub(crate) id: Id,
    pub(crate) place: Range<usize>,
    pub(crate) raw_length: Option<u32>,
}

/// [`decode`] for several blobs that were fetched together, without copies where they are not compressed. The buffer
/// goes back to the others when nobody needs it any more.
///
/// # Errors
/// The first blob that is not what it should be, and why.
pub(crate) fn decode_all(
    codec: &mut Codec,
    key: &SealingKey,
    buffers: &Buffers,
    mut fetched: Buffer,
    blobs: &[ToDecode],
) -> Result<Vec<Bytes>, (Id, String)> {
    let mut unpacked = Vec::with_capacity(blobs.len());
    for ToDecode { id, place, raw_length } in blobs {
        let sealed = fetched.get_mut(place.clone()).ok_or_else(|| (*id, OUTSIDE.into()))?;
        let content = unpack(codec, key, buffers, sealed, *raw_length);
        unpacked.push(content.map_err(|problem| (*id, problem))?);
    }
    let fetched = Bytes::from(fetched);
    let contents: Vec<Bytes> = std::iter::zip(unpacked, blobs)
        .map(|(unpacked, ToDecode { place, .. })| {
            unpacked.unwrap_or_else(|| fetched.slice(place.start + NONCE_LEN..place.end - TAG_LEN))
        })
        .collect();
    let messages: Vec<&[u8]> = contents.iter().map(Bytes::as_ref).collect();
    match sha256::ids(&messages).into_iter().zip(blobs).find(|(found, blob)| *found != blob.id) {
        Some((_, blob)) => Err((blob.id, WRONG_CONTENT.into())),
        None => Ok(contents),
    }
}

const OUTSIDE: &str = "it lies outside its pack";

/// Opens a sealed blob where it lies; what it holds, if it is compressed.
fn unpack(
    codec: &mut Codec,
    key: &SealingKey,
    buffers: &Buffers,
    sealed: &mut [u8],
    raw_length: Option<u32>,
) -> Result<Option<Bytes>, String> {
    let packed = key.open_in_place(sealed).map_err(|forged| forged.to_string())?;
    let Some(raw_length) = raw_length else { return Ok(None) };
    let length = usize::try_from(raw_length).map_err(|e| e.to_string())?;
    let mut content = buffers.take(length);
    codec.decompress(packed, length, &mut content)?;
    Ok(Some(content.into()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn encoder(version: Version, compression: Compression) -> Arc<Encoder> {
        let key = SealingKey::generate().unwrap();
        Encoder::new(key, version, compression, true, Buffers::default()).unwrap()
    }

    proptest! {
        #[test]
        fn round_trip(content: Vec<u8>, repeats in 1_usize..50, off: bool, v1: bool) {
            let content = content.repeat(repeats);
            let compression = if off { Compression::Off } else { Compression::default() };
            let encoder = encoder(if v1 { Version::V1 } else { Version::V2 }, compression);
            let id = Id::of(&content);
            for kind in [BlobKind::Data, BlobKind::Tree] {
                let blob = encode(&encoder, kind, &content);
                prop_assert!(!v1 || blob.raw_length.is_none());
                let decoded = decode(&encoder.key, &id, &blob.sealed, blob.raw_length);
                prop_assert_eq!(decoded.unwrap(), content.clone());
                let other = Id::of(b"something else");
                prop_assert!(decode(&encoder.key, &other, &blob.sealed, blob.raw_length).is_err());
                let length = blob.sealed.len();
                let decode_two = |first, second, shift| {
                    let at = |id, start| {
                        ToDecode { id, place: start..start + length, raw_length: blob.raw_length }
                    };
                    let two = [at(first, 1), at(second, length + 3 + shift)];
                    let fetched = [b"-", &blob.sealed[..], b"--", &blob.sealed[..]].concat();
                    let (mut codec, buffers) = (Codec::default(), Buffers::default());
                    decode_all(&mut codec, &encoder.key, &buffers, fetched.into(), &two)
                };
                prop_assert_eq!(decode_two(id, id, 0).unwrap().concat(), content.repeat(2));
                prop_assert_eq!(decode_two(id, other, 0).unwrap_err().0, other);
                prop_assert_eq!(decode_two(id, id, 1).unwrap_err(), (id, OUTSIDE.to_owned()));
            }
        }
    }

    /// Behind a blob that is there already, as in a pack.
    fn encode(encoder: &Encoder, kind: BlobKind, content: &[u8]) -> SealedBlob {
        let mut out = b"before".to_vec();
        let mut codec = Codec::default();
        let id = Id::of(content);
        let (one, other) = content.split_at(content.len() / 3);
        let raw_length = encoder.encode(&mut codec, kind, &id, &[one, other], &mut out).unwrap();
        assert!(out.starts_with(b"before"));
        SealedBlob { sealed: out.split_off(6), raw_length }
    }

    fn noise(length: usize) -> Vec<u8> {
        let mut noise = vec![0; length];
        crate::crypto::random(&mut noise).unwrap();
        noise
    }

    #[test]
    fn what_does_not_shrink_is_stored_as_it_is() {
        let encoder = encoder(Version::V2, Compression::Level(1));
        for length in [100, 100_000, 1_000_000] {
            let blob = encode(&encoder, BlobKind::Data, &noise(length));
            assert_eq!((blob.raw_length, blob.sealed.len()), (None, length + 32));
        }
        let blob = encode(&encoder, BlobKind::Data, &[0; 9999]);
        assert_eq!(blob.raw_length, Some(9999));
        assert!(blob.sealed.len() < 100);
    }

    #[test]
    fn a_fault_of_the_memory_is_caught_before_anything_is_written() {
        let encoder = encoder(Version::V2, Compression::Level(1));
        for content in [noise(300_000), b"text ".repeat(60_000)] {
            let blob = encode(&encoder, BlobKind::Data, &content);
            let mut codec = Codec::default();
            let check = |codec: &mut Codec, sealed: &[u8], content: &[u8]| {
                encoder.verify(codec, sealed, blob.raw_length, &[content])
            };
            check(&mut codec, &blob.sealed, &content).unwrap();
            let mut flipped = content.clone();
            flipped[200_000] ^= 4;
            assert!(check(&mut codec, &blob.sealed, &flipped).is_err());
            let mut damaged = blob.sealed.clone();
            damaged[40] ^= 4;
            assert!(check(&mut codec, &damaged, &content).is_err());
        }
    }

    #[test]
    fn impossible_levels_are_refused() {
        let key = SealingKey::generate().unwrap();
        for level in [0, -1, 23] {
            let compression = Compression::Level(level);
            let buffers = Buffers::default();
            let made = Encoder::new(key.clone(), Version::V2, compression, true, buffers);
            assert!(made.is_err());
        }
    }
}
