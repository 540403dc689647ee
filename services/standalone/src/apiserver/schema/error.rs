//! What is wrong with one field, in the words the API server uses.

use serde_json::Value;

/// The class of a field's fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldErrorKind {
    /// The field must be set.
    Required,
    /// The value is malformed or out of range.
    Invalid,
    /// The value is not one of those allowed.
    NotSupported,
    /// The value may not be set here.
    Forbidden,
    /// A list of the map or set type holds the same entry twice.
    Duplicate,
    /// The list has too many entries.
    TooMany,
    /// The text is too long.
    TooLong,
}

/// One fault of one field.
#[derive(Debug, Clone, PartialEq)]
pub struct FieldError {
    /// Where: `spec.retentionPolicy`, `spec.rules[0].name`.
    pub path: String,
    /// The class of the fault.
    pub kind: FieldErrorKind,
    /// The message without the path: `Required value`.
    pub message: String,
}

/// `a` or `[a, b]`, as the API server joins the faults of one object.
pub fn aggregate(_errors: &[FieldError]) -> String {
    String::new()
}

/// The `Status` (422, reason Invalid) for an object that its schema refuses.
/// `kind` is bare (`BackupConfiguration`), `group` is empty for the core group.
pub fn invalid_status(_group: &str, _kind: &str, _name: &str, _errors: &[FieldError]) -> Value {
    Value::Null
}
