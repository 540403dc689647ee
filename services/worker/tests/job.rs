//! Whole jobs: session document in, result out, with a real Redis and services that can be made to fail.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "tests")]

mod support;

use coffer_runtime::Runtime;
use support::gateway::{Fault, LOCKED, Services, Stored};
use support::job::{BACKUP, RESTORE, backed_up, failed, restored, run, run_with, session};
use support::makes::Make;
use support::{TestServer, fill, line, noise};

#[tokio::test]
async fn a_backup_and_its_restore() {
    let (source, target, services) =
        (TestServer::start(&[]), TestServer::start(&[]), Services::default());
    fill(&mut source.client().await).await;
    let endpoint = services.serve().await;
    let outcome = run(&session("BackupSession", source.redis(), &endpoint), BACKUP).await;
    assert_eq!(outcome.warnings, [] as [&str; 0]);
    let done = backed_up(outcome);
    assert_eq!((done.snapshot_id.as_str(), done.path.as_str()), ("5ab5", "dump.rdb"));
    assert_eq!((done.counted, done.keys["stream"], done.data_added), (true, 3, 7));
    assert_eq!(done.server_version, "7.0.15");
    assert!(done.reason.starts_with("by replication from master 127.0.0.1:"), "{}", done.reason);
    services.get(|stored| {
        let header = stored.header.as_ref().unwrap();
        assert_eq!(
            (header.host.as_str(), header.paths.as_slice()),
            ("host-0", &["/dump.rdb".to_owned()][..])
        );
        assert!(header.tags.contains(&"session=nightly-1".to_owned()), "{:?}", header.tags);
        assert_eq!(header.repository.as_ref().unwrap().name, "repo");
        let manifest = stored.manifest.as_ref().unwrap();
        assert_eq!(
            (manifest.rdb_version, manifest.functions, manifest.databases.len()),
            (10, 1, 16)
        );
        assert_eq!(manifest.server.as_ref().unwrap().run_id.len(), 40);
        assert!(stored.tokens.iter().all(|token| token == "Bearer the-grant"));
        let last = stored.reports.last().unwrap();
        assert_eq!((last.stage.as_str(), last.bytes), ("commit", stored.data.len() as u64));
        let push = &stored.pushes[0];
        assert_eq!(push.grouping["job"], "backupconfiguration-demo-nightly");
        let named =
            |name: &str| push.families.iter().find(|f| f.name == name).unwrap().samples[0].clone();
        let size = named("stash_appscode_com_backupsession_host_data_size_bytes");
        assert!((size.value - stored.data.len() as f64).abs() < 0.5);
        assert_eq!(
            (size.labels["group"].as_str(), size.labels["hostname"].as_str()),
            ("kubedb.com", "host-0")
        );
        assert!((named("stash_backup_host_backup_success").value - 1.0).abs() < 0.1);
    });

    let restore = session("RestoreSession", target.redis(), &endpoint);
    for round in 0..2 {
        let done = restored(run(&restore, RESTORE).await);
        assert_eq!(done.restored.values().sum::<u64>(), backed_keys(&services));
        assert_eq!((done.functions, done.path.as_str()), (1, "dump.rdb"));
        assert_eq!(done.replaced, round * backed_keys(&services));
        assert_eq!(source.digest().await, target.digest().await);
    }
    services.get(|stored| assert_eq!(stored.requests[0].snapshot, "latest"));
}

fn backed_keys(services: &Services) -> u64 {
    services.get(|stored| {
        let databases = &stored.manifest.as_ref().unwrap().databases;
        databases.iter().flat_map(|database| database.keys.values()).sum()
    })
}

