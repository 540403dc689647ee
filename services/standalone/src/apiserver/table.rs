//! `meta.k8s.io/v1` Tables, as `kubectl get` prints them.

use chrono::{DateTime, Utc};
use kube::core::GroupVersionKind;
use serde::Deserialize;
use serde_json::Value;

/// One of a CRD's `additionalPrinterColumns`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Column {
    /// The heading, printed in capitals by kubectl.
    pub name: String,
    /// `string`, `integer`, `number`, `boolean` or `date`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Format hint, such as `int32`.
    #[serde(default)]
    pub format: String,
    /// Explanation.
    #[serde(default)]
    pub description: String,
    /// Above 0: shown with `-o wide` only.
    #[serde(default)]
    pub priority: i32,
    /// Where the cell's value is.
    pub json_path: String,
}

/// The query parameter `includeObject`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum IncludeObject {
    /// Rows carry a PartialObjectMetadata.
    #[default]
    Metadata,
    /// Rows carry the whole object.
    Object,
    /// Rows carry nothing.
    None,
}

/// Renders objects as a Table. `list_metadata` is the list's `metadata` (resourceVersion, continue).
pub fn render(
    _gvk: &GroupVersionKind,
    _columns: Option<&[Column]>,
    _objects: &[Value],
    _include: IncludeObject,
    _list_metadata: &Value,
    _now: DateTime<Utc>,
) -> Value {
    Value::Null
}
