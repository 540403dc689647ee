//! A new BackupSession: its name, labels and owner. Pure.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use coffer_api::{
    BackupConfiguration, BackupSession,
    backup_session::{BackupSessionSpec, Invoker},
    names,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::{Resource, ResourceExt};

use super::label;

/// A session with this name, which has this many further attempts. `kind` is that of the invoker; a BackupBatch comes
/// as [`super::batch`] sees it.
#[must_use]
pub fn named(
    kind: &str,
    config: &BackupConfiguration,
    name: String,
    retry_left: i32,
) -> BackupSession {
    let spec = BackupSessionSpec {
        invoker: Invoker {
            api_group: Some("stash.appscode.com".to_owned()),
            kind: kind.to_owned(),
            name: config.name_any(),
        },
        retry_left: Some(retry_left),
    };
    let mut session = BackupSession::new(&name, spec);
    session.metadata = ObjectMeta {
        name: Some(name),
        namespace: config.namespace(),
        labels: Some(labels(kind, config)),
        owner_references: owner(kind, config).map(|owner| vec![owner]),
        ..ObjectMeta::default()
    };
    session
}

/// The session that is due at an instant; the same instant gives the same name.
#[must_use]
pub fn scheduled(
    kind: &str,
    config: &BackupConfiguration,
    instant: DateTime<Utc>,
) -> BackupSession {
    named(kind, config, names::session(&config.name_any(), instant), attempts(config))
}

/// Further attempts of a first session.
#[must_use]
pub fn attempts(config: &BackupConfiguration) -> i32 {
    config.spec.retry_config.as_ref().map_or(0, |retry| retry.max_retry.max(0))
}

/// The invoker as an owner.
#[must_use]
pub fn owner(kind: &str, config: &BackupConfiguration) -> Option<OwnerReference> {
    let owner = config.controller_owner_ref(&())?;
    Some(OwnerReference { kind: kind.to_owned(), ..owner })
}

fn labels(kind: &str, config: &BackupConfiguration) -> BTreeMap<String, String> {
    let mut labels = names::backup_labels(config.labels());
    let namespace = config.namespace().unwrap_or_default();
    let target = config.spec.target.as_ref().map(|t| t.reference.clone()).unwrap_or_default();
    for (key, value) in [
        (names::INVOKER_TYPE, kind),
        (names::INVOKER_NAME, label(&config.name_any())),
        (names::TARGET_KIND, target.kind.as_str()),
        (names::TARGET_NAME, label(&target.name)),
        // The original leaves it empty when the target names none, and then misses its own sessions.
        (names::TARGET_NAMESPACE, target.namespace_or(&namespace)),
    ] {
        labels.insert(key.to_owned(), value.to_owned());
    }
    labels
}
