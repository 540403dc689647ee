//! What a request asks for: the path as a target, the query as typed parameters.

use super::status::Failure;

/// A path under `/api` or `/apis` that names a resource.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Target {
    /// API group; empty for the core group.
    pub group: String,
    /// API version.
    pub version: String,
    /// Plural resource name.
    pub resource: String,
    /// The namespace of the path, if it has one.
    pub namespace: Option<String>,
    /// The object's name, if the path has one.
    pub name: Option<String>,
    /// `status`, `log`, `token` and so on.
    pub subresource: Option<String>,
}

/// Every path that the server may answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Path {
    /// `/version`, `/openapi/…`, `/healthz`, the discovery roots, and whatever else is no resource.
    Plain(Vec<String>),
    /// A resource.
    Resource(Target),
}

impl Path {
    /// Parses the path of a URL.
    pub fn parse(path: &str) -> Self {
        let parts: Vec<String> =
            path.split('/').filter(|part| !part.is_empty()).map(percent_decoded).collect();
        let (group, version, rest) = match parts.first().map(String::as_str) {
            Some("api") if parts.len() > 2 => (String::new(), parts[1].clone(), &parts[2..]),
            Some("apis") if parts.len() > 3 => (parts[1].clone(), parts[2].clone(), &parts[3..]),
            _ => return Self::Plain(parts),
        };
        let (namespace, rest) = match rest {
            [word, namespace, resource, ..]
                if word == "namespaces" && !is_namespace_subresource(resource, rest.len()) =>
            {
                (Some(namespace.clone()), &rest[2..])
            }
            _ => (None, rest),
        };
        let [resource, more @ ..] = rest else { return Self::Plain(parts) };
        if more.len() > 2 {
            return Self::Plain(parts);
        }
        let name = more.first().cloned();
        let subresource = more.get(1).cloned();
        let resource = resource.clone();
        Self::Resource(Target { group, version, resource, namespace, name, subresource })
    }
}

/// `/api/v1/namespaces/x/status` is about the namespace itself.
fn is_namespace_subresource(word: &str, length: usize) -> bool {
    length == 3 && matches!(word, "status" | "finalize")
}

fn percent_decoded(part: &str) -> String {
    let bytes = part.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = (bytes[at] == b'%').then(|| part.get(at + 1..at + 3)).flatten();
        if let Some(byte) = hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            decoded.push(byte);
            at += 3;
        } else {
            decoded.push(bytes[at]);
            at += 1;
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

/// What to do about fields that the kind does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FieldValidation {
    /// Drop them silently.
    Ignore,
    /// Drop them and say so in a `Warning` header.
    #[default]
    Warn,
    /// Refuse the request.
    Strict,
}

/// What happens to the objects that a deleted object owns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Propagation {
    /// They are deleted after it.
    Background,
    /// They are deleted before it.
    Foreground,
    /// They stay, and lose the reference to it.
    Orphan,
}

impl Propagation {
    pub(super) fn parse(text: &str) -> Result<Self, Failure> {
        match text {
            "Background" => Ok(Self::Background),
            "Foreground" => Ok(Self::Foreground),
            "Orphan" => Ok(Self::Orphan),
            other => Err(Failure::bad_request(format!(
                "invalid propagationPolicy {other:?}: must be one of Background, Foreground, Orphan"
            ))),
        }
    }
}

/// The query parameters that mean something here.
#[derive(Debug, Clone, Default)]
#[allow(missing_docs, reason = "each field is the query parameter of that name in the API")]
pub struct Params {
    pub label_selector: String,
    pub field_selector: String,
    pub limit: usize,
    pub continue_token: String,
    pub resource_version: String,
    pub resource_version_match: String,
    pub watch: bool,
    pub timeout_seconds: Option<u64>,
    pub allow_watch_bookmarks: bool,
    pub send_initial_events: Option<bool>,
    pub dry_run: bool,
    pub field_manager: String,
    pub field_validation: FieldValidation,
    pub force: bool,
    pub include_object: String,
    pub grace_period_seconds: Option<i64>,
    pub propagation_policy: Option<Propagation>,
    pub container: String,
    pub follow: bool,
    pub previous: bool,
    pub timestamps: bool,
    pub since: bool,
    pub tail_lines: Option<usize>,
    pub limit_bytes: Option<u64>,
    pub command: Vec<String>,
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
    pub tty: bool,
}

