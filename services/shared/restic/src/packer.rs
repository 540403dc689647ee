//! Fills packs with sealed blobs and uploads the full ones, several at a time.
//!
//! A stream has few lanes, in each of which one pack is filled at a time, so that several processors can
//! work for it. What it may hold follows from the share that [`Resources`] gives it, which shrinks
//! while others come: then lanes are closed, and packs earlier.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{JoinError, JoinSet};

use crate::encode::SealedBlob;
use crate::error::{Error, Result};
use crate::id::Id;
use crate::index_file;
use crate::lock::LockWatch;
use crate::pack::{BlobKind, Content, IndexedPack, PackBuilder, SealedPack, TARGET_LEN};
use crate::resources::{FILE_BUFFER, OVERSHOOT, Packs, Resources, Share};
use crate::store::{FileKind, Store};
use crate::vault::Vault;

/// A semaphore's whole, of which a lane takes its part: divisible by any number of lanes.
const LANE_UNITS: u32 = 6;
/// The same for packs. A part is rounded down, so nobody waits for more than there is.
const PACK_UNITS: u32 = 60;
/// Packs that are uploaded and in no index are found by nobody. An index file now and then lets the next
/// attempt at an interrupted backup profit from this one.
const INDEX_EVERY: Duration = Duration::from_secs(5 * 60);
/// What compression, nonce and tag may add to content, beside a small part of it.
const ENCODED_MARGIN: usize = 16 * 1024;
/// A pack with less may as well stay in memory.
const WORTH_WRITING: usize = 1024 * 1024;

/// Dropping the packer stops its uploads.
#[derive(Debug)]
pub(crate) struct Packer {
    vault: Arc<Vault>,
    resources: Resources,
    lock: LockWatch,
    uploads: usize,
    full_sized: bool,
    lanes: Arc<Semaphore>,
    slots: Arc<Semaphore>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Packs that are neither full nor being filled.
    idle: Vec<(BlobKind, OpenPack)>,
    running: JoinSet<Result<IndexedPack>>,
    /// Uploaded, but in no index file yet.
    uploaded: Vec<IndexedPack>,
    /// In an index file that we wrote.
    indexed: Vec<(Id, Vec<IndexedPack>)>,
    last_index: Instant,
}

/// A pack being filled, and its part of the stream's memory.
#[derive(Debug)]
pub(crate) struct OpenPack {
    pub(crate) builder: PackBuilder,
    slot: OwnedSemaphorePermit,
}

/// A full pack, and its part of the stream's memory.
#[derive(Debug)]
pub(crate) struct FullPack {
    sealed: SealedPack,
    slot: OwnedSemaphorePermit,
}

impl OpenPack {
    /// Whether the pack has reached its size.
    pub(crate) fn is_full(&self, share: &Share) -> bool {
        self.builder.len() >= share.pack_target
    }

    /// Writes out what is in memory, if the store takes parts of packs and it is worth it. Best when all of it
    /// is hashed, or it is hashed alone, which takes longer than along with others.
    pub(crate) fn write_out(&mut self, store: &Store) -> Result<()> {
        if store.takes_pack_files() && self.builder.held() >= WORTH_WRITING {
            self.builder.write_out(store)?;
        }
        Ok(())
    }

    /// Writes out what is worth it and gives the buffer back: it may be long until the stream's next turn.
    pub(crate) fn leave_memory(&mut self, store: &Store) -> Result<()> {
        self.write_out(store)?;
        if self.builder.held() == 0 {
            self.builder.give_back();
        }
        Ok(())
    }

    /// Makes room for content of this length. False: the pack should be ended first, for its buffer
    /// is full and would have to be moved.
    pub(crate) fn make_room(
        &mut self,
        length: usize,
        share: &Share,
        resources: &Resources,
        store: &Store,
    ) -> Result<bool> {
        let length = ENCODED_MARGIN + length + length / 128;
        if self.builder.held() + length <= self.builder.capacity() {
            return Ok(true);
        }
        let buffer = if store.takes_pack_files() {
            self.write_out(store)?;
            FILE_BUFFER
        } else if self.builder.len() >= share.pack_target / 2 {
            return Ok(false);
        } else {
            share.pack_target + OVERSHOOT
        };
        let needed = self.builder.held() + length;
        // What will not become a large pack stays small.
        let all = if needed > buffer / 8 { buffer } else { 0 };
        self.builder.reserve(needed.max(all), resources.buffers());
        Ok(true)
    }

