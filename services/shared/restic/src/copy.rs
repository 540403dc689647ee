//! Copies snapshots from one repository to another, as `restic copy` does: blobs keep their ids and
//! are encrypted and compressed anew, nothing that is there is sent, and a snapshot remembers where
//! it is from, so that copying again copies nothing.
//!
//! Each snapshot is committed by itself, after its packs and index. Chunks are not cut anew: if the
//! two repositories have different polynomials, backups made to both do not share data, and all is
//! well otherwise.

use std::collections::HashMap;
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt, stream};
use parking_lot::Mutex;
use serde_json::Value;

use crate::catalog::{Catalog, Marks};
use crate::encode::Encoder;
use crate::error::{Error, Result};
use crate::fetch;
use crate::id::Id;
use crate::lock::{self, Continuity, Lock, Mode};
use crate::options::Compression;
use crate::pack::{IndexedPack, PackedBlob};
use crate::packer::Packer;
use crate::progress::Observer;
use crate::repository::{Inner, Repository};
use crate::snapshot::Snapshot;
use crate::store::FileKind;
use crate::used;

/// Packs being uploaded at a time.
const UPLOADS: usize = 2;
/// Runs of blobs being fetched at a time, each of up to 8 MiB.
const FETCHES: usize = 3;

/// What to copy, and how.
#[derive(Clone, Debug, Default)]
pub struct CopyOptions {
    /// Which snapshots; empty for all.
    pub snapshots: Vec<Id>,
    /// How the copies are compressed, where the target's format can.
    pub compression: Compression,
    /// Is told how far it is.
    pub observer: Observer,
    /// Takes each snapshot and its copy once that is committed. Stays true if a later one fails.
    pub committed: Arc<Mutex<Vec<(Id, Id)>>>,
}

/// What was copied.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CopySummary {
    /// Each snapshot, and its copy.
    pub copied: Vec<(Id, Id)>,
    /// Snapshots that were there.
    pub skipped: Vec<Id>,
    /// Blobs sent.
    pub blobs: u64,
    /// Bytes that they take in the target's packs.
    pub bytes: u64,
}

impl Repository {
    /// Copies snapshots to another repository.
    ///
    /// # Errors
    /// [`Error::NoSnapshot`] for an unknown id, before anything is copied; [`Error::Invalid`] if
    /// both are the same place; [`Error::Locked`]; [`Error::MissingBlob`] and [`Error::Damaged`] if
    /// a snapshot cannot be read, which is then not committed; errors of the stores.
    pub async fn copy_to(&self, target: &Self, options: &CopyOptions) -> Result<CopySummary> {
        if self.location() == target.location() {
            let problem = "is both the source and the target of the copy";
            return Err(Error::invalid(self.location(), problem));
        }
        let source_lock = self.inner.lock_for_reading().await?;
        let copied = async {
            let lock = Lock::acquire(&target.inner.locker, Mode::Shared).await?;
            let copied = copy(&self.inner, &target.inner, &lock, options).await;
            lock.release().await;
            copied
        };
        lock::during(source_lock, copied).await
    }
}

async fn copy(
    source: &Arc<Inner>,
    target: &Arc<Inner>,
    lock: &Lock,
    options: &CopyOptions,
) -> Result<CopySummary> {
    target.ensure_same().await?;
    let wanted = wanted(source.all_snapshots(Mode::Shared).await?, &options.snapshots)?;
    let there = target.all_snapshots(Mode::Shared).await?;
    let mut summary = CopySummary::default();
    let (skipped, wanted): (Vec<Snapshot>, Vec<Snapshot>) =
        wanted.into_iter().partition(|snapshot| there.iter().any(|other| same(snapshot, other)));
    summary.skipped = skipped.into_iter().map(|snapshot| snapshot.id).collect();
    if wanted.is_empty() {
        return Ok(summary);
    }
    let catalog = Catalog::load(source, &options.observer).await?;
    let known = Catalog::load(target, &options.observer).await?;
    let vault = &target.vault;
    let (level, buffers) = (options.compression, target.resources.buffers().clone());
    let encoder = Encoder::new(vault.key.clone(), vault.version, level, true, buffers)?;
    let packer = Packer::new(Arc::clone(vault), target.resources.clone(), lock.watch(), UPLOADS)
        .full_sized();
    let mut copier =
        Copier { source, target, catalog, known, encoder, packer, sent: None, options };
    for snapshot in wanted {
        copier.blobs_of(&snapshot, &mut summary).await?;
        if lock.continuity(&target.locker).await? == Continuity::Broken {
            let problem = "it was removed by others, who may be pruning the target".into();
            return Err(Error::LockLost { problem });
        }
        let json = document(source, &snapshot).await?;
        let copy = target.vault.save(FileKind::Snapshot, &json).await?;
        options.committed.lock().push((snapshot.id, copy));
        summary.copied.push((snapshot.id, copy));
    }
    target.refresh_index().await?;
    Ok(summary)
}

