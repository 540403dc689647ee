//! Repair of a lost or damaged index, from the headers of the packs: `restic repair index`.
//!
//! Index files that can be read and agree with the packs stay as they are. New ones are written
//! before old ones are deleted, under the exclusive lock: cut off anywhere, what was readable before
//! is readable after.

use std::collections::HashMap;
use std::sync::Arc;

use futures::{StreamExt, stream};

use crate::catalog::Catalog;
use crate::check::Problem;
use crate::error::{Error, Kind, Result};
use crate::id::Id;
use crate::lock::{self, Continuity, Lock, Mode};
use crate::maintain::delete;
use crate::pack::{self, IndexedPack, Tail};
use crate::progress::Observer;
use crate::prune::execute::{IndexWriter, relist};
use crate::repository::{Inner, Repository};
use crate::store::FileKind;

/// Packs whose headers are read at a time.
const FETCHES: usize = 8;
/// The last bytes of a pack that are read first: enough for the header of 400 blobs.
const TAIL_LEN: u64 = 16 * 1024;

/// How thoroughly to repair.
#[derive(Clone, Debug, Default)]
pub struct RepairOptions {
    /// Believe no index file, and read the headers of all packs.
    pub read_all_packs: bool,
    /// Is told how far it is.
    pub observer: Observer,
}

/// What a repair did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RepairSummary {
    /// Packs that the index lists now.
    pub packs: u64,
    /// Packs that it did not list, or not rightly.
    pub packs_added: u64,
    /// Packs that it listed and that are missing or cannot be read.
    pub packs_dropped: u64,
    /// Index files that were deleted.
    pub index_files_deleted: u64,
    /// Packs whose header cannot be read, and why. They are left alone.
    pub unreadable: Vec<Problem>,
}

impl Repository {
    /// Makes the index agree with the packs.
    ///
    /// # Errors
    /// [`Error::Locked`]; [`Error::LockLost`] if others removed our lock, before anything is deleted;
    /// errors of the store.
    pub async fn repair_index(&self, options: &RepairOptions) -> Result<RepairSummary> {
        self.inner.vault.store.may_take_away("repair the index")?;
        let lock = Lock::acquire(&self.inner.locker, Mode::Exclusive).await?;
        let repaired = repair(&self.inner, &lock, options).await;
        lock::during(Some(lock), async { repaired }).await
    }
}

async fn repair(inner: &Arc<Inner>, lock: &Lock, options: &RepairOptions) -> Result<RepairSummary> {
    let observer = &options.observer;
    let (catalog, mut doomed) = if options.read_all_packs {
        let listed = inner.vault.store.list(FileKind::Index).await?;
        (Catalog::default(), listed.into_iter().map(|(id, _)| id).collect::<Vec<Id>>())
    } else {
        readable(inner, observer).await?
    };
    let sizes: HashMap<Id, u64> =
        inner.vault.store.list(FileKind::Pack).await?.into_iter().collect();
    let sound: Vec<bool> =
        catalog.packs().iter().map(|pack| sizes.get(&pack.id) == Some(&pack.size)).collect();
    let stays = |number: usize| sound[number];

    let mut summary = RepairSummary::default();
    let mut unknown: Vec<(Id, u64)> = sizes
        .iter()
        .filter(|(id, _)| !catalog.pack_number(id).is_some_and(stays))
        .map(|(id, size)| (*id, *size))
        .collect();
    unknown.sort_unstable();
    summary.packs = sound.iter().filter(|sound| **sound).count() as u64;
    let added = read_headers(inner, lock, unknown, observer, &mut summary).await?;
    let known_before = |id: &Id| catalog.pack_number(id).is_some();
    let mended = added.iter().filter(|id| known_before(id)).count();
    let wrong = sound.iter().filter(|sound| !**sound).count();
    summary.packs_dropped = (wrong - mended) as u64;
    summary.packs_added = added.len() as u64;
    summary.packs += summary.packs_added;

    let obsolete: Vec<usize> = (0..catalog.files().len())
        .filter(|number| !catalog.files()[*number].packs.iter().all(|pack| stays(*pack as usize)))
        .collect();
    relist(inner, &catalog, &obsolete, stays, lock).await?;
    doomed.extend(obsolete.iter().map(|number| catalog.files()[*number].id));
    summary.index_files_deleted = doomed.len() as u64;
    if lock.continuity(&inner.locker).await? == Continuity::Broken {
        let problem = "it was removed by others; no index file was deleted".into();
        return Err(Error::LockLost { problem });
    }
    let step = observer.items("delete old index files", doomed.len() as u64);
    delete(inner, FileKind::Index, doomed, lock, &step).await?;
    inner.refresh_index().await?;
    Ok(summary)
}

/// What the index files say that can be read, and those that are damaged.
async fn readable(inner: &Inner, observer: &Observer) -> Result<(Catalog, Vec<Id>)> {
    let (catalog, failed) = Catalog::load_what_can_be(inner, observer).await?;
    let mut damaged = Vec::new();
    for (id, error) in failed {
        match error.kind() {
            Kind::Corrupt | Kind::NotFound => damaged.push(id),
            // The store may give it back another time.
            _ => return Err(error),
        }
    }
    Ok((catalog, damaged))
}

/// Writes index files for these packs; gives those that could be read.
async fn read_headers(
    inner: &Arc<Inner>,
    lock: &Lock,
    packs: Vec<(Id, u64)>,
    observer: &Observer,
    summary: &mut RepairSummary,
) -> Result<Vec<Id>> {
    let step = observer.items("read the packs' headers", packs.len() as u64);
    let mut writer = IndexWriter::new(inner, lock);
    let mut added = Vec::with_capacity(packs.len());
    let mut reading = stream::iter(packs)
        .map(|(id, size)| async move { (id, read_header(inner, id, size).await) })
        .buffer_unordered(FETCHES);
    while let Some((id, read)) = reading.next().await {
        match read {
            Ok(pack) => {
                added.push(id);
                writer.add(pack).await?;
            }
            Err(error) if matches!(error.kind(), Kind::Corrupt | Kind::NotFound) => {
                let (file, problem) = (FileKind::Pack.name(&id), error.chain());
                summary.unreadable.push(Problem { file, problem });
            }
            Err(error) => return Err(error),
        }
        step.advance(1);
    }
    writer.finish().await?;
    summary.unreadable.sort();
    Ok(added)
}

async fn read_header(inner: &Inner, id: Id, size: u64) -> Result<IndexedPack> {
    let name = FileKind::Pack.name(&id);
    let mut wanted = TAIL_LEN.min(size);
    loop {
        let tail = inner.vault.store.get_range(&name, size - wanted..size).await?;
        match pack::read_tail(&inner.vault.key, size, &tail) {
            Ok(Tail::Blobs(blobs)) => return Ok(IndexedPack { id, blobs }),
            // Longer than what was read, so this ends.
            Ok(Tail::Longer(needed)) => wanted = needed,
            Err(problem) => {
                let file = inner.vault.store.describe(&name);
                return Err(Error::damaged_by(file, "has no readable header", problem));
            }
        }
    }
}
