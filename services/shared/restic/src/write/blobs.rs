//! From chunks to packs: named, looked up, and if they are new, encoded straight into a pack.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;

use super::Session;
use crate::buffers::Buffer;
use crate::codec::Codec;
use crate::error::{Error, Result};
use crate::id::Id;
use crate::pack::BlobKind;
use crate::packer::{FullPack, OpenPack};

/// Content, and its part of the stream's memory, which is free for others as soon as the content is in a pack or needs
/// none: whoever waits for it may be what the next processor waits for.
#[derive(Debug)]
pub(super) struct Chunk {
    content: Buffer,
    _permit: Option<OwnedSemaphorePermit>,
}

impl Chunk {
    pub(super) const fn new(content: Buffer, permit: Option<OwnedSemaphorePermit>) -> Self {
        Self { content, _permit: permit }
    }
}

/// Some blobs on their way into packs. Several at once, because their hashes are quicker together.
struct Job {
    kind: BlobKind,
    chunks: Vec<Chunk>,
    /// Of all chunks, in their order, once they are hashed.
    ids: Option<Vec<Id>>,
    /// What is new and not in a pack yet.
    new: VecDeque<(Id, Chunk)>,
}

/// The pack after a computation.
enum Pack {
    Open(OpenPack),
    Full(FullPack),
}

impl Session {
    /// Stores blobs, those apart that are there already, and gives their ids.
    pub(super) async fn store_blobs(
        self: &Arc<Self>,
        kind: BlobKind,
        chunks: Vec<Chunk>,
    ) -> Result<Vec<Id>> {
        let resources = &self.repository.resources;
        let _lane = self.packer.lane().await?;
        let mut job = Job { kind, chunks, ids: None, new: VecDeque::new() };
        loop {
            let mut pack = self.packer.open(kind).await?;
            let session = Arc::clone(self);
            let work = move |codec: &mut Codec| {
                job.name(&session, &mut pack)?;
                let full = job.fill(&session, codec, &mut pack)?;
                let pack = if full {
                    Pack::Full(pack.seal(&session.repository.vault)?)
                } else {
                    if session.packer.share().crowded {
                        pack.leave_memory(&session.repository.vault.store)?;
                    }
                    Pack::Open(pack)
                };
                Ok::<_, Error>((job, pack))
            };
            let pack;
            (job, pack) = resources.compute_with_codec("encode blobs", work).await??;
            match pack {
                Pack::Open(pack) => self.packer.put_back(kind, pack).await?,
                Pack::Full(pack) => self.packer.upload(pack).await?,
            }
            if job.new.is_empty() {
                return Ok(job.ids.unwrap_or_default());
            }
        }
    }
}

impl Job {
    /// Hashes the chunks, the first time, and keeps those that are new.
    fn name(&mut self, session: &Session, pack: &mut OpenPack) -> Result<()> {
        if self.ids.is_some() {
            return Ok(());
        }
        let chunks = std::mem::take(&mut self.chunks);
        let messages: Vec<&[u8]> = chunks.iter().map(|chunk| chunk.content.as_ref()).collect();
        let ids = pack.builder.hash_along(&messages);
        pack.write_out(&session.repository.vault.store)?;
        for (id, chunk) in ids.iter().zip(chunks) {
            if session.claim(self.kind, *id) {
                self.new.push_back((*id, chunk));
            }
        }
        self.ids = Some(ids);
        Ok(())
    }

    /// Encodes what is new until the pack is full, and tells whether it is.
    fn fill(&mut self, session: &Session, codec: &mut Codec, pack: &mut OpenPack) -> Result<bool> {
        let (resources, store) = (&session.repository.resources, &session.repository.vault.store);
        let share = session.packer.share();
        while let Some((id, chunk)) = self.new.pop_front() {
            let content = &chunk.content;
            if !pack.make_room(content.len(), &share, resources, store)? {
                self.new.push_front((id, chunk));
                return Ok(true);
            }
            let packed = pack.builder.add(self.kind, id, |out| {
                session.encoder.encode(codec, self.kind, &id, content, out)
            })?;
            session.added(self.kind, content.len(), packed);
            if pack.is_full(&share) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
