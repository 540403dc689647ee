//! What a built-in object must keep to beyond its type: required fields, names, what may not change.

use serde_json::Value;

use crate::apiserver::kinds::Kind;
use crate::apiserver::schema::{FieldError, FieldErrorKind};

/// Faults being collected.
#[derive(Debug, Default)]
pub(in crate::apiserver) struct FieldErrors(pub(in crate::apiserver) Vec<FieldError>);

impl FieldErrors {
    fn push(&mut self, path: impl Into<String>, kind: FieldErrorKind, message: String) {
        self.0.push(FieldError { path: path.into(), kind, message });
    }

    pub(in crate::apiserver) fn required(&mut self, path: impl Into<String>, why: &str) {
        let message = if why.is_empty() {
            "Required value".to_owned()
        } else {
            format!("Required value: {why}")
        };
        self.push(path, FieldErrorKind::Required, message);
    }

    pub(in crate::apiserver) fn invalid(
        &mut self,
        path: impl Into<String>,
        found: &Value,
        why: &str,
    ) {
        self.push(path, FieldErrorKind::Invalid, format!("Invalid value: {found}: {why}"));
    }

    pub(in crate::apiserver) fn forbidden(&mut self, path: impl Into<String>, why: &str) {
        self.push(path, FieldErrorKind::Forbidden, format!("Forbidden: {why}"));
    }

    pub(in crate::apiserver) fn unsupported(
        &mut self,
        path: impl Into<String>,
        found: &Value,
        allowed: &[&str],
    ) {
        let allowed: Vec<String> = allowed.iter().map(|word| format!("{word:?}")).collect();
        let message =
            format!("Unsupported value: {found}: supported values: {}", allowed.join(", "));
        self.push(path, FieldErrorKind::NotSupported, message);
    }
}

/// The faults of a built-in object; `old` is what it replaces.
pub fn check(kind: &Kind, old: Option<&Value>, new: &Value) -> Vec<FieldError> {
    let mut errors = FieldErrors::default();
    match (kind.group.as_str(), kind.plural.as_str()) {
        ("", "pods") => {
            pod_spec("spec", &new["spec"], None, &mut errors);
            if let Some(old) = old {
                frozen_pod(&old["spec"], &new["spec"], &mut errors);
            }
        }
        ("", "secrets") => {
            frozen_data(old, new, &mut errors);
            if let Some(old) = old {
                unchanged(old, new, &["type"], &mut errors);
            }
        }
        ("", "configmaps") => frozen_data(old, new, &mut errors),
        ("", "persistentvolumeclaims") if new["spec"]["accessModes"].is_null() => {
            errors.required("spec.accessModes", "at least 1 access mode is required");
        }
        ("", "services")
            if new["spec"]["type"] == "ExternalName" && new["spec"]["externalName"].is_null() =>
        {
            errors.required("spec.externalName", "");
        }
        ("batch", "jobs") => {
            let template = &new["spec"]["template"]["spec"];
            pod_spec("spec.template.spec", template, Some(&JOB_RESTARTS), &mut errors);
            if let Some(old) = old {
                let frozen = ["spec.selector", "spec.template", "spec.completionMode"];
                // A suspended Job that has not started may still be given another template.
                let waiting =
                    old["spec"]["suspend"] == true && old["status"]["startTime"].is_null();
                let frozen = if waiting { &frozen[..1] } else { &frozen[..] };
                unchanged(old, new, frozen, &mut errors);
            }
        }
        ("batch", "cronjobs") => {
            let template = &new["spec"]["jobTemplate"]["spec"]["template"]["spec"];
            let path = "spec.jobTemplate.spec.template.spec";
            pod_spec(path, template, Some(&JOB_RESTARTS), &mut errors);
            let schedule = new["spec"]["schedule"].as_str().unwrap_or_default();
            let fields = schedule.split_whitespace().count();
            if schedule.is_empty() {
                errors.required("spec.schedule", "");
            } else if fields != 5 && !schedule.starts_with('@') {
                let why = format!("expected exactly 5 fields, found {fields}: [{schedule}]");
                errors.invalid("spec.schedule", &new["spec"]["schedule"], &why);
            }
        }
        ("rbac.authorization.k8s.io", "rolebindings" | "clusterrolebindings") => {
            if new["roleRef"]["name"].as_str().unwrap_or_default().is_empty() {
                errors.required("roleRef.name", "");
            }
            if let Some(old) = old
                && old["roleRef"] != new["roleRef"]
            {
                errors.invalid("roleRef", &new["roleRef"], "cannot change roleRef");
            }
        }
        _ => {}
    }
    errors.0
}

const JOB_RESTARTS: [&str; 2] = ["OnFailure", "Never"];

fn pod_spec(path: &str, spec: &Value, restarts: Option<&[&str]>, errors: &mut FieldErrors) {
    let containers = spec["containers"].as_array().map(Vec::as_slice).unwrap_or_default();
    if containers.is_empty() {
        errors.required(format!("{path}.containers"), "");
    }
    for (index, container) in containers.iter().enumerate() {
        for field in ["name", "image"] {
            if container[field].as_str().unwrap_or_default().is_empty() {
                errors.required(format!("{path}.containers[{index}].{field}"), "");
            }
        }
    }
    if let Some(allowed) = restarts
        && !allowed.iter().any(|word| spec["restartPolicy"] == *word)
    {
        errors.unsupported(format!("{path}.restartPolicy"), &spec["restartPolicy"], allowed);
    }
}

fn frozen_pod(old: &Value, new: &Value, errors: &mut FieldErrors) {
    let without_image = |spec: &Value| {
        let mut spec = spec.clone();
        for list in ["initContainers", "containers"] {
            for container in spec[list].as_array_mut().into_iter().flatten() {
                container["image"] = Value::Null;
            }
        }
        for field in ["activeDeadlineSeconds", "tolerations", "nodeName"] {
            spec[field] = Value::Null;
        }
        spec
    };
    let rebound = old["nodeName"].is_string() && old["nodeName"] != new["nodeName"];
    if without_image(old) != without_image(new) || rebound {
        errors.forbidden(
            "spec",
            "pod updates may not change fields other than `spec.containers[*].image`,\
             `spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only \
             additions to existing tolerations)",
        );
    }
}

fn frozen_data(old: Option<&Value>, new: &Value, errors: &mut FieldErrors) {
    let Some(old) = old.filter(|old| old["immutable"] == true) else { return };
    if new["immutable"] != true {
        errors.forbidden("immutable", "field is immutable when `immutable` is set");
    }
    for field in ["data", "binaryData"] {
        if old[field] != new[field] {
            errors.forbidden(field, "field is immutable when `immutable` is set");
        }
    }
}

fn unchanged(old: &Value, new: &Value, paths: &[&str], errors: &mut FieldErrors) {
    for path in paths {
        let pointer = format!("/{}", path.replace('.', "/"));
        if old.pointer(&pointer) != new.pointer(&pointer) {
            let found = new.pointer(&pointer).unwrap_or(&Value::Null);
            errors.invalid(*path, found, "field is immutable");
        }
    }
}

/// Whether the text is a DNS label: at most 63 of `[a-z0-9-]`, not beginning or ending with `-`.
pub(in crate::apiserver) fn is_label(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 63
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
}
