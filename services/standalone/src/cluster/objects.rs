//! What is in the API server before a user comes: our kinds, the Functions and Tasks that we ship, the rights of the
//! services, and where the services are.

use std::collections::BTreeMap;

use coffer_api::crds;
use kube::{
    Api, Client, Discovery,
    api::{DynamicObject, Patch, PatchParams},
    core::{GroupVersionKind, TypeMeta},
    discovery::{ApiResource, Scope},
};
use serde::Deserialize as _;
use serde_json::{Value, json};

use super::Error;

/// Namespace of the services' own objects.
pub(super) const NAMESPACE: &str = "coffer-system";
/// ConfigMap that tells clients where the services are.
pub(super) const ENDPOINTS: &str = "coffer-endpoints";

/// What an installation applies in a cluster too, so that both run with the same rights and the same catalog.
const RIGHTS: &str = include_str!("../../../../deploy/install/rbac.yaml");
const ADMISSION: &str = include_str!("../../../../deploy/install/admission.yaml");
const CATALOG: &str = include_str!("../../../../deploy/catalog/redis.yaml");

/// What happens to a field that somebody else has set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Foreign {
    /// It is set again.
    Overwrite,
    /// The whole object stays as it is.
    Keep,
}

/// Applies everything. A Function or Task that a user has changed stays as the user wants it.
pub(super) async fn apply(
    client: &Client,
    endpoints: BTreeMap<String, String>,
    webhook: &str,
) -> Result<(), Error> {
    let mut objects = vec![namespace()];
    for crd in crds::all() {
        objects.push(
            serde_json::to_value(crd).map_err(|source| Error::Shipped { source: source.into() })?,
        );
    }
    put(client, &objects, Foreign::Overwrite).await?;
    put(client, &documents(CATALOG)?, Foreign::Keep).await?;
    let mut objects = documents(RIGHTS)?;
    objects.push(json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": ENDPOINTS, "namespace": NAMESPACE},
        "data": endpoints,
    }));
    objects.extend(documents(ADMISSION)?.into_iter().map(|object| at_url(object, webhook)));
    put(client, &objects, Foreign::Overwrite).await
}

/// The orchestrator is no Service here.
fn at_url(mut object: Value, url: &str) -> Value {
    for webhook in object["webhooks"].as_array_mut().into_iter().flatten() {
        webhook["clientConfig"] = json!({ "url": url });
    }
    object
}

fn namespace() -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
}

fn documents(text: &str) -> Result<Vec<Value>, Error> {
    let shipped = |source: serde_yaml::Error| Error::Shipped { source: source.into() };
    let mut objects = vec![];
    for document in serde_yaml::Deserializer::from_str(text) {
        let value = Value::deserialize(document).map_err(shipped)?;
        if !value.is_null() {
            objects.push(value);
        }
    }
    Ok(objects)
}

async fn put(client: &Client, objects: &[Value], foreign: Foreign) -> Result<(), Error> {
    let discovery = Discovery::new(client.clone())
        .run()
        .await
        .map_err(|source| Error::Discover { source: source.into() })?;
    for object in objects {
        put_one(client, &discovery, object, foreign).await?;
    }
    Ok(())
}

async fn put_one(
    client: &Client,
    discovery: &Discovery,
    value: &Value,
    foreign: Foreign,
) -> Result<(), Error> {
    let object: DynamicObject = serde_json::from_value(value.clone())
        .map_err(|source| Error::Shipped { source: source.into() })?;
    let types = object
        .types
        .clone()
        .unwrap_or(TypeMeta { api_version: String::new(), kind: String::new() });
    let name = object.metadata.name.clone().unwrap_or_default();
    let failed = |source: Box<dyn std::error::Error + Send + Sync>| Error::Apply {
        kind: types.kind.clone(),
        name: name.clone(),
        source,
    };
    let gvk = GroupVersionKind::try_from(&types).map_err(|source| failed(source.into()))?;
    let (resource, capabilities) = discovery
        .resolve_gvk(&gvk)
        .ok_or_else(|| failed(format!("no kind {}", types.kind).into()))?;
    let api = scoped(client, &resource, &capabilities.scope, object.metadata.namespace.as_deref());
    let params =
        PatchParams { force: foreign == Foreign::Overwrite, ..PatchParams::apply("coffer") };
    match api.patch(&name, &params, &Patch::Apply(value)).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if foreign == Foreign::Keep && status.code == 409 => {
            tracing::info!(kind = types.kind, name, "left as it was changed");
            Ok(())
        }
        Err(source) => Err(failed(source.into())),
    }
}

fn scoped(
    client: &Client,
    resource: &ApiResource,
    scope: &Scope,
    namespace: Option<&str>,
) -> Api<DynamicObject> {
    match scope {
        Scope::Cluster => Api::all_with(client.clone(), resource),
        Scope::Namespaced => {
            Api::namespaced_with(client.clone(), namespace.unwrap_or("default"), resource)
        }
    }
}
