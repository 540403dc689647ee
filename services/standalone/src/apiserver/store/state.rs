//! What the store knows at one version: objects, recent events, and who owns whom.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use serde_json::Value;

use crate::apiserver::object;

/// How many events are remembered for watches that resume. At some 10 KB an event at worst, this
/// bounds the memory to tens of megabytes; older watchers are told to list again.
pub(super) const REMEMBERED: usize = 8192;

/// Which object: ordered so that a resource's objects, and a namespace's, are neighbours.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// `group/plural`; the core group is `core`.
    pub resource: Arc<str>,
    /// Empty for objects of the cluster.
    pub namespace: String,
    /// The name.
    pub name: String,
}

impl Key {
    /// Names an object.
    pub fn new(resource: &Arc<str>, namespace: &str, name: &str) -> Self {
        Self {
            resource: Arc::clone(resource),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        }
    }
}

/// An object as it is stored.
#[derive(Debug)]
pub struct Object {
    /// Which object.
    pub key: Key,
    /// Its resource version.
    pub version: u64,
    /// The object itself.
    pub value: Value,
}

/// What happened to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventKind {
    /// It is new.
    Added,
    /// It was replaced.
    Modified,
    /// It is gone.
    Deleted,
}

/// One change that was made.
#[derive(Debug)]
pub struct Event {
    /// The version that the change got.
    pub version: u64,
    /// What happened.
    pub kind: EventKind,
    /// The object after the change; of a deletion, its last state.
    pub object: Arc<Object>,
    /// The object before the change.
    pub previous: Option<Arc<Object>>,
}

/// The store's memory.
#[derive(Debug, Default)]
pub struct State {
    version: u64,
    objects: BTreeMap<Key, Arc<Object>>,
    events: VecDeque<Arc<Event>>,
    forgotten: u64,
    by_uid: HashMap<String, Key>,
    dependents: HashMap<String, BTreeSet<Key>>,
    changed: HashMap<Arc<str>, u64>,
}

impl State {
    pub(super) fn loaded(version: u64, objects: Vec<Object>) -> Self {
        let mut state = Self { version, forgotten: version, ..Self::default() };
        for object in objects {
            let object = Arc::new(object);
            state.index(&object);
            state.objects.insert(object.key.clone(), object);
        }
        state
    }

    /// The version of the latest change.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// One object.
    pub fn get(&self, key: &Key) -> Option<Arc<Object>> {
        self.objects.get(key).cloned()
    }

    /// The objects of a resource, in one namespace or in all, by namespace and name.
    pub fn list(&self, resource: &str, namespace: Option<&str>) -> Vec<Arc<Object>> {
        let first = Key::new(&Arc::from(resource), namespace.unwrap_or_default(), "");
        self.objects
            .range(first..)
            .take_while(|(key, _)| {
                &*key.resource == resource && namespace.is_none_or(|wanted| key.namespace == wanted)
            })
            .map(|(_, object)| Arc::clone(object))
            .collect()
    }

    /// Everything that lives in a namespace.
    pub fn contents(&self, namespace: &str) -> Vec<Arc<Object>> {
        self.objects
            .values()
            .filter(|object| object.key.namespace == namespace)
            .map(Arc::clone)
            .collect()
    }

    /// All keys.
    pub fn keys(&self) -> Vec<Key> {
        self.objects.keys().cloned().collect()
    }

    /// The object of that uid.
    pub fn by_uid(&self, uid: &str) -> Option<Arc<Object>> {
        self.objects.get(self.by_uid.get(uid)?).cloned()
    }

    /// The objects that name `uid` as an owner.
    pub fn dependents(&self, uid: &str) -> Vec<Key> {
        self.dependents.get(uid).into_iter().flatten().cloned().collect()
    }

    /// The version at which any object of the resource last changed since the start; 0: never.
    pub fn changed(&self, resource: &str) -> u64 {
        self.changed.get(resource).copied().unwrap_or(0)
    }

    /// The oldest version from which a watch can resume.
    pub fn oldest(&self) -> u64 {
        self.forgotten
    }

    /// The events after `version`, oldest first; `None` when some of them are forgotten.
    pub fn events_after(&self, version: u64) -> Option<impl Iterator<Item = &Arc<Event>>> {
        if version < self.forgotten {
            return None;
        }
        let start = self.events.partition_point(|event| event.version <= version);
        Some(self.events.range(start..))
    }

    pub(super) fn apply(&mut self, event: Arc<Event>) {
        let Event { version, kind, object, previous } = &*event;
        if let Some(previous) = previous {
            self.unindex(previous);
        }
        match kind {
            EventKind::Added | EventKind::Modified => {
                self.index(object);
                self.objects.insert(object.key.clone(), Arc::clone(object));
            }
            EventKind::Deleted => {
                self.objects.remove(&object.key);
            }
        }
        self.version = *version;
        self.changed.insert(Arc::clone(&object.key.resource), *version);
        self.events.push_back(event);
        if self.events.len() > REMEMBERED
            && let Some(oldest) = self.events.pop_front()
        {
            self.forgotten = oldest.version;
        }
    }

    fn index(&mut self, object: &Object) {
        let uid = object::uid(&object.value);
        if !uid.is_empty() {
            self.by_uid.insert(uid.to_owned(), object.key.clone());
        }
        for owner in object::owners(&object.value) {
            self.dependents.entry(owner.uid.to_owned()).or_default().insert(object.key.clone());
        }
    }

    fn unindex(&mut self, object: &Object) {
        self.by_uid.remove(object::uid(&object.value));
        for owner in object::owners(&object.value) {
            if let Some(keys) = self.dependents.get_mut(owner.uid) {
                keys.remove(&object.key);
                if keys.is_empty() {
                    self.dependents.remove(owner.uid);
                }
            }
        }
    }
}
