//! The store's promises: order, optimistic concurrency, durability, memory of events.

use serde_json::json;

use super::*;

fn key(name: &str) -> Key {
    Key::new(&"core/namespaces".into(), "", name)
}

fn put(name: &str, text: &str, expect: Expect) -> Change {
    let value = json!({"metadata": {"name": name, "uid": name}, "text": text});
    Change::Put { key: key(name), value, expect }
}

#[tokio::test]
async fn a_change_needs_what_it_expects() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("state.redb")).unwrap();
    let first = store.commit(put("a", "1", Expect::Absent)).await.unwrap();
    assert!(matches!(store.commit(put("a", "2", Expect::Absent)).await, Err(Error::Exists)));
    let second = store.commit(put("a", "2", Expect::Version(first.version))).await.unwrap();
    assert!(second.version > first.version);
    let stale = store.commit(put("a", "3", Expect::Version(first.version))).await;
    assert!(matches!(stale, Err(Error::Stale)));
    let orphan = Change::Put {
        key: Key::new(&"core/secrets".into(), "nowhere", "x"),
        value: json!({}),
        expect: Expect::Absent,
    };
    assert!(matches!(store.commit(orphan).await, Err(Error::NoNamespace(_))));
    let gone = Change::Remove { key: key("a"), last: None, version: second.version };
    store.commit(gone).await.unwrap();
    assert!(store.get(&key("a")).is_none());
    let kinds: Vec<EventKind> =
        store.read(|state| state.events_after(0).unwrap().map(|event| event.kind).collect());
    assert_eq!(kinds, [EventKind::Added, EventKind::Modified, EventKind::Deleted]);
}

#[tokio::test]
async fn a_closed_store_opens_with_the_same_objects_and_goes_on_counting() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("private/state.redb");
    let store = Store::open(&file).unwrap();
    assert!(matches!(Store::open(&file), Err(OpenError::InUse(_))));
    let changes = (0..50).map(|n| store.commit(put(&format!("n{n}"), "x", Expect::Absent)));
    let written = futures::future::try_join_all(changes).await.unwrap();
    let last = written.iter().map(|object| object.version).max().unwrap();
    store.close().unwrap().join().unwrap();
    assert!(matches!(store.commit(put("z", "x", Expect::Absent)).await, Err(Error::Closed)));

    let store = Store::open(&file).unwrap();
    let (version, objects) = store.list("core/namespaces", None);
    assert_eq!((version, objects.len()), (last, 50));
    assert!(store.read(|state| state.events_after(last - 1).is_none()), "old events are gone");
    let next = store.commit(put("later", "x", Expect::Absent)).await.unwrap();
    assert_eq!(next.version, last + 1);

    use std::os::unix::fs::PermissionsExt;
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let parent = std::fs::metadata(file.parent().unwrap()).unwrap();
    assert_eq!(parent.permissions().mode() & 0o777, 0o700);
}

#[tokio::test]
async fn owners_are_found_by_uid() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("state.redb")).unwrap();
    store.commit(put("owner", "", Expect::Absent)).await.unwrap();
    let child = json!({"metadata": {"name": "child", "uid": "c",
        "ownerReferences": [{"apiVersion": "v1", "kind": "Namespace", "name": "owner", "uid": "owner"}]}});
    let child = store
        .commit(Change::Put { key: key("child"), value: child, expect: Expect::Absent })
        .await
        .unwrap();
    store.read(|state| {
        assert_eq!(state.dependents("owner"), [key("child")]);
        assert_eq!(state.by_uid("owner").unwrap().key, key("owner"));
    });
    let freed = put("child", "free", Expect::Version(child.version));
    store.commit(freed).await.unwrap();
    assert!(store.read(|state| state.dependents("owner").is_empty()));
}
