//! Proof that a store keeps what it was given.
//!
//! A store can acknowledge a write and keep less, or something else: a proxy that cuts, a full disk
//! behind a cache, a faulty gateway. Found at the next check that would be too late, so nothing counts
//! as written before it is proven. The small documents (config, keys, index, snapshots) are always read
//! back. So are packs, byte for byte, unless the store has attested their content: then their size is
//! looked up. Locks are proven by the listing that has to show them.

use std::io::Read;

use bytes::Bytes;
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{GetResultPayload, ObjectStoreExt, PutResult};

use super::Store;
use crate::error::{Error, Result};

/// An extension of a [`PutResult`]: the store has compared a checksum of what it received with one that
/// was made of what was sent, or has answered with it. Whoever implements an object store, or stands
/// between it and its server, may attach it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attested;

/// What is wrong with a stored object, if anything.
type Verdict = std::result::Result<(), String>;

impl Store {
    /// Compares what the store has with what it was given.
    pub(super) async fn prove(
        &self,
        name: &str,
        content: &Bytes,
        answer: &PutResult,
    ) -> Result<Verdict> {
        if name.starts_with("locks/") {
            return Ok(Ok(()));
        }
        if !name.starts_with("data/") || answer.extensions.get::<Attested>().is_none() {
            return self.compare(name, content).await;
        }
        let looked_up = self.objects.head(&Path::from(name)).await;
        self.unless_missing(name, looked_up.map(|meta| sized(meta.size, content)))
    }

    async fn compare(&self, name: &str, content: &Bytes) -> Result<Verdict> {
        let answer = match self.objects.get(&Path::from(name)).await {
            Ok(answer) => answer,
            Err(error) => return self.unless_missing(name, Err(error)),
        };
        if let Err(problem) = sized(answer.meta.size, content) {
            return Ok(Err(problem));
        }
        let same = match answer.payload {
            GetResultPayload::File(mut file, _) => {
                let content = content.clone();
                let compared = tokio::task::spawn_blocking(move || same(&mut file, &content));
                let compared = compared.await.map_err(|e| Error::internal("read back", e))?;
                compared.map_err(|source| self.io_failed("read back", name, source))?
            }
            GetResultPayload::Stream(mut stream) => {
                let mut rest = content.as_ref();
                loop {
                    match stream.try_next().await.map_err(self.failed("read back", name))? {
                        None => break rest.is_empty(),
                        Some(piece) => match rest.strip_prefix(piece.as_ref()) {
                            Some(left) => rest = left,
                            None => break false,
                        },
                    }
                }
            }
        };
        Ok(if same { Ok(()) } else { Err("it holds other bytes than it was given".into()) })
    }

    fn unless_missing(
        &self,
        name: &str,
        verdict: object_store::Result<Verdict>,
    ) -> Result<Verdict> {
        match verdict {
            Ok(verdict) => Ok(verdict),
            Err(object_store::Error::NotFound { .. }) => {
                Ok(Err("it is not there after it was written".into()))
            }
            Err(error) => Err(self.failed("read back", name)(error)),
        }
    }
}

fn sized(size: u64, content: &Bytes) -> Verdict {
    if size == content.len() as u64 {
        Ok(())
    } else {
        Err(format!("it holds {size} bytes instead of {}", content.len()))
    }
}

fn same(file: &mut std::fs::File, mut content: &[u8]) -> std::io::Result<bool> {
    // It stays in the processor's caches beside what it is compared with.
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(content.is_empty()),
            n => match content.strip_prefix(&buffer[..n]) {
                Some(left) => content = left,
                None => return Ok(false),
            },
        }
    }
}
