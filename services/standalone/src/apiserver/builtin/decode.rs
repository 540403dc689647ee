//! Reading a built-in object through its Rust type, and wording what does not fit as Go would.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// The object as `K` reads and writes it.
pub(super) fn typed<K: Serialize + DeserializeOwned>(object: &Value) -> Result<Value, String> {
    let mut object = object.clone();
    quantities_as_text(&mut object);
    let typed = match K::deserialize(&object) {
        Ok(typed) => typed,
        Err(error) => return Err(located::<K>(&object).unwrap_or_else(|| error.to_string())),
    };
    serde_json::to_value(typed).map_err(|error| error.to_string())
}

/// A quantity may be written as a number (`cpu: 1`); the type knows only text.
fn quantities_as_text(value: &mut Value) {
    match value {
        Value::Object(map) => {
            for (name, inner) in map {
                if matches!(name.as_str(), "limits" | "requests" | "capacity") {
                    for quantity in
                        inner.as_object_mut().into_iter().flat_map(|map| map.values_mut())
                    {
                        if quantity.is_number() {
                            *quantity = quantity.to_string().into();
                        }
                    }
                }
                quantities_as_text(inner);
            }
        }
        Value::Array(list) => list.iter_mut().for_each(quantities_as_text),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// serde names a line, not a field; in pretty-printed JSON each field has a line of its own, and
/// its indentation tells its parents.
fn located<K: DeserializeOwned>(object: &Value) -> Option<String> {
    let text = serde_json::to_string_pretty(object).ok()?;
    let error = serde_json::from_str::<K>(&text).err()?;
    let lines: Vec<&str> = text.lines().take(error.line()).collect();
    let mut depth = usize::MAX;
    let mut path: Vec<&str> = Vec::new();
    for line in lines.iter().rev() {
        let body = line.trim_start();
        let indent = line.len() - body.len();
        if indent >= depth || indent == 0 {
            continue;
        }
        depth = indent;
        if let Some(name) = body.strip_prefix('"').and_then(|rest| rest.split_once("\":")) {
            path.push(name.0);
        }
    }
    path.reverse();
    Some(in_go_words(&error.to_string(), &path.join(".")))
}

fn in_go_words(message: &str, field: &str) -> String {
    let message = message.split(" at line ").next().unwrap_or(message);
    let parts =
        message.strip_prefix("invalid type: ").and_then(|rest| rest.split_once(", expected "));
    let Some((found, expected)) = parts else {
        return format!("{message} (field {field})");
    };
    let found = match found.split(' ').next().unwrap_or(found) {
        "string" => "string",
        "integer" | "floating" => "number",
        "boolean" => "bool",
        "sequence" => "array",
        "map" => "object",
        other => other,
    };
    let expected = match expected {
        "i32" => "int32",
        "i64" => "int64",
        "a boolean" => "bool",
        "a string" => "string",
        "a sequence" => "[]",
        "a map" => "map",
        other => other,
    };
    format!("json: cannot unmarshal {found} into Go struct field {field} of type {expected}")
}

/// The fields of `given` that `kept` lost, as paths.
pub fn unknown_fields(given: &Value, kept: &Value) -> Vec<String> {
    let mut unknown = Vec::new();
    compare("", given, kept, &mut unknown);
    unknown
}

fn compare(path: &str, given: &Value, kept: &Value, unknown: &mut Vec<String>) {
    match (given, kept) {
        (Value::Object(given), Value::Object(kept)) => {
            for (name, value) in given {
                let inner = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                match kept.get(name) {
                    Some(kept) => compare(&inner, value, kept, unknown),
                    None if value.is_null() => {}
                    None => unknown.push(inner),
                }
            }
        }
        (Value::Array(given), Value::Array(kept)) => {
            for (index, (given, kept)) in given.iter().zip(kept).enumerate() {
                compare(&format!("{path}[{index}]"), given, kept, unknown);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::batch::v1::Job;
    use serde_json::json;

    #[test]
    fn a_wrong_type_is_told_with_its_field() {
        let job = json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "x"},
            "spec": {"template": {"spec": {"containers": []}}, "parallelism": "two"}});
        let error = typed::<Job>(&job).unwrap_err();
        assert_eq!(
            error,
            "json: cannot unmarshal string into Go struct field spec.parallelism of type int32"
        );
    }

    #[test]
    fn unknown_fields_are_named_and_dropped() {
        let job = json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "x"},
            "spec": {"x": 1, "template": {"spec": {"containers": [{"name": "a", "nope": true,
                "resources": {"limits": {"cpu": 1}}}]}}}});
        let kept = typed::<Job>(&job).unwrap();
        let unknown = unknown_fields(&job, &kept);
        assert_eq!(unknown, ["spec.x", "spec.template.spec.containers[0].nope"]);
        let limits = &kept["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"];
        assert_eq!(limits["cpu"], "1");
    }
}
