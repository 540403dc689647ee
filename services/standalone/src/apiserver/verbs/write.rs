//! What every change of an object goes through: reading it into the stored form, keeping what the
//! server owns, validation, field ownership, the store.

use std::sync::Arc;

use http::Response;
use serde_json::Value;

use crate::apiserver::builtin::{self, FieldErrors, unknown_fields};
use crate::apiserver::kinds::{Kind, Rules};
use crate::apiserver::object;
use crate::apiserver::represent::respond;
use crate::apiserver::request::FieldValidation;
use crate::apiserver::server::Call;
use crate::apiserver::service::Body;
use crate::apiserver::status::Failure;
use crate::apiserver::store::{self, Change, Expect, Object};
use crate::apiserver::webhooks::{self, Operation};
use crate::apiserver::{admission, apply, crd, events, schema};

/// An object in its stored form, before it is stored.
pub(super) struct Draft {
    pub(super) value: Value,
    pub(super) warnings: Vec<String>,
}

/// How field ownership is recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ownership {
    /// What changed belongs to the caller.
    Tracked,
    /// `metadata.managedFields` is right already: server-side apply made it.
    Given,
}

/// What became of a write.
pub(super) enum Written {
    /// It is stored, or nothing had to change, or the last finalizer went and so did the object.
    Stored(Arc<Object>),
    /// It would have been stored.
    Dry(Value),
}

