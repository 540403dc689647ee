//! Prune: remove what no snapshot uses. A pure plan first, then its execution under the exclusive
//! lock, in an order that is safe to be cut off anywhere:
//!
//! 1. used blobs of wasteful packs are copied to new packs, and an index for these is written;
//! 2. the entries that stay, of index files that also list packs to go, are written again;
//! 3. only now, and only if our lock stood all the time, old index files are deleted,
//! 4. and then the packs that no index lists any more.
//!
//! If a blob that a snapshot needs is nowhere to be found, nothing is changed at all: the pieces
//! that are left may be what a repair needs.

use std::collections::HashMap;
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt, stream};

use crate::encode::{self, SealedBlob};
use crate::error::{Error, Result};
use crate::id::Id;
use crate::index_file;
use crate::lock::{Continuity, Lock, Mode};
use crate::pack::IndexedPack;
use crate::packer::Packer;
use crate::repository::{Inner, Repository};
use crate::shared_index;
use crate::store::FileKind;
use crate::used;

mod plan;
use plan::Plan;

/// Packs being uploaded at a time.
const UPLOADS: usize = 2;
/// Blobs being fetched at a time.
const FETCHES: usize = 4;

/// How prune weighs work against waste.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Options {
    /// Unused bytes that may stay in packs, in percent of the used ones.
    pub max_unused_percent: f64,
    /// Only plan; change nothing.
    pub dry_run: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { max_unused_percent: 5.0, dry_run: false }
    }
}

/// What prune did, or in a dry run would do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Packs before.
    pub packs: u64,
    /// Packs deleted because nothing in them is used, or no index lists them.
    pub packs_deleted: u64,
    /// Packs whose used blobs moved to new packs.
    pub packs_repacked: u64,
    /// Bytes the deleted and the repacked packs took.
    pub bytes_deleted: u64,
    /// Bytes copied to new packs.
    pub bytes_repacked: u64,
    /// Unused bytes that stay.
    pub bytes_unused: u64,
}

impl Repository {
    /// Removes what no snapshot uses.
    ///
    /// # Errors
    /// [`Error::Locked`]; [`Error::MissingBlob`], [`Error::MissingPack`] or [`Error::Damaged`] if
    /// a snapshot's data is not all there, before anything is changed; errors of the store.
    pub async fn prune(&self, options: &Options) -> Result<Summary> {
        let inner = &self.inner;
        let lock = if options.dry_run {
            inner.lock_for_reading(Mode::Shared).await?
        } else {
            Some(Lock::acquire(&inner.locker, Mode::Exclusive).await?)
        };
        let done = prune(inner, options, lock.as_ref()).await;
        if let Some(lock) = lock {
            lock.release().await;
        }
        done
    }
}

async fn prune(inner: &Arc<Inner>, options: &Options, lock: Option<&Lock>) -> Result<Summary> {
    let snapshots = inner.all_snapshots().await?;
    let files = shared_index::load_all(&inner.vault, &inner.resources).await?;
    let index = used::index_of(&files);
    let (used, failures) = used::walk(inner, &index, &snapshots).await;
    drop(index);
    if let Some(failure) = failures.into_iter().next() {
        return Err(failure);
    }
    let packs = inner.vault.store.list(FileKind::Pack).await?.into_iter().collect();
    let plan = plan::plan(files, &packs, &used, options.max_unused_percent)?;
    let summary = plan.summary;
    if let Some(lock) = lock.filter(|_| !options.dry_run) {
        execute(inner, plan, lock).await?;
    }
    Ok(summary)
}

async fn execute(inner: &Arc<Inner>, plan: Plan, lock: &Lock) -> Result<()> {
    let Plan { repack, relist, obsolete_index, delete, summary: _ } = plan;
    if obsolete_index.is_empty() && delete.is_empty() {
        return Ok(());
    }
    repack_all(inner, repack, lock).await?;
    for packs in index_file::split(relist) {
        inner.vault.save(FileKind::Index, &index_file::encode(&packs)?).await?;
    }
    if lock.continuity(&inner.locker).await? == Continuity::Broken {
        let problem = "it was removed by others, who may be writing; nothing was deleted".into();
        return Err(Error::LockLost { problem });
    }
    for id in obsolete_index {
        inner.vault.store.delete(&FileKind::Index.name(&id)).await?;
    }
    for id in delete {
        lock.watch().ensure_held()?;
        inner.vault.store.delete(&FileKind::Pack.name(&id)).await?;
    }
    inner.refresh_index().await
}

/// Copies blobs, as they are sealed, into new packs; each is opened and verified on the way.
async fn repack_all(inner: &Arc<Inner>, packs: Vec<IndexedPack>, lock: &Lock) -> Result<()> {
    if packs.is_empty() {
        return Ok(());
    }
    let packer =
        Packer::new(Arc::clone(&inner.vault), inner.resources.clone(), lock.watch(), UPLOADS);
    let blobs =
        packs.into_iter().flat_map(|pack| pack.blobs.into_iter().map(move |blob| (pack.id, blob)));
    let mut copies = stream::iter(blobs)
        .map(async |(pack, blob)| {
            let name = FileKind::Pack.name(&pack);
            let start = u64::from(blob.offset);
            let range = start..start + u64::from(blob.length);
            let sealed = inner.vault.store.get_range(&name, range).await?;
            let key = inner.vault.key.clone();
            let checked = inner
                .resources
                .compute("verify a blob", move || {
                    encode::decode(&key, &blob.id, &sealed, blob.raw_length).map(|_| sealed)
                })
                .await?;
            let sealed = checked.map_err(|problem| {
                Error::damaged(
                    inner.vault.store.describe(&name),
                    format!("blob {}: {problem}", blob.id),
                )
            })?;
            Ok::<_, Error>((blob, sealed))
        })
        .buffered(FETCHES);
    while let Some((blob, sealed)) = copies.try_next().await? {
        let copy = SealedBlob { sealed: sealed.into(), raw_length: blob.raw_length };
        packer.add(blob.kind, blob.id, &copy).await?;
    }
    packer.finish().await.map(drop)
}

/// The size of every pack in the store.
type PackSizes = HashMap<Id, u64>;
