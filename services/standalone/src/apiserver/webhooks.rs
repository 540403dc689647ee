//! Validating webhooks: who is asked before an object is written, and what the answer means.
//!
//! As on a cluster, but for `matchConditions`, `clientConfig.service` (there are no Services to reach: give a url) and
//! webhooks that mutate.

mod ask;

use std::time::Duration;

use serde_json::{Value, json};

use super::object;
use super::server::Call;
use super::status::Failure;
use super::store::Key;

/// What is about to happen to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operation {
    /// It is new.
    Create,
    /// It changes.
    Update,
}

impl Operation {
    const fn name(self) -> &'static str {
        match self {
            Self::Create => "CREATE",
            Self::Update => "UPDATE",
        }
    }
}

const CONFIGURATIONS: &str = "admissionregistration.k8s.io/validatingwebhookconfigurations";

/// Asks every webhook that wants to know of this write.
///
/// # Errors
/// With the words of the one that refuses; or of one that cannot be asked and has `failurePolicy: Fail`.
pub(super) async fn review(
    call: &Call<'_>,
    operation: Operation,
    old: Option<&Value>,
    new: &Value,
) -> Result<(), Failure> {
    // Whoever could forbid a change of the webhooks could never be corrected.
    if call.kind.group == "admissionregistration.k8s.io" {
        return Ok(());
    }
    let (_, configurations) = call.server.store.list(CONFIGURATIONS, None);
    for configuration in &configurations {
        for webhook in configuration.value["webhooks"].as_array().into_iter().flatten() {
            if wants(webhook, call, operation) && selects(webhook, call, old, new) {
                Box::pin(one(webhook, call, operation, old, new)).await?;
            }
        }
    }
    Ok(())
}

async fn one(
    webhook: &Value,
    call: &Call<'_>,
    operation: Operation,
    old: Option<&Value>,
    new: &Value,
) -> Result<(), Failure> {
    let name = webhook["name"].as_str().unwrap_or_default();
    let seconds = webhook["timeoutSeconds"].as_u64().unwrap_or(10).clamp(1, 30);
    let question = question(call, operation, old, new);
    let asking = ask::post(&webhook["clientConfig"], &question);
    let answer = match tokio::time::timeout(Duration::from_secs(seconds), asking).await {
        Ok(answer) => answer,
        Err(_) => Err(ask::Error::Late { seconds }),
    };
    match answer {
        Ok(response) if response["allowed"] == true => Ok(()),
        Ok(response) => Err(denied(name, &response["status"])),
        Err(error) if webhook["failurePolicy"] == "Ignore" => {
            let error = coffer_runtime::fault::chain(&error);
            tracing::warn!(webhook = name, error, "a webhook cannot be asked, and is ignored");
            Ok(())
        }
        Err(error) => Err(Failure::internal(format!(
            "failed calling webhook {name:?}: failed to call webhook: {}",
            coffer_runtime::fault::chain(&error)
        ))),
    }
}

fn denied(webhook: &str, status: &Value) -> Failure {
    let said = ["message", "reason"].map(|field| status[field].as_str().unwrap_or_default());
    let said = said.into_iter().find(|text| !text.is_empty()).unwrap_or("without explanation");
    let code = status["code"].as_u64().and_then(|code| u16::try_from(code).ok());
    let code = code.filter(|code| *code >= 400).unwrap_or(400);
    let reason = status["reason"].as_str().filter(|reason| !reason.contains(' '));
    let reason = reason.unwrap_or(if code == 403 { "Forbidden" } else { "BadRequest" });
    let message = format!("admission webhook {webhook:?} denied the request: {said}");
    Failure::new(code, reason, message)
}

/// The AdmissionReview.
fn question(call: &Call<'_>, operation: Operation, old: Option<&Value>, new: &Value) -> Value {
    let (group, version) = (&call.kind.group, &call.version.name);
    let kind = json!({"group": group, "version": version, "kind": call.kind.name});
    let resource = json!({"group": group, "version": version, "resource": call.kind.plural});
    let mut request = json!({
        "uid": object::new_uid(), "kind": kind, "resource": resource, "requestKind": kind,
        "requestResource": resource, "name": object::name(new), "operation": operation.name(),
        "userInfo": call.user.info(), "object": new, "oldObject": old, "dryRun": call.params.dry_run,
    });
    if call.kind.namespaced {
        request["namespace"] = call.namespace().into();
    }
    if let Some(subresource) = &call.target.subresource {
        request["subResource"] = subresource.clone().into();
        request["requestSubResource"] = subresource.clone().into();
    }
    json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request})
}

