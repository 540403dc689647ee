//! Byte streams → one snapshot, in bounded memory.
//!
//! The order is the safety: packs, then the index, then (if our lock still stands, or everything we
//! rely on is provably there) the snapshot file. Until that last write nothing refers to anything
//! new, so giving up at any moment, by error, by drop or by a crash, leaves only what prune removes.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::encode::Encoder;
use crate::error::{Error, Kind, Result};
use crate::id::Id;
use crate::lock::{Continuity, Lock, Mode};
use crate::options::BackupOptions;
use crate::pack::BlobKind;
use crate::packer::Packer;
use crate::repository::{Inner, Repository};
use crate::resources::Stream;
use crate::snapshot::{Snapshot, SnapshotSummary};
use crate::store::FileKind;
use crate::tree::{self, FileNode, Folder};

mod blobs;
mod confirm;
mod file;
use blobs::{Chunk, Queue};
pub use file::{FileSummary, FileWriter};

/// A semaphore's whole, which stands for the content that a stream may hold between the chunker and the
/// packs. A chunk takes its part of it, never more than all.
const CONTENT_UNITS: u32 = 1 << 16;

/// A snapshot being written.
///
/// Any number of files can be open at a time. [`commit`](Self::commit) makes the snapshot; dropping
/// the writer, or the future of a commit, makes none and stops all work.
#[derive(Debug)]
pub struct SnapshotWriter {
    session: Arc<Session>,
    lock: Option<Lock>,
    /// Stops the open files and their uploads when the writer goes.
    _stop: DropGuard,
}

/// What a commit did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupSummary {
    /// The snapshot.
    pub snapshot: Id,
    /// Its root tree.
    pub tree: Id,
    /// Files in it.
    pub files: u64,
    /// Bytes read from the callers, all files together.
    pub total_bytes_processed: u64,
    /// Bytes of new blobs, before compression.
    pub data_added: u64,
    /// Bytes of new blobs as they lie in packs.
    pub data_added_packed: u64,
    /// New data blobs.
    pub data_blobs: u64,
    /// New tree blobs.
    pub tree_blobs: u64,
    /// Blobs that were there already, or came twice.
    pub deduplicated_blobs: u64,
}

/// What the files of a snapshot share.
#[derive(Debug)]
struct Session {
    repository: Arc<Inner>,
    options: BackupOptions,
    begun: DateTime<Utc>,
    encoder: Arc<Encoder>,
    packer: Packer,
    budget: Arc<Semaphore>,
    stop: CancellationToken,
    state: Mutex<State>,
    /// Counts in the shares of all streams.
    _stream: Stream,
}

#[derive(Debug, Default)]
struct State {
    /// Blobs that this snapshot has put into packs, or is about to.
    claimed: HashSet<(BlobKind, Id)>,
    files: BTreeMap<String, Option<FileNode>>,
    counts: Counts,
    failure: Option<(String, Kind)>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    total_bytes: u64,
    added: u64,
    added_packed: u64,
    data_blobs: u64,
    tree_blobs: u64,
    deduplicated: u64,
}

impl Repository {
    /// Begins a snapshot: takes a shared lock and brings the index up to date.
    ///
    /// # Errors
    /// [`Error::Locked`] if an exclusive lock stands too long; errors of the store.
    pub async fn backup(&self, options: BackupOptions) -> Result<SnapshotWriter> {
        let begun = Utc::now();
        let inner = Arc::clone(&self.inner);
        let vault = &inner.vault;
        let (level, verify) = (options.compression, options.verify);
        let buffers = inner.resources.buffers().clone();
        let encoder = Encoder::new(vault.key.clone(), vault.version, level, verify, buffers)?;
        let lock = inner.lock_and_refresh().await?;
        let packer =
            Packer::new(Arc::clone(vault), inner.resources.clone(), lock.watch(), options.uploads);
        let stop = CancellationToken::new();
        let stream = inner.resources.enter(packer.packs());
        let session = Session {
            repository: inner,
            options,
            begun,
            encoder,
            packer,
            budget: Arc::new(Semaphore::new(CONTENT_UNITS as usize)),
            stop: stop.clone(),
            state: Mutex::default(),
            _stream: stream,
        };
        Ok(SnapshotWriter {
            session: Arc::new(session),
            lock: Some(lock),
            _stop: stop.drop_guard(),
        })
    }
}

