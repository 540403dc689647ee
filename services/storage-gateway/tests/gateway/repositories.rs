//! Who may call, and what the operations on whole repositories do.

use crate::support::*;
use chrono::{TimeDelta, Utc};
use coffer_proto::storage::v1::*;
use coffer_runtime::grant::{Grant, Operation, Signer};
use tonic::{Code, Status};

/// The last answer of a stream, after those about progress.
macro_rules! last {
    ($answers:expr, $module:ident) => {{
        let mut answers = $answers.await.unwrap().into_inner();
        loop {
            let answer = answers.message().await.unwrap().expect("no summary");
            if let Some($module::Message::Summary(summary)) = answer.message {
                assert!(answers.message().await.unwrap().is_none());
                break summary;
            }
        }
    }};
}

/// The last answer of a stream whose answers have a field for the progress, or why there is none.
macro_rules! result {
    ($answers:expr) => {
        async {
            let mut answers = $answers.await?.into_inner();
            loop {
                let answer = answers.message().await?.expect("no result");
                if answer.progress.is_none() {
                    assert!(answers.message().await?.is_none());
                    break Ok::<_, Status>(answer);
                }
            }
        }
        .await
    };
}

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
        host: "elsewhere".to_owned(),
        hosts: vec!["host-0".to_owned()],
        path: "/dump.rdb".to_owned(),
        tags: vec!["none,session=demo.session".to_owned(), " session=demo.session ".to_owned()],
    };
    let listed = client.list_snapshots(list.clone()).await.unwrap().into_inner().snapshots;
    assert_eq!(listed.iter().map(|snapshot| snapshot.id.clone()).collect::<Vec<_>>(), ids);
    let files: Vec<_> = listed[0].files.iter().map(|file| file.path.as_str()).collect();
    assert_eq!(files, ["/dump.rdb", "/manifest.json"]);
    assert_eq!(listed[0].files[0].size, 200_000);
    let elsewhere = ListSnapshotsRequest { hosts: Vec::new(), ..list.clone() };
    assert!(client.list_snapshots(elsewhere).await.unwrap().into_inner().snapshots.is_empty());
    let untagged = ListSnapshotsRequest { tags: vec![String::new()], ..list };
    assert!(client.list_snapshots(untagged).await.unwrap().into_inner().snapshots.is_empty());

    let stats = StatsRequest { repository: repository(), ..StatsRequest::default() };
    let before = result!(client.stats(stats.clone())).unwrap();
    assert_eq!(before.snapshots, 4);
    assert!(before.total_size > 800_000 && before.packs > 0, "{before:?}");

    let delete = |ids: &[&str]| DeleteSnapshotsRequest {
        repository: repository(),
        ids: ids.iter().map(|id| (*id).to_owned()).collect(),
    };
    let refused = result!(client.delete_snapshots(delete(&[&ids[0], "ffffffffff"])));
    assert_refused(refused, Code::NotFound, &["ffffffffff"]);
    let refused = client.delete_snapshots(delete(&["latest"])).await;
    assert_refused(refused, Code::InvalidArgument, &["by id"]);
    let deleted = result!(client.delete_snapshots(delete(&[&ids[0][..10]]))).unwrap();
    assert_eq!(deleted.deleted, ids[..1]);

    let forget = |keep| ForgetRequest {
        repository: repository(),
        keep,
        prune: true,
        ..ForgetRequest::default()
    };
    let refused = client.forget(forget(None)).await;
    assert_refused(refused, Code::InvalidArgument, &["the retention policy has no keep rule"]);
    let keep = KeepPolicy { last: 1, ..KeepPolicy::default() };
    let forgotten = result!(client.forget(forget(Some(keep)))).unwrap();
    assert_eq!(forgotten.kept, ids[3..]);
    assert_eq!(forgotten.removed.len(), 2);
    let after = result!(client.stats(stats)).unwrap();
    assert!(after.snapshots == 1 && after.total_size < 300_000, "{after:?}");

    let prune = PruneRequest { repository: repository(), ..PruneRequest::default() };
    last!(client.prune(prune), prune_response);
    let check =
        CheckRequest { repository: repository(), read_data: true, read_data_subset: String::new() };
    let summary = last!(client.check(check.clone()), check_response);
    assert_eq!(summary.errors, Vec::<String>::new());
    assert_eq!(summary.snapshots, 1);
    restic::check(&gateway.repo());

    // Damage is found and named.
    let pack = std::fs::read_dir(gateway.repo().join("data")).unwrap().find_map(|folder| {
        std::fs::read_dir(folder.unwrap().path()).unwrap().next().map(|file| file.unwrap().path())
    });
    let pack = pack.unwrap();
    std::fs::remove_file(&pack).unwrap();
    let summary = last!(client.check(check), check_response);
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
    let wait = std::time::Duration::from_secs(1);
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
    // While it writes it, the file has a longer name, and is no lock yet.
    let is_lock = |file: std::io::Result<std::fs::DirEntry>| file.unwrap().file_name().len() == 64;
    while !std::fs::read_dir(gateway.repo().join("locks")).unwrap().any(is_lock) {
        tokio::task::yield_now().await;
    }
    let mut client = gateway.service("orchestrator");
    let prune = async |seconds: Option<i64>| {
        let lock_wait = seconds.map(|seconds| prost_types::Duration { seconds, nanos: 0 });
        let repository = Some(RepositoryRef { lock_wait, ..at("repo") });
        let prune = PruneRequest { repository, ..PruneRequest::default() };
        let mut answers = gateway.service("orchestrator").prune(prune).await.unwrap().into_inner();
        loop {
            match answers.message().await?.expect("no summary").message {
                Some(prune_response::Message::Summary(summary)) => break Ok(summary),
                Some(prune_response::Message::Progress(_)) | None => {}
            }
        }
    };
    let mut patient = std::pin::pin!(prune(Some(3600)));
    let locked = |waited| ["locked by", "unlock", waited, "--retry-lock", "--lock-wait"];
    tokio::select! {
        done = &mut patient => panic!("it did not wait: {done:?}"),
        refused = prune(Some(0)) => {
            assert_refused(refused, Code::FailedPrecondition, &locked("waited 0 s"));
        }
    }
    // The gateway's own wait, which the patient one has outlasted when it ends.
    tokio::select! {
        done = &mut patient => panic!("it waited no longer than the others: {done:?}"),
        refused = prune(None) => {
            assert_refused(refused, Code::FailedPrecondition, &locked("waited 1 s"));
        }
    }
    restic.kill().unwrap();
    restic.wait().unwrap();
    let unlock = |all| UnlockRequest { repository: Some(at("repo")), all };
    let removed = client.unlock(unlock(true)).await.unwrap().into_inner().removed;
    assert_eq!(removed, 1);
    patient.await.unwrap();
    assert_eq!(client.unlock(unlock(true)).await.unwrap().into_inner().removed, 0);
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

