//! Watches of objects that others depend on, without what does not concern them: a status that is written. A Repository's
//! status changes with each backup, and with ten thousand BackupConfigurations that use it, each backup would wake them all.

use std::collections::HashMap;

use futures::{Stream, StreamExt as _};
use kube::{
    Api, Resource, ResourceExt,
    runtime::{
        WatchStreamExt as _,
        watcher::{self, Event},
    },
};
use serde::de::DeserializeOwned;

/// Namespace and name.
type Name = (Option<String>, String);

/// What was last seen of each object; bounded by the objects that there are.
#[derive(Default)]
struct Seen(HashMap<Name, Version>);

/// Changes with the spec, and when the object is to go.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Version {
    generation: Option<i64>,
    /// For objects without a generation.
    resource: Option<String>,
    leaving: bool,
}

impl Seen {
    /// The object of an event, if it is news.
    fn news<K: Resource>(&mut self, event: Event<K>) -> Option<K> {
        match event {
            Event::Apply(object) | Event::InitApply(object) => {
                let meta = object.meta();
                let version = Version {
                    generation: meta.generation,
                    resource: meta.resource_version.clone().filter(|_| meta.generation.is_none()),
                    leaving: meta.deletion_timestamp.is_some(),
                };
                let before = self.0.insert(name(&object), version.clone());
                (before != Some(version)).then_some(object)
            }
            Event::Delete(object) => {
                self.0.remove(&name(&object));
                Some(object)
            }
            Event::Init | Event::InitDone => None,
        }
    }
}

fn name<K: Resource>(object: &K) -> Name {
    (object.namespace(), object.name_any())
}

/// Every object of a kind when its spec changes, when it appears and when it goes.
pub fn of<K>(api: Api<K>) -> impl Stream<Item = Result<K, watcher::Error>> + Send + 'static
where
    K: Resource + Clone + DeserializeOwned + std::fmt::Debug + Send + 'static,
    K::DynamicType: Send,
{
    let events = watcher::watcher(api, watcher::Config::default()).default_backoff();
    let mut seen = Seen::default();
    events.filter_map(move |event| {
        let news = event.map(|event| seen.news(event)).transpose();
        std::future::ready(news)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use coffer_api::Repository;
    use serde_json::json;

    fn repository(generation: i64, version: &str) -> Repository {
        serde_json::from_value(json!({"apiVersion": "stash.appscode.com/v1alpha1", "kind": "Repository",
            "metadata": {"name": "repo", "namespace": "demo", "generation": generation, "resourceVersion": version},
            "spec": {}}))
        .unwrap()
    }

    #[test]
    fn a_status_is_no_news() {
        let mut seen = Seen::default();
        let mut is_news = |event| seen.news(event).is_some();
        assert!(is_news(Event::InitApply(repository(1, "5"))));
        assert!(!is_news(Event::Apply(repository(1, "6"))));
        assert!(is_news(Event::Apply(repository(2, "7"))));
        let mut leaving = repository(2, "8");
        leaving.metadata.deletion_timestamp =
            Some(coffer_api::time::from_clock(chrono::DateTime::UNIX_EPOCH));
        assert!(is_news(Event::Apply(leaving)));
        assert!(is_news(Event::Delete(repository(2, "9"))));
        assert!(is_news(Event::Apply(repository(1, "10"))));
        // Listed again after a watch broke: only what changed meanwhile.
        assert!(!is_news(Event::InitApply(repository(1, "10"))));
    }
}
