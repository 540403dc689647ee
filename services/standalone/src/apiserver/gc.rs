//! What follows a change by itself: dependents of deleted owners, contents of deleted namespaces,
//! objects of deleted definitions, the `default` service account of a new namespace.
//!
//! It acts on what is there, never on what an event says: an event only tells where to look. After
//! a start, and whenever events were missed, it looks everywhere.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::kinds::Kinds;
use super::object::{self, Owner};
use super::request::Propagation;
use super::server::Server;
use super::store::{self, Event, EventKind, Key, Object, State};
use super::verbs::delete::{Deletion, FOREGROUND, ORPHAN, remove, settle};
use super::{bootstrap, crd};

/// How long a failed step waits for its next try.
const RETRY: Duration = Duration::from_secs(1);

const NAMESPACES: &str = "core/namespaces";

/// Runs until the server closes.
pub async fn run(server: Arc<Server>) {
    let mut latest = server.store.subscribe();
    let mut cursor = 0;
    let mut todo: BTreeSet<Key> = BTreeSet::new();
    loop {
        latest.borrow_and_update();
        look(&server, &mut cursor, &mut todo);
        let mut failed = BTreeSet::new();
        for key in std::mem::take(&mut todo) {
            if let Err(error) = attend(&server, &key).await {
                match error {
                    store::Error::Stale | store::Error::Missing => {
                        tracing::debug!(?key, %error, "will be tried again");
                    }
                    error => tracing::warn!(?key, %error, "will be tried again"),
                }
                failed.insert(key);
            }
        }
        let retry = !failed.is_empty();
        todo = failed;
        tokio::select! {
            () = server.closing.cancelled() => return,
            changed = latest.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(RETRY), if retry => {}
        }
    }
}

/// Collects the objects that the events since `cursor` may concern.
fn look(server: &Server, cursor: &mut u64, todo: &mut BTreeSet<Key>) {
    *cursor = server.store.read(|state| {
        match state.events_after(*cursor) {
            Some(events) => events.for_each(|event| concerned(state, event, todo)),
            None => state.keys().into_iter().for_each(|key| {
                todo.extend(definition(&key));
                todo.insert(key);
            }),
        }
        state.version()
    });
}

fn concerned(state: &State, event: &Event, todo: &mut BTreeSet<Key>) {
    let object = &event.object;
    todo.insert(object.key.clone());
    if event.kind == EventKind::Deleted {
        todo.extend(state.dependents(object::uid(&object.value)));
        for owner in object::owners(&object.value) {
            todo.extend(state.by_uid(owner.uid).map(|owner| owner.key.clone()));
        }
    }
    if !object.key.namespace.is_empty() {
        todo.insert(Key::new(&NAMESPACES.into(), "", &object.key.namespace));
    }
    todo.extend(definition(&object.key));
}

/// The definition that an object of a custom kind has. Groups of definitions have a dot in them,
/// which those of the store's own resources (`core`, `internal`) do not.
fn definition(key: &Key) -> Option<Key> {
    let (group, plural) = key.resource.split_once('/').filter(|(group, _)| group.contains('.'))?;
    Some(Key::new(&crd::RESOURCE.into(), "", &format!("{plural}.{group}")))
}

async fn attend(server: &Arc<Server>, key: &Key) -> Result<(), store::Error> {
    let Some(object) = server.store.get(key) else {
        if *key.resource == *crd::RESOURCE {
            return purge(server, &key.name).await;
        }
        return Ok(());
    };
    if object::is_deleting(&object.value) {
        release(server, &object).await?;
        if *key.resource == *NAMESPACES {
            empty_namespace(server, &object).await?;
        } else if *key.resource == *crd::RESOURCE {
            empty_definition(server, &object).await?;
        }
        return Ok(());
    }
    if *key.resource == *NAMESPACES {
        bootstrap::default_account(server, &key.name).await?;
    }
    collect_orphan(server, &object).await
}

/// What an object's owner reference leads to.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    Present,
    Absent,
    /// The owner's kind is not served here, so nobody can say.
    Unknown,
}

fn find(state: &State, kinds: &Kinds, dependent: &Object, owner: &Owner<'_>) -> Found {
    if kinds.by_name(owner.api_version, owner.kind).is_none() {
        return Found::Unknown;
    }
    let reachable = |found: &Arc<Object>| {
        found.key.namespace.is_empty() || found.key.namespace == dependent.key.namespace
    };
    if state.by_uid(owner.uid).is_some_and(|found| reachable(&found)) {
        Found::Present
    } else {
        Found::Absent
    }
}

/// Deletes an object whose owners are all gone; drops references to those that are.
async fn collect_orphan(server: &Server, object: &Arc<Object>) -> Result<(), store::Error> {
    let owners = object::owners(&object.value);
    if owners.is_empty() {
        return Ok(());
    }
    let kinds = server.kinds();
    let found: Vec<Found> = server
        .store
        .read(|state| owners.iter().map(|owner| find(state, &kinds, object, owner)).collect());
    if found.iter().all(|found| *found == Found::Absent) {
        return delete(server, &object.key, Propagation::Background).await;
    }
    if found.contains(&Found::Absent) && found.contains(&Found::Present) {
        let gone: Vec<&str> = owners
            .iter()
            .zip(&found)
            .filter(|(_, found)| **found == Found::Absent)
            .map(|(owner, _)| owner.uid)
            .collect();
        return forget_owners(server, object, &gone).await;
    }
    Ok(())
}

