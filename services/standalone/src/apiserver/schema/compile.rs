//! From an OpenAPI v3 schema (a CRD's, or a built-in kind's) to a [`Structural`].

use std::{
    collections::HashMap,
    sync::{Arc, LazyLock},
};

use kube::core::GroupVersionKind;
use parking_lot::Mutex;
use regex::Regex;
use serde_json::{Map, Value};

use super::{
    builtin,
    node::{Additional, Bound, ListKind, Rules, Strategy, Structural, Type},
    rule::Rule,
};

/// Why a schema is not usable.
#[derive(Debug, thiserror::Error)]
#[error("schema of {path}: {reason}")]
pub struct CompileError {
    /// The field whose schema is at fault.
    pub path: String,
    /// What is wrong with it.
    pub reason: String,
}

/// Built-in schemas, compiled when first asked for: the whole set would delay every start.
static BUILTIN: LazyLock<Mutex<HashMap<String, Arc<Structural>>>> =
    LazyLock::new(|| Mutex::new(HashMap::new()));

impl Structural {
    /// Compiles `openAPIV3Schema` of a CRD version. Whatever it says of `metadata` is replaced by
    /// the rules for object metadata, as the API server does.
    pub fn compile(schema: &Value) -> Result<Self, CompileError> {
        let mut root = Compiler { definitions: None }.node(schema, "", &mut Vec::new())?;
        let metadata = Self::definition(builtin::OBJECT_META)
            .ok_or_else(|| error("metadata", "the definition of object metadata is missing"))?;
        root.embedded_resource = true;
        root.properties.insert("metadata".into(), (*metadata).clone());
        Ok(root)
    }

    /// The schema of a built-in kind; `None` when the kind is not built in.
    pub fn builtin(gvk: &GroupVersionKind) -> Option<Arc<Self>> {
        Self::definition(builtin::definition_of(gvk)?)
    }

    fn definition(name: &str) -> Option<Arc<Self>> {
        if let Some(known) = BUILTIN.lock().get(name) {
            return Some(Arc::clone(known));
        }
        let definitions = builtin::definitions();
        let schema = definitions.get(name)?;
        let compiled = Compiler { definitions: Some(definitions) }
            .node(schema, "", &mut vec![name.to_owned()])
            .ok()?;
        let compiled = Arc::new(compiled);
        BUILTIN.lock().insert(name.to_owned(), Arc::clone(&compiled));
        Some(compiled)
    }
}

struct Compiler {
    /// Where references lead; custom schemas have none.
    definitions: Option<&'static Map<String, Value>>,
}

impl Compiler {
    /// `stack` holds the definitions being expanded: a schema that contains itself (only that of
    /// CRDs does) is accepted unchecked from the second level on.
    fn node(
        &self,
        schema: &Value,
        path: &str,
        stack: &mut Vec<String>,
    ) -> Result<Structural, CompileError> {
        let Some(map) = schema.as_object() else {
            return match schema {
                Value::Bool(true) => Ok(anything()),
                _ => Err(error(path, "a schema must be an object")),
            };
        };
        if let Some(reference) = map.get("$ref").and_then(Value::as_str) {
            return self.reference(map, reference, path, stack);
        }
        let builtin = self.definitions.is_some();
        let mut node = Structural {
            kind: kind(map, path)?,
            nullable: flag(map, "nullable"),
            default: map.get("default").cloned(),
            preserve_unknown: flag(map, "x-kubernetes-preserve-unknown-fields"),
            embedded_resource: flag(map, "x-kubernetes-embedded-resource"),
            atomic_map: text(map, "x-kubernetes-map-type") == Some("atomic"),
            list: list_kind(map),
            strategy: strategy(map),
            builtin,
            rules: self.rules(map, path, stack)?,
            ..Default::default()
        };
        if let Some(properties) = map.get("properties").and_then(Value::as_object) {
            for (name, property) in properties {
                let child = self.node(property, &join(path, name), stack)?;
                node.properties.insert(name.clone(), child);
            }
        }
        match map.get("additionalProperties") {
            None | Some(Value::Null | Value::Bool(false)) => {}
            Some(Value::Bool(true)) => node.additional = Some(Additional::Anything),
            Some(schema) => {
                let child = self.node(schema, &join(path, "*"), stack)?;
                node.additional = Some(Additional::Schema(Box::new(child)));
            }
        }
        if let Some(items) = map.get("items").filter(|items| !items.is_null()) {
            node.items = Some(Box::new(self.node(items, &format!("{path}[]"), stack)?));
        }
        if builtin && node.kind == Type::Object && node.is_open() {
            node.preserve_unknown = true;
        }
        Ok(node)
    }

    fn reference(
        &self,
        map: &Map<String, Value>,
        reference: &str,
        path: &str,
        stack: &mut Vec<String>,
    ) -> Result<Structural, CompileError> {
        let name = reference.rsplit('/').next().unwrap_or(reference).to_owned();
        let target = self
            .definitions
            .and_then(|d| d.get(&name))
            .ok_or_else(|| error(path, "$ref is not supported in custom resource schemas"))?;
        if stack.contains(&name) {
            return Ok(anything());
        }
        if name == builtin::QUANTITY {
            return Ok(Structural { kind: Type::Quantity, builtin: true, ..Default::default() });
        }
        stack.push(name);
        let node = self.node(target, path, stack);
        stack.pop();
        let mut node = node?;
        node.atomic_map |= text(map, "x-kubernetes-map-type") == Some("atomic");
        Ok(node)
    }

