//! `update`, and the part of every other change that replaces a stored object.

use std::sync::Arc;

use bytes::Bytes;
use http::Response;
use serde_json::Value;

use super::write::{self, Ownership, Refusal, Written};
use super::{TRIES, parse};
use crate::apiserver::kinds::Rules;
use crate::apiserver::server::Call;
use crate::apiserver::service::Body;
use crate::apiserver::status::Failure;
use crate::apiserver::store::{self, Change, Expect, Object};
use crate::apiserver::webhooks::{self, Operation};
use crate::apiserver::{crd, object};

/// Replaces an object, or its status.
///
/// # Errors
/// As the API server refuses.
pub async fn run(call: &Call<'_>, body: Bytes) -> Result<Response<Body>, Failure> {
    let draft = write::decode(call, parse(call, &body)?)?;
    let versioned = !object::meta(&draft.value, "resourceVersion").is_empty();
    if !versioned && matches!(call.kind.rules, Rules::Custom) && !call.is_status() {
        let message = format!(
            "{}.{} {:?} is invalid: metadata.resourceVersion: Invalid value: 0x0: must be \
             specified for an update",
            call.kind.name,
            call.kind.group,
            call.name()
        );
        return Err(Failure::new(422, "Invalid", message));
    }
    for _ in 0..TRIES {
        let live = live(call)?;
        match replace(call, &live, draft.value.clone(), Ownership::Tracked).await {
            Ok(written) => return Ok(write::show(call, 200, &written, draft.warnings)),
            Err(Refusal::Stale) if !versioned => {}
            Err(refusal) => return Err(refusal.into_failure(&call.kind, call.name())),
        }
    }
    Err(Failure::conflict(&call.kind, call.name()))
}

/// The object that the path names.
pub(in crate::apiserver) fn live(call: &Call<'_>) -> Result<Arc<Object>, Failure> {
    let key = call.kind.key(call.namespace(), call.name());
    call.server.store.get(&key).ok_or_else(|| Failure::not_found(&call.kind, call.name()))
}

/// Replaces `live` by `proposed`, as far as the target of the call lets it be replaced.
pub(super) async fn replace(
    call: &Call<'_>,
    live: &Arc<Object>,
    proposed: Value,
    ownership: Ownership,
) -> Result<Written, Refusal> {
    let (kind, name) = (&call.kind, call.name());
    check_identity(call, &live.value, &proposed)?;
    let mut new = merged(call, &live.value, proposed, ownership);
    if *kind.resource == *crd::RESOURCE && !call.is_status() {
        crd::set_status(&mut new, &call.server.kinds());
    }
    if kind.generation && !call.is_status() && differs_in_substance(&live.value, &new) {
        let generation = live.value["metadata"]["generation"].as_i64().unwrap_or(0);
        object::set_meta(&mut new, "generation", generation + 1);
    }
    write::validate(call, Some(&live.value), &new)?;
    webhooks::review(call, Operation::Update, Some(&live.value), &new).await?;
    if ownership == Ownership::Tracked {
        write::track(call, Some(&live.value), &mut new);
    }
    if same(&live.value, &new) {
        return Ok(Written::Stored(Arc::clone(live)));
    }
    let last_finalizer_gone = object::is_deleting(&new) && may_go(&new);
    if call.params.dry_run {
        return Ok(Written::Dry(new));
    }
    let key = live.key.clone();
    let change = if last_finalizer_gone {
        Change::Remove { key, last: Some(new), version: live.version }
    } else {
        Change::Put { key, value: new, expect: Expect::Version(live.version) }
    };
    match call.server.store.commit(change).await {
        Ok(object) => Ok(Written::Stored(object)),
        Err(store::Error::Stale) => Err(Refusal::Stale),
        Err(store::Error::Missing) => Err(Failure::not_found(kind, name).into()),
        Err(error) => Err(Failure::internal(error).into()),
    }
}

/// Whether nothing holds an object back that is being deleted.
pub(super) fn may_go(value: &Value) -> bool {
    let graceful = value["metadata"]["deletionGracePeriodSeconds"].as_i64().unwrap_or(0) > 0;
    let namespace_in_use = value["kind"] == "Namespace"
        && value["apiVersion"] == "v1"
        && !object::strings(&value["spec"]["finalizers"]).is_empty();
    object::finalizers(value).is_empty() && !graceful && !namespace_in_use
}

fn check_identity(call: &Call<'_>, live: &Value, proposed: &Value) -> Result<(), Failure> {
    let (kind, name) = (&call.kind, call.name());
    let found = object::name(proposed);
    if !found.is_empty() && found != name {
        return Err(Failure::bad_request(format!(
            "the name of the object ({found}) does not match the name on the URL ({name})"
        )));
    }
    let found = object::namespace(proposed);
    if kind.namespaced && !found.is_empty() && found != call.namespace() {
        let message = "the namespace of the provided object does not match the namespace sent on \
                       the request";
        return Err(Failure::bad_request(message));
    }
    let (uid, live_uid) = (object::uid(proposed), object::uid(live));
    if !uid.is_empty() && uid != live_uid {
        let why = format!(
            "Precondition failed: UID in precondition: {uid}, UID in object meta: {live_uid}"
        );
        return Err(Failure::conflict_because(kind, name, &why));
    }
    let version = object::meta(proposed, "resourceVersion");
    if !version.is_empty() && version != object::meta(live, "resourceVersion") {
        return Err(Failure::conflict(kind, name));
    }
    Ok(())
}

/// What the call may change comes from `proposed`, the rest from `live`.
fn merged(call: &Call<'_>, live: &Value, proposed: Value, ownership: Ownership) -> Value {
    if let Some(subresource) = call.target.subresource.as_deref() {
        let mut new = live.clone();
        if subresource == "status" {
            object::copy_field(&proposed, &mut new, "status");
        } else {
            new["spec"]["finalizers"] = proposed["spec"]["finalizers"].clone();
        }
        if ownership == Ownership::Given {
            object::copy_meta(&proposed, &mut new, "managedFields");
        }
        return new;
    }
    let mut new = proposed;
    if call.version.status {
        object::copy_field(live, &mut new, "status");
    }
    if *call.kind.resource == *"core/namespaces" {
        object::copy_field(live, &mut new, "spec");
    }
    for field in [
        "name",
        "namespace",
        "uid",
        "resourceVersion",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "generation",
        "generateName",
    ] {
        object::copy_meta(live, &mut new, field);
    }
    if ownership == Ownership::Tracked {
        // An empty list is how a client asks to forget all owners.
        let reset = new["metadata"]["managedFields"].as_array().is_some_and(Vec::is_empty);
        if reset {
            object::remove_meta(&mut new, "managedFields");
        } else {
            object::copy_meta(live, &mut new, "managedFields");
        }
    }
    new
}

/// Whether anything but `metadata` and `status` differs.
fn differs_in_substance(one: &Value, other: &Value) -> bool {
    let substance = |value: &Value| {
        let mut value = value.clone();
        object::remove(&mut value, "metadata");
        object::remove(&mut value, "status");
        value
    };
    substance(one) != substance(other)
}

/// Whether a write would change nothing but the times at which fields were last owned.
fn same(one: &Value, other: &Value) -> bool {
    let timeless = |value: &Value| {
        let mut value = value.clone();
        if let Some(entries) = value["metadata"].get_mut("managedFields") {
            for entry in entries.as_array_mut().into_iter().flatten() {
                object::remove(entry, "time");
            }
        }
        value
    };
    timeless(one) == timeless(other)
}