/// Why a write was not made.
pub(super) enum Refusal {
    /// Somebody else wrote in between: read again and retry, if the caller did not name a version.
    Stale,
    /// It may not be made.
    Failed(Failure),
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl Refusal {
    pub(super) fn into_failure(self, kind: &Kind, name: &str) -> Failure {
        match self {
            Self::Stale => Failure::conflict(kind, name),
            Self::Failed(failure) => failure,
        }
    }
}

/// The answer to a write.
pub(super) fn show(
    call: &Call<'_>,
    code: u16,
    written: &Written,
    mut warnings: Vec<String>,
) -> Response<Body> {
    warnings.extend(call.version.deprecation.clone());
    let value = match written {
        Written::Stored(object) => &object.value,
        Written::Dry(value) => value,
    };
    respond(code, call.view().object(value).as_ref(), call.accept.encoding, &warnings)
}

/// Reads a whole object as this version of its kind, and brings it into its stored form.
pub(super) fn decode(call: &Call<'_>, mut value: Value) -> Result<Draft, Failure> {
    let Call { kind, version, .. } = call;
    check_type(call, &mut value)?;
    let mut unknown = Vec::new();
    match &kind.rules {
        Rules::Builtin(entry) => {
            let name = &kind.name;
            let kept = entry.decode(&value).map_err(|why| {
                Failure::bad_request(format!(
                    "{name} in version {:?} cannot be handled as a {name}: {why}",
                    version.name
                ))
            })?;
            unknown.extend(unknown_fields(&value, &kept));
            value = if kind.is_event_view() { events::to_core(&kept) } else { kept };
            if *kind.resource == *crd::RESOURCE {
                crd::set_defaults(&mut value);
            } else if !call.is_status() {
                builtin::set_defaults(kind, &mut value);
            }
        }
        Rules::Custom => {
            let metadata = admission::typed_metadata(kind, &version.name, &value)?;
            unknown.extend(
                unknown_fields(&value["metadata"], &metadata)
                    .into_iter()
                    .map(|path| format!("metadata.{path}")),
            );
            value["metadata"] = metadata;
            if let Some(schema) = &version.schema {
                unknown.extend(schema.prune(&mut value));
                schema.default(&mut value);
            }
        }
    }
    value["apiVersion"] =
        if kind.is_event_view() { "v1".into() } else { kind.api_version(&kind.stored).into() };
    Ok(Draft { value, warnings: told(call, &unknown)? })
}

/// What is said about unknown fields.
pub(super) fn told(call: &Call<'_>, unknown: &[String]) -> Result<Vec<String>, Failure> {
    let named = unknown.iter().map(|path| format!("unknown field {path:?}"));
    match call.params.field_validation {
        FieldValidation::Ignore => Ok(Vec::new()),
        FieldValidation::Warn => Ok(named.collect()),
        FieldValidation::Strict if unknown.is_empty() => Ok(Vec::new()),
        FieldValidation::Strict => {
            let (name, version) = (&call.kind.name, &call.version.name);
            let all = named.collect::<Vec<_>>().join(", ");
            Err(Failure::bad_request(format!(
                "{name} in version {version:?} cannot be handled as a {name}: strict decoding \
                 error: {all}"
            )))
        }
    }
}

/// `apiVersion` and `kind` must be those of the path; built-in kinds may leave them out.
pub(super) fn check_type(call: &Call<'_>, value: &mut Value) -> Result<(), Failure> {
    let expected = call.kind.api_version(&call.version.name);
    if !value.is_object() {
        let message = "the object provided is unrecognized: it must be an object";
        return Err(Failure::bad_request(message));
    }
    for (field, expected, what) in
        [("apiVersion", &expected, "API version"), ("kind", &call.kind.name, "kind")]
    {
        match value[field].as_str() {
            Some(found) if found == expected => {}
            Some(found) if !found.is_empty() => {
                return Err(Failure::bad_request(format!(
                    "the {what} in the data ({found}) does not match the expected {what} \
                     ({expected})"
                )));
            }
            _ if call.kind.builtin().is_some() => value[field] = expected.clone().into(),
            _ => {
                let message = format!("Object '{field}' is missing in the body of the request");
                return Err(Failure::bad_request(message));
            }
        }
    }
    if !value["metadata"].is_object() {
        value["metadata"] = serde_json::json!({});
    }
    Ok(())
}

pub(super) fn validate(call: &Call<'_>, old: Option<&Value>, new: &Value) -> Result<(), Failure> {
    let kind = &call.kind;
    let mut errors = FieldErrors::default();
    admission::metadata(kind, new, &mut errors);
    if let Some(old) = old.filter(|old| object::is_deleting(old)) {
        let before = object::finalizers(old);
        let added: Vec<&str> =
            object::finalizers(new).into_iter().filter(|name| !before.contains(name)).collect();
        if !added.is_empty() {
            let why = format!(
                "no new finalizers can be added if the object is being deleted, found new \
                 finalizers []string{{{added:?}}}"
            );
            errors.forbidden("metadata.finalizers", &why.replace(['[', ']'], ""));
        }
    }
    errors.0.extend(match &kind.rules {
        Rules::Builtin(_) if *kind.resource == *crd::RESOURCE => crd::check(old, new),
        Rules::Builtin(_) => builtin::check(kind, old, new),
        Rules::Custom => {
            call.version.schema.as_ref().map(|schema| schema.validate(old, new)).unwrap_or_default()
        }
    });
    if errors.0.is_empty() {
        return Ok(());
    }
    let name = object::name(new);
    Err(Failure::from_status(schema::invalid_status(&kind.group, &kind.name, name, &errors.0)))
}

pub(super) fn track(call: &Call<'_>, before: Option<&Value>, after: &mut Value) {
    if let Some(schema) = &call.version.schema {
        let subresource = call.target.subresource.as_deref();
        apply::track_update(schema, before, after, &call.manager, subresource, object::now());
    }
}

/// Stores a new object.
pub(super) async fn insert(
    call: &Call<'_>,
    mut value: Value,
    ownership: Ownership,
) -> Result<Written, Refusal> {
    let kind = &call.kind;
    let namespace = call.namespace();
    match object::namespace(&value) {
        found if kind.namespaced && !found.is_empty() && found != namespace => {
            let message = "the namespace of the provided object does not match the namespace sent \
                           on the request";
            return Err(Failure::bad_request(message).into());
        }
        _ if kind.namespaced => object::set_meta(&mut value, "namespace", namespace),
        _ => object::remove_meta(&mut value, "namespace"),
    }
    if !object::meta(&value, "resourceVersion").is_empty() {
        let message = "resourceVersion should not be set on objects to be created";
        return Err(Failure::bad_request(message).into());
    }
    let prefix = object::meta(&value, "generateName").to_owned();
    if object::name(&value).is_empty() && !prefix.is_empty() {
        object::set_meta(&mut value, "name", object::generated_name(&prefix));
    }
    let name = object::name(&value).to_owned();
    if name.is_empty() {
        let (kind, plural) = (&kind.name, &kind.plural);
        let message = format!(
            "{kind} {plural:?} is invalid: metadata.name: Required value: name or generateName is \
             required"
        );
        return Err(Failure::new(422, "Invalid", message).into());
    }
    admission::namespace(&call.server.store, kind, namespace, &name)?;
    for field in
        ["deletionTimestamp", "deletionGracePeriodSeconds", "selfLink", "uid", "generation"]
    {
        object::remove_meta(&mut value, field);
    }
    if call.version.status {
        object::remove(&mut value, "status");
    }
    if ownership == Ownership::Tracked {
        object::remove_meta(&mut value, "managedFields");
        object::remove_meta(&mut value, "creationTimestamp");
        track(call, None, &mut value);
    }
    object::set_meta(&mut value, "uid", object::new_uid());
    object::set_meta(&mut value, "creationTimestamp", object::timestamp(object::now()));
    if kind.generation {
        object::set_meta(&mut value, "generation", 1);
    }
    if *kind.resource == *crd::RESOURCE {
        crd::set_status(&mut value, &call.server.kinds());
    } else {
        builtin::set_on_create(kind, &mut value);
    }
    validate(call, None, &value)?;
    webhooks::review(call, Operation::Create, None, &value).await?;
    let key = kind.key(namespace, &name);
    if call.params.dry_run {
        return match call.server.store.get(&key) {
            Some(_) => Err(Failure::already_exists(kind, &name).into()),
            None => Ok(Written::Dry(value)),
        };
    }
    let put = Change::Put { key, value, expect: Expect::Absent };
    match call.server.store.commit(put).await {
        Ok(object) => Ok(Written::Stored(object)),
        Err(store::Error::Exists) => Err(Failure::already_exists(kind, &name).into()),
        Err(store::Error::NoNamespace(gone)) => Err(Failure::no_namespace(&gone).into()),
        Err(error) => Err(Failure::internal(error).into()),
    }
}
