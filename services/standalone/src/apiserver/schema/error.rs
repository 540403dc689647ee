//! What is wrong with one field, in the words the API server uses.

use std::fmt;

use serde_json::{Value, json};

/// The class of a field's fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldErrorKind {
    /// The field must be set.
    Required,
    /// The value is malformed or out of range.
    Invalid,
    /// The value has another JSON type than the schema says.
    TypeInvalid,
    /// The value is not one of those allowed.
    NotSupported,
    /// The value may not be set here.
    Forbidden,
    /// A list of the map or set type holds the same entry twice.
    Duplicate,
    /// The list or map has too many entries.
    TooMany,
    /// The text is too long.
    TooLong,
}

impl FieldErrorKind {
    /// The `type` of the Status cause.
    fn cause(self) -> &'static str {
        match self {
            Self::Required => "FieldValueRequired",
            Self::Invalid => "FieldValueInvalid",
            Self::TypeInvalid => "FieldValueTypeInvalid",
            Self::NotSupported => "FieldValueNotSupported",
            Self::Forbidden => "FieldValueForbidden",
            Self::Duplicate => "FieldValueDuplicate",
            Self::TooMany => "FieldValueTooMany",
            Self::TooLong => "FieldValueTooLong",
        }
    }
}

/// One fault of one field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldError {
    /// Where: `spec.retentionPolicy`, `spec.rules[0].name`; `<nil>` when no single field is at fault.
    pub path: String,
    /// The class of the fault.
    pub kind: FieldErrorKind,
    /// The message without the path: `Required value`.
    pub message: String,
}

impl FieldError {
    /// A field that must be set.
    pub fn required(path: impl Into<String>) -> Self {
        Self::new(path, FieldErrorKind::Required, "Required value".into())
    }

    /// A value that breaks a rule, `detail` in words.
    pub fn invalid(path: impl Into<String>, value: &Value, detail: impl fmt::Display) -> Self {
        let message = format!("Invalid value: {}: {detail}", quote(value));
        Self::new(path, FieldErrorKind::Invalid, message)
    }

    /// A value that may not be set here.
    pub fn forbidden(path: impl Into<String>, detail: impl fmt::Display) -> Self {
        Self::new(path, FieldErrorKind::Forbidden, format!("Forbidden: {detail}"))
    }

    pub(super) fn wrong_type(path: &str, found: &str, wanted: &str) -> Self {
        let message = format!(
            "Invalid value: \"{found}\": {path} in body must be of type {wanted}: \"{found}\""
        );
        Self::new(path, FieldErrorKind::TypeInvalid, message)
    }

    pub(super) fn unsupported(path: &str, value: &Value, allowed: &[Value]) -> Self {
        let allowed: Vec<String> = allowed
            .iter()
            .map(|v| match v {
                Value::String(_) => quote(v),
                other => format!("\"{other}\""),
            })
            .collect();
        let message = format!(
            "Unsupported value: {}: supported values: {}",
            quote(value),
            allowed.join(", ")
        );
        Self::new(path, FieldErrorKind::NotSupported, message)
    }

    pub(super) fn duplicate(path: impl Into<String>, value: &Value) -> Self {
        let message = format!("Duplicate value: {}", quote(value));
        Self::new(path, FieldErrorKind::Duplicate, message)
    }

    pub(super) fn too_many(path: &str, found: usize, most: u64) -> Self {
        let message = format!("Too many: {found}: must have at most {most} items");
        Self::new(path, FieldErrorKind::TooMany, message)
    }

    pub(super) fn too_long(path: &str, most: u64) -> Self {
        let message = format!("Too long: may not be more than {most} bytes");
        Self::new(path, FieldErrorKind::TooLong, message)
    }

    /// A fault of a combination (`oneOf` …), which the API server reports without a field.
    pub(super) fn combination(path: &str, rule: &str) -> Self {
        let message = format!("Invalid value: \"\": \"{path}\" {rule}");
        Self::new("<nil>", FieldErrorKind::Invalid, message)
    }

    fn new(path: impl Into<String>, kind: FieldErrorKind, message: String) -> Self {
        Self { path: path.into(), kind, message }
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.message)
    }
}

/// A value as the API server shows it in messages: text quoted, everything else as JSON.
fn quote(value: &Value) -> String {
    value.to_string()
}

/// `a` or `[a, b]`, as the API server joins the faults of one object; repeats are dropped.
pub fn aggregate(errors: &[FieldError]) -> String {
    let mut messages: Vec<String> = Vec::with_capacity(errors.len());
    for error in errors {
        let message = error.to_string();
        if !messages.contains(&message) {
            messages.push(message);
        }
    }
    match messages.as_slice() {
        [one] => one.clone(),
        many => format!("[{}]", many.join(", ")),
    }
}

/// The `Status` (422, reason Invalid) for an object that its schema refuses.
/// `kind` is bare (`BackupConfiguration`), `group` is empty for the core group.
pub fn invalid_status(group: &str, kind: &str, name: &str, errors: &[FieldError]) -> Value {
    let qualified = if group.is_empty() { kind.to_owned() } else { format!("{kind}.{group}") };
    let mut details = json!({"name": name, "group": group, "kind": kind});
    if group.is_empty() {
        details.as_object_mut().map(|d| d.remove("group"));
    }
    details["causes"] = errors
        .iter()
        .map(|e| json!({"reason": e.kind.cause(), "message": e.message, "field": e.path}))
        .collect();
    json!({
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": format!("{qualified} \"{name}\" is invalid: {}", aggregate(errors)),
        "reason": "Invalid",
        "details": details,
        "code": 422,
    })
}
