//! An object store in memory in which one operation goes wrong: the n-th.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, ObjectStoreExt, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The operation fails and does nothing; the next one works again.
    Refused,
    /// The operation is done, and its answer is lost.
    AnswerLost,
    /// Nothing works from then on: the process or the network is gone.
    Cut,
    /// Of what is written, the end is missing, and success is reported.
    Truncated,
    /// Of what is written, a bit is wrong, and success is reported.
    Flipped,
    /// It is answered from what was there earlier.
    Stale,
}

/// The store. Clones are the same.
#[derive(Clone, Debug)]
pub(crate) struct Flaky {
    now: Arc<InMemory>,
    earlier: Arc<InMemory>,
    fault: Option<(usize, Fault)>,
    done: Arc<AtomicUsize>,
}

impl std::fmt::Display for Flaky {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a store that fails")
    }
}

impl Flaky {
    /// A copy of `now` in which the `n`-th operation, from 0, goes wrong.
    pub(crate) fn new(now: &InMemory, earlier: &InMemory, fault: Option<(usize, Fault)>) -> Self {
        Self {
            now: Arc::new(now.fork()),
            earlier: Arc::new(earlier.fork()),
            fault,
            done: Arc::default(),
        }
    }

    /// What is in it.
    pub(crate) fn content(&self) -> Arc<InMemory> {
        Arc::clone(&self.now)
    }

    /// Operations until now.
    pub(crate) fn operations(&self) -> usize {
        self.done.load(Ordering::SeqCst)
    }

    /// Counts an operation and says what is wrong with it.
    fn next(&self) -> Option<Fault> {
        let number = self.done.fetch_add(1, Ordering::SeqCst);
        match self.fault {
            Some((at, fault)) if at == number => Some(fault),
            Some((at, Fault::Cut)) if at < number => Some(Fault::Cut),
            _ => None,
        }
    }
}

fn failed() -> Error {
    Error::Generic { store: "flaky", source: "it was made to fail".into() }
}

fn damaged(payload: &PutPayload, fault: Fault) -> PutPayload {
    let mut content: Vec<u8> = payload.iter().flat_map(|bytes| bytes.to_vec()).collect();
    let middle = content.len() / 2;
    match fault {
        Fault::Truncated => content.truncate(middle),
        _ => content[middle] ^= 4,
    }
    Bytes::from(content).into()
}

#[async_trait]
impl ObjectStore for Flaky {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        match self.next() {
            Some(Fault::Refused | Fault::Cut) => Err(failed()),
            Some(Fault::AnswerLost) => {
                self.now.put_opts(location, payload, options).await?;
                Err(failed())
            }
            Some(fault @ (Fault::Truncated | Fault::Flipped)) => {
                self.now.put_opts(location, damaged(&payload, fault), options).await
            }
            Some(Fault::Stale) | None => self.now.put_opts(location, payload, options).await,
        }
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.now.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        match self.next() {
            Some(Fault::Refused | Fault::Cut | Fault::AnswerLost) => Err(failed()),
            Some(Fault::Stale) => self.earlier.get_opts(location, options).await,
            Some(Fault::Truncated | Fault::Flipped) | None => {
                self.now.get_opts(location, options).await
            }
        }
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let store = self.clone();
        locations
            .and_then(move |location| {
                let store = store.clone();
                async move {
                    match store.next() {
                        Some(Fault::Refused | Fault::Cut) => return Err(failed()),
                        Some(Fault::AnswerLost) => {
                            store.now.delete(&location).await?;
                            return Err(failed());
                        }
                        _ => store.now.delete(&location).await?,
                    }
                    Ok(location)
                }
            })
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        match self.next() {
            Some(Fault::Refused | Fault::Cut | Fault::AnswerLost) => {
                futures::stream::once(async { Err(failed()) }).boxed()
            }
            Some(Fault::Stale) => self.earlier.list(prefix),
            Some(Fault::Truncated | Fault::Flipped) | None => self.now.list(prefix),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.now.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.now.copy_opts(from, to, options).await
    }
}

/// Writes all objects into a directory, for the restic program.
pub(crate) async fn export(content: &InMemory, folder: &std::path::Path) {
    let objects: Vec<ObjectMeta> = content.list(None).try_collect().await.unwrap();
    for object in objects {
        let path = folder.join(object.location.as_ref());
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let bytes = content.get(&object.location).await.unwrap().bytes().await.unwrap();
        std::fs::write(path, bytes).unwrap();
    }
    for folder_name in ["data", "index", "snapshots", "keys", "locks"] {
        std::fs::create_dir_all(folder.join(folder_name)).unwrap();
    }
}
