use serde_json::{Value, json};

use super::*;

fn schema(spec: Value) -> Structural {
    Structural::compile(&json!({
        "type": "object", "properties": {"spec": {"type": "object", "properties": spec}}
    }))
    .unwrap()
}

fn faults(spec: Value, value: Value) -> Vec<String> {
    let object =
        json!({"apiVersion": "a/v1", "kind": "A", "metadata": {"name": "x"}, "spec": value});
    schema(spec).validate(None, &object).iter().map(ToString::to_string).collect()
}

#[test]
fn cel_rules_are_about_values_and_about_changes() {
    let schema = Structural::compile(&json!({"type": "object", "properties": {"spec": {
        "type": "object",
        "properties": {"a": {"type": "string"}, "n": {"type": "integer"}, "list": {"type": "array", "items": {"type": "string"}}},
        "x-kubernetes-validations": [
            {"rule": "!has(self.n) || self.n >= 2", "message": "n must be 2 or more"},
            {"rule": "[has(self.a), has(self.n)].filter(x, x).size() == 1"},
            {"rule": "self == oldSelf", "message": "it cannot be changed"}]}}}))
    .unwrap();
    let object = |spec: Value| json!({"metadata": {"name": "x"}, "spec": spec});
    let faults = |old: Option<Value>, new: Value| {
        let faults = schema.validate(old.map(object).as_ref(), &object(new));
        faults.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(faults(None, json!({"a": "x"})), [""; 0]);
    assert_eq!(faults(None, json!({"n": 2, "list": ["b"]})), [""; 0]);
    assert_eq!(
        faults(None, json!({"n": 1})),
        [r#"spec: Invalid value: "object": n must be 2 or more"#]
    );
    assert_eq!(
        faults(None, json!({})),
        [
            r#"spec: Invalid value: "object": failed rule: [has(self.a), has(self.n)].filter(x, x).size() == 1"#
        ]
    );
    assert_eq!(faults(Some(json!({"a": "x"})), json!({"a": "x"})), [""; 0]);
    assert_eq!(
        faults(Some(json!({"a": "x"})), json!({"a": "y"})),
        [r#"spec: Invalid value: "object": it cannot be changed"#]
    );
    let broken = json!({"type": "object", "x-kubernetes-validations": [{"rule": "self ="}]});
    let error = Structural::compile(&broken).unwrap_err().to_string();
    assert!(error.contains("rule \"self =\""), "{error}");
}

#[test]
fn faults_read_as_those_of_kubernetes() {
    let table = [
        (json!({"a": {"type": "string"}}), json!({"a": "x"}), vec![]),
        (
            json!({"paused": {"type": "boolean"}}),
            json!({"paused": "yes"}),
            vec![
                r#"spec.paused: Invalid value: "string": spec.paused in body must be of type boolean: "string""#,
            ],
        ),
        (
            json!({"driver": {"type": "string", "enum": ["Restic", "VolumeSnapshotter"]}}),
            json!({"driver": "Rsync"}),
            vec![
                r#"spec.driver: Unsupported value: "Rsync": supported values: "Restic", "VolumeSnapshotter""#,
            ],
        ),
        (
            json!({"r": {"type": "object", "required": ["prune", "name"], "properties": {"prune": {"type": "boolean"}}}}),
            json!({"r": {"name": 1}}),
            vec!["spec.r.prune: Required value"],
        ),
        (
            json!({"n": {"type": "integer", "format": "int32", "minimum": 1, "maximum": 9, "exclusiveMaximum": true}}),
            json!({"n": 0}),
            vec!["spec.n: Invalid value: 0: spec.n in body should be greater than or equal to 1"],
        ),
        (
            json!({"n": {"type": "integer", "maximum": 9, "exclusiveMaximum": true}}),
            json!({"n": 9}),
            vec!["spec.n: Invalid value: 9: spec.n in body should be less than 9"],
        ),
        (
            json!({"s": {"type": "array", "items": {"type": "object", "properties": {"name": {"type": "string", "pattern": "^[a-z]+$", "maxLength": 3}}}}}),
            json!({"s": [{"name": "ok"}, {"name": "NO"}, {"name": "long"}]}),
            vec![
                r#"spec.s[1].name: Invalid value: "NO": spec.s[1].name in body should match '^[a-z]+$'"#,
                "spec.s[2].name: Too long: may not be more than 3 bytes",
            ],
        ),
        (
            json!({"at": {"type": "string", "format": "date-time"}}),
            json!({"at": "yesterday"}),
            vec![
                r#"spec.at: Invalid value: "yesterday": spec.at in body must be of type date-time: "yesterday""#,
            ],
        ),
        (
            json!({"p": {"x-kubernetes-int-or-string": true}}),
            json!({"p": true}),
            vec![
                r#"spec.p: Invalid value: "boolean": spec.p in body must be of type integer,string: "boolean""#,
            ],
        ),
        (
            json!({"p": {"type": "string"}, "q": {"type": "string", "nullable": true}}),
            json!({"p": null, "q": null}),
            vec![r#"spec.p: Invalid value: "null": spec.p in body must be of type string: "null""#],
        ),
        (
            json!({"m": {"type": "object", "additionalProperties": {"type": "string"}, "maxProperties": 1}}),
            json!({"m": {"a": "x", "b": 2}}),
            vec![
                "spec.m: Too many: 2: must have at most 1 items",
                r#"spec.m.b: Invalid value: "integer": spec.m.b in body must be of type string: "integer""#,
            ],
        ),
        (
            json!({"o": {"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "string"}}, "oneOf": [{"required": ["a"]}, {"required": ["b"]}]}}),
            json!({"o": {}}),
            vec![
                r#"<nil>: Invalid value: "": "spec.o" must validate one and only one schema (oneOf). Found none valid"#,
                "spec.o.a: Required value",
            ],
        ),
        (
            json!({"o": {"type": "object", "not": {"required": ["a"]}, "x-kubernetes-preserve-unknown-fields": true}}),
            json!({"o": {"a": 1}}),
            vec![r#"<nil>: Invalid value: "": "spec.o" must not validate the schema (not)"#],
        ),
        (
            json!({"l": {"type": "array", "items": {"type": "object", "properties": {"name": {"type": "string"}}}, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]}}),
            json!({"l": [{"name": "a"}, {"name": "a"}]}),
            vec![r#"spec.l[1]: Duplicate value: {"name":"a"}"#],
        ),
    ];
    for (spec, value, wanted) in table {
        assert_eq!(faults(spec, value), wanted);
    }
}

#[test]
fn a_status_names_object_and_causes() {
    let errors =
        schema(json!({"a": {"type": "string"}})).validate(None, &json!({"spec": {"a": 1}}));
    let status = invalid_status("stash.appscode.com", "BackupConfiguration", "bad", &errors);
    assert_eq!(
        status["message"],
        "BackupConfiguration.stash.appscode.com \"bad\" is invalid: spec.a: Invalid value: \
         \"integer\": spec.a in body must be of type string: \"integer\""
    );
    assert_eq!(status["details"]["causes"][0]["field"], "spec.a");
    assert_eq!(status["details"]["causes"][0]["reason"], "FieldValueTypeInvalid");
    let two = [FieldError::required("a"), FieldError::required("b"), FieldError::required("a")];
    assert_eq!(aggregate(&two), "[a: Required value, b: Required value]");
}

#[test]
fn unknown_fields_go_and_defaults_come() {
    let schema = schema(json!({
        "known": {"type": "string", "default": "d"},
        "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
        "embedded": {"type": "object", "x-kubernetes-embedded-resource": true},
        "map": {"type": "object", "additionalProperties": {"type": "object", "properties": {"x": {"type": "integer", "default": 3}}}},
        "list": {"type": "array", "items": {"type": "object", "properties": {"y": {"type": "integer"}}}},
    }));
    let mut object = json!({
        "apiVersion": "a/v1", "kind": "A", "extra": 1,
        "metadata": {"name": "x", "creationTimestamp": null, "bogus": 1, "labels": {"a": "b"}},
        "spec": {
            "unknown": 1,
            "free": {"anything": {"goes": 1}},
            "embedded": {"kind": "B", "apiVersion": "b/v1", "metadata": {}, "other": 1},
            "map": {"k": {"z": 1}},
            "list": [{"y": 1, "q": 1}],
        },
    });
    let removed = schema.prune(&mut object);
    assert_eq!(
        removed,
        [
            "extra",
            "metadata.bogus",
            "spec.unknown",
            "spec.embedded.other",
            "spec.map.k.z",
            "spec.list[0].q"
        ]
    );
    schema.default(&mut object);
    assert_eq!(object["spec"]["known"], "d");
    assert_eq!(object["spec"]["map"]["k"]["x"], 3);
    assert_eq!(object["metadata"], json!({"name": "x", "labels": {"a": "b"}}));
}

#[test]
fn built_in_kinds_are_known() {
    let job = kube::core::GroupVersionKind::gvk("batch", "v1", "Job");
    let schema = Structural::builtin(&job).unwrap();
    let mut object = json!({"metadata": {"name": "x", "annotations": null}, "spec": {"template": {
        "metadata": {"creationTimestamp": null},
        "spec": {"containers": [{"name": "c", "image": "i", "bogus": 1,
            "ports": [{"containerPort": 1}],
            "resources": {"limits": {"cpu": 1, "memory": "1Gi"}}}]}
    }}});
    assert_eq!(schema.prune(&mut object), ["spec.template.spec.containers[0].bogus"]);
    assert!(object["metadata"].get("annotations").is_none());
    schema.default(&mut object);
    assert_eq!(
        object.pointer("/spec/template/spec/containers/0/ports/0/protocol"),
        Some(&json!("TCP"))
    );
    assert_eq!(schema.validate(None, &object), []);
    let unknown =
        kube::core::GroupVersionKind::gvk("stash.appscode.com", "v1beta1", "BackupSession");
    assert!(Structural::builtin(&unknown).is_none());
    assert_eq!(definition_name(&unknown), "com.appscode.stash.v1beta1.BackupSession");
}

#[test]
fn the_schema_of_schemas_ends() {
    let crd =
        kube::core::GroupVersionKind::gvk("apiextensions.k8s.io", "v1", "CustomResourceDefinition");
    assert!(Structural::builtin(&crd).is_some());
}
