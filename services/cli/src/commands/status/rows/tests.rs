//! Objects as the cluster gives them → what the user sees.
use serde_json::{Value, json};

use super::*;
use crate::{args::Format, output::Listing};

fn object<K: serde::de::DeserializeOwned>(value: Value) -> K {
    serde_json::from_value(value).unwrap()
}

fn facts() -> Facts {
    let configuration = |namespace: &str,
                         name: &str,
                         spec: Value,
                         phase: &str|
     -> BackupConfiguration {
        let mut spec = spec;
        spec["retentionPolicy"] = json!({"name": "keep", "keepLast": 3, "prune": true});
        let conditions = json!([
            {"type": "RepositoryFound", "status": "False", "reason": "RepositoryNotAvailable",
             "message": "Repository demo/users not found", "lastTransitionTime": "2023-11-14T00:00:00Z"},
        ]);
        object(json!({
            "apiVersion": "stash.appscode.com/v1beta1", "kind": "BackupConfiguration",
            "metadata": {"namespace": namespace, "name": name}, "spec": spec,
            "status": {"phase": phase, "conditions": if phase == "Ready" { json!([]) } else { conditions }},
        }))
    };
    let session = |name: &str, invoker: &str, created: &str, status: Value| -> BackupSession {
        object(json!({
            "apiVersion": "stash.appscode.com/v1beta1", "kind": "BackupSession",
            "metadata": {"namespace": "demo", "name": name, "creationTimestamp": created},
            "spec": {"invoker": {"kind": "BackupConfiguration", "name": invoker}}, "status": status,
        }))
    };
    let target = json!({"ref": {"apiVersion": "appcatalog.appscode.com/v1alpha1", "kind": "AppBinding", "name": "orders-redis"}});
    let orders = json!({
        "schedule": "*/30 * * * *", "repository": {"name": "orders"}, "task": {"name": "redis-backup-7.0.5"},
        "target": target,
    });
    let users = json!({"schedule": "0 2 * * *", "paused": true, "repository": {"name": "users"}});
    let carts = json!({"schedule": "TZ=Asia/Tokyo 0 2 * * *", "repository": {"name": "orders", "namespace": "demo"}});
    let repository: Repository = object(json!({
        "apiVersion": "stash.appscode.com/v1alpha1", "kind": "Repository",
        "metadata": {"namespace": "demo", "name": "orders"}, "spec": {"backend": {}},
        "status": {"integrity": true, "totalSize": "12.500 MiB", "snapshotCount": 7,
            "lastBackupTime": "2023-11-14T21:00:00Z",
            "references": [{"kind": "BackupConfiguration", "name": "orders", "namespace": "demo"},
                {"kind": "BackupConfiguration", "name": "carts", "namespace": "shop"}]},
    }));
    Facts {
        configurations: vec![
            configuration("shop", "carts", carts, "Ready"),
            configuration("demo", "users", users, "NotReady"),
            configuration("demo", "orders", orders, "Ready"),
        ],
        sessions: vec![
            session(
                "orders-1",
                "orders",
                "2023-11-14T21:30:00Z",
                json!({
                    "phase": "Succeeded", "sessionDuration": "12s",
                    "targets": [{"ref": {"kind": "AppBinding", "name": "orders-redis"}, "phase": "Succeeded",
                        "stats": [{"hostname": "host-0", "phase": "Succeeded", "snapshots": [{"name": "1a2b3c4d"}]}]}],
                }),
            ),
            session(
                "orders-2",
                "orders",
                "2023-11-14T22:00:00Z",
                json!({
                    "phase": "Failed", "sessionDuration": "3s",
                    "targets": [{"ref": {"kind": "AppBinding", "name": "orders-redis"}, "phase": "Failed",
                        "stats": [{"hostname": "host-0", "phase": "Failed", "error": "connect to redis: WRONGPASS"}]}],
                }),
            ),
            session(
                "orders-0",
                "orders",
                "2023-11-14T21:00:00Z",
                json!({
                    "phase": "Skipped",
                    "conditions": [{"type": "BackupSkipped", "status": "True", "reason": "SkippedTakingNewBackup",
                        "message": "BackupSession orders-x is still running", "lastTransitionTime": "2023-11-14T21:00:00Z"}],
                }),
            ),
            session("other-1", "other", "2023-11-14T22:05:00Z", json!({"phase": "Running"})),
        ],
        repositories: BTreeMap::from([(("demo".to_owned(), "orders".to_owned()), repository)]),
    }
}

fn now() -> DateTime<Utc> {
    "2023-11-14T22:13:20Z".parse().unwrap()
}

#[test]
fn the_overview() {
    let rows = rows(&facts(), now());
    let name = |row: &Row| format!("backupconfiguration.stash.appscode.com/{}", row.name);
    let listing = Listing { rows: &rows, columns: WITH_NAMESPACE, name, empty: "" };
    insta::assert_snapshot!(listing.render(Format::Table).unwrap());
    insta::assert_snapshot!(listing.render(Format::Wide).unwrap());
    insta::assert_snapshot!(listing.render(Format::Json).unwrap());
}

#[test]
fn one_of_them() {
    let facts = facts();
    let rows = rows(&facts, now());
    let row = |name: &str| rows.iter().find(|row| row.name == name).unwrap();
    insta::assert_snapshot!(detail(&facts, row("orders"), now()));
    insta::assert_snapshot!(detail(&facts, row("users"), now()));
}

#[test]
fn a_repository_speaks_for_its_only_user() {
    let mut facts = facts();
    let carts =
        |facts: &Facts| rows(facts, now()).into_iter().find(|row| row.name == "carts").unwrap();
    assert_eq!(carts(&facts).last_success, None);
    for repository in facts.repositories.values_mut() {
        repository
            .status
            .as_mut()
            .unwrap()
            .references
            .retain(|reference| reference.name == "carts");
    }
    assert_eq!(carts(&facts).last_success, Some("2023-11-14T21:00:00Z".parse().unwrap()));
}
