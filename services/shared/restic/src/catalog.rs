//! What the index files say, whole: every entry of every blob, duplicates and all, for the operations that judge a
//! repository (prune, check, stats, copy, repair). The index that streams look blobs up in keeps one place a blob and
//! no more, and is shared; this one belongs to one operation.
//!
//! Bounded: 48 bytes an entry, and a bit for each mark. A set of the used blobs alone would take more than that.

use std::collections::HashMap;

use futures::{StreamExt, stream};

use crate::error::{Error, Result};
use crate::id::Id;
use crate::index_file;
use crate::pack::{BlobKind, IndexedPack, PackedBlob, content_length};
use crate::progress::Observer;
use crate::repository::Inner;
use crate::store::FileKind;

/// Index files read at a time: each is up to 10 MB of JSON.
const FETCHES: usize = 4;
/// The bit that tells a tree from data in [`Entry::pack`].
const TREE: u32 = 1 << 31;

/// Where a blob lies, says one line of one index file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    id: Id,
    /// The pack's number, and [`TREE`].
    pack: u32,
    offset: u32,
    length: u32,
    /// 0: not compressed.
    raw_length: u32,
}

impl Entry {
    fn kind(&self) -> BlobKind {
        if self.pack & TREE == 0 { BlobKind::Data } else { BlobKind::Tree }
    }

    fn pack(&self) -> usize {
        (self.pack & !TREE) as usize
    }

    fn blob(&self) -> PackedBlob {
        PackedBlob {
            kind: self.kind(),
            id: self.id,
            offset: self.offset,
            length: self.length,
            raw_length: (self.raw_length != 0).then_some(self.raw_length),
        }
    }

    /// Blobs of the same kind and id lie together.
    fn key(&self) -> (u32, Id) {
        (self.pack & TREE, self.id)
    }
}

/// A pack that an index file lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ListedPack {
    pub(crate) id: Id,
    /// The size that its object must have.
    pub(crate) size: u64,
    /// Its blobs.
    pub(crate) blobs: u32,
}

/// An index file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ListedFile {
    pub(crate) id: Id,
    /// The numbers of its packs.
    pub(crate) packs: Vec<u32>,
}

/// The content of all index files.
#[derive(Debug, Default)]
pub(crate) struct Catalog {
    /// Sorted by kind, id, pack and offset; each entry once.
    entries: Vec<Entry>,
    packs: Vec<ListedPack>,
    numbers: HashMap<Id, u32>,
    files: Vec<ListedFile>,
}

/// The first of the entries of a blob: its number among all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct BlobAt(u32);

impl Catalog {
    /// Reads all index files. Stops at the first that cannot be read.
    pub(crate) async fn load(inner: &Inner, observer: &Observer) -> Result<Self> {
        let (catalog, failed) = Self::load_what_can_be(inner, observer).await?;
        failed.into_iter().next().map_or(Ok(catalog), |(_, error)| Err(error))
    }

    /// Reads all index files, and hands back those that cannot be with the reason.
    pub(crate) async fn load_what_can_be(
        inner: &Inner,
        observer: &Observer,
    ) -> Result<(Self, Vec<(Id, Error)>)> {
        let listed = inner.vault.store.list(FileKind::Index).await?;
        let step = observer.items("read the index", listed.len() as u64);
        let mut loading = stream::iter(listed)
            .map(|(id, _)| async move { (id, load_file(inner, id).await) })
            .buffer_unordered(FETCHES);
        let (mut catalog, mut failed) = (Self::default(), Vec::new());
        while let Some((id, loaded)) = loading.next().await {
            match loaded {
                Ok(packs) => catalog.add_file(id, &packs)?,
                Err(error) => failed.push((id, error)),
            }
            step.advance(1);
        }
        catalog.settle();
        Ok((catalog, failed))
    }

