//! OpenAPI documents: what kubectl explains, completes and checks fields against.
//!
//! One set of definitions serves both versions. Custom kinds bring their CRD's schema; version 2
//! gets a simpler form of it, since old clients stumble over what version 2 cannot say. Paths are
//! there for one purpose: kubectl looks up whether a kind's PATCH knows `dryRun` and
//! `fieldValidation`, and which patch formats it takes.

mod definitions;
mod gnostic;
mod paths;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, hash_map::DefaultHasher};
use std::hash::{Hash, Hasher};

use kube::core::GroupVersionKind;
use serde_json::{Map, Value, json};

pub use gnostic::encode as v2_protobuf;

/// A kind that the server serves.
#[derive(Debug, Clone)]
pub struct Kind {
    /// Group (empty for core), version and kind.
    pub gvk: GroupVersionKind,
    /// The resource name in paths: `backupsessions`.
    pub plural: String,
    /// Whether objects live in namespaces.
    pub namespaced: bool,
    /// Whether it has a status subresource.
    pub status: bool,
    /// `openAPIV3Schema` of a custom kind; `None` for a built-in one.
    pub schema: Option<Value>,
}

/// The answer of `/openapi/v3`. The hash in each address changes with the document, so that
/// clients may cache it.
pub fn v3_index(kinds: &[Kind]) -> Value {
    let mut groups: BTreeMap<String, DefaultHasher> = BTreeMap::new();
    for kind in kinds {
        let hasher = groups.entry(group_path(&kind.gvk.group, &kind.gvk.version)).or_default();
        (&kind.gvk, &kind.plural, kind.namespaced, kind.status).hash(hasher);
        kind.schema.as_ref().map(Value::to_string).hash(hasher);
    }
    let paths: Map<String, Value> = groups
        .into_iter()
        .map(|(path, hasher)| {
            let hash = format!("{:016X}", hasher.finish());
            let url = format!("/openapi/v3/{path}?hash={hash}");
            (path, json!({"serverRelativeURL": url}))
        })
        .collect();
    json!({"paths": paths})
}

/// The answer of `/openapi/v3/api/v1` (`group` empty) or `/openapi/v3/apis/<group>/<version>`.
/// `None` when no kind is of that group and version.
pub fn v3(group: &str, version: &str, kinds: &[Kind]) -> Option<Value> {
    let kinds: Vec<&Kind> =
        kinds.iter().filter(|k| k.gvk.group == group && k.gvk.version == version).collect();
    if kinds.is_empty() {
        return None;
    }
    Some(json!({
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": "coffer"},
        "paths": paths::v3(&kinds),
        "components": {"schemas": definitions::v3(&kinds)},
    }))
}

/// The answer of `/openapi/v2` as JSON.
pub fn v2(kinds: &[Kind]) -> Value {
    let kinds: Vec<&Kind> = kinds.iter().collect();
    json!({
        "swagger": "2.0",
        "info": {"title": "Kubernetes", "version": "coffer"},
        "paths": paths::v2(&kinds),
        "definitions": definitions::v2(&kinds),
    })
}

/// `api/v1` or `apis/<group>/<version>`.
fn group_path(group: &str, version: &str) -> String {
    if group.is_empty() { format!("api/{version}") } else { format!("apis/{group}/{version}") }
}

/// The `x-kubernetes-group-version-kind` of one kind.
fn identity(gvk: &GroupVersionKind) -> Value {
    json!({"group": gvk.group, "kind": gvk.kind, "version": gvk.version})
}