/// The snapshots with these ids, or all.
fn wanted(snapshots: Vec<Snapshot>, ids: &[Id]) -> Result<Vec<Snapshot>> {
    if let Some(id) = ids.iter().find(|id| !snapshots.iter().any(|s| s.id == **id)) {
        return Err(Error::NoSnapshot { wanted: format!("the id {id}") });
    }
    let chosen = |snapshot: &Snapshot| ids.is_empty() || ids.contains(&snapshot.id);
    Ok(snapshots.into_iter().filter(chosen).collect())
}

/// Whether a snapshot is a copy of another, or both are of a third, by restic's rule.
fn same(one: &Snapshot, other: &Snapshot) -> bool {
    let origin = |snapshot: &Snapshot| snapshot.original.unwrap_or(snapshot.id);
    let Snapshot {
        id: _,
        time,
        parent: _,
        tree,
        paths,
        hostname,
        username,
        uid,
        gid,
        excludes,
        tags,
        original: _,
        program_version: _,
        summary: _,
    } = one;
    origin(one) == origin(other)
        && (time, tree, paths, hostname)
            == (&other.time, &other.tree, &other.paths, &other.hostname)
        && (username, uid, gid) == (&other.username, &other.uid, &other.gid)
        && (excludes, tags) == (&other.excludes, &other.tags)
}

/// The snapshot's document with its origin, and with whatever else the program that made it wrote.
async fn document(source: &Inner, snapshot: &Snapshot) -> Result<Vec<u8>> {
    let json = source.vault.load(FileKind::Snapshot, &snapshot.id).await?;
    let name = || source.vault.store.describe(&FileKind::Snapshot.name(&snapshot.id));
    let mut document: serde_json::Map<String, Value> = serde_json::from_slice(&json)
        .map_err(|e| Error::damaged_by(name(), "is not a snapshot document", e))?;
    // Its parent has another id here, if it is here at all.
    document.shift_remove("parent");
    let origin = snapshot.original.unwrap_or(snapshot.id);
    document.insert("original".into(), Value::String(origin.to_string()));
    serde_json::to_vec(&document).map_err(|e| Error::internal("encode snapshot", e))
}

struct Copier<'a> {
    source: &'a Arc<Inner>,
    target: &'a Inner,
    catalog: Catalog,
    /// What the target had before.
    known: Catalog,
    encoder: Arc<Encoder>,
    packer: Packer,
    /// What has been sent since, of the source's catalog.
    sent: Option<Marks>,
    options: &'a CopyOptions,
}

impl Copier<'_> {
    /// Sends the blobs of a snapshot that the target does not have, and has them indexed.
    async fn blobs_of(&mut self, snapshot: &Snapshot, summary: &mut CopySummary) -> Result<()> {
        let observer = &self.options.observer;
        let snapshots = std::slice::from_ref(snapshot);
        let walked = used::walk(self.source, &self.catalog, snapshots, observer).await;
        let used = walked.into_used()?;
        let sent = self.sent.get_or_insert_with(|| Marks::none(&self.catalog));
        let mut missing: Vec<(Id, PackedBlob)> = Vec::new();
        for at in self.catalog.blobs().filter(|at| used.has(at.entry())) {
            let (blob, pack) = self.catalog.get(at);
            if self.known.find(blob.kind, &blob.id).is_none() && sent.mark(at.entry()) {
                missing.push((pack, blob));
            }
        }
        drop(used);
        missing.sort_unstable_by_key(|(pack, blob)| (*pack, blob.offset));
        let mut runs = Vec::new();
        for blobs in missing.chunk_by(|(one, _), (other, _)| one == other) {
            let pack = blobs[0].0;
            runs.extend(fetch::runs(pack, blobs.iter().map(|(_, blob)| *blob).collect()));
        }
        let step = observer.bytes("copy", runs.iter().map(fetch::Run::len).sum());
        let mut copies = stream::iter(runs)
            .map(|run| {
                let encoder = Arc::clone(&self.encoder);
                run.fetch(Arc::clone(self.source), move |blob, _sealed, content| {
                    Ok((*blob, encoder.encode_alone(blob.kind, &blob.id, &content)?))
                })
            })
            .buffered(FETCHES);
        while let Some(encoded) = copies.try_next().await? {
            for (blob, copy) in encoded {
                self.packer.add(blob.kind, blob.id, &copy).await?;
                summary.blobs += 1;
                summary.bytes += copy.sealed.len() as u64;
                step.advance(u64::from(blob.length));
            }
        }
        let written = self.packer.finish().await?;
        confirm(self.target, written.into_iter().flat_map(|(_, packs)| packs).collect()).await
    }
}

/// Looks whether new packs are there in full, before anything refers to them.
async fn confirm(target: &Inner, packs: Vec<IndexedPack>) -> Result<()> {
    let store = &target.vault.store;
    let sizes: HashMap<Id, u64> = store.list(FileKind::Pack).await?.into_iter().collect();
    match packs.iter().find(|pack| sizes.get(&pack.id) != Some(&pack.size())) {
        None => Ok(()),
        Some(pack) => {
            let file = store.describe(&FileKind::Pack.name(&pack.id));
            Err(Error::damaged(file, "is not there as it was just written"))
        }
    }
}
