//! An object store in memory in which something goes wrong: the n-th operation, the n-th write, or a thing that others can
//! do and it cannot.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, Extensions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, ObjectStoreExt, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult,
    Result,
};
use parking_lot::Mutex;

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The operation fails and does nothing; the next one works again.
    Refused,
    /// The operation is done, and its answer is lost.
    AnswerLost,
    /// Nothing works from then on: the process or the network is gone.
    Cut,
    /// Of what is written, the last byte is missing, and success is reported.
    Truncated,
    /// Of what is written, a bit is wrong, and success is reported.
    Flipped,
    /// What is written is not stored at all, and success is reported.
    Forgotten,
    /// It is answered from what was there earlier.
    Stale,
}

/// What a store cannot do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lack {
    /// There are no conditional writes.
    Create,
    /// Nobody may delete.
    Delete,
    /// Snapshots are listed, and said not to be there when they are read.
    Snapshots,
}

/// Which operations are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Counted {
    All,
    /// Those of lock files apart, which are proven in another way.
    Writes,
}

/// The store. Clones are the same.
#[derive(Clone, Debug)]
pub(crate) struct Faulty {
    now: Arc<InMemory>,
    earlier: Arc<InMemory>,
    lack: Option<Lack>,
    /// An object that is listed, and said not to be there when it is read.
    removed: Option<Path>,
    fault: Option<(usize, Fault)>,
    counted: Counted,
    /// How many repetitions of the write the fault befalls, too.
    again: usize,
    state: Arc<State>,
}

#[derive(Debug, Default)]
struct State {
    done: AtomicUsize,
    victim: Mutex<Option<Path>>,
    repeated: AtomicUsize,
}

impl std::fmt::Display for Faulty {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a faulty store")
    }
}

impl Faulty {
    fn over(now: Arc<InMemory>) -> Self {
        Self {
            earlier: Arc::clone(&now),
            now,
            lack: None,
            removed: None,
            fault: None,
            counted: Counted::All,
            again: 0,
            state: Arc::default(),
        }
    }

    /// A copy of `now` in which the `n`-th operation, from 0, goes wrong.
    pub(crate) fn copy(now: &InMemory, earlier: &InMemory, fault: Option<(usize, Fault)>) -> Self {
        Self { earlier: Arc::new(earlier.fork()), fault, ..Self::over(Arc::new(now.fork())) }
    }

    /// `now`, where the `n`-th write, from 0, goes wrong, and if `again`, every repetition of it.
    pub(crate) fn writing(now: &Arc<InMemory>, n: usize, fault: Fault, again: bool) -> Self {
        let (fault, again) = (Some((n, fault)), if again { usize::MAX } else { 0 });
        Self { fault, counted: Counted::Writes, again, ..Self::over(Arc::clone(now)) }
    }

    /// The same, and only so many repetitions of it.
    pub(crate) fn again(self, times: usize) -> Self {
        Self { again: times, ..self }
    }

    /// `now`, which cannot do something.
    pub(crate) fn lacking(now: &Arc<InMemory>, lack: Lack) -> Self {
        Self { lack: Some(lack), ..Self::over(Arc::clone(now)) }
    }

    /// The same, where an object is removed as soon as it was listed.
    pub(crate) fn without(self, removed: Path) -> Self {
        Self { removed: Some(removed), ..self }
    }

    /// What is in it.
    pub(crate) fn content(&self) -> Arc<InMemory> {
        Arc::clone(&self.now)
    }

    /// Counted operations until now.
    pub(crate) fn operations(&self) -> usize {
        self.state.done.load(Ordering::SeqCst)
    }

    /// The object whose write went wrong.
    pub(crate) fn victim(&self) -> Option<String> {
        self.state.victim.lock().as_ref().map(ToString::to_string)
    }

    /// Counts an operation that may not be a write, and says what is wrong with it.
    fn next(&self) -> Option<Fault> {
        if self.counted == Counted::All { self.count() } else { None }
    }

    /// The same for a write.
    fn next_write(&self, location: &Path) -> Option<Fault> {
        if self.counted == Counted::All {
            return self.count();
        }
        if location.as_ref().starts_with("locks/") {
            return None;
        }
        let mut victim = self.state.victim.lock();
        if victim.as_ref() == Some(location) {
            let is_next = self.state.repeated.fetch_add(1, Ordering::SeqCst) < self.again;
            return self.fault.filter(|_| is_next).map(|(_, fault)| fault);
        }
        let fault = self.count();
        if fault.is_some() {
            *victim = Some(location.clone());
        }
        fault
    }

    fn count(&self) -> Option<Fault> {
        let number = self.state.done.fetch_add(1, Ordering::SeqCst);
        match self.fault {
            Some((at, fault)) if at == number => Some(fault),
            Some((at, Fault::Cut)) if at < number => Some(Fault::Cut),
            _ => None,
        }
    }
}

fn failed() -> Error {
    Error::Generic { store: "faulty", source: "it was made to fail".into() }
}

fn damaged(payload: &PutPayload, fault: Fault) -> PutPayload {
    let mut content: Vec<u8> = payload.iter().flat_map(|bytes| bytes.to_vec()).collect();
    let middle = content.len() / 2;
    match fault {
        Fault::Truncated => drop(content.pop()),
        _ => content[middle] ^= 4,
    }
    Bytes::from(content).into()
}

#[async_trait]
impl ObjectStore for Faulty {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        if self.lack == Some(Lack::Create) && options.mode != PutMode::Overwrite {
            return Err(Error::NotSupported { source: "conditional writes".into() });
        }
        match self.next_write(location) {
            Some(Fault::Refused | Fault::Cut) => Err(failed()),
            Some(Fault::AnswerLost) => {
                self.now.put_opts(location, payload, options).await?;
                Err(failed())
            }
            Some(fault @ (Fault::Truncated | Fault::Flipped)) => {
                self.now.put_opts(location, damaged(&payload, fault), options).await
            }
            Some(Fault::Forgotten) => {
                Ok(PutResult { e_tag: None, version: None, extensions: Extensions::default() })
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
        let is_snapshot = location.as_ref().starts_with("snapshots/");
        if (self.lack == Some(Lack::Snapshots) && is_snapshot)
            || self.removed.as_ref() == Some(location)
        {
            let (path, source) = (location.to_string(), "it was made to be missing".into());
            return Err(Error::NotFound { path, source });
        }
        match self.next() {
            Some(Fault::Refused | Fault::Cut | Fault::AnswerLost) => Err(failed()),
            Some(Fault::Stale) => self.earlier.get_opts(location, options).await,
            Some(Fault::Truncated | Fault::Flipped | Fault::Forgotten) | None => {
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
                    if store.lack == Some(Lack::Delete) {
                        let (path, source) = (location.to_string(), "deletion is denied".into());
                        return Err(Error::PermissionDenied { path, source });
                    }
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
            Some(Fault::Truncated | Fault::Flipped | Fault::Forgotten) | None => {
                self.now.list(prefix)
            }
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
