//! The layout of a pack: sealed blobs one after the other, a sealed header, its length.
//!
//! Pure: bytes in, structs out. Offsets and lengths are those of sealed blobs.

use crate::crypto::{OVERHEAD, SealingKey};
use crate::id::Id;

mod builder;
pub(crate) use builder::{Content, PackBuilder, SealedPack};

/// The size that restic aims at, and so do we, but for streams whose packs are in memory: those are closed earlier.
pub(crate) const TARGET_LEN: usize = 16 * 1024 * 1024;
/// The header's length, little endian, ends a pack.
const LENGTH_LEN: usize = 4;
/// type, length, id
const PLAIN_ENTRY: usize = 1 + 4 + 32;
/// type, length, uncompressed length, id
const COMPRESSED_ENTRY: usize = PLAIN_ENTRY + 4;

/// What a blob holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum BlobKind {
    Data,
    Tree,
}

impl BlobKind {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Data => "data",
            Self::Tree => "tree",
        }
    }
}

/// A blob's place in its pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PackedBlob {
    pub(crate) kind: BlobKind,
    pub(crate) id: Id,
    pub(crate) offset: u32,
    /// Sealed length.
    pub(crate) length: u32,
    /// The length before compression; `None` if the blob is not compressed.
    pub(crate) raw_length: Option<u32>,
}

impl PackedBlob {
    fn end(&self) -> u64 {
        u64::from(self.offset) + u64::from(self.length)
    }
}

/// The content length of a blob with these lengths.
pub(crate) fn content_length(length: u32, raw_length: Option<u32>) -> u64 {
    match raw_length {
        Some(raw) => u64::from(raw),
        None => u64::from(length).saturating_sub(OVERHEAD as u64),
    }
}

/// A pack and all it holds, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct IndexedPack {
    pub(crate) id: Id,
    pub(crate) blobs: Vec<PackedBlob>,
}

impl IndexedPack {
    /// The size the pack's object must have.
    pub(crate) fn size(&self) -> u64 {
        size_of(&self.blobs)
    }
}

/// The size of a pack with these blobs and no others.
pub(crate) fn size_of(blobs: &[PackedBlob]) -> u64 {
    let content: u64 = blobs.iter().map(|blob| u64::from(blob.length)).sum();
    content + (header_len(blobs) + LENGTH_LEN) as u64
}

/// What a blob adds to the size of its pack: itself, and its entry in the header.
pub(crate) fn footprint(blob: &PackedBlob) -> u64 {
    let entry = if blob.raw_length.is_some() { COMPRESSED_ENTRY } else { PLAIN_ENTRY };
    u64::from(blob.length) + entry as u64
}

/// The length of the sealed header of these blobs.
pub(crate) fn header_len(blobs: &[PackedBlob]) -> usize {
    let entries = blobs.iter().map(|blob| match blob.raw_length {
        Some(_) => COMPRESSED_ENTRY,
        None => PLAIN_ENTRY,
    });
    entries.sum::<usize>() + OVERHEAD
}

fn encode_header(blobs: &[PackedBlob]) -> Vec<u8> {
    let mut header = Vec::with_capacity(header_len(blobs));
    for blob in blobs {
        header.push(match (blob.kind, blob.raw_length) {
            (BlobKind::Data, None) => 0,
            (BlobKind::Tree, None) => 1,
            (BlobKind::Data, Some(_)) => 2,
            (BlobKind::Tree, Some(_)) => 3,
        });
        header.extend_from_slice(&blob.length.to_le_bytes());
        if let Some(raw) = blob.raw_length {
            header.extend_from_slice(&raw.to_le_bytes());
        }
        header.extend_from_slice(blob.id.as_bytes());
    }
    header
}

/// Why a header cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HeaderError {
    #[error("the pack is too short for a header")]
    TooShort,
    #[error("the header cannot be opened")]
    Forged,
    #[error("the header ends within an entry")]
    Ragged,
    #[error("the header has an entry of the unknown type {0}")]
    UnknownType(u8),
    #[error("the header's blobs do not fill the pack")]
    WrongSize,
}

/// Reads the header of a whole pack.
pub(crate) fn read_header(key: &SealingKey, pack: &[u8]) -> Result<Vec<PackedBlob>, HeaderError> {
    match read_tail(key, pack.len() as u64, pack)? {
        Tail::Blobs(blobs) => Ok(blobs),
        Tail::Longer(_) => Err(HeaderError::TooShort),
    }
}

/// What the last bytes of a pack tell of its header.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Tail {
    Blobs(Vec<PackedBlob>),
    /// The header is longer; this many of the pack's last bytes hold it.
    Longer(u64),
}