    /// Ends the pack: some milliseconds of work.
    pub(crate) fn seal(self, vault: &Vault) -> Result<FullPack> {
        Ok(FullPack { sealed: self.builder.seal(&vault.key, &vault.store)?, slot: self.slot })
    }
}

impl Packer {
    pub(crate) fn new(
        vault: Arc<Vault>,
        resources: Resources,
        lock: LockWatch,
        uploads: usize,
    ) -> Self {
        let state = State {
            idle: Vec::new(),
            running: JoinSet::new(),
            uploaded: Vec::new(),
            indexed: Vec::new(),
            last_index: Instant::now(),
        };
        Self {
            vault,
            resources,
            lock,
            uploads: uploads.max(1),
            full_sized: false,
            lanes: Arc::new(Semaphore::new(LANE_UNITS as usize)),
            slots: Arc::new(Semaphore::new(PACK_UNITS as usize)),
            state: Mutex::new(state),
        }
    }

    /// Makes packs as large as restic does: for maintenance, which is alone.
    pub(crate) fn full_sized(self) -> Self {
        Self { full_sized: true, ..self }
    }

    /// Where packs are while they are filled.
    pub(crate) fn packs(&self) -> Packs {
        if self.vault.store.takes_pack_files() { Packs::InFiles } else { Packs::InMemory }
    }

    /// What may be held at a time.
    pub(crate) fn share(&self) -> Share {
        let share = self.resources.share(self.packs());
        if self.full_sized { Share { pack_target: TARGET_LEN, ..share } } else { share }
    }

    /// The right to fill a pack, for as long as the permit is held.
    pub(crate) async fn lane(&self) -> Result<OwnedSemaphorePermit> {
        acquire(&self.lanes, part(LANE_UNITS, self.share().lanes)).await
    }

    /// A pack to put blobs into. Waits while too many packs are on their way: that is the
    /// back-pressure. Hand it back with [`put_back`](Self::put_back) or [`upload`](Self::upload).
    pub(crate) async fn open(&self, kind: BlobKind) -> Result<OpenPack> {
        {
            let idle = &mut self.state.lock().idle;
            if let Some(at) = idle.iter().rposition(|(of, _)| *of == kind) {
                return Ok(idle.swap_remove(at).1);
            }
        }
        let share = self.share();
        let units = part(PACK_UNITS, share.packs.min(share.lanes + self.uploads));
        let slot = match Arc::clone(&self.slots).try_acquire_many_owned(units) {
            Ok(slot) => slot,
            Err(_) => {
                // Packs of the other kind, or of times with more lanes, must not keep us waiting.
                self.upload_idle().await?;
                acquire(&self.slots, units).await?
            }
        };
        Ok(OpenPack { builder: PackBuilder::default(), slot })
    }

    /// Takes a pack back that is not full.
    pub(crate) async fn put_back(&self, kind: BlobKind, pack: OpenPack) -> Result<()> {
        let lanes = self.share().lanes;
        let idle = self.state.lock().idle.iter().filter(|(of, _)| *of == kind).count();
        if idle < lanes || pack.builder.is_empty() {
            self.state.lock().idle.push((kind, pack));
            return Ok(());
        }
        self.seal_and_upload(pack).await
    }

    /// Begins to upload a full pack.
    pub(crate) async fn upload(&self, pack: FullPack) -> Result<()> {
        self.lock.ensure_held()?;
        let due = {
            let mut state = self.state.lock();
            state.collect_finished()?;
            state.running.spawn(send(Arc::clone(&self.vault), pack));
            state.index_is_due()
        };
        if due { self.write_index().await } else { Ok(()) }
    }

    /// Puts a sealed blob into a pack.
    pub(crate) async fn add(&self, kind: BlobKind, id: Id, blob: &SealedBlob) -> Result<()> {
        let mut pack = self.open(kind).await?;
        let share = self.share();
        let (length, store) = (blob.sealed.len(), &self.vault.store);
        if !pack.make_room(length, &share, &self.resources, store)? {
            self.seal_and_upload(pack).await?;
            pack = self.open(kind).await?;
            pack.make_room(length, &share, &self.resources, store)?;
        }
        pack.builder.add(kind, id, |out| {
            out.extend_from_slice(&blob.sealed);
            Ok(blob.raw_length)
        })?;
        if pack.is_full(&share) {
            self.seal_and_upload(pack).await
        } else {
            self.put_back(kind, pack).await
        }
    }

