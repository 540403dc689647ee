//! What the watches said last. There is one watch of each kind: its controller and all who depend on the kind share it, so
//! that the API server is asked once, and so that whoever is woken finds what woke him.

mod change;
pub mod index;

use std::{collections::HashMap, fmt::Debug, sync::Arc};

use coffer_api::{
    AppBinding, BackupBatch, BackupBlueprint, BackupConfiguration, BackupSession, Repository,
    RestoreBatch, RestoreSession,
};
use kube::{
    Resource,
    runtime::{
        reflector::{
            ObjectRef, Store,
            store::{self, Writer},
        },
        watcher::Event,
    },
};
use parking_lot::Mutex;
use serde::de::DeserializeOwned;

pub use self::change::{Change, Changed};
use self::index::{Index, Indexed, Key, Name, name};

/// The objects of one kind.
pub struct Cache<K: Cached> {
    store: Store<K>,
    writer: Mutex<Writer<K>>,
    index: Index,
    /// Versions that we wrote and the watch has not told of yet; bounded by the objects that there are.
    written: Mutex<HashMap<Name, Option<u64>>>,
}

/// A kind that is watched.
pub trait Cached:
    Resource<DynamicType = ()> + Indexed + Clone + Debug + DeserializeOwned + Send + Sync + 'static
{
    /// Where its objects are.
    fn cache(caches: &Caches) -> &Cache<Self>;
}

impl<K: Cached> Default for Cache<K> {
    fn default() -> Self {
        let (store, writer) = store::store();
        Self {
            store,
            writer: Mutex::new(writer),
            index: Index::default(),
            written: Mutex::default(),
        }
    }
}

impl<K: Cached> Cache<K> {
    /// For the controller of the kind.
    pub fn store(&self) -> Store<K> {
        self.store.clone()
    }

    /// Waits until all objects were listed: before, what is not here may exist.
    pub async fn ready(&self) {
        // Fails only when the writer is gone, which is here.
        let _ = self.store.wait_until_ready().await;
    }

    /// One object.
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<K>> {
        self.store.get(&ObjectRef::new(name).within(namespace))
    }

    /// All objects, in no order.
    pub fn all(&self) -> Vec<Arc<K>> {
        self.store.state()
    }

    /// The names of those that have a key, in order.
    pub fn names(&self, key: &Key) -> Vec<Name> {
        self.index.find(key)
    }

    /// Those that have a key, in the order of their names.
    pub fn find(&self, key: &Key) -> Vec<Arc<K>> {
        self.names(key).iter().filter_map(|(namespace, name)| self.get(namespace, name)).collect()
    }

    /// Takes in what the watch says, and tells what changed by it. After a new list that is what changed meanwhile.
    pub fn take(&self, event: Event<K>) -> Vec<Changed<K>> {
        let mut writer = self.writer.lock();
        let (before, at) = match &event {
            Event::Init | Event::InitApply(_) => {
                writer.apply_watcher_event(&event);
                return vec![];
            }
            Event::InitDone => {
                let before = self.store.state();
                writer.apply_watcher_event(&event);
                return self.listed(before);
            }
            Event::Apply(object) | Event::Delete(object) => {
                let at = ObjectRef::from_obj(object);
                (self.store.get(&at), at)
            }
        };
        writer.apply_watcher_event(&event);
        let now = self.store.get(&at);
        self.changed(before, now).into_iter().collect()
    }

    fn listed(&self, before: Vec<Arc<K>>) -> Vec<Changed<K>> {
        let mut before: HashMap<Name, Arc<K>> =
            before.into_iter().map(|object| (name(object.as_ref()), object)).collect();
        let mut changes: Vec<_> = self
            .store
            .state()
            .into_iter()
            .filter_map(|now| self.changed(before.remove(&name(now.as_ref())), Some(now)))
            .collect();
        changes.extend(before.into_values().filter_map(|gone| self.changed(Some(gone), None)));
        changes
    }

    fn changed(&self, before: Option<Arc<K>>, now: Option<Arc<K>>) -> Option<Changed<K>> {
        let Some(now) = now else {
            let gone = before?;
            self.index.remove(&name(gone.as_ref()));
            self.written.lock().remove(&name(gone.as_ref()));
            return Some(Changed { object: gone, before: None, change: Change::Gone });
        };
        let change = match before.as_deref().map(Resource::meta) {
            Some(before) if before.resource_version == now.meta().resource_version => return None,
            Some(before) => Change::between(before, now.meta()),
            None => Change::Spec,
        };
        if change != Change::Status {
            self.index.put(name(now.as_ref()), now.keys());
        }
        let mut written = self.written.lock();
        if written.get(&name(now.as_ref())).is_some_and(|ours| !is_before(now.as_ref(), *ours)) {
            written.remove(&name(now.as_ref()));
        }
        drop(written);
        Some(Changed { object: now, before, change })
    }

    /// Finds an object that we made by its name before the watch tells of it: a pass that follows must not make it again.
    pub fn made(&self, object: &K) {
        self.index.put(name(object), object.keys());
    }

    /// Remembers that we wrote an object, as the API server returned it. One that is not here is gone by now.
    pub fn wrote(&self, object: &K) {
        let mut written = self.written.lock();
        if self.store.get(&ObjectRef::from_obj(object)).is_some() {
            written.insert(name(object), version(object));
        }
    }

    /// One object, unless it lacks what we wrote ourselves: a step that is decided on such a one would be taken twice.
    ///
    /// In this order: what is remembered no longer is in the store by then. Whoever takes the object first may find nothing
    /// remembered of what was written after it.
    pub fn latest(&self, at: &ObjectRef<K>) -> Option<Arc<K>> {
        let name = (at.namespace.clone().unwrap_or_default(), at.name.clone());
        let ours = self.written.lock().get(&name).copied();
        self.store.get(at).filter(|here| ours.is_none_or(|ours| !is_before(here.as_ref(), ours)))
    }
}

/// Kubernetes promises since 1.35 that versions are numbers that grow, and they did so long before. What is no number says
/// nothing about order, and may always be before.
fn is_before<K: Resource>(object: &K, ours: Option<u64>) -> bool {
    ours.zip(version(object)).is_none_or(|(ours, here)| ours > here)
}

fn version<K: Resource>(object: &K) -> Option<u64> {
    object.meta().resource_version.as_deref()?.parse().ok()
}

macro_rules! caches {
    ($($field:ident: $kind:ty,)*) => {
        /// One cache a kind.
        #[derive(Default)]
        pub struct Caches {
            $(#[doc = concat!("Every ", stringify!($kind), ".")] pub $field: Cache<$kind>,)*
        }
        $(impl Cached for $kind {
            fn cache(caches: &Caches) -> &Cache<Self> {
                &caches.$field
            }
        })*
    };
}

caches! {
    configs: BackupConfiguration,
    backups: BackupSession,
    restores: RestoreSession,
    repositories: Repository,
    batches: BackupBatch,
    restore_batches: RestoreBatch,
    bindings: AppBinding,
    blueprints: BackupBlueprint,
}

impl Caches {
    /// Waits for those in which a pass looks for everybody who has to do with an object.
    pub async fn ready(&self) {
        let Self { configs, backups, restores, batches, .. } = self;
        futures::join!(configs.ready(), backups.ready(), restores.ready(), batches.ready());
    }
}

#[cfg(test)]
mod tests;
