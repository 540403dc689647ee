//! The layout of a pack: sealed blobs one after the other, a sealed header, its length.
//!
//! Pure: bytes in, structs out. Offsets and lengths are those of sealed blobs.

use bytes::Bytes;

use crate::buffers::{Buffer, Buffers};
use crate::crypto::{OVERHEAD, SealingKey};
use crate::error::{Error, Result};
use crate::id::Id;
use crate::sha256::{self, Hasher};
use crate::store::{PackFile, Store};

/// The size that restic aims at, and maintenance too. Streams close their packs earlier, for memory.
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

/// A pack being filled.
#[derive(Debug, Default)]
pub(crate) struct PackBuilder {
    /// What was written out already, where the store takes that.
    file: Option<PackFile>,
    /// The length of that.
    written: usize,
    /// What follows it.
    content: Buffer,
    blobs: Vec<PackedBlob>,
    hasher: Hasher,
    /// How much of `content` went through the hasher.
    hashed: usize,
}

/// A finished pack, ready to be stored under its id.
#[derive(Debug)]
pub(crate) struct SealedPack {
    pub(crate) pack: IndexedPack,
    pub(crate) content: Content,
}

/// All of a pack.
#[derive(Debug)]
pub(crate) enum Content {
    Memory(Bytes),
    File(PackFile),
}

impl PackBuilder {
    pub(crate) fn is_empty(&self) -> bool {
        self.blobs.is_empty()
    }

    /// The size so far, without the header.
    pub(crate) fn len(&self) -> usize {
        self.written + self.content.len()
    }

    /// How much of it is in memory.
    pub(crate) fn held(&self) -> usize {
        self.content.len()
    }

    /// How much fits into its buffer.
    pub(crate) fn capacity(&self) -> usize {
        self.content.capacity()
    }

    /// Moves what is in memory to a buffer of this size, if it has less.
    pub(crate) fn reserve(&mut self, size: usize, buffers: &Buffers) {
        self.content.grow(size, buffers);
    }

    /// Writes out what is in memory. Its hash catches up, if it has not: better along with others.
    pub(crate) fn write_out(&mut self, store: &Store) -> Result<()> {
        self.hash_along(&[]);
        store.append(&mut self.file, &self.content)?;
        self.written += self.content.len();
        self.content.clear();
        self.hashed = 0;
        Ok(())
    }

    /// Adds the sealed blob that `write` appends to the content; `write` returns the length before
    /// compression, if the blob is compressed. Returns the sealed length.
    ///
    /// A failure leaves the pack unusable.
    pub(crate) fn add(
        &mut self,
        kind: BlobKind,
        id: Id,
        write: impl FnOnce(&mut Vec<u8>) -> Result<Option<u32>>,
    ) -> Result<u32> {
        let too_long = |source| Error::internal("fill a pack", source);
        let start = self.content.len();
        let offset = u32::try_from(self.written + start).map_err(too_long)?;
        let raw_length = write(&mut self.content)?;
        let length = u32::try_from(self.content.len() - start).map_err(too_long)?;
        self.blobs.push(PackedBlob { kind, id, offset, length, raw_length });
        Ok(length)
    }

    /// Takes over what another pack has.
    pub(crate) fn absorb(&mut self, other: Self, store: &Store) -> Result<()> {
        let shift = u32::try_from(self.len());
        let shift = shift.map_err(|source| Error::internal("fill a pack", source))?;
        let moved = |blob: PackedBlob| PackedBlob { offset: blob.offset + shift, ..blob };
        if let Some(file) = &other.file {
            self.content.extend_from_slice(&store.content_of(file)?);
        }
        self.content.extend_from_slice(&other.content);
        self.blobs.extend(other.blobs.into_iter().map(moved));
        Ok(())
    }

    /// The ids of `messages`. The pack's own hash catches up meanwhile, which costs little beside
    /// another message.
    pub(crate) fn hash_along(&mut self, messages: &[&[u8]]) -> Vec<Id> {
        let mut hashers = vec![Hasher::default(); messages.len()];
        let mut work: Vec<_> = hashers.iter_mut().zip(messages.iter().copied()).collect();
        work.push((&mut self.hasher, &self.content[self.hashed..]));
        sha256::update_all(work);
        self.hashed = self.content.len();
        hashers.into_iter().map(Hasher::finish).collect()
    }

