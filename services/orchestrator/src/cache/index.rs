//! Which objects have to do with a Repository, an AppBinding, or with each other, without a look at all of them: with ten
//! thousand, a look at each of them in each pass is most of the work that there is.

use std::collections::{BTreeSet, HashMap};

use coffer_api::{
    AppBinding, BackupBatch, BackupBlueprint, BackupConfiguration, BackupSession, Repository,
    RestoreBatch, RestoreSession, names,
    target::{RepositoryRef, TargetRef},
};
use kube::{Resource, ResourceExt as _};
use parking_lot::Mutex;

use crate::{auto_backup::decide::BINDING, variables};

/// A namespace and a name.
pub type Name = (String, String);

/// The name of an object.
pub fn name<K: Resource>(object: &K) -> Name {
    (object.namespace().unwrap_or_default(), object.name_any())
}

/// What objects are found by.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Key {
    /// The Repository that they use.
    Repository(Name),
    /// The Repository, and the host that they write there.
    Host(Name, String),
    /// The AppBindings that they back up or restore.
    Target(Name),
    /// The mark of the AppBinding that they were made for.
    MadeFor(String),
    /// Kind and name of the invoker whose labels they carry.
    Invoker(String, Name),
    /// Kind and name of the target whose labels they carry, in whatever namespace.
    Labelled(String, String),
}

/// A kind whose objects are found by keys.
pub trait Indexed {
    /// What this object is found by.
    fn keys(&self) -> Vec<Key>;
}

impl Indexed for BackupConfiguration {
    fn keys(&self) -> Vec<Key> {
        let own = self.metadata.namespace.as_deref().unwrap_or_default();
        let target = self.spec.target.as_ref().map(|target| &target.reference);
        [repository(self.spec.repository.as_ref(), own), host(self)]
            .into_iter()
            .chain(target.map(|reference| target_of(reference, own)))
            .chain(self.labels().get(BINDING).cloned().map(Key::MadeFor))
            .collect()
    }
}

impl Indexed for BackupBatch {
    fn keys(&self) -> Vec<Key> {
        let own = self.metadata.namespace.as_deref().unwrap_or_default();
        let targets = self.spec.members.iter().filter_map(|member| member.target.as_ref());
        [repository(self.spec.repository.as_ref(), own)]
            .into_iter()
            .chain(targets.map(|target| target_of(&target.reference, own)))
            .collect()
    }
}

impl Indexed for RestoreSession {
    fn keys(&self) -> Vec<Key> {
        let own = self.metadata.namespace.as_deref().unwrap_or_default();
        [repository(self.spec.repository.as_ref(), own)]
            .into_iter()
            .chain(self.spec.target.iter().map(|target| target_of(&target.reference, own)))
            .collect()
    }
}

impl Indexed for BackupSession {
    fn keys(&self) -> Vec<Key> {
        let pair = |kind, name| {
            let label = |name: &str| self.labels().get(name).cloned();
            label(kind).zip(label(name))
        };
        let own = self.namespace().unwrap_or_default();
        let invoker = pair(names::INVOKER_TYPE, names::INVOKER_NAME);
        let target = pair(names::TARGET_KIND, names::TARGET_NAME);
        let invoker = invoker.map(|(kind, name)| Key::Invoker(kind, (own, name)));
        let target = target.map(|(kind, name)| Key::Labelled(kind, name));
        invoker.into_iter().chain(target).collect()
    }
}

macro_rules! found_by_name_only {
    ($($kind:ty),*) => {
        $(impl Indexed for $kind {
            fn keys(&self) -> Vec<Key> {
                vec![]
            }
        })*
    };
}

found_by_name_only!(AppBinding, BackupBlueprint, Repository, RestoreBatch);

/// The Repository of a BackupConfiguration and the host that it writes there.
#[must_use]
pub fn host(config: &BackupConfiguration) -> Key {
    let own = config.metadata.namespace.as_deref().unwrap_or_default();
    let alias = config.spec.target.as_ref().map_or("", |target| target.alias.as_str());
    Key::Host(at(config.spec.repository.as_ref(), own), variables::host(alias).to_owned())
}

fn repository(reference: Option<&RepositoryRef>, own: &str) -> Key {
    Key::Repository(at(reference, own))
}

fn at(reference: Option<&RepositoryRef>, own: &str) -> Name {
    reference.map_or_else(
        || (own.to_owned(), String::new()),
        |reference| (reference.namespace_or(own).to_owned(), reference.name.clone()),
    )
}

fn target_of(reference: &TargetRef, own: &str) -> Key {
    Key::Target((reference.namespace_or(own).to_owned(), reference.name.clone()))
}

/// Names by their keys.
#[derive(Debug, Default)]
pub struct Index(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    keys: HashMap<Name, Vec<Key>>,
    names: HashMap<Key, BTreeSet<Name>>,
}

impl Index {
    /// Those that have a key, in order.
    pub fn find(&self, key: &Key) -> Vec<Name> {
        self.0.lock().names.get(key).into_iter().flatten().cloned().collect()
    }

    /// From now on it has these keys and no others.
    pub fn put(&self, name: Name, keys: Vec<Key>) {
        let mut known = self.0.lock();
        known.remove(&name);
        if keys.is_empty() {
            return;
        }
        for key in &keys {
            known.names.entry(key.clone()).or_default().insert(name.clone());
        }
        known.keys.insert(name, keys);
    }

    /// It is gone.
    pub fn remove(&self, name: &Name) {
        self.0.lock().remove(name);
    }
}

impl Known {
    fn remove(&mut self, name: &Name) {
        for key in self.keys.remove(name).into_iter().flatten() {
            if let Some(names) = self.names.get_mut(&key) {
                names.remove(name);
                if names.is_empty() {
                    self.names.remove(&key);
                }
            }
        }
    }
}