    /// Adds the content of an index file. Call [`settle`](Self::settle) after the last.
    pub(crate) fn add_file(&mut self, file: Id, packs: &[IndexedPack]) -> Result<()> {
        let mut numbers = Vec::with_capacity(packs.len());
        for pack in packs {
            let number = match self.numbers.get(&pack.id) {
                Some(number) => *number,
                None => {
                    let number = u32::try_from(self.packs.len()).ok().filter(|n| n & TREE == 0);
                    let number = number.ok_or_else(too_many)?;
                    self.numbers.insert(pack.id, number);
                    self.packs.push(ListedPack { id: pack.id, size: 0, blobs: 0 });
                    number
                }
            };
            numbers.push(number);
            self.entries.extend(pack.blobs.iter().map(|blob| Entry {
                id: blob.id,
                pack: number | if blob.kind == BlobKind::Tree { TREE } else { 0 },
                offset: blob.offset,
                length: blob.length,
                raw_length: blob.raw_length.unwrap_or(0),
            }));
        }
        numbers.sort_unstable();
        numbers.dedup();
        self.files.push(ListedFile { id: file, packs: numbers });
        if u32::try_from(self.entries.len()).is_err() { Err(too_many()) } else { Ok(()) }
    }

    /// Sorts the entries; a pack that several files list holds what any of them says.
    pub(crate) fn settle(&mut self) {
        self.entries.sort_unstable_by_key(|e| (e.key(), e.pack, e.offset, e.length, e.raw_length));
        self.entries.dedup();
        for pack in &mut self.packs {
            (pack.size, pack.blobs) = (crate::pack::size_of(&[]), 0);
        }
        for entry in &self.entries {
            let pack = &mut self.packs[entry.pack()];
            pack.size += crate::pack::footprint(&entry.blob());
            pack.blobs += 1;
        }
    }

    pub(crate) fn packs(&self) -> &[ListedPack] {
        &self.packs
    }

    pub(crate) fn pack_number(&self, id: &Id) -> Option<usize> {
        self.numbers.get(id).map(|number| *number as usize)
    }

    pub(crate) fn files(&self) -> &[ListedFile] {
        &self.files
    }

    /// How many entries there are: what a [`Marks`] needs.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn find(&self, kind: BlobKind, id: &Id) -> Option<BlobAt> {
        let key = (if kind == BlobKind::Tree { TREE } else { 0 }, *id);
        let at = self.entries.partition_point(|entry| entry.key() < key);
        let found = self.entries.get(at).is_some_and(|entry| entry.key() == key);
        if found { u32::try_from(at).ok().map(BlobAt) } else { None }
    }

    /// The blob, its first place, and the pack that it is in there.
    pub(crate) fn get(&self, at: BlobAt) -> (PackedBlob, Id) {
        let entry = &self.entries[at.0 as usize];
        (entry.blob(), self.packs[entry.pack()].id)
    }

    /// All places of a blob: the entry's number, the blob there, the pack's number.
    pub(crate) fn places(&self, at: BlobAt) -> impl Iterator<Item = (usize, PackedBlob, usize)> {
        let start = at.0 as usize;
        let key = self.entries[start].key();
        self.entries[start..]
            .iter()
            .take_while(move |entry| entry.key() == key)
            .enumerate()
            .map(move |(i, entry)| (start + i, entry.blob(), entry.pack()))
    }

    /// Every distinct blob, in the order of kind and id.
    pub(crate) fn blobs(&self) -> impl Iterator<Item = BlobAt> {
        let first = |at: usize| at == 0 || self.entries[at].key() != self.entries[at - 1].key();
        (0..self.entries.len())
            .filter(move |at| first(*at))
            .filter_map(|at| u32::try_from(at).ok().map(BlobAt))
    }

    /// The number of the entry that says this, if one does.
    pub(crate) fn entry(&self, blob: &PackedBlob, pack: usize) -> Option<usize> {
        let found = self.find(blob.kind, &blob.id)?;
        self.places(found)
            .find(|(_, place, number)| *number == pack && place.offset == blob.offset)
            .map(|(entry, _, _)| entry)
    }
}

impl BlobAt {
    /// The number of the entry, for [`Marks`].
    pub(crate) fn entry(self) -> usize {
        self.0 as usize
    }
}

