//! One file of a snapshot being written: chunks are cut while the caller fetches more bytes, and
//! encoded while the next ones are cut.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use tokio_util::task::AbortOnDropHandle;

use super::blobs::{Chunk, Queue};
use super::{CONTENT_UNITS, Session};
use crate::buffers::Buffer;
use crate::chunker::Chunker;
use crate::error::{Error, Result};
use crate::id::Id;
use crate::pack::BlobKind;
use crate::pieces::Pieces;
use crate::tree::FileNode;

/// Input is gathered in blocks of this size, which are handed to the chunker: large enough that the hand-over costs
/// nothing, small enough for memory. What comes in may be a byte of a megabyte that it keeps, and is not ours to count.
const BLOCK: usize = 1024 * 1024;
/// Chunks that are stored by one task.
const TOGETHER: usize = 2;

/// One finished file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileSummary {
    /// Its path in the snapshot.
    pub path: String,
    /// Its length in bytes.
    pub size: u64,
    /// How many chunks it was cut into.
    pub chunks: u64,
}

/// One file being written. Independent of others of the same snapshot; several can be filled at the
/// same time, from different tasks. Dropped unfinished, it keeps its snapshot from being committed.
#[derive(Debug)]
pub struct FileWriter {
    session: Arc<Session>,
    path: String,
    size: u64,
    block: Buffer,
    /// `None` only while a call is under way; found so, an earlier call was dropped half way.
    chunker: Option<Cutting>,
    queue: Arc<Queue>,
    /// Chunks being encoded and packed, in the file's order.
    pending: VecDeque<AbortOnDropHandle<Result<Vec<Id>>>>,
    content: Vec<Id>,
    /// Chunks that wait for a second one: two are hashed more quickly than one after the other.
    waiting: Vec<Chunk>,
}

#[derive(Debug)]
enum Cutting {
    Idle(Chunker),
    Running(AbortOnDropHandle<Result<(Chunker, Vec<Pieces>)>>),
}

impl FileWriter {
    pub(super) fn new(session: Arc<Session>, path: String) -> Self {
        let chunker = Chunker::new(Arc::clone(&session.repository.tables));
        Self {
            session,
            path,
            size: 0,
            block: Buffer::default(),
            chunker: Some(Cutting::Idle(chunker)),
            queue: Queue::new(BlobKind::Data),
            pending: VecDeque::new(),
            content: Vec::new(),
            waiting: Vec::new(),
        }
    }