    /// Appends the header and ends the hash; of a pack that was begun in a file, writes the rest.
    pub(crate) fn seal(mut self, key: &SealingKey, store: &Store) -> Result<SealedPack> {
        let header = key.seal(&encode_header(&self.blobs))?;
        let length = u32::try_from(header.len()).map_err(|e| Error::internal("seal a pack", e))?;
        self.content.extend_from_slice(&header);
        self.content.extend_from_slice(&length.to_le_bytes());
        self.hash_along(&[]);
        if self.file.is_some() {
            self.write_out(store)?;
        }
        let Self { file, content, blobs, hasher, .. } = self;
        let pack = IndexedPack { id: hasher.finish(), blobs };
        let content = file.map_or_else(|| Content::Memory(content.into()), Content::File);
        Ok(SealedPack { pack, content })
    }
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

    use super::*;

    fn store() -> (tempfile::TempDir, Store) {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::local(folder.path()).unwrap();
        (folder, store)
    }

    /// A finished pack, its content, and whether that was in a file.
    fn seal(builder: PackBuilder, key: &SealingKey, store: &Store) -> (IndexedPack, Bytes, bool) {
        let SealedPack { pack, content } = builder.seal(key, store).unwrap();
        match content {
            Content::Memory(content) => (pack, content, false),
            Content::File(file) => (pack, store.content_of(&file).unwrap().into(), true),
        }
    }

    fn build(key: &SealingKey, blobs: &[(bool, Option<u32>, Vec<u8>)]) -> (IndexedPack, Bytes) {
        let (_folder, store) = store();
        let (pack, content, _) = seal(fill(blobs, &store, |_| false), key, &store);
        (pack, content)
    }

    /// Writes out what is in memory behind the blobs that `writes` names by their number.
    fn fill(
        blobs: &[(bool, Option<u32>, Vec<u8>)],
        store: &Store,
        writes: impl Fn(usize) -> bool,
    ) -> PackBuilder {
        let mut builder = PackBuilder::default();
        for (number, (tree, raw, content)) in blobs.iter().enumerate() {
            let kind = if *tree { BlobKind::Tree } else { BlobKind::Data };
            let write = |out: &mut Vec<u8>| {
                out.extend_from_slice(content);
                Ok(*raw)
            };
            let length = builder.add(kind, Id::of(content), write).unwrap();
            assert_eq!(length as usize, content.len());
            if *tree {
                // Whenever the hash catches up, it ends the same.
                assert_eq!(builder.hash_along(&[content]), [Id::of(content)]);
            }
            if writes(number) {
                builder.write_out(store).unwrap();
            }
        }
        builder
    }

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
        fn a_pack_in_a_file_is_the_same(
            blobs in proptest::collection::vec(any::<(bool, Option<u32>, Vec<u8>)>(), 1..20),
            every in 1_usize..5,
        ) {
            let (_folder, store) = store();
            let key = SealingKey::generate().unwrap();
            let builder = fill(&blobs, &store, |number| number % every == 0);
            prop_assert_eq!(builder.len(), blobs.iter().map(|(_, _, blob)| blob.len()).sum::<usize>());
            let (pack, content, in_file) = seal(builder, &key, &store);
            prop_assert!(in_file);
            prop_assert_eq!(pack.size(), content.len() as u64);
            prop_assert_eq!(pack.id, Id::of(&content));
            prop_assert_eq!(&read_header(&key, &content).unwrap(), &pack.blobs);
            prop_assert_eq!(pack.blobs, build(&key, &blobs).0.blobs);
        }

        #[test]
        fn two_packs_become_one(
            one: Vec<(bool, Option<u32>, Vec<u8>)>,
            other: Vec<(bool, Option<u32>, Vec<u8>)>,
            in_files: (bool, bool),
        ) {
            let (_folder, store) = store();
            let key = SealingKey::generate().unwrap();
            let mut builder = fill(&one, &store, |number| in_files.0 && number == 0);
            let other_builder = fill(&other, &store, |number| in_files.1 && number == 0);
            builder.absorb(other_builder, &store).unwrap();
            let (pack, content, _) = seal(builder, &key, &store);
            prop_assert_eq!(&pack.blobs, &build(&key, &[one, other].concat()).0.blobs);
            prop_assert_eq!(read_header(&key, &content).unwrap(), &pack.blobs[..]);
            prop_assert_eq!(pack.id, Id::of(&content));
            prop_assert_eq!(pack.size(), content.len() as u64);
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

    #[test]
    fn a_roomy_buffer_keeps_what_is_there() {
        let mut builder = PackBuilder::default();
        let write = |out: &mut Vec<u8>| {
            out.extend_from_slice(b"first");
            Ok(None)
        };
        builder.add(BlobKind::Data, Id::of(b"first"), write).unwrap();
        builder.reserve(1000, &Buffers::default());
        assert!(builder.capacity() >= 1000);
        assert_eq!((builder.content.as_slice(), builder.len()), (&b"first"[..], 5));
    }
}
