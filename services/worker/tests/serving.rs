//! Playing the master: a target that attaches to the worker, and what is left when it does not get all.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "tests")]

mod support;

use coffer_api::outcome::Outcome;
use coffer_api::session::{Redis, Sensitive};
use coffer_proto::orchestrator::v1::ReportRequest;
use coffer_rdb::resp::Reply;
use coffer_runtime::Runtime;
use support::gateway::{Fault, Services};
use support::job::{BACKUP, RESTORE, backed_up, failed, restored, run_with, session};
use support::sets::until;
use support::{LIBRARY, TestServer, fill, line};

async fn backup(redis: Redis, endpoint: &str) -> Outcome {
    run_with(&session("BackupSession", redis, endpoint), BACKUP, &[], &Runtime::new()).await
}

async fn restore(redis: Redis, endpoint: &str, more: &[&str]) -> Outcome {
    run_with(&session("RestoreSession", redis, endpoint), RESTORE, more, &Runtime::new()).await
}

async fn size(server: &TestServer) -> i64 {
    match line(&mut server.client().await, "DBSIZE").await {
        Reply::Integer(size) => size,
        other => panic!("{other:?}"),
    }
}

async fn is_master(server: &TestServer) -> bool {
    match line(&mut server.client().await, "INFO replication").await {
        Reply::Bulk(Some(info)) => String::from_utf8_lossy(&info).contains("role:master"),
        other => panic!("{other:?}"),
    }
}

async fn diskless_load(server: &TestServer) -> String {
    let reply = line(&mut server.client().await, "CONFIG GET repl-diskless-load").await;
    let Reply::Array(Some(pair)) = reply else { panic!("{reply:?}") };
    let [_, Reply::Bulk(Some(value))] = pair.as_slice() else { panic!("{pair:?}") };
    String::from_utf8_lossy(value).into_owned()
}

#[tokio::test]
async fn a_target_attaches_loads_and_is_promoted() {
    let (source, services) = (TestServer::start(&[]), Services::default());
    fill(&mut source.client().await).await;
    let endpoint = services.serve().await;
    let done = backed_up(backup(source.redis(), &endpoint).await);
    for options in [&[][..], &["--masterauth", "anything"]] {
        let target = TestServer::start(options);
        target.client().await;
        let loaded = restored(restore(target.redis(), &endpoint, &["--load=replica"]).await);
        assert_eq!((&loaded.restored, loaded.functions), (&done.keys, 1));
        assert_eq!(source.digest().await, target.digest().await);
        assert!(is_master(&target).await);
        assert!(!target.dir().join("dump.rdb").exists(), "it loaded past its disk");
        assert_eq!(diskless_load(&target).await, "disabled");
        // What is there is not deleted without a word.
        let failure = failed(restore(target.redis(), &endpoint, &["--load=replica"]).await);
        assert!(failure.error.contains("it holds keys"), "{}", failure.error);
        line(&mut target.client().await, "SET stranger 1").await;
        let more = &["--load=replica", "--flush=true"];
        restored(restore(target.redis(), &endpoint, more).await);
        assert_eq!(source.digest().await, target.digest().await);
        assert!(target.dir().join("dump.rdb").exists(), "it kept what it had until the end");
        // Also where no manifest tells what made the file.
        let manifest = services.get(|stored| stored.manifest.clone());
        services.set(|stored| stored.manifest = None);
        restored(restore(target.redis(), &endpoint, more).await);
        assert_eq!(source.digest().await, target.digest().await);
        services.set(|stored| stored.data[5..9].copy_from_slice(b"0011"));
        let failure = failed(restore(target.redis(), &endpoint, more).await);
        assert!(failure.error.contains("a newer kind of server"), "{}", failure.error);
        services.set(|stored| stored.data[5..9].copy_from_slice(b"0010"));
        services.set(|stored| stored.manifest = manifest);
    }
    for (more, problem) in [
        ("--types=hash", "need `load: keys`"),
        ("--max-keys-per-second=9", "flag --max-keys-per-second=9: with `load: replica`"),
        ("--max-bytes-per-second=9", "flag --max-bytes-per-second=9: with `load: replica`"),
    ] {
        let failure = failed(restore(source.redis(), &endpoint, &["--load=replica", more]).await);
        assert!(failure.error.contains(problem), "{}", failure.error);
    }
}

