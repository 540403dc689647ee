//! What the server tells about itself: versions, groups, resources, OpenAPI documents.

use std::sync::Arc;

use bytes::Bytes;
use http::request::Parts;
use http::{Method, Response, header};
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::kinds::{Kind, Kinds};
use super::openapi;
use super::represent::{Encoding, raw, respond};
use super::server::Server;
use super::service::Body;
use super::status::Failure;

const VERBS: [&str; 8] =
    ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];

/// The OpenAPI v2 document, which takes long to make, as of the kinds that it was made from.
#[derive(Debug, Default)]
pub struct Documents(Mutex<Option<(Arc<Kinds>, Bytes, Bytes)>>);

impl Documents {
    /// The document as JSON and as protobuf.
    fn v2(&self, kinds: &Arc<Kinds>) -> (Bytes, Bytes) {
        let mut made = self.0.lock();
        match &*made {
            Some((of, json, protobuf)) if Arc::ptr_eq(of, kinds) => {
                (json.clone(), protobuf.clone())
            }
            _ => {
                let document = openapi::v2(&kinds.for_openapi());
                let json = Bytes::from(document.to_string());
                let protobuf = Bytes::from(openapi::v2_protobuf(&document));
                *made = Some((Arc::clone(kinds), json.clone(), protobuf.clone()));
                (json, protobuf)
            }
        }
    }
}

/// Answers a path that names no resource.
///
/// # Errors
/// When it names nothing at all.
pub fn answer(server: &Server, parts: &[String], head: &Parts) -> Result<Response<Body>, Failure> {
    if head.method != Method::GET {
        return Err(Failure::method_not_allowed());
    }
    let kinds = server.kinds();
    let accept =
        head.headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    let value = match parts[..] {
        [] => json!({"paths": ["/api", "/apis", "/healthz", "/livez", "/openapi/v2",
            "/openapi/v3", "/readyz", "/version"]}),
        ["version"] => version(),
        ["api"] | ["apis"] => match aggregated(accept) {
            Some(content_type) => {
                let core = parts[0] == "api";
                let version = if content_type.contains("v2beta1") { "v2beta1" } else { "v2" };
                let list = everything(&kinds, version, core);
                return Ok(raw(200, content_type, list.to_string().into()));
            }
            None if parts[0] == "api" => json!({"kind": "APIVersions", "versions": ["v1"],
                "serverAddressByClientCIDRs": []}),
            None => {
                let all: Vec<Value> =
                    groups(&kinds).iter().skip(1).map(|group| group_of(&kinds, group)).collect();
                json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": all})
            }
        },
        ["api", "v1"] => resources(&kinds, "", "v1")?,
        ["apis", group] if !group.is_empty() && groups(&kinds).contains(&group.to_owned()) => {
            let mut value = group_of(&kinds, group);
            value["kind"] = "APIGroup".into();
            value["apiVersion"] = "v1".into();
            value
        }
        ["apis", group, version] => resources(&kinds, group, version)?,
        ["openapi", "v2"] => {
            let (json, protobuf) = server.documents.v2(&kinds);
            return Ok(if accept.contains("proto-openapi.spec.v2") {
                let content_type = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";
                raw(200, content_type, protobuf)
            } else {
                raw(200, "application/json", json)
            });
        }
        ["openapi", "v3"] => openapi::v3_index(&kinds.for_openapi()),
        ["openapi", "v3", "api", version] => {
            openapi::v3("", version, &kinds.for_openapi()).ok_or_else(Failure::no_such_path)?
        }
        ["openapi", "v3", "apis", group, version] => {
            openapi::v3(group, version, &kinds.for_openapi()).ok_or_else(Failure::no_such_path)?
        }
        _ => return Err(Failure::no_such_path()),
    };
    Ok(respond(200, &value, Encoding::Json, &[]))
}

/// The version of Kubernetes whose API this is; clients adapt to it.
fn version() -> Value {
    let platform = format!("{}/{}", std::env::consts::OS, std::env::consts::ARCH);
    json!({
        "major": "1", "minor": "34", "gitVersion": "v1.34.0+coffer", "gitCommit": "",
        "gitTreeState": "clean", "buildDate": "1970-01-01T00:00:00Z", "goVersion": "",
        "compiler": "rustc", "platform": platform,
    })
}

/// The content type of an aggregated answer, if the client wants one that is known.
fn aggregated(accept: &str) -> Option<&'static str> {
    const V2: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
    const V2_BETA: &str =
        "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList";
    accept.split(',').find_map(|entry| {
        let has = |part: &str| entry.split(';').any(|have| have.trim() == part);
        if !has("application/json") || !has("as=APIGroupDiscoveryList") {
            return None;
        }
        match (has("v=v2"), has("v=v2beta1")) {
            (true, _) => Some(V2),
            (_, true) => Some(V2_BETA),
            _ => None,
        }
    })
}

/// All groups, the core group first.
fn groups(kinds: &Kinds) -> Vec<String> {
    let mut groups = vec![String::new()];
    for kind in kinds.iter() {
        if !groups.contains(&kind.group) {
            groups.push(kind.group.clone());
        }
    }
    groups
}

