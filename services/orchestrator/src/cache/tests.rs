//! The cache over sequences of watch events.

use super::*;
use crate::auto_backup::decide::BINDING;
use futures::FutureExt as _;
use kube::ResourceExt as _;
use serde_json::{Value, json};

fn config(name: &str, version: u64, change: Value) -> BackupConfiguration {
    let mut value = json!({
        "apiVersion": "stash.appscode.com/v1beta1", "kind": "BackupConfiguration",
        "metadata": {"name": name, "namespace": "shop", "uid": name, "generation": 1,
            "resourceVersion": version.to_string(), "labels": {BINDING: "m"}},
        "spec": {
            "repository": {"name": "one", "namespace": "backups"},
            "target": {"alias": name, "ref": {"apiVersion": "appcatalog.appscode.com/v1alpha1",
                "kind": "AppBinding", "name": "redis"}},
            "retentionPolicy": {"name": "keep", "keepLast": 1, "prune": true},
        },
    });
    merge(&mut value, change);
    serde_json::from_value(value).unwrap()
}

fn merge(value: &mut Value, change: Value) {
    match change {
        Value::Object(fields) => {
            fields.into_iter().for_each(|(name, field)| merge(&mut value[name], field));
        }
        other => *value = other,
    }
}

fn at(namespace: &str, name: &str) -> Name {
    (namespace.to_owned(), name.to_owned())
}

fn told(
    cache: &Cache<BackupConfiguration>,
    events: impl IntoIterator<Item = Event<BackupConfiguration>>,
) -> Vec<(String, Change)> {
    let told = events.into_iter().flat_map(|event| cache.take(event));
    let mut told: Vec<_> =
        told.map(|changed| (changed.object.name_any(), changed.change)).collect();
    told.sort_by(|a, b| a.0.cmp(&b.0));
    told
}

fn list(all: Vec<BackupConfiguration>) -> Vec<Event<BackupConfiguration>> {
    let all = all.into_iter().map(Event::InitApply);
    [Event::Init].into_iter().chain(all).chain([Event::InitDone]).collect()
}

fn named(name: &str, change: Change) -> (String, Change) {
    (name.to_owned(), change)
}

#[test]
fn each_is_found_by_what_it_names_now() {
    let cache = Cache::<BackupConfiguration>::default();
    let uses = |name: &str| cache.names(&Key::Repository(at("backups", name)));
    assert!(cache.ready().now_or_never().is_none());
    told(&cache, list(vec![config("a", 1, json!({})), config("b", 2, json!({}))]));
    assert!(cache.ready().now_or_never().is_some());
    assert_eq!(uses("one"), [at("shop", "a"), at("shop", "b")]);
    assert_eq!(cache.names(&index::host(&config("b", 2, json!({})))), [at("shop", "b")]);
    assert_eq!(cache.find(&Key::Target(at("shop", "redis"))).len(), 2);
    assert_eq!(cache.find(&Key::MadeFor("m".to_owned())).len(), 2);

    let moved = json!({"metadata": {"generation": 2}, "spec": {"repository": {"name": "two"}}});
    told(&cache, [Event::Apply(config("a", 3, moved.clone()))]);
    assert_eq!((uses("one"), uses("two")), (vec![at("shop", "b")], vec![at("shop", "a")]));
    told(&cache, [Event::Delete(config("a", 4, moved))]);
    assert_eq!(uses("two"), []);

    // Whom it named before is told, too, but for what is new or gone.
    let c =
        |generation, version| config("c", version, json!({"metadata": {"generation": generation}}));
    let before = |event| {
        let before = cache.take(event).pop().unwrap().before;
        before.and_then(|before| before.metadata.resource_version.clone())
    };
    assert_eq!(before(Event::Apply(c(1, 5))), None);
    assert_eq!(before(Event::Apply(c(2, 6))).as_deref(), Some("5"));
    assert_eq!(before(Event::Delete(c(2, 7))), None);

    // What a new list does not name is gone.
    told(&cache, list(vec![config("d", 8, json!({}))]));
    assert_eq!(uses("one"), [at("shop", "d")]);
    assert_eq!(cache.all().len(), 1);
}