#[tokio::test]
async fn a_full_gateway_is_asked_again_but_never_once_data_was_sent() {
    let (redis, services) = (TestServer::start(&[]), Services::default());
    line(&mut redis.client().await, "SET k v").await;
    let endpoint = services.serve().await;
    services.set(|stored| stored.fault = Fault::Full(2));
    backed_up(run(&session("BackupSession", redis.redis(), &endpoint), BACKUP).await);
    services.get(|stored| assert_eq!(stored.calls, 3));
    services.set(|stored| stored.fault = Fault::Full(1));
    restored(run(&session("RestoreSession", redis.redis(), &endpoint), RESTORE).await);

    services
        .set(|stored| (stored.fault, stored.calls, stored.manifest) = (Fault::DiesInside, 0, None));
    let failure = failed(run(&session("BackupSession", redis.redis(), &endpoint), BACKUP).await);
    assert_eq!(failure.class, "Unavailable");
    assert_eq!(
        failure.error,
        "write a snapshot to repository demo/repo: the gateway is shutting down"
    );
    services.get(|stored| {
        assert_eq!(stored.calls, 1);
        assert!(stored.manifest.is_none());
        let push = stored.pushes.last().unwrap();
        assert!(push.families.iter().all(|family| family.name.ends_with("_success")));
    });
}

#[tokio::test]
async fn a_gateway_that_waits_for_a_lock_is_waited_for_and_the_session_says_so() {
    let (redis, services) = (TestServer::start(&[]), Services::default());
    let mut admin = redis.client().await;
    line(&mut admin, "SET k v").await;
    let endpoint = services.serve().await;
    let waited = |stored: &Stored| {
        let said: Vec<_> = stored.reports.iter().map(|report| report.waiting.as_str()).collect();
        said.contains(&LOCKED) && said.last() == Some(&"")
    };
    for (kind, job) in [("BackupSession", BACKUP), ("RestoreSession", RESTORE)] {
        services.set(|stored| (stored.fault, stored.reports) = (Fault::Locked, vec![]));
        let session = session(kind, redis.redis(), &endpoint);
        let go_on = async {
            let last = |stored: &Stored| stored.reports.last().map(|last| last.waiting.clone());
            services.until(|stored| last(stored).is_some_and(|last| last == LOCKED)).await;
            // The restore's server has forked for the backup before.
            let stats = format!("{:?}", line(&mut admin, "INFO stats").await);
            assert_eq!(stats.contains("total_forks:0"), job == BACKUP, "{stats}");
            services.resume();
        };
        let (outcome, ()) = tokio::join!(run(&session, job), go_on);
        if job == BACKUP {
            let reason = backed_up(outcome).reason;
            let late = format!("; the storage-gateway began after 0 s ({LOCKED})");
            assert!(reason.contains(&late), "{reason}");
        } else {
            restored(outcome);
        }
        services.get(|stored| assert!(waited(stored), "{:?}", stored.reports));
    }
}

#[tokio::test]
async fn nobody_at_the_gateway_is_told_with_its_address() {
    let redis = TestServer::start(&[]);
    let nobody = format!("http://127.0.0.1:{}", support::free_port());
    let session = session("BackupSession", redis.redis(), &nobody);
    let outcome = run_with(&session, BACKUP, &["--wait-timeout=2"], &Runtime::new()).await;
    let warning = &outcome.warnings[0];
    assert!(warning.starts_with(&format!("the figures were not pushed to {nobody}")), "{warning}");
    let failure = failed(outcome);
    assert!(
        failure.error.contains("write a snapshot to repository demo/repo: "),
        "{}",
        failure.error
    );
    assert!(failure.error.contains("refused"), "{}", failure.error);
}

