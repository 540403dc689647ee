//! What the kubelet says about a Pod in Events, and nowhere else.

use chrono::Utc;
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::{Api, Client, ResourceExt, api::PostParams};
use serde_json::json;

use super::time::stamp;

/// Leaves a warning about a Pod. Whoever reads events takes them as hints: one that cannot be written is logged.
pub(super) async fn warn(client: &Client, pod: &Pod, reason: &str, message: &str) {
    let now = Utc::now();
    let (name, namespace) = (pod.name_any(), pod.namespace().unwrap_or_default());
    let event = json!({
        "apiVersion": "v1", "kind": "Event",
        "metadata": {
            "name": format!("{name}.{:x}", now.timestamp_nanos_opt().unwrap_or_default()),
            "namespace": namespace,
        },
        "involvedObject": {
            "apiVersion": "v1", "kind": "Pod", "name": name, "namespace": namespace, "uid": pod.uid(),
        },
        "type": "Warning", "reason": reason, "message": message,
        "source": {"component": "coffer-job-runner", "host": super::NODE},
        "firstTimestamp": stamp(now), "lastTimestamp": stamp(now), "count": 1,
    });
    let written = match serde_json::from_value::<Event>(event) {
        Ok(event) => {
            let api: Api<Event> = Api::namespaced(client.clone(), &namespace);
            api.create(&PostParams::default(), &event).await.map(|_| ()).map_err(|e| e.to_string())
        }
        Err(error) => Err(error.to_string()),
    };
    if let Err(error) = written {
        tracing::warn!(pod = name, error, "cannot write an event");
    }
}
