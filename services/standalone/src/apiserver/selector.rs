//! Label and field selectors: the whole grammar of the API.

use serde_json::Value;

use super::kinds::Kind;
use super::status::Failure;

/// One requirement on the labels.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Requirement {
    Exists(String),
    Absent(String),
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
    Greater(String, i64),
    Less(String, i64),
}

/// One requirement on a field: path, wanted value, whether it must be equal.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Field {
    path: String,
    value: String,
    equal: bool,
}

/// Which objects a request is about.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selector {
    labels: Vec<Requirement>,
    fields: Vec<Field>,
}

impl Selector {
    /// Parses both selectors of a request.
    ///
    /// # Errors
    /// When one is not well formed, or names a field that cannot be selected by.
    pub fn parse(kind: &Kind, labels: &str, fields: &str) -> Result<Self, Failure> {
        let labels = parse_labels(labels)
            .map_err(|why| Failure::bad_request(format!("unable to parse requirement: {why}")))?;
        let fields = parse_fields(fields)?;
        for field in &fields {
            if !selectable(kind, &field.path) {
                return Err(Failure::bad_request(format!(
                    "field label not supported: {}",
                    field.path
                )));
            }
        }
        Ok(Self { labels, fields })
    }

    /// Whether the object is meant.
    pub fn matches(&self, object: &Value) -> bool {
        let labels = &object["metadata"]["labels"];
        self.labels.iter().all(|requirement| requirement.holds(labels))
            && self
                .fields
                .iter()
                .all(|field| (field_value(object, &field.path) == field.value) == field.equal)
    }

    /// The one name that the field selector asks for, if it does.
    pub fn name(&self) -> Option<&str> {
        let named =
            self.fields.iter().find(|field| field.equal && field.path == "metadata.name")?;
        Some(&named.value)
    }
}

impl Requirement {
    fn holds(&self, labels: &Value) -> bool {
        let label = |name: &str| labels[name].as_str();
        match self {
            Self::Exists(name) => label(name).is_some(),
            Self::Absent(name) => label(name).is_none(),
            Self::In(name, values) => {
                label(name).is_some_and(|have| values.iter().any(|value| value == have))
            }
            Self::NotIn(name, values) => {
                label(name).is_none_or(|have| values.iter().all(|value| value != have))
            }
            Self::Greater(name, bound) => number(label(name)).is_some_and(|have| have > *bound),
            Self::Less(name, bound) => number(label(name)).is_some_and(|have| have < *bound),
        }
    }
}

fn number(text: Option<&str>) -> Option<i64> {
    text?.parse().ok()
}