#[tokio::test]
async fn what_comes_back_changed_or_cut_fails_the_restore() {
    let (source, services) = (TestServer::start(&[]), Services::default());
    fill(&mut source.client().await).await;
    let endpoint = services.serve().await;
    backed_up(run(&session("BackupSession", source.redis(), &endpoint), BACKUP).await);
    for (fault, said) in [
        (Fault::NoFinish, "ended the data without its finish"),
        (Fault::OtherBytes, "checksum differs"),
    ] {
        let target = TestServer::start(&[]);
        services.set(|stored| stored.fault = fault);
        let failure =
            failed(run(&session("RestoreSession", target.redis(), &endpoint), RESTORE).await);
        assert!(failure.error.contains(said), "{}", failure.error);
    }
    // Fewer keys than the manifest promises, in a dump that is in itself whole.
    services.set(|stored| {
        stored.fault = Fault::None;
        stored.manifest.as_mut().unwrap().databases[0].keys.insert("string".to_owned(), 999_999);
    });
    let target = TestServer::start(&[]);
    let failure = failed(run(&session("RestoreSession", target.redis(), &endpoint), RESTORE).await);
    assert_eq!(failure.class, "Corrupt");
    assert!(failure.error.contains("its manifest promises"), "{}", failure.error);
    assert!(failure.keys_written > 3000);
}

#[tokio::test]
async fn a_byte_that_no_format_protects_is_told_by_the_sum_of_the_backup() {
    let (source, services) = (TestServer::start(&[]), Services::default());
    source.client().await.run(&[b"SET", b"k", &noise(1 << 20)]).await.unwrap();
    let endpoint = services.serve().await;
    let backup = session("BackupSession", source.redis(), &endpoint);
    backed_up(run_with(&backup, BACKUP, &["--method=portable"], &Runtime::new()).await);
    services.set(|stored| stored.fault = Fault::OtherBytes);
    for said in ["its CRC-64 is ", "its SHA-256 is "] {
        let target = TestServer::start(&[]);
        let restore = session("RestoreSession", target.redis(), &endpoint);
        let failure = failed(run(&restore, RESTORE).await);
        assert_eq!(failure.class, "Corrupt");
        assert!(failure.error.contains(said), "{}", failure.error);
        // As earlier versions wrote it.
        services.set(|stored| stored.manifest.as_mut().unwrap().files[0].crc64 = None);
    }
}

#[tokio::test]
async fn types_that_the_target_lacks_are_named_before_anything_is_written() {
    let (target, services) = (TestServer::start(&[]), Services::default());
    let endpoint = services.serve().await;
    // As Redis 7.4 writes it: a string, then a hash with field TTLs.
    let mut file = b"REDIS0012\xfe\x00\x00\x01a\x01b\x18\x01h".to_vec();
    file.extend(5_i64.to_le_bytes());
    file.extend(b"\x01\x01\x01f\x01v\xff");
    let mut crc = coffer_rdb::crc64::Crc64::new();
    crc.update(&file);
    file.extend(crc.value().to_le_bytes());
    let manifest = coffer_proto::storage::v1::Manifest { rdb_version: 12, ..Default::default() };
    services.set(|stored| {
        stored.path = "/dump.rdb".to_owned();
        stored.data = file;
        stored.manifest = Some(manifest);
    });
    let failure = failed(run(&session("RestoreSession", target.redis(), &endpoint), RESTORE).await);
    assert_eq!((failure.class.as_str(), failure.keys_written), ("Unimplemented", 0));
    assert!(
        failure.error.contains("key h of database 0")
            && failure
                .error
                .contains("the times to live of its fields, which Redis 7.0 does not know"),
        "{}",
        failure.error
    );
    let size = line(&mut target.client().await, "DBSIZE").await;
    assert_eq!(size, coffer_rdb::resp::Reply::Integer(0));
    // Unless that is accepted, and then it is said.
    let restore = session("RestoreSession", target.redis(), &endpoint);
    let outcome = run_with(&restore, RESTORE, &["--on-loss=report"], &Runtime::new()).await;
    let said = "key h of database 0 lost the times to live of its fields";
    assert!(outcome.warnings[0].starts_with(said), "{:?}", outcome.warnings);
    assert_eq!(restored(outcome).restored.values().sum::<u64>(), 2);
}