#[tokio::test]
async fn a_target_is_known_that_comes_from_another_address() {
    let (source, services) = (TestServer::start(&[]), Services::default());
    fill(&mut source.client().await).await;
    let endpoint = services.serve().await;
    backed_up(backup(source.redis(), &endpoint).await);
    for own in ["", "its own"] {
        let target = TestServer::start(&["--bind", "127.0.0.1", "127.0.0.2", "--masterauth", own]);
        let mut client = target.client().await;
        // As behind a Service: dialled at one address, it connects from another.
        let redis = Redis { host: "127.0.0.2".to_owned(), ..target.redis() };
        let outcome = restore(redis, &endpoint, &["--load=replica"]).await;
        assert_eq!(outcome.warnings, [] as [&str; 0]);
        restored(outcome);
        assert_eq!(source.digest().await, target.digest().await);
        assert!(is_master(&target).await);
        let reply = line(&mut client, "CONFIG GET masterauth").await;
        let words = ["masterauth", own].map(|word| Reply::Bulk(Some(word.into())));
        assert_eq!(reply, Reply::Array(Some(words.to_vec())));
    }
}

#[tokio::test]
async fn function_libraries_are_not_deleted_without_a_word() {
    let (source, services) = (TestServer::start(&[]), Services::default());
    line(&mut source.client().await, "SET k v").await;
    let endpoint = services.serve().await;
    backed_up(backup(source.redis(), &endpoint).await);
    let target = TestServer::start(&[]);
    let mut client = target.client().await;
    client.run(&[b"FUNCTION", b"LOAD", LIBRARY]).await.unwrap();
    let failure = failed(restore(target.redis(), &endpoint, &["--load=replica"]).await);
    assert!(failure.error.contains("it holds function libraries"), "{}", failure.error);
    let list = line(&mut client, "FUNCTION LIST").await;
    assert!(matches!(&list, Reply::Array(Some(list)) if list.len() == 1), "{list:?}");
    let more = &["--load=replica", "--flush=true"];
    restored(restore(target.redis(), &endpoint, more).await);
    assert_eq!(line(&mut client, "FUNCTION LIST").await, Reply::Array(Some(vec![])));
}

#[tokio::test]
async fn a_target_without_room_for_what_it_loads_is_told_of() {
    // Some 70 MB in memory, and 3 MB in a file.
    let (source, services) = (TestServer::start(&[]), Services::default());
    line(&mut source.client().await, "DEBUG POPULATE 60000 key 1000").await;
    let endpoint = services.serve().await;
    backed_up(backup(source.redis(), &endpoint).await);
    let limits =
        |limit, policy| TestServer::start(&["--maxmemory", limit, "--maxmemory-policy", policy]);
    for (limit, policy, problem) in [
        ("2mb", "noeviction", "maxmemory is 2 MiB"),
        ("30mb", "noeviction", "KiB more than its maxmemory of 30 MiB"),
        ("30mb", "allkeys-lru", "KiB more than its maxmemory of 30 MiB"),
    ] {
        let target = limits(limit, policy);
        target.client().await;
        let failure = failed(restore(target.redis(), &endpoint, &["--load=replica"]).await);
        assert!(failure.error.contains(problem), "{}", failure.error);
        assert!(is_master(&target).await);
        assert_eq!(diskless_load(&target).await, "disabled");
    }
    let target = limits("200mb", "allkeys-lru");
    target.client().await;
    restored(restore(target.redis(), &endpoint, &["--load=replica"]).await);
    assert_eq!(size(&target).await, 60_000);
}

#[tokio::test]
async fn keys_whose_time_has_passed_are_no_loss() {
    let (source, services) = (TestServer::start(&[]), Services::default());
    let mut client = source.client().await;
    line(&mut client, "DEBUG SET-ACTIVE-EXPIRE 0").await;
    line(&mut client, "SET stays v").await;
    for key in 0..1000 {
        line(&mut client, &format!("SET key{key} v PX 1")).await;
    }
    let endpoint = services.serve().await;
    let done = backed_up(backup(source.redis(), &endpoint).await);
    assert_eq!(done.keys["string"], 1001);
    let target = TestServer::start(&[]);
    target.client().await;
    restored(restore(target.redis(), &endpoint, &["--load=replica", "--verify=true"]).await);
    until(&target.redis(), &["INFO", "keyspace"], "db0:keys=1,").await;
}

/// A backup of several pieces, so that a part is loaded when the end does not come.
async fn several_pieces() -> (TestServer, Services, String) {
    let (source, services) = (TestServer::start(&["--rdbcompression", "no"]), Services::default());
    let mut client = source.client().await;
    for key in 0..200 {
        client.run(&[b"SET", format!("key{key}").as_bytes(), &[b'x'; 100_000]]).await.unwrap();
    }
    let endpoint = services.serve().await;
    backed_up(backup(source.redis(), &endpoint).await);
    (source, services, endpoint)
}

