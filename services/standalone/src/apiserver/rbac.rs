//! Who may do what: role-based access control over the stored roles and bindings.

use serde_json::{Value, json};

use super::object::strings;
use super::store::{Key, State, Store};
use super::user::{MASTERS, User};

const GROUP: &str = "rbac.authorization.k8s.io";

/// What somebody wants to do.
#[derive(Debug, Clone, Default)]
#[allow(missing_docs, reason = "the names are those of ResourceAttributes")]
pub struct Attempt {
    pub verb: String,
    pub group: String,
    pub resource: String,
    pub subresource: String,
    pub namespace: String,
    pub name: String,
    /// Set for a path that is no resource; then only the verb and the path count.
    pub path: Option<String>,
}

impl Attempt {
    /// `pods/log`, as rules name it.
    fn resource(&self) -> String {
        match self.subresource.as_str() {
            "" => self.resource.clone(),
            subresource => format!("{}/{subresource}", self.resource),
        }
    }
}

/// Whether the user may, and by which rule.
pub fn allowed(store: &Store, user: &User, attempt: &Attempt) -> Result<String, String> {
    if user.groups.iter().any(|group| group == MASTERS) {
        return Ok(String::new());
    }
    if open_to_all(user, attempt) {
        return Ok(String::new());
    }
    let found = store.read(|state| {
        bound_rules(state, user, &attempt.namespace)
            .into_iter()
            .find(|(_, rules)| rules.iter().any(|rule| covers(rule, attempt)))
            .map(|(by, _)| by)
    });
    found.ok_or_else(|| refusal(user, attempt))
}

/// Discovery, health and questions about oneself are open to everybody who is known.
fn open_to_all(user: &User, attempt: &Attempt) -> bool {
    if !user.groups.iter().any(|group| group == "system:authenticated") {
        return false;
    }
    match &attempt.path {
        Some(path) => {
            attempt.verb == "get"
                && ["api", "apis", "openapi", "version", "healthz", "livez", "readyz"]
                    .contains(&path.trim_start_matches('/').split('/').next().unwrap_or_default())
        }
        None => {
            attempt.verb == "create"
                && matches!(
                    (attempt.group.as_str(), attempt.resource.as_str()),
                    (
                        "authorization.k8s.io",
                        "selfsubjectaccessreviews" | "selfsubjectrulesreviews"
                    ) | ("authentication.k8s.io", "selfsubjectreviews")
                )
        }
    }
}

/// The rules that apply to a user in a namespace, with the binding that gives them.
pub fn bound_rules(state: &State, user: &User, namespace: &str) -> Vec<(String, Vec<Value>)> {
    let mut found = Vec::new();
    let mut collect = |bindings: &str, namespace: Option<&str>| {
        for binding in state.list(&format!("{GROUP}/{bindings}"), namespace) {
            let at = binding.key.namespace.as_str();
            let subjects = binding.value["subjects"].as_array();
            if !subjects.into_iter().flatten().any(|subject| is_subject(subject, user, at)) {
                continue;
            }
            let role = &binding.value["roleRef"];
            let (kind, name) = (role["kind"].as_str(), role["name"].as_str().unwrap_or_default());
            let key = match kind {
                Some("Role") => Key::new(&format!("{GROUP}/roles").into(), at, name),
                _ => Key::new(&format!("{GROUP}/clusterroles").into(), "", name),
            };
            let Some(role) = state.get(&key) else { continue };
            let rules = role.value["rules"].as_array().cloned().unwrap_or_default();
            let kind = kind.unwrap_or("ClusterRole");
            let by =
                format!("RBAC: allowed by {bindings} {:?} of {kind} {name:?}", binding.key.name);
            found.push((by, rules));
        }
    };
    collect("clusterrolebindings", None);
    if !namespace.is_empty() {
        collect("rolebindings", Some(namespace));
    }
    found
}

fn is_subject(subject: &Value, user: &User, binding_namespace: &str) -> bool {
    let name = subject["name"].as_str().unwrap_or_default();
    match subject["kind"].as_str() {
        Some("User") => user.name == name,
        Some("Group") => user.groups.iter().any(|group| group == name),
        Some("ServiceAccount") => {
            let namespace = subject["namespace"].as_str().unwrap_or(binding_namespace);
            user.as_service_account() == Some((namespace, name))
        }
        _ => false,
    }
}

