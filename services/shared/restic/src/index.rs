//! Which blob lies where, kept in about 50 bytes a blob.
//!
//! Loaded blobs live in sorted arrays; those that came since, in small hash tables that are merged
//! into the arrays when they reach an eighth of them. One hash table alone would take up to 112
//! bytes a blob after each doubling.

use std::collections::{HashMap, HashSet};

use crate::id::Id;
use crate::pack::{BlobKind, IndexedPack, content_length};

/// Where a blob lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Location {
    pub(crate) pack: Id,
    pub(crate) offset: u32,
    pub(crate) length: u32,
    pub(crate) raw_length: Option<u32>,
}

impl Location {
    pub(crate) fn content_length(&self) -> u64 {
        content_length(self.length, self.raw_length)
    }
}

/// All blobs of the loaded index files.
#[derive(Debug, Default)]
pub(crate) struct Index {
    data: BlobMap,
    trees: BlobMap,
    packs: Vec<Id>,
    files: HashSet<Id>,
}

impl Index {
    /// Adds the content of one index file; a blob that is known already keeps its first place.
    pub(crate) fn add_file(&mut self, file: Id, packs: &[IndexedPack]) {
        if !self.files.insert(file) {
            return;
        }
        for pack in packs {
            // More packs than a u32 counts would be 64 PiB of data.
            let Ok(number) = u32::try_from(self.packs.len()) else { return };
            self.packs.push(pack.id);
            for blob in &pack.blobs {
                let place = Place {
                    pack: number,
                    offset: blob.offset,
                    length: blob.length,
                    raw_length: blob.raw_length.unwrap_or(0),
                };
                self.map_mut(blob.kind).insert(blob.id, place);
            }
        }
        self.data.compact();
        self.trees.compact();
    }

    /// The index files whose content is in here.
    pub(crate) fn files(&self) -> &HashSet<Id> {
        &self.files
    }

    pub(crate) fn get(&self, kind: BlobKind, id: &Id) -> Option<Location> {
        let map = match kind {
            BlobKind::Data => &self.data,
            BlobKind::Tree => &self.trees,
        };
        let place = map.get(id)?;
        let pack = *self.packs.get(usize::try_from(place.pack).ok()?)?;
        Some(Location {
            pack,
            offset: place.offset,
            length: place.length,
            raw_length: (place.raw_length != 0).then_some(place.raw_length),
        })
    }

    fn map_mut(&mut self, kind: BlobKind) -> &mut BlobMap {
        match kind {
            BlobKind::Data => &mut self.data,
            BlobKind::Tree => &mut self.trees,
        }
    }
}

/// A [`Location`] in 16 bytes.
#[derive(Clone, Copy, Debug)]
struct Place {
    pack: u32,
    offset: u32,
    length: u32,
    /// 0: not compressed.
    raw_length: u32,
}

#[derive(Debug, Default)]
struct BlobMap {
    /// Sorted by id.
    settled: Vec<(Id, Place)>,
    recent: HashMap<Id, Place>,
}

impl BlobMap {
    fn get(&self, id: &Id) -> Option<Place> {
        match self.settled.binary_search_by(|(other, _)| other.cmp(id)) {
            Ok(at) => Some(self.settled[at].1),
            Err(_) => self.recent.get(id).copied(),
        }
    }

    fn insert(&mut self, id: Id, place: Place) {
        if self.settled.binary_search_by(|(other, _)| other.cmp(&id)).is_err() {
            self.recent.entry(id).or_insert(place);
        }
    }

    fn compact(&mut self) {
        if self.recent.len() < 1024 || self.recent.len() < self.settled.len() / 8 {
            return;
        }
        self.settled.reserve_exact(self.recent.len());
        self.settled.extend(std::mem::take(&mut self.recent));
        self.settled.sort_unstable_by_key(|(id, _)| *id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pack::PackedBlob;

    fn pack(number: u32, blobs: u32) -> IndexedPack {
        let blobs = (0..blobs)
            .map(|i| PackedBlob {
                kind: if i % 10 == 0 { BlobKind::Tree } else { BlobKind::Data },
                id: Id::of(format!("{number} {i}").as_bytes()),
                offset: i * 50,
                length: 50,
                raw_length: (i % 2 == 0).then_some(i + 1),
            })
            .collect();
        IndexedPack { id: Id::of(&number.to_le_bytes()), blobs }
    }

    #[test]
    fn every_blob_is_found_where_it_was_put() {
        let mut index = Index::default();
        let packs: Vec<_> = (0..40).map(|n| pack(n, 300)).collect();
        for (number, pair) in packs.chunks(2).enumerate() {
            index.add_file(Id::of(&number.to_le_bytes()), pair);
        }
        assert_eq!(index.files().len(), 20);
        assert!(!index.data.settled.is_empty(), "the merge is part of the test");
        for pack in &packs {
            for blob in &pack.blobs {
                let expected = Location {
                    pack: pack.id,
                    offset: blob.offset,
                    length: blob.length,
                    raw_length: blob.raw_length,
                };
                assert_eq!(index.get(blob.kind, &blob.id), Some(expected));
                let other =
                    if blob.kind == BlobKind::Data { BlobKind::Tree } else { BlobKind::Data };
                assert_eq!(index.get(other, &blob.id), None);
            }
        }
        assert_eq!(size_of::<(Id, Place)>(), 48);
    }

    #[test]
    fn the_first_place_of_a_blob_stays() {
        let mut index = Index::default();
        let (first, mut second) = (pack(1, 3), pack(1, 3));
        second.id = Id::of(b"second");
        index.add_file(Id::of(b"f"), std::slice::from_ref(&first));
        index.add_file(Id::of(b"g"), &[second]);
        let blob = first.blobs[1];
        assert_eq!(index.get(blob.kind, &blob.id).unwrap().pack, first.id);
    }
}
