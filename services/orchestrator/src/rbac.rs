//! The ServiceAccount that a session's Job runs as. It gets no rights: whatever a worker needs is mounted. It exists
//! because clouds attach identities to it, by annotation. Pure.

use std::collections::BTreeMap;

use coffer_api::runtime_settings::PodSettings;
use k8s_openapi::{
    api::core::v1::ServiceAccount,
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
};

/// The account of an invoker's Jobs, owned by the invoker; none when the user names one.
#[must_use]
pub fn service_account(
    namespace: &str,
    name: String,
    owner: OwnerReference,
    labels: BTreeMap<String, String>,
    settings: Option<&PodSettings>,
) -> Option<ServiceAccount> {
    if settings.is_some_and(|pod| !pod.service_account_name.is_empty()) {
        return None;
    }
    let annotations = settings.map(|pod| pod.service_account_annotations.clone());
    Some(ServiceAccount {
        metadata: ObjectMeta {
            name: Some(name),
            namespace: Some(namespace.to_owned()),
            labels: Some(labels),
            annotations: annotations.filter(|all| !all.is_empty()),
            owner_references: Some(vec![owner]),
            ..ObjectMeta::default()
        },
        automount_service_account_token: Some(false),
        ..ServiceAccount::default()
    })
}
