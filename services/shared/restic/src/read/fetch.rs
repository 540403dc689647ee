//! One ranged read: fetched, decrypted where it lies, decompressed, and every blob verified.

use std::sync::Arc;

use bytes::Bytes;
use futures::stream::{Stream, StreamExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::task::AbortOnDropHandle;

use super::plan::{Read, Wanted};
use crate::buffers::Buffer;
use crate::codec::Codec;
use crate::encode::{self, ToDecode};
use crate::error::{Error, Result};
use crate::id::Id;
use crate::pack::BlobKind;
use crate::repository::Inner;
use crate::store::FileKind;

/// A semaphore's whole, which stands for the memory of a stream. A read takes its part of it, never more
/// than all.
pub(super) const BUDGET_UNITS: u32 = 1 << 16;

/// A read under way.
type Fetching = AbortOnDropHandle<Result<Fetched>>;

/// Verified pieces, and their part of the stream's memory.
#[derive(Debug)]
pub(super) struct Fetched {
    pieces: Vec<Bytes>,
    permit: OwnedSemaphorePermit,
}

/// Waits for memory and begins. The work goes on while whoever reads the stream is busy elsewhere.
pub(super) async fn begin(
    inner: Arc<Inner>,
    budget: Arc<Semaphore>,
    read: Result<Read>,
) -> Result<Fetching> {
    let read = read?;
    let all = inner.resources.reads().max(1) as u64;
    let units = read.memory() * u64::from(BUDGET_UNITS) / all;
    let units = u32::try_from(units).unwrap_or(BUDGET_UNITS).min(BUDGET_UNITS);
    let permit = budget.acquire_many_owned(units).await;
    let permit = permit.map_err(|closed| Error::internal("budget a read", closed))?;
    let fetching = async move { Ok(Fetched { pieces: fetch(inner, read).await?, permit }) };
    Ok(AbortOnDropHandle::new(tokio::spawn(fetching)))
}

/// Waits for the end.
pub(super) async fn finish(fetching: Result<Fetching>) -> Result<Fetched> {
    fetching?.await.map_err(|died| Error::internal("read blobs", died))?
}

/// The pieces one by one; the memory counts as used until the last is gone.
pub(super) fn pieces(fetched: Fetched) -> impl Stream<Item = Result<Bytes>> {
    let Fetched { pieces, permit } = fetched;
    futures::stream::iter(pieces).map(move |piece| {
        let _held = &permit;
        Ok(piece)
    })
}

async fn fetch(inner: Arc<Inner>, read: Read) -> Result<Vec<Bytes>> {
    let read = Arc::new(read);
    match fetch_here(&inner, &read).await {
        Ok(pieces) => Ok(pieces),
        Err(error) => {
            let blobs: Vec<Id> = read.blobs.iter().map(|blob| blob.id).collect();
            let contents = inner.read_elsewhere(BlobKind::Data, blobs, error).await?;
            cut(&inner, &read, contents.into_iter().map(Bytes::from))
        }
    }
}

async fn fetch_here(inner: &Arc<Inner>, read: &Arc<Read>) -> Result<Vec<Bytes>> {
    let name = FileKind::Pack.name(&read.pack);
    let start = u64::from(read.offset);
    let range = start..start + u64::from(read.length);
    let first = read.blobs.first().map_or(read.pack, |blob| blob.id);
    let buffer = inner.resources.buffers().take(read.length as usize);
    let fetched = inner
        .vault
        .store
        .get_range_into(&name, range, buffer)
        .await
        .map_err(|error| missing_pack(error, &read.pack, &first))?;
    let (inner, read) = (Arc::clone(inner), Arc::clone(read));
    let resources = inner.resources.clone();
    let decode = move |codec: &mut Codec| decode(&inner, codec, &read, fetched);
    resources.compute_with_codec("decode blobs", decode).await?
}

fn decode(inner: &Inner, codec: &mut Codec, read: &Read, fetched: Buffer) -> Result<Vec<Bytes>> {
    let failed = |id: &Id, problem: String| inner.damaged_blob(&read.pack, id, problem);
    let to_decode = |Wanted { id, location, .. }: &Wanted| {
        let start = location.offset.saturating_sub(read.offset) as usize;
        let place = start..start.saturating_add(location.length as usize);
        ToDecode { id: *id, place, raw_length: location.raw_length }
    };
    let blobs: Vec<ToDecode> = read.blobs.iter().map(to_decode).collect();
    let contents =
        encode::decode_all(codec, &inner.vault.key, inner.resources.buffers(), fetched, &blobs)
            .map_err(|(id, problem)| failed(&id, problem))?;
    cut(inner, read, contents.into_iter())
}

/// Of each blob's content, what is asked for.
fn cut(
    inner: &Inner,
    read: &Read,
    contents: impl ExactSizeIterator<Item = Bytes>,
) -> Result<Vec<Bytes>> {
    let mut pieces = Vec::with_capacity(contents.len());
    for (content, Wanted { id, skip_front, keep, .. }) in contents.zip(&read.blobs) {
        let bounds = || {
            let start = usize::try_from(*skip_front).ok()?;
            let end = start.checked_add(usize::try_from(*keep).ok()?)?;
            (end <= content.len()).then_some(start..end)
        };
        let range = bounds().ok_or_else(|| {
            inner.damaged_blob(&read.pack, id, "it is shorter than the index says".into())
        })?;
        pieces.push(content.slice(range));
    }
    Ok(pieces)
}

/// A pack that the index lists and the store does not have is damage, not a wrong request.
pub(super) fn missing_pack(error: Error, pack: &Id, blob: &Id) -> Error {
    if error.is_not_found_in_store() {
        let needed_by = format!("blob {blob}");
        Error::MissingPack { id: *pack, needed_by, problem: "is missing".into() }
    } else {
        error
    }
}