    /// Appends bytes. Waits while the snapshot's memory budget is used up: that is the back-pressure.
    ///
    /// A dropped call leaves the file unusable, since it is unknown how much of it was taken; all
    /// later calls fail.
    ///
    /// # Errors
    /// The failure of anything behind it: encoding, uploading, the lock. The first failure stops
    /// the whole snapshot.
    pub async fn write(&mut self, bytes: Bytes) -> Result<()> {
        self.session.ensure_running()?;
        self.size += bytes.len() as u64;
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            if self.block.capacity() == 0 {
                self.block = self.session.repository.resources.buffers().take(BLOCK);
            }
            let (now, later) = rest.split_at(rest.len().min(BLOCK - self.block.len()));
            self.block.extend_from_slice(now);
            rest = later;
            if self.block.len() == BLOCK {
                self.guarded(async |file| file.cut_block().await).await?;
            }
        }
        Ok(())
    }

    /// Ends the file and waits until its chunks are in packs.
    ///
    /// # Errors
    /// As for [`write`](Self::write).
    pub async fn finish(mut self) -> Result<FileSummary> {
        self.session.ensure_running()?;
        self.guarded(async |file| file.drain().await).await?;
        let content = std::mem::take(&mut self.content);
        let chunks = content.len() as u64;
        let mut state = self.session.state.lock();
        state.counts.total_bytes += self.size;
        state.files.insert(self.path.clone(), Some(FileNode { size: self.size, content }));
        drop(state);
        Ok(FileSummary { path: self.path, size: self.size, chunks })
    }

    /// Runs a step; its failure, or the stop of the snapshot, ends everything.
    async fn guarded(&mut self, step: impl AsyncFnOnce(&mut Self) -> Result<()>) -> Result<()> {
        let session = Arc::clone(&self.session);
        let result = tokio::select! {
            biased;
            () = session.stop.cancelled() => Err(session.stopped()),
            result = step(self) => result,
        };
        if let Err(error) = &result {
            session.fail(error);
        }
        result
    }

    /// Sends the block to the chunker, after the previous one's chunks are on their way.
    async fn cut_block(&mut self) -> Result<()> {
        let mut chunker = self.idle_chunker().await?;
        let block = Bytes::from(std::mem::take(&mut self.block));
        let resources = self.session.repository.resources.clone();
        let cutting = tokio::spawn(async move {
            let cut = move || {
                let mut chunks = Vec::new();
                chunker.push(block, &mut chunks);
                (chunker, chunks)
            };
            resources.compute_briefly("cut chunks", cut).await
        });
        self.chunker = Some(Cutting::Running(AbortOnDropHandle::new(cutting)));
        Ok(())
    }

    async fn idle_chunker(&mut self) -> Result<Chunker> {
        match self.chunker.take() {
            Some(Cutting::Idle(chunker)) => Ok(chunker),
            Some(Cutting::Running(cutting)) => {
                let (chunker, chunks) =
                    cutting.await.map_err(|died| Error::internal("cut chunks", died))??;
                for chunk in chunks {
                    self.dispatch(chunk).await?;
                }
                Ok(chunker)
            }
            None => {
                let problem = "an earlier write was abandoned half way";
                Err(Error::invalid(format!("file {}", self.path), problem))
            }
        }
    }

    async fn drain(&mut self) -> Result<()> {
        self.cut_block().await?;
        let chunker = self.idle_chunker().await?;
        let mut chunks = Vec::new();
        chunker.finish(&mut chunks);
        for chunk in chunks {
            self.dispatch(chunk).await?;
        }
        self.store_waiting();
        while let Some(done) = self.pending.pop_front() {
            self.content.extend(joined(done).await?);
        }
        Ok(())
    }

    /// Has chunks stored by a task of its own, as soon as there are two and the budget allows.
    async fn dispatch(&mut self, content: Pieces) -> Result<()> {
        while self.pending.front().is_some_and(AbortOnDropHandle::is_finished) {
            if let Some(done) = self.pending.pop_front() {
                self.content.extend(joined(done).await?);
            }
        }
        let budget = Arc::clone(&self.session.budget);
        let cost = cost(content.len().next_multiple_of(BLOCK), self.session.packer.share().content);
        let permit = match Arc::clone(&budget).try_acquire_many_owned(cost) {
            Ok(permit) => permit,
            Err(_) => {
                // The one that waits for us may have what we wait for.
                self.store_waiting();
                let permit = budget.acquire_many_owned(cost).await;
                permit.map_err(|closed| Error::internal("budget a chunk", closed))?
            }
        };
        self.waiting.push(Chunk::new(content, Some(permit)));
        if self.waiting.len() >= TOGETHER {
            self.store_waiting();
        }
        Ok(())
    }

    fn store_waiting(&mut self) {
        if self.waiting.is_empty() {
            return;
        }
        let waiting = std::mem::take(&mut self.waiting);
        let (session, queue) = (Arc::clone(&self.session), Arc::clone(&self.queue));
        let task = tokio::spawn(async move {
            let stored = session.store_blobs(&queue, waiting).await;
            if let Err(error) = &stored {
                session.fail(error);
            }
            stored
        });
        self.pending.push_back(AbortOnDropHandle::new(task));
    }
}

/// What a chunk's blocks take of the budget, which stands for this many bytes now.
fn cost(bytes: usize, all: usize) -> u32 {
    let units = bytes as u64 * u64::from(CONTENT_UNITS) / all.max(1) as u64;
    u32::try_from(units).unwrap_or(CONTENT_UNITS).min(CONTENT_UNITS)
}

async fn joined(task: AbortOnDropHandle<Result<Vec<Id>>>) -> Result<Vec<Id>> {
    task.await.map_err(|died| Error::internal("store chunks", died))?
}
