//! The variables that a Task's Functions may use, and the parameters that override them. Pure.

use std::collections::BTreeMap;

use coffer_api::{
    AppBinding, Repository,
    app_binding::AddonTask,
    names,
    retention::RetentionPolicy,
    runtime_settings::{EmptyDirSettings, VolumeTemplate},
    target::{BackupTarget, RestoreTarget, TargetRef, TaskRef},
};

use crate::{interim, rules::Choice};

/// Variables by name.
pub type Variables = BTreeMap<String, String>;

/// The Task to run and its parameters: the invoker's, else what the AppBinding's addon says. The invoker's parameters
/// replace the addon's when there are any.
///
/// # Errors
/// When neither names a Task.
pub fn task(
    own: Option<&TaskRef>,
    binding: &AppBinding,
    which: AddonTask,
) -> Result<(String, Variables), String> {
    let addon = binding.addon_task(which).unwrap_or_default();
    let own = own.cloned().unwrap_or_default();
    let name = if own.name.is_empty() { addon.name } else { own.name };
    if name.is_empty() {
        let key = match which {
            AddonTask::Backup => "backupTask",
            AddonTask::Restore => "restoreTask",
        };
        return Err(format!(
            "no Task is named: set spec.task.name, or spec.parameters.stash.addon.{key}.name of AppBinding {}",
            binding.metadata.name.as_deref().unwrap_or_default()
        ));
    }
    let params = if own.params.is_empty() { addon.params } else { own.params };
    Ok((name, params.into_iter().map(|param| (param.name, param.value)).collect()))
}

/// What every session has.
pub struct Common<'a> {
    /// Namespace of the session.
    pub namespace: &'a str,
    /// Kind of the invoker.
    pub invoker_kind: &'a str,
    /// Name of the invoker.
    pub invoker_name: &'a str,
    /// The repository.
    pub repository: &'a Repository,
    /// The target.
    pub target: &'a TargetRef,
    /// Its scratch directory.
    pub temp_dir: Option<&'a EmptyDirSettings>,
    /// Its own volume.
    pub interim: Option<&'a VolumeTemplate>,
    /// Where the metrics-gateway is.
    pub pushgateway_url: &'a str,
    /// The image of this version: what is the operator's to Functions that were written for Stash.
    pub image: &'a str,
}

/// The variables of a backup.
#[must_use]
pub fn backup(
    common: &Common<'_>,
    session: &str,
    target: &BackupTarget,
    retention: &RetentionPolicy,
) -> Variables {
    let mut all = shared(common);
    let mut set = |name: &str, value: String| all.insert(name.to_owned(), value);
    set("BACKUP_SESSION", session.to_owned());
    set("HOSTNAME", host(&target.alias).to_owned());
    let paths = target.paths.join(",");
    set("TARGET_PATHS", if paths.is_empty() { "/stash-data".to_owned() } else { paths });
    set("TARGET_MOUNT_PATH", mount_path(target.volume_mounts.first()));
    for (name, list, separator) in
        [("DRIVER_ARGS", &target.args, " "), ("EXCLUDE_PATTERNS", &target.exclude, ",")]
    {
        if !list.is_empty() {
            set(name, list.join(separator));
        }
    }
    for (name, count) in [
        ("LAST", retention.keep_last),
        ("HOURLY", retention.keep_hourly),
        ("DAILY", retention.keep_daily),
        ("WEEKLY", retention.keep_weekly),
        ("MONTHLY", retention.keep_monthly),
        ("YEARLY", retention.keep_yearly),
    ] {
        if let Some(count) = count.filter(|n| *n > 0) {
            set(&format!("RETENTION_KEEP_{name}"), count.to_string());
        }
    }
    if !retention.keep_tags.is_empty() {
        set("RETENTION_KEEP_TAGS", retention.keep_tags.join(","));
    }
    if retention.prune {
        set("RETENTION_PRUNE", "true".to_owned());
    }
    if retention.dry_run {
        set("RETENTION_DRY_RUN", "true".to_owned());
    }
    all
}

