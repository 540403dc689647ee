use super::*;

fn kinds() -> Vec<Kind> {
    let gvk = |group, version, kind| GroupVersionKind::gvk(group, version, kind);
    let built_in = |group, kind, plural: &str| Kind {
        gvk: gvk(group, "v1", kind),
        plural: plural.into(),
        namespaced: true,
        status: true,
        schema: None,
    };
    vec![
        built_in("", "Pod", "pods"),
        built_in("batch", "Job", "jobs"),
        Kind {
            gvk: gvk("stash.appscode.com", "v1beta1", "BackupSession"),
            plural: "backupsessions".into(),
            namespaced: true,
            status: true,
            schema: Some(json!({"type": "object", "properties": {"spec": {
                "type": "object", "nullable": true, "description": "What to do.",
                "properties": {"any": {"x-kubernetes-preserve-unknown-fields": true, "type": "object"}},
            }}})),
        },
    ]
}

/// Every reference leads somewhere.
fn check_references(document: &Value, root: &Value) {
    match document {
        Value::Object(map) => {
            if let Some(Value::String(target)) = map.get("$ref") {
                let pointer = target.strip_prefix('#').unwrap();
                assert!(root.pointer(pointer).is_some(), "{target} leads nowhere");
            }
            map.values().for_each(|value| check_references(value, root));
        }
        Value::Array(list) => list.iter().for_each(|value| check_references(value, root)),
        _ => {}
    }
}

#[test]
fn version_3_is_complete_by_group() {
    let kinds = kinds();
    let index = v3_index(&kinds);
    let url =
        index["paths"]["apis/stash.appscode.com/v1beta1"]["serverRelativeURL"].as_str().unwrap();
    assert!(url.starts_with("/openapi/v3/apis/stash.appscode.com/v1beta1?hash="), "{url}");
    let document = v3("stash.appscode.com", "v1beta1", &kinds).unwrap();
    check_references(&document, &document);
    let schema = &document["components"]["schemas"]["com.appscode.stash.v1beta1.BackupSession"];
    assert_eq!(schema["properties"]["spec"]["description"], "What to do.");
    assert_eq!(schema["x-kubernetes-group-version-kind"][0]["kind"], "BackupSession");
    let patch = &document["paths"]["/apis/stash.appscode.com/v1beta1/namespaces/{namespace}/backupsessions/{name}"]
        ["patch"];
    assert!(
        patch["parameters"]
            .as_array()
            .unwrap()
            .iter()
            .any(|p| p["name"] == "dryRun" && p["in"] == "query")
    );
    assert!(
        patch["requestBody"]["content"].get("application/strategic-merge-patch+json").is_none()
    );
    let batch = v3("batch", "v1", &kinds).unwrap();
    check_references(&batch, &batch);
    let containers =
        &batch["components"]["schemas"]["io.k8s.api.core.v1.PodSpec"]["properties"]["containers"];
    assert_eq!(containers["x-kubernetes-patch-merge-key"], "name");
    assert!(v3("batch", "v2", &kinds).is_none());
}

#[test]
fn version_2_is_one_document_in_two_forms() {
    let document = v2(&kinds());
    check_references(&document, &document);
    let session = &document["definitions"]["com.appscode.stash.v1beta1.BackupSession"];
    assert!(session["properties"]["spec"].get("nullable").is_none());
    assert!(session["properties"]["spec"]["properties"]["any"].get("type").is_none());
    let bytes = v2_protobuf(&document);
    assert!(bytes.len() > 100_000, "{}", bytes.len());
    let text = String::from_utf8_lossy(&bytes);
    assert!(text.contains(r#"[{"group":"batch","kind":"Job","version":"v1"}]"#));
}
