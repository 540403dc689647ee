//! The volume that `interimVolumeTemplate` asks for: a claim for each session, gone with it. A Redis needs none, since its
//! bytes are streamed; a Function of the user's may. Pure.

use coffer_api::runtime_settings::VolumeTemplate;
use k8s_openapi::{
    api::core::v1::{
        PersistentVolumeClaim, PersistentVolumeClaimVolumeSource, Volume, VolumeMount,
    },
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
};

/// Name of the volume.
const VOLUME: &str = "stash-interim-volume";
/// Where every container finds it.
const MOUNT_PATH: &str = "/stash-interim-volume";
/// Longest name of an object.
const NAME_MAX: usize = 253;

/// `INTERIM_DATA_DIR` of Functions.
#[must_use]
pub const fn data_dir(template: Option<&VolumeTemplate>) -> &'static str {
    match template {
        Some(_) => "/stash-interim-volume/data",
        None => "/stash-tmp/stash-interim-volume/data",
    }
}

/// The claim of a session.
#[must_use]
pub fn claim(
    template: &VolumeTemplate,
    namespace: &str,
    session: &str,
    owner: OwnerReference,
) -> PersistentVolumeClaim {
    let meta = template.metadata.clone().unwrap_or_default();
    let name = format!("{session}-{}", meta.name.as_deref().unwrap_or("interim"));
    PersistentVolumeClaim {
        metadata: ObjectMeta {
            name: Some(name.get(..NAME_MAX).unwrap_or(&name).to_owned()),
            namespace: Some(namespace.to_owned()),
            labels: Some(meta.labels).filter(|labels| !labels.is_empty()),
            annotations: Some(meta.annotations).filter(|all| !all.is_empty()),
            owner_references: Some(vec![owner]),
            ..ObjectMeta::default()
        },
        spec: template.spec.clone(),
        status: None,
    }
}

/// The claim as a volume of the Job's pod, and its mount.
#[must_use]
pub fn volume(claim: &PersistentVolumeClaim) -> (Volume, VolumeMount) {
    let source = PersistentVolumeClaimVolumeSource {
        claim_name: claim.metadata.name.clone().unwrap_or_default(),
        read_only: None,
    };
    (
        Volume {
            name: VOLUME.to_owned(),
            persistent_volume_claim: Some(source),
            ..Volume::default()
        },
        VolumeMount {
            name: VOLUME.to_owned(),
            mount_path: MOUNT_PATH.to_owned(),
            ..VolumeMount::default()
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_claim_belongs_to_its_session() {
        let template: VolumeTemplate = serde_json::from_value(json!({
            "metadata": {"name": "interim", "labels": {"a": "b"}},
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}))
        .unwrap();
        let owner = OwnerReference { uid: "u".into(), ..OwnerReference::default() };
        let claim = claim(&template, "demo", "orders-1", owner);
        assert_eq!(claim.metadata.name.as_deref(), Some("orders-1-interim"));
        assert_eq!(claim.metadata.owner_references.as_ref().unwrap()[0].uid, "u");
        assert_eq!(claim.spec, template.spec);
        let (volume, mount) = volume(&claim);
        assert_eq!(volume.persistent_volume_claim.unwrap().claim_name, "orders-1-interim");
        assert_eq!(mount.mount_path, "/stash-interim-volume");
        assert!(data_dir(Some(&template)).starts_with(MOUNT_PATH));
    }
}
