//! Streams beside each other: what one may hold, whom a slow store slows, and what is left of one that is given up.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::support::{PASSWORD, Place, backup, data, everyone, latest, noise, read};
use async_trait::async_trait;
use bytes::Bytes;
use coffer_restic::{
    BackupOptions, InitOptions, Kdf, OpenOptions, Password, ReadOptions, Repository, Resources,
    Store, Version,
};
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use tokio::sync::Semaphore;

const MIB: u64 = 1024 * 1024;
/// What a stream may hold.
const STREAM: u64 = 64 * MIB;

/// A directory whose packs wait at a gate when they are written, and count when they are read.
#[derive(Debug)]
struct Gated {
    inner: LocalFileSystem,
    gate: Semaphore,
    waiting: Arc<AtomicUsize>,
    written: AtomicU64,
    reads: AtomicU64,
}

impl Gated {
    fn new(place: &Place) -> Arc<Self> {
        Arc::new(Self {
            inner: LocalFileSystem::new_with_prefix(place.path()).unwrap(),
            gate: Semaphore::new(0),
            waiting: Arc::default(),
            written: AtomicU64::new(0),
            reads: AtomicU64::new(0),
        })
    }

    fn open(&self) {
        self.gate.add_permits(Semaphore::MAX_PERMITS / 2);
    }

    fn waiting(&self) -> usize {
        self.waiting.load(Ordering::SeqCst)
    }
}

/// Counts as long as it lives, also when what waits is dropped.
struct Waiting(Arc<AtomicUsize>);

impl Waiting {
    fn at(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(count))
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl std::fmt::Display for Gated {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("gated")
    }
}

#[async_trait]
impl ObjectStore for Gated {
    async fn put_opts(&self, to: &Path, what: PutPayload, how: PutOptions) -> Result<PutResult> {
        let length = what.content_length() as u64;
        if to.as_ref().starts_with("data/") {
            let waiting = Waiting::at(&self.waiting);
            self.gate.acquire().await.unwrap().forget();
            drop(waiting);
        }
        let done = self.inner.put_opts(to, what, how).await;
        self.written.fetch_add(length, Ordering::SeqCst);
        done
    }

    async fn put_multipart_opts(
        &self,
        to: &Path,
        how: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(to, how).await
    }

    async fn get_opts(&self, from: &Path, how: GetOptions) -> Result<GetResult> {
        if from.as_ref().starts_with("data/") && !how.head {
            self.reads.fetch_add(1, Ordering::SeqCst);
        }
        self.inner.get_opts(from, how).await
    }

    async fn get_ranges(&self, from: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.inner.get_ranges(from, ranges).await
    }

    fn delete_stream(
        &self,
        names: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(names)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, how: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, how).await
    }
}

