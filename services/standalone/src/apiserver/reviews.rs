//! The kinds that are only posted: questions about tokens and permissions.

use serde_json::{Value, json};

use super::kinds::Kind;
use super::object::strings;
use super::rbac::{self, Attempt};
use super::server::Server;
use super::status::Failure;
use super::user::User;

/// The audience that tokens have when none is asked for.
const AUDIENCE: &str = "https://kubernetes.default.svc";

/// Answers a posted review: the same object with its `status`.
///
/// # Errors
/// When the question is incomplete.
pub fn answer(
    server: &Server,
    asking: &User,
    kind: &Kind,
    namespace: Option<&str>,
    mut review: Value,
) -> Result<Value, Failure> {
    let spec = &review["spec"];
    review["status"] = match kind.name.as_str() {
        "TokenReview" => token(server, spec),
        "SelfSubjectReview" => json!({"userInfo": asking.info()}),
        "SelfSubjectAccessReview" => access(server, asking, spec)?,
        "SubjectAccessReview" | "LocalSubjectAccessReview" => {
            let attributes = &spec["resourceAttributes"];
            if let Some(namespace) = namespace
                && attributes["namespace"].as_str() != Some(namespace)
            {
                return Err(Failure::bad_request(
                    "spec.resourceAttributes.namespace must match metadata.namespace",
                ));
            }
            let user = User {
                name: spec["user"].as_str().unwrap_or_default().to_owned(),
                uid: spec["uid"].as_str().unwrap_or_default().to_owned(),
                groups: strings(&spec["groups"]).into_iter().map(str::to_owned).collect(),
            };
            if user.name.is_empty() && user.groups.is_empty() {
                let message = "spec.user: Invalid value: \"\": at least one of user or group must be \
                               specified";
                return Err(Failure::new(422, "Invalid", message));
            }
            access(server, &user, spec)?
        }
        "SelfSubjectRulesReview" => rules(server, asking, spec),
        _ => return Err(Failure::no_such_path()),
    };
    Ok(review)
}

fn token(server: &Server, spec: &Value) -> Value {
    let token = spec["token"].as_str().unwrap_or_default();
    let refused = json!({"authenticated": false, "user": {}, "error": "token is not known"});
    let Some((user, mut audiences)) = server.tokens.user(&server.store, token) else {
        return refused;
    };
    if audiences.is_empty() {
        audiences.push(AUDIENCE.to_owned());
    }
    let wanted = strings(&spec["audiences"]);
    if !wanted.is_empty() {
        audiences.retain(|audience| wanted.contains(&audience.as_str()));
        if audiences.is_empty() {
            return refused;
        }
    }
    json!({"authenticated": true, "user": user.info(), "audiences": audiences})
}

fn access(server: &Server, user: &User, spec: &Value) -> Result<Value, Failure> {
    let text = |value: &Value| match value.as_str() {
        Some("*") | None => String::new(),
        Some(text) => text.to_owned(),
    };
    let resource = &spec["resourceAttributes"];
    let path = &spec["nonResourceAttributes"];
    let raw = |field: &str| resource[field].as_str().unwrap_or_default().to_owned();
    let attempt = if resource.is_object() {
        Attempt {
            verb: raw("verb"),
            group: raw("group"),
            resource: raw("resource"),
            subresource: raw("subresource"),
            namespace: raw("namespace"),
            name: text(&resource["name"]),
            path: None,
        }
    } else if path.is_object() {
        Attempt {
            verb: path["verb"].as_str().unwrap_or_default().to_owned(),
            path: Some(path["path"].as_str().unwrap_or_default().to_owned()),
            ..Attempt::default()
        }
    } else {
        let message = "spec: exactly one of nonResourceAttributes or resourceAttributes must be \
                       specified";
        return Err(Failure::new(422, "Invalid", message));
    };
    Ok(match rbac::allowed(&server.store, user, &attempt) {
        Ok(reason) => json!({"allowed": true, "reason": reason}),
        Err(_) => json!({"allowed": false}),
    })
}

fn rules(server: &Server, user: &User, spec: &Value) -> Value {
    let namespace = spec["namespace"].as_str().unwrap_or_default();
    let mut bound = server.store.read(|state| rbac::bound_rules(state, user, namespace));
    if bound.is_empty() && user.groups.iter().any(|group| group == super::user::MASTERS) {
        let everything = json!([{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}]);
        bound.push((String::new(), everything.as_array().cloned().unwrap_or_default()));
    }
    let (mut resources, mut urls) = (Vec::new(), Vec::new());
    for rule in bound.into_iter().flat_map(|(_, rules)| rules) {
        if rule["nonResourceURLs"].is_array() {
            urls.push(rule);
        } else {
            resources.push(rule);
        }
    }
    json!({"resourceRules": resources, "nonResourceRules": urls, "incomplete": false})
}