async fn forget_owners(
    server: &Server,
    object: &Object,
    uids: &[&str],
) -> Result<(), store::Error> {
    let mut value = object.value.clone();
    let mut references: Vec<Value> =
        value["metadata"]["ownerReferences"].as_array().cloned().unwrap_or_default();
    references.retain(|owner| !uids.contains(&owner["uid"].as_str().unwrap_or_default()));
    if references.is_empty() {
        object::remove_meta(&mut value, "ownerReferences");
    } else {
        object::set_meta(&mut value, "ownerReferences", references);
    }
    settle(server, object, value).await.map(drop)
}

/// Does what the `orphan` and `foregroundDeletion` finalizers of an owner ask for.
async fn release(server: &Server, owner: &Arc<Object>) -> Result<(), store::Error> {
    let finalizers = object::finalizers(&owner.value);
    let uid = object::uid(&owner.value);
    let dependents: Vec<Arc<Object>> = server
        .store
        .read(|state| state.dependents(uid).iter().filter_map(|key| state.get(key)).collect());
    if finalizers.contains(&ORPHAN) {
        for dependent in dependents {
            forget_owners(server, &dependent, &[uid]).await?;
        }
        return drop_finalizer(server, owner, ORPHAN).await;
    }
    if finalizers.contains(&FOREGROUND) {
        let mut blocked = false;
        for dependent in dependents {
            blocked |= object::owners(&dependent.value)
                .iter()
                .any(|reference| reference.uid == uid && reference.blocks);
            delete(server, &dependent.key, Propagation::Foreground).await?;
        }
        // Each dependent that goes brings us back here.
        let left = server.store.read(|state| !state.dependents(uid).is_empty());
        if !(blocked && left) {
            return drop_finalizer(server, owner, FOREGROUND).await;
        }
    }
    Ok(())
}

async fn drop_finalizer(
    server: &Server,
    object: &Object,
    finalizer: &str,
) -> Result<(), store::Error> {
    let mut value = object.value.clone();
    object::set_finalizer(&mut value, finalizer, false);
    settle(server, object, value).await.map(drop)
}

/// Deletes what lives in a namespace, and then lets the namespace go.
async fn empty_namespace(server: &Server, namespace: &Object) -> Result<(), store::Error> {
    let contents = server.store.read(|state| state.contents(&namespace.key.name));
    for object in contents.iter().filter(|object| !object::is_deleting(&object.value)) {
        delete(server, &object.key, Propagation::Background).await?;
    }
    if server.store.read(|state| !state.contents(&namespace.key.name).is_empty()) {
        return Ok(());
    }
    let mut value = namespace.value.clone();
    let held = object::strings(&value["spec"]["finalizers"]);
    if !held.contains(&"kubernetes") {
        return Ok(());
    }
    let rest: Vec<&str> = held.into_iter().filter(|name| *name != "kubernetes").collect();
    value["spec"] = if rest.is_empty() { json!({}) } else { json!({"finalizers": rest}) };
    settle(server, namespace, value).await.map(drop)
}

/// Deletes the objects of a definition, and then lets the definition go.
async fn empty_definition(server: &Server, definition: &Object) -> Result<(), store::Error> {
    let resource = crd::resource(&definition.value);
    for object in server.store.list(&resource, None).1 {
        if !object::is_deleting(&object.value) {
            delete(server, &object.key, Propagation::Background).await?;
        }
    }
    let empty = server.store.list(&resource, None).1.is_empty();
    if empty && object::finalizers(&definition.value).contains(&crd::CLEANUP) {
        return drop_finalizer(server, definition, crd::CLEANUP).await;
    }
    Ok(())
}

/// Removes objects that were created while their definition vanished: nobody could see them again,
/// until a new definition of the same name brought them back.
async fn purge(server: &Server, definition: &str) -> Result<(), store::Error> {
    let Some((plural, group)) = definition.split_once('.') else { return Ok(()) };
    let resource = format!("{group}/{plural}");
    // Built-in kinds are served without a definition.
    if server.kinds().get(group, plural).is_some() {
        return Ok(());
    }
    for object in server.store.list(&resource, None).1 {
        let gone =
            store::Change::Remove { key: object.key.clone(), last: None, version: object.version };
        match server.store.commit(gone).await {
            Ok(_) | Err(store::Error::Missing) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

async fn delete(server: &Server, key: &Key, how: Propagation) -> Result<(), store::Error> {
    let Some(kind) = server.kinds().stored_as(&key.resource) else { return Ok(()) };
    let deletion = Deletion { propagation: Some(how), ..Deletion::default() };
    match remove(server, &kind, key, &deletion).await {
        Ok(_) => Ok(()),
        Err(failure) if failure.code == 404 => Ok(()),
        Err(failure) if failure.code == 409 => Err(store::Error::Stale),
        Err(failure) => Err(store::Error::Disk(failure.to_string())),
    }
}
