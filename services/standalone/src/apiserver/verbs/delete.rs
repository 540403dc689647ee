//! `delete` and `deletecollection`: preconditions, propagation, grace, finalizers.

use std::sync::Arc;

use bytes::Bytes;
use http::Response;
use serde_json::{Value, json};

use super::{TRIES, parse, read, update};
use crate::apiserver::kinds::Kind;
use crate::apiserver::represent::respond;
use crate::apiserver::request::Propagation;
use crate::apiserver::selector::Selector;
use crate::apiserver::server::{Call, Server};
use crate::apiserver::service::Body;
use crate::apiserver::status::{Failure, success};
use crate::apiserver::store::{self, Change, Expect, Key, Object};
use crate::apiserver::{crd, object};

/// Keeps an owner until its dependents are gone.
pub const FOREGROUND: &str = "foregroundDeletion";
/// Keeps an owner until its dependents have forgotten it.
pub const ORPHAN: &str = "orphan";

/// How an object is deleted.
#[derive(Debug, Clone, Default)]
pub struct Deletion {
    /// What happens to its dependents; nothing said means Background.
    pub propagation: Option<Propagation>,
    /// How long a Pod may take to stop.
    pub grace_seconds: Option<i64>,
    /// The uid that the object must have.
    pub uid: Option<String>,
    /// The version that the object must have.
    pub version: Option<String>,
    /// Whether to only say what would happen.
    pub dry_run: bool,
}

/// What became of a deletion.
#[derive(Debug)]
pub enum Removal {
    /// The object is gone; its last state.
    Gone(Arc<Object>),
    /// It waits for finalizers or grace; its present state.
    Waiting(Value),
}

/// Deletes one object.
///
/// # Errors
/// As the API server refuses.
pub async fn one(call: &Call<'_>, body: Bytes) -> Result<Response<Body>, Failure> {
    let deletion = options(call, &body)?;
    let key = call.kind.key(call.namespace(), call.name());
    let encoding = call.accept.encoding;
    Ok(match remove(call.server, &call.kind, &key, &deletion).await? {
        Removal::Gone(object) => {
            let uid = object::uid(&object.value);
            respond(200, &success(&call.kind, call.name(), uid), encoding, &[])
        }
        Removal::Waiting(value) => respond(200, call.view().object(&value).as_ref(), encoding, &[]),
    })
}

/// Deletes what a list with the same parameters would show, and shows it.
///
/// # Errors
/// As the API server refuses; objects before the refused one are deleted.
pub async fn collection(call: &Call<'_>, body: Bytes) -> Result<Response<Body>, Failure> {
    let deletion = options(call, &body)?;
    let params = &call.params;
    let selector = Selector::parse(&call.kind, &params.label_selector, &params.field_selector)?;
    let (version, objects) = read::selected(call, &selector);
    for object in &objects {
        match remove(call.server, &call.kind, &object.key, &deletion).await {
            Err(failure) if failure.code != 404 => return Err(failure),
            _ => {}
        }
    }
    let metadata = json!({"resourceVersion": version.to_string()});
    let list = call.view().list(objects.iter().map(|object| &object.value), &metadata);
    Ok(respond(200, &list, call.accept.encoding, &[]))
}

/// Options come in the query, or in a DeleteOptions body, which wins.
fn options(call: &Call<'_>, body: &Bytes) -> Result<Deletion, Failure> {
    let params = &call.params;
    let mut deletion = Deletion {
        propagation: params.propagation_policy,
        grace_seconds: params.grace_period_seconds,
        uid: None,
        version: None,
        dry_run: params.dry_run,
    };
    if body.is_empty() {
        return Ok(deletion);
    }
    let options = parse(call, body)?;
    let text = |value: &Value| value.as_str().map(str::to_owned);
    if let Some(policy) = options["propagationPolicy"].as_str() {
        deletion.propagation = Some(Propagation::parse(policy)?);
    } else if options["orphanDependents"] == true {
        deletion.propagation = Some(Propagation::Orphan);
    }
    deletion.grace_seconds = options["gracePeriodSeconds"].as_i64().or(deletion.grace_seconds);
    deletion.uid = text(&options["preconditions"]["uid"]);
    deletion.version = text(&options["preconditions"]["resourceVersion"]);
    deletion.dry_run |= object::strings(&options["dryRun"]).contains(&"All");
    Ok(deletion)
}

