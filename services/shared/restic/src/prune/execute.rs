//! The plan carried out, step by step; see [`prune`](super) for why in this order.

use std::collections::HashSet;
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt, stream};

use super::Options;
use super::plan::{Fate, Plan};
use crate::catalog::{self, Catalog};
use crate::encode::{Encoder, SealedBlob};
use crate::error::{Error, Result};
use crate::fetch;
use crate::id::Id;
use crate::index_file;
use crate::lock::{Continuity, Lock};
use crate::maintain::delete;
use crate::pack::{IndexedPack, PackedBlob};
use crate::packer::Packer;
use crate::progress::Observer;
use crate::repository::Inner;
use crate::store::FileKind;

/// Packs being uploaded at a time.
const UPLOADS: usize = 2;
/// Runs of blobs being fetched at a time, each of up to 8 MiB.
const FETCHES: usize = 3;

/// Says how many bytes compression took off what was copied.
pub(super) async fn execute(
    inner: &Arc<Inner>,
    catalog: &Catalog,
    plan: Plan,
    snapshots: &HashSet<Id>,
    lock: &Lock,
    options: &Options,
) -> Result<u64> {
    let observer = &options.observer;
    let Repacked { written, saved } = repack(inner, catalog, &plan, lock, options).await?;
    if let Err(error) = confirm(inner, &written, observer).await {
        // The old places are still listed, and are the good ones.
        for (index, _) in &written {
            withdraw(inner, index).await;
        }
        return Err(error);
    }
    let stays = |number: usize| plan.fates[number] == Fate::Stay;
    relist(inner, catalog, &plan.obsolete, stays, lock).await?;
    if lock.continuity(&inner.locker).await? == Continuity::Broken {
        let problem = "it was removed by others, who may be writing; nothing was deleted".into();
        return Err(Error::LockLost { problem });
    }
    confirm_snapshots(inner, snapshots).await?;
    let obsolete: Vec<Id> =
        plan.obsolete.iter().map(|number| catalog.files()[*number].id).collect();
    let step = observer.items("delete old index files", obsolete.len() as u64);
    delete(inner, FileKind::Index, obsolete, lock, &step).await?;
    let step = observer.items("delete packs", plan.delete.len() as u64);
    delete(inner, FileKind::Pack, plan.delete, lock, &step).await?;
    inner.refresh_index().await?;
    Ok(saved)
}

#[derive(Default)]
struct Repacked {
    /// The new index files and their packs.
    written: Vec<(Id, Vec<IndexedPack>)>,
    saved: u64,
}

/// Copies the chosen blobs of packs that go; each is opened and verified on the way, and compressed if it is not yet.
/// Reads the index files once more, since the catalog does not say what a pack holds.
async fn repack(
    inner: &Arc<Inner>,
    catalog: &Catalog,
    plan: &Plan,
    lock: &Lock,
    options: &Options,
) -> Result<Repacked> {
    if plan.summary.packs_repacked == 0 {
        return Ok(Repacked::default());
    }
    let packer =
        Packer::new(Arc::clone(&inner.vault), inner.resources.clone(), lock.watch(), UPLOADS)
            .full_sized();
    let vault = &inner.vault;
    let (level, buffers) = (options.compression, inner.resources.buffers().clone());
    let encoder = Encoder::new(vault.key.clone(), vault.version, level, true, buffers)?;
    let step = options.observer.bytes("repack", plan.summary.bytes_repacked);
    let goes = |number: &u32| plan.fates[*number as usize] == Fate::Repack;
    let mut done = vec![false; catalog.packs().len()];
    let (mut copied, mut saved) = (0_u64, 0_u64);
    for number in &plan.obsolete {
        let file = &catalog.files()[*number];
        if !file.packs.iter().any(goes) {
            continue;
        }
        let mut runs = Vec::new();
        for pack in catalog::load_file(inner, file.id).await? {
            let Some(number) = catalog.pack_number(&pack.id) else { continue };
            if plan.fates[number] != Fate::Repack || done[number] {
                continue;
            }
            done[number] = lists_all(catalog, number, &pack);
            let chosen = |blob: &PackedBlob| {
                catalog.entry(blob, number).is_some_and(|entry| plan.chosen.has(entry))
            };
            runs.extend(fetch::runs(pack.id, pack.blobs.into_iter().filter(chosen).collect()));
        }
        let mut copies = stream::iter(runs)
            .map(|run| {
                let encoder = Arc::clone(&encoder);
                run.fetch(Arc::clone(inner), move |blob, sealed, content| {
                    Ok((*blob, copy(&encoder, blob, sealed, &content)?))
                })
            })
            .buffered(FETCHES);
        while let Some(read) = copies.try_next().await? {
            for (blob, copy) in read {
                let length = u64::from(blob.length);
                copied += 1;
                saved += length.saturating_sub(copy.sealed.len() as u64);
                packer.add(blob.kind, blob.id, &copy).await?;
                step.advance(length);
            }
        }
    }
    let written = packer.finish().await?;
    if copied < plan.copies {
        let problem = format!("{copied} blobs were copied instead of {}", plan.copies);
        return Err(Error::damaged("the index", format!("{problem}; nothing was deleted")));
    }
    Ok(Repacked { written, saved })
}