/// A repository in a place, over a store.
async fn init(objects: Arc<dyn ObjectStore>, resources: &Resources) -> Repository {
    let kdf = Kdf { log_n: 10, r: 8, p: 1 };
    let init = InitOptions { version: Version::V2, kdf };
    let options = OpenOptions { resources: resources.clone(), ..crate::support::options() };
    let store = Store::new(objects, "gated");
    Repository::init(store, &Password::new(PASSWORD), &init, options).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_store_slows_its_own_sender_and_takes_no_more_memory() {
    let resources = Resources::new(2);
    let (slow, quick) = (Place::new(), Place::new());
    let store = Gated::new(&slow);
    let repository = init(store.clone(), &resources).await;
    let (writing, at) = (repository.clone(), Arc::clone(&store));
    let sender = tokio::spawn(async move {
        let before = at.written.load(Ordering::SeqCst);
        let mut snapshot = writing.backup(BackupOptions::default()).await.unwrap();
        let mut file = snapshot.file("/dump").unwrap();
        for piece in 0..160 {
            file.write(noise(piece)).await.unwrap();
            let held = (piece + 1) * MIB - at.written.load(Ordering::SeqCst).saturating_sub(before);
            assert!(held <= STREAM, "{held} bytes are held");
        }
        file.finish().await.unwrap();
        snapshot.commit().await.unwrap()
    });
    crate::support::until("packs at the gate", || store.waiting() >= 3).await;

    // Meanwhile another stream of the same process goes its way.
    let other = init(Arc::new(LocalFileSystem::new_with_prefix(quick.path()).unwrap()), &resources);
    let (other, content) = (other.await, data(1, 30_000_000));
    backup(&other, BackupOptions::default(), &[("/a", &content)]).await.unwrap();
    let snapshot = latest(&other).await;
    assert!(read(&other, &snapshot, "/a", ReadOptions::default()).await.unwrap() == content);
    assert!(!sender.is_finished());

    store.open();
    let summary = sender.await.unwrap();
    assert_eq!(summary.total_bytes_processed, 160 * MIB);
    slow.restic_check().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_that_is_dropped_stops_at_once_and_leaves_nothing() {
    let place = Place::new();
    let store = Gated::new(&place);
    let repository = init(store.clone(), &Resources::new(2)).await;
    let mut snapshot = repository.backup(BackupOptions::default()).await.unwrap();
    let mut file = snapshot.file("/dump").unwrap();
    let mut piece = 0;
    while store.waiting() < 2 {
        // With the gate shut a write may wait for good; its packs are at the gate by then.
        tokio::select! {
            written = file.write(noise(piece)) => written.unwrap(),
            () = crate::support::until("packs at the gate", || store.waiting() >= 2) => break,
        }
        piece += 1;
    }
    drop(snapshot);
    let error = file.write(noise(0)).await.unwrap_err();
    assert_eq!(error.kind(), coffer_restic::Kind::Cancelled, "{error}");
    drop(file);
    crate::support::until("the uploads to be dropped", || store.waiting() == 0).await;
    crate::support::until("the lock to go", || place.files("locks").is_empty()).await;
    assert_eq!(store.written.load(Ordering::SeqCst) / MIB, 0, "no pack was written");
    assert_eq!(repository.snapshots(&everyone()).await.unwrap(), []);
    place.restic_check().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reading_fetches_neighbours_together_and_resumes_anywhere() {
    let place = Place::new();
    let store = Gated::new(&place);
    store.open();
    // One processor fills one pack after the other; with two, neighbours may lie in different ones.
    let repository = init(store.clone(), &Resources::new(1)).await;
    let content: Vec<u8> = (0..40).flat_map(noise).collect();
    backup(&repository, BackupOptions::default(), &[("/dump", &content)]).await.unwrap();
    let snapshot = latest(&repository).await;
    let before = store.reads.load(Ordering::SeqCst);
    let reader = repository.read(&snapshot, "/dump", ReadOptions::default()).await.unwrap();
    let pieces: Vec<Bytes> = reader.try_collect().await.unwrap();
    assert!(pieces.concat() == content);
    let reads = store.reads.load(Ordering::SeqCst) - before;
    // A tree, and 40 MiB in reads of a pack each; some thirty blobs would be thirty reads one by one.
    assert!(reads <= 12, "{reads} reads");

    // Cut off anywhere, and taken up again there.
    let mut got: Vec<u8> = Vec::new();
    for pieces in [1, 5, usize::MAX] {
        let options = ReadOptions { offset: got.len() as u64, ..ReadOptions::default() };
        let reader = repository.read(&snapshot, "/dump", options).await.unwrap();
        assert_eq!(reader.len(), (content.len() - got.len()) as u64);
        let part: Vec<Bytes> = reader.take(pieces).try_collect().await.unwrap();
        got.extend(part.concat());
        let odd = got.len() - got.len() / 7 % 1000;
        got.truncate(if pieces == usize::MAX { got.len() } else { odd });
    }
    assert!(got == content);
    crate::support::until("the locks to go", || place.files("locks").is_empty()).await;
}
