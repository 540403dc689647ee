//! From chunks to packs: named, looked up, and if they are new, encoded straight into a pack.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::oneshot::error::RecvError;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::Session;
use crate::codec::Codec;
use crate::error::Result;
use crate::id::Id;
use crate::pack::BlobKind;
use crate::packer::{FullPack, OpenPack};
use crate::pieces::Pieces;

/// Jobs that a lane does in a row, at most: then it is another file's turn.
const MOST_TURNS: u32 = 16;

/// Content, and its part of the stream's memory, which is free for others as soon as the content is in a pack or needs
/// none: whoever waits for it may be what the next processor waits for.
#[derive(Debug)]
pub(super) struct Chunk {
    content: Pieces,
    _permit: Option<OwnedSemaphorePermit>,
}

impl Chunk {
    pub(super) const fn new(content: Pieces, permit: Option<OwnedSemaphorePermit>) -> Self {
        Self { content, _permit: permit }
    }
}

/// What waits for a processor and a pack, in the order of its file.
#[derive(Debug)]
pub(super) struct Queue {
    kind: BlobKind,
    jobs: Mutex<VecDeque<Job>>,
}

/// Some blobs on their way into packs. Several at once, because their hashes are quicker together.
#[derive(Debug)]
struct Job {
    chunks: Vec<Chunk>,
    /// Of all chunks, in their order, once they are hashed.
    ids: Option<Vec<Id>>,
    /// What is new and not in a pack yet.
    new: VecDeque<(Id, Chunk)>,
    /// Who waits for the ids.
    done: oneshot::Sender<Vec<Id>>,
}

/// The pack after a computation.
enum Pack {
    Open(OpenPack),
    Full(FullPack),
}

impl Session {
    /// Stores blobs, those apart that are there already, and gives their ids.
    ///
    /// The lane that comes free takes the first job that waits, whosever it is, and goes on with the next: a task for each
    /// would have to be woken, beside processors that are busy, and the lane would wait for it.
    pub(super) async fn store_blobs(
        self: &Arc<Self>,
        queue: &Arc<Queue>,
        chunks: Vec<Chunk>,
    ) -> Result<Vec<Id>> {
        let mut stored = queue.push(chunks);
        let lane = tokio::select! {
            biased;
            ids = &mut stored => return self.stored(ids).await,
            lane = self.packer.lane() => lane?,
        };
        // A job that is begun is ended here. One that is in the queue has a task that is still to come.
        let mut begun = None;
        while begun.is_some() || stored.is_empty() && !queue.is_empty() {
            let pack = self.packer.open(queue.kind).await?;
            let (session, jobs) = (Arc::clone(self), Arc::clone(queue));
            let work = move |codec: &mut Codec| jobs.fill(&session, codec, pack, begun);
            let resources = &self.repository.resources;
            let pack;
            (pack, begun) = resources.compute_with_codec("encode blobs", work).await??;
            match pack {
                Pack::Open(pack) => self.packer.put_back(queue.kind, pack).await?,
                Pack::Full(pack) => self.packer.upload(pack).await?,
            }
        }
        drop(lane);
        let ids = stored.await;
        self.stored(ids).await
    }

    /// A job that is dropped undone was that of a task that has failed, and is about to say so.
    async fn stored(&self, ids: Result<Vec<Id>, RecvError>) -> Result<Vec<Id>> {
        match ids {
            Ok(ids) => Ok(ids),
            Err(_) => {
                self.stop.cancelled().await;
                Err(self.stopped())
            }
        }
    }
}

impl Queue {
    pub(super) fn new(kind: BlobKind) -> Arc<Self> {
        Arc::new(Self { kind, jobs: Mutex::default() })
    }

    fn push(&self, chunks: Vec<Chunk>) -> oneshot::Receiver<Vec<Id>> {
        let (done, ids) = oneshot::channel();
        let job = Job { chunks, ids: None, new: VecDeque::new(), done };
        self.jobs.lock().push_back(job);
        ids
    }

    fn pop(&self) -> Option<Job> {
        self.jobs.lock().pop_front()
    }

    fn is_empty(&self) -> bool {
        self.jobs.lock().is_empty()
    }

    /// Puts what waits into a pack, first what was begun, until that is full, nothing waits any more, or others should
    /// have a turn. Gives back what is begun and does not fit.
    fn fill(
        &self,
        session: &Session,
        codec: &mut Codec,
        mut pack: OpenPack,
        mut begun: Option<Job>,
    ) -> Result<(Pack, Option<Job>)> {
        let resources = &session.repository.resources;
        for turn in 0..MOST_TURNS {
            if turn > 0 && resources.are_wanted() {
                break;
            }
            let Some(mut job) = begun.take().or_else(|| self.pop()) else { break };
            if job.done.is_closed() {
                continue;
            }
            job.name(session, self.kind, &mut pack)?;
            let full = job.fill(session, self.kind, codec, &mut pack)?;
            if job.new.is_empty() {
                // Nobody takes it any more where the file was given up.
                let _ = job.done.send(job.ids.unwrap_or_default());
            } else {
                begun = Some(job);
            }
            if full {
                return Ok((Pack::Full(pack.seal(&session.repository.vault)?), begun));
            }
        }
        if session.packer.share().crowded {
            pack.leave_memory(&session.repository.vault.store)?;
        }
        Ok((Pack::Open(pack), begun))
    }
}

impl Job {
    /// Hashes the chunks, the first time, and keeps those that are new.
    fn name(&mut self, session: &Session, kind: BlobKind, pack: &mut OpenPack) -> Result<()> {
        if self.ids.is_some() {
            return Ok(());
        }
        let chunks = std::mem::take(&mut self.chunks);
        let messages = chunks.iter().map(|chunk| chunk.content.slices()).collect();
        let ids = pack.builder.hash_along(messages);
        pack.write_out(&session.repository.vault.store)?;
        for (id, chunk) in ids.iter().zip(chunks) {
            if session.claim(kind, *id) {
                self.new.push_back((*id, chunk));
            }
        }
        self.ids = Some(ids);
        Ok(())
    }

    /// Encodes what is new until the pack is full, and tells whether it is.
    fn fill(
        &mut self,
        session: &Session,
        kind: BlobKind,
        codec: &mut Codec,
        pack: &mut OpenPack,
    ) -> Result<bool> {
        let (resources, store) = (&session.repository.resources, &session.repository.vault.store);
        let share = session.packer.share();
        while let Some((id, chunk)) = self.new.pop_front() {
            let content = &chunk.content;
            if !pack.make_room(content.len(), &share, resources, store)? {
                self.new.push_front((id, chunk));
                return Ok(true);
            }
            let packed = pack.builder.add(kind, id, |out| {
                session.encoder.encode(codec, kind, &id, &content.slices(), out)
            })?;
            session.added(kind, content.len(), packed);
            if pack.is_full(&share) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
