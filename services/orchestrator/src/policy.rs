//! Whether a namespace may use a Repository, and the parts of a spec that both invokers must get right. Pure.

use std::collections::BTreeMap;

use coffer_api::{
    AppBinding, Repository,
    hook::{BackupHooks, Handler, RestoreHooks},
    repository::FromNamespaces,
    retention::RetentionPolicy,
    target::{Driver, TargetRef},
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use crate::hook;

/// Whether `namespace`, with these labels, may use the repository; else why not.
///
/// # Errors
/// Names the policy and the remedy.
pub fn may_use(
    repository: &Repository,
    namespace: &str,
    labels: &BTreeMap<String, String>,
) -> Result<(), String> {
    let home = repository.metadata.namespace.as_deref().unwrap_or_default();
    let name = repository.metadata.name.as_deref().unwrap_or_default();
    let refuse = |why: &str| {
        Err(format!(
            "Repository {home}/{name} may not be used from namespace {namespace}: {why}; change its spec.usagePolicy"
        ))
    };
    let Some(policy) = &repository.spec.usage_policy else {
        return if namespace == home {
            Ok(())
        } else {
            refuse("it has no usagePolicy, which allows its own namespace only")
        };
    };
    let Some(allowed) = &policy.allowed_namespaces else {
        return refuse("its usagePolicy allows no namespace");
    };
    match allowed.from {
        FromNamespaces::All => Ok(()),
        // A selector opens a Repository to others. Its own namespace could change the policy as well.
        FromNamespaces::Same | FromNamespaces::Selector if namespace == home => Ok(()),
        FromNamespaces::Same => refuse("its usagePolicy allows its own namespace only"),
        FromNamespaces::Selector => match &allowed.selector {
            Some(selector) if selects(selector, labels) => Ok(()),
            Some(_) => refuse("the namespace's labels do not match the usagePolicy's selector"),
            None => refuse("its usagePolicy has no selector, which selects nothing"),
        },
    }
}

/// Whether [`may_use`] looks at the labels of `namespace`.
#[must_use]
pub fn asks_for_labels(repository: &Repository, namespace: &str) -> bool {
    let policy = repository.spec.usage_policy.as_ref();
    let allowed = policy.and_then(|policy| policy.allowed_namespaces.as_ref());
    allowed.is_some_and(|allowed| allowed.from == FromNamespaces::Selector)
        && repository.metadata.namespace.as_deref() != Some(namespace)
}

/// A repository has exactly one place.
///
/// # Errors
/// Says how many it has.
pub fn one_backend(repository: &Repository) -> Result<(), String> {
    let home = repository.metadata.namespace.as_deref().unwrap_or_default();
    let name = repository.metadata.name.as_deref().unwrap_or_default();
    match repository.spec.backend.places().as_slice() {
        [_] => Ok(()),
        [] => Err(format!(
            "Repository {home}/{name} names no backend: set one of local, s3, gcs, azure, swift, b2, rest"
        )),
        several => Err(format!(
            "Repository {home}/{name} names several backends ({}): leave one",
            several.join(", ")
        )),
    }
}

/// Only restic backs up a Redis.
///
/// # Errors
/// Names the driver.
pub fn driver(driver: Driver) -> Result<(), String> {
    match driver {
        Driver::Restic => Ok(()),
        Driver::VolumeSnapshotter => {
            Err("driver VolumeSnapshotter is not supported: use Restic".to_owned())
        }
    }
}

/// Only AppBindings are targets.
///
/// # Errors
/// Names what it is instead.
pub fn target(target: Option<&TargetRef>) -> Result<(), String> {
    let Some(target) = target else {
        return Err("spec.target.ref is missing: name an AppBinding".to_owned());
    };
    if target.is_app_binding() && !target.name.is_empty() {
        return Ok(());
    }
    Err(format!(
        "target {} {} {:?} is not supported: name an AppBinding of appcatalog.appscode.com/v1alpha1",
        target.api_version, target.kind, target.name
    ))
}

/// Hooks that can be run around the backup of this target.
///
/// # Errors
/// Names what cannot.
pub fn backup_hooks(
    hooks: Option<&BackupHooks>,
    target: Option<&AppBinding>,
) -> Result<(), String> {
    let Some(BackupHooks { pre_backup, post_backup }) = hooks else { return Ok(()) };
    let check = |at: &str, handler: &Handler| hook::check(at, handler, target);
    all([
        pre_backup.as_ref().map_or(Ok(()), |pre| check("spec.hooks.preBackup", pre)),
        post_backup
            .as_ref()
            .map_or(Ok(()), |post| check("spec.hooks.postBackup", &hook::handler(post))),
    ])
}

/// The same around a restore.
///
/// # Errors
/// Names what cannot.
pub fn restore_hooks(
    hooks: Option<&RestoreHooks>,
    target: Option<&AppBinding>,
) -> Result<(), String> {
    let Some(RestoreHooks { pre_restore, post_restore }) = hooks else { return Ok(()) };
    let check = |at: &str, handler: &Handler| hook::check(at, handler, target);
    all([
        pre_restore.as_ref().map_or(Ok(()), |pre| check("spec.hooks.preRestore", pre)),
        post_restore
            .as_ref()
            .map_or(Ok(()), |post| check("spec.hooks.postRestore", &hook::handler(post))),
    ])
}

/// A bound that can be read.
///
/// # Errors
/// Says what is wrong with it.
pub fn time_out(text: Option<&str>) -> Result<(), String> {
    let Some(text) = text else { return Ok(()) };
    match coffer_api::duration::parse(text) {
        Ok(span) if span.is_zero() => {
            Err("spec.timeOut is zero: nothing can be done in it".to_owned())
        }
        Ok(_) => Ok(()),
        Err(error) => Err(format!("spec.timeOut: {error}")),
    }
}

/// A span that can be waited for.
///
/// # Errors
/// When it is negative.
pub fn starting_deadline(seconds: Option<i64>) -> Result<(), String> {
    match seconds {
        Some(seconds) if seconds < 0 => {
            Err(format!("spec.startingDeadlineSeconds is {seconds}: it cannot be negative"))
        }
        Some(_) | None => Ok(()),
    }
}

/// How many sessions are kept.
///
/// # Errors
/// When it is negative.
pub fn history(limit: Option<i32>) -> Result<(), String> {
    match limit {
        Some(limit) if limit < 0 => {
            Err(format!("spec.backupHistoryLimit is {limit}: it cannot be negative"))
        }
        Some(_) | None => Ok(()),
    }
}

/// Keep rules that can be meant: a negative number is a slip of the pen, and forgetting is final.
///
/// # Errors
/// Names the rule.
pub fn retention(policy: &RetentionPolicy) -> Result<(), String> {
    let rules = [
        ("keepLast", policy.keep_last),
        ("keepHourly", policy.keep_hourly),
        ("keepDaily", policy.keep_daily),
        ("keepWeekly", policy.keep_weekly),
        ("keepMonthly", policy.keep_monthly),
        ("keepYearly", policy.keep_yearly),
    ];
    let negative = rules.into_iter().find_map(|(rule, n)| Some((rule, n.filter(|n| *n < 0)?)));
    match negative {
        Some((rule, n)) => {
            Err(format!("spec.retentionPolicy.{rule} is {n}: it cannot be negative"))
        }
        None => Ok(()),
    }
}

/// Joins the complaints of several rules.
///
/// # Errors
/// With all of them, when there are any.
pub fn all(rules: impl IntoIterator<Item = Result<(), String>>) -> Result<(), String> {
    let wrong: Vec<String> = rules.into_iter().filter_map(Result::err).collect();
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("; ")) }
}

