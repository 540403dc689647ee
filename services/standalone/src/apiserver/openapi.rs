//! OpenAPI documents for kubectl.

use kube::core::GroupVersionKind;
use serde_json::Value;

/// A kind that the server serves.
#[derive(Debug, Clone)]
pub struct Kind {
    /// Group (empty for core), version and kind.
    pub gvk: GroupVersionKind,
    /// The resource name in paths: `backupsessions`.
    pub plural: String,
    /// Whether objects live in namespaces.
    pub namespaced: bool,
    /// Whether it has a status subresource.
    pub status: bool,
    /// `openAPIV3Schema` of a custom kind; `None` for a built-in one.
    pub schema: Option<Value>,
}

/// The answer of `/openapi/v3`.
pub fn v3_index(_kinds: &[Kind]) -> Value {
    Value::Null
}

/// The answer of `/openapi/v3/api/v1` (`group` empty) or `/openapi/v3/apis/<group>/<version>`.
/// `None` when no kind is of that group and version.
pub fn v3(_group: &str, _version: &str, _kinds: &[Kind]) -> Option<Value> {
    None
}

/// The answer of `/openapi/v2` as JSON.
pub fn v2(_kinds: &[Kind]) -> Value {
    Value::Null
}

/// The answer of `/openapi/v2` for `Accept: application/com.github.proto-openapi.spec.v2@v1.0+protobuf`.
pub fn v2_protobuf(_document: &Value) -> Vec<u8> {
    Vec::new()
}
