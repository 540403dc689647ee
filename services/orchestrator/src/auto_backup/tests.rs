//! Decisions about auto-backup, as tables.

use super::*;
use serde_json::{Value, json};

fn binding(annotations: Value) -> AppBinding {
    serde_json::from_value(json!({
        "apiVersion": "appcatalog.appscode.com/v1alpha1", "kind": "AppBinding",
        "metadata": {"name": "sessions", "namespace": "demo", "uid": "a-1", "annotations": annotations},
        "spec": {"type": "kubedb.com/redis", "version": "7.0.5", "clientConfig": {"url": "redis://s:1"}}}))
    .unwrap()
}

fn blueprint(name: &str, change: Value) -> BackupBlueprint {
    let mut spec = json!({
        "backend": {"storageSecretName": "store", "s3": {"endpoint": "e", "bucket": "b",
            "prefix": "auto/${TARGET_NAMESPACE}/${TARGET_APP_RESOURCE}/${TARGET_NAME}"}},
        "usagePolicy": {"allowedNamespaces": {"from": "Same"}},
        "schedule": "0 */6 * * *",
        "task": {"name": "redis-backup-${TARGET_APP_VERSION}", "params": [{"name": "args", "value": "-db 0"}]},
        "retentionPolicy": {"name": "week", "keepLast": 28, "prune": true},
        "backupHistoryLimit": 3, "timeOut": "45m", "retryConfig": {"maxRetry": 1, "delay": "2m"}});
    for (key, value) in change.as_object().unwrap() {
        spec[key] = value.clone();
    }
    serde_json::from_value(
        json!({"apiVersion": "stash.appscode.com/v1beta1", "kind": "BackupBlueprint",
        "metadata": {"name": name}, "spec": spec}),
    )
    .unwrap()
}

fn facts(blueprints: &[BackupBlueprint]) -> Facts {
    let named = blueprints.iter().map(|b| (b.name_any(), Some(b.clone())));
    Facts { blueprints: named.collect(), made: vec![] }
}

fn made(actions: &[Action]) -> (Repository, BackupConfiguration) {
    let [Action::ApplyRepository(repository), Action::ApplyConfiguration(config)] = actions else {
        panic!("{actions:?}")
    };
    (repository.as_ref().clone(), config.as_ref().clone())
}

#[test]
fn an_annotated_binding_gets_its_backup() {
    let object = binding(json!({
        "stash.appscode.com/backup-blueprint": "standard",
        "stash.appscode.com/schedule": "15 */3 * * *",
        "params.stash.appscode.com/args": "-db 1"}));
    assert_eq!(wanted(&object), ["standard"]);
    let (repository, config) = made(&decide(&object, &facts(&[blueprint("standard", json!({}))])));
    assert_eq!(repository.name_any(), "app-sessions");
    assert_eq!(repository.namespace().as_deref(), Some("demo"));
    assert_eq!(repository.spec.backend.s3.unwrap().prefix, "auto/demo/redis/sessions");
    // The data outlives the AppBinding.
    assert!(repository.metadata.owner_references.is_none());
    assert_eq!(
        (config.name_any().as_str(), config.namespace().as_deref()),
        ("app-sessions", Some("demo"))
    );
    assert_eq!(config.owner_references()[0].uid, "a-1");
    assert_eq!(config.owner_references()[0].controller, Some(true));
    let spec = config.spec;
    assert_eq!(spec.schedule, "15 */3 * * *");
    let task = spec.task.unwrap();
    assert_eq!(task.name, "redis-backup-7.0.5");
    let params: Vec<_> = task.params.iter().map(|p| (p.name.as_str(), p.value.as_str())).collect();
    assert_eq!(params, [("args", "-db 1")]);
    assert_eq!(spec.repository.unwrap().name, "app-sessions");
    assert_eq!(spec.target.unwrap().reference.namespace, "demo");
    assert_eq!((spec.backup_history_limit, spec.time_out.as_deref()), (Some(3), Some("45m")));
    assert_eq!(spec.retention_policy.keep_last, Some(28));
}

#[test]
fn managed_backups_live_elsewhere() {
    let object = binding(json!({"stash.appscode.com/backup-blueprint": "managed"}));
    let managed = blueprint("managed", json!({"backupNamespace": "backup"}));
    let (repository, config) = made(&decide(&object, &facts(&[managed])));
    for (name, namespace) in
        [(repository.name_any(), repository.namespace()), (config.name_any(), config.namespace())]
    {
        assert_eq!((name.as_str(), namespace.as_deref()), ("demo-app-sessions", Some("backup")));
    }
    assert!(config.metadata.owner_references.is_none());
    let split = json!({"backupNamespace": "backup", "repoNamespace": "demo"});
    let (repository, config) = made(&decide(&object, &facts(&[blueprint("managed", split)])));
    assert_eq!(repository.name_any(), "app-sessions");
    assert_eq!(config.name_any(), "demo-app-sessions");
    let reference = config.spec.repository.unwrap();
    assert_eq!((reference.name.as_str(), reference.namespace.as_str()), ("app-sessions", "demo"));
}

#[test]
fn several_blueprints_do_not_meet() {
    let object = binding(json!({"stash.appscode.com/backup-blueprint": "a, b,a,"}));
    assert_eq!(wanted(&object), ["a", "b"]);
    let both = facts(&[blueprint("a", json!({})), blueprint("b", json!({}))]);
    let names: Vec<String> = decide(&object, &both)
        .iter()
        .filter_map(|action| match action {
            Action::ApplyConfiguration(config) => Some(config.name_any()),
            _ => None,
        })
        .collect();
    assert_eq!(names, ["app-sessions", "app-sessions-b"]);
}

#[test]
fn what_is_not_wanted_any_more_goes_and_what_cannot_be_made_stays() {
    let object = binding(json!({"stash.appscode.com/backup-blueprint": "standard"}));
    let (_, before) = made(&decide(&object, &facts(&[blueprint("standard", json!({}))])));
    // The annotation is gone.
    let gone = Facts { blueprints: vec![], made: vec![before.clone()] };
    let actions = decide(&binding(json!({})), &gone);
    let [Action::DeleteConfiguration(child)] = &actions[..] else { panic!("{actions:?}") };
    assert_eq!(child.name, "app-sessions");
    // The blueprint is gone, or has a slip in it: nothing is taken away.
    let missing = Facts { blueprints: vec![("standard".into(), None)], made: vec![before.clone()] };
    let slip = blueprint("standard", json!({"schedule": "${NO_SUCH}"}));
    let broken = Facts { made: vec![before], ..facts(&[slip]) };
    for (facts, reason, part) in [
        (missing, "Blueprint Not Found", "BackupBlueprint standard is not found"),
        (broken, "Invalid Blueprint", "spec.schedule: variable NO_SUCH has no value"),
    ] {
        let actions = decide(&object, &facts);
        let [Action::Emit(notice)] = &actions[..] else { panic!("{actions:?}") };
        assert_eq!(notice.reason, reason);
        assert!(notice.message.contains(part), "{}", notice.message);
    }
}
