//! Failures as the API server words them: a `Status` object with reason, code, message and details.
//!
//! Clients decide by `reason` and `code`, people read `message`; both are copied from what
//! Kubernetes answers, because kubectl and kube-rs compare them.

use serde_json::{Value, json};

use super::kinds::Kind;

/// A request that was refused: the HTTP code and the `Status` object that explains it.
#[derive(Debug, Clone)]
pub struct Failure {
    /// The HTTP status code.
    pub code: u16,
    /// The `Status` object.
    pub status: Value,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.status["message"].as_str().unwrap_or("request refused"))
    }
}

impl std::error::Error for Failure {}

impl Failure {
    /// A failure that names no object.
    pub fn new(code: u16, reason: &str, message: impl Into<String>) -> Self {
        Self::with_details(code, reason, message, json!({}))
    }

    /// A failure about one object or one resource.
    pub fn with_details(
        code: u16,
        reason: &str,
        message: impl Into<String>,
        details: Value,
    ) -> Self {
        let mut status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": message.into(), "reason": reason,
        });
        if details.as_object().is_some_and(|map| !map.is_empty()) {
            status["details"] = details;
        }
        status["code"] = code.into();
        Self { code, status }
    }

    /// Takes a ready-made `Status` object; its `code` member decides.
    pub fn from_status(status: Value) -> Self {
        let code = status["code"].as_u64().and_then(|code| u16::try_from(code).ok()).unwrap_or(500);
        Self { code, status }
    }

    /// 400.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message)
    }

    /// 401: no token, or one that is not known.
    pub fn unauthorized() -> Self {
        Self::new(401, "Unauthorized", "Unauthorized")
    }

    /// 403 about one object.
    pub fn forbidden(kind: &Kind, name: &str, why: &str) -> Self {
        let resource = kind.qualified();
        Self::with_details(
            403,
            "Forbidden",
            format!("{resource} \"{name}\" is forbidden: {why}"),
            details(kind, name),
        )
    }

    /// 404 for a path that stands for nothing.
    pub fn no_such_path() -> Self {
        Self::new(404, "NotFound", "the server could not find the requested resource")
    }

    /// 404 for one object.
    pub fn not_found(kind: &Kind, name: &str) -> Self {
        let message = format!("{} \"{name}\" not found", kind.qualified());
        Self::with_details(404, "NotFound", message, details(kind, name))
    }

    /// 404 for the namespace of an object.
    pub fn no_namespace(name: &str) -> Self {
        Self::with_details(
            404,
            "NotFound",
            format!("namespaces \"{name}\" not found"),
            json!({"name": name, "kind": "namespaces"}),
        )
    }

    /// 405.
    pub fn method_not_allowed() -> Self {
        let message = "the server does not allow this method on the requested resource";
        Self::new(405, "MethodNotAllowed", message)
    }

    /// 409: the name is taken.
    pub fn already_exists(kind: &Kind, name: &str) -> Self {
        let message = format!("{} \"{name}\" already exists", kind.qualified());
        Self::with_details(409, "AlreadyExists", message, details(kind, name))
    }

    /// 409: somebody else wrote in between.
    pub fn conflict(kind: &Kind, name: &str) -> Self {
        let why = "the object has been modified; please apply your changes to the latest version \
                   and try again";
        Self::conflict_because(kind, name, why)
    }

    /// 409 with a reason in words.
    pub fn conflict_because(kind: &Kind, name: &str, why: &str) -> Self {
        let resource = kind.qualified();
        let message = format!("Operation cannot be fulfilled on {resource} \"{name}\": {why}");
        Self::with_details(409, "Conflict", message, details(kind, name))
    }

    /// 410: the resource version is older than what the server remembers.
    pub fn expired(message: impl Into<String>) -> Self {
        Self::new(410, "Expired", message)
    }

    /// 413.
    pub fn too_large(limit_bytes: usize) -> Self {
        let message = format!("Request entity too large: limit is {limit_bytes}");
        Self::new(413, "RequestEntityTooLarge", message)
    }

    /// 415.
    pub fn unsupported_media_type(accepted: &str) -> Self {
        let message = format!(
            "the body of the request was in an unknown format - accepted media types include: \
             {accepted}"
        );
        Self::new(415, "UnsupportedMediaType", message)
    }

    /// 406.
    pub fn not_acceptable() -> Self {
        let message = "only the following media types are accepted: application/json, \
                       application/yaml";
        Self::new(406, "NotAcceptable", message)
    }

    /// 500.
    pub fn internal(why: impl std::fmt::Display) -> Self {
        Self::new(500, "InternalError", format!("Internal error occurred: {why}"))
    }
}

fn details(kind: &Kind, name: &str) -> Value {
    let mut details = json!({"name": name});
    if !kind.group.is_empty() {
        details["group"] = kind.group.clone().into();
    }
    details["kind"] = kind.plural.clone().into();
    details
}

/// `Status` of an operation that succeeded and has no object to show.
pub fn success(kind: &Kind, name: &str, uid: &str) -> Value {
    let mut details = details(kind, name);
    details["uid"] = uid.into();
    json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success",
        "details": details,
    })
}