/// A blob as it goes to its new pack.
fn copy(encoder: &Encoder, blob: &PackedBlob, sealed: &[u8], content: &[u8]) -> Result<SealedBlob> {
    if blob.raw_length.is_none() && encoder.compresses(blob.kind) {
        return encoder.encode_alone(blob.kind, &blob.id, content);
    }
    Ok(SealedBlob { sealed: sealed.to_vec(), raw_length: blob.raw_length })
}

/// Reads new packs and their index files back: the old ones are the only other copy, and a store can
/// lie about a write.
async fn confirm(
    inner: &Arc<Inner>,
    written: &[(Id, Vec<IndexedPack>)],
    observer: &Observer,
) -> Result<()> {
    for (index, _) in written {
        inner.vault.load(FileKind::Index, index).await?;
    }
    let packs = written.iter().flat_map(|(_, packs)| packs).map(|pack| (pack.id, pack.size()));
    let packs: Vec<(Id, u64)> = packs.collect();
    let step = observer.bytes("read new packs back", packs.iter().map(|(_, size)| size).sum());
    let mut reads = stream::iter(packs)
        .map(|(id, size)| async move {
            let name = FileKind::Pack.name(&id);
            let content = inner.vault.store.get(&name).await?;
            let hash = move || content.len() as u64 == size && Id::of(&content) == id;
            if inner.resources.compute("verify a pack", hash).await? {
                return Ok(size);
            }
            let problem = "is not what was just written; nothing was deleted";
            Err(Error::damaged(inner.vault.store.describe(&name), problem))
        })
        .buffer_unordered(UPLOADS);
    while let Some(size) = reads.try_next().await? {
        step.advance(size);
    }
    Ok(())
}

/// Deletes an index file that says what is not so, as well as it can be done.
async fn withdraw(inner: &Inner, index: &Id) {
    let name = FileKind::Index.name(index);
    if let Err(error) = inner.vault.store.delete(&name).await {
        tracing::warn!(file = name, error = error.chain(), "could not delete a bad index file");
    }
}

/// Fails if there are snapshots that the plan did not count: a store that listed them late, or
/// somebody who does not heed locks.
async fn confirm_snapshots(inner: &Inner, planned: &HashSet<Id>) -> Result<()> {
    let listed = inner.vault.store.list(FileKind::Snapshot).await?;
    match listed.into_iter().find(|(id, _)| !planned.contains(id)) {
        None => Ok(()),
        Some((id, _)) => {
            let problem =
                format!("snapshot {} appeared meanwhile; nothing was deleted", id.short());
            Err(Error::LockLost { problem })
        }
    }
}

/// Whether an index file says of a pack all that any of them says. If several list a part each, all
/// of the parts count.
fn lists_all(catalog: &Catalog, number: usize, pack: &IndexedPack) -> bool {
    pack.blobs.len() == catalog.packs()[number].blobs as usize
}

/// Writes the entries of packs that stay, of index files that go, to new ones.
pub(crate) async fn relist(
    inner: &Inner,
    catalog: &Catalog,
    obsolete: &[usize],
    stays: impl Fn(usize) -> bool,
    lock: &Lock,
) -> Result<()> {
    // Those that files list which stay are listed again all the same: they may list a part only.
    let mut listed = vec![false; catalog.packs().len()];
    let mut writer = IndexWriter::new(inner, lock);
    for number in obsolete {
        for pack in catalog::load_file(inner, catalog.files()[*number].id).await? {
            let Some(number) = catalog.pack_number(&pack.id) else { continue };
            if stays(number) && !listed[number] {
                listed[number] = lists_all(catalog, number, &pack);
                writer.add(pack).await?;
            }
        }
    }
    writer.finish().await
}

/// Writes index files of the usual size.
pub(crate) struct IndexWriter<'a> {
    inner: &'a Inner,
    lock: &'a Lock,
    open: Vec<IndexedPack>,
    blobs: usize,
}

impl<'a> IndexWriter<'a> {
    pub(crate) fn new(inner: &'a Inner, lock: &'a Lock) -> Self {
        Self { inner, lock, open: Vec::new(), blobs: 0 }
    }

    pub(crate) async fn add(&mut self, pack: IndexedPack) -> Result<()> {
        self.blobs += pack.blobs.len();
        self.open.push(pack);
        if self.blobs >= index_file::MAX_BLOBS { self.write().await } else { Ok(()) }
    }

    pub(crate) async fn finish(mut self) -> Result<()> {
        if self.open.is_empty() { Ok(()) } else { self.write().await }
    }

    async fn write(&mut self) -> Result<()> {
        self.lock.watch().ensure_held()?;
        let packs = std::mem::take(&mut self.open);
        self.blobs = 0;
        let id = self.inner.vault.save(FileKind::Index, &index_file::encode(&packs)?).await?;
        // Read back, because the files that it replaces are about to be deleted.
        let read = self.inner.vault.load(FileKind::Index, &id).await;
        if read.is_err() {
            withdraw(self.inner, &id).await;
        }
        read.map(drop)
    }
}
