//! The three patch formats that change an object in place; server-side apply is [`apply`](super::apply).

mod strategic;
#[cfg(test)]
mod tests;

use kube::core::GroupVersionKind;
use serde_json::Value;

use super::schema::Structural;

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
    #[error(
        "the body of the request was in an unknown format - accepted media types include: \
         application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml"
    )]
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

/// JSON patch (RFC 6902); `target` stays as it was when an operation fails.
///
/// # Errors
/// When the patch is not a list of operations, or one of them does not fit the object.
pub fn json(target: &mut Value, patch: &Value) -> Result<(), Error> {
    let operations: json_patch::Patch = serde_json::from_value(patch.clone())
        .map_err(|e| Error::Malformed(format!("error decoding patch: {e}")))?;
    json_patch::patch(target, &operations).map_err(|e| {
        Error::Unprocessable(format!(
            "the server rejected our request due to an error in our request: {e}"
        ))
    })
}

/// Strategic merge patch of a built-in kind; `target` stays as it was on error.
///
/// # Errors
/// When the kind is not built in, or a directive in the patch is not well formed.
pub fn strategic(gvk: &GroupVersionKind, target: &mut Value, patch: &Value) -> Result<(), Error> {
    let schema = Structural::builtin(gvk).ok_or(Error::UnsupportedMediaType)?;
    let mut patched = target.clone();
    strategic::merge(Some(&schema), &mut patched, patch)?;
    *target = patched;
    Ok(())
}