/// The variables of a restore.
#[must_use]
pub fn restore(
    common: &Common<'_>,
    session: &str,
    target: &RestoreTarget,
    choice: &Choice,
) -> Variables {
    let mut all = shared(common);
    let mut set = |name: &str, value: String| all.insert(name.to_owned(), value);
    set("RESTORE_SESSION", session.to_owned());
    set("HOSTNAME", target.alias.clone());
    set("SOURCE_HOSTNAME", choice.source_host.clone());
    set("RESTORE_SNAPSHOTS", choice.snapshots.join(","));
    set("RESTORE_PATHS", choice.paths.join(","));
    set("INCLUDE_PATTERNS", choice.include.join(","));
    set("EXCLUDE_PATTERNS", choice.exclude.join(","));
    set("TARGET_MOUNT_PATH", mount_path(target.volume_mounts.first()));
    set("TARGET_APP_REPLICAS", target.replicas.unwrap_or(1).to_string());
    if !target.args.is_empty() {
        set("DRIVER_ARGS", target.args.join(" "));
    }
    all
}

/// restic's host of a backup.
#[must_use]
pub fn host(alias: &str) -> &str {
    if alias.is_empty() { names::DEFAULT_HOST } else { alias }
}

/// Registry, name and tag of an image; what it does not name is empty.
fn image_parts(image: &str) -> (&str, &str, &str) {
    let (registry, rest) = image.rsplit_once('/').unwrap_or(("", image));
    let (name, tag) = rest.split_once(':').unwrap_or((rest, ""));
    (
        registry,
        name.split('@').next().unwrap_or_default(),
        tag.split('@').next().unwrap_or_default(),
    )
}

fn mount_path(mount: Option<&k8s_openapi::api::core::v1::VolumeMount>) -> String {
    mount.map_or_else(|| "/stash-data".to_owned(), |mount| mount.mount_path.clone())
}