/// Commas inside parentheses belong to a set.
fn split_requirements(text: &str) -> Vec<&str> {
    let (mut parts, mut depth, mut start) = (Vec::new(), 0_u32, 0);
    for (at, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

fn parse_labels(text: &str) -> Result<Vec<Requirement>, String> {
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    split_requirements(text).into_iter().map(|part| parse_requirement(part.trim())).collect()
}

fn parse_requirement(text: &str) -> Result<Requirement, String> {
    if let Some(name) = text.strip_prefix('!') {
        return Ok(Requirement::Absent(key(name)?));
    }
    if let Some((name, set)) = text.split_once('(') {
        let set = set.strip_suffix(')').ok_or_else(|| format!("found {text:?}, expected ')'"))?;
        let values: Vec<String> =
            set.split(',').map(|v| value(v.trim())).collect::<Result<_, _>>()?;
        let (name, word) = name
            .trim()
            .rsplit_once(char::is_whitespace)
            .ok_or_else(|| format!("found {text:?}, expected: in, notin"))?;
        return match word {
            "in" => Ok(Requirement::In(key(name)?, values)),
            "notin" => Ok(Requirement::NotIn(key(name)?, values)),
            other => Err(format!("found {other:?}, expected: in, notin")),
        };
    }
    for (sign, equal) in [("!=", false), ("==", true), ("=", true)] {
        if let Some((name, wanted)) = text.split_once(sign) {
            let (name, values) = (key(name)?, vec![value(wanted.trim())?]);
            return Ok(if equal {
                Requirement::In(name, values)
            } else {
                Requirement::NotIn(name, values)
            });
        }
    }
    for (sign, greater) in [('>', true), ('<', false)] {
        if let Some((name, bound)) = text.split_once(sign) {
            let bound = bound.trim();
            let bound = bound.parse().map_err(|_| format!("{bound:?} must be an integer"))?;
            let name = key(name)?;
            return Ok(if greater {
                Requirement::Greater(name, bound)
            } else {
                Requirement::Less(name, bound)
            });
        }
    }
    Ok(Requirement::Exists(key(text)?))
}

fn key(text: &str) -> Result<String, String> {
    let text = text.trim();
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/');
    if text.is_empty() || !text.chars().all(good) {
        return Err(format!(
            "<nil>: Invalid value: {text:?}: name part must consist of alphanumeric \
                            characters, '-', '_' or '.'"
        ));
    }
    Ok(text.to_owned())
}

fn value(text: &str) -> Result<String, String> {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if text.len() > 63 || !text.chars().all(good) {
        return Err(format!(
            "values[0][]: Invalid value: {text:?}: a valid label must be an empty \
                            string or consist of alphanumeric characters, '-', '_' or '.'"
        ));
    }
    Ok(text.to_owned())
}

fn parse_fields(text: &str) -> Result<Vec<Field>, Failure> {
    let mut fields = Vec::new();
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let (path, value, equal) = if let Some((path, value)) = part.split_once("!=") {
            (path, value, false)
        } else if let Some((path, value)) = part.split_once("==").or_else(|| part.split_once('=')) {
            (path, value, true)
        } else {
            let message = format!("invalid selector: {text:?}; can't understand {part:?}");
            return Err(Failure::bad_request(message));
        };
        let (path, value) = (path.trim().to_owned(), value.trim().to_owned());
        fields.push(Field { path, value, equal });
    }
    Ok(fields)
}

fn selectable(kind: &Kind, path: &str) -> bool {
    if path == "metadata.name" || (path == "metadata.namespace" && kind.namespaced) {
        return true;
    }
    match (kind.group.as_str(), kind.plural.as_str()) {
        ("", "pods") => matches!(
            path,
            "spec.nodeName"
                | "spec.restartPolicy"
                | "spec.schedulerName"
                | "spec.serviceAccountName"
                | "status.phase"
                | "status.podIP"
        ),
        ("", "secrets") => path == "type",
        ("", "namespaces") => path == "status.phase",
        ("batch", "jobs") => path == "status.successful",
        ("", "events") | (super::events::GROUP, "events") => {
            matches!(
                path,
                "reason" | "type" | "source" | "reportingComponent" | "reportingController"
            ) || path.starts_with("involvedObject.")
                || path.starts_with("regarding.")
        }
        _ => false,
    }
}

/// A field of a stored object; events are stored in their core form.
fn field_value(object: &Value, path: &str) -> String {
    let path = match path {
        "source" => "source.component".to_owned(),
        "reportingController" => "reportingComponent".to_owned(),
        "status.successful" => "status.succeeded".to_owned(),
        path => path.replacen("regarding.", "involvedObject.", 1),
    };
    let found = path.split('.').fold(object, |value, name| &value[name]);
    match found {
        Value::String(text) => text.clone(),
        Value::Null if path == "status.succeeded" => "0".to_owned(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn holds(selector: &str) -> bool {
        let object = json!({"metadata": {"labels": {"app": "redis", "tier": "db", "n": "5"}}});
        Selector { labels: parse_labels(selector).unwrap(), fields: vec![] }.matches(&object)
    }

    #[test]
    fn the_whole_label_grammar_is_understood() {
        for selector in [
            "",
            "app",
            "!missing",
            "app=redis",
            "app==redis",
            "app!=x",
            "other!=x",
            "n>4",
            "n<6",
            "app in (redis, x)",
            "app notin (a,b), tier=db",
            "missing notin (a)",
            "app,tier",
        ] {
            assert!(holds(selector), "{selector}");
        }
        for selector in ["missing", "!app", "app=x", "app in (a,b)", "n>5", "app=redis,tier=x"] {
            assert!(!holds(selector), "{selector}");
        }
        for wrong in ["a in x", "a in (b", "a within (b)", "a>b", "=x", "a=b c"] {
            assert!(parse_labels(wrong).is_err(), "{wrong}");
        }
    }
}