#[tokio::test]
async fn a_target_that_gets_a_part_keeps_nothing_of_it() {
    let (source, services, endpoint) = several_pieces().await;
    let target = TestServer::start(&[]);
    target.client().await;
    for (fault, problem) in [
        (Fault::NoFinish, "ended the data without its finish"),
        (Fault::OtherBytes, "checksum differs"),
    ] {
        services.set(|stored| stored.fault = fault);
        let failure = failed(restore(target.redis(), &endpoint, &["--load=replica"]).await);
        assert!(failure.error.contains(problem), "{}", failure.error);
        assert_eq!(size(&target).await, 0);
        assert!(is_master(&target).await);
        assert_eq!(diskless_load(&target).await, "disabled");
    }
    services.set(|stored| stored.fault = Fault::None);
    restored(restore(target.redis(), &endpoint, &["--load=replica"]).await);
    assert_eq!(source.digest().await, target.digest().await);
}

#[tokio::test]
async fn a_job_that_is_stopped_lets_its_target_go() {
    let (_source, services, endpoint) = several_pieces().await;
    services.set(|stored| stored.fault = Fault::StandsStill);
    let size_of_file = services.get(|stored| stored.data.len() as u64);
    for (more, left) in [(&["--load=replica"][..], 0), (&["--load=replica", "--flush=true"], 1)] {
        let target = TestServer::start(&[]);
        let mut client = target.client().await;
        for key in 0..left {
            line(&mut client, &format!("SET stranger{key} 1")).await;
        }
        services.set(|stored| stored.reports.clear());
        let (session, runtime) =
            (session("RestoreSession", target.redis(), &endpoint), Runtime::new());
        let stop = async {
            let is_there = |report: &ReportRequest| report.bytes == size_of_file;
            services.until(|stored| stored.reports.iter().any(is_there)).await;
            runtime.shutdown.trigger();
        };
        let (outcome, ()) = tokio::join!(run_with(&session, RESTORE, more, &runtime), stop);
        assert_eq!(outcome.warnings, Vec::<String>::new());
        let failure = failed(outcome);
        assert!(failure.error.contains("terminated before"), "{}", failure.error);
        assert!(is_master(&target).await);
        assert_eq!(size(&target).await, left, "it has what it had");
        assert_eq!(diskless_load(&target).await, "disabled");
        line(&mut target.client().await, "SET written 1").await;
    }
}

#[tokio::test]
async fn a_target_that_relies_on_its_file_saves_what_it_has_loaded() {
    let (source, services) = (TestServer::start(&[]), Services::default());
    fill(&mut source.client().await).await;
    let endpoint = services.serve().await;
    backed_up(backup(source.redis(), &endpoint).await);
    let limited = ["--user", "limited", "on", ">word", "~*", "&*", "+@all", "-bgsave"];
    let points = ["--save", "3600 1"];
    for (options, saves, refuses) in [
        (points.to_vec(), true, false),
        // It writes its log anew by itself.
        ([&points[..], &["--appendonly", "yes"]].concat(), false, false),
        ([&points[..], &limited].concat(), false, true),
    ] {
        let target = TestServer::start(&options);
        target.client().await;
        let mut redis = target.redis();
        if refuses {
            redis.username = Some("limited".to_owned());
            redis.password = Some(Sensitive::new("word"));
        }
        let outcome = restore(redis, &endpoint, &["--load=replica"]).await;
        if saves {
            until(&target.redis(), &["INFO", "persistence"], "rdb_bgsave_in_progress:0").await;
        }
        assert_eq!(target.dir().join("dump.rdb").exists(), saves, "{options:?}");
        let told = outcome.warnings.iter().any(|told| told.contains("let it with BGSAVE: "));
        assert_eq!(told, refuses, "{:?}", outcome.warnings);
        restored(outcome);
    }
}

#[tokio::test]
async fn what_cannot_be_undone_is_told() {
    let (source, services) = (TestServer::start(&[]), Services::default());
    fill(&mut source.client().await).await;
    let endpoint = services.serve().await;
    backed_up(backup(source.redis(), &endpoint).await);
    // It may attach, and not let go.
    let user = ["--user", "limited", "on", ">word", "~*", "&*", "+@all"];
    let target = TestServer::start(&[&user[..], &["-slaveof", "+slaveof|127.0.0.1"]].concat());
    target.client().await;
    services.set(|stored| stored.fault = Fault::NoFinish);
    let redis = Redis {
        username: Some("limited".to_owned()),
        password: Some(Sensitive::new("word")),
        ..target.redis()
    };
    let outcome = restore(redis, &endpoint, &["--load=replica"]).await;
    let [told] = outcome.warnings.as_slice() else { panic!("{outcome:?}") };
    assert!(told.contains("make it a master with REPLICAOF NO ONE: "), "{told}");
    assert!(told.contains("slaveof"), "{told}");
    failed(outcome);
    assert!(!is_master(&target).await);
}
