//! Fills packs with sealed blobs and uploads the full ones, a bounded number at a time.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{Mutex, Semaphore};
use tokio::task::{JoinError, JoinSet};

use crate::encode::SealedBlob;
use crate::error::{Error, Result};
use crate::id::Id;
use crate::index_file;
use crate::lock::LockWatch;
use crate::options::Resources;
use crate::pack::{BlobKind, IndexedPack, PackBuilder};
use crate::store::FileKind;
use crate::vault::Vault;

/// Memory: the open packs (data and trees), and `uploads` packs on their way, 16 MiB each.
/// Dropping the packer stops its uploads.
#[derive(Debug)]
pub(crate) struct Packer {
    vault: Arc<Vault>,
    resources: Resources,
    lock: LockWatch,
    uploads: Arc<Semaphore>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    data: PackBuilder,
    trees: PackBuilder,
    running: JoinSet<Result<(IndexedPack, Bytes)>>,
    /// Buffers of uploaded packs: 16 MiB blocks are not left to an allocator to scatter.
    spare: Vec<Vec<u8>>,
    /// Uploaded, but in no index file yet.
    uploaded: Vec<IndexedPack>,
    /// In an index file that we wrote.
    indexed: Vec<(Id, Vec<IndexedPack>)>,
}

impl Packer {
    pub(crate) fn new(
        vault: Arc<Vault>,
        resources: Resources,
        lock: LockWatch,
        uploads: usize,
    ) -> Self {
        let uploads = Arc::new(Semaphore::new(uploads.clamp(1, 64)));
        Self { vault, resources, lock, uploads, state: Mutex::default() }
    }

    /// Puts a blob into the open pack of its kind. Waits when too many packs are on their way.
    pub(crate) async fn add(&self, kind: BlobKind, id: Id, blob: &SealedBlob) -> Result<()> {
        let mut state = self.state.lock().await;
        state.collect_finished()?;
        let open = state.open(kind);
        if !open.is_empty() && !open.has_room_for(blob.sealed.len()) {
            self.start_upload(&mut state, kind).await?;
        }
        state.open(kind).add(kind, id, &blob.sealed, blob.raw_length)?;
        // An index file now and then lets the next attempt at an interrupted backup profit.
        if state.unindexed_blobs() >= index_file::MAX_BLOBS {
            self.write_index(&mut state).await?;
        }
        Ok(())
    }

    /// Uploads what is open, waits for all packs, and writes the index files for them. Afterwards
    /// every blob that was added can be found by everybody.
    pub(crate) async fn finish(&self) -> Result<Vec<(Id, Vec<IndexedPack>)>> {
        let mut state = self.state.lock().await;
        for kind in [BlobKind::Data, BlobKind::Tree] {
            if !state.open(kind).is_empty() {
                self.start_upload(&mut state, kind).await?;
            }
        }
        while let Some(finished) = state.running.join_next().await {
            state.finished(finished)?;
        }
        self.write_index(&mut state).await?;
        Ok(std::mem::take(&mut state.indexed))
    }

    async fn start_upload(&self, state: &mut State, kind: BlobKind) -> Result<()> {
        self.lock.ensure_held()?;
        let permit = Arc::clone(&self.uploads)
            .acquire_owned()
            .await
            .map_err(|closed| Error::internal("upload a pack", closed))?;
        state.collect_finished()?;
        let next = PackBuilder::reusing(state.spare.pop().unwrap_or_default());
        let builder = std::mem::replace(state.open(kind), next);
        let (vault, resources) = (Arc::clone(&self.vault), self.resources.clone());
        state.running.spawn(async move {
            let sealing = Arc::clone(&vault);
            let sealed =
                resources.compute("seal a pack", move || builder.seal(&sealing.key)).await??;
            let name = FileKind::Pack.name(&sealed.pack.id);
            vault.store.put(&name, sealed.content.clone()).await?;
            drop(permit);
            Ok((sealed.pack, sealed.content))
        });
        Ok(())
    }

    async fn write_index(&self, state: &mut State) -> Result<()> {
        self.lock.ensure_held()?;
        for packs in index_file::split(std::mem::take(&mut state.uploaded)) {
            let id = self.vault.save(FileKind::Index, &index_file::encode(&packs)?).await?;
            state.indexed.push((id, packs));
        }
        Ok(())
    }
}

impl State {
    fn open(&mut self, kind: BlobKind) -> &mut PackBuilder {
        match kind {
            BlobKind::Data => &mut self.data,
            BlobKind::Tree => &mut self.trees,
        }
    }

    fn collect_finished(&mut self) -> Result<()> {
        while let Some(finished) = self.running.try_join_next() {
            self.finished(finished)?;
        }
        Ok(())
    }

    fn finished(&mut self, upload: Result<Result<(IndexedPack, Bytes)>, JoinError>) -> Result<()> {
        let (pack, content) = upload.map_err(|died| Error::internal("upload a pack", died))??;
        self.uploaded.push(pack);
        // Without a copy, now that the store has let go of it.
        if content.is_unique() && self.spare.len() < 2 {
            self.spare.push(content.into());
        }
        Ok(())
    }

    fn unindexed_blobs(&self) -> usize {
        self.uploaded.iter().map(|pack| pack.blobs.len()).sum()
    }
}
