//! Server-side apply: every manager owns the fields it set, and takes away only what is its own.
//!
//! [`FieldSet`] is a tree of owned fields, read from and written to
//! `metadata.managedFields`. Three walks over the schema do the work: [`fields::of`] lists the
//! fields of an object, [`compare`] says what an update changed, [`merge`] merges a configuration
//! into the live object and removes what its manager no longer applies. This is the algorithm of
//! Kubernetes' structured-merge-diff, without conversion between API versions: a kind here is
//! written in the version in which it is stored.

mod compare;
mod conflict;
mod fields;
mod managed;
mod merge;
#[cfg(test)]
mod tests;

use chrono::{DateTime, Utc};
use serde_json::Value;

use self::{fields::FieldSet, managed::Managers};
use super::schema::{FieldError, Structural, invalid_status};

pub use conflict::Conflict;

/// The manager name of `kubectl apply --server-side`.
const KUBECTL: &str = "kubectl";

/// Why an apply was refused.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Other managers own fields with other values (409).
    #[error("{}", conflict::message(.0))]
    Conflicts(Vec<Conflict>),
    /// The applied configuration itself is at fault (422).
    #[error("invalid configuration: {}", super::schema::aggregate(.0))]
    Invalid(Vec<FieldError>),
    /// The request is malformed (400).
    #[error("{0}")]
    BadRequest(String),
}

impl Error {
    /// The `Status` object that answers it.
    pub fn status(&self, group: &str, kind: &str, name: &str) -> Value {
        match self {
            Self::Conflicts(conflicts) => conflict::status(conflicts),
            Self::Invalid(errors) => invalid_status(group, kind, name, errors),
            Self::BadRequest(message) => serde_json::json!({
                "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
                "message": message, "reason": "BadRequest", "code": 400,
            }),
        }
    }
}

/// Applies a configuration; the answer is the new object with its `metadata.managedFields`.
///
/// The caller has removed from `applied` what the endpoint does not write (`status` on the main
/// resource of a kind with a status subresource, everything else on the subresource). When nothing
/// changes, the answer equals `live`, timestamps included.
///
/// # Errors
/// When other managers own fields with other values (and `force` is not set), or the
/// configuration cannot be merged.
pub fn server_side(
    schema: &Structural,
    live: Option<&Value>,
    applied: &Value,
    manager: &str,
    force: bool,
    now: DateTime<Utc>,
    subresource: Option<&str>,
) -> Result<Value, Error> {
    if applied.pointer("/metadata/managedFields").is_some_and(|fields| !fields.is_null()) {
        return Err(Error::BadRequest("metadata.managedFields must be nil".into()));
    }
    let mut applied = applied.clone();
    merge::check(schema, &applied, "").map_err(Error::BadRequest)?;
    merge::drop_nulls(&mut applied);

    let empty = Value::Object(serde_json::Map::new());
    let before = live.unwrap_or(&empty);
    let mut managers = Managers::read(before);
    let stored = managers.clone();
    let key = managed::Key::apply(manager, subresource);
    let api_version = applied.get("apiVersion").and_then(Value::as_str).unwrap_or_default();

    let set = fields::managed(schema, &applied);
    let last = managers.replace(&key, set, api_version, now);
    let mut object = before.clone();
    merge::merge(schema, &mut object, &applied);
    if let Some(last) = last {
        // The configuration's own identity (name, apiVersion …) is nobody's, and must stay.
        let owned = managers.union().union(&fields::of(schema, &applied));
        merge::remove(schema, &mut object, &last, &owned);
    }
    managed::detach(&mut object);

    let changes = compare::compare(schema, &stripped(before), &object).without_identity();
    let conflicts = managers.conflicts(&key, &changes);
    if !conflicts.is_empty() && !force && !excused(schema, before, manager, &conflicts) {
        return Err(Error::Conflicts(conflict::list(&conflicts)));
    }
    managers.give_up(&key, &changes);

    if changes.is_empty() && managers.same_fields(&stored) && live.is_some() {
        return Ok(before.clone());
    }
    managers.write(&mut object);
    Ok(object)
}

/// Records in `after.metadata.managedFields` what a create, an update or another kind of patch
/// changed. Managed fields that the request itself brought (`kubectl` migrates them so) count;
/// where it brought none, those of `before` go on.
pub fn track_update(
    schema: &Structural,
    before: Option<&Value>,
    after: &mut Value,
    manager: &str,
    subresource: Option<&str>,
    now: DateTime<Utc>,
) {
    let empty = Value::Object(serde_json::Map::new());
    let before = before.unwrap_or(&empty);
    let brought = after.pointer("/metadata/managedFields").is_some_and(Value::is_array);
    let mut managers = Managers::read(if brought { after } else { before });
    managed::detach(after);

    let changes = compare::compare(schema, &stripped(before), after).without_identity();
    let api_version = after.get("apiVersion").and_then(Value::as_str).unwrap_or_default();
    let key = managed::Key::update(manager, api_version, subresource);
    managers.give_up(&key, &changes);
    managers.record(&key, &changes, api_version, now);
    managers.write(after);
}

fn stripped(object: &Value) -> Value {
    let mut object = object.clone();
    managed::detach(&mut object);
    object
}

/// Fields that the same user applied from the client with the same value are no conflict: this is
/// how `kubectl apply --server-side` takes over from `kubectl apply`.
fn excused(
    schema: &Structural,
    live: &Value,
    manager: &str,
    conflicts: &[(managed::Key, FieldSet)],
) -> bool {
    let annotation = "/metadata/annotations/kubectl.kubernetes.io~1last-applied-configuration";
    let last = live.pointer(annotation).and_then(Value::as_str);
    let Some(last) = last.filter(|_| manager == KUBECTL) else { return false };
    let Ok(last) = serde_json::from_str::<Value>(last) else { return false };
    let differing = compare::compare(schema, &last, &stripped(live));
    let same = fields::of(schema, &last)
        .difference(&differing.added)
        .difference(&differing.modified)
        .difference(&differing.removed);
    conflicts.iter().all(|(_, set)| set.difference(&same).is_empty())
}
