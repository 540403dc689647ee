//! From chunks to packs: named, looked up, and if they are new, encoded straight into a pack.

use std::collections::VecDeque;
use std::sync::Arc;

use super::Session;
use crate::buffers::Buffer;
use crate::codec::Codec;
use crate::error::{Error, Result};
use crate::id::Id;
use crate::pack::BlobKind;
use crate::packer::{FullPack, OpenPack};

/// Some blobs on their way into packs. Several at once, because their hashes are quicker together.
struct Job {
    kind: BlobKind,
    contents: Vec<Buffer>,
    /// Of all contents, in their order, once they are hashed.
    ids: Option<Vec<Id>>,
    /// What is new and not in a pack yet.
    new: VecDeque<(Id, Buffer)>,
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
        contents: Vec<Buffer>,
    ) -> Result<Vec<Id>> {
        let resources = &self.repository.resources;
        let _lane = self.packer.lane().await?;
        let mut job = Job { kind, contents, ids: None, new: VecDeque::new() };
        loop {
            let mut pack = self.packer.open(kind).await?;
            let session = Arc::clone(self);
            let work = move |codec: &mut Codec| {
                job.name(&session, &mut pack);
                let full = job.fill(&session, codec, &mut pack)?;
                let pack = if full {
                    Pack::Full(pack.seal(&session.repository.vault)?)
                } else {
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
    /// Hashes the contents, the first time, and keeps those that are new.
    fn name(&mut self, session: &Session, pack: &mut OpenPack) {
        if self.ids.is_some() {
            return;
        }
        let contents = std::mem::take(&mut self.contents);
        let messages: Vec<&[u8]> = contents.iter().map(AsRef::as_ref).collect();
        let ids = pack.builder.hash_along(&messages);
        for (id, content) in ids.iter().zip(contents) {
            if session.claim(self.kind, *id) {
                self.new.push_back((*id, content));
            }
        }
        self.ids = Some(ids);
    }

    /// Encodes what is new until the pack is full, and tells whether it is.
    fn fill(&mut self, session: &Session, codec: &mut Codec, pack: &mut OpenPack) -> Result<bool> {
        let resources = &session.repository.resources;
        let share = resources.share();
        while let Some((id, content)) = self.new.pop_front() {
            if !pack.make_room(content.len(), &share, resources) {
                self.new.push_front((id, content));
                return Ok(true);
            }
            let packed = pack.builder.add(self.kind, id, |out| {
                session.encoder.encode(codec, self.kind, &id, &content, out)
            })?;
            session.added(self.kind, content.len(), packed);
            if pack.is_full(&share) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