/// Reads the header of a pack of `size` bytes from its last ones.
pub(crate) fn read_tail(key: &SealingKey, size: u64, tail: &[u8]) -> Result<Tail, HeaderError> {
    let (rest, length) = tail.split_last_chunk::<LENGTH_LEN>().ok_or(HeaderError::TooShort)?;
    let length = u64::from(u32::from_le_bytes(*length));
    let needed = length + LENGTH_LEN as u64;
    let content = size.checked_sub(needed).ok_or(HeaderError::TooShort)?;
    if needed > tail.len() as u64 {
        return Ok(Tail::Longer(needed));
    }
    let start = rest.len() - usize::try_from(length).map_err(|_| HeaderError::TooShort)?;
    let header = key.open(&rest[start..]).map_err(|_| HeaderError::Forged)?;
    let blobs = decode_header(&header)?;
    if blobs.last().map_or(0, PackedBlob::end) != content {
        return Err(HeaderError::WrongSize);
    }
    Ok(Tail::Blobs(blobs))
}

fn decode_header(mut header: &[u8]) -> Result<Vec<PackedBlob>, HeaderError> {
    fn take<'a, const N: usize>(header: &mut &'a [u8]) -> Result<&'a [u8; N], HeaderError> {
        let (taken, rest) = header.split_first_chunk::<N>().ok_or(HeaderError::Ragged)?;
        *header = rest;
        Ok(taken)
    }
    let mut blobs = Vec::new();
    let mut offset = 0_u32;
    while !header.is_empty() {
        let [kind] = *take::<1>(&mut header)?;
        let (kind, compressed) = match kind {
            0 => (BlobKind::Data, false),
            1 => (BlobKind::Tree, false),
            2 => (BlobKind::Data, true),
            3 => (BlobKind::Tree, true),
            other => return Err(HeaderError::UnknownType(other)),
        };
        let length = u32::from_le_bytes(*take(&mut header)?);
        let raw_length =
            if compressed { Some(u32::from_le_bytes(*take(&mut header)?)) } else { None };
        let id = Id::from_bytes(*take(&mut header)?);
        blobs.push(PackedBlob { kind, id, offset, length, raw_length });
        offset = offset.checked_add(length).ok_or(HeaderError::WrongSize)?;
    }
    Ok(blobs)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::builder::tests::build;
    use super::*;

    proptest! {
        #[test]
        fn header_round_trip(blobs: Vec<(bool, Option<u32>, Vec<u8>)>) {
            let key = SealingKey::generate().unwrap();
            let (pack, content) = build(&key, &blobs);
            prop_assert_eq!(pack.size(), content.len() as u64);
            prop_assert_eq!(pack.id, Id::of(&content));
            prop_assert_eq!(read_header(&key, &content).unwrap(), pack.blobs);
        }

        #[test]
        fn no_input_makes_the_decoder_panic(header: Vec<u8>, pack: Vec<u8>) {
            let _ = decode_header(&header);
            prop_assert!(read_header(&SealingKey::generate().unwrap(), &pack).is_err());
        }
    }

    #[test]
    fn damage_is_noticed() {
        let key = SealingKey::generate().unwrap();
        let (_, content) =
            build(&key, &[(false, None, vec![1; 100]), (true, Some(9), vec![2; 50])]);
        let content = content.to_vec();
        let cut = &content[1..];
        assert_eq!(read_header(&key, cut), Err(HeaderError::WrongSize));
        assert_eq!(read_header(&key, &content[..3]), Err(HeaderError::TooShort));
        let mut flipped = content.clone();
        flipped[160] ^= 1;
        assert_eq!(read_header(&key, &flipped), Err(HeaderError::Forged));
    }

    #[test]
    fn the_end_of_a_pack_is_enough_for_its_header() {
        let key = SealingKey::generate().unwrap();
        let (pack, content) =
            build(&key, &[(false, None, vec![1; 100]), (true, Some(9), vec![2; 50])]);
        let size = content.len() as u64;
        let sum: u64 = pack.blobs.iter().map(footprint).sum();
        assert_eq!(sum + size_of(&[]), size);
        let read = |length: usize| {
            let tail = &content[content.len() - length..];
            read_tail(&key, size, tail)
        };
        let Ok(Tail::Longer(needed)) = read(10) else { panic!("{:?}", read(10)) };
        let blobs = Ok(Tail::Blobs(pack.blobs.clone()));
        assert_eq!(read(usize::try_from(needed).unwrap()), blobs);
        assert_eq!(read(content.len()), blobs);
        assert_eq!(read(3), Err(HeaderError::TooShort));
        assert_eq!(read_tail(&key, size - 1, &content), Err(HeaderError::WrongSize));
        assert_eq!(read_tail(&key, 20, &content), Err(HeaderError::TooShort));
    }
}
