//! The built-in kinds: their names, and their types, which decide what their objects may hold.

mod decode;
mod defaults;
mod validate;

use std::sync::Arc;

use k8s_openapi::api::{
    admissionregistration::v1::ValidatingWebhookConfiguration,
    authentication::v1::{SelfSubjectReview, TokenReview},
    authorization::v1::{
        LocalSubjectAccessReview, SelfSubjectAccessReview, SelfSubjectRulesReview,
        SubjectAccessReview,
    },
    batch::v1::{CronJob, Job},
    coordination::v1::Lease,
    core::v1::{
        ConfigMap, Endpoints, Event, Namespace, PersistentVolumeClaim, Pod, Secret, Service,
        ServiceAccount,
    },
    discovery::v1::EndpointSlice,
    rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding},
};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::{ListableResource, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::events;
use super::kinds::{Kind, Rules, Version};
use super::schema::Structural;

pub use decode::unknown_fields;
pub use defaults::{set as set_defaults, set_on_create};
pub use validate::check;
pub(super) use validate::{FieldErrors, is_label};

/// One built-in kind.
#[derive(Debug)]
pub struct Builtin {
    group: &'static str,
    version: &'static str,
    name: &'static str,
    plural: &'static str,
    short_names: &'static [&'static str],
    categories: &'static [&'static str],
    namespaced: bool,
    status: bool,
    generation: bool,
    /// Whether objects are only posted, never stored.
    pub create_only: bool,
    /// Whether names are path segments (as of RBAC objects) rather than DNS names.
    pub free_names: bool,
    decode: fn(&Value) -> Result<Value, String>,
}

impl Builtin {
    /// The object as its type reads it: unknown fields are gone.
    ///
    /// # Errors
    /// In the API server's words, when a field is of the wrong type.
    pub fn decode(&self, object: &Value) -> Result<Value, String> {
        (self.decode)(object)
    }

    const fn short(mut self, names: &'static [&'static str]) -> Self {
        self.short_names = names;
        self
    }

    const fn all(mut self) -> Self {
        self.categories = &["all"];
        self
    }

    const fn cluster(mut self) -> Self {
        self.namespaced = false;
        self
    }

    const fn status(mut self) -> Self {
        self.status = true;
        self
    }

    const fn generation(mut self) -> Self {
        self.generation = true;
        self
    }

    const fn free_names(mut self) -> Self {
        self.free_names = true;
        self
    }
}

const fn of<K: ListableResource + Serialize + DeserializeOwned>() -> Builtin {
    Builtin {
        group: K::GROUP,
        version: K::VERSION,
        name: K::KIND,
        plural: K::URL_PATH_SEGMENT,
        short_names: &[],
        categories: &[],
        namespaced: true,
        status: false,
        generation: false,
        create_only: false,
        free_names: false,
        decode: decode::typed::<K>,
    }
}

const fn posted<K: Resource + Serialize + DeserializeOwned>() -> Builtin {
    Builtin {
        group: K::GROUP,
        version: K::VERSION,
        name: K::KIND,
        plural: K::URL_PATH_SEGMENT,
        short_names: &[],
        categories: &[],
        namespaced: false,
        status: false,
        generation: false,
        create_only: true,
        free_names: false,
        decode: decode::typed::<K>,
    }
}

static TABLE: [Builtin; 26] = [
    of::<ConfigMap>().short(&["cm"]),
    of::<Endpoints>().short(&["ep"]),
    of::<Event>().short(&["ev"]),
    of::<Namespace>().short(&["ns"]).cluster().status(),
    of::<PersistentVolumeClaim>().short(&["pvc"]).status(),
    of::<Pod>().short(&["po"]).all().status().generation(),
    of::<Secret>(),
    of::<ServiceAccount>().short(&["sa"]),
    of::<Service>().short(&["svc"]).all().status(),
    of::<CustomResourceDefinition>().short(&["crd", "crds"]).cluster().status().generation(),
    of::<ValidatingWebhookConfiguration>().cluster().generation(),
    of::<Job>().all().status().generation(),
    of::<CronJob>().short(&["cj"]).all().status().generation(),
    of::<Lease>(),
    of::<EndpointSlice>().generation(),
    of::<k8s_openapi::api::events::v1::Event>().short(&["ev"]),
    of::<Role>().free_names(),
    of::<RoleBinding>().free_names(),
    of::<ClusterRole>().cluster().free_names(),
    of::<ClusterRoleBinding>().cluster().free_names(),
    posted::<TokenReview>(),
    posted::<SelfSubjectReview>(),
    posted::<SubjectAccessReview>(),
    posted::<SelfSubjectAccessReview>(),
    posted::<SelfSubjectRulesReview>(),
    LOCAL_ACCESS_REVIEW,
];

/// Posted to a namespace.
const LOCAL_ACCESS_REVIEW: Builtin = {
    let mut entry = posted::<LocalSubjectAccessReview>();
    entry.namespaced = true;
    entry
};

/// The built-in kinds as they are served.
pub fn kinds() -> Vec<Kind> {
    TABLE.iter().map(kind).collect()
}

fn kind(entry: &'static Builtin) -> Kind {
    let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
    let mut kind = Kind {
        group: entry.group.to_owned(),
        plural: entry.plural.to_owned(),
        singular: entry.name.to_lowercase(),
        name: entry.name.to_owned(),
        list_name: format!("{}List", entry.name),
        short_names: owned(entry.short_names),
        categories: owned(entry.categories),
        namespaced: entry.namespaced,
        generation: entry.generation,
        versions: Vec::new(),
        stored: entry.version.to_owned(),
        resource: resource(entry.group, entry.plural).into(),
        rules: Rules::Builtin(entry),
    };
    if kind.group == events::GROUP {
        kind.resource = resource("", "events").into();
    }
    kind.versions.push(Arc::new(Version {
        name: entry.version.to_owned(),
        status: entry.status,
        schema: Structural::builtin(&kind.gvk(entry.version)),
        raw_schema: None,
        columns: None,
        deprecation: None,
    }));
    kind
}

/// The `resource` of the keys under which a kind's objects are stored.
pub fn resource(group: &str, plural: &str) -> String {
    format!("{}/{plural}", if group.is_empty() { "core" } else { group })
}