impl Params {
    /// Parses the query of a URL; parameters that the API does not know are ignored, as there.
    ///
    /// # Errors
    /// When a value is not of its parameter's type.
    pub fn parse(query: &str) -> Result<Self, Failure> {
        let mut params = Self::default();
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            let text = value.as_ref();
            // A word of a command may be empty.
            if text.is_empty() && name != "watch" && name != "command" {
                continue;
            }
            match name.as_ref() {
                "labelSelector" => params.label_selector = text.to_owned(),
                "fieldSelector" => params.field_selector = text.to_owned(),
                "limit" => params.limit = number(&name, text)?,
                "continue" => params.continue_token = text.to_owned(),
                "resourceVersion" => params.resource_version = text.to_owned(),
                "resourceVersionMatch" => params.resource_version_match = text.to_owned(),
                "watch" => params.watch = flag(text),
                "timeoutSeconds" => params.timeout_seconds = Some(number(&name, text)?),
                "allowWatchBookmarks" => params.allow_watch_bookmarks = flag(text),
                "sendInitialEvents" => params.send_initial_events = Some(flag(text)),
                "dryRun" if text == "All" => params.dry_run = true,
                "dryRun" => {
                    let message = format!("invalid dryRun {text:?}: only \"All\" is supported");
                    return Err(Failure::bad_request(message));
                }
                "fieldManager" => params.field_manager = text.to_owned(),
                "fieldValidation" => {
                    params.field_validation = match text {
                        "Ignore" => FieldValidation::Ignore,
                        "Warn" => FieldValidation::Warn,
                        "Strict" => FieldValidation::Strict,
                        other => {
                            return Err(Failure::bad_request(format!(
                                "invalid fieldValidation {other:?}: must be one of Ignore, Warn, \
                                 Strict"
                            )));
                        }
                    }
                }
                "force" => params.force = flag(text),
                "includeObject" => params.include_object = text.to_owned(),
                "gracePeriodSeconds" => params.grace_period_seconds = Some(number(&name, text)?),
                "propagationPolicy" => params.propagation_policy = Some(Propagation::parse(text)?),
                "orphanDependents" if flag(text) => {
                    params.propagation_policy = Some(Propagation::Orphan);
                }
                "container" => params.container = text.to_owned(),
                "follow" => params.follow = flag(text),
                "previous" => params.previous = flag(text),
                "timestamps" => params.timestamps = flag(text),
                "sinceSeconds" | "sinceTime" => params.since = true,
                "tailLines" => params.tail_lines = Some(number(&name, text)?),
                "limitBytes" => params.limit_bytes = Some(number(&name, text)?),
                "command" => params.command.push(text.to_owned()),
                "stdin" => params.stdin = flag(text),
                "stdout" => params.stdout = flag(text),
                "stderr" => params.stderr = flag(text),
                "tty" => params.tty = flag(text),
                _ => {}
            }
        }
        Ok(params)
    }
}

fn flag(text: &str) -> bool {
    !matches!(text, "false" | "0")
}

fn number<T: std::str::FromStr>(name: &str, text: &str) -> Result<T, Failure> {
    text.parse().map_err(|_| {
        Failure::bad_request(format!("invalid {name} {text:?}: must be a whole number"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(path: &str) -> Target {
        match Path::parse(path) {
            Path::Resource(target) => target,
            Path::Plain(parts) => panic!("{path} is plain: {parts:?}"),
        }
    }

    #[test]
    fn paths_name_targets() {
        let pod_log = target("/api/v1/namespaces/demo/pods/p/log");
        assert_eq!(pod_log.namespace.as_deref(), Some("demo"));
        assert_eq!(
            (pod_log.resource.as_str(), pod_log.subresource.as_deref()),
            ("pods", Some("log"))
        );
        let namespace = target("/api/v1/namespaces/demo");
        assert_eq!(
            (namespace.resource.as_str(), namespace.name.as_deref()),
            ("namespaces", Some("demo"))
        );
        assert_eq!(namespace.namespace, None);
        let status = target("/api/v1/namespaces/demo/status");
        assert_eq!(
            (status.resource.as_str(), status.subresource.as_deref()),
            ("namespaces", Some("status"))
        );
        let role = target("/apis/rbac.authorization.k8s.io/v1/clusterroles/system%3Abasic");
        assert_eq!(role.name.as_deref(), Some("system:basic"));
        assert!(matches!(Path::parse("/apis/batch/v1"), Path::Plain(_)));
        assert!(matches!(Path::parse("/openapi/v3/apis/batch/v1"), Path::Plain(_)));
    }

    #[test]
    fn a_parameter_of_the_wrong_type_is_refused() {
        assert!(Params::parse("limit=5&watch=1&timeoutSeconds=3").unwrap().watch);
        assert_eq!(Params::parse("limit=x").unwrap_err().code, 400);
        assert_eq!(Params::parse("dryRun=Some").unwrap_err().code, 400);
        assert!(Params::parse("watch").unwrap().watch);
        let exec = Params::parse("command=printf&command=&stdout=true&stdin=false").unwrap();
        assert_eq!(
            (exec.command, exec.stdout, exec.stdin),
            (vec!["printf".into(), String::new()], true, false)
        );
    }
}
