//! A pack while it is filled: in memory, or all but its end in a file where the store takes that.

use bytes::Bytes;

use super::{BlobKind, IndexedPack, PackedBlob, encode_header};
use crate::buffers::{Buffer, Buffers};
use crate::crypto::SealingKey;
use crate::error::{Error, Result};
use crate::id::Id;
use crate::sha256::{self, Hasher};
use crate::store::{PackFile, Store};

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

    /// Gives back the buffer, which must be empty.
    pub(crate) fn give_back(&mut self) {
        debug_assert!(self.content.is_empty(), "what is in memory is written out first");
        self.content = Buffer::default();
    }

    /// Writes out what is in memory. Its hash catches up, if it has not: better along with others.
    pub(crate) fn write_out(&mut self, store: &Store) -> Result<()> {
        self.hash_along(Vec::new());
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

    /// The ids of messages, each in its pieces. The pack's own hash catches up meanwhile, which costs little beside
    /// another message.
    pub(crate) fn hash_along(&mut self, messages: Vec<Vec<&[u8]>>) -> Vec<Id> {
        let mut hashers = vec![Hasher::default(); messages.len()];
        let mut work: Vec<_> = hashers.iter_mut().zip(messages).collect();
        work.push((&mut self.hasher, vec![&self.content[self.hashed..]]));
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
        self.hash_along(Vec::new());
        if self.file.is_some() {
            self.write_out(store)?;
        }
        let Self { file, content, blobs, hasher, .. } = self;
        let pack = IndexedPack { id: hasher.finish(), blobs };
        let content = file.map_or_else(|| Content::Memory(content.into()), Content::File);
        Ok(SealedPack { pack, content })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::super::read_header;
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

    pub(crate) fn build(
        key: &SealingKey,
        blobs: &[(bool, Option<u32>, Vec<u8>)],
    ) -> (IndexedPack, Bytes) {
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
                assert_eq!(builder.hash_along(vec![vec![&content[..]]]), [Id::of(content)]);
            }
            if writes(number) {
                builder.write_out(store).unwrap();
                builder.give_back();
            }
        }
        builder
    }

    proptest! {
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