#[tokio::test(flavor = "multi_thread")]
async fn keys_copies_repairs_and_migrations() {
    let gateway = start().await;
    let mut client = gateway.service("orchestrator");
    let repository = || Some(at("repo"));
    for number in 0..3 {
        gateway.backup("repo", &noise(number, 300_000)).await.unwrap();
    }

    // Keys: listed, added, removed; never the one that the Secret opens.
    let add = AddKeyRequest {
        repository: repository(),
        new_password: "second".to_owned(),
        username: "alice".to_owned(),
        ..AddKeyRequest::default()
    };
    let added = client.add_key(add).await.unwrap().into_inner().key.unwrap();
    let list = ListKeysRequest { repository: repository() };
    let keys = client.list_keys(list.clone()).await.unwrap().into_inner().keys;
    assert_eq!(keys.len(), 2);
    let current = keys.iter().find(|key| key.current).unwrap();
    let remove = |id: &str| RemoveKeyRequest { repository: repository(), id: id.to_owned() };
    let result = client.remove_key(remove(&current.id)).await;
    assert_refused(result, Code::InvalidArgument, &["is the key in use"]);
    client.remove_key(remove(&added.id[..8])).await.unwrap();
    let empty = AddKeyRequest { repository: repository(), ..AddKeyRequest::default() };
    assert_refused(client.add_key(empty).await, Code::InvalidArgument, &["new_password is empty"]);
    // Changed: until the Secret says so too, nobody gets in.
    let change = ChangeKeyRequest { repository: repository(), new_password: "third".to_owned() };
    client.change_key(change).await.unwrap();
    let refused = client.list_keys(list.clone()).await;
    assert_refused(refused, Code::InvalidArgument, &["the password opens none of the 1 keys"]);
    gateway.cluster.secret("store", &[("RESTIC_PASSWORD", "third")]);
    assert_eq!(client.list_keys(list).await.unwrap().into_inner().keys.len(), 1);

    // Copies, into a repository that must be there.
    let path = gateway.dir.path().join("offsite");
    let volume = serde_json::json!({"mountPath": "/backup", "hostPath": {"path": path}});
    let backend = serde_json::json!({"storageSecretName": "store", "local": volume});
    gateway.cluster.repository("offsite", backend);
    let copy = || CopyRequest { from: repository(), to: Some(at("offsite")), ids: Vec::new() };
    let mut answers = client.copy(copy()).await.unwrap().into_inner();
    let refused = loop {
        match answers.message().await {
            Ok(Some(_)) => {}
            other => break other,
        }
    };
    assert_refused(refused, Code::NotFound, &["offsite"]);
    client.init(InitRequest { repository: Some(at("offsite")) }).await.unwrap();
    let copied = last!(client.copy(copy()), copy_response);
    assert_eq!((copied.copied.len(), copied.copies.len(), copied.skipped.len()), (3, 3, 0));
    let again = last!(client.copy(copy()), copy_response);
    assert_eq!((again.copied.len(), again.skipped.len(), again.blobs), (0, 3, 0));

    // A lost index.
    for file in std::fs::read_dir(gateway.repo().join("index")).unwrap() {
        std::fs::remove_file(file.unwrap().path()).unwrap();
    }
    let repair = RepairIndexRequest { repository: repository(), read_all_packs: false };
    let repaired = last!(client.repair_index(repair), repair_index_response);
    assert!(repaired.packs_added > 0 && repaired.unreadable.is_empty(), "{repaired:?}");
    let check = CheckRequest {
        repository: repository(),
        read_data_subset: "100%".to_owned(),
        ..CheckRequest::default()
    };
    let checked = last!(client.check(check.clone()), check_response);
    assert!(checked.errors.is_empty() && checked.bytes_read > 900_000, "{checked:?}");
    let junk = CheckRequest { read_data_subset: "0/5".to_owned(), ..check };
    assert_refused(client.check(junk).await, Code::InvalidArgument, &["read_data_subset", "0/5"]);

    // What has format 2 stays.
    let migrate = MigrateRequest { repository: repository() };
    let migrated = last!(client.migrate(migrate), migrate_response);
    assert_eq!((migrated.version, migrated.migrated), (2, false));
}