/// Whether one of its rules is about this write.
fn wants(webhook: &Value, call: &Call<'_>, operation: Operation) -> bool {
    let scope = if call.kind.namespaced { "Namespaced" } else { "Cluster" };
    let subresource = call.target.subresource.as_deref();
    webhook["rules"].as_array().into_iter().flatten().any(|rule| {
        let has = |field: &str, wanted: &str| {
            object::strings(&rule[field]).iter().any(|text| *text == "*" || *text == wanted)
        };
        has("apiGroups", &call.kind.group)
            && has("apiVersions", &call.version.name)
            && has("operations", operation.name())
            && object::strings(&rule["resources"])
                .iter()
                .any(|pattern| is_of(pattern, &call.kind.plural, subresource))
            && (matches!(rule["scope"].as_str(), None | Some("*")) || rule["scope"] == scope)
    })
}

/// `pods`, `pods/status`, `pods/*`, `*/status`, `*` (no subresource) and `*/*`.
fn is_of(pattern: &str, plural: &str, subresource: Option<&str>) -> bool {
    let (resource, part) = pattern.split_once('/').map_or((pattern, None), |(r, p)| (r, Some(p)));
    (resource == "*" || resource == plural)
        && match (part, subresource) {
            (None, None) | (Some("*"), _) => true,
            (Some(part), Some(subresource)) => part == subresource,
            (None, Some(_)) | (Some(_), None) => false,
        }
}

/// Whether its selectors match the namespace and, as it is or as it was, the object.
fn selects(webhook: &Value, call: &Call<'_>, old: Option<&Value>, new: &Value) -> bool {
    let namespace = call.kind.namespaced.then(|| {
        let key = Key::new(&"core/namespaces".into(), "", call.namespace());
        call.server.store.get(&key)
    });
    let empty = Value::Null;
    let of_namespace = match &namespace {
        None => true,
        Some(found) => {
            let labels = found.as_ref().map_or(&empty, |o| &o.value["metadata"]["labels"]);
            matches(&webhook["namespaceSelector"], labels)
        }
    };
    let of_object =
        |object: &Value| matches(&webhook["objectSelector"], &object["metadata"]["labels"]);
    of_namespace && (of_object(new) || old.is_some_and(of_object))
}

/// A LabelSelector; none, and an empty one, selects everything.
fn matches(selector: &Value, labels: &Value) -> bool {
    let equal = selector["matchLabels"].as_object().into_iter().flatten();
    let rules = selector["matchExpressions"].as_array().into_iter().flatten();
    equal.into_iter().all(|(key, value)| labels[key] == *value)
        && rules.into_iter().all(|rule| {
            let label = labels[rule["key"].as_str().unwrap_or_default()].as_str();
            let values = object::strings(&rule["values"]);
            match rule["operator"].as_str().unwrap_or_default() {
                "In" => label.is_some_and(|label| values.contains(&label)),
                "NotIn" => label.is_none_or(|label| !values.contains(&label)),
                "Exists" => label.is_some(),
                "DoesNotExist" => label.is_none(),
                _ => false,
            }
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_name_resources_and_their_parts() {
        for (pattern, subresource, want) in [
            ("pods", None, true),
            ("pods", Some("status"), false),
            ("pods/status", Some("status"), true),
            ("pods/status", None, false),
            ("pods/*", None, true),
            ("*", None, true),
            ("*", Some("status"), false),
            ("*/*", Some("status"), true),
            ("*/status", Some("status"), true),
            ("jobs", None, false),
        ] {
            assert_eq!(is_of(pattern, "pods", subresource), want, "{pattern} {subresource:?}");
        }
    }

    #[test]
    fn selectors_read_labels() {
        let labels = json!({"team": "shop"});
        let rule = |operator: &str| json!({"matchExpressions": [{"key": "team", "operator": operator, "values": ["shop"]}]});
        for (selector, want) in [
            (Value::Null, true),
            (json!({}), true),
            (json!({"matchLabels": {"team": "shop"}}), true),
            (json!({"matchLabels": {"team": "other"}}), false),
            (rule("In"), true),
            (rule("NotIn"), false),
            (rule("Exists"), true),
            (rule("DoesNotExist"), false),
        ] {
            assert_eq!(matches(&selector, &labels), want, "{selector}");
        }
        assert!(matches(&rule("NotIn"), &Value::Null));
    }

    #[test]
    fn a_refusal_reads_as_on_a_cluster() {
        let said = json!({"code": 403, "reason": "Forbidden", "message": "no Task x"});
        let failure = denied("a.b.c", &said);
        assert_eq!(failure.code, 403);
        assert_eq!(
            failure.to_string(),
            "admission webhook \"a.b.c\" denied the request: no Task x"
        );
        let failure = denied("a.b.c", &Value::Null);
        assert_eq!(failure.code, 400);
        assert!(failure.to_string().ends_with("without explanation"));
    }
}