impl SnapshotWriter {
    /// Begins a file at an absolute path. It must be finished before the commit.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a path that is taken or not plain.
    pub fn file(&mut self, path: &str) -> Result<FileWriter> {
        tree::check_path(path)?;
        self.session.ensure_running()?;
        let mut state = self.session.state.lock();
        if state.files.contains_key(path) {
            return Err(Error::invalid(format!("file {path}"), "is in the snapshot already"));
        }
        state.files.insert(path.into(), None);
        drop(state);
        Ok(FileWriter::new(Arc::clone(&self.session), path.into()))
    }

    /// Writes everything out, and the snapshot file last.
    ///
    /// # Errors
    /// [`Error::Invalid`] if a file is not finished or there is none; [`Error::LockLost`] or
    /// [`Error::MissingPack`] or [`Error::MissingBlob`] if somebody removed our lock and data with it; errors of the store.
    /// In every case no snapshot exists, unless the store did the last write and lost its answer;
    /// the snapshot is complete then.
    pub async fn commit(mut self) -> Result<BackupSummary> {
        let Some(lock) = self.lock.take() else {
            return Err(self.session.stopped());
        };
        let committed = self.session.commit(&lock).await;
        lock.release().await;
        committed
    }

    /// Gives up, and waits until the lock is released.
    pub async fn abort(mut self) {
        self.session.stop.cancel();
        if let Some(lock) = self.lock.take() {
            lock.release().await;
        }
    }
}

impl Session {
    fn ensure_running(&self) -> Result<()> {
        if self.stop.is_cancelled() { Err(self.stopped()) } else { Ok(()) }
    }

    fn stopped(&self) -> Error {
        let failure = self.state.lock().failure.clone();
        let (reason, kind) =
            failure.unwrap_or_else(|| ("it was cancelled".into(), Kind::Cancelled));
        Error::Stopped { reason, kind }
    }

    /// Notes the first failure and stops everything else of this snapshot.
    fn fail(&self, error: &Error) {
        self.state.lock().failure.get_or_insert_with(|| (error.chain(), error.kind()));
        self.stop.cancel();
    }

    /// Counts a blob that was put into a pack.
    fn added(&self, kind: BlobKind, length: usize, packed: u32) {
        let mut state = self.state.lock();
        let counts = &mut state.counts;
        counts.added += length as u64;
        counts.added_packed += u64::from(packed);
        match kind {
            BlobKind::Data => counts.data_blobs += 1,
            BlobKind::Tree => counts.tree_blobs += 1,
        }
    }

    /// Whether this blob is ours to write: neither known to the index nor claimed before.
    fn claim(&self, kind: BlobKind, id: Id) -> bool {
        let known = self.repository.index.get(kind, &id).is_some();
        let mut state = self.state.lock();
        let new = !known && state.claimed.insert((kind, id));
        if !new {
            state.counts.deduplicated += 1;
        }
        new
    }