#[tokio::test(flavor = "multi_thread")]
async fn forget_explains_itself_and_prune_takes_limits() {
    let gateway = start().await;
    let mut client = gateway.service("orchestrator");
    for number in 0..3 {
        gateway.backup("repo", &noise(number, 100_000)).await.unwrap();
    }
    let forget = |keep| ForgetRequest {
        repository: Some(at("repo")),
        keep: Some(keep),
        dry_run: true,
        ..ForgetRequest::default()
    };
    let keep =
        KeepPolicy { last: 1, yearly: u32::MAX, within: "1h".to_owned(), ..KeepPolicy::default() };
    let plan = result!(client.forget(forget(keep))).unwrap();
    assert_eq!((plan.groups.len(), plan.kept.len(), plan.removed.len()), (1, 3, 0));
    let group = &plan.groups[0];
    assert_eq!(
        (group.host.as_deref(), &group.paths[..]),
        (Some("host-0"), &["/dump.rdb".to_owned()][..])
    );
    assert_eq!(group.kept[0].reasons, ["within 1h", "last snapshot", "yearly snapshot"]);
    let junk = KeepPolicy { within_daily: "a week".to_owned(), ..KeepPolicy::default() };
    let refused = client.forget(forget(junk)).await;
    assert_refused(refused, Code::InvalidArgument, &["keep.within_daily", "2y5m7d3h"]);
    let keep_tag = |tags: &str| KeepPolicy { tags: vec![tags.to_owned()], ..KeepPolicy::default() };
    for (tags, kept) in [(" session=demo.session ", 3), ("session=demo.session,none", 0), ("", 0)] {
        let plan = result!(client.forget(forget(keep_tag(tags)))).unwrap();
        assert_eq!(plan.kept.len(), kept, "{tags:?}");
    }
    let by = ForgetRequest {
        group_by: vec!["user".to_owned()],
        ..forget(KeepPolicy { last: 1, ..KeepPolicy::default() })
    };
    assert_refused(client.forget(by).await, Code::InvalidArgument, &["group_by \"user\""]);

    let prune = |max_unused: &str| PruneRequest {
        repository: Some(at("repo")),
        max_unused: max_unused.to_owned(),
        max_repack_bytes: 1 << 30,
        repack_small: true,
        dry_run: true,
        ..PruneRequest::default()
    };
    let summary = last!(client.prune(prune("unlimited")), prune_response);
    assert!(summary.packs > 0 && summary.bytes_used > 300_000, "{summary:?}");
    let refused = client.prune(prune("lots")).await;
    assert_refused(refused, Code::InvalidArgument, &["max_unused", "lots"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retention_tells_how_far_it_is() {
    let gateway = start().await;
    let common = noise(100, 2_000_000);
    for number in 0..4 {
        let content = [noise(number, 3_000_000), common.clone()].concat();
        gateway.backup("repo", &content).await.unwrap();
    }
    let forget = ForgetRequest {
        repository: Some(at("repo")),
        keep: Some(KeepPolicy { last: 1, ..KeepPolicy::default() }),
        prune: true,
        ..ForgetRequest::default()
    };
    let mut client = gateway.service("orchestrator");
    let mut answers = client.forget(forget).await.unwrap().into_inner();
    let (mut steps, mut results) = (Vec::new(), Vec::new());
    while let Some(answer) = answers.message().await.unwrap() {
        match answer.progress {
            Some(progress) => steps.push(progress.step),
            None => results.push(answer),
        }
    }
    // The prune takes its lock after that, which does not go by without the first being told.
    assert_eq!(steps.first().map(String::as_str), Some("delete snapshots"), "{steps:?}");
    let [done] = &results[..] else { panic!("{results:?}") };
    assert_eq!((done.kept.len(), done.removed.len()), (1, 3));
    assert!(done.pruned.is_some(), "{done:?}");
    restic::check(&gateway.repo());
}
