//! Who may call, and what the operations on whole repositories do.

mod support;

use chrono::{TimeDelta, Utc};
use coffer_proto::storage::v1::*;
use coffer_runtime::grant::{Grant, Operation, Signer};
use support::*;
use tonic::Code;

#[tokio::test(flavor = "multi_thread")]
async fn a_grant_opens_its_own_repository_operation_and_snapshot_only() {
    let gateway = start().await;
    let backup = gateway.backup("repo", b"x").await.unwrap();
    gateway.cluster.repository("other", serde_json::json!({"storageSecretName": "store"}));
    let grant = |repository, operation| gateway.grant(repository, operation);
    let send = |mut worker: snapshots_client::SnapshotsClient<_>| async move {
        worker.backup(futures::stream::iter(messages("repo", b"y"))).await
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

    let stats = StatsRequest { repository: Some(at("repo")) };
    let token = gateway.signer.sign(&narrow).unwrap();
    let result = gateway.user(Some(token.reveal())).stats(stats).await;
    assert_refused(result, Code::PermissionDenied, &["does not allow to get repositories"]);
    assert_eq!(gateway.snapshot_count("repo").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn users_need_rights_to_the_repository_object() {
    let gateway = start().await;
    gateway.backup("repo", b"x").await.unwrap();
    let stats = || StatsRequest { repository: Some(at("repo")) };
    let unlock = || UnlockRequest { repository: Some(at("repo")), all: false };
    let wipe = || WipeRequest { repository: Some(at("repo")) };

    gateway.user(Some("reader")).stats(stats()).await.unwrap();
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
    let result = gateway.service("orchestrator").stats(StatsRequest { repository: None }).await;
    assert_refused(result, Code::InvalidArgument, &["repository needs a namespace and a name"]);
    gateway.service("orchestrator").stats(stats()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_orchestrator_looks_after_a_repository() {
    let gateway = start().await;
    let mut client = gateway.service("orchestrator");
    let repository = || Some(at("repo"));
    let init = InitRequest { repository: repository() };
    let made = client.init(init.clone()).await.unwrap().into_inner();
    assert!(made.created && made.version == 2);
    let again = client.init(init).await.unwrap().into_inner();
    assert!(!again.created && again.repository_id == made.repository_id);

    let mut ids = Vec::new();
    for number in 0..4 {
        ids.push(gateway.backup("repo", &noise(number, 200_000)).await.unwrap().snapshot_id);
    }
    let list = ListSnapshotsRequest {
        repository: repository(),
        with_files: true,
        host: "host-0".to_owned(),
        path: "/dump.rdb".to_owned(),
        tags: vec!["session=demo.session".to_owned()],
    };
    let listed = client.list_snapshots(list.clone()).await.unwrap().into_inner().snapshots;
    assert_eq!(listed.iter().map(|snapshot| snapshot.id.clone()).collect::<Vec<_>>(), ids);
    let files: Vec<_> = listed[0].files.iter().map(|file| file.path.as_str()).collect();
    assert_eq!(files, ["/dump.rdb", "/manifest.json"]);
    assert_eq!(listed[0].files[0].size, 200_000);
    let elsewhere = ListSnapshotsRequest { host: "elsewhere".to_owned(), ..list };
    assert!(client.list_snapshots(elsewhere).await.unwrap().into_inner().snapshots.is_empty());

    let stats = StatsRequest { repository: repository() };
    let before = client.stats(stats.clone()).await.unwrap().into_inner();
    assert_eq!(before.snapshots, 4);
    assert!(before.total_size > 800_000 && before.packs > 0, "{before:?}");

    let delete = |ids: &[&str]| DeleteSnapshotsRequest {
        repository: repository(),
        ids: ids.iter().map(|id| (*id).to_owned()).collect(),
    };
    let refused = client.delete_snapshots(delete(&[&ids[0], "ffffffffff"])).await;
    assert_refused(refused, Code::NotFound, &["ffffffffff"]);
    let refused = client.delete_snapshots(delete(&["latest"])).await;
    assert_refused(refused, Code::InvalidArgument, &["by id"]);
    let deleted = client.delete_snapshots(delete(&[&ids[0][..10]])).await.unwrap().into_inner();
    assert_eq!(deleted.deleted, ids[..1]);

    let forget =
        |keep| ForgetRequest { repository: repository(), keep, prune: true, dry_run: false };
    let refused = client.forget(forget(None)).await;
    assert_refused(refused, Code::InvalidArgument, &["the retention policy has no keep rule"]);
    let keep = KeepPolicy { last: 1, ..KeepPolicy::default() };
    let forgotten = client.forget(forget(Some(keep))).await.unwrap().into_inner();
    assert_eq!(forgotten.kept, ids[3..]);
    assert_eq!(forgotten.removed.len(), 2);
    let after = client.stats(stats).await.unwrap().into_inner();
    assert!(after.snapshots == 1 && after.total_size < 300_000, "{after:?}");

    let prune = PruneRequest { repository: repository(), ..PruneRequest::default() };
    let mut answers = client.prune(prune).await.unwrap().into_inner();
    let answer = answers.message().await.unwrap().unwrap();
    assert!(matches!(answer.message, Some(prune_response::Message::Summary(_))));
    assert!(answers.message().await.unwrap().is_none());
    let check =
        CheckRequest { repository: repository(), read_data: true, read_data_subset: String::new() };
    let mut answers = client.check(check.clone()).await.unwrap().into_inner();
    let Some(check_response::Message::Summary(summary)) =
        answers.message().await.unwrap().unwrap().message
    else {
        panic!("no summary")
    };
    assert_eq!(summary.errors, Vec::<String>::new());
    assert_eq!(summary.snapshots, 1);
    restic::check(&gateway.repo());

    // Damage is found and named.
    let pack = std::fs::read_dir(gateway.repo().join("data")).unwrap().find_map(|folder| {
        std::fs::read_dir(folder.unwrap().path()).unwrap().next().map(|file| file.unwrap().path())
    });
    let pack = pack.unwrap();
    std::fs::remove_file(&pack).unwrap();
    let mut answers = client.check(check).await.unwrap().into_inner();
    let Some(check_response::Message::Summary(summary)) =
        answers.message().await.unwrap().unwrap().message
    else {
        panic!("no summary")
    };
    let name = pack.file_name().unwrap().to_str().unwrap();
    assert!(summary.errors.iter().any(|error| error.contains(name)), "{:?}", summary.errors);

    let wiped = client.wipe(WipeRequest { repository: repository() }).await.unwrap().into_inner();
    assert!(wiped.objects_deleted > 3);
    assert_eq!(files_below(&gateway.repo()), 0);
    let wiped = client.wipe(WipeRequest { repository: repository() }).await.unwrap().into_inner();
    assert_eq!(wiped.objects_deleted, 0);
    assert!(gateway.backup("repo", b"x").await.unwrap().repository_created);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_of_somebody_else_is_respected_and_can_be_removed() {
    let wait = std::time::Duration::from_millis(100);
    let gateway = start_with(|config| config.lock_wait = wait).await;
    gateway.backup("repo", b"x").await.unwrap();
    // restic holds its lock while it waits for its input.
    let mut restic = std::process::Command::new("restic")
        .args(["--no-cache", "-q", "backup", "--stdin", "--repo"])
        .arg(gateway.repo())
        .env("RESTIC_PASSWORD", PASSWORD)
        .stdin(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    while files_below(&gateway.repo().join("locks")) == 0 {
        tokio::task::yield_now().await;
    }
    let mut client = gateway.service("orchestrator");
    let prune = PruneRequest { repository: Some(at("repo")), ..PruneRequest::default() };
    let mut answers = client.prune(prune).await.unwrap().into_inner();
    assert_refused(answers.message().await, Code::FailedPrecondition, &["locked by", "unlock"]);
    restic.kill().unwrap();
    restic.wait().unwrap();
    let unlock = |all| UnlockRequest { repository: Some(at("repo")), all };
    let removed = client.unlock(unlock(true)).await.unwrap().into_inner().removed;
    assert_eq!(removed, 1);
    assert_eq!(client.unlock(unlock(true)).await.unwrap().into_inner().removed, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_built_says_so() {
    let gateway = start().await;
    let mut client = gateway.service("orchestrator");
    let repository = || Some(at("repo"));
    let keys = client.list_keys(ListKeysRequest { repository: repository() }).await;
    assert_refused(keys, Code::Unimplemented, &["listing keys is not part of this version"]);
    let request = MigrateRequest { repository: repository() };
    assert_refused(client.migrate(request).await, Code::Unimplemented, &["format 2"]);
    let request = CopyRequest { from: repository(), to: repository(), ids: Vec::new() };
    assert_refused(client.copy(request).await, Code::Unimplemented, &["copying"]);
    let request = CheckRequest {
        repository: repository(),
        read_data: true,
        read_data_subset: "1/5".to_owned(),
    };
    assert_refused(client.check(request).await, Code::Unimplemented, &["a part of the data"]);
}
