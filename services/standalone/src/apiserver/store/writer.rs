//! The one writer: checks each change against what is committed or about to be, numbers it, writes
//! the batch to disk, and only then lets anybody see it.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::RwLock;
use tokio::sync::{mpsc, oneshot, watch};

use super::disk::Disk;
use super::state::{Event, EventKind, Key, Object, State};
use super::{Change, Error, Expect, Request};
use crate::apiserver::object;

/// At most this many changes share a transaction, which bounds how long the first one waits.
const BATCH: usize = 256;

pub(super) struct Writer {
    pub(super) disk: Disk,
    pub(super) state: Arc<RwLock<State>>,
    pub(super) publish: watch::Sender<u64>,
}

type Reply = oneshot::Sender<Result<Arc<Object>, Error>>;

/// The batch so far, seen over the committed state.
struct Batch<'a> {
    state: &'a State,
    version: u64,
    pending: HashMap<Key, Option<Arc<Object>>>,
    events: Vec<Arc<Event>>,
}

impl Writer {
    pub(super) fn run(self, mut requests: mpsc::Receiver<Request>) {
        while let Some(first) = requests.blocking_recv() {
            let mut waiting = vec![first];
            while waiting.len() < BATCH
                && let Ok(next) = requests.try_recv()
            {
                waiting.push(next);
            }
            self.commit(waiting);
        }
    }

    fn commit(&self, requests: Vec<Request>) {
        let mut replies: Vec<(Reply, Arc<Object>)> = Vec::with_capacity(requests.len());
        let events = {
            let state = self.state.read();
            let mut batch = Batch {
                state: &state,
                version: state.version(),
                pending: HashMap::new(),
                events: Vec::new(),
            };
            for Request { change, reply } in requests {
                match batch.make(change) {
                    Ok(object) => replies.push((reply, object)),
                    Err(error) => drop(reply.send(Err(error))),
                }
            }
            batch.events
        };
        let Some(version) = events.last().map(|event| event.version) else { return };
        if let Err(error) = self.write(&events, version) {
            tracing::error!(%error, "the object store cannot be written; the changes are refused");
            for (reply, _) in replies {
                drop(reply.send(Err(error.clone())));
            }
            return;
        }
        {
            let mut state = self.state.write();
            for event in events {
                state.apply(event);
            }
        }
        self.publish.send_replace(version);
        for (reply, object) in replies {
            drop(reply.send(Ok(object)));
        }
    }

    fn write(&self, events: &[Arc<Event>], version: u64) -> Result<(), Error> {
        let mut rows = Vec::with_capacity(events.len());
        for event in events {
            let bytes = match event.kind {
                EventKind::Added | EventKind::Modified => Some(
                    serde_json::to_vec(&event.object.value)
                        .map_err(|error| Error::Disk(error.to_string()))?,
                ),
                EventKind::Deleted => None,
            };
            rows.push((&event.object.key, bytes));
        }
        self.disk.write(&rows, version).map_err(|error| Error::Disk(error.to_string()))
    }
}

impl Batch<'_> {
    fn current(&self, key: &Key) -> Option<Arc<Object>> {
        match self.pending.get(key) {
            Some(pending) => pending.clone(),
            None => self.state.get(key),
        }
    }

    fn make(&mut self, change: Change) -> Result<Arc<Object>, Error> {
        let (key, mut value, previous, gone) = match change {
            Change::Put { key, value, expect } => {
                let previous = self.current(&key);
                match (expect, &previous) {
                    (Expect::Absent, None) => self.check_namespace(&key)?,
                    (Expect::Absent, Some(_)) => return Err(Error::Exists),
                    (Expect::Version(_), None) => return Err(Error::Missing),
                    (Expect::Version(version), Some(object)) if object.version != version => {
                        return Err(Error::Stale);
                    }
                    (Expect::Version(_), Some(_)) => {}
                }
                (key, value, previous, false)
            }
            Change::Remove { key, last, version } => {
                let previous = self.current(&key).ok_or(Error::Missing)?;
                if previous.version != version {
                    return Err(Error::Stale);
                }
                (key, last.unwrap_or_else(|| previous.value.clone()), Some(previous), true)
            }
        };
        self.version += 1;
        object::set_meta(&mut value, "resourceVersion", self.version.to_string());
        let object = Arc::new(Object { key: key.clone(), version: self.version, value });
        let kind = match (&previous, gone) {
            (_, true) => EventKind::Deleted,
            (None, false) => EventKind::Added,
            (Some(_), false) => EventKind::Modified,
        };
        self.pending.insert(key, (!gone).then(|| Arc::clone(&object)));
        self.events.push(Arc::new(Event {
            version: self.version,
            kind,
            object: Arc::clone(&object),
            previous,
        }));
        Ok(object)
    }

    /// Checked here and not only at admission, so that nothing is created in a namespace that
    /// vanished in between and would never be cleaned.
    fn check_namespace(&self, key: &Key) -> Result<(), Error> {
        if key.namespace.is_empty() {
            return Ok(());
        }
        let namespace = Key::new(&"core/namespaces".into(), "", &key.namespace);
        match self.current(&namespace) {
            Some(_) => Ok(()),
            None => Err(Error::NoNamespace(key.namespace.clone())),
        }
    }
}
