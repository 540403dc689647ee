//! How the lists and maps of built-in kinds merge: what Kubernetes says in Go comments and struct
//! tags, and `k8s-openapi` leaves out.
//!
//! A list that is in no row is replaced as a whole, by both kinds of patch that could merge it.

use serde_json::{Map, Value, json};

const CORE: &str = "io.k8s.api.core.v1.";
const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.";

/// definition, field, list-map keys of server-side apply (none: atomic), strategic merge key
/// (none: replaced).
type Row = (&'static str, &'static str, &'static [&'static str], Option<&'static str>);

const CORE_LISTS: &[Row] = &[
    ("Container", "env", &["name"], Some("name")),
    ("Container", "ports", &["containerPort", "protocol"], Some("containerPort")),
    ("Container", "volumeDevices", &["devicePath"], Some("devicePath")),
    ("Container", "volumeMounts", &["mountPath"], Some("mountPath")),
    ("EphemeralContainer", "env", &["name"], Some("name")),
    ("EphemeralContainer", "ports", &["containerPort", "protocol"], Some("containerPort")),
    ("EphemeralContainer", "volumeDevices", &["devicePath"], Some("devicePath")),
    ("EphemeralContainer", "volumeMounts", &["mountPath"], Some("mountPath")),
    ("NamespaceStatus", "conditions", &["type"], Some("type")),
    ("NodeStatus", "addresses", &["type"], Some("type")),
    ("NodeStatus", "conditions", &["type"], Some("type")),
    ("PersistentVolumeClaimStatus", "conditions", &["type"], Some("type")),
    ("PodSpec", "containers", &["name"], Some("name")),
    ("PodSpec", "ephemeralContainers", &["name"], Some("name")),
    ("PodSpec", "hostAliases", &["ip"], Some("ip")),
    ("PodSpec", "imagePullSecrets", &["name"], Some("name")),
    ("PodSpec", "initContainers", &["name"], Some("name")),
    ("PodSpec", "resourceClaims", &["name"], Some("name")),
    ("PodSpec", "schedulingGates", &["name"], Some("name")),
    (
        "PodSpec",
        "topologySpreadConstraints",
        &["topologyKey", "whenUnsatisfiable"],
        Some("topologyKey"),
    ),
    ("PodSpec", "volumes", &["name"], Some("name")),
    ("PodStatus", "conditions", &["type"], Some("type")),
    ("PodStatus", "hostIPs", &[], Some("ip")),
    ("PodStatus", "podIPs", &["ip"], Some("ip")),
    ("ReplicationControllerStatus", "conditions", &["type"], Some("type")),
    ("ResourceRequirements", "claims", &["name"], None),
    ("ServiceAccount", "secrets", &["name"], Some("name")),
    ("ServiceSpec", "ports", &["port", "protocol"], Some("port")),
    ("ServiceStatus", "conditions", &["type"], Some("type")),
];

const OTHER_LISTS: &[Row] = &[
    (
        "io.k8s.api.admissionregistration.v1.MutatingWebhook",
        "matchConditions",
        &["name"],
        Some("name"),
    ),
    (
        "io.k8s.api.admissionregistration.v1.MutatingWebhookConfiguration",
        "webhooks",
        &["name"],
        Some("name"),
    ),
    (
        "io.k8s.api.admissionregistration.v1.ValidatingWebhook",
        "matchConditions",
        &["name"],
        Some("name"),
    ),
    (
        "io.k8s.api.admissionregistration.v1.ValidatingWebhookConfiguration",
        "webhooks",
        &["name"],
        Some("name"),
    ),
    ("io.k8s.api.apps.v1.DaemonSetStatus", "conditions", &["type"], Some("type")),
    ("io.k8s.api.apps.v1.DeploymentStatus", "conditions", &["type"], Some("type")),
    ("io.k8s.api.apps.v1.ReplicaSetStatus", "conditions", &["type"], Some("type")),
    ("io.k8s.api.apps.v1.StatefulSetStatus", "conditions", &["type"], Some("type")),
    ("io.k8s.api.batch.v1.JobStatus", "conditions", &[], Some("type")),
    ("io.k8s.api.policy.v1.PodDisruptionBudgetStatus", "conditions", &["type"], Some("type")),
    (
        "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceDefinitionStatus",
        "conditions",
        &["type"],
        None,
    ),
    (
        "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps",
        "x-kubernetes-validations",
        &["rule"],
        Some("rule"),
    ),
    (
        "io.k8s.kube-aggregator.pkg.apis.apiregistration.v1.APIServiceStatus",
        "conditions",
        &["type"],
        Some("type"),
    ),
];

