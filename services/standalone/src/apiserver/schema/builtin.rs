//! The schemas of the built-in kinds, from `k8s-openapi`, with the merge rules put in.

use std::sync::LazyLock;

use k8s_openapi::{
    api::{
        admissionregistration::v1 as admission, apps::v1 as apps, authentication::v1 as authn,
        authorization::v1 as authz, batch::v1 as batch, coordination::v1 as coordination,
        core::v1 as core, discovery::v1 as discovery, events::v1 as events,
        networking::v1 as networking, policy::v1 as policy, rbac::v1 as rbac,
        scheduling::v1 as scheduling, storage::v1 as storage,
    },
    apiextensions_apiserver::pkg::apis::apiextensions::v1 as apiextensions,
    apimachinery::pkg::apis::meta::v1 as meta,
    kube_aggregator::pkg::apis::apiregistration::v1 as apiregistration,
};
use kube::core::GroupVersionKind;
use schemars::{JsonSchema, SchemaGenerator, generate::SchemaSettings};
use serde_json::{Map, Value};

use super::merge_rules;

pub(super) const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";
pub(super) const QUANTITY: &str = "io.k8s.apimachinery.pkg.api.resource.Quantity";

/// Every definition by its OpenAPI name; references read `#/definitions/<name>`.
static DEFINITIONS: LazyLock<Definitions> = LazyLock::new(Definitions::generate);

struct Definitions {
    schemas: Map<String, Value>,
    /// group, version, kind → definition
    kinds: Vec<(GroupVersionKind, String)>,
}

/// The definitions of the built-in kinds.
pub(crate) fn definitions() -> &'static Map<String, Value> {
    &DEFINITIONS.schemas
}

/// The definition's name of a built-in kind.
pub(crate) fn definition_of(gvk: &GroupVersionKind) -> Option<&'static str> {
    DEFINITIONS.kinds.iter().find(|(known, _)| known == gvk).map(|(_, name)| name.as_str())
}

/// The OpenAPI name of any kind: that of its definition, or, for a custom kind, the group
/// reversed: `com.appscode.stash.v1beta1.BackupSession`.
pub(crate) fn definition_name(gvk: &GroupVersionKind) -> String {
    if let Some(name) = definition_of(gvk) {
        return name.to_owned();
    }
    let reversed: Vec<&str> = gvk.group.rsplit('.').collect();
    format!("{}.{}.{}", reversed.join("."), gvk.version, gvk.kind)
}

impl Definitions {
    fn generate() -> Self {
        let settings = SchemaSettings::draft07().with(|s| s.meta_schema = None);
        let mut all = Registry { generator: settings.into_generator(), kinds: Vec::new() };
        all.core();
        all.groups();
        all.generator.subschema_for::<meta::ObjectMeta>();
        all.generator.subschema_for::<meta::ListMeta>();
        all.generator.subschema_for::<meta::Status>();
        all.generator.subschema_for::<meta::DeleteOptions>();
        let mut schemas = all.generator.take_definitions(false);
        merge_rules::add(&mut schemas);
        schemas.sort_keys();
        Self { schemas, kinds: all.kinds }
    }
}

struct Registry {
    generator: SchemaGenerator,
    kinds: Vec<(GroupVersionKind, String)>,
}

impl Registry {
    fn kind<K: k8s_openapi::Resource + JsonSchema>(&mut self) {
        self.generator.subschema_for::<K>();
        let gvk = GroupVersionKind::gvk(K::GROUP, K::VERSION, K::KIND);
        self.kinds.push((gvk, K::schema_name().into_owned()));
    }

    fn core(&mut self) {
        self.kind::<core::ConfigMap>();
        self.kind::<core::Endpoints>();
        self.kind::<core::Event>();
        self.kind::<core::LimitRange>();
        self.kind::<core::Namespace>();
        self.kind::<core::Node>();
        self.kind::<core::PersistentVolume>();
        self.kind::<core::PersistentVolumeClaim>();
        self.kind::<core::Pod>();
        self.kind::<core::PodTemplate>();
        self.kind::<core::ReplicationController>();
        self.kind::<core::ResourceQuota>();
        self.kind::<core::Secret>();
        self.kind::<core::Service>();
        self.kind::<core::ServiceAccount>();
    }

    fn groups(&mut self) {
        self.kind::<admission::MutatingWebhookConfiguration>();
        self.kind::<admission::ValidatingWebhookConfiguration>();
        self.kind::<apiextensions::CustomResourceDefinition>();
        self.kind::<apiregistration::APIService>();
        self.kind::<apps::ControllerRevision>();
        self.kind::<apps::DaemonSet>();
        self.kind::<apps::Deployment>();
        self.kind::<apps::ReplicaSet>();
        self.kind::<apps::StatefulSet>();
        self.kind::<authn::SelfSubjectReview>();
        self.kind::<authn::TokenRequest>();
        self.kind::<authn::TokenReview>();
        self.kind::<authz::LocalSubjectAccessReview>();
        self.kind::<authz::SelfSubjectAccessReview>();
        self.kind::<authz::SelfSubjectRulesReview>();
        self.kind::<authz::SubjectAccessReview>();
        self.kind::<batch::CronJob>();
        self.kind::<batch::Job>();
        self.kind::<coordination::Lease>();
        self.kind::<discovery::EndpointSlice>();
        self.kind::<events::Event>();
        self.kind::<networking::Ingress>();
        self.kind::<networking::NetworkPolicy>();
        self.kind::<policy::PodDisruptionBudget>();
        self.kind::<rbac::ClusterRole>();
        self.kind::<rbac::ClusterRoleBinding>();
        self.kind::<rbac::Role>();
        self.kind::<rbac::RoleBinding>();
        self.kind::<scheduling::PriorityClass>();
        self.kind::<storage::StorageClass>();
    }
}
