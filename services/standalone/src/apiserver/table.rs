//! `meta.k8s.io/v1` Tables: what `kubectl get` prints is decided here, not in kubectl.

mod age;
mod batch;
mod builtin;
mod jsonpath;
mod pod;
#[cfg(test)]
mod tests;

use chrono::{DateTime, Utc};
use kube::core::GroupVersionKind;
use serde::Deserialize;
use serde_json::{Value, json};

use self::jsonpath::JsonPath;

/// One of a CRD's `additionalPrinterColumns`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Column {
    /// The heading; kubectl prints it in capitals.
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

/// A column as it is announced.
#[derive(Debug, Clone)]
struct Heading {
    name: String,
    kind: String,
    format: String,
    description: String,
    priority: i32,
}

impl Heading {
    fn new(name: &str, kind: &str) -> Self {
        let format = if name == "Name" { "name" } else { "" };
        Self {
            name: name.into(),
            kind: kind.into(),
            format: format.into(),
            description: String::new(),
            priority: 0,
        }
    }

    /// A column that only `-o wide` shows.
    fn wide(name: &str) -> Self {
        Self { priority: 1, ..Self::new(name, "string") }
    }

    fn write(&self) -> Value {
        json!({
            "name": self.name, "type": self.kind, "format": self.format,
            "description": self.description, "priority": self.priority,
        })
    }
}

/// Renders objects as a Table. `columns` are those of a custom kind; a built-in kind has its own.
/// `list_metadata` is the list's `metadata` (`resourceVersion`, `continue`).
pub fn render(
    gvk: &GroupVersionKind,
    columns: Option<&[Column]>,
    objects: &[Value],
    include: IncludeObject,
    list_metadata: &Value,
    now: DateTime<Utc>,
) -> Value {
    let (headings, cells) = match columns {
        Some(columns) if !columns.is_empty() => custom(columns, objects, now),
        _ => builtin::table(gvk, objects, now),
    };
    let rows: Vec<Value> =
        objects.iter().zip(cells).map(|(object, cells)| row(object, cells, include)).collect();
    json!({
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": list_metadata,
        "columnDefinitions": headings.iter().map(Heading::write).collect::<Vec<_>>(),
        "rows": rows,
    })
}

fn row(object: &Value, cells: Vec<Value>, include: IncludeObject) -> Value {
    let mut row = json!({"cells": cells});
    match include {
        IncludeObject::None => {}
        IncludeObject::Object => row["object"] = object.clone(),
        IncludeObject::Metadata => {
            row["object"] = json!({
                "kind": "PartialObjectMetadata",
                "apiVersion": "meta.k8s.io/v1",
                "metadata": object["metadata"],
            });
        }
    }
    row
}

fn custom(
    columns: &[Column],
    objects: &[Value],
    now: DateTime<Utc>,
) -> (Vec<Heading>, Vec<Vec<Value>>) {
    let mut headings = vec![Heading::new("Name", "string")];
    headings.extend(columns.iter().map(|column| Heading {
        name: column.name.clone(),
        kind: column.kind.clone(),
        format: column.format.clone(),
        description: column.description.clone(),
        priority: column.priority,
    }));
    let paths: Vec<Option<JsonPath>> =
        columns.iter().map(|column| JsonPath::parse(&column.json_path)).collect();
    let cells = objects
        .iter()
        .map(|object| {
            let mut cells = vec![object["metadata"]["name"].clone()];
            cells.extend(columns.iter().zip(&paths).map(|(column, path)| {
                let found = path.as_ref().map(|path| path.find(object)).unwrap_or_default();
                cell(&column.kind, &found, now)
            }));
            cells
        })
        .collect();
    (headings, cells)
}

/// A value of the column's type, or null, which kubectl leaves blank.
fn cell(kind: &str, found: &[&Value], now: DateTime<Utc>) -> Value {
    let Some(first) = found.first() else { return Value::Null };
    match (kind, first) {
        (_, Value::Null) => Value::Null,
        ("string", _) => {
            let texts = found.iter().map(|value| match value {
                Value::String(text) => text.clone(),
                other => other.to_string(),
            });
            Value::String(texts.collect::<Vec<_>>().join(" "))
        }
        ("date", Value::String(text)) => Value::String(age::since(text, now)),
        ("integer", Value::Number(number)) => match number.as_f64() {
            Some(float) if !number.is_i64() && !number.is_u64() => json!(float.trunc()),
            _ => (*first).clone(),
        },
        ("number", Value::Number(_)) | ("boolean", Value::Bool(_)) => (*first).clone(),
        _ => Value::Null,
    }
}
