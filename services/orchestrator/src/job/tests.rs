//! The Job as a whole, against a golden file.

use super::*;
use serde_json::json;

fn parts<'a>(settings: &'a RuntimeSettings, temp_dir: &'a EmptyDirSettings) -> Parts<'a> {
    let steps = json!([
        {"name": "prepare-0", "image": "busybox:1", "imagePullPolicy": "Never", "command": ["true"]},
        {"name": "redis-backup-7-0-5-1", "image": "coffer-worker:1", "args": ["backup-redis"],
         "env": [{"name": "GOMAXPROCS", "value": "9"}]},
    ]);
    Parts {
        name: "stash-backup-orders-1700000000-0",
        namespace: "demo",
        session: "orders-1700000000",
        owner: OwnerReference {
            api_version: "stash.appscode.com/v1beta1".into(),
            kind: "BackupSession".into(),
            name: "orders-1700000000".into(),
            uid: "u-1".into(),
            controller: Some(true),
            block_owner_deletion: Some(true),
        },
        labels: coffer_api::names::backup_labels(&BTreeMap::from([("team".into(), "shop".into())])),
        containers: serde_json::from_value(steps).unwrap(),
        volumes: vec![],
        claim: None,
        settings: Some(settings),
        temp_dir: Some(temp_dir),
        service_account: "backupconfiguration-orders-0".into(),
        image_pull_policy: "IfNotPresent",
        seconds: 3660,
    }
}

#[test]
fn a_job_looks_like_this() {
    let settings: RuntimeSettings = serde_json::from_value(json!({
        "container": {
            "resources": {"requests": {"cpu": "100m"}},
            "securityContext": {"allowPrivilegeEscalation": false},
            "nice": {"adjustment": 10},
            "ionice": {"class": 2, "classData": 7},
            "env": [{"name": "GOMAXPROCS", "value": "2"}],
        },
        "pod": {
            "serviceAccountAnnotations": {"example.org/role": "backup"},
            "podAnnotations": {"sidecar.istio.io/inject": "false"},
            "nodeSelector": {"kubernetes.io/os": "linux"},
            "tolerations": [{"key": "backup", "operator": "Exists", "effect": "NoSchedule"}],
            "priorityClassName": "low",
            "imagePullSecrets": [{"name": "regcred"}],
        },
    }))
    .unwrap();
    let temp_dir = serde_json::from_value(json!({"medium": "Memory", "sizeLimit": "1Gi"})).unwrap();
    insta::assert_yaml_snapshot!(serde_json::to_value(build(parts(&settings, &temp_dir))).unwrap());
}

#[test]
fn the_user_may_choose_user_and_account() {
    let settings: RuntimeSettings = serde_json::from_value(json!({"pod": {
        "serviceAccountName": "mine", "securityContext": {"runAsUser": 0, "runAsGroup": 0}}}))
    .unwrap();
    let spec =
        build(parts(&settings, &EmptyDirSettings::default())).spec.unwrap().template.spec.unwrap();
    assert_eq!(spec.service_account_name.as_deref(), Some("mine"));
    let context = spec.security_context.unwrap();
    assert_eq!((context.run_as_user, context.run_as_non_root), (Some(0), None));
    assert_eq!(spec.automount_service_account_token, Some(false));
}
