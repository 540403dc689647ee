//! Defaults of built-in kinds: those that clients of this server read, or that a controller would
//! have to guess.

use base64::Engine;
use serde_json::{Map, Value, json};

use crate::apiserver::kinds::Kind;
use crate::apiserver::object;

/// Sets the defaults of an object that is written.
pub fn set(kind: &Kind, value: &mut Value) {
    match (kind.group.as_str(), kind.plural.as_str()) {
        ("", "secrets") => secret(value),
        ("", "services") => service(value),
        ("", "pods") => pod_spec(&mut value["spec"], "Always"),
        ("", "persistentvolumeclaims") => default(&mut value["spec"], "volumeMode", "Filesystem"),
        ("", "namespaces") => {
            let name = object::name(value).to_owned();
            labels(value).insert("kubernetes.io/metadata.name".to_owned(), name.into());
        }
        ("batch", "jobs") => job_spec(&mut value["spec"]),
        ("batch", "cronjobs") => {
            let spec = &mut value["spec"];
            default(spec, "concurrencyPolicy", "Allow");
            default(spec, "suspend", false);
            default(spec, "successfulJobsHistoryLimit", 3);
            default(spec, "failedJobsHistoryLimit", 1);
            pod_spec(&mut spec["jobTemplate"]["spec"]["template"]["spec"], "Always");
        }
        ("rbac.authorization.k8s.io", "rolebindings" | "clusterrolebindings") => binding(value),
        _ => {}
    }
}

/// Sets what only a new object gets; its uid is known already.
pub fn set_on_create(kind: &Kind, value: &mut Value) {
    match (kind.group.as_str(), kind.plural.as_str()) {
        ("", "namespaces") => {
            value["spec"]["finalizers"] = json!(["kubernetes"]);
            value["status"] = json!({"phase": "Active"});
        }
        ("", "pods") => value["status"] = json!({"phase": "Pending"}),
        ("", "persistentvolumeclaims") => value["status"] = json!({"phase": "Pending"}),
        ("", "services") => value["status"] = json!({"loadBalancer": {}}),
        ("batch", "jobs") => {
            own_pods(value);
            value["status"] = json!({});
        }
        ("batch", "cronjobs") => value["status"] = json!({}),
        _ => {}
    }
}

fn default(target: &mut Value, field: &str, value: impl Into<Value>) {
    if target[field].is_null() {
        target[field] = value.into();
    }
}

/// The entries of a list, if it is there: indexing would make it.
fn entries<'a>(target: &'a mut Value, list: &str) -> impl Iterator<Item = &'a mut Value> {
    target.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten()
}

fn labels(value: &mut Value) -> &mut Map<String, Value> {
    static IS_MAP: &str = "labels are a map: the type has been checked";
    let labels = object::metadata_mut(value).entry("labels").or_insert_with(|| json!({}));
    labels.as_object_mut().expect(IS_MAP)
}

fn secret(value: &mut Value) {
    default(value, "type", "Opaque");
    let Some(plain) = value.as_object_mut().and_then(|map| map.shift_remove("stringData")) else {
        return;
    };
    for (name, text) in plain.as_object().into_iter().flatten() {
        let encoded =
            base64::engine::general_purpose::STANDARD.encode(text.as_str().unwrap_or_default());
        value["data"][name] = encoded.into();
    }
}

/// There is no service network here, so that a service has no address of its own: it is headless.
fn service(value: &mut Value) {
    let spec = &mut value["spec"];
    default(spec, "type", "ClusterIP");
    default(spec, "sessionAffinity", "None");
    if spec["type"] != "ExternalName" {
        default(spec, "clusterIP", "None");
    }
    for port in entries(spec, "ports") {
        default(port, "protocol", "TCP");
        let number = port["port"].clone();
        default(port, "targetPort", number);
    }
}

fn job_spec(spec: &mut Value) {
    default(spec, "parallelism", 1);
    if spec["completions"].is_null() && spec["parallelism"] == 1 {
        spec["completions"] = 1.into();
    }
    default(spec, "backoffLimit", 6);
    default(spec, "completionMode", "NonIndexed");
    default(spec, "suspend", false);
    pod_spec(&mut spec["template"]["spec"], "Always");
}

/// A Job selects its Pods by its own uid, unless the user selects them.
fn own_pods(job: &mut Value) {
    if job["spec"]["manualSelector"] == true {
        return;
    }
    let (uid, name) = (object::uid(job).to_owned(), object::name(job).to_owned());
    let template = labels(&mut job["spec"]["template"]);
    template.insert("batch.kubernetes.io/controller-uid".to_owned(), uid.clone().into());
    template.insert("batch.kubernetes.io/job-name".to_owned(), name.clone().into());
    template.insert("controller-uid".to_owned(), uid.clone().into());
    template.insert("job-name".to_owned(), name.into());
    job["spec"]["selector"] = json!({"matchLabels": {"batch.kubernetes.io/controller-uid": uid}});
}

fn pod_spec(spec: &mut Value, restart_policy: &str) {
    default(spec, "restartPolicy", restart_policy);
    default(spec, "terminationGracePeriodSeconds", 30);
    default(spec, "dnsPolicy", "ClusterFirst");
    default(spec, "schedulerName", "default-scheduler");
    default(spec, "securityContext", json!({}));
    for list in ["initContainers", "containers"] {
        for container in entries(spec, list) {
            default(container, "terminationMessagePath", "/dev/termination-log");
            default(container, "terminationMessagePolicy", "File");
            let image = container["image"].as_str().unwrap_or_default();
            let tag = image.rsplit('/').next().and_then(|last| last.split_once(':'));
            let latest = tag.is_none_or(|(_, tag)| tag == "latest") && !image.contains('@');
            default(container, "imagePullPolicy", if latest { "Always" } else { "IfNotPresent" });
            default(container, "resources", json!({}));
        }
    }
}

fn binding(value: &mut Value) {
    const RBAC: &str = "rbac.authorization.k8s.io";
    default(&mut value["roleRef"], "apiGroup", RBAC);
    for subject in entries(value, "subjects") {
        if subject["kind"] != "ServiceAccount" {
            default(subject, "apiGroup", RBAC);
        }
    }
}
