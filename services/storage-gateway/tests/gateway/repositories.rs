//! What the operations on whole repositories do.

use crate::support::answers::{last, result};
use crate::support::*;
use coffer_proto::storage::v1::*;
use coffer_runtime::grant::Operation;
use std::process::{Child, Command, Stdio};
use tonic::Code;

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

/// restic, once it has its lock.
fn restic_on(gateway: &Gateway, args: &[&str]) -> Child {
    let restic = Command::new("restic")
        .args(["--no-cache", "-q", "--repo"])
        .arg(gateway.repo())
        .args(args)
        .env("RESTIC_PASSWORD", PASSWORD)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    // While it writes it, the file has a longer name, and is no lock yet.
    let is_lock = |file: std::io::Result<std::fs::DirEntry>| file.unwrap().file_name().len() == 64;
    while !std::fs::read_dir(gateway.repo().join("locks")).unwrap().any(is_lock) {
        std::thread::yield_now();
    }
    restic
}

fn signal(process: &Child, signal: &str) {
    let sent = Command::new("kill").args([signal, &process.id().to_string()]).status().unwrap();
    assert!(sent.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_of_somebody_else_is_respected_and_can_be_removed() {
    let wait = std::time::Duration::from_secs(1);
    let gateway = start_with(|config| config.lock_wait = wait).await;
    gateway.backup("repo", b"x").await.unwrap();
    // restic holds its lock while it waits for its input.
    let mut restic = restic_on(&gateway, &["backup", "--stdin"]);
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
async fn who_hears_it_is_told_whose_lock_a_call_waits_for() {
    use backup_request::Message;
    let gateway = start().await;
    gateway.backup("repo", b"x").await.unwrap();
    // restic wants the repository for itself, and stands still under its lock.
    let mut restic = restic_on(&gateway, &["check"]);
    signal(&restic, "-STOP");
    let heard = |header: BackupHeader| BackupHeader { hears_waiting: true, ..header };
    let messages = messages("repo", b"y").into_iter().map(move |request| match request.message {
        Some(Message::Header(header)) => {
            BackupRequest { message: Some(Message::Header(heard(header))) }
        }
        message => BackupRequest { message },
    });
    let mut worker = gateway.worker(&gateway.grant("repo", Operation::Backup));
    let mut answers = worker.backup(futures::stream::iter(messages)).await.unwrap().into_inner();
    let told = answers.message().await.unwrap().unwrap();
    let whose = "waiting for the exclusive lock ";
    assert!(told.waiting.starts_with(whose), "{told:?}");
    assert!(told.waiting.contains(&format!(", process {}, since 20", restic.id())), "{told:?}");
    let restore = RestoreRequest { hears_waiting: true, ..restore_request("repo", "latest") };
    let mut reader = gateway.worker(&gateway.grant("repo", Operation::Restore));
    let mut read = reader.restore(restore).await.unwrap().into_inner();
    let first = read.message().await.unwrap().unwrap().message;
    let Some(restore_response::Message::Waiting(words)) = first else { panic!("{first:?}") };
    assert!(words.starts_with(whose), "{words}");

    signal(&restic, "-CONT");
    assert!(restic.wait().unwrap().success());
    assert!(answers.message().await.unwrap().unwrap().begun);
    let stored = crate::support::stored(answers).await.unwrap();
    assert!(!stored.snapshot_id.is_empty() && stored.waiting.is_empty() && !stored.begun);
    assert_eq!(crate::support::collect(read).await.unwrap().data, b"x");
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
        max_repack_bytes: Some(1 << 30),
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
async fn a_copy_that_fails_midway_names_what_it_has_copied() {
    let gateway = start().await;
    let path = gateway.dir.path().join("offsite");
    let volume = serde_json::json!({"mountPath": "/backup", "hostPath": {"path": path}});
    let backend = serde_json::json!({"storageSecretName": "store", "local": volume});
    gateway.cluster.repository("offsite", backend);
    let mut client = gateway.service("orchestrator");
    client.init(InitRequest { repository: Some(at("offsite")) }).await.unwrap();

    let first = gateway.backup("repo", &noise(1, 100_000)).await.unwrap().snapshot_id;
    let data = gateway.repo().join("data");
    let copy = |ids| CopyRequest { from: Some(at("repo")), to: Some(at("offsite")), ids };
    let kept = files_of(&data);
    let second = gateway.backup("repo", &noise(2, 100_000)).await.unwrap().snapshot_id;
    for pack in files_of(&data).difference(&kept) {
        std::fs::remove_file(pack).unwrap();
    }
    let mut answers = client.copy(copy(vec![first.clone(), second])).await.unwrap().into_inner();
    let refused = loop {
        match answers.message().await {
            Ok(Some(_)) => {}
            other => break other,
        }
    };
    let copied = format!("; copied before, and kept: {} as ", &first[..8]);
    assert_refused(refused, Code::DataLoss, &[&copied]);
    assert_eq!(gateway.snapshot_count("offsite").await, 1);
}

fn files_of(directory: &std::path::Path) -> std::collections::BTreeSet<std::path::PathBuf> {
    let folders = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    folders
        .flat_map(|folder| std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()))
        .collect()
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
