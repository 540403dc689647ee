//! Which BackupConfigurations have to do with a Repository, an AppBinding, or with each other, without a look at all of them:
//! with ten thousand, a look at each of them in each pass is most of the work that there is.
//!
//! The watch tells it before it wakes the controller, so that a pass finds at least what woke it.

use std::collections::{BTreeSet, HashMap};

use coffer_api::BackupConfiguration;
use kube::{ResourceExt as _, runtime::watcher::Event};
use parking_lot::Mutex;

use crate::{auto_backup::decide::BINDING, variables};

/// A namespace and a name.
pub type Name = (String, String);

/// What a BackupConfiguration is found by.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Key {
    /// The Repository that it uses.
    Repository(Name),
    /// The Repository, and the host that it writes there.
    Host(Name, String),
    /// The AppBinding that it backs up.
    Target(Name),
    /// The mark of the AppBinding that it was made for.
    MadeFor(String),
}

/// The Repository of a BackupConfiguration and the host that it writes there.
#[must_use]
pub fn host(config: &BackupConfiguration) -> Key {
    let alias = config.spec.target.as_ref().map_or("", |target| target.alias.as_str());
    Key::Host(repository(config), variables::host(alias).to_owned())
}

fn repository(config: &BackupConfiguration) -> Name {
    let own = config.metadata.namespace.as_deref().unwrap_or_default();
    config.spec.repository.as_ref().map_or_else(
        || (own.to_owned(), String::new()),
        |reference| (reference.namespace_or(own).to_owned(), reference.name.clone()),
    )
}

fn keys(config: &BackupConfiguration) -> Vec<Key> {
    let own = config.metadata.namespace.as_deref().unwrap_or_default();
    let target = config.spec.target.as_ref().map(|target| &target.reference);
    let target = target
        .map(|target| Key::Target((target.namespace_or(own).to_owned(), target.name.clone())));
    let made_for = config.labels().get(BINDING).cloned().map(Key::MadeFor);
    [Key::Repository(repository(config)), host(config)]
        .into_iter()
        .chain(target)
        .chain(made_for)
        .collect()
}

/// All of them, by their keys.
#[derive(Debug, Default)]
pub struct Index(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    keys: HashMap<Name, Entry>,
    names: HashMap<Key, BTreeSet<Name>>,
    /// Counts the lists: what one does not name any more is gone.
    list: u64,
}

#[derive(Debug)]
struct Entry {
    keys: Vec<Key>,
    list: u64,
}

impl Index {
    /// Takes in what the watch says.
    pub fn learn(&self, event: &Event<BackupConfiguration>) {
        let mut known = self.0.lock();
        match event {
            Event::Apply(config) | Event::InitApply(config) => known.put(config),
            Event::Delete(config) => known.remove(&name(config)),
            Event::Init => known.list += 1,
            Event::InitDone => {
                let gone: Vec<Name> = known
                    .keys
                    .iter()
                    .filter(|(_, entry)| entry.list != known.list)
                    .map(|(name, _)| name.clone())
                    .collect();
                gone.iter().for_each(|name| known.remove(name));
            }
        }
    }

    /// Those that have a key, in order.
    #[must_use]
    pub fn find(&self, key: &Key) -> Vec<Name> {
        self.0.lock().names.get(key).into_iter().flatten().cloned().collect()
    }
}

impl Known {
    fn put(&mut self, config: &BackupConfiguration) {
        let (name, keys) = (name(config), keys(config));
        self.remove(&name);
        for key in &keys {
            self.names.entry(key.clone()).or_default().insert(name.clone());
        }
        self.keys.insert(name, Entry { keys, list: self.list });
    }

    fn remove(&mut self, name: &Name) {
        for key in self.keys.remove(name).into_iter().flat_map(|entry| entry.keys) {
            if let Some(names) = self.names.get_mut(&key) {
                names.remove(name);
                if names.is_empty() {
                    self.names.remove(&key);
                }
            }
        }
    }
}

fn name(config: &BackupConfiguration) -> Name {
    (config.namespace().unwrap_or_default(), config.name_any())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(name: &str, repository: &str, alias: &str) -> BackupConfiguration {
        serde_json::from_value(serde_json::json!({
            "apiVersion": "stash.appscode.com/v1beta1", "kind": "BackupConfiguration",
            "metadata": {"name": name, "namespace": "shop", "labels": {BINDING: "m"}},
            "spec": {
                "repository": {"name": repository, "namespace": "backups"},
                "target": {"alias": alias, "ref": {"apiVersion": "appcatalog.appscode.com/v1alpha1",
                    "kind": "AppBinding", "name": "redis"}},
                "retentionPolicy": {"name": "keep", "keepLast": 1, "prune": true},
            },
        }))
        .unwrap()
    }

    fn at(namespace: &str, name: &str) -> Name {
        (namespace.to_owned(), name.to_owned())
    }

    #[test]
    fn each_is_found_by_what_it_names_now() {
        let index = Index::default();
        let uses = |name: &str| index.find(&Key::Repository(at("backups", name)));
        for event in [
            Event::Init,
            Event::InitApply(config("a", "one", "x")),
            Event::InitApply(config("b", "one", "y")),
            Event::InitDone,
        ] {
            index.learn(&event);
        }
        assert_eq!(uses("one"), [at("shop", "a"), at("shop", "b")]);
        assert_eq!(index.find(&host(&config("c", "one", "y"))), [at("shop", "b")]);
        assert_eq!(index.find(&Key::Target(at("shop", "redis"))).len(), 2);
        assert_eq!(index.find(&Key::MadeFor("m".to_owned())).len(), 2);

        index.learn(&Event::Apply(config("a", "two", "x")));
        assert_eq!((uses("one"), uses("two")), (vec![at("shop", "b")], vec![at("shop", "a")]));
        index.learn(&Event::Delete(config("a", "two", "x")));
        assert_eq!(uses("two"), []);

        // What a new list does not name is gone.
        for event in [Event::Init, Event::InitApply(config("c", "two", "")), Event::InitDone] {
            index.learn(&event);
        }
        assert_eq!((uses("one"), uses("two")), (vec![], vec![at("shop", "c")]));
        assert_eq!(index.0.lock().names.len(), 4);
    }
}