    fn rules(
        &self,
        map: &Map<String, Value>,
        path: &str,
        stack: &mut Vec<String>,
    ) -> Result<Rules, CompileError> {
        let mut several = |key: &str| -> Result<Vec<Structural>, CompileError> {
            let branches = map.get(key).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
            branches.iter().map(|schema| self.node(schema, path, stack)).collect()
        };
        let (one_of, any_of, all_of) = (several("oneOf")?, several("anyOf")?, several("allOf")?);
        let not = match map.get("not").filter(|not| !not.is_null()) {
            Some(schema) => Some(Box::new(self.node(schema, path, stack)?)),
            None => None,
        };
        let pattern = match text(map, "pattern") {
            Some(pattern) => Some(
                Regex::new(pattern)
                    .map_err(|e| error(path, &format!("pattern {pattern:?}: {e}")))?,
            ),
            None => None,
        };
        Ok(Rules {
            enumeration: map.get("enum").and_then(Value::as_array).cloned(),
            pattern,
            format: text(map, "format").map(str::to_owned),
            minimum: bound(map, "minimum", "exclusiveMinimum"),
            maximum: bound(map, "maximum", "exclusiveMaximum"),
            multiple_of: map.get("multipleOf").and_then(Value::as_f64),
            length: (count(map, "minLength"), count(map, "maxLength")),
            items: (count(map, "minItems"), count(map, "maxItems")),
            properties: (count(map, "minProperties"), count(map, "maxProperties")),
            unique_items: flag(map, "uniqueItems"),
            required: strings(map, "required"),
            one_of,
            any_of,
            all_of,
            not,
            cel: Rule::compile_all(map).map_err(|reason| error(path, &reason))?,
        })
    }
}

impl Structural {
    /// Whether an object node names no members at all.
    fn is_open(&self) -> bool {
        self.properties.is_empty() && self.additional.is_none()
    }
}

fn anything() -> Structural {
    Structural { preserve_unknown: true, nullable: true, ..Default::default() }
}

fn kind(map: &Map<String, Value>, path: &str) -> Result<Type, CompileError> {
    if flag(map, "x-kubernetes-int-or-string") {
        return Ok(Type::IntOrString);
    }
    match map.get("type") {
        None | Some(Value::Null) => Ok(Type::Any),
        Some(Value::String(name)) => match name.as_str() {
            "" => Ok(Type::Any),
            "object" => Ok(Type::Object),
            "array" => Ok(Type::Array),
            "string" => Ok(Type::String),
            "integer" => Ok(Type::Integer),
            "number" => Ok(Type::Number),
            "boolean" => Ok(Type::Boolean),
            other => Err(error(path, &format!("unknown type {other:?}"))),
        },
        Some(other) => Err(error(path, &format!("type must be text, found {other}"))),
    }
}

fn list_kind(map: &Map<String, Value>) -> ListKind {
    match text(map, "x-kubernetes-list-type") {
        Some("set") => ListKind::Set,
        Some("map") => ListKind::Map(strings(map, "x-kubernetes-list-map-keys")),
        _ => ListKind::Atomic,
    }
}

fn strategy(map: &Map<String, Value>) -> Strategy {
    let merges = text(map, "x-kubernetes-patch-strategy").is_some_and(|s| s.contains("merge"));
    match text(map, "x-kubernetes-patch-merge-key") {
        Some(key) if merges => Strategy::MergeKey(key.to_owned()),
        None if merges => Strategy::Merge,
        _ => Strategy::Replace,
    }
}

fn bound(map: &Map<String, Value>, limit: &str, exclusive: &str) -> Option<Bound> {
    match (map.get(limit), map.get(exclusive)) {
        (Some(Value::Number(limit)), exclusive) => {
            Some(Bound { limit: limit.clone(), exclusive: exclusive == Some(&Value::Bool(true)) })
        }
        (_, Some(Value::Number(limit))) => Some(Bound { limit: limit.clone(), exclusive: true }),
        _ => None,
    }
}

fn flag(map: &Map<String, Value>, key: &str) -> bool {
    map.get(key).and_then(Value::as_bool).unwrap_or(false)
}

fn text<'a>(map: &'a Map<String, Value>, key: &str) -> Option<&'a str> {
    map.get(key).and_then(Value::as_str)
}

fn count(map: &Map<String, Value>, key: &str) -> Option<u64> {
    map.get(key).and_then(Value::as_u64)
}

fn strings(map: &Map<String, Value>, key: &str) -> Vec<String> {
    let list = map.get(key).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    list.iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

pub(super) fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

fn error(path: &str, reason: &str) -> CompileError {
    CompileError {
        path: if path.is_empty() { "<root>" } else { path }.into(),
        reason: reason.into(),
    }
}
