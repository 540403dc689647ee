//! What the API server's tests share: a server of their own, a small custom kind, waiting.
#![allow(clippy::unwrap_used, clippy::panic, reason = "the helpers of tests may fail")]
#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]

use std::future::Future;
use std::time::{Duration, Instant};

use coffer_standalone::apiserver::{ApiServer, Options};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{ApiResource, DynamicObject, PostParams};
use kube::core::GroupVersionKind;
use kube::{Api, Client};
use serde_json::{Value, json};

/// A server on a directory that goes with it.
pub struct World {
    pub server: ApiServer,
    pub client: Client,
    pub dir: tempfile::TempDir,
}

impl World {
    pub async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let server = ApiServer::open(dir.path(), Options::default()).await.unwrap();
        Self { client: server.client(), server, dir }
    }

    /// The same directory, another server.
    pub async fn restart(self) -> Self {
        self.server.close().await;
        let server = ApiServer::open(self.dir.path(), Options::default()).await.unwrap();
        Self { client: server.client(), server, dir: self.dir }
    }

    /// Installs the Widget kind.
    pub async fn with_widgets(self) -> Self {
        let definitions: Api<CustomResourceDefinition> = Api::all(self.client.clone());
        let definition = serde_json::from_value(widget_definition()).unwrap();
        let made = definitions.create(&PostParams::default(), &definition).await.unwrap();
        let conditions = made.status.unwrap().conditions.unwrap();
        assert!(conditions.iter().any(|c| c.type_ == "Established" && c.status == "True"));
        self
    }

    pub fn widgets(&self) -> Api<DynamicObject> {
        let gvk = GroupVersionKind::gvk("example.com", "v1", "Widget");
        let resource = ApiResource::from_gvk_with_plural(&gvk, "widgets");
        Api::namespaced_with(self.client.clone(), "default", &resource)
    }
}

pub fn widget(name: &str, spec: Value) -> DynamicObject {
    object(json!({"apiVersion": "example.com/v1", "kind": "Widget",
        "metadata": {"name": name}, "spec": spec}))
}

pub fn object<K: serde::de::DeserializeOwned>(value: Value) -> K {
    serde_json::from_value(value).unwrap()
}

pub fn widget_definition() -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "widgets.example.com"},
        "spec": {
            "group": "example.com", "scope": "Namespaced",
            "names": {"plural": "widgets", "kind": "Widget", "shortNames": ["wd"],
                "categories": ["all"]},
            "versions": [{
                "name": "v1", "served": true, "storage": true,
                "subresources": {"status": {}},
                "additionalPrinterColumns": [
                    {"name": "Size", "type": "integer", "jsonPath": ".spec.size"},
                    {"name": "Phase", "type": "string", "jsonPath": ".status.phase"},
                ],
                "schema": {"openAPIV3Schema": {
                    "type": "object", "required": ["spec"],
                    "properties": {
                        "spec": {"type": "object", "required": ["size"], "properties": {
                            "size": {"type": "integer", "minimum": 0,
                                "description": "How large the widget is."},
                            "color": {"type": "string", "enum": ["red", "blue"], "default": "red"},
                        }},
                        "status": {"type": "object", "properties": {
                            "phase": {"type": "string"},
                            "conditions": {"type": "array", "items": {"type": "object",
                                "properties": {"type": {"type": "string"},
                                    "status": {"type": "string"}}}},
                        }},
                    },
                }},
            }],
        },
    })
}

/// Waits until the condition holds, and says what it waited for when it does not.
pub async fn eventually<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let deadline = Instant::now() + Duration::from_secs(15);
    while !holds().await {
        assert!(Instant::now() < deadline, "in vain: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The code of a refused request.
pub fn code<T: std::fmt::Debug>(result: Result<T, kube::Error>) -> (u16, String) {
    match result.unwrap_err() {
        kube::Error::Api(status) => (status.code, status.message.clone()),
        other => panic!("not an answer of the API: {other}"),
    }
}
