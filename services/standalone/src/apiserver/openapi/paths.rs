//! The paths of the documents, reduced to what kubectl reads in them.

use serde_json::{Map, Value, json};

use super::{Kind, group_path, identity};
use crate::apiserver::schema::definition_name;

/// The query parameters of a PATCH, with their types.
const PARAMETERS: [(&str, &str); 4] = [
    ("dryRun", "string"),
    ("fieldManager", "string"),
    ("fieldValidation", "string"),
    ("force", "boolean"),
];

/// The patch formats that a kind takes; strategic merge is for built-in kinds.
fn formats(kind: &Kind) -> Vec<&'static str> {
    let mut formats = vec![
        "application/json-patch+json",
        "application/merge-patch+json",
        "application/apply-patch+yaml",
    ];
    if kind.schema.is_none() {
        formats.insert(2, "application/strategic-merge-patch+json");
    }
    formats
}

fn addresses(kind: &Kind) -> (String, String) {
    let base = group_path(&kind.gvk.group, &kind.gvk.version);
    let collection = if kind.namespaced {
        format!("/{base}/namespaces/{{namespace}}/{}", kind.plural)
    } else {
        format!("/{base}/{}", kind.plural)
    };
    let object = format!("{collection}/{{name}}");
    (collection, object)
}

/// Paths of version 3.
pub(super) fn v3(kinds: &[&Kind]) -> Value {
    let reference = |kind: &Kind| json!({"$ref": format!("#/components/schemas/{}", definition_name(&kind.gvk))});
    let parameters: Vec<Value> = PARAMETERS
        .iter()
        .map(|(name, kind)| json!({"name": name, "in": "query", "schema": {"type": kind}}))
        .collect();
    build(kinds, &|kind, action| {
        let body: Map<String, Value> = match action {
            "get" => Map::new(),
            "post" => [("application/json".to_owned(), json!({"schema": reference(kind)}))]
                .into_iter()
                .collect(),
            _ => formats(kind)
                .iter()
                .map(|f| ((*f).to_owned(), json!({"schema": {"type": "object"}})))
                .collect(),
        };
        let mut operation = json!({
            "parameters": if action == "get" { json!([]) } else { json!(parameters) },
            "responses": {"200": {
                "description": "OK", "content": {"application/json": {"schema": reference(kind)}},
            }},
        });
        if !body.is_empty() {
            operation["requestBody"] = json!({"content": body, "required": true});
        }
        operation
    })
}

/// Paths of version 2.
pub(super) fn v2(kinds: &[&Kind]) -> Value {
    let reference =
        |kind: &Kind| json!({"$ref": format!("#/definitions/{}", definition_name(&kind.gvk))});
    let query: Vec<Value> = PARAMETERS
        .iter()
        .map(|(name, kind)| json!({"name": name, "in": "query", "type": kind, "uniqueItems": true}))
        .collect();
    build(kinds, &|kind, action| {
        let mut parameters = Vec::new();
        if action != "get" {
            let schema = if action == "post" { reference(kind) } else { json!({"type": "object"}) };
            parameters
                .push(json!({"name": "body", "in": "body", "required": true, "schema": schema}));
            parameters.extend(query.iter().cloned());
        }
        let consumes = if action == "patch" { formats(kind) } else { vec!["*/*"] };
        json!({
            "consumes": consumes,
            "produces": ["application/json", "application/yaml"],
            "parameters": parameters,
            "responses": {"200": {"description": "OK", "schema": reference(kind)}},
        })
    })
}

fn build(kinds: &[&Kind], operation: &dyn Fn(&Kind, &str) -> Value) -> Value {
    let mut paths = Map::new();
    for kind in kinds {
        let (collection, object) = addresses(kind);
        let described = |action: &str| {
            let mut described = operation(kind, action);
            described["x-kubernetes-action"] = json!(action);
            described["x-kubernetes-group-version-kind"] = identity(&kind.gvk);
            described
        };
        paths.insert(collection, json!({"post": described("post")}));
        paths.insert(object, json!({"get": described("get"), "patch": described("patch")}));
    }
    Value::Object(paths)
}
