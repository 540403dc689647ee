//! A new BackupSession: its name, labels and owner. Pure.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use coffer_api::{
    BackupConfiguration, BackupSession,
    backup_session::{BackupSessionSpec, Invoker},
    names,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{Resource, ResourceExt};

use super::label;

/// A session with this name, which has this many further attempts.
#[must_use]
pub fn named(config: &BackupConfiguration, name: String, retry_left: i32) -> BackupSession {
    let spec = BackupSessionSpec {
        invoker: Invoker {
            api_group: Some("stash.appscode.com".to_owned()),
            kind: "BackupConfiguration".to_owned(),
            name: config.name_any(),
        },
        retry_left: Some(retry_left),
    };
    let mut session = BackupSession::new(&name, spec);
    session.metadata = ObjectMeta {
        name: Some(name),
        namespace: config.namespace(),
        labels: Some(labels(config)),
        owner_references: config.controller_owner_ref(&()).map(|owner| vec![owner]),
        ..ObjectMeta::default()
    };
    session
}

/// The session that is due at an instant; the same instant gives the same name.
#[must_use]
pub fn scheduled(config: &BackupConfiguration, instant: DateTime<Utc>) -> BackupSession {
    named(config, names::session(&config.name_any(), instant), attempts(config))
}

/// Further attempts of a first session.
#[must_use]
pub fn attempts(config: &BackupConfiguration) -> i32 {
    config.spec.retry_config.as_ref().map_or(0, |retry| retry.max_retry.max(0))
}

fn labels(config: &BackupConfiguration) -> BTreeMap<String, String> {
    let mut labels = names::backup_labels(config.labels());
    let namespace = config.namespace().unwrap_or_default();
    let target = config.spec.target.as_ref().map(|t| t.reference.clone()).unwrap_or_default();
    for (key, value) in [
        (names::INVOKER_TYPE, "BackupConfiguration"),
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