/// Lists of plain values that are sets: definition, field, merged by a strategic patch too.
const SETS: &[(&str, &str, bool)] = &[
    ("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta", "finalizers", true),
    ("io.k8s.api.core.v1.LoadBalancerStatus", "ingress", false),
];

/// Objects that are one value when merged, whoever refers to them.
const ATOMIC_CORE: &[&str] = &[
    "ConfigMapKeySelector",
    "EndpointAddress",
    "EndpointPort",
    "LocalObjectReference",
    "NodeSelector",
    "NodeSelectorTerm",
    "ObjectFieldSelector",
    "ObjectReference",
    "ResourceFieldSelector",
    "ScopeSelector",
    "SecretKeySelector",
    "SecretReference",
    "TopologySelectorTerm",
    "TypedLocalObjectReference",
];

/// Maps that are one value when merged.
const ATOMIC_MAPS: &[(&str, &str)] = &[
    ("io.k8s.api.core.v1.PodSpec", "nodeSelector"),
    ("io.k8s.api.core.v1.ReplicationControllerSpec", "selector"),
    ("io.k8s.api.core.v1.ServiceSpec", "selector"),
];

/// Fields of which a strategic merge patch keeps only the named keys.
const RETAIN_KEYS: &[(&str, &str)] = &[
    ("io.k8s.api.apps.v1.DeploymentSpec", "strategy"),
    ("io.k8s.api.core.v1.PodSpec", "resourceClaims"),
    ("io.k8s.api.core.v1.PodSpec", "volumes"),
];

/// Defaults that are part of a list entry's identity.
const PROTOCOLS: &[&str] = &["ContainerPort", "ServicePort"];

/// Puts the rules into the definitions, as `x-kubernetes-*` extensions.
pub(super) fn add(definitions: &mut Map<String, Value>) {
    for (definition, field, keys, merge) in CORE_LISTS {
        list(definitions, &format!("{CORE}{definition}"), field, keys, *merge);
    }
    for (definition, field, keys, merge) in OTHER_LISTS {
        list(definitions, definition, field, keys, *merge);
    }
    list(definitions, &format!("{META}ObjectMeta"), "ownerReferences", &["uid"], Some("uid"));
    for (definition, field, merged) in SETS {
        set(definitions, definition, Some(field), "x-kubernetes-list-type", json!("set"));
        if *merged {
            let strategy = json!("merge");
            set(definitions, definition, Some(field), "x-kubernetes-patch-strategy", strategy);
        }
    }
    let atomic = || json!("atomic");
    for definition in ATOMIC_CORE {
        set(definitions, &format!("{CORE}{definition}"), None, "x-kubernetes-map-type", atomic());
    }
    for definition in ["LabelSelector", "OwnerReference"] {
        set(definitions, &format!("{META}{definition}"), None, "x-kubernetes-map-type", atomic());
    }
    for (definition, field) in ATOMIC_MAPS {
        set(definitions, definition, Some(field), "x-kubernetes-map-type", atomic());
    }
    for (definition, field) in RETAIN_KEYS {
        let merges = *field != "strategy";
        let strategy = if merges { "merge,retainKeys" } else { "retainKeys" };
        set(definitions, definition, Some(field), "x-kubernetes-patch-strategy", json!(strategy));
    }
    for definition in PROTOCOLS {
        set(definitions, &format!("{CORE}{definition}"), Some("protocol"), "default", json!("TCP"));
    }
}

fn list(
    definitions: &mut Map<String, Value>,
    definition: &str,
    field: &str,
    keys: &[&str],
    merge: Option<&str>,
) {
    let kind = if keys.is_empty() { "atomic" } else { "map" };
    set(definitions, definition, Some(field), "x-kubernetes-list-type", json!(kind));
    if !keys.is_empty() {
        set(definitions, definition, Some(field), "x-kubernetes-list-map-keys", json!(keys));
    }
    if let Some(merge) = merge {
        set(definitions, definition, Some(field), "x-kubernetes-patch-merge-key", json!(merge));
        set(definitions, definition, Some(field), "x-kubernetes-patch-strategy", json!("merge"));
    }
}

/// Fields that this version of Kubernetes does not have are passed over.
fn set(
    definitions: &mut Map<String, Value>,
    definition: &str,
    field: Option<&str>,
    key: &str,
    value: Value,
) {
    let schema = definitions.get_mut(definition);
    let schema = match field {
        Some(field) => schema.and_then(|s| s.pointer_mut(&format!("/properties/{field}"))),
        None => schema,
    };
    if let Some(schema) = schema.and_then(Value::as_object_mut) {
        schema.insert(key.to_owned(), value);
    }
}