/// A server whose dump is far larger than all the buffers on its way.
async fn large_server() -> TestServer {
    let server = TestServer::start(&["--rdbcompression", "no"]);
    let mut client = server.client().await;
    for index in 0..8 {
        let key = format!("large-{index}");
        client.run(&[b"SET", key.as_bytes(), &noise(8 << 20)]).await.unwrap();
    }
    server
}

#[tokio::test]
async fn a_redis_killed_in_mid_dump_commits_nothing() {
    let (mut redis, services) = (large_server().await, Services::default());
    let endpoint = services.serve().await;
    services.set(|stored| stored.fault = Fault::StandsStill);
    let backup = session("BackupSession", redis.redis(), &endpoint);
    let kill = async {
        services.until(|stored| stored.chunks == 1).await;
        redis.kill();
        services.resume();
    };
    let (outcome, ()) = tokio::join!(run(&backup, BACKUP), kill);
    let failure = failed(outcome);
    assert_eq!(failure.class, "Unavailable");
    assert!(
        failure.error.contains("receive the dump from Redis at 127.0.0.1:"),
        "{}",
        failure.error
    );
    assert!(failure.error.contains("the connection was lost"), "{}", failure.error);
    services.get(|stored| assert!(stored.manifest.is_none()));
}

#[tokio::test]
async fn a_stop_ends_the_job_as_terminated() {
    let (redis, services) = (large_server().await, Services::default());
    let endpoint = services.serve().await;
    services.set(|stored| {
        stored.fault = Fault::StandsStill;
        stored.path = "/dumpfile.resp".to_owned();
        stored.data = b"*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n".to_vec();
    });
    for (kind, job) in [("RestoreSession", RESTORE), ("BackupSession", BACKUP)] {
        let runtime = Runtime::new();
        let session = session(kind, redis.redis(), &endpoint);
        let stop = async {
            services
                .until(|stored| stored.calls > 0 && (job == RESTORE || stored.chunks > 0))
                .await;
            runtime.shutdown.trigger();
        };
        let (outcome, ()) = tokio::join!(run_with(&session, job, &[], &runtime), stop);
        let failure = failed(outcome);
        assert_eq!(failure.class, "Cancelled");
        assert!(failure.error.starts_with("terminated"), "{}", failure.error);
        services.set(|stored| stored.calls = 0);
    }
    services.get(|stored| assert!(stored.manifest.is_none()));
}

#[tokio::test]
async fn bad_arguments_and_sessions_are_refused_by_name() {
    let redis = TestServer::start(&[]);
    let backup = session("BackupSession", redis.redis(), "http://127.0.0.1:1");
    for (more, said) in [
        (
            &["--redis-args=-ttl=false"][..],
            "redis argument -ttl=false: this version of Coffer does not support it",
        ),
        (
            &["--method=magic"],
            "flag --method=magic: one of auto, replication, scan, portable is needed",
        ),
        (&["--method=replication", "--redis-args=-db 1"], "for a part of the keys"),
        (&["--databases=1-"], "flag --databases=1-: numbers of databases are needed"),
        (&["--wait-timeout=soon"], "flag --wait-timeout=soon: a number of seconds is needed"),
    ] {
        let failure = failed(run_with(&backup, BACKUP, more, &Runtime::new()).await);
        assert!(failure.error.contains(said), "{}", failure.error);
    }
    let failure = failed(run(&backup, RESTORE).await);
    assert!(failure.error.contains("the session is a BackupSession"), "{}", failure.error);
    let cluster = Make::MACHINE.start_for_cluster();
    let backup = session("BackupSession", cluster.redis(), "http://127.0.0.1:1");
    let short = &["--wait-timeout=1"];
    let failure = failed(run_with(&backup, BACKUP, short, &Runtime::new()).await);
    assert!(failure.error.contains("slot 0 has no master"), "{}", failure.error);
}
