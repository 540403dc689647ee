//! The compiled schema.

use std::sync::Arc;

use kube::core::GroupVersionKind;
use serde_json::Value;

use super::FieldError;

/// Why a schema is not usable.
#[derive(Debug, thiserror::Error)]
#[error("schema of {path}: {reason}")]
pub struct CompileError {
    /// The field whose schema is at fault.
    pub path: String,
    /// What is wrong with it.
    pub reason: String,
}

/// A compiled schema.
#[derive(Debug, Clone)]
pub struct Structural {}

impl Structural {
    /// Compiles `openAPIV3Schema` of a CRD version.
    pub fn compile(_schema: &Value) -> Result<Self, CompileError> {
        Ok(Self {})
    }

    /// The schema of a built-in kind; `None` when the kind is not built in.
    pub fn builtin(_gvk: &GroupVersionKind) -> Option<Arc<Self>> {
        None
    }

    /// Removes unknown fields, and returns their paths (`spec.foo`) in order.
    pub fn prune(&self, _object: &mut Value) -> Vec<String> {
        Vec::new()
    }

    /// Sets the defaults that the schema names.
    pub fn default(&self, _object: &mut Value) {}

    /// Checks the object.
    pub fn validate(&self, _object: &Value) -> Vec<FieldError> {
        Vec::new()
    }
}
