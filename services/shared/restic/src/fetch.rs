//! Blobs by their places in a catalog: read, and verified against their ids before anybody sees them.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use crate::catalog::{BlobAt, Catalog};
use crate::encode;
use crate::error::{Error, Result};
use crate::id::Id;
use crate::pack::PackedBlob;
use crate::repository::Inner;
use crate::store::FileKind;

/// Neighbouring blobs are read together up to this many bytes.
const RUN_LEN: u64 = 8 * 1024 * 1024;
/// Bytes between two blobs that are read along, since another read costs more.
const MAX_GAP: u64 = 64 * 1024;

/// The content of a blob. If one of its places cannot be read, the next is tried.
pub(crate) async fn any_place(inner: &Inner, catalog: &Catalog, at: BlobAt) -> Result<Vec<u8>> {
    let mut first = None;
    for (_, blob, pack) in catalog.places(at) {
        match one(inner, catalog.packs()[pack].id, &blob).await {
            Ok(content) => return Ok(content),
            Err(error) => first.get_or_insert(error),
        };
    }
    let (blob, _) = catalog.get(at);
    Err(first.unwrap_or_else(|| missing(&blob, "the index")))
}

async fn one(inner: &Inner, pack: Id, blob: &PackedBlob) -> Result<Vec<u8>> {
    let start = u64::from(blob.offset);
    let sealed = read(inner, &pack, start..start + u64::from(blob.length), &blob.id).await?;
    let (key, blob) = (inner.vault.key.clone(), *blob);
    let decode = move || encode::decode(&key, &blob.id, &sealed, blob.raw_length);
    let decoded = inner.resources.compute("decode a blob", decode).await?;
    decoded.map_err(|problem| damaged(inner, &pack, &blob.id, &problem))
}

/// Neighbouring blobs of a pack, in the order of their offsets, to be read at once.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) pack: Id,
    pub(crate) blobs: Vec<PackedBlob>,
}

/// Parts blobs of a pack into runs.
pub(crate) fn runs(pack: Id, mut blobs: Vec<PackedBlob>) -> Vec<Run> {
    blobs.sort_unstable_by_key(|blob| blob.offset);
    let mut runs: Vec<Run> = Vec::new();
    for blob in blobs {
        let fits = |run: &Run| {
            let Range { start, end } = run.range();
            let offset = u64::from(blob.offset);
            offset <= end + MAX_GAP && offset + u64::from(blob.length) - start <= RUN_LEN
        };
        match runs.last_mut().filter(|run| fits(run)) {
            Some(run) => run.blobs.push(blob),
            None => runs.push(Run { pack, blobs: vec![blob] }),
        }
    }
    runs
}

impl Run {
    fn range(&self) -> Range<u64> {
        let start = self.blobs.first().map_or(0, |blob| u64::from(blob.offset));
        let end = |blob: &PackedBlob| u64::from(blob.offset) + u64::from(blob.length);
        start..self.blobs.iter().map(end).max().unwrap_or(start)
    }

    /// Bytes that its blobs take in the pack.
    pub(crate) fn len(&self) -> u64 {
        self.blobs.iter().map(|blob| u64::from(blob.length)).sum()
    }

    /// Reads and verifies; what `keep` makes of each blob's sealed bytes and content is the result.
    pub(crate) async fn fetch<T: Send + 'static>(
        self,
        inner: Arc<Inner>,
        keep: impl Fn(&PackedBlob, &[u8], Vec<u8>) -> Result<T> + Send + 'static,
    ) -> Result<Vec<T>> {
        let range = self.range();
        let first = self.blobs.first().map_or(self.pack, |blob| blob.id);
        let bytes = read(&inner, &self.pack, range.clone(), &first).await?;
        let resources = inner.resources.clone();
        let decode = move || {
            let one = |blob: &PackedBlob| {
                let failed = |problem: &str| damaged(&inner, &self.pack, &blob.id, problem);
                let start = usize::try_from(u64::from(blob.offset) - range.start);
                let sealed = start
                    .ok()
                    .and_then(|start| bytes.get(start..start.checked_add(blob.length as usize)?))
                    .ok_or_else(|| failed("it lies outside its pack"))?;
                let content = encode::decode(&inner.vault.key, &blob.id, sealed, blob.raw_length)
                    .map_err(|problem| failed(&problem))?;
                keep(blob, sealed, content)
            };
            self.blobs.iter().map(one).collect()
        };
        resources.compute("decode blobs", decode).await?
    }
}

async fn read(inner: &Inner, pack: &Id, range: Range<u64>, blob: &Id) -> Result<Bytes> {
    let name = FileKind::Pack.name(pack);
    inner.vault.store.get_range(&name, range).await.map_err(|error| {
        if error.is_not_found_in_store() {
            let needed_by = format!("blob {blob}");
            Error::MissingPack { id: *pack, needed_by, problem: "is missing".into() }
        } else {
            error
        }
    })
}

fn damaged(inner: &Inner, pack: &Id, blob: &Id, problem: &str) -> Error {
    let file = inner.vault.store.describe(&FileKind::Pack.name(pack));
    Error::damaged(file, format!("blob {blob}: {problem}"))
}

/// The error for a blob that no index lists.
pub(crate) fn missing(blob: &PackedBlob, needed_by: &str) -> Error {
    Error::MissingBlob { kind: blob.kind.name(), id: blob.id, needed_by: needed_by.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pack::BlobKind;

    #[test]
    fn neighbours_are_read_together_up_to_a_size() {
        let blob = |offset: u32, length: u32| PackedBlob {
            kind: BlobKind::Data,
            id: Id::of(&offset.to_le_bytes()),
            offset,
            length,
            raw_length: None,
        };
        let mib = 1 << 20;
        let pack = Id::of(b"pack");
        let blobs =
            vec![blob(4 * mib, mib), blob(0, mib), blob(mib + 1000, mib), blob(5 * mib, 4 * mib)];
        let parted: Vec<Vec<u32>> = runs(pack, blobs)
            .iter()
            .map(|run| run.blobs.iter().map(|blob| blob.offset).collect())
            .collect();
        assert_eq!(parted, [vec![0, mib + 1000], vec![4 * mib, 5 * mib]]);
        let large = runs(pack, vec![blob(0, 9 * mib), blob(9 * mib, 10)]);
        assert_eq!(large.len(), 2, "a blob beyond the size is read alone");
    }
}
