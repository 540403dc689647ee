//! Who may call which operation, and on what.

use crate::support::answers::result;
use crate::support::*;
use chrono::{TimeDelta, Utc};
use coffer_proto::storage::v1::*;
use coffer_runtime::grant::{Grant, Operation, Signer};
use tonic::Code;

#[tokio::test(flavor = "multi_thread")]
async fn a_grant_opens_its_own_repository_operation_and_snapshot_only() {
    let gateway = start().await;
    let backup = gateway.backup("repo", b"x").await.unwrap();
    gateway.cluster.repository("other", serde_json::json!({"storageSecretName": "store"}));
    let grant = |repository, operation| gateway.grant(repository, operation);
    let send = |mut worker: snapshots_client::SnapshotsClient<_>| async move {
        stored(worker.backup(futures::stream::iter(messages("repo", b"y"))).await?.into_inner())
            .await
    };

    let result = send(gateway.worker(&grant("repo", Operation::Restore))).await;
    let parts = ["is for restore of Repository demo/repo, not for backup of Repository demo/repo"];
    assert_refused(result, Code::PermissionDenied, &parts);
    let result = send(gateway.worker(&grant("other", Operation::Backup))).await;
    assert_refused(result, Code::PermissionDenied, &["is for backup of Repository demo/other"]);
    let expires = Utc::now() - TimeDelta::seconds(1);
    let expired = Grant { expires, ..grant("repo", Operation::Backup) };
    assert_refused(send(gateway.worker(&expired)).await, Code::Unauthenticated, &["expired"]);
    let foreign = Signer::generate().unwrap().sign(&grant("repo", Operation::Backup)).unwrap();
    let result = send(gateway.snapshots(Some(foreign.reveal()))).await;
    assert_refused(result, Code::Unauthenticated, &["the session grant is not valid"]);
    assert_refused(send(gateway.snapshots(None)).await, Code::Unauthenticated, &["who calls?"]);
    let result = send(gateway.snapshots(Some("editor"))).await;
    assert_refused(result, Code::PermissionDenied, &["only a session's worker may stream"]);

    let snapshot = Some(backup.snapshot_id.clone());
    let narrow = Grant { snapshot, ..grant("repo", Operation::Restore) };
    let mut worker = gateway.worker(&narrow);
    let result = worker.restore(restore_request("repo", "latest")).await;
    assert_refused(result, Code::PermissionDenied, &["is for snapshot", "not for snapshot"]);
    let result = worker.restore(restore_request("repo", &backup.snapshot_id)).await.unwrap();
    assert_eq!(collect(result.into_inner()).await.unwrap().data, b"x");

    // What `latest` stood for while the session ran may be read again, also when there is a newer one; nothing older.
    let newer = gateway.backup("repo", b"y").await.unwrap();
    let latest = |issued| {
        let snapshot = Some("latest".to_owned());
        gateway.worker(&Grant { snapshot, issued, ..grant("repo", Operation::Restore) })
    };
    let old = restore_request("repo", &backup.snapshot_id);
    let mut before_newer = latest(Utc::now() - TimeDelta::hours(1));
    let result = before_newer.restore(old.clone()).await.unwrap();
    assert_eq!(collect(result.into_inner()).await.unwrap().data, b"x");
    let result = before_newer.restore(restore_request("repo", &backup.snapshot_id[..8])).await;
    assert_refused(result, Code::PermissionDenied, &["is for snapshot latest"]);
    let mut after_newer = latest(Utc::now() + TimeDelta::seconds(1));
    let result = after_newer.restore(old).await;
    let parts = ["was not the latest when the session began", "name the snapshot"];
    assert_refused(result, Code::PermissionDenied, &parts);
    let result = after_newer.restore(restore_request("repo", &newer.snapshot_id)).await.unwrap();
    assert_eq!(collect(result.into_inner()).await.unwrap().data, b"y");

    let stats = StatsRequest { repository: Some(at("repo")), ..StatsRequest::default() };
    let token = gateway.signer.sign(&narrow).unwrap();
    let result = gateway.user(Some(token.reveal())).stats(stats).await;
    assert_refused(result, Code::PermissionDenied, &["does not allow to get repositories"]);
    assert_eq!(gateway.snapshot_count("repo").await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn users_need_rights_to_the_repository_object() {
    let gateway = start().await;
    gateway.backup("repo", b"x").await.unwrap();
    let stats = || StatsRequest { repository: Some(at("repo")), ..StatsRequest::default() };
    let unlock = || UnlockRequest { repository: Some(at("repo")), all: false };
    let wipe = || WipeRequest { repository: Some(at("repo")) };

    result!(gateway.user(Some("reader")).stats(stats())).unwrap();
    let result = gateway.user(Some("reader")).unlock(unlock()).await;
    let parts = [
        "user \"reader\" may not update repositories.stash.appscode.com \"repo\" in namespace \"demo\"",
    ];
    assert_refused(result, Code::PermissionDenied, &parts);
    gateway.user(Some("editor")).unlock(unlock()).await.unwrap();
    let result = gateway.user(Some("editor")).wipe(wipe()).await;
    assert_refused(result, Code::PermissionDenied, &["may not delete repositories"]);
    let result = gateway.user(Some("stranger")).stats(stats()).await;
    assert_refused(result, Code::Unauthenticated, &["does not know this token"]);
    assert_refused(gateway.user(None).stats(stats()).await, Code::Unauthenticated, &["who calls?"]);
    let result = gateway.service("catalog").stats(stats()).await;
    assert_refused(result, Code::PermissionDenied, &["service \"catalog\" may not get"]);
    let result = gateway.service("orchestrator").stats(StatsRequest::default()).await;
    assert_refused(result, Code::InvalidArgument, &["repository needs a namespace and a name"]);
    let elsewhere = "../../../../../api/v1/namespaces/demo/secrets/store";
    let elsewhere = StatsRequest { repository: Some(at(elsewhere)), ..StatsRequest::default() };
    let result = result!(gateway.service("orchestrator").stats(elsewhere));
    assert_refused(result, Code::InvalidArgument, &["repository.name", "no DNS-1123 subdomain"]);
    result!(gateway.service("orchestrator").stats(stats())).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn each_operation_needs_its_right() {
    let gateway = start().await;
    let snapshot = gateway.backup("repo", b"x").await.unwrap().snapshot_id;
    let repository = || Some(at("repo"));
    let keep = KeepPolicy { last: 1, ..KeepPolicy::default() };
    let forget = |dry_run| ForgetRequest {
        repository: repository(),
        keep: Some(keep.clone()),
        dry_run,
        ..ForgetRequest::default()
    };
    let prune =
        |dry_run| PruneRequest { repository: repository(), dry_run, ..PruneRequest::default() };
    let delete = DeleteSnapshotsRequest { repository: repository(), ids: vec![snapshot.clone()] };
    let download = DownloadRequest {
        repository: repository(),
        snapshot: snapshot.clone(),
        ..DownloadRequest::default()
    };
    let copy = || CopyRequest { from: repository(), to: repository(), ids: Vec::new() };
    let add = AddKeyRequest {
        repository: repository(),
        new_password: "another".to_owned(),
        ..AddKeyRequest::default()
    };
    let remove = RemoveKeyRequest { repository: repository(), id: "00".to_owned() };
    let change = ChangeKeyRequest { repository: repository(), new_password: "another".to_owned() };

    let mut reader = gateway.user(Some("reader"));
    result!(reader.forget(forget(true))).unwrap();
    reader.prune(prune(true)).await.unwrap();
    reader.list_keys(ListKeysRequest { repository: repository() }).await.unwrap();
    let denied = Code::PermissionDenied;
    let update = ["may not update repositories"];
    assert_refused(reader.prune(prune(false)).await, denied, &update);
    assert_refused(reader.add_key(add.clone()).await, denied, &update);
    assert_refused(reader.remove_key(remove).await, denied, &update);
    assert_refused(reader.change_key(change).await, denied, &update);
    let repair = RepairIndexRequest { repository: repository(), read_all_packs: false };
    assert_refused(reader.repair_index(repair).await, denied, &update);
    let migrate = MigrateRequest { repository: repository() };
    assert_refused(reader.migrate(migrate).await, denied, &update);
    let create = ["may not create restoresessions"];
    assert_refused(reader.download(download.clone()).await, denied, &create);
    assert_refused(reader.copy(copy()).await, denied, &create);

    let mut editor = gateway.user(Some("editor"));
    let may_not_delete = ["may not delete repositories"];
    assert_refused(editor.forget(forget(false)).await, denied, &may_not_delete);
    assert_refused(editor.delete_snapshots(delete.clone()).await, denied, &may_not_delete);
    editor.prune(prune(false)).await.unwrap();
    editor.add_key(add).await.unwrap();

    let mut restorer = gateway.user(Some("restorer"));
    let answers = restorer.download(download).await.unwrap();
    assert_eq!(collect(answers.into_inner()).await.unwrap().data, b"x");
    // Who may read the source must still be allowed to change the target.
    assert_refused(restorer.copy(copy()).await, denied, &update);

    let mut owner = gateway.user(Some("owner"));
    assert!(result!(owner.forget(forget(false))).unwrap().removed.is_empty());
    let deleted = result!(owner.delete_snapshots(delete)).unwrap().deleted;
    assert_eq!(deleted, [snapshot]);
}