fn shared(common: &Common<'_>) -> Variables {
    let repository = common.repository;
    let backend = &repository.spec.backend;
    let home = repository.metadata.namespace.clone().unwrap_or_default();
    let location = backend.location();
    let (provider, bucket, prefix) =
        location.map_or(("", "", ""), |at| (at.provider, at.container, at.prefix));
    let (registry, image, tag) = image_parts(common.image);
    let mut all: Variables = [
        ("NAMESPACE", common.namespace),
        ("INVOKER_KIND", common.invoker_kind),
        ("INVOKER_NAME", common.invoker_name),
        ("REPOSITORY_NAME", repository.metadata.name.as_deref().unwrap_or_default()),
        ("REPOSITORY_NAMESPACE", &home),
        ("REPOSITORY_PROVIDER", provider),
        ("REPOSITORY_BUCKET", bucket),
        ("REPOSITORY_PREFIX", prefix),
        ("INTERIM_DATA_DIR", interim::data_dir(common.interim)),
        ("STASH_DOCKER_REGISTRY", registry),
        ("STASH_DOCKER_IMAGE", image),
        ("STASH_IMAGE_TAG", tag),
        ("LICENSE_APISERVICE", ""),
        ("PROMETHEUS_PUSHGATEWAY_URL", common.pushgateway_url),
        ("PROMETHEUS_JOB_NAME", common.invoker_name),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .collect();
    let mut set = |name: &str, value: String| all.insert(name.to_owned(), value);
    set("MAX_CONNECTIONS", backend.max_connections().to_string());
    set("ENABLE_CACHE", (!common.temp_dir.is_some_and(|t| t.disable_caching)).to_string());
    if let Some(endpoint) = backend.endpoint() {
        set("REPOSITORY_ENDPOINT", endpoint.to_owned());
    }
    if let Some(s3) = &backend.s3 {
        set("REPOSITORY_REGION", s3.region.clone());
    }
    set(
        "REPOSITORY_INSECURE_TLS",
        backend.s3.as_ref().is_some_and(|s3| s3.insecure_tls).to_string(),
    );
    if !backend.storage_secret_name.is_empty() {
        set("REPOSITORY_SECRET_NAME", backend.storage_secret_name.clone());
        set("REPOSITORY_SECRET_NAMESPACE", home);
    }
    let target = common.target;
    set("TARGET_NAMESPACE", target.namespace_or(common.namespace).to_owned());
    for (name, value) in [("TARGET_KIND", &target.kind), ("TARGET_NAME", &target.name)] {
        if !value.is_empty() {
            set(name, value.clone());
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn binding(parameters: serde_json::Value) -> AppBinding {
        serde_json::from_value(json!({"apiVersion": "appcatalog.appscode.com/v1alpha1", "kind": "AppBinding",
            "metadata": {"name": "orders"}, "spec": {"clientConfig": {}, "parameters": parameters}}))
        .unwrap()
    }

    #[test]
    fn the_invokers_task_and_params_win() {
        let addon = binding(json!({"apiVersion": "v1", "kind": "X", "stash": {"addon": {
            "backupTask": {"name": "b", "params": [{"name": "args", "value": "-db 1"}]}}}}));
        let (name, params) = task(None, &addon, AddonTask::Backup).unwrap();
        assert_eq!((name.as_str(), params["args"].as_str()), ("b", "-db 1"));
        let own: TaskRef =
            serde_json::from_value(json!({"params": [{"name": "waitTimeout", "value": "9"}]}))
                .unwrap();
        let (name, params) = task(Some(&own), &addon, AddonTask::Backup).unwrap();
        assert_eq!(name, "b");
        assert_eq!(params.keys().collect::<Vec<_>>(), ["waitTimeout"]);
        let error = task(None, &addon, AddonTask::Restore).unwrap_err();
        assert!(error.contains("restoreTask") && error.contains("orders"), "{error}");
    }

    #[test]
    fn a_backup_has_the_variables_of_the_reference() {
        let repository: Repository = serde_json::from_value(json!({
            "apiVersion": "stash.appscode.com/v1alpha1", "kind": "Repository",
            "metadata": {"name": "repo", "namespace": "storage"},
            "spec": {"backend": {"storageSecretName": "s", "s3": {"endpoint": "http://minio:9000", "bucket": "b", "prefix": "p"}}}}))
        .unwrap();
        let target: BackupTarget =
            serde_json::from_value(json!({"ref": {"kind": "AppBinding", "name": "orders"}}))
                .unwrap();
        let common = Common {
            namespace: "demo",
            invoker_kind: "BackupConfiguration",
            invoker_name: "orders-hourly",
            repository: &repository,
            target: &target.reference,
            temp_dir: None,
            interim: None,
            pushgateway_url: "http://push:56789",
            image: "localhost:5000/coffer-backup/coffer:0.1.0",
        };
        let policy = RetentionPolicy {
            keep_last: Some(3),
            keep_daily: Some(0),
            prune: true,
            ..RetentionPolicy::default()
        };
        let all = backup(&common, "orders-hourly-1", &target, &policy);
        for (name, value) in [
            ("NAMESPACE", "demo"),
            ("BACKUP_SESSION", "orders-hourly-1"),
            ("HOSTNAME", "host-0"),
            ("REPOSITORY_PROVIDER", "s3"),
            ("REPOSITORY_BUCKET", "b"),
            ("REPOSITORY_PREFIX", "p"),
            ("REPOSITORY_ENDPOINT", "http://minio:9000"),
            ("REPOSITORY_SECRET_NAMESPACE", "storage"),
            ("MAX_CONNECTIONS", "0"),
            ("ENABLE_CACHE", "true"),
            ("TARGET_NAMESPACE", "demo"),
            ("TARGET_PATHS", "/stash-data"),
            ("STASH_DOCKER_REGISTRY", "localhost:5000/coffer-backup"),
            ("STASH_DOCKER_IMAGE", "coffer"),
            ("STASH_IMAGE_TAG", "0.1.0"),
            ("RETENTION_KEEP_LAST", "3"),
            ("RETENTION_PRUNE", "true"),
        ] {
            assert_eq!(all.get(name).map(String::as_str), Some(value), "{name}");
        }
        assert!(!all.contains_key("RETENTION_KEEP_DAILY") && !all.contains_key("RESTORE_SESSION"));
    }
}
