//! The columns of built-in kinds, those that `kubectl get` shows on a cluster.

use chrono::{DateTime, Utc};
use kube::core::GroupVersionKind;
use serde_json::{Map, Value, json};

use super::{Heading, age, batch, pod};

type Cells = Vec<Vec<Value>>;

/// Columns and cells of a kind; name and age when it has no columns of its own.
pub(super) fn table(
    gvk: &GroupVersionKind,
    objects: &[Value],
    now: DateTime<Utc>,
) -> (Vec<Heading>, Cells) {
    let text = |name| Heading::new(name, "string");
    let render = |headings: Vec<Heading>, row: &dyn Fn(&Value) -> Vec<Value>| {
        (headings, objects.iter().map(row).collect())
    };
    let (name, age) = (text("Name"), text("Age"));
    match (gvk.group.as_str(), gvk.kind.as_str()) {
        ("", "Pod") => render(pod::headings(), &|o| pod::cells(o, now)),
        ("batch", "Job") => render(batch::job_headings(), &|o| batch::job_cells(o, now)),
        ("batch", "CronJob") => render(batch::cron_headings(), &|o| batch::cron_cells(o, now)),
        ("", "Secret") => {
            let headings = vec![name, text("Type"), Heading::new("Data", "integer"), age];
            render(headings, &|o| {
                vec![named(o), o["type"].clone(), count(&o["data"]), aged(o, now)]
            })
        }
        ("", "ConfigMap") => render(vec![name, Heading::new("Data", "integer"), age], &|o| {
            let data = length(&o["data"]) + length(&o["binaryData"]);
            vec![named(o), json!(data), aged(o, now)]
        }),
        ("", "Namespace") => render(vec![name, text("Status"), age], &|o| {
            vec![named(o), o["status"]["phase"].clone(), aged(o, now)]
        }),
        ("", "ServiceAccount") => {
            render(vec![name, Heading::new("Secrets", "integer"), age], &|o| {
                vec![named(o), count(&o["secrets"]), aged(o, now)]
            })
        }
        ("" | "events.k8s.io", "Event") => render(event_headings(), &|o| event_cells(o, now)),
        ("", "Service") => render(service_headings(), &|o| service_cells(o, now)),
        ("", "PersistentVolumeClaim") => render(claim_headings(), &|o| claim_cells(o, now)),
        ("coordination.k8s.io", "Lease") => render(vec![name, text("Holder"), age], &|o| {
            vec![named(o), or_blank(&o["spec"]["holderIdentity"]), aged(o, now)]
        }),
        ("rbac.authorization.k8s.io", "Role" | "ClusterRole")
        | ("apiextensions.k8s.io", "CustomResourceDefinition") => {
            render(vec![name, Heading::new("Created At", "date")], &|o| {
                vec![named(o), o["metadata"]["creationTimestamp"].clone()]
            })
        }
        ("rbac.authorization.k8s.io", "RoleBinding" | "ClusterRoleBinding") => {
            let wide = ["Users", "Groups", "ServiceAccounts"].map(Heading::wide);
            render([vec![name, text("Role"), age], wide.to_vec()].concat(), &|o| {
                binding_cells(o, now)
            })
        }
        ("admissionregistration.k8s.io", "ValidatingWebhookConfiguration") => {
            render(vec![name, Heading::new("Webhooks", "integer"), age], &|o| {
                vec![named(o), json!(list(&o["webhooks"]).len()), aged(o, now)]
            })
        }
        ("apps", "Deployment") => {
            let headings = vec![name, text("Ready"), text("Up-to-date"), text("Available"), age];
            render(headings, &|o| {
                let status = |field: &str| json!(o["status"][field].as_i64().unwrap_or(0));
                let wanted = o["spec"]["replicas"].as_i64().unwrap_or(1);
                let ready = format!("{}/{wanted}", status("readyReplicas"));
                vec![
                    named(o),
                    json!(ready),
                    status("updatedReplicas"),
                    status("availableReplicas"),
                    aged(o, now),
                ]
            })
        }
        ("apps", "StatefulSet") => render(vec![name, text("Ready"), age], &|o| {
            let ready = o["status"]["readyReplicas"].as_i64().unwrap_or(0);
            let wanted = o["spec"]["replicas"].as_i64().unwrap_or(1);
            vec![named(o), json!(format!("{ready}/{wanted}")), aged(o, now)]
        }),
        _ => render(vec![name, age], &|o| vec![named(o), aged(o, now)]),
    }
}

pub(super) fn named(object: &Value) -> Value {
    object["metadata"]["name"].clone()
}

pub(super) fn aged(object: &Value, now: DateTime<Utc>) -> Value {
    let created = object["metadata"]["creationTimestamp"].as_str().unwrap_or_default();
    json!(age::since(created, now))
}

/// `a,b` or `<none>`.
pub(super) fn joined(list: impl Iterator<Item = String>) -> Value {
    let list: Vec<String> = list.collect();
    if list.is_empty() { json!("<none>") } else { json!(list.join(",")) }
}

pub(super) fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

pub(super) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// Labels as `a=b,c=d`.
pub(super) fn labels(value: &Value) -> Value {
    let none = Map::new();
    let map = value.as_object().unwrap_or(&none);
    joined(map.iter().map(|(k, v)| format!("{k}={}", text(v))))
}

fn or_blank(value: &Value) -> Value {
    json!(text(value))
}

