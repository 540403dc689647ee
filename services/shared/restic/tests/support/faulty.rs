//! Stores that lie about the n-th write, and stores that lack what others have.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{BoxStream, StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{
    CopyOptions, Extensions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use parking_lot::Mutex;

/// What is wrong with the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The write is stored without its last byte, and acknowledged.
    Truncate,
    /// The write is stored with a bit flipped, and acknowledged.
    Flip,
    /// The write is not stored at all, and acknowledged.
    Forget,
    /// The write is stored, and reported as failed.
    LoseAnswer,
    /// There are no conditional writes.
    NoCreate,
    /// Nobody may delete.
    NoDelete,
}

/// A faulty store. A fault of writes befalls the `at`-th one, and, if `again`, every repetition of it.
#[derive(Debug)]
pub(crate) struct Faulty {
    inner: Arc<dyn ObjectStore>,
    fault: Fault,
    at: usize,
    pub(crate) again: bool,
    writes: AtomicUsize,
    victim: Mutex<Option<Path>>,
}

impl Faulty {
    pub(crate) fn new(inner: Arc<dyn ObjectStore>, fault: Fault, at: usize) -> Self {
        let (writes, victim) = (AtomicUsize::new(0), Mutex::default());
        Self { inner, fault, at, again: false, writes, victim }
    }

    /// The object whose write went wrong.
    pub(crate) fn victim(&self) -> Option<String> {
        self.victim.lock().as_ref().map(ToString::to_string)
    }

    fn befalls(&self, location: &Path) -> bool {
        // Locks are proven in another way.
        let of_writes = !matches!(self.fault, Fault::NoCreate | Fault::NoDelete);
        if !of_writes || location.as_ref().starts_with("locks/") {
            return false;
        }
        let mut victim = self.victim.lock();
        if self.again && victim.as_ref() == Some(location) {
            return true;
        }
        let now = self.writes.fetch_add(1, Ordering::SeqCst) == self.at;
        if now {
            *victim = Some(location.clone());
        }
        now
    }
}

impl fmt::Display for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Faulty({})", self.inner)
    }
}

#[async_trait]
impl ObjectStore for Faulty {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        if self.fault == Fault::NoCreate && options.mode != PutMode::Overwrite {
            return Err(object_store::Error::NotSupported { source: "conditional writes".into() });
        }
        if !self.befalls(location) {
            return self.inner.put_opts(location, payload, options).await;
        }
        let mut content = Bytes::from(payload).to_vec();
        match self.fault {
            Fault::Truncate => content.truncate(content.len() - 1),
            Fault::Flip => {
                let middle = content.len() / 2;
                content[middle] ^= 4;
            }
            Fault::Forget => {
                let extensions = Extensions::default();
                return Ok(PutResult { e_tag: None, version: None, extensions });
            }
            Fault::LoseAnswer | Fault::NoCreate | Fault::NoDelete => {
                self.inner.put_opts(location, content.into(), options).await?;
                let source = "the answer was lost".into();
                return Err(object_store::Error::Generic { store: "Faulty", source });
            }
        }
        self.inner.put_opts(location, content.into(), options).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.inner.get_opts(location, options).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        if self.fault != Fault::NoDelete {
            return self.inner.delete_stream(locations);
        }
        let denied = |path: Path| async move {
            let source = "deletion is denied".into();
            Err(object_store::Error::PermissionDenied { path: path.to_string(), source })
        };
        locations.and_then(denied).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}