fn selects(selector: &LabelSelector, labels: &BTreeMap<String, String>) -> bool {
    let equal = selector.match_labels.iter().flatten().all(|(k, v)| labels.get(k) == Some(v));
    let matches = selector.match_expressions.iter().flatten().all(|rule| {
        let value = labels.get(&rule.key);
        let values = rule.values.as_deref().unwrap_or_default();
        match rule.operator.as_str() {
            "In" => value.is_some_and(|v| values.contains(v)),
            "NotIn" => value.is_none_or(|v| !values.contains(v)),
            "Exists" => value.is_some(),
            "DoesNotExist" => value.is_none(),
            // An operator of a later Kubernetes: what is not understood does not let anybody in.
            _ => false,
        }
    });
    equal && matches
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn repository(policy: Value) -> Repository {
        let mut object = json!({"apiVersion": "stash.appscode.com/v1alpha1", "kind": "Repository",
            "metadata": {"name": "repo", "namespace": "storage"}, "spec": {"backend": {}}});
        if !policy.is_null() {
            object["spec"]["usagePolicy"] = policy;
        }
        serde_json::from_value(object).unwrap()
    }

    #[test]
    fn the_policy_decides_who_may_use_a_repository() {
        let labels: BTreeMap<String, String> = [("team".to_owned(), "shop".to_owned())].into();
        let allowed = |value: Value| json!({ "allowedNamespaces": value });
        let shop = json!({"matchLabels": {"team": "shop"}});
        let others =
            json!({"matchExpressions": [{"key": "team", "operator": "NotIn", "values": ["shop"]}]});
        let exists = json!({"matchExpressions": [{"key": "team", "operator": "Exists"}]});
        for (policy, own, other) in [
            (Value::Null, true, false),
            (json!({}), false, false),
            (allowed(json!({})), true, false),
            (allowed(json!({"from": "Same"})), true, false),
            (allowed(json!({"from": "All"})), true, true),
            (allowed(json!({"from": "Selector"})), true, false),
            (allowed(json!({"from": "Selector", "selector": shop})), true, true),
            (allowed(json!({"from": "Selector", "selector": others})), true, false),
            (allowed(json!({"from": "Selector", "selector": exists})), true, true),
            (allowed(json!({"from": "Selector", "selector": {}})), true, true),
        ] {
            let repo = repository(policy.clone());
            assert_eq!(may_use(&repo, "storage", &labels).is_ok(), own, "{policy} own");
            assert_eq!(may_use(&repo, "demo", &labels).is_ok(), other, "{policy} other");
        }
        let error = may_use(&repository(Value::Null), "demo", &labels).unwrap_err();
        assert!(error.contains("storage/repo") && error.contains("spec.usagePolicy"), "{error}");
    }

    #[test]
    fn a_repository_has_one_backend() {
        let mut repo = repository(Value::Null);
        assert!(one_backend(&repo).unwrap_err().contains("names no backend"));
        repo.spec.backend.s3 = Some(coffer_api::backend::S3::default());
        assert_eq!(one_backend(&repo), Ok(()));
        repo.spec.backend.gcs = Some(coffer_api::backend::Bucket::default());
        assert!(one_backend(&repo).unwrap_err().contains("s3, gcs"));
    }
}