/// The bytes of a blob before compression.
pub(crate) fn content_of(blob: &PackedBlob) -> u64 {
    content_length(blob.length, blob.raw_length)
}

/// More entries than numbers: some 4 billion blobs, or 2 billion packs.
fn too_many() -> Error {
    Error::invalid("the index", "lists more blobs than can be counted")
}

/// Reads one index file.
pub(crate) async fn load_file(inner: &Inner, id: Id) -> Result<Vec<IndexedPack>> {
    let json = inner.vault.load(FileKind::Index, &id).await?;
    let name = inner.vault.store.describe(&FileKind::Index.name(&id));
    inner.resources.compute("read the index", move || index_file::decode(&name, &json)).await?
}

/// A bit for each entry of a catalog.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Marks(Vec<u64>);

impl Marks {
    pub(crate) fn none(catalog: &Catalog) -> Self {
        Self(vec![0; catalog.len().div_ceil(64)])
    }

    /// Marks an entry; false if it was marked before.
    pub(crate) fn mark(&mut self, entry: usize) -> bool {
        let bit = 1 << (entry % 64);
        let new = self.0[entry / 64] & bit == 0;
        self.0[entry / 64] |= bit;
        new
    }

    pub(crate) fn has(&self, entry: usize) -> bool {
        self.0[entry / 64] & (1 << (entry % 64)) != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blob(kind: BlobKind, name: &str, offset: u32) -> PackedBlob {
        PackedBlob { kind, id: Id::of(name.as_bytes()), offset, length: 100, raw_length: None }
    }

    fn pack(name: &str, blobs: &[PackedBlob]) -> IndexedPack {
        IndexedPack { id: Id::of(name.as_bytes()), blobs: blobs.to_vec() }
    }

    #[test]
    fn every_place_of_a_blob_is_found() {
        use BlobKind::{Data, Tree};
        let a = pack("a", &[blob(Data, "x", 0), blob(Tree, "x", 100), blob(Data, "y", 200)]);
        let b = pack("b", &[blob(Data, "x", 0)]);
        let mut catalog = Catalog::default();
        catalog.add_file(Id::of(b"1"), std::slice::from_ref(&a)).unwrap();
        // The same pack in a second file counts once.
        catalog.add_file(Id::of(b"2"), &[a.clone(), b.clone()]).unwrap();
        catalog.settle();
        assert_eq!(catalog.len(), 4);
        assert_eq!(catalog.files()[1].packs, [0, 1]);
        assert_eq!(catalog.blobs().count(), 3);
        for listed in [&a, &b] {
            let number = catalog.pack_number(&listed.id).unwrap();
            assert_eq!(catalog.packs()[number].size, listed.size());
            assert_eq!(catalog.packs()[number].blobs as usize, listed.blobs.len());
            for blob in &listed.blobs {
                let entry = catalog.entry(blob, number).unwrap();
                let at = catalog.find(blob.kind, &blob.id).unwrap();
                assert!(catalog.places(at).any(|(e, b, p)| (e, b, p) == (entry, *blob, number)));
            }
        }
        let x = catalog.find(Data, &Id::of(b"x")).unwrap();
        assert_eq!(catalog.places(x).count(), 2);
        assert_eq!(catalog.find(Tree, &Id::of(b"y")), None);
        assert_eq!(size_of::<Entry>(), 48);
    }

    #[test]
    fn marks_are_kept_apart() {
        let mut catalog = Catalog::default();
        let blobs: Vec<_> =
            (0..200).map(|i| blob(BlobKind::Data, &i.to_string(), i * 100)).collect();
        catalog.add_file(Id::of(b"1"), &[pack("a", &blobs)]).unwrap();
        catalog.settle();
        let mut marks = Marks::none(&catalog);
        assert!(marks.mark(63) && marks.mark(64) && marks.mark(199));
        assert!(!marks.mark(64));
        assert_eq!((0..200).filter(|entry| marks.has(*entry)).collect::<Vec<_>>(), [63, 64, 199]);
    }
}