fn length(value: &Value) -> usize {
    value.as_object().map_or_else(|| list(value).len(), Map::len)
}

fn count(value: &Value) -> Value {
    json!(length(value))
}

fn event_headings() -> Vec<Heading> {
    let shown = ["Last Seen", "Type", "Reason", "Object"].map(|name| Heading::new(name, "string"));
    let wide = ["Subobject", "Source"].map(Heading::wide);
    let last = ["First Seen", "Count", "Name"].map(Heading::wide);
    let message = vec![Heading::new("Message", "string")];
    [shown.to_vec(), wide.to_vec(), message, last.to_vec()].concat()
}

/// Both forms of events: `involvedObject`, `message` of core and `regarding`, `note` of
/// `events.k8s.io`.
fn event_cells(event: &Value, now: DateTime<Utc>) -> Vec<Value> {
    let first_of = |names: &[&str]| {
        names.iter().map(|name| &event[*name]).find(|v| !v.is_null()).cloned().unwrap_or_default()
    };
    let about = first_of(&["involvedObject", "regarding"]);
    let object = format!("{}/{}", text(&about["kind"]).to_lowercase(), text(&about["name"]));
    let ago = |value: Value| json!(age::since(value.as_str().unwrap_or_default(), now));
    let last = match &event["series"]["lastObservedTime"] {
        Value::Null => first_of(&["lastTimestamp", "deprecatedLastTimestamp", "eventTime"]),
        seen => seen.clone(),
    };
    let first = first_of(&["firstTimestamp", "deprecatedFirstTimestamp", "eventTime"]);
    let source = match event["source"]["component"].as_str() {
        Some(component) => component.to_owned(),
        None => text(&first_of(&["reportingComponent", "reportingController"])),
    };
    let count = event["count"].as_i64().or_else(|| event["series"]["count"].as_i64()).unwrap_or(1);
    vec![
        ago(last),
        event["type"].clone(),
        event["reason"].clone(),
        json!(object),
        or_blank(&about["fieldPath"]),
        json!(source),
        json!(text(&first_of(&["message", "note"])).trim()),
        ago(first),
        json!(count.to_string()),
        named(event),
    ]
}

fn service_headings() -> Vec<Heading> {
    let shown = ["Name", "Type", "Cluster-IP", "External-IP", "Port(s)", "Age"];
    let mut headings = shown.map(|name| Heading::new(name, "string")).to_vec();
    headings.push(Heading::wide("Selector"));
    headings
}

fn service_cells(service: &Value, now: DateTime<Utc>) -> Vec<Value> {
    let spec = &service["spec"];
    let external = match spec["type"].as_str() {
        Some("ExternalName") => json!(text(&spec["externalName"])),
        _ => joined(list(&spec["externalIPs"]).iter().map(text)),
    };
    let ports = list(&spec["ports"]).iter().map(|port| {
        let protocol = port["protocol"].as_str().unwrap_or("TCP");
        match port["nodePort"].as_i64() {
            Some(node) if node != 0 => format!("{}:{node}/{protocol}", port["port"]),
            _ => format!("{}/{protocol}", port["port"]),
        }
    });
    vec![
        named(service),
        json!(spec["type"].as_str().unwrap_or("ClusterIP")),
        json!(spec["clusterIP"].as_str().unwrap_or("<none>")),
        external,
        joined(ports),
        aged(service, now),
        labels(&spec["selector"]),
    ]
}

fn claim_headings() -> Vec<Heading> {
    let shown = ["Name", "Status", "Volume", "Capacity", "Access Modes", "StorageClass", "Age"];
    let mut headings = shown.map(|name| Heading::new(name, "string")).to_vec();
    headings.push(Heading::wide("VolumeMode"));
    headings
}

fn claim_cells(claim: &Value, now: DateTime<Utc>) -> Vec<Value> {
    let modes = list(&claim["status"]["accessModes"]).iter().map(|mode| match mode.as_str() {
        Some("ReadWriteOnce") => "RWO".to_owned(),
        Some("ReadOnlyMany") => "ROX".to_owned(),
        Some("ReadWriteMany") => "RWX".to_owned(),
        Some("ReadWriteOncePod") => "RWOP".to_owned(),
        _ => text(mode),
    });
    vec![
        named(claim),
        or_blank(&claim["status"]["phase"]),
        or_blank(&claim["spec"]["volumeName"]),
        or_blank(&claim["status"]["capacity"]["storage"]),
        json!(modes.collect::<Vec<_>>().join(",")),
        or_blank(&claim["spec"]["storageClassName"]),
        aged(claim, now),
        or_blank(&claim["spec"]["volumeMode"]),
    ]
}

fn binding_cells(binding: &Value, now: DateTime<Utc>) -> Vec<Value> {
    let role = &binding["roleRef"];
    let subjects = |kind: &str| {
        let those = list(&binding["subjects"]).iter().filter(|s| s["kind"] == kind);
        let names = those.map(|subject| match subject["namespace"].as_str() {
            Some(namespace) => format!("{namespace}/{}", text(&subject["name"])),
            None => text(&subject["name"]),
        });
        json!(names.collect::<Vec<_>>().join(", "))
    };
    vec![
        named(binding),
        json!(format!("{}/{}", text(&role["kind"]), text(&role["name"]))),
        aged(binding, now),
        subjects("User"),
        subjects("Group"),
        subjects("ServiceAccount"),
    ]
}