/// Deletes an object, or marks it and leaves it to whoever holds its finalizers.
///
/// # Errors
/// When it is not there, a precondition fails, or the store refuses.
pub async fn remove(
    server: &Server,
    kind: &Kind,
    key: &Key,
    deletion: &Deletion,
) -> Result<Removal, Failure> {
    for _ in 0..TRIES {
        let live = server.store.get(key).ok_or_else(|| Failure::not_found(kind, &key.name))?;
        check_preconditions(kind, &live, deletion)?;
        let marked = mark(server, kind, &live.value, deletion);
        let goes = update::may_go(&marked);
        if deletion.dry_run {
            return Ok(if goes { Removal::Gone(live) } else { Removal::Waiting(marked) });
        }
        if !goes && marked == live.value {
            return Ok(Removal::Waiting(marked));
        }
        match settle(server, &live, marked).await {
            Ok(object) if goes => return Ok(Removal::Gone(object)),
            Ok(object) => return Ok(Removal::Waiting(object.value.clone())),
            Err(store::Error::Stale) => {}
            Err(store::Error::Missing) => return Err(Failure::not_found(kind, &key.name)),
            Err(error) => return Err(Failure::internal(error)),
        }
    }
    Err(Failure::conflict(kind, &key.name))
}

/// Writes an object's new state, or its removal when it is being deleted and nothing holds it.
pub(in crate::apiserver) async fn settle(
    server: &Server,
    live: &Object,
    value: Value,
) -> Result<Arc<Object>, store::Error> {
    let key = live.key.clone();
    let change = if object::is_deleting(&value) && update::may_go(&value) {
        Change::Remove { key, last: Some(value), version: live.version }
    } else {
        Change::Put { key, value, expect: Expect::Version(live.version) }
    };
    server.store.commit(change).await
}

fn check_preconditions(kind: &Kind, live: &Object, deletion: &Deletion) -> Result<(), Failure> {
    let checks = [
        ("UID", "UID", &deletion.uid, object::uid(&live.value)),
        (
            "ResourceVersion",
            "ResourceVersion",
            &deletion.version,
            object::meta(&live.value, "resourceVersion"),
        ),
    ];
    for (what, short, wanted, found) in checks {
        if let Some(wanted) = wanted.as_deref()
            && wanted != found
        {
            let why = format!(
                "Precondition failed: {what} in precondition: {wanted}, {short} in object meta: \
                 {found}"
            );
            return Err(Failure::conflict_because(kind, &live.key.name, &why));
        }
    }
    Ok(())
}

/// The object as one that is being deleted.
fn mark(server: &Server, kind: &Kind, live: &Value, deletion: &Deletion) -> Value {
    let mut value = live.clone();
    let grace = grace(kind, live, deletion.grace_seconds);
    if object::is_deleting(live) {
        let before = live["metadata"]["deletionGracePeriodSeconds"].as_i64().unwrap_or(0);
        if grace < before {
            object::set_meta(&mut value, "deletionGracePeriodSeconds", grace);
        }
        return value;
    }
    let has_dependents =
        || server.store.read(|state| !state.dependents(object::uid(live)).is_empty());
    match deletion.propagation {
        Some(Propagation::Foreground) if has_dependents() => {
            object::set_finalizer(&mut value, FOREGROUND, true);
        }
        Some(Propagation::Orphan) if has_dependents() => {
            object::set_finalizer(&mut value, ORPHAN, true);
        }
        Some(Propagation::Background) => {
            object::set_finalizer(&mut value, FOREGROUND, false);
            object::set_finalizer(&mut value, ORPHAN, false);
        }
        _ => {}
    }
    if *kind.resource == *crd::RESOURCE {
        let resource = crd::resource(live);
        if server.store.read(|state| !state.list(&resource, None).is_empty()) {
            object::set_finalizer(&mut value, crd::CLEANUP, true);
        }
        crd::set_terminating(&mut value);
    }
    if *kind.resource == *"core/namespaces" {
        value["status"]["phase"] = "Terminating".into();
    }
    let when = object::now() + chrono::Duration::seconds(grace);
    object::set_meta(&mut value, "deletionTimestamp", object::timestamp(when));
    object::set_meta(&mut value, "deletionGracePeriodSeconds", grace);
    if let Some(generation) = live["metadata"]["generation"].as_i64() {
        object::set_meta(&mut value, "generation", generation + 1);
    }
    value
}

/// Only a Pod that runs somewhere is given time: whoever runs it ends the wait by deleting it with
/// a grace of 0.
fn grace(kind: &Kind, live: &Value, asked: Option<i64>) -> i64 {
    if *kind.resource != *"core/pods" {
        return 0;
    }
    let finished = matches!(live["status"]["phase"].as_str(), Some("Succeeded" | "Failed"));
    if finished || !live["spec"]["nodeName"].is_string() {
        return 0;
    }
    let usual = || live["spec"]["terminationGracePeriodSeconds"].as_i64().unwrap_or(30);
    asked.unwrap_or_else(usual).max(0)
}
