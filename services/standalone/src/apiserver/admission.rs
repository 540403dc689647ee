//! Whether a new object may exist: its namespace, its name, its labels.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Deserialize;
use serde_json::{Value, json};

use super::builtin::{FieldErrors, is_label};
use super::kinds::Kind;
use super::object;
use super::status::Failure;
use super::store::{Key, Store};

/// The namespace of a new object must be there, and not on its way out.
///
/// # Errors
/// 404 or 403, as the API server answers.
pub fn namespace(store: &Store, kind: &Kind, namespace: &str, name: &str) -> Result<(), Failure> {
    if !kind.namespaced {
        return Ok(());
    }
    let key = Key::new(&"core/namespaces".into(), "", namespace);
    let Some(found) = store.get(&key) else { return Err(Failure::no_namespace(namespace)) };
    if !object::is_deleting(&found.value) {
        return Ok(());
    }
    let why = format!(
        "unable to create new content in namespace {namespace} because it is being terminated"
    );
    let mut failure = Failure::forbidden(kind, name, &why);
    let field = "metadata.namespace";
    let message = format!("namespace {namespace} is being terminated");
    failure.status["details"]["causes"] =
        json!([{"reason": "NamespaceTerminating", "message": message, "field": field}]);
    Err(failure)
}

/// The metadata as their type reads them.
///
/// # Errors
/// 400 when a field is of the wrong type.
pub fn typed_metadata(kind: &Kind, version: &str, object: &Value) -> Result<Value, Failure> {
    ObjectMeta::deserialize(&object["metadata"]).and_then(serde_json::to_value).map_err(|error| {
        let name = &kind.name;
        let field = "json: cannot unmarshal into Go struct field";
        Failure::bad_request(format!(
            "{name} in version {version:?} cannot be handled as a {name}: {field} \
                 {name}.metadata: {error}"
        ))
    })
}

const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric \
    characters, '-' or '.', and must start and end with an alphanumeric character (e.g. \
    'example.com', regex used for validation is \
    '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters \
    or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', \
    regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const LABEL_VALUE: &str = "a valid label must be an empty string or consist of alphanumeric \
    characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. \
    'MyValue',  or 'my_value',  or '12345', regex used for validation is \
    '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
const LABEL_NAME: &str = "name part must consist of alphanumeric characters, '-', '_' or '.', and \
    must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or \
    '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";

/// Names, labels and owners, for every kind alike.
pub(super) fn metadata(kind: &Kind, object: &Value, errors: &mut FieldErrors) {
    let metadata = &object["metadata"];
    let name = object::name(object);
    let free = kind.builtin().is_some_and(|builtin| builtin.free_names);
    if free {
        if matches!(name, "." | "..") || name.contains(['/', '%']) {
            errors.invalid("metadata.name", &metadata["name"], "may not contain '/' or '%'");
        }
    } else if matches!(kind.plural.as_str(), "namespaces" | "services") && kind.group.is_empty() {
        if !is_label(name) {
            errors.invalid("metadata.name", &metadata["name"], LABEL);
        }
    } else if name.len() > 253 {
        errors.invalid("metadata.name", &metadata["name"], "must be no more than 253 characters");
    } else if !is_subdomain(name) {
        errors.invalid("metadata.name", &metadata["name"], SUBDOMAIN);
    }
    for (label, value) in metadata["labels"].as_object().into_iter().flatten() {
        if !is_qualified(label) {
            errors.invalid("metadata.labels", &label.as_str().into(), LABEL_NAME);
        }
        let text = value.as_str().unwrap_or_default();
        if text.len() > 63 {
            errors.invalid("metadata.labels", value, "must be no more than 63 characters");
        } else if !is_label_value(text) {
            errors.invalid("metadata.labels", value, LABEL_VALUE);
        }
    }
    for annotation in metadata["annotations"].as_object().into_iter().flat_map(|map| map.keys()) {
        if !is_qualified(&annotation.to_lowercase()) {
            errors.invalid("metadata.annotations", &annotation.as_str().into(), LABEL_NAME);
        }
    }
    for (index, owner) in metadata["ownerReferences"].as_array().into_iter().flatten().enumerate() {
        for field in ["apiVersion", "kind", "name", "uid"] {
            if owner[field].as_str().unwrap_or_default().is_empty() {
                errors.invalid(
                    format!("metadata.ownerReferences[{index}].{field}"),
                    &"".into(),
                    "must not be empty",
                );
            }
        }
    }
}

fn is_subdomain(text: &str) -> bool {
    let part = |part: &str| {
        !part.is_empty()
            && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && !part.starts_with('-')
            && !part.ends_with('-')
    };
    !text.is_empty() && text.split('.').all(part)
}

fn is_label_value(text: &str) -> bool {
    let edge = |c: Option<char>| c.is_none_or(|c| c.is_ascii_alphanumeric());
    text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
        && edge(text.chars().next())
        && edge(text.chars().last())
}

fn is_qualified(text: &str) -> bool {
    let (prefix, name) = text.split_once('/').map_or((None, text), |(p, n)| (Some(p), n));
    prefix.is_none_or(is_subdomain) && !name.is_empty() && name.len() <= 63 && is_label_value(name)
}