/// The versions of a group, the preferred one first.
fn versions(kinds: &Kinds, group: &str) -> Vec<String> {
    let mut versions: Vec<String> = Vec::new();
    for kind in kinds.iter().filter(|kind| kind.group == group) {
        for version in &kind.versions {
            if !versions.contains(&version.name) {
                versions.push(version.name.clone());
            }
        }
    }
    versions.sort_by_key(|version| std::cmp::Reverse(super::crd::priority(version)));
    versions
}

fn group_of(kinds: &Kinds, group: &str) -> Value {
    let versions: Vec<Value> = versions(kinds, group)
        .iter()
        .map(|version| json!({"groupVersion": format!("{group}/{version}"), "version": version}))
        .collect();
    let preferred = versions.first().cloned().unwrap_or(Value::Null);
    json!({"name": group, "versions": versions, "preferredVersion": preferred})
}

/// A subresource: its name, the group, version and kind that it speaks, its verbs.
struct Subresource {
    name: &'static str,
    speaks: (String, String, String),
    verbs: &'static [&'static str],
}

fn subresources(kind: &Kind, version: &str, status: bool) -> Vec<Subresource> {
    let own = (kind.group.clone(), version.to_owned(), kind.name.clone());
    let mut all = Vec::new();
    match &*kind.resource {
        "core/namespaces" => {
            all.push(Subresource { name: "finalize", speaks: own.clone(), verbs: &["update"] })
        }
        "core/pods" => {
            let exec = (String::new(), version.to_owned(), "PodExecOptions".to_owned());
            all.push(Subresource { name: "exec", speaks: exec, verbs: &["create", "get"] });
            all.push(Subresource { name: "log", speaks: own.clone(), verbs: &["get"] });
        }
        "core/serviceaccounts" => {
            let token = ("authentication.k8s.io".into(), "v1".into(), "TokenRequest".into());
            all.push(Subresource { name: "token", speaks: token, verbs: &["create"] });
        }
        _ => {}
    }
    if status {
        all.push(Subresource { name: "status", speaks: own, verbs: &["get", "patch", "update"] });
    }
    all
}

fn verbs(kind: &Kind) -> Value {
    if kind.create_only() { json!(["create"]) } else { json!(VERBS) }
}

/// `APIResourceList` of one group and version.
fn resources(kinds: &Kinds, group: &str, version: &str) -> Result<Value, Failure> {
    let mut list = Vec::new();
    for kind in kinds.iter().filter(|kind| kind.group == group) {
        let Some(served) = kind.version(version) else { continue };
        let mut entry = json!({
            "name": kind.plural, "singularName": kind.singular, "namespaced": kind.namespaced,
            "kind": kind.name, "verbs": verbs(kind),
        });
        if !kind.short_names.is_empty() {
            entry["shortNames"] = json!(kind.short_names);
        }
        if !kind.categories.is_empty() {
            entry["categories"] = json!(kind.categories);
        }
        list.push(entry);
        for Subresource { name, speaks, verbs } in subresources(kind, version, served.status) {
            let mut entry = json!({
                "name": format!("{}/{name}", kind.plural), "singularName": "",
                "namespaced": kind.namespaced, "kind": speaks.2, "verbs": verbs,
            });
            if speaks.0 != kind.group {
                entry["group"] = speaks.0.into();
                entry["version"] = speaks.1.into();
            }
            list.push(entry);
        }
    }
    if list.is_empty() {
        return Err(Failure::no_such_path());
    }
    let group_version =
        if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    Ok(json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version,
        "resources": list}))
}

/// `APIGroupDiscoveryList`: the core group, or all the others.
fn everything(kinds: &Kinds, api: &str, core: bool) -> Value {
    let items: Vec<Value> = groups(kinds)
        .iter()
        .filter(|group| group.is_empty() == core)
        .map(|group| {
            let versions: Vec<Value> = versions(kinds, group)
                .iter()
                .map(|version| {
                    json!({"version": version, "freshness": "Current",
                        "resources": discovered(kinds, group, version)})
                })
                .collect();
            let metadata = if core { json!({}) } else { json!({"name": group}) };
            json!({"metadata": metadata, "versions": versions})
        })
        .collect();
    json!({"kind": "APIGroupDiscoveryList", "apiVersion": format!("apidiscovery.k8s.io/{api}"),
        "metadata": {}, "items": items})
}

fn discovered(kinds: &Kinds, group: &str, version: &str) -> Vec<Value> {
    let gvk = |(group, version, kind): (String, String, String)| json!({"group": group, "version": version, "kind": kind});
    kinds
        .iter()
        .filter(|kind| kind.group == group)
        .filter_map(|kind| {
            let served = kind.version(version)?;
            let own = (kind.group.clone(), version.to_owned(), kind.name.clone());
            let subresources: Vec<Value> = subresources(kind, version, served.status)
                .into_iter()
                .map(|Subresource { name, speaks, verbs }| {
                    json!({"subresource": name, "responseKind": gvk(speaks), "verbs": verbs})
                })
                .collect();
            let mut entry = json!({
                "resource": kind.plural, "responseKind": gvk(own),
                "scope": if kind.namespaced { "Namespaced" } else { "Cluster" },
                "singularResource": kind.singular, "verbs": verbs(kind),
            });
            for (field, list) in
                [("shortNames", &kind.short_names), ("categories", &kind.categories)]
            {
                if !list.is_empty() {
                    entry[field] = json!(list);
                }
            }
            if !subresources.is_empty() {
                entry["subresources"] = subresources.into();
            }
            Some(entry)
        })
        .collect()
}