fn covers(rule: &Value, attempt: &Attempt) -> bool {
    let has = |field: &str, wanted: &str| {
        strings(&rule[field]).into_iter().any(|entry| entry == "*" || entry == wanted)
    };
    if !has("verbs", &attempt.verb) {
        return false;
    }
    if let Some(path) = &attempt.path {
        return strings(&rule["nonResourceURLs"]).into_iter().any(|pattern| {
            pattern.strip_suffix('*').map_or(pattern == path, |prefix| path.starts_with(prefix))
        });
    }
    let any_with_subresource = format!("*/{}", attempt.subresource);
    let names = strings(&rule["resourceNames"]);
    has("apiGroups", &attempt.group)
        && (has("resources", &attempt.resource())
            || (!attempt.subresource.is_empty() && has("resources", &any_with_subresource)))
        && (names.is_empty() || names.contains(&attempt.name.as_str()))
}

/// The refusal in the API server's words.
fn refusal(user: &User, attempt: &Attempt) -> String {
    let (name, verb) = (&user.name, &attempt.verb);
    if let Some(path) = &attempt.path {
        return format!("User {name:?} cannot {verb} path {path:?}");
    }
    let scope = match attempt.namespace.as_str() {
        "" => "at the cluster scope".to_owned(),
        namespace => format!("in the namespace {namespace:?}"),
    };
    let (resource, group) = (attempt.resource(), &attempt.group);
    format!("User {name:?} cannot {verb} resource {resource:?} in API group {group:?} {scope}")
}

/// The roles that every cluster has.
pub fn standard_roles() -> Vec<Value> {
    let role = |name: &str, rules: Value| {
        json!({
            "apiVersion": format!("{GROUP}/v1"), "kind": "ClusterRole",
            "metadata": {"name": name, "labels": {"kubernetes.io/bootstrapping": "rbac-defaults"}},
            "rules": rules,
        })
    };
    let everything = json!([
        {"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]},
        {"nonResourceURLs": ["*"], "verbs": ["*"]},
    ]);
    let read = ["get", "list", "watch"];
    let write = ["get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"];
    let plain = [
        "configmaps",
        "endpoints",
        "events",
        "persistentvolumeclaims",
        "pods",
        "pods/log",
        "pods/status",
        "serviceaccounts",
        "services",
    ];
    let secret = ["secrets", "serviceaccounts/token"];
    let view = json!([
        {"apiGroups": [""], "resources": plain, "verbs": read},
        {"apiGroups": ["batch"], "resources": ["*"], "verbs": read},
    ]);
    let edit = json!([
        {"apiGroups": [""], "resources": plain, "verbs": write},
        {"apiGroups": [""], "resources": secret, "verbs": write},
        {"apiGroups": ["batch", "coordination.k8s.io"], "resources": ["*"], "verbs": write},
    ]);
    let mut admin = edit.clone();
    if let Some(rules) = admin.as_array_mut() {
        let resources = ["roles", "rolebindings"];
        rules.push(json!({"apiGroups": [GROUP], "resources": resources, "verbs": write}));
    }
    vec![
        role("cluster-admin", everything),
        role("admin", admin),
        role("edit", edit),
        role("view", view),
        json!({
            "apiVersion": format!("{GROUP}/v1"), "kind": "ClusterRoleBinding",
            "metadata": {"name": "cluster-admin",
                "labels": {"kubernetes.io/bootstrapping": "rbac-defaults"}},
            "roleRef": {"apiGroup": GROUP, "kind": "ClusterRole", "name": "cluster-admin"},
            "subjects": [{"apiGroup": GROUP, "kind": "Group", "name": MASTERS}],
        }),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attempt(verb: &str, group: &str, resource: &str, subresource: &str, name: &str) -> Attempt {
        Attempt {
            verb: verb.into(),
            group: group.into(),
            resource: resource.into(),
            subresource: subresource.into(),
            name: name.into(),
            ..Attempt::default()
        }
    }

    #[test]
    fn rules_cover_what_they_name_and_nothing_else() {
        let rule = json!({"apiGroups": [""], "resources": ["pods", "pods/log"], "verbs": ["get"]});
        assert!(covers(&rule, &attempt("get", "", "pods", "", "x")));
        assert!(covers(&rule, &attempt("get", "", "pods", "log", "x")));
        assert!(!covers(&rule, &attempt("get", "", "pods", "status", "x")));
        assert!(!covers(&rule, &attempt("list", "", "pods", "", "")));
        assert!(!covers(&rule, &attempt("get", "batch", "pods", "", "x")));
        let named = json!({"apiGroups": ["*"], "resources": ["secrets"], "verbs": ["*"],
            "resourceNames": ["a"]});
        assert!(covers(&named, &attempt("get", "", "secrets", "", "a")));
        assert!(!covers(&named, &attempt("get", "", "secrets", "", "b")));
        assert!(!covers(&named, &attempt("list", "", "secrets", "", "")));
        let url = json!({"nonResourceURLs": ["/metrics/*"], "verbs": ["get"]});
        let mut path = attempt("get", "", "", "", "");
        path.path = Some("/metrics/x".into());
        assert!(covers(&url, &path));
    }
}
