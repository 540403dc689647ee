//! The Functions and Tasks of the cluster, kept by a watch. The only file that talks to Kubernetes.
//!
//! What the watch has not seen is asked for before it is called missing: a session may name a Task that was applied a
//! moment ago, and a failed session is not taken back.

use coffer_api::{Function, Task};
use coffer_runtime::fault::{Class, Fault, chain};
use coffer_runtime::readiness::{Latch, Readiness};
use futures::StreamExt as _;
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Resource};
use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use std::fmt::Debug;
use std::future::Future;
use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The cluster cannot be asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not everything was read yet.
    #[error("the catalog has not read all {kind}s yet; try again in a moment")]
    NotReady {
        /// What it still reads.
        kind: &'static str,
    },
    /// The API server does not answer, or refuses.
    #[error("read {kind} {name:?}")]
    Read {
        /// Function or task.
        kind: &'static str,
        /// Which.
        name: String,
        /// Why.
        #[source]
        source: Box<kube::Error>,
    },
}

impl Fault for Error {
    fn class(&self) -> Class {
        match self {
            Self::NotReady { .. } | Self::Read { .. } => Class::Unavailable,
        }
    }
}

/// All Functions and Tasks. Clones are the same shelves.
#[derive(Clone)]
pub struct Library {
    functions: Shelf<Function>,
    tasks: Shelf<Task>,
}

impl Library {
    /// The library, empty, and the watches that fill it for as long as their future is polled. Readiness is held back
    /// until both kinds are read.
    pub fn new(
        client: &kube::Client,
        readiness: &Readiness,
    ) -> (Self, impl Future<Output = ()> + Send + use<>) {
        let (functions, watch_functions) =
            Shelf::new(client, "function", readiness.latch("functions are read"));
        let (tasks, watch_tasks) = Shelf::new(client, "task", readiness.latch("tasks are read"));
        let watches = async move {
            tokio::join!(watch_functions, watch_tasks);
        };
        (Self { functions, tasks }, watches)
    }

    /// A Function, or none.
    ///
    /// # Errors
    /// When the cluster cannot be asked.
    pub async fn function(&self, name: &str) -> Result<Option<Arc<Function>>, Error> {
        self.functions.get(name).await
    }

    /// A Task, or none.
    ///
    /// # Errors
    /// When the cluster cannot be asked.
    pub async fn task(&self, name: &str) -> Result<Option<Arc<Task>>, Error> {
        self.tasks.get(name).await
    }

    /// Every Task, by name.
    ///
    /// # Errors
    /// When they are not all read yet: half a list would be a wrong one.
    pub fn tasks(&self) -> Result<Vec<Arc<Task>>, Error> {
        let Shelf { kind, objects, read, .. } = &self.tasks;
        if !read.load(Ordering::Acquire) {
            return Err(Error::NotReady { kind });
        }
        let mut tasks = objects.state();
        tasks.sort_by(|a, b| a.metadata.name.cmp(&b.metadata.name));
        Ok(tasks)
    }
}

/// The objects of one kind.
#[derive(Clone)]
struct Shelf<K: Resource<DynamicType = ()> + 'static> {
    kind: &'static str,
    api: Api<K>,
    objects: Store<K>,
    read: Arc<AtomicBool>,
}

impl<K> Shelf<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
    K::DynamicType: Eq + Hash + Clone,
{
    fn new(
        client: &kube::Client,
        kind: &'static str,
        latch: Latch,
    ) -> (Self, impl Future<Output = ()> + Send + use<K>) {
        let api: Api<K> = Api::all(client.clone());
        let (objects, writer) = reflector::store();
        let read = Arc::new(AtomicBool::new(false));
        let shelf = Self { kind, api: api.clone(), objects, read: read.clone() };
        let latch = Mutex::new(Some(latch));
        let events = watcher(api, watcher::Config::default()).default_backoff().reflect(writer);
        let watch = events.for_each(move |event| {
            match event {
                // The store has the whole list by now: it sees an event before we do.
                Ok(watcher::Event::InitDone) => {
                    read.store(true, Ordering::Release);
                    if let Some(latch) = latch.lock().take() {
                        latch.release();
                    }
                }
                Ok(_) => {}
                Err(error) => {
                    tracing::warn!(
                        kind,
                        error = chain(&error),
                        "the watch failed, it is tried again"
                    );
                }
            }
            futures::future::ready(())
        });
        (shelf, watch)
    }

    async fn get(&self, name: &str) -> Result<Option<Arc<K>>, Error> {
        if name.is_empty() {
            return Ok(None);
        }
        if let Some(object) = self.objects.get(&ObjectRef::new(name)) {
            return Ok(Some(object));
        }
        let object = self.api.get_opt(name).await.map_err(|source| Error::Read {
            kind: self.kind,
            name: name.to_owned(),
            source: Box::new(source),
        })?;
        Ok(object.map(Arc::new))
    }
}