    /// Uploads what is open, waits for all packs, and writes the index files for them. Afterwards
    /// every blob that was added can be found by everybody.
    pub(crate) async fn finish(&self) -> Result<Vec<(Id, Vec<IndexedPack>)>> {
        self.upload_idle().await?;
        let mut running = std::mem::take(&mut self.state.lock().running);
        while let Some(finished) = running.join_next().await {
            self.state.lock().finished(finished)?;
        }
        self.write_index().await?;
        Ok(std::mem::take(&mut self.state.lock().indexed))
    }

    async fn upload_idle(&self) -> Result<()> {
        let idle = std::mem::take(&mut self.state.lock().idle);
        for pack in self.together(idle)? {
            self.seal_and_upload(pack).await?;
        }
        Ok(())
    }

    /// Several lanes must not leave several small packs where one can hold all.
    fn together(&self, idle: Vec<(BlobKind, OpenPack)>) -> Result<Vec<OpenPack>> {
        let mut packs: Vec<(BlobKind, OpenPack)> = Vec::new();
        for (kind, pack) in idle {
            let length = pack.builder.len();
            let host = packs
                .iter_mut()
                .find(|(of, host)| *of == kind && host.builder.len() + length <= TARGET_LEN / 2);
            match host {
                Some((_, host)) => {
                    let all = host.builder.held() + length;
                    host.builder.reserve(all, self.resources.buffers());
                    host.builder.absorb(pack.builder, &self.vault.store)?;
                }
                None => packs.push((kind, pack)),
            }
        }
        Ok(packs.into_iter().map(|(_, pack)| pack).collect())
    }

    async fn seal_and_upload(&self, pack: OpenPack) -> Result<()> {
        if pack.builder.is_empty() {
            return Ok(());
        }
        let vault = Arc::clone(&self.vault);
        let seal = move || pack.seal(&vault);
        let full = self.resources.compute("seal a pack", seal).await??;
        self.upload(full).await
    }

    async fn write_index(&self) -> Result<()> {
        self.lock.ensure_held()?;
        let uploaded = {
            let mut state = self.state.lock();
            state.last_index = Instant::now();
            std::mem::take(&mut state.uploaded)
        };
        for packs in index_file::split(uploaded) {
            let id = self.vault.save(FileKind::Index, &index_file::encode(&packs)?).await?;
            self.state.lock().indexed.push((id, packs));
        }
        Ok(())
    }
}

async fn acquire(semaphore: &Arc<Semaphore>, units: u32) -> Result<OwnedSemaphorePermit> {
    let permit = Arc::clone(semaphore).acquire_many_owned(units).await;
    permit.map_err(|closed| Error::internal("wait for room", closed))
}

fn part(whole: u32, count: usize) -> u32 {
    whole / u32::try_from(count).unwrap_or(whole).clamp(1, whole)
}

async fn send(vault: Arc<Vault>, pack: FullPack) -> Result<IndexedPack> {
    let FullPack { sealed: SealedPack { pack, content }, slot } = pack;
    let name = FileKind::Pack.name(&pack.id);
    match content {
        Content::Memory(content) => vault.store.put(&name, content).await?,
        Content::File(file) => vault.store.place(&name, file).await?,
    }
    drop(slot);
    Ok(pack)
}

impl State {
    fn collect_finished(&mut self) -> Result<()> {
        while let Some(finished) = self.running.try_join_next() {
            self.finished(finished)?;
        }
        Ok(())
    }

    fn finished(&mut self, upload: Result<Result<IndexedPack>, JoinError>) -> Result<()> {
        self.uploaded.push(upload.map_err(|died| Error::internal("upload a pack", died))??);
        Ok(())
    }

    fn index_is_due(&self) -> bool {
        let blobs: usize = self.uploaded.iter().map(|pack| pack.blobs.len()).sum();
        blobs >= index_file::MAX_BLOBS || (blobs > 0 && self.last_index.elapsed() >= INDEX_EVERY)
    }
}
