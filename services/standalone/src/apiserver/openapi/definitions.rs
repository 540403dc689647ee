//! The definitions of both versions, from the built-in set and the CRDs.

use serde_json::{Map, Value, json};

use super::{Kind, identity};
use crate::apiserver::schema::{definition_name, definitions};

const PREFIX: &str = "#/definitions/";
const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";

/// Version 3: the definitions that these kinds need.
pub(super) fn v3(kinds: &[&Kind]) -> Value {
    let mut all = collect(kinds, |schema| schema.clone());
    for schema in all.values_mut() {
        wrap_references(schema);
    }
    Value::Object(all)
}

/// Version 2.
pub(super) fn v2(kinds: &[&Kind]) -> Value {
    let mut all = collect(kinds, |schema| {
        let mut schema = schema.clone();
        simplify(&mut schema);
        schema
    });
    for schema in all.values_mut() {
        plain_extensions(schema);
    }
    Value::Object(all)
}

fn collect(kinds: &[&Kind], custom: impl Fn(&Value) -> Value) -> Map<String, Value> {
    let mut result = Map::new();
    for kind in kinds {
        let name = definition_name(&kind.gvk);
        let schema = match &kind.schema {
            Some(schema) => resource(custom(schema)),
            None => definitions().get(&name).cloned().unwrap_or_else(|| json!({"type": "object"})),
        };
        needed(&schema, &mut result);
        let schema = result.entry(name).or_insert(schema);
        let identities = &mut schema["x-kubernetes-group-version-kind"];
        if !identities.is_array() {
            *identities = json!([]);
        }
        if let Some(list) = identities.as_array_mut() {
            list.push(identity(&kind.gvk));
        }
    }
    result.sort_keys();
    result
}

/// A custom kind's schema says nothing of the members that every resource has.
fn resource(mut schema: Value) -> Value {
    let about = |text: &str| json!({"type": "string", "description": text});
    let members = [
        (
            "apiVersion",
            about("APIVersion defines the versioned schema of this representation of an object."),
        ),
        ("kind", about("Kind is the REST resource that this object represents.")),
        (
            "metadata",
            json!({
                "$ref": format!("{PREFIX}{OBJECT_META}"),
                "description": "Standard object's metadata.",
            }),
        ),
    ];
    schema["type"] = json!("object");
    let properties = &mut schema["properties"];
    if !properties.is_object() {
        *properties = json!({});
    }
    for (name, member) in members {
        properties[name] = member;
    }
    schema
}

/// Adds every definition that a schema refers to.
fn needed(schema: &Value, result: &mut Map<String, Value>) {
    match schema {
        Value::Object(map) => {
            if let Some(name) = map.get("$ref").and_then(Value::as_str)
                && let Some(name) = name.strip_prefix(PREFIX)
                && !result.contains_key(name)
                && let Some(found) = definitions().get(name)
            {
                result.insert(name.to_owned(), found.clone());
                needed(found, result);
            }
            map.values().for_each(|member| needed(member, result));
        }
        Value::Array(list) => list.iter().for_each(|item| needed(item, result)),
        _ => {}
    }
}

/// A reference may have no neighbours in version 3: the description goes beside an `allOf`.
fn wrap_references(schema: &mut Value) {
    match schema {
        Value::Object(map) => {
            map.values_mut().for_each(wrap_references);
            if let Some(Value::String(name)) = map.get("$ref") {
                let target = name.replacen(PREFIX, "#/components/schemas/", 1);
                map.shift_remove("$ref");
                if map.is_empty() {
                    map.insert("$ref".into(), json!(target));
                } else {
                    map.insert("allOf".into(), json!([{"$ref": target}]));
                }
            }
        }
        Value::Array(list) => list.iter_mut().for_each(wrap_references),
        _ => {}
    }
}

/// What version 2 cannot express is left out, as the API server does when it publishes a CRD:
/// a wrong statement would make old clients refuse good objects.
fn simplify(schema: &mut Value) {
    let Value::Object(map) = schema else { return };
    for key in ["oneOf", "anyOf", "allOf", "not", "nullable", "x-kubernetes-validations"] {
        map.shift_remove(key);
    }
    let free = |key: &str| map.get(key) == Some(&Value::Bool(true));
    if free("x-kubernetes-preserve-unknown-fields") || free("x-kubernetes-int-or-string") {
        for key in ["type", "properties", "items", "additionalProperties", "required"] {
            map.shift_remove(key);
        }
    }
    if map.get("type") == Some(&json!("object"))
        && !map.contains_key("properties")
        && map.get("additionalProperties").is_none_or(Value::is_boolean)
    {
        map.shift_remove("type");
        map.shift_remove("additionalProperties");
    }
    if let Some(Value::Object(properties)) = map.get_mut("properties") {
        properties.values_mut().for_each(simplify);
    }
    for key in ["items", "additionalProperties"] {
        if let Some(child) = map.get_mut(key) {
            simplify(child);
        }
    }
}

/// Built-in objects without members are free-form: version 2 clients want no type for them.
fn plain_extensions(schema: &mut Value) {
    let Value::Object(map) = schema else { return };
    if map.get("type") == Some(&json!("object"))
        && !map.contains_key("properties")
        && !map.contains_key("additionalProperties")
    {
        map.shift_remove("type");
    }
    if let Some(Value::Object(properties)) = map.get_mut("properties") {
        properties.values_mut().for_each(plain_extensions);
    }
    for key in ["items", "additionalProperties"] {
        if let Some(child) = map.get_mut(key) {
            plain_extensions(child);
        }
    }
}
