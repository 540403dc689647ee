//! The index document: which packs there are and what they hold. Pure.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::id::Id;
use crate::pack::{BlobKind, IndexedPack, PackedBlob};
use crate::snapshot::null_is_empty;

/// An index file is closed once it lists this many blobs, as restic does.
pub(crate) const MAX_BLOBS: usize = 50_000;

#[derive(Serialize, Deserialize)]
struct Document {
    #[serde(deserialize_with = "null_is_empty")]
    packs: Vec<PackDocument>,
}

#[derive(Serialize, Deserialize)]
struct PackDocument {
    id: Id,
    #[serde(default, deserialize_with = "null_is_empty")]
    blobs: Vec<BlobDocument>,
}

#[derive(Serialize, Deserialize)]
struct BlobDocument {
    id: Id,
    #[serde(rename = "type")]
    kind: KindDocument,
    offset: u32,
    length: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    uncompressed_length: Option<u32>,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum KindDocument {
    Data,
    Tree,
}

pub(crate) fn decode(name: &str, json: &[u8]) -> Result<Vec<IndexedPack>> {
    // serde takes a list for a struct; restic's very old index documents were lists.
    if json.first() != Some(&b'{') {
        return Err(Error::damaged(name, "is not an index document of a known format"));
    }
    let document: Document = serde_json::from_slice(json)
        .map_err(|source| Error::damaged_by(name, "is not an index document", source))?;
    Ok(document
        .packs
        .into_iter()
        .map(|pack| IndexedPack {
            id: pack.id,
            blobs: pack.blobs.into_iter().map(BlobDocument::into_blob).collect(),
        })
        .collect())
}

pub(crate) fn encode(packs: &[IndexedPack]) -> Result<Vec<u8>> {
    let packs = packs
        .iter()
        .map(|pack| PackDocument {
            id: pack.id,
            blobs: pack.blobs.iter().map(BlobDocument::from_blob).collect(),
        })
        .collect();
    serde_json::to_vec(&Document { packs }).map_err(|e| Error::internal("encode index", e))
}

/// Splits packs into groups that each make one index file.
pub(crate) fn split(packs: Vec<IndexedPack>) -> Vec<Vec<IndexedPack>> {
    let mut files: Vec<Vec<IndexedPack>> = Vec::new();
    let mut room = 0_usize;
    for pack in packs {
        if pack.blobs.len() > room || files.is_empty() {
            files.push(Vec::new());
            room = MAX_BLOBS;
        }
        room = room.saturating_sub(pack.blobs.len());
        if let Some(file) = files.last_mut() {
            file.push(pack);
        }
    }
    files
}

impl BlobDocument {
    fn into_blob(self) -> PackedBlob {
        let Self { id, kind, offset, length, uncompressed_length } = self;
        let kind = match kind {
            KindDocument::Data => BlobKind::Data,
            KindDocument::Tree => BlobKind::Tree,
        };
        let raw_length = uncompressed_length.filter(|length| *length != 0);
        PackedBlob { kind, id, offset, length, raw_length }
    }

    fn from_blob(blob: &PackedBlob) -> Self {
        let PackedBlob { kind, id, offset, length, raw_length } = *blob;
        let kind = match kind {
            BlobKind::Data => KindDocument::Data,
            BlobKind::Tree => KindDocument::Tree,
        };
        Self { id, kind, offset, length, uncompressed_length: raw_length }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pack(seed: u64, blobs: usize) -> IndexedPack {
        let mut offset = 0;
        let blobs = (0..blobs)
            .map(|i| {
                let length = 100 + u32::try_from(i % 7).unwrap();
                let kind = if i % 5 == 0 { BlobKind::Tree } else { BlobKind::Data };
                let raw_length = (i % 3 == 0).then_some(length * 2);
                let id = Id::of(format!("{seed} {i}").as_bytes());
                offset += length;
                PackedBlob { kind, id, offset: offset - length, length, raw_length }
            })
            .collect();
        IndexedPack { id: Id::of(&seed.to_le_bytes()), blobs }
    }

    proptest! {
        #[test]
        fn round_trip(sizes in proptest::collection::vec(0_usize..20, 0..20)) {
            let packs: Vec<_> = sizes.iter().zip(0..).map(|(n, i)| pack(i, *n)).collect();
            prop_assert_eq!(decode("index/x", &encode(&packs).unwrap()).unwrap(), packs);
        }
    }

    #[test]
    fn big_indexes_are_split() {
        let packs: Vec<_> = (0..5).map(|i| pack(i, 20_000)).collect();
        let files = split(packs.clone());
        assert_eq!(files.iter().map(Vec::len).collect::<Vec<_>>(), [2, 2, 1]);
        assert_eq!(files.concat(), packs);
        assert!(split(Vec::new()).is_empty());
    }

    #[test]
    fn restics_document_is_read() {
        let id = Id::of(b"x");
        let json = format!(
            r#"{{"supersedes":["{id}"],"packs":[{{"id":"{id}","blobs":[{{"id":"{id}","type":"tree","offset":5,"length":38,"uncompressed_length":9}}]}},{{"id":"{id}","blobs":null}}]}}"#
        );
        let packs = decode("index/x", json.as_bytes()).unwrap();
        assert_eq!(packs[0].blobs[0].raw_length, Some(9));
        for junk in ["", "[]", "{}", "[[]]"] {
            assert!(decode("index/x", junk.as_bytes()).is_err(), "{junk}");
        }
    }
}