    async fn commit(self: &Arc<Self>, lock: &Lock) -> Result<BackupSummary> {
        self.ensure_running()?;
        let paths = self.paths()?;
        let files = std::mem::take(&mut self.state.lock().files);
        let file_count = files.len() as u64;
        let (tree, dirs) = self.save_trees(files).await?;
        let written = self.packer.finish().await?;
        for (index, packs) in &written {
            self.repository.index.add_file(*index, packs);
        }
        let snapshot = self.snapshot(tree, paths, self.summary(file_count, dirs));
        let json = snapshot.encode()?;

        let (continuity, ()) = tokio::try_join!(
            lock.continuity(&self.repository.locker),
            self.repository.ensure_same()
        )?;
        let id = match continuity {
            Continuity::Unbroken => self.save_snapshot(&json).await?,
            Continuity::Broken => {
                // Somebody removed our lock, so a prune may have run or be running. Lock again:
                // that waits for a running one and keeps later ones out. Then trust only the store.
                let again = Lock::acquire(&self.repository.locker, Mode::Shared).await?;
                let confirmed = async {
                    self.repository.ensure_same().await?;
                    self.confirm(&snapshot, &written).await?;
                    if again.continuity(&self.repository.locker).await? == Continuity::Broken {
                        let problem = "it was removed by others, twice".into();
                        return Err(Error::LockLost { problem });
                    }
                    self.save_snapshot(&json).await
                };
                let saved = confirmed.await;
                again.release().await;
                saved?
            }
        };
        let counts = self.state.lock().counts;
        Ok(BackupSummary {
            snapshot: id,
            tree,
            files: file_count,
            total_bytes_processed: counts.total_bytes,
            data_added: counts.added,
            data_added_packed: counts.added_packed,
            data_blobs: counts.data_blobs,
            tree_blobs: counts.tree_blobs,
            deduplicated_blobs: counts.deduplicated,
        })
    }

    async fn save_snapshot(&self, json: &[u8]) -> Result<Id> {
        self.repository.vault.save(FileKind::Snapshot, json).await
    }

    /// The paths the snapshot is listed under, once it is certain that all files are finished.
    fn paths(&self) -> Result<Vec<String>> {
        let state = self.state.lock();
        if state.files.is_empty() {
            return Err(Error::invalid("the snapshot", "has no file"));
        }
        if let Some((path, _)) = state.files.iter().find(|(_, file)| file.is_none()) {
            return Err(Error::invalid(format!("file {path}"), "is not finished"));
        }
        if self.options.paths.is_empty() {
            Ok(state.files.keys().cloned().collect())
        } else {
            Ok(self.options.paths.clone())
        }
    }

    /// The id of the root, and how many directories are below it.
    async fn save_trees(
        self: &Arc<Self>,
        files: BTreeMap<String, Option<FileNode>>,
    ) -> Result<(Id, u64)> {
        let mut root = Folder::default();
        for (path, file) in files {
            if let Some(file) = file {
                root.insert(&path, file)?;
            }
        }
        let mut trees = Vec::new();
        let root = root.encode(self.options.time, &mut |json| {
            let id = Id::of(&json);
            trees.push(Chunk::new(json.into(), None));
            id
        })?;
        let dirs = trees.len().saturating_sub(1) as u64;
        self.store_blobs(&Queue::new(BlobKind::Tree), trees).await?;
        Ok((root, dirs))
    }

    /// What was done, now that all data are written.
    fn summary(&self, files: u64, dirs: u64) -> SnapshotSummary {
        let counts = self.state.lock().counts;
        SnapshotSummary {
            backup_end: Utc::now().fixed_offset(),
            files_new: files,
            dirs_new: dirs,
            data_blobs: counts.data_blobs,
            tree_blobs: counts.tree_blobs,
            data_added: counts.added,
            data_added_packed: counts.added_packed,
            total_files_processed: files,
            total_bytes_processed: counts.total_bytes,
            ..SnapshotSummary::of_nothing(self.begun.fixed_offset())
        }
    }

    fn snapshot(&self, tree: Id, paths: Vec<String>, summary: SnapshotSummary) -> Snapshot {
        let options = &self.options;
        Snapshot {
            id: tree,
            time: options.time,
            parent: None,
            tree,
            paths,
            hostname: options.host.clone(),
            username: options.username.clone(),
            uid: 0,
            gid: 0,
            excludes: Vec::new(),
            tags: options.tags.clone(),
            original: None,
            program_version: options.program_version.clone(),
            summary: Some(summary),
        }
    }
}

#[cfg(test)]
mod tests;
