//! Server-side apply: who owns which field.

use chrono::{DateTime, Utc};
use serde_json::Value;

use super::schema::{FieldError, Structural};

/// One field that another manager owns with another value.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Conflict {
    /// The other manager as it is shown: `"kubectl-client-side-apply" using stash.appscode.com/v1beta1`.
    pub manager: String,
    /// The field: `.spec.schedule`.
    pub field: String,
}

/// Why an apply was refused.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Other managers own fields with other values (409).
    #[error("apply failed")]
    Conflicts(Vec<Conflict>),
    /// The applied configuration itself is at fault (422).
    #[error("invalid configuration")]
    Invalid(Vec<FieldError>),
    /// The request is malformed (400).
    #[error("{0}")]
    BadRequest(String),
}

impl Error {
    /// The `Status` object that answers it.
    pub fn status(&self, _group: &str, _kind: &str, _name: &str) -> Value {
        Value::Null
    }
}

/// Applies a configuration; the answer is the new object with its `metadata.managedFields`.
/// When nothing changes, the answer equals `live` byte for byte, timestamps included.
pub fn server_side(
    _schema: &Structural,
    _live: Option<&Value>,
    applied: &Value,
    _manager: &str,
    _force: bool,
    _now: DateTime<Utc>,
    _subresource: Option<&str>,
) -> Result<Value, Error> {
    Ok(applied.clone())
}

/// Records in `after.metadata.managedFields` what a create, update or (other) patch changed.
pub fn track_update(
    _schema: &Structural,
    _before: Option<&Value>,
    _after: &mut Value,
    _manager: &str,
    _subresource: Option<&str>,
    _now: DateTime<Utc>,
) {
}
