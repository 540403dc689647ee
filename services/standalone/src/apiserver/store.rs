//! Versioned objects: memory for reading, redb for keeping, one writer for order.
//!
//! ```text
//! commit(change) ──▶ channel ──▶ writer thread: check · number · fsync ──▶ state (memory) ──▶ readers, watches
//! ```
//!
//! All objects live in memory, since one machine's objects are few; the file holds the same
//! objects, one row each. A change is visible, and answered, only after its transaction is on disk.
//! Changes that wait while a transaction is written share the next one, so that the cost of a sync
//! is spread. One counter numbers all changes: it is the `resourceVersion`.

mod disk;
mod state;
mod writer;

use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

use parking_lot::{Mutex, RwLock};
use serde_json::Value;
use tokio::sync::{mpsc, oneshot, watch};

pub use disk::OpenError;
pub use state::{Event, EventKind, Key, Object, State};

/// How many changes may wait for the writer before callers wait too.
const QUEUE: usize = 1024;

/// What must hold for a change to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// No object of that key.
    Absent,
    /// The object is there with this version.
    Version(u64),
}

/// One change.
#[derive(Debug)]
pub enum Change {
    /// Creates or replaces an object; `metadata.resourceVersion` is set by the writer.
    Put {
        /// Which object.
        key: Key,
        /// The new object.
        value: Value,
        /// What must hold.
        expect: Expect,
    },
    /// Removes an object.
    Remove {
        /// Which object.
        key: Key,
        /// The state in which watchers see it last; `None`: as it is stored.
        last: Option<Value>,
        /// The version that must be there.
        version: u64,
    },
}

/// Why a change was not made.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// A create met an object of that key.
    #[error("object exists")]
    Exists,
    /// The object has another version.
    #[error("object has changed")]
    Stale,
    /// The object is not there.
    #[error("object does not exist")]
    Missing,
    /// The namespace of a new object is not there.
    #[error("namespace {0} does not exist")]
    NoNamespace(String),
    /// The file could not be written.
    #[error("write the object store: {0}")]
    Disk(String),
    /// The server is shutting down.
    #[error("the object store is closed")]
    Closed,
}

struct Request {
    change: Change,
    reply: oneshot::Sender<Result<Arc<Object>, Error>>,
}

/// The store.
#[derive(Debug)]
pub struct Store {
    state: Arc<RwLock<State>>,
    queue: Mutex<Option<mpsc::Sender<Request>>>,
    latest: watch::Receiver<u64>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl Store {
    /// Opens or creates the file and loads its objects.
    ///
    /// # Errors
    /// When the file cannot be opened, is in use by another process, or holds what it should not.
    pub fn open(file: &Path) -> Result<Self, OpenError> {
        let disk = disk::Disk::open(file)?;
        let state = Arc::new(RwLock::new(disk.load()?));
        let (queue, requests) = mpsc::channel(QUEUE);
        let (publish, latest) = watch::channel(state.read().version());
        let writer = writer::Writer { disk, state: Arc::clone(&state), publish };
        let writer = std::thread::Builder::new()
            .name("object-store".to_owned())
            .spawn(move || writer.run(requests))
            .map_err(OpenError::Thread)?;
        let (queue, writer) = (Mutex::new(Some(queue)), Mutex::new(Some(writer)));
        Ok(Self { state, queue, latest, writer })
    }

    /// Makes what is queued, then closes the file; later changes are refused, reads go on. Returns
    /// the thread that does so.
    pub fn close(&self) -> Option<JoinHandle<()>> {
        drop(self.queue.lock().take());
        self.writer.lock().take()
    }

    /// Makes a change, durably.
    ///
    /// # Errors
    /// When what the change expects does not hold, or the disk refuses. Cancel-safe: once queued,
    /// the change is made or not made as a whole, whether or not somebody waits for the answer.
    pub async fn commit(&self, change: Change) -> Result<Arc<Object>, Error> {
        let (reply, answer) = oneshot::channel();
        let queue = self.queue.lock().clone().ok_or(Error::Closed)?;
        queue.send(Request { change, reply }).await.map_err(|_| Error::Closed)?;
        drop(queue);
        answer.await.map_err(|_| Error::Closed)?
    }

    /// One object.
    pub fn get(&self, key: &Key) -> Option<Arc<Object>> {
        self.state.read().get(key)
    }

    /// The objects of a resource, in one namespace or in all, with the version of this view.
    pub fn list(&self, resource: &str, namespace: Option<&str>) -> (u64, Vec<Arc<Object>>) {
        let state = self.state.read();
        (state.version(), state.list(resource, namespace))
    }

    /// Reads several things at one version.
    pub fn read<T>(&self, view: impl FnOnce(&State) -> T) -> T {
        view(&self.state.read())
    }

    /// Tells of each new version.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.latest.clone()
    }
}

#[cfg(test)]
mod tests;