#[test]
fn what_we_made_is_named_before_the_watch_tells_of_it() {
    let cache = Cache::<BackupConfiguration>::default();
    let (new, here) = (config("a", 1, json!({})), Key::Repository(at("backups", "one")));
    cache.made(&new);
    assert_eq!((cache.names(&here), cache.find(&here).len()), (vec![at("shop", "a")], 0));
    assert_eq!(told(&cache, [Event::Apply(new.clone())]), [named("a", Change::Spec)]);
    assert_eq!((cache.names(&here).len(), cache.find(&here).len()), (1, 1));
    told(&cache, [Event::Delete(new)]);
    assert_eq!(cache.names(&here), []);
}

#[test]
fn spec_metadata_and_status_are_told_apart() {
    let cache = Cache::<BackupConfiguration>::default();
    let tell = |event| told(&cache, [event]).pop().map(|(_, change)| change);
    let a = |version, change| config("a", version, change);
    assert_eq!(tell(Event::Apply(a(1, json!({})))), Some(Change::Spec));
    assert_eq!(
        tell(Event::Apply(a(2, json!({"status": {"phase": "Ready"}})))),
        Some(Change::Status)
    );
    for (version, change, meta) in [
        (3, Change::Spec, json!({"generation": 2})),
        (4, Change::Metadata, json!({"generation": 2, "finalizers": ["x"]})),
        (5, Change::Metadata, json!({"generation": 2, "annotations": {"a": "b"}})),
        (6, Change::Spec, json!({"generation": 2, "deletionTimestamp": "2026-11-28T10:00:00Z"})),
        (7, Change::Spec, json!({"generation": 2, "uid": "made again"})),
    ] {
        let changed = tell(Event::Apply(a(version, json!({"metadata": meta}))));
        assert_eq!(changed, Some(change), "{meta}");
    }
    assert_eq!(tell(Event::Delete(a(8, json!({})))), Some(Change::Gone));
    assert_eq!(tell(Event::Delete(a(8, json!({})))), None);
}

#[test]
fn a_new_list_tells_only_what_changed_meanwhile() {
    let cache = Cache::<BackupConfiguration>::default();
    let first = list(vec![
        config("same", 1, json!({})),
        config("changed", 2, json!({})),
        config("gone", 3, json!({})),
    ]);
    assert_eq!(told(&cache, first).len(), 3);
    let again = list(vec![
        config("same", 1, json!({})),
        config("changed", 5, json!({"status": {"phase": "Ready"}})),
        config("new", 4, json!({})),
    ]);
    assert_eq!(
        told(&cache, again),
        [named("changed", Change::Status), named("gone", Change::Gone), named("new", Change::Spec)]
    );
}

#[test]
fn what_we_wrote_is_waited_for() {
    let cache = Cache::<BackupConfiguration>::default();
    let at = |version| config("a", version, json!({}));
    let latest = || cache.latest(&ObjectRef::from_obj(&at(1))).map(|here| here.as_ref().clone());
    told(&cache, [Event::Apply(at(5))]);
    assert_eq!(latest(), Some(at(5)));
    cache.wrote(&at(7));
    assert_eq!(latest(), None);
    // Somebody else's change came in between.
    told(&cache, [Event::Apply(at(6))]);
    assert_eq!(latest(), None);
    // A controller that took the object before this looks here once more.
    told(&cache, [Event::Apply(at(7))]);
    assert_eq!(latest(), Some(at(7)));
    assert!(cache.written.lock().is_empty());

    // A version that is no number says nothing about order.
    let mut odd = at(8);
    odd.metadata.resource_version = Some("v9".to_owned());
    cache.wrote(&odd);
    told(&cache, [Event::Apply(at(10))]);
    assert_eq!(latest(), None);

    cache.wrote(&at(11));
    told(&cache, [Event::Delete(at(12))]);
    assert!(cache.written.lock().is_empty());
}
