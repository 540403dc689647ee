//! What an API server says to the gateway: Repositories, Secrets, token and access reviews. A transport for the real
//! Kubernetes client, so that the gateway is the same as in a cluster.

use kube::client::Body;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

/// Objects by path.
#[derive(Clone, Default)]
pub struct Cluster(Arc<Mutex<HashMap<String, Value>>>);

impl Cluster {
    pub fn repository(&self, name: &str, backend: Value) {
        self.repository_of(name, json!({"backend": backend}));
    }

    pub fn repository_of(&self, name: &str, spec: Value) {
        let path = format!("/apis/stash.appscode.com/v1alpha1/namespaces/demo/repositories/{name}");
        let object = json!({
            "apiVersion": "stash.appscode.com/v1alpha1", "kind": "Repository",
            "metadata": {"name": name, "namespace": "demo"},
            "spec": spec,
        });
        self.0.lock().unwrap().insert(path, object);
    }

    pub fn secret(&self, name: &str, values: &[(&str, &str)]) {
        use k8s_openapi::ByteString;
        let data: HashMap<_, _> =
            values.iter().map(|(key, value)| (*key, ByteString(value.as_bytes().into()))).collect();
        let object = json!({
            "apiVersion": "v1", "kind": "Secret",
            "metadata": {"name": name, "namespace": "demo"}, "data": data,
        });
        self.0.lock().unwrap().insert(secret_path(name), object);
    }

    pub fn claim(&self, name: &str) {
        let path = format!("/api/v1/namespaces/demo/persistentvolumeclaims/{name}");
        let object = json!({
            "apiVersion": "v1", "kind": "PersistentVolumeClaim",
            "metadata": {"name": name, "namespace": "demo"},
        });
        self.0.lock().unwrap().insert(path, object);
    }

    pub fn client(&self) -> kube::Client {
        let cluster = self.clone();
        let service = tower::service_fn(move |request: http::Request<Body>| {
            let cluster = cluster.clone();
            async move {
                let path = request.uri().path().to_owned();
                let body = request.into_body().collect_bytes().await.unwrap();
                let (status, answer) = cluster.answer(&path, &body);
                let response = http::Response::builder()
                    .status(status)
                    .header("content-type", "application/json")
                    .body(Body::from(serde_json::to_vec(&answer).unwrap()));
                Ok::<_, std::convert::Infallible>(response.unwrap())
            }
        });
        kube::Client::new(service, "default")
    }

    /// Token `reader` may get, `editor` may also update, `owner` may also delete, and `restorer` may create RestoreSessions
    /// and nothing else; nobody else is known.
    fn answer(&self, path: &str, body: &[u8]) -> (u16, Value) {
        if path.ends_with("/tokenreviews") {
            let mut review: Value = serde_json::from_slice(body).unwrap();
            let user = review["spec"]["token"].as_str().unwrap().to_owned();
            let known = ["reader", "editor", "owner", "restorer"].contains(&user.as_str());
            review["status"] = json!({"authenticated": known, "user": {"username": user}});
            return (201, review);
        }
        if path.ends_with("/subjectaccessreviews") {
            let mut review: Value = serde_json::from_slice(body).unwrap();
            let spec = &review["spec"];
            let asked = &spec["resourceAttributes"];
            let may = (asked["verb"].as_str().unwrap(), asked["resource"].as_str().unwrap());
            let allowed = match spec["user"].as_str().unwrap() {
                "reader" => may == ("get", "repositories"),
                "editor" => [("get", "repositories"), ("update", "repositories")].contains(&may),
                "owner" => may.1 == "repositories",
                "restorer" => may == ("create", "restoresessions"),
                _ => false,
            };
            review["status"] = json!({"allowed": allowed && asked["namespace"] == "demo"});
            return (201, review);
        }
        match self.0.lock().unwrap().get(path) {
            Some(object) => (200, object.clone()),
            None => (
                404,
                json!({
                    "apiVersion": "v1", "kind": "Status", "status": "Failure",
                    "reason": "NotFound", "code": 404, "message": format!("{path} not found"),
                }),
            ),
        }
    }
}

fn secret_path(name: &str) -> String {
    format!("/api/v1/namespaces/demo/secrets/{name}")
}
